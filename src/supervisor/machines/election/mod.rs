//! Who leads: one candidate's part in an election, as a pure machine. It takes events with the time they are learnt and
//! answers with orders; it reads no clock and speaks to no store.
//!
//! [`candidate`] is the way from seeing the lock free to holding it (by [`attempt`]s), [`hold_off`] how long a winner
//! waits, [`ranking`] whom it compares itself with, [`tenure`] the way from holding the lock to being rid of it again,
//! [`demotion`] why; [`eligibility`] whether to stand at all, [`certificate`] and [`namesake`] what is known of another
//! life under the lock, [`trouble`] what is said of a store that fails. What differs between stores comes in as data:
//! what a session promises ([`record::Guarantee`]), and what a view shows.
//!
//! A leader acts from [`ElectionEffect::Promote`] until [`ElectionEvent::OutOfRole`]. That no two act at once follows from the
//! [`rules::Rule`]s, each of which is named where it is kept, under the assumptions that the store keeps its promise,
//! clocks drift by less than one per cent, and a guard kills at the deadline it was given.

mod attempt;
mod candidate;
mod certificate;
mod demotion;
mod eligibility;
pub mod event;
mod hold_off;
mod namesake;
mod ranking;
pub mod record;
pub mod rules;
mod tenure;
mod trouble;

use std::sync::Arc;
use std::time::Duration;

use super::jitter::Jitter;
use crate::supervisor::vocabulary::{Notice, Time, earliest};

use attempt::{Attempt, IdleSession};
use candidate::Campaign;
use certificate::{Certificate, FormerLife};
use eligibility::{Eligibility, HANDOVER};
use namesake::Namesake;
use ranking::Ranks;
use record::{Holder, Revision, SessionId, Term, View};
use rules::{Rule, Rules};
use tenure::{ForgottenLock, Tenure, TenureStage};
use trouble::{Trouble, Write};

pub use crate::config::election::Preference;
pub use ranking::{Ranking, Waiting};
pub use tenure::RENEWING;

pub use demotion::DemotionReason;
pub use event::{ElectionEffect, ElectionEvent, Id, Pace, RequestId, StoreRequest};

/// Between two reads of a lock that nobody answers, at most.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a candidate is told once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Its name.
    pub id: Id,
    /// How eager it is.
    pub prefer: Preference,
    /// What a fresh winner does about the ranks of its peers; `None`: they don't matter.
    pub rank: Option<Ranking>,
    /// How long each part may take.
    pub pace: Pace,
    /// The end of a container on the same host can be known from the kernel.
    pub witness: bool,
    /// What a store is asked to promise; `None`: the lock is a kernel's.
    pub lease: Option<Duration>,
}

/// One candidate's part in an election.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Election {
    settings: Arc<Settings>,
    rules: Rules,
    state: CandidateState,
    eligibility: Eligibility,
    view: Option<View>,
    newest: Newest,
    vacancy: Option<Vacancy>,
    leader: Option<Holder>,
    /// The highest term seen, of others or of our own.
    highest: Term,
    /// The guard stands.
    guarded: bool,
    /// A session that holds nothing yet.
    idle_session: Option<IdleSession>,
    /// The last tries that were given up with their outcome unknown: one of them may still come to hold the lock.
    abandoned: Vec<Attempt>,
    /// What was forgotten while the store didn't answer, and may hold the lock still.
    forgotten: Option<ForgottenLock>,
    ranks: Ranks,
    /// Who led before, as far as is known.
    former: Option<Id>,
    /// Whom the lock was left to by us, and for how long.
    handing: Option<Handing>,
    /// The lock is held for a container that is gone.
    certificate: Option<Certificate>,
    former_life: Option<FormerLife>,
    namesake: Namesake,
    look: Option<InFlight>,
    /// When to read the lock again, as nobody answered.
    look_at: Option<Time>,
    last_ask: u64,
    /// The store has answered once.
    has_seen: bool,
    jitter: Jitter,
    trouble: Trouble,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CandidateState {
    /// Doesn't hold the lock; tries for it at this time.
    Follower { stand_at: Option<Time> },
    /// On the way to it.
    Campaigning(Campaign),
    /// Holds it: winner, leader, or on the way out.
    Holding(Tenure),
}

/// How new what is known is: the store's revision, and the last question asked before it was learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Newest {
    at: u64,
    asked: RequestId,
}

