//! Who leads: one candidate's part in an election, as a pure machine. It takes facts with the time they are learnt and
//! answers with orders; it reads no clock and speaks to no engine.
//!
//! [`candidate`] is the way from seeing the lock free to holding it, [`tenure`] the way from holding it to being rid
//! of it again, [`standing`] whether to stand at all. What differs between engines comes in as data: what a session
//! promises ([`record::Guarantee`]), and what a view shows.
//!
//! A leader acts from [`Order::Promote`] until [`Fact::OutOfRole`]. That no two act at once follows from the
//! [`rules::Rule`]s, each of which is named where it is kept, under the assumptions that the engine keeps its promise,
//! clocks drift by less than one per cent, and a guard kills at the deadline it was given.

mod candidate;
pub mod fact;
pub mod record;
pub mod rules;
mod standing;
mod tenure;

use std::sync::Arc;
use std::time::Duration;

use super::jitter::Jitter;
use super::notice::Notice;
use super::time::{Time, earliest};

use candidate::{Attempt, Campaign, Spare};
use record::{Holder, SessionId, Term, Version, View};
use rules::{Rule, Rules};
use standing::Standing;
use tenure::Tenure;

pub use crate::config::election::Preference;
pub use fact::{Ask, Fact, Id, Order, Pace, Why};

/// What a candidate is told once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Its name.
    pub id: Id,
    /// How eager it is.
    pub prefer: Preference,
    /// How long a fresh winner waits for the ranks of its peers; `None`: ranks don't matter.
    pub rank: Option<Duration>,
    /// How long each part may take.
    pub pace: Pace,
}

/// One candidate's part in an election.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Election {
    settings: Arc<Settings>,
    rules: Rules,
    state: State,
    standing: Standing,
    /// The last view, and since when it has shown the lock free after this `last`.
    view: Option<View>,
    free_since: Option<(Time, Version)>,
    leader: Option<Holder>,
    /// The highest term seen, of others or of our own.
    highest: Term,
    /// The guard stands.
    guarded: bool,
    /// A session that holds nothing yet.
    spare: Option<Spare>,
    /// Our rank, and the vacancy it was measured for.
    rank: Option<(Version, Option<i64>)>,
    look: Option<Asked>,
    last_ask: u64,
    jitter: Jitter,
    /// What people were last told of the engine.
    error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    /// Doesn't hold the lock; tries for it at this time.
    Follower { stand_at: Option<Time> },
    /// On the way to it.
    Campaigning(Campaign),
    /// Holds it: winner, leader, or on the way out.
    Holding(Tenure),
}

