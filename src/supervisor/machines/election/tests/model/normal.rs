//! Two worlds that differ only in how long the machine has been up are the same world: times are shifted so that now
//! is always the same, and what can't matter any more is wiped.

use std::time::Duration;

use crate::supervisor::machines::election::attempt::IdleSession;
use crate::supervisor::machines::election::candidate::Campaign;
use crate::supervisor::machines::election::tenure::{Tenure, TenureStage};
use crate::supervisor::machines::election::trouble::Trouble;
use crate::supervisor::machines::election::{CandidateState, Election, InFlight};
use crate::supervisor::machines::jitter::Jitter;
use crate::supervisor::vocabulary::Time;

use super::world::World;

/// Now, in every state.
pub const NOW: Time = Time::since_boot(Duration::from_secs(100));

/// Brings a world to its normal form.
pub fn normalize(world: &mut World, passed: Duration) {
    for time in world.times() {
        *time = *time - passed;
        // As far back as anything looks.
        *time = (*time).max(NOW - Duration::from_secs(20));
    }
    for agent in &mut world.agents {
        agent.core.jitter = Jitter::new(1);
        agent.core.trouble = Trouble::default();
        agent.core.ranks.error = None;
        // How long a pause is after how many failures is no matter of safety.
        agent.core.eligibility.failures = agent.core.eligibility.failures.min(1);
    }
}

/// Every time a core remembers.
pub fn times(core: &mut Election) -> Vec<&mut Time> {
    fn idle_session(idle_session: &mut IdleSession) -> &mut Time {
        &mut idle_session.opened
    }
    let Election { state, eligibility, vacancy, idle_session: own, abandoned, look, look_at, handing, .. } = core;
    let (certificate, former_life, ranks) = (&mut core.certificate, &mut core.former_life, &mut core.ranks);
    let mut times: Vec<&mut Time> =
        vec![&mut eligibility.not_before, &mut eligibility.aside_until, &mut ranks.publish_at];
    times.extend(ranks.wanted.as_mut().map(|wanted| &mut wanted.from));
    times.extend(ranks.own.as_mut().and_then(|own| own.again_at.as_mut()));
    times.extend(ranks.publish_due.as_mut());
    times.extend(ranks.publishing.as_mut().map(|(asked, _)| &mut asked.at));
    times.extend(
        vacancy
            .as_mut()
            .into_iter()
            .flat_map(|vacancy| [&mut vacancy.since, &mut vacancy.left_until, &mut vacancy.contested_from]),
    );
    times.extend(handing.as_mut().map(|handing| &mut handing.until));
    times.extend(look_at.as_mut());
    if let Some(certificate) = certificate {
        times.extend([&mut certificate.since, &mut certificate.at]);
        times.extend(certificate.asked.as_mut().map(|asked| &mut asked.at));
    }
    times.extend(former_life.as_mut().map(|former| &mut former.end_at));
    times.extend(core.namesake.overstays.as_mut().map(|(_, at)| at));
    for attempt in abandoned {
        times.extend([&mut attempt.idle_session.opened, &mut attempt.asked.at, &mut attempt.act_from]);
    }
    times.extend(own.as_mut().map(idle_session));
    times.extend(look.as_mut().map(|InFlight { at, .. }| at));
    match state {
        CandidateState::Follower { stand_at } => times.extend(stand_at.as_mut()),
        CandidateState::Campaigning(campaign) => match campaign {
            Campaign::Opening { asked } => times.push(&mut asked.at),
            Campaign::Acquiring(attempt) | Campaign::ReadingBack(attempt) => {
                times.extend([&mut attempt.idle_session.opened, &mut attempt.asked.at, &mut attempt.act_from]);
            }
        },
        CandidateState::Holding(tenure) => {
            let Tenure { valid_until, renewal, renew_at, act_from, stage, .. } = tenure;
            times.extend(valid_until.as_mut());
            times.extend(renewal.as_mut().map(|asked| &mut asked.at));
            times.extend([renew_at, act_from]);
            match stage {
                TenureStage::HoldingOff | TenureStage::Ready => {}
                TenureStage::Ranking { since, read_at, asked, .. } => {
                    times.extend([since, read_at]);
                    times.extend(asked.as_mut().map(|asked| &mut asked.at));
                }
                TenureStage::Leading { since } | TenureStage::Demoting { since, .. } => times.push(since),
                TenureStage::Releasing { asked, again_at, until, .. } => {
                    times.extend(asked.as_mut().map(|asked| &mut asked.at));
                    times.extend([again_at, until]);
                }
            }
        }
    }
    times
}
