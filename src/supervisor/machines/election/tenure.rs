//! From holding the lock to being rid of it: hold-off, rank, leading on a renewed lease, demoting, release. A tenure is
//! one term by one session.

use std::time::Duration;

use crate::supervisor::vocabulary::{Notice, Time, earliest};

use super::attempt::{Attempt, IdleSession};
use super::demotion::DemotionReason;
use super::eligibility::HANDOVER;
use super::event::{ElectionEffect, Id, Pace, Renewal, RequestId, StoreRequest};
use super::record::{Guarantee, Revision, SessionId, Term, View};
use super::rules::{Rule, Rules};
use super::trouble::Write;
use super::{CandidateState, Election, Handing, InFlight};

/// What a leader does all the time, for people.
pub const RENEWING: &str = "renewing the lease";

/// How long a release whose outcome nobody knows is tried again; then the session is closed, whatever that costs.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
/// Between two tries.
const RELEASE_AGAIN: Duration = Duration::from_millis(250);
/// The same once it was given up, for as long as the lock is seen to be held all the same.
const RELEASE_ANEW: Duration = Duration::from_secs(1);

/// One term.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tenure {
    pub(super) session: SessionId,
    pub(super) guarantee: Guarantee,
    pub(super) term: Term,
    /// The question that won it: whatever was asked before is about another session.
    pub(super) acquired_by: RequestId,
    /// Nobody else acts before this; `None`: not while we live.
    pub(super) valid_until: Option<Time>,
    pub(super) renewal: Option<InFlight>,
    pub(super) renew_at: Time,
    /// The lock is known to be ours no more.
    pub(super) lost: bool,
    pub(super) handed_to_us: bool,
    /// A person had it lead though it knew too few ranks.
    pub(super) accepts_loss: bool,
    /// The one who led before may act until then.
    pub(super) act_from: Time,
    pub(super) stage: TenureStage,
}

/// A lock that nothing acts by any more, and that may not have been given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ForgottenLock {
    session: SessionId,
    term: Term,
    /// Before that the one who led before may act.
    act_from: Time,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum TenureStage {
    /// The one who led before may still act.
    HoldingOff,
    /// Peers may be further ahead.
    Ranking {
        since: Time,
        read_at: Time,
        asked: Option<InFlight>,
        /// People know that it waits.
        said: bool,
    },
    /// May lead, but for a guard that doesn't stand or a lease that is about to end.
    Ready,
    /// Acting.
    Leading { since: Time },
    /// Acting until it is known to have ended.
    Demoting { why: DemotionReason, since: Time, to: Option<Id>, killed: bool },
    /// Nothing acts.
    Releasing { asked: Option<InFlight>, again_at: Time, until: Time, to: Option<Id> },
}