/// A question under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    ask: Ask,
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
            state: State::Follower { stand_at: None },
            standing: Standing::default(),
            view: None,
            free_since: None,
            leader: None,
            highest: Term::default(),
            guarded: false,
            spare: None,
            rank: None,
            look: None,
            last_ask: 0,
            jitter: Jitter::new(seed),
            error: None,
        }
    }

    /// Takes a fact learnt at `now` and says what is to be done, in order.
    pub fn handle(&mut self, now: Time, fact: Fact) -> Vec<Order> {
        let mut out = Vec::new();
        if self.rules.hold(Rule::DeadlineBeforeAnswers) {
            self.tick(now, &mut out);
        }
        match fact {
            Fact::Tick => {}
            Fact::Opened { ask, result } => self.opened(now, ask, result, &mut out),
            Fact::Looked { ask, result } => self.looked(now, ask, result, &mut out),
            Fact::Saw(Ok(view)) => {
                self.works();
                self.see(now, view, &mut out);
            }
            Fact::Saw(Err(error)) => self.complain("watching the lock", error, &mut out),
            Fact::Acquired { ask, result } => self.acquired(now, ask, result, &mut out),
            Fact::Renewed { ask, result } => self.renewed(now, ask, result, &mut out),
            Fact::Released { ask, result } => self.released(now, ask, result, &mut out),
            Fact::Measured { ask, result } => self.measured(now, ask, result, &mut out),
            Fact::Ranks { ask, result } => self.ranked(now, ask, result, &mut out),
            Fact::Guard { stands } => self.guarded = stands,
            Fact::Promoted { result: Ok(()) } => {}
            Fact::Promoted { result: Err(error) } => self.demote(now, Why::PromotionFailed(error), &mut out),
            Fact::OutOfRole => self.out_of_role(now, &mut out),
            Fact::Health { well } => {
                self.standing.well = well;
                if !well {
                    self.demote(now, Why::Ill, &mut out);
                }
            }
            Fact::Maintenance { on } => {
                self.standing.maintenance = on;
                if on {
                    self.demote(now, Why::Maintenance, &mut out);
                }
            }
            Fact::StepDown { to } => self.step_down(now, to, &mut out),
            Fact::AcceptTerm => {
                self.standing.refuses = false;
                self.highest = Term::default();
            }
            Fact::Stop => self.stop(now, &mut out),
        }
        self.tick(now, &mut out);
        out
    }

    /// When the election wants [`Fact::Tick`] next.
    pub fn deadline(&self) -> Option<Time> {
        let own = match &self.state {
            State::Follower { stand_at } => stand_at.and_then(|at| self.standing.from(at, &self.settings)),
            State::Campaigning(campaign) => self.campaign_deadline(campaign),
            State::Holding(tenure) => self.tenure_deadline(tenure),
        };
        earliest(own, self.look.map(|asked| self.overdue_at(asked)))
    }

    /// Whether this candidate acts as leader, or may.
    pub fn is_acting(&self) -> bool {
        matches!(&self.state, State::Holding(tenure) if tenure.is_acting())
    }

    /// The term it holds the lock for.
    pub fn term(&self) -> Option<Term> {
        match &self.state {
            State::Holding(tenure) => Some(tenure.term()),
            State::Follower { .. } | State::Campaigning(_) => None,
        }
    }

    /// Who holds the lock, as far as is known.
    pub fn leader(&self) -> Option<&Holder> {
        self.leader.as_ref()
    }

    /// Why the engine couldn't be asked last, if it couldn't.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Whether it is known who leads, or that nobody does while this candidate doesn't stand: a container may start.
    pub fn is_settled(&self) -> bool {
        let stands = self.standing.stands(&self.settings);
        let other_leads = self.leader.as_ref().is_some_and(|leader| leader.id != self.settings.id);
        self.is_acting() || other_leads || (self.view.is_some() && !stands)
    }

    /// Whether it has nothing in the engine any more and wants nothing of it.
    pub fn is_over(&self) -> bool {
        self.standing.stopped && matches!(self.state, State::Follower { .. })
    }

    fn tick(&mut self, now: Time, out: &mut Vec<Order>) {
        if self.look.is_some_and(|asked| self.overdue_at(asked) <= now) {
            self.look = None;
        }
        match &self.state {
            State::Follower { stand_at: Some(at) }
                if self.standing.from(*at, &self.settings).is_some_and(|at| at <= now) =>
            {
                self.campaign(now, out);
            }
            State::Follower { .. } => {}
            State::Campaigning(_) => self.campaign_tick(now, out),
            State::Holding(_) => self.tenure_tick(now, out),
        }
    }

    /// A view of lock and last.
    fn see(&mut self, now: Time, view: View, out: &mut Vec<Order>) {
        self.highest = self.highest.max(view.highest_but(self.session()));
        let holder = view.holder().cloned();
        if holder != self.leader {
            self.leader = holder.clone();
            out.push(Order::Leader(holder.clone()));
        }
        match (&holder, &self.free_since) {
            (Some(_), _) => self.free_since = None,
            (None, Some((_, last))) if *last == view.last_version => {}
            (None, _) => self.free_since = Some((now, view.last_version)),
        }
        let first_try = self.standing.first_try(now, &view, &self.settings);
        let held_elsewhere = holder.is_some();
        self.view = Some(view);
        match &mut self.state {
            State::Follower { stand_at } => match held_elsewhere {
                false => {
                    stand_at.get_or_insert(first_try);
                }
                true => {
                    *stand_at = None;
                    self.close_spare(out);
                }
            },
            State::Campaigning(_) => {}
            State::Holding(_) => self.tenure_seen(now, out),
        }
    }

    fn looked(&mut self, now: Time, ask: Ask, result: Result<View, String>, out: &mut Vec<Order>) {
        if self.look.is_none_or(|asked| asked.ask != ask) {
            return;
        }
        self.look = None;
        match result {
            Ok(view) => {
                self.works();
                if !self.read_back(now, &view, out) {
                    self.see(now, view, out);
                }
            }
            Err(error) => self.complain("reading the lock", error, out),
        }
    }

    fn look(&mut self, now: Time, out: &mut Vec<Order>) {
        let asked = self.ask(now);
        self.look = Some(asked);
        out.push(Order::Look { ask: asked.ask });
    }

    fn ask(&mut self, now: Time) -> Asked {
        self.last_ask += 1;
        Asked { ask: Ask(self.last_ask), at: now }
    }

    /// Past this an answer isn't waited for any more.
    fn overdue_at(&self, asked: Asked) -> Time {
        asked.at + self.settings.pace.request
    }

    /// The session we hold, or try to hold, the lock by.
    fn session(&self) -> Option<SessionId> {
        match &self.state {
            State::Follower { .. } => None,
            State::Campaigning(campaign) => campaign.attempt().map(Attempt::session),
            State::Holding(tenure) => Some(tenure.session()),
        }
    }

    /// The container stops: nothing is begun any more, and what is held is given back.
    fn stop(&mut self, now: Time, out: &mut Vec<Order>) {
        self.standing.stopped = true;
        self.close_spare(out);
        match &self.state {
            State::Follower { .. } => self.state = State::Follower { stand_at: None },
            State::Campaigning(_) => self.give_up_campaign(out),
            State::Holding(_) => self.demote(now, Why::Stop, out),
        }
    }

    fn close_spare(&mut self, out: &mut Vec<Order>) {
        out.extend(self.spare.take().map(|spare| Order::CloseSession { session: spare.session }));
    }

    fn complain(&mut self, what: &str, error: String, out: &mut Vec<Order>) {
        if self.error.as_ref() != Some(&error) {
            out.push(Order::Say(Notice::ElectionFailed { what: what.to_owned(), error: error.clone() }));
        }
        self.error = Some(error);
    }

    fn works(&mut self) {
        self.error = None;
    }
}

#[cfg(test)]
mod tests;