/// The lock is free after this `last`: each acquire writes it anew, so nobody held the lock between two views of one
/// `last` that show it free, in whatever order they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Vacancy {
    last: Revision,
    /// Since when that has been known.
    since: Time,
    /// Until then it is left to the one it was handed to.
    left_until: Time,
    /// From then on others can have it, as far as is known.
    contested_from: Time,
    /// It was handed to us.
    handed_to_us: bool,
    /// Somebody has led before.
    led: bool,
    /// Until about then the store leaves it to nobody, as far as is known.
    withheld_until: Time,
}

/// We gave the lock back for another one to take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Handing {
    to: Id,
    until: Time,
}

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct InFlight {
    ask: RequestId,
    at: Time,
}

impl Election {
    /// A candidate that has seen nothing.
    pub fn new(settings: Settings, seed: u64) -> Election {
        Election::with_rules(settings, seed, Rules::default())
    }

    fn with_rules(settings: Settings, seed: u64, rules: Rules) -> Election {
        Election {
            settings: Arc::new(settings),
            rules,
            state: CandidateState::Follower { stand_at: None },
            eligibility: Eligibility::default(),
            view: None,
            newest: Newest { at: 0, asked: RequestId(0) },
            vacancy: None,
            leader: None,
            highest: Term::default(),
            guarded: false,
            idle_session: None,
            abandoned: Vec::new(),
            forgotten: None,
            ranks: Ranks::default(),
            former: None,
            handing: None,
            certificate: None,
            former_life: None,
            namesake: Namesake::default(),
            look: None,
            look_at: None,
            last_ask: 0,
            has_seen: false,
            jitter: Jitter::new(seed),
            trouble: Trouble::default(),
        }
    }

    /// Takes an event learnt at `now` and says what is to be done, in order.
    pub fn handle(&mut self, now: Time, event: ElectionEvent) -> Vec<ElectionEffect> {
        let mut out = Vec::new();
        if self.rules.hold(Rule::DeadlineBeforeAnswers) {
            self.tick(now, &mut out);
        }
        match event {
            ElectionEvent::Tick => {}
            ElectionEvent::Opened { ask, result } => self.opened(now, ask, result, &mut out),
            ElectionEvent::Looked { ask, result } => self.looked(now, ask, result, &mut out),
            ElectionEvent::IdShared { shared } => self.namesake.shares_id = shared,
            ElectionEvent::Saw(Ok(view)) => {
                self.trouble.reads();
                self.see(now, view, &mut out);
            }
            ElectionEvent::Saw(Err(error)) => self.cant_read("watching the lock", error, &mut out),
            ElectionEvent::Acquired { ask, result } => self.acquired(now, ask, result, &mut out),
            ElectionEvent::Renewed { ask, result } => self.renewed(now, ask, result, &mut out),
            ElectionEvent::Released { ask, result } => self.released(now, ask, result, &mut out),
            ElectionEvent::Measured { ask, result } => self.measured(now, ask, result, &mut out),
            ElectionEvent::Ranks { ask, result } => self.ranked(now, ask, result, &mut out),
            ElectionEvent::Published { ask, result } => self.published(now, ask, result),
            ElectionEvent::Acts { term } => self.acts(term),
            ElectionEvent::Gone { witness } => self.gone(now, &witness),
            ElectionEvent::Certified { ask, result } => self.certified(now, ask, result, &mut out),
            ElectionEvent::Guard { stands } => self.guarded = stands,
            ElectionEvent::Promoted { result: Ok(()) } => {
                out.extend(self.term().map(|term| ElectionEffect::Say(Notice::Leads { term })));
            }
            ElectionEvent::Promoted { result: Err(error) } => {
                self.demote(now, DemotionReason::PromotionFailed(error), &mut out)
            }
            ElectionEvent::OutOfRole => self.out_of_role(now, &mut out),
            ElectionEvent::Health { healthy } => {
                self.eligibility.healthy = healthy;
                if !healthy {
                    self.withdraw(now, DemotionReason::Unhealthy, &mut out);
                }
            }
            ElectionEvent::Ready { ready } => self.eligibility.ready = ready,
            ElectionEvent::Maintenance { on } => {
                self.eligibility.maintenance = on;
                if on {
                    self.withdraw(now, DemotionReason::Maintenance, &mut out);
                }
            }
            ElectionEvent::StepDown { to } => self.step_down(now, to, &mut out),
            ElectionEvent::StandAgain => self.eligibility.stands_again(now, self.is_acting()),
            ElectionEvent::AcceptTerm => {
                self.eligibility.refuses = false;
                self.highest = Term::default();
                self.nobody_acts();
            }
            ElectionEvent::AcceptLoss => self.accept_loss(now, &mut out),
            ElectionEvent::Stop => self.stop(now, &mut out),
        }
        self.tick(now, &mut out);
        if !self.wants_lock() {
            self.trouble.writes_nothing();
        }
        out
    }

