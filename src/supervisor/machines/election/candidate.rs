//! From a lock seen free to one that is held: session, acquire, and the reading back of an acquire whose outcome
//! nobody knows.

use std::time::Duration;

use crate::supervisor::vocabulary::{Notice, Time};

use super::attempt::{Attempt, IdleSession};
use super::event::{Acquisition, ElectionEffect, RequestId, StoreRequest};
use super::record::{Guarantee, Lock, Revision, SessionId, Term, View};
use super::rules::Rule;
use super::tenure::Tenure;
use super::trouble::Write;
use super::{CandidateState, Election, InFlight, Newest};

/// Between two tries for a lock that is free but not to be had, at most; scattered down to a half. Longer while the
/// store is known to withhold it: of two hundred candidates five hundred tries a second would come for nothing.
const AGAIN: Duration = Duration::from_millis(500);
/// A session that holds nothing isn't renewed, so past this age another one is opened.
const FRESH_FOR: Duration = Duration::from_secs(5);
/// After a store that promises too little.
const TOO_SHORT_REST: Duration = Duration::from_secs(30);

/// Tries whose outcome is unknown, of which one may come to hold the lock; more are left to their sessions' time.
const MOST_ABANDONED: usize = 4;

/// On the way to the lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Campaign {
    /// A session is opened.
    Opening { asked: InFlight },
    /// The lock is tried for.
    Acquiring(Attempt),
    /// It may be ours; the lock is read to know.
    ReadingBack(Attempt),
}

impl Campaign {
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        match self {
            Campaign::Opening { .. } => None,
            Campaign::Acquiring(attempt) | Campaign::ReadingBack(attempt) => Some(attempt),
        }
    }
}

impl Election {
    /// Begins, or goes on with, a try for a lock seen free.
    pub(super) fn campaign(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let Some(View { lock: Lock::Free { .. }, .. }) = self.view else {
            self.close_idle_session(out);
            self.state = CandidateState::Follower { stand_at: None };
            return;
        };
        if self.idle_session.as_ref().is_some_and(|idle_session| now.since(idle_session.opened) >= FRESH_FOR) {
            self.close_idle_session(out);
        }
        match self.idle_session.take() {
            Some(idle_session) => self.acquire(now, idle_session, out),
            None => {
                let asked = self.ask(now);
                out.push(ElectionEffect::Store(StoreRequest::OpenSession { ask: asked.ask }));
                self.state = CandidateState::Campaigning(Campaign::Opening { asked });
            }
        }
    }

    pub(super) fn opened(
        &mut self,
        now: Time,
        ask: RequestId,
        result: Result<(SessionId, Guarantee, Revision), String>,
        out: &mut Vec<ElectionEffect>,
    ) {
        let waited_for =
            matches!(&self.state, CandidateState::Campaigning(Campaign::Opening { asked }) if asked.ask == ask);
        match result {
            // Told twice.
            Ok((session, ..)) if self.uses(session) => {}
            // Nobody waits for it any more.
            Ok((session, ..)) if !waited_for => out.push(ElectionEffect::Store(StoreRequest::CloseSession { session })),
            Err(_) if !waited_for => {}
            Ok((session, guarantee, _)) if !self.is_enough(guarantee) => {
                let least = self.settings.pace.least();
                let usable = guarantee.usable(self.rules).unwrap_or_default();
                out.push(ElectionEffect::Say(Notice::LeaseTooShort { usable, least }));
                out.push(ElectionEffect::Store(StoreRequest::CloseSession { session }));
                self.eligibility.rests(now + TOO_SHORT_REST);
                self.state = CandidateState::Follower { stand_at: Some(now) };
            }
            // It would hold the lock and must not act.
            Ok((session, guarantee, _)) if !self.may_act(guarantee) => {
                out.push(ElectionEffect::Store(StoreRequest::CloseSession { session }));
                self.try_again(now);
            }
            Ok((session, guarantee, at)) => {
                self.trouble.writes(Write::Open);
                // Its age counts from before it was asked for.
                let opened = self.asked_at().unwrap_or(now);
                self.acquire(now, IdleSession { session, guarantee, opened, at }, out);
            }
            Err(error) => {
                self.cant_write(Write::Open, "opening a session", error, out);
                self.try_again(now);
            }
        }
    }

    fn uses(&self, session: SessionId) -> bool {
        self.session() == Some(session)
            || self.idle_session.as_ref().is_some_and(|idle_session| idle_session.session == session)
    }

    fn is_enough(&self, guarantee: Guarantee) -> bool {
        !self.rules.hold(Rule::RefuseShortLease) || guarantee.is_enough(&self.settings.pace, self.rules)
    }

    /// Whether a guard stands where the guarantee has a clock.
    pub(super) fn may_act(&self, guarantee: Guarantee) -> bool {
        self.guarded || guarantee.usable(self.rules).is_none() || !self.rules.hold(Rule::NoLeaseWithoutGuard)
    }