impl Tenure {
    /// The lock was acquired by this attempt; its lease counts from `from`.
    pub(super) fn new(attempt: &Attempt, term: Term, from: Time, pace: &Pace, rules: Rules) -> Tenure {
        let guarantee = attempt.guarantee();
        Tenure {
            session: attempt.session(),
            guarantee,
            term,
            acquired_by: attempt.asked.ask,
            valid_until: guarantee.usable(rules).map(|usable| from + usable),
            renewal: None,
            renew_at: from + pace.renew,
            lost: false,
            handed_to_us: attempt.handed_to_us,
            accepts_loss: false,
            act_from: attempt.act_from,
            stage: TenureStage::HoldingOff,
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.session
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn is_acting(&self) -> bool {
        matches!(self.stage, TenureStage::Leading { .. } | TenureStage::Demoting { .. })
    }

    /// From now on it is only given back.
    pub(super) fn give_back(&mut self, now: Time, to: Option<Id>) {
        self.stage = TenureStage::Releasing { asked: None, again_at: now, until: now + RELEASE_WITHIN, to };
    }

    /// What still acts then is killed.
    fn hard(&self, pace: &Pace) -> Option<Time> {
        self.valid_until.map(|at| at - pace.kill_margin)
    }

    /// What the guard is told. A kernel's lock has no end in time: a guard then only sees to it that nothing of a leader
    /// outlives pilotfish.
    fn guarded_until(&self, pace: &Pace) -> Time {
        self.hard(pace).unwrap_or(Time::NEVER)
    }

    /// Stepping down begins then, to be done in peace.
    fn soft(&self, pace: &Pace) -> Option<Time> {
        self.hard(pace).map(|at| at - pace.demote)
    }
}

impl Election {
    /// Acts on the times that have passed.
    pub(super) fn tenure_tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        self.deadlines(now, out);
        self.renew(now, out);
        self.advance(now, out);
        self.release(now, out);
    }

    /// The two deadlines of a lease.
    fn deadlines(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let pace = &self.settings.pace;
        let (soft, hard) = (tenure.soft(pace), tenure.hard(pace));
        if hard.is_some_and(|hard| hard <= now) {
            match &mut tenure.stage {
                TenureStage::HoldingOff | TenureStage::Ranking { .. } | TenureStage::Ready => self.forget(now, out),
                TenureStage::Leading { since } => {
                    // It never came to being told: it slept.
                    let why = DemotionReason::Overslept;
                    tenure.stage = TenureStage::Demoting { why: why.clone(), since: *since, to: None, killed: true };
                    tenure.lost |= self.rules.hold(Rule::DeadlineBeforeAnswers);
                    out.push(ElectionEffect::Say(Notice::Demoting { why: why.clone() }));
                    out.push(ElectionEffect::Demote { why: why.clone(), by: hard });
                    if self.rules.hold(Rule::KillAtDeadline) {
                        out.push(ElectionEffect::Kill { why });
                    }
                }
                TenureStage::Demoting { why, killed, .. } if !*killed => {
                    *killed = true;
                    tenure.lost |= self.rules.hold(Rule::DeadlineBeforeAnswers);
                    if self.rules.hold(Rule::KillAtDeadline) {
                        out.push(ElectionEffect::Kill { why: why.clone() });
                    }
                }
                TenureStage::Demoting { .. } | TenureStage::Releasing { .. } => {}
            }
        } else if soft.is_some_and(|soft| soft <= now) && self.rules.hold(Rule::DemoteBeforeKill) {
            self.demote(now, DemotionReason::Silence, out);
        }
    }

    /// Sends the next renewal when its time has come and none is under way.
    fn renew(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        if tenure.renewal.is_some_and(|asked| asked.at + self.settings.pace.patience <= now) {
            tenure.renewal = None;
        }
        let wanted = match &tenure.stage {
            TenureStage::HoldingOff
            | TenureStage::Ranking { .. }
            | TenureStage::Ready
            | TenureStage::Leading { .. } => true,
            TenureStage::Demoting { .. } => self.rules.hold(Rule::RenewUntilRelease),
            TenureStage::Releasing { .. } => false,
        };
        if !wanted || tenure.lost || tenure.renewal.is_some() || tenure.renew_at > now {
            return;
        }
        tenure.renew_at = now + self.settings.pace.renew;
        let (session, term) = (tenure.session, tenure.term);
        let asked = self.ask(now);
        if let CandidateState::Holding(tenure) = &mut self.state {
            tenure.renewal = Some(asked);
        }
        out.push(ElectionEffect::Store(StoreRequest::Renew { ask: asked.ask, session, term }));
    }

    /// Takes every step that nothing holds back any more.
    fn advance(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        if matches!(tenure.stage, TenureStage::HoldingOff) && tenure.act_from <= now {
            tenure.stage = match &self.settings.rank {
                Some(_) => TenureStage::Ranking { since: now, read_at: now, asked: None, said: false },
                None => TenureStage::Ready,
            };
        }
        if let TenureStage::Ranking { read_at, asked, .. } = &mut tenure.stage {
            if asked.is_some_and(|asked| asked.at + self.settings.pace.patience <= now) {
                (*asked, *read_at) = (None, now);
            }
            if asked.is_none() && *read_at <= now {
                let new = self.ask(now);
                if let CandidateState::Holding(Tenure { stage: TenureStage::Ranking { asked, .. }, .. }) =
                    &mut self.state
                {
                    *asked = Some(new);
                }
                out.push(ElectionEffect::Store(StoreRequest::ReadRanks { ask: new.ask }));
            }
            self.count_ranks(now, out);
        }
        let CandidateState::Holding(tenure) = &self.state else { return };
        if matches!(tenure.stage, TenureStage::Ready) {
            self.promote(now, out);
        }
    }

    /// Leads, if a guard stands and the lease is fresh.
    fn promote(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let may_act = match &self.state {
            CandidateState::Holding(tenure) => self.may_act(tenure.guarantee),
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) => return,
        };
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let pace = &self.settings.pace;
        // A lease that is old already would end with the first request that gets lost; but none is younger than what answers
        // as slowly as it may has left of it.
        let young = (2 * pace.request).min(pace.renew + pace.patience);
        if tenure.soft(pace).is_some_and(|soft| soft < now + young) {
            tenure.renew_at = tenure.renew_at.min(now);
            return self.renew(now, out);
        }
        if !may_act {
            return;
        }
        if self.rules.hold(Rule::GuardBeforeActing) {
            out.push(ElectionEffect::Guard { deadline: Some(tenure.guarded_until(pace)) });
        }
        tenure.stage = TenureStage::Leading { since: now };
        out.push(ElectionEffect::Promote { term: tenure.term });
    }