    /// When the election wants [`ElectionEvent::Tick`] next.
    pub fn deadline(&self) -> Option<Time> {
        let own = match &self.state {
            CandidateState::Follower { stand_at } => stand_at.and_then(|at| self.stands_from(at)),
            CandidateState::Campaigning(campaign) => self.campaign_deadline(campaign),
            CandidateState::Holding(tenure) => self.tenure_deadline(tenure),
        };
        let handing = self.handing.as_ref().map(|handing| handing.until);
        let look = earliest(self.look.map(|asked| self.overdue_at(asked)), self.look_at);
        let overstays = self.namesake.deadline();
        [handing, look, overstays, self.certificate_deadline(), self.rank_deadline()].into_iter().fold(own, earliest)
    }

    /// Whether this candidate acts as leader, or may.
    pub fn is_acting(&self) -> bool {
        matches!(&self.state, CandidateState::Holding(tenure) if tenure.is_acting())
    }

    /// The term it holds the lock for.
    pub fn term(&self) -> Option<Term> {
        match &self.state {
            CandidateState::Holding(tenure) => Some(tenure.term()),
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) => None,
        }
    }

    /// Whether it holds the lock, and may lead once the store has confirmed that in time and the guard stands.
    pub fn waits_for_lease(&self) -> bool {
        matches!(&self.state, CandidateState::Holding(tenure) if tenure.stage == TenureStage::Ready)
    }

    /// Whether nothing acts here any more, and the lock is on its way to others.
    pub fn is_releasing(&self) -> bool {
        matches!(&self.state, CandidateState::Holding(tenure) if matches!(tenure.stage, TenureStage::Releasing { .. }))
    }

    /// Whether a person had it lead though it knew too few ranks.
    pub fn accepts_loss(&self) -> bool {
        matches!(&self.state, CandidateState::Holding(tenure) if tenure.accepts_loss)
    }

    /// For which term ranks are measured.
    pub fn ranked_term(&self) -> Option<Term> {
        self.ranks.wanted.as_ref().map(|wanted| wanted.term)
    }

    /// By which session it holds the lock for this term, if it does.
    pub fn held_by(&self, term: Term) -> Option<SessionId> {
        match &self.state {
            CandidateState::Holding(tenure) if tenure.term() == term => Some(tenure.session()),
            CandidateState::Holding(_) | CandidateState::Follower { .. } | CandidateState::Campaigning(_) => None,
        }
    }

    /// Who holds the lock, as far as is known.
    pub fn leader(&self) -> Option<&Holder> {
        self.leader.as_ref()
    }

    /// Whether it stands no more because the store's terms went back, until somebody says that this is right.
    pub fn refuses(&self) -> bool {
        self.eligibility.refuses
    }

    /// Whether the lock is held under this candidate's own id by a session that it never opened, and whether that is
    /// certainly another container's.
    pub fn namesake(&self) -> Option<bool> {
        self.namesake.seen()
    }

    /// How often in a row leading has failed.
    pub fn failures(&self) -> u32 {
        self.eligibility.failures
    }

    /// Whether the store has ever answered.
    pub fn has_seen(&self) -> bool {
        self.has_seen
    }

    /// Why the store can't be asked, if it can't; or why the lock that this candidate wants, or holds, can't be written,
    /// though it can be read.
    pub fn error(&self) -> Option<&str> {
        self.trouble.error()
    }

    /// Whether the lock is tried for, is to be as soon as that is due, is held, or is to be freed.
    fn wants_lock(&self) -> bool {
        let stands = self.eligibility.stands(&self.settings);
        match &self.state {
            CandidateState::Follower { stand_at } => (stand_at.is_some() && stands) || self.certificate.is_some(),
            CandidateState::Campaigning(_) | CandidateState::Holding(_) => true,
        }
    }

    /// Whom this candidate follows: another that holds the lock. One of its own name is no other, but what it was
    /// before it was started again, unless another container is known to have its name.
    pub fn follows(&self) -> Option<&Holder> {
        self.leader.as_ref().filter(|leader| leader.id != self.settings.id || self.namesake.is(leader.session))
    }

    /// Whether this candidate leads, or knows whom it follows, or knows the lock and doesn't stand: a container may
    /// start. To hold the lock and not to act yet is no result.
    pub fn is_settled(&self) -> bool {
        let stands = self.eligibility.stands(&self.settings);
        self.is_acting() || self.follows().is_some() || (self.view.is_some() && !stands)
    }

    /// Whether it has nothing in the store any more and wants nothing of it.
    pub fn is_over(&self) -> bool {
        self.eligibility.stopped && matches!(self.state, CandidateState::Follower { .. })
    }

    fn tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        if let Some(Handing { to, .. }) = self.handing.take_if(|handing| handing.until <= now) {
            out.push(ElectionEffect::Say(Notice::HandoverFailed { to: to.to_string(), within: HANDOVER }));
        }
        if self.look.is_some_and(|asked| self.overdue_at(asked) <= now) {
            self.unanswered(now, "no answer".to_owned(), out);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(now, out);
        }
        self.namesake_tick(now, out);
        self.certificate_tick(now, out);
        self.rank_tick(now, out);
        match &self.state {
            CandidateState::Follower { stand_at: Some(at) } if self.stands_from(*at).is_some_and(|at| at <= now) => {
                self.campaign(now, out);
            }
            CandidateState::Follower { .. } => {}
            CandidateState::Campaigning(_) => self.campaign_tick(now, out),
            CandidateState::Holding(_) => self.tenure_tick(now, out),
        }
    }

    /// A view of lock and last, from the watch or a renewal.
    fn see(&mut self, now: Time, view: View, out: &mut Vec<ElectionEffect>) {
        if !self.is_old(&view) && !self.is_torn(&view) {
            return self.learn(now, view, out);
        }
        // It comes late; or the store went back, which a read asked for now will tell.
        if self.look.is_none() && !matches!(self.state, CandidateState::Holding(_)) {
            self.look(now, out);
        }
    }

    fn is_old(&self, view: &View) -> bool {
        view.at < self.newest.at && self.rules.hold(Rule::NewestCounts)
    }

    fn is_torn(&self, view: &View) -> bool {
        view.is_torn() && self.rules.hold(Rule::WholeViews)
    }

    /// What is so, as far as anybody can know.
    fn learn(&mut self, now: Time, view: View, out: &mut Vec<ElectionEffect>) {
        self.newest = Newest { at: view.at, asked: RequestId(self.last_ask) };
        self.adopt_late(now, &view);
        self.highest = self.highest.max(view.highest_but(self.session()));
        let holder = view.holder().cloned();
        self.handing.take_if(|handing| holder.as_ref().is_some_and(|holder| holder.id == handing.to));
        let withheld = view.withheld_after(self.leader.as_ref());
        let led = view.last.as_ref().filter(|last| holder.as_ref().is_none_or(|holder| holder.term != last.term));
        let led = led.map(|last| last.id.clone()).or_else(|| {
            let before = self.leader.as_ref().filter(|before| holder.as_ref().is_some_and(|now| now.id != before.id));
            before.map(|before| before.id.clone())
        });
        self.former = led.or(self.former.take());
        if holder != self.leader {
            let before = std::mem::replace(&mut self.leader, holder.clone());
            out.push(ElectionEffect::Leader(holder.clone()));
            self.await_end(now, before, out);
        }
        // A pause was for the lock as it was tried for; another vacancy is tried for at once.
        let other = self.vacancy.is_some_and(|vacancy| vacancy.last != view.last_revision);
        match (&holder, &self.vacancy) {
            (Some(_), _) => self.vacancy = None,
            (None, Some(vacancy)) if vacancy.last == view.last_revision => {}
            (None, _) => {
                let handed_to_us = view.handed_to() == Some(&self.settings.id);
                let to_another = view.handed_to().is_some() && !handed_to_us;
                let left_until = if to_another { now + HANDOVER } else { now };
                self.vacancy = Some(Vacancy {
                    last: view.last_revision,
                    since: now,
                    left_until,
                    contested_from: left_until + view.withheld(),
                    handed_to_us,
                    led: view.last.is_some(),
                    withheld_until: now + withheld,
                });
            }
        }
        // A session of our own comes after the first view.
        let former = holder.as_ref().filter(|holder| !self.has_seen && holder.id == self.settings.id);
        self.has_seen = true;
        self.free_forgotten(now, &view, out);
        if let Some(former) = former {
            self.see_own_name(now, former, &view, out);
        }
        self.view = Some(view);
        match &mut self.state {
            CandidateState::Follower { stand_at } => match holder {
                None if other => *stand_at = Some(now),
                None => {
                    stand_at.get_or_insert(now);
                }
                Some(_) => {
                    *stand_at = None;
                    self.close_idle_session(out);
                }
            },
            CandidateState::Campaigning(_) => {}
            CandidateState::Holding(_) => self.tenure_seen(now, out),
        }
        self.want_ranks(now);
    }

    fn looked(&mut self, now: Time, ask: RequestId, result: Result<View, String>, out: &mut Vec<ElectionEffect>) {
        if self.look.is_none_or(|asked| asked.ask != ask) {
            return;
        }
        self.look = None;
        match result {
            // Newer things were learnt since it was asked for.
            Ok(view) if self.is_old(&view) && ask <= self.newest.asked => self.look(now, out),
            Ok(view) if self.is_torn(&view) => self.look(now, out),
            Ok(view) => {
                self.trouble.reads();
                if !self.read_back(now, &view, out) {
                    self.learn(now, view, out);
                }
            }
            Err(error) => self.unanswered(now, error, out),
        }
    }

    fn unanswered(&mut self, now: Time, error: String, out: &mut Vec<ElectionEffect>) {
        self.look = None;
        self.cant_read("reading the lock", error, out);
        if self.rules.hold(Rule::AskUntilAnswered) {
            self.look_at = Some(now + self.jitter.scatter(LOOK_AGAIN));
        }
    }

    fn look(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        self.look_at = None;
        if self.eligibility.stopped {
            return;
        }
        let asked = self.ask(now);
        self.look = Some(asked);
        out.push(ElectionEffect::Store(StoreRequest::Look { ask: asked.ask }));
    }

    fn ask(&mut self, now: Time) -> InFlight {
        self.last_ask += 1;
        InFlight { ask: RequestId(self.last_ask), at: now }
    }

    /// Past this an answer isn't waited for any more.
    fn overdue_at(&self, asked: InFlight) -> Time {
        asked.at + self.settings.pace.patience
    }

    /// When a try meant for `at` may be made; `None`: not as things are.
    fn stands_from(&self, at: Time) -> Option<Time> {
        self.eligibility.tries_from(at, self.vacancy.as_ref(), &self.settings)
    }

    /// The session we hold, or try to hold, the lock by.
    fn session(&self) -> Option<SessionId> {
        match &self.state {
            CandidateState::Follower { .. } => None,
            CandidateState::Campaigning(campaign) => campaign.attempt().map(Attempt::session),
            CandidateState::Holding(tenure) => Some(tenure.session()),
        }
    }

    /// This candidate doesn't stand any more: what it has begun it leaves, and what it holds it gives back.
    fn withdraw(&mut self, now: Time, why: DemotionReason, out: &mut Vec<ElectionEffect>) {
        self.close_idle_session(out);
        match &self.state {
            CandidateState::Campaigning(Campaign::Opening { .. }) => {
                self.state = CandidateState::Follower { stand_at: Some(now) }
            }
            // It may be ours already: to wait for the answer and release it is sooner than to close the session, for
            // which a store may hold everyone back.
            CandidateState::Campaigning(Campaign::Acquiring(_) | Campaign::ReadingBack(_)) => {}
            CandidateState::Follower { .. } => {}
            CandidateState::Holding(_) => self.demote(now, why, out),
        }
    }

    /// The container stops: nothing is begun any more, and what is held is given back.
    fn stop(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        self.eligibility.stopped = true;
        self.handing = None;
        (self.certificate, self.former_life) = (None, None);
        self.namesake.stop();
        (self.look, self.look_at) = (None, None);
        self.want_no_ranks();
        self.close_idle_session(out);
        match &self.state {
            CandidateState::Follower { .. } => self.state = CandidateState::Follower { stand_at: None },
            CandidateState::Campaigning(_) => self.give_up_campaign(out),
            CandidateState::Holding(_) => self.demote(now, DemotionReason::Stop, out),
        }
    }

    fn close_idle_session(&mut self, out: &mut Vec<ElectionEffect>) {
        out.extend(
            self.idle_session.take().map(|idle_session| {
                ElectionEffect::Store(StoreRequest::CloseSession { session: idle_session.session })
            }),
        );
    }

    fn cant_read(&mut self, what: &str, error: String, out: &mut Vec<ElectionEffect>) {
        if self.trouble.read_failed(error.clone()) {
            out.push(ElectionEffect::Say(Notice::ElectionFailed { what: what.to_owned(), error }));
        }
    }

    fn cant_write(&mut self, write: Write, what: &str, error: String, out: &mut Vec<ElectionEffect>) {
        if self.trouble.write_failed(write, error.clone()) {
            out.push(ElectionEffect::Say(Notice::ElectionFailed { what: what.to_owned(), error }));
        }
    }
}

#[cfg(test)]
mod tests;