    fn asked_at(&self) -> Option<Time> {
        match &self.state {
            CandidateState::Campaigning(Campaign::Opening { asked }) => Some(asked.at),
            _ => None,
        }
    }

    /// Tries for the lock, as it was seen.
    fn acquire(&mut self, now: Time, idle_session: IdleSession, out: &mut Vec<ElectionEffect>) {
        let free = match &self.view {
            Some(view) => match view.lock {
                Lock::Free { version, .. } => Some((version, view)),
                Lock::Held(_) => None,
            },
            None => None,
        };
        let (Some((version, view)), Some(vacancy)) = (free, self.vacancy) else {
            // It has gone to somebody else meanwhile: never ask for a lock last seen held.
            self.idle_session = Some(idle_session);
            self.close_idle_session(out);
            self.state = CandidateState::Follower { stand_at: None };
            return;
        };
        // Somebody led while the session was opened, and left it to others.
        if self.eligibility.open_from(&vacancy, &self.settings) > now {
            self.idle_session = Some(idle_session);
            self.state = CandidateState::Follower { stand_at: Some(now) };
            return;
        }
        // Where the store is known to count from below what was seen, nobody shall wait for a lock that is given back.
        let (term, seen) = (Term(view.at.max(idle_session.at.0).saturating_add(1)), self.highest);
        if term <= seen && self.rules.hold(Rule::TermsGrow) {
            self.idle_session = Some(idle_session);
            self.close_idle_session(out);
            self.state = CandidateState::Follower { stand_at: Some(now) };
            return self.refuse(term, out);
        }
        let act_from = vacancy.since + view.hold_off(idle_session.guarantee, self.rules);
        let vacancy = view.last_revision;
        let handed_to_us = view.handed_to() == Some(&self.settings.id);
        let seen = (version, vacancy);
        // Before it is sent: whatever it wins began at the earliest now.
        let asked = self.ask(now);
        let (session, guarantee) = (idle_session.session, idle_session.guarantee);
        out.push(ElectionEffect::Store(StoreRequest::Acquire {
            ask: asked.ask,
            session,
            guarantee,
            seen,
            hold_off_left: now.until(act_from),
        }));
        self.state = CandidateState::Campaigning(Campaign::Acquiring(Attempt {
            idle_session,
            asked,
            act_from,
            handed_to_us,
            vacancy,
        }));
    }

    pub(super) fn acquired(&mut self, now: Time, ask: RequestId, result: Acquisition, out: &mut Vec<ElectionEffect>) {
        let attempt = match &self.state {
            CandidateState::Campaigning(Campaign::Acquiring(attempt) | Campaign::ReadingBack(attempt))
                if attempt.asked.ask == ask =>
            {
                attempt.clone()
            }
            _ => return,
        };
        let read_back = matches!(&self.state, CandidateState::Campaigning(Campaign::ReadingBack(_)));
        match result {
            Acquisition::Won(term) => self.won(now, attempt, term, out),
            Acquisition::Changed | Acquisition::HeldBack if read_back => {}
            Acquisition::Changed => {
                self.trouble.writes(Write::Lock);
                self.idle_session = Some(attempt.idle_session);
                self.state = CandidateState::Follower { stand_at: None };
                self.try_again(now);
                self.look(now, out);
            }
            Acquisition::HeldBack => {
                self.trouble.writes(Write::Lock);
                self.idle_session = Some(attempt.idle_session);
                let withheld = self.vacancy.map_or(Duration::ZERO, |vacancy| now.until(vacancy.withheld_until));
                self.try_again_within(now, withheld.max(AGAIN));
            }
            Acquisition::Unknown(error) => {
                self.cant_write(Write::Lock, "acquiring the lock", error, out);
                self.unsure(now, attempt, out);
            }
        }
    }

    /// Nobody knows whether the lock is ours.
    fn unsure(&mut self, now: Time, attempt: Attempt, out: &mut Vec<ElectionEffect>) {
        if !self.rules.hold(Rule::ReadBack) {
            self.idle_session = Some(attempt.idle_session);
            return self.try_again(now);
        }
        self.look(now, out);
        self.state = CandidateState::Campaigning(Campaign::ReadingBack(attempt));
    }