    pub(super) fn renewed(&mut self, now: Time, ask: RequestId, result: Renewal, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        // Of a session that is over.
        if ask <= tenure.acquired_by {
            return;
        }
        let asked = tenure.renewal.take_if(|asked| asked.ask == ask);
        match result {
            Renewal::Alive(view) => {
                let ours = view.shows(tenure.session, tenure.term) || !self.rules.hold(Rule::CountVerifiedOnly);
                self.trouble.writes(Write::Lock);
                if let Some(asked) = asked.filter(|_| ours) {
                    self.extend(now, asked, out);
                }
                self.see(now, view, out);
            }
            // If it is so, the lock shows it.
            Renewal::Gone { void: false } if self.rules.hold(Rule::LookBeforeLosing) => self.look(now, out),
            // Be it the answer to a question long given up: what is gone doesn't come back.
            Renewal::Gone { void } if self.rules.hold(Rule::LostIsLost) => self.lose(now, void, out),
            Renewal::Gone { .. } => {}
            Renewal::Unknown(_) if asked.is_none() => {}
            Renewal::Unknown(error) if self.rules.hold(Rule::UnknownIsNotLost) => {
                self.cant_write(Write::Lock, RENEWING, error, out);
            }
            Renewal::Unknown(_) => self.lose(now, false, out),
        }
    }

    /// A renewal counts.
    fn extend(&mut self, now: Time, asked: InFlight, out: &mut Vec<ElectionEffect>) {
        let from = if self.rules.hold(Rule::CountFromSending) { asked.at } else { now };
        let CandidateState::Holding(tenure) = &self.state else { return };
        if tenure.lost || !self.may_act(tenure.guarantee) {
            return;
        }
        let rules = self.rules;
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        tenure.valid_until = tenure.guarantee.usable(rules).map(|usable| from + usable);
        if tenure.is_acting() {
            out.push(ElectionEffect::Guard { deadline: Some(tenure.guarded_until(&self.settings.pace)) });
        }
    }

    /// A view came while the lock is held: it may show that it isn't.
    pub(super) fn tenure_seen(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let (CandidateState::Holding(tenure), Some(view)) = (&self.state, &self.view) else { return };
        // Read before the lock was ours.
        if view.at < tenure.term.0 || !self.rules.hold(Rule::LostIsLost) {
            return;
        }
        if !view.shows(tenure.session, tenure.term) {
            // Whoever holds it may act, or will as soon as it has held off; and nobody holds off for a lease that is over.
            let another = view.holder().is_some_and(|holder| holder.session != tenure.session);
            let ended = view.last.as_ref().is_some_and(|last| last.ended);
            self.lose(now, another || ended, out);
        }
    }

    /// The lock is known to be ours no more. `void`: others may act already.
    fn lose(&mut self, now: Time, void: bool, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        tenure.lost = true;
        if !tenure.is_acting() {
            return self.forget(now, out);
        }
        self.demote(now, DemotionReason::Lost, out);
        if let CandidateState::Holding(Tenure { stage: TenureStage::Demoting { killed, .. }, .. }) = &mut self.state
            && void
            && !*killed
        {
            *killed = true;
            out.push(ElectionEffect::Kill { why: DemotionReason::Lost });
        }
    }