    /// Takes a view as the answer to whether the lock is ours; `false` when it was read for something else.
    pub(super) fn read_back(&mut self, now: Time, view: &View, out: &mut Vec<ElectionEffect>) -> bool {
        let CandidateState::Campaigning(Campaign::ReadingBack(attempt)) = &self.state else { return false };
        let attempt = attempt.clone();
        match view.holder() {
            Some(holder) if holder.session == attempt.session() => self.won(now, attempt, holder.term, out),
            _ => {
                if self.rules.hold(Rule::AbandonUnknown) {
                    out.push(ElectionEffect::Store(StoreRequest::CloseSession { session: attempt.session() }));
                    self.abandoned.truncate(MOST_ABANDONED - 1);
                    self.abandoned.insert(0, attempt);
                } else {
                    self.idle_session = Some(attempt.idle_session);
                }
                self.state = CandidateState::Follower { stand_at: None };
                self.try_again(now);
                self.learn(now, view.clone(), out);
            }
        }
        true
    }

    /// A try that was given up came to hold the lock after all, for closing its session failed or came too late.
    /// Nothing acts for it: it is given back, for otherwise nobody would have the lock before the session's time is over.
    pub(super) fn adopt_late(&mut self, now: Time, view: &View) {
        if view.holder().is_none() {
            // For another vacancy it comes to nothing.
            self.abandoned.retain(|attempt| attempt.vacancy == view.last_revision);
        }
        let idle = matches!(
            self.state,
            CandidateState::Follower { .. } | CandidateState::Campaigning(Campaign::Opening { .. })
        );
        let Some(holder) = view.holder().filter(|_| idle) else { return };
        if let Some(at) = self.abandoned.iter().position(|attempt| attempt.session() == holder.session) {
            let attempt = self.abandoned.swap_remove(at);
            let mut tenure = Tenure::new(&attempt, holder.term, attempt.asked.at, &self.settings.pace, self.rules);
            tenure.give_back(now, None);
            self.state = CandidateState::Holding(tenure);
        }
    }

    /// The lock is ours.
    fn won(&mut self, now: Time, attempt: Attempt, term: Term, out: &mut Vec<ElectionEffect>) {
        self.trouble.writes(Write::Lock);
        self.abandoned.clear();
        let from = if self.rules.hold(Rule::CountFromSending) { attempt.asked.at } else { now };
        let grew = term > self.highest || !self.rules.hold(Rule::TermsGrow);
        let mut tenure = Tenure::new(&attempt, term, from, &self.settings.pace, self.rules);
        if !grew {
            self.refuse(term, out);
            tenure.give_back(now, None);
        }
        // Our own terms count, too, from now on.
        self.highest = self.highest.max(term);
        if !self.eligibility.stands(&self.settings) && self.rules.hold(Rule::StandToLead) {
            tenure.give_back(now, None);
        }
        self.state = CandidateState::Holding(tenure);
        self.want_ranks(now);
        self.newest = Newest { at: self.newest.at.max(term.0), asked: RequestId(self.last_ask) };
        // A view may have come first, and shown that it was ours and isn't any more.
        self.tenure_seen(now, out);
    }

    /// The store's history went back: nobody leads by it until a person says that this is right.
    fn refuse(&mut self, term: Term, out: &mut Vec<ElectionEffect>) {
        out.push(ElectionEffect::Say(Notice::TermWentBack { term, seen: self.highest }));
        self.eligibility.refuses = true;
    }

    /// Another try soon.
    fn try_again(&mut self, now: Time) {
        self.try_again_within(now, AGAIN);
    }

    fn try_again_within(&mut self, now: Time, longest: Duration) {
        let at = now + self.jitter.scatter(longest);
        self.state = CandidateState::Follower { stand_at: Some(at) };
    }

    /// Stands no more; what was opened is closed.
    pub(super) fn give_up_campaign(&mut self, out: &mut Vec<ElectionEffect>) {
        if let CandidateState::Campaigning(campaign) = &self.state {
            let session = campaign.attempt().map(|attempt| attempt.session());
            out.extend(session.map(|session| ElectionEffect::Store(StoreRequest::CloseSession { session })));
        }
        self.state = CandidateState::Follower { stand_at: None };
    }

    pub(super) fn campaign_tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        match &self.state {
            CandidateState::Campaigning(Campaign::Opening { asked }) if self.overdue_at(*asked) <= now => {
                self.cant_write(Write::Open, "opening a session", "no answer".to_owned(), out);
                self.try_again(now);
            }
            CandidateState::Campaigning(Campaign::Acquiring(attempt)) if self.overdue_at(attempt.asked) <= now => {
                let attempt = attempt.clone();
                self.cant_write(Write::Lock, "acquiring the lock", "no answer".to_owned(), out);
                self.unsure(now, attempt, out);
            }
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) | CandidateState::Holding(_) => {}
        }
    }

    pub(super) fn campaign_deadline(&self, campaign: &Campaign) -> Option<Time> {
        match campaign {
            // A read is asked for until it is answered.
            Campaign::ReadingBack(_) => None,
            Campaign::Opening { asked } => Some(self.overdue_at(*asked)),
            Campaign::Acquiring(attempt) => Some(self.overdue_at(attempt.asked)),
        }
    }
}