    /// Ends a leadership; one that hasn't begun is given back at once.
    pub(super) fn demote(&mut self, now: Time, why: DemotionReason, out: &mut Vec<ElectionEffect>) {
        self.demote_for(now, why, None, out);
    }

    /// Somebody asked the leader to step down.
    pub(super) fn step_down(&mut self, now: Time, to: Option<Id>, out: &mut Vec<ElectionEffect>) {
        self.demote_for(now, DemotionReason::StepDown, to, out);
    }

    fn demote_for(&mut self, now: Time, why: DemotionReason, to: Option<Id>, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        match &tenure.stage {
            TenureStage::HoldingOff | TenureStage::Ranking { .. } | TenureStage::Ready
                if why == DemotionReason::Silence => {}
            TenureStage::HoldingOff | TenureStage::Ranking { .. } | TenureStage::Ready => {
                if why == DemotionReason::StepDown {
                    self.eligibility.stepped_down(now);
                }
                tenure.give_back(now, to);
            }
            TenureStage::Leading { since } => {
                let by = tenure.hard(&self.settings.pace);
                tenure.stage = TenureStage::Demoting { why: why.clone(), since: *since, to: to.clone(), killed: false };
                out.push(ElectionEffect::Say(Notice::Demoting { why: why.clone() }));
                out.push(ElectionEffect::Demote { why: why.clone(), by });
                if !self.rules.hold(Rule::ReleaseAfterDemotion) && !tenure.lost {
                    let (session, term) = (tenure.session, tenure.term);
                    let ask = self.ask(now).ask;
                    out.push(ElectionEffect::Store(StoreRequest::Release {
                        ask,
                        session,
                        term,
                        to,
                        hold_off_left: Duration::ZERO,
                    }));
                }
            }
            TenureStage::Demoting { .. } | TenureStage::Releasing { .. } => {}
        }
    }

    /// Nothing acts any more.
    pub(super) fn out_of_role(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let (why, since, to) = match &tenure.stage {
            TenureStage::Leading { since } => (DemotionReason::MainEnded, *since, None),
            TenureStage::Demoting { why, since, to, .. } => (why.clone(), *since, to.clone()),
            TenureStage::HoldingOff
            | TenureStage::Ranking { .. }
            | TenureStage::Ready
            | TenureStage::Releasing { .. } => return,
        };
        out.push(ElectionEffect::Guard { deadline: None });
        match why {
            DemotionReason::StepDown | DemotionReason::Maintenance | DemotionReason::Stop => {
                self.eligibility.stepped_down(now)
            }
            DemotionReason::Silence
            | DemotionReason::Overslept
            | DemotionReason::Lost
            | DemotionReason::PromotionFailed(_)
            | DemotionReason::Unhealthy
            | DemotionReason::MainEnded
            | DemotionReason::Outranked(_) => self.eligibility.failed(now, now.since(since), &mut self.jitter),
        }
        match tenure.lost {
            true => {
                not_handed_over(to, out);
                self.forget(now, out);
            }
            false => tenure.give_back(now, to),
        }
    }

    /// Sends the next release when its time has come, or gives up.
    fn release(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let patience = self.settings.pace.patience;
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let TenureStage::Releasing { asked, again_at, until, to } = &mut tenure.stage else { return };
        if asked.is_some_and(|asked| asked.at + patience <= now) {
            *asked = None;
        }
        if *until <= now {
            let to = to.take();
            not_handed_over(to, out);
            return self.forget(now, out);
        }
        if asked.is_some() || *again_at > now {
            return;
        }
        *again_at = now + RELEASE_AGAIN;
        let (session, term, to, act_from) = (tenure.session, tenure.term, to.clone(), tenure.act_from);
        let hold_off_left = self.owed(now, act_from);
        let asked = self.ask(now);
        if let CandidateState::Holding(Tenure { stage: TenureStage::Releasing { asked: slot, .. }, .. }) =
            &mut self.state
        {
            *slot = Some(asked);
        }
        out.push(ElectionEffect::Store(StoreRequest::Release { ask: asked.ask, session, term, to, hold_off_left }));
    }

    pub(super) fn released(
        &mut self,
        now: Time,
        ask: RequestId,
        result: Result<(), String>,
        out: &mut Vec<ElectionEffect>,
    ) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let TenureStage::Releasing { asked, to, .. } = &mut tenure.stage else { return };
        if asked.is_none_or(|asked| asked.ask != ask) {
            return;
        }
        *asked = None;
        match result {
            Ok(()) => {
                let handing = to.take().map(|to| Handing { to, until: now + HANDOVER });
                self.handing = handing.filter(|_| !self.eligibility.stopped);
                self.trouble.writes(Write::Lock);
                self.forget(now, out);
            }
            Err(error) => self.cant_write(Write::Lock, "releasing the lock", error, out),
        }
    }

    /// How long one who led before may act still, for whoever is next.
    fn owed(&self, now: Time, act_from: Time) -> Duration {
        match self.rules.hold(Rule::PassDebtsOn) {
            true => now.until(act_from),
            false => Duration::ZERO,
        }
    }

    /// What was forgotten is seen to hold the lock still: whoever waits for its end would wait for nothing.
    pub(super) fn free_forgotten(&mut self, now: Time, view: &View, out: &mut Vec<ElectionEffect>) {
        let Some(ForgottenLock { session, term, act_from }) = self.forgotten else { return };
        if !view.shows(session, term) {
            self.forgotten = None;
            return;
        }
        let (ask, hold_off_left) = (self.ask(now).ask, self.owed(now, act_from));
        out.push(ElectionEffect::Store(StoreRequest::Release { ask, session, term, to: None, hold_off_left }));
        self.look_at = Some(now + RELEASE_ANEW);
    }

    /// The tenure is over; so is its session.
    fn forget(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &self.state else { return };
        let (session, guarantee) = (tenure.session, tenure.guarantee);
        self.forgotten = Some(ForgottenLock { session, term: tenure.term, act_from: tenure.act_from });
        match self.rules.hold(Rule::OneTermPerSession) {
            true => out.push(ElectionEffect::Store(StoreRequest::CloseSession { session })),
            false => self.idle_session = Some(IdleSession { session, guarantee, opened: now, at: Revision::default() }),
        }
        self.state = CandidateState::Follower { stand_at: None };
        self.view = None;
        self.vacancy = None;
        self.want_no_ranks();
        if !self.eligibility.stopped {
            self.look(now, out);
        }
    }

    pub(super) fn tenure_deadline(&self, tenure: &Tenure) -> Option<Time> {
        let pace = &self.settings.pace;
        let renewal = match (tenure.renewal, &tenure.stage) {
            (_, TenureStage::Releasing { .. }) => None,
            _ if tenure.lost => None,
            (Some(asked), _) => Some(self.overdue_at(asked).max(tenure.renew_at)),
            (None, _) => Some(tenure.renew_at),
        };
        let stage = match &tenure.stage {
            TenureStage::HoldingOff => earliest(Some(tenure.act_from), tenure.hard(pace)),
            TenureStage::Ready => tenure.hard(pace),
            TenureStage::Ranking { since, read_at, asked, said } => {
                let read = Some(asked.map_or(*read_at, |asked| self.overdue_at(asked)));
                let counted = self.count_deadline(*since, *said);
                earliest(earliest(read, counted), tenure.hard(pace))
            }
            TenureStage::Leading { .. } => tenure.soft(pace),
            TenureStage::Demoting { killed: false, .. } => tenure.hard(pace),
            TenureStage::Demoting { killed: true, .. } => None,
            TenureStage::Releasing { asked, again_at, until, .. } => {
                Some(asked.map_or(*again_at, |asked| self.overdue_at(asked)).min(*until))
            }
        };
        earliest(stage, renewal)
    }
}

/// Somebody was told that this one would lead next: whoever takes the lock now is as good.
fn not_handed_over(to: Option<Id>, out: &mut Vec<ElectionEffect>) {
    out.extend(to.map(|to| ElectionEffect::Say(Notice::HandoverFailed { to: to.to_string(), within: HANDOVER })));
}
