//! A stage for one candidate: time that a test moves, views it makes up, and orders written down in short words.

use std::time::Duration;

use crate::supervisor::machines::election::event::{
    Acquisition, ElectionEffect, ElectionEvent, Pace, Renewal, RequestId, StoreRequest,
};
use crate::supervisor::machines::election::record::{
    Answer, Guarantee, Holder, Last, Lock, PeerRank, Rank, Revision, SessionId, Term, View,
};
use crate::supervisor::machines::election::{Election, Preference, Ranking, Settings};
use crate::supervisor::vocabulary::{Notice, Time};

/// Renewals each second, two seconds for a request, one to step down, one to kill: seven are needed.
pub const PACE: Pace = Pace {
    renew: Duration::from_secs(1),
    request: Duration::from_secs(2),
    patience: Duration::from_secs(2),
    demote: Duration::from_secs(1),
    kill_margin: Duration::from_secs(1),
};
/// With the hundredth for drift, ten seconds to act on.
pub const LEASE: Guarantee = Guarantee::For(Duration::from_nanos(10_101_010_102));

/// Half a second for the peers, and no quorum.
pub fn ranking() -> Ranking {
    Ranking {
        within: Duration::from_millis(500),
        quorum: None,
        every: Duration::from_millis(100),
        longest_hold_off: Duration::from_secs(60),
    }
}

pub struct Stage {
    pub core: Election,
    now: u64,
    heard: Vec<String>,
    pub said: Vec<Notice>,
    last_ask: RequestId,
    measures: RequestId,
    publishes: RequestId,
    reads_ranks: RequestId,
}

pub fn settings() -> Settings {
    Settings {
        id: "me".into(),
        prefer: Preference::Normal,
        rank: None,
        pace: PACE,
        witness: false,
        lease: Some(Duration::from_secs(12)),
    }
}

impl Stage {
    pub fn new(settings: Settings) -> Stage {
        let core = Election::new(settings, 1);
        let [last_ask, measures, publishes, reads_ranks] = [RequestId(0); 4];
        let (heard, said) = (Vec::new(), Vec::new());
        let mut stage = Stage { core, now: 100_000, heard, said, last_ask, measures, publishes, reads_ranks };
        stage.tell(ElectionEvent::Guard { stands: true });
        stage
    }

    /// One that leads term 7 by session 1, its lease counted from 0.
    pub fn leading(settings: Settings) -> Stage {
        let mut stage = Stage::new(settings);
        stage.sees(free());
        stage.opened(1, LEASE);
        stage.acquired(Acquisition::Won(Term(7)));
        stage.expect(&["open", "acquire by 1", "guard 9000", "promote 7"]);
        stage
    }

    pub fn time(&self) -> Time {
        Time::since_boot(Duration::from_millis(self.now))
    }

    pub fn tell(&mut self, event: ElectionEvent) {
        for order in self.core.handle(self.time(), event) {
            self.hear(order);
        }
    }

    pub fn sees(&mut self, view: View) {
        self.tell(ElectionEvent::Saw(Ok(view)));
    }

    pub fn opened(&mut self, session: u128, guarantee: Guarantee) {
        self.opened_at(session, guarantee, 0);
    }

    pub fn opened_at(&mut self, session: u128, guarantee: Guarantee, at: u64) {
        self.tell(ElectionEvent::Opened {
            ask: self.last_ask,
            result: Ok((SessionId(session), guarantee, Revision(at))),
        });
    }

    pub fn acquired(&mut self, result: Acquisition) {
        self.tell(ElectionEvent::Acquired { ask: self.last_ask, result });
    }

    pub fn looked(&mut self, view: View) {
        self.tell(ElectionEvent::Looked { ask: self.last_ask, result: Ok(view) });
    }

    /// What was asked for last is the rank.
    pub fn measured(&mut self, rank: &str) {
        let result = Rank::read(rank).ok_or_else(|| "exited with code 1".to_owned());
        self.tell(ElectionEvent::Measured { ask: self.measures, result });
    }

    pub fn published(&mut self) {
        self.tell(ElectionEvent::Published { ask: self.publishes, result: Ok(()) });
    }

    /// What was read last shows these peers, for this term: `ahead 9`, `away 9 not standing`, `slow`, `failed -`.
    pub fn reads(&mut self, term: u64, peers: &[&str]) {
        let peer = |words: &&str| {
            let (words, stands) = words.strip_suffix(" not standing").map_or((*words, true), |words| (words, false));
            let (id, rank) = words.split_once(' ').unwrap_or((words, ""));
            let answer = match rank {
                "" => Answer::Measuring,
                "-" => Answer::Failed,
                rank => Answer::Known(Rank::read(rank).expect("a rank")),
            };
            PeerRank { id: id.into(), term: Term(term), answer, stands }
        };
        let result = Ok(peers.iter().map(peer).collect());
        self.tell(ElectionEvent::Ranks { ask: self.reads_ranks, result });
    }

    pub fn renewed(&mut self, result: Renewal) {
        self.tell(ElectionEvent::Renewed { ask: self.last_ask, result });
    }

    pub fn released(&mut self) {
        self.tell(ElectionEvent::Released { ask: self.last_ask, result: Ok(()) });
    }

    /// Time goes on to this many milliseconds after the start, through every deadline on the way.
    pub fn until(&mut self, millis: u64) {
        let millis = 100_000 + millis;
        for _ in 0..10_000 {
            match self.core.deadline().map(|at| at.from_boot().as_nanos().div_ceil(1_000_000) as u64) {
                Some(at) if at <= millis => {
                    self.now = self.now.max(at);
                    self.tell(ElectionEvent::Tick);
                }
                _ => {
                    self.now = millis;
                    return;
                }
            }
        }
        panic!("the deadline {:?} doesn't move", self.core.deadline());
    }

    /// Time goes on, and the store confirms each renewal at once.
    pub fn until_renewing(&mut self, millis: u64) {
        while self.now < 100_000 + millis {
            let step = (self.now - 100_000 + 100).min(millis);
            self.until(step);
            if self.heard.iter().any(|heard| heard.starts_with("renew")) {
                self.heard.retain(|heard| !heard.starts_with("renew"));
                self.renewed(Renewal::Alive(held("me", 1, 7)));
                self.heard.retain(|heard| !heard.starts_with("guard"));
            }
        }
    }

    /// The agent doesn't run until then; its deadlines pass.
    pub fn sleeps_until(&mut self, millis: u64) {
        self.now = 100_000 + millis;
    }

    /// How long it has been since the start.
    pub fn millis(&self) -> u64 {
        self.now - 100_000
    }

    pub fn last_ask(&self) -> RequestId {
        self.last_ask
    }

    pub fn heard(&mut self) -> Vec<String> {
        std::mem::take(&mut self.heard)
    }

    #[track_caller]
    pub fn expect(&mut self, orders: &[&str]) {
        assert_eq!(self.heard(), orders, "at {} ms", self.now - 100_000);
    }

    fn hear(&mut self, order: ElectionEffect) {
        let from_start = |at: Time| at.from_boot().as_millis().saturating_sub(100_000);
        let words = match order {
            ElectionEffect::Store(StoreRequest::OpenSession { ask }) => {
                self.last_ask = ask;
                "open".to_owned()
            }
            ElectionEffect::Store(StoreRequest::CloseSession { session }) => format!("close {}", session.0),
            ElectionEffect::Store(StoreRequest::EndFormerLife { session }) => format!("end former life {}", session.0),
            ElectionEffect::Store(StoreRequest::Look { ask }) => {
                self.last_ask = ask;
                "look".to_owned()
            }
            ElectionEffect::Store(StoreRequest::Acquire { ask, session, hold_off_left, .. }) => {
                self.last_ask = ask;
                match hold_off_left.is_zero() {
                    true => format!("acquire by {}", session.0),
                    false => format!("acquire by {} owing {}", session.0, hold_off_left.as_millis()),
                }
            }
            ElectionEffect::Store(StoreRequest::AcceptLoss { session }) => format!("accept loss by {}", session.0),
            ElectionEffect::Store(StoreRequest::Renew { ask, session, .. }) => {
                self.last_ask = ask;
                format!("renew {}", session.0)
            }
            ElectionEffect::Store(StoreRequest::Release { ask, term, to, hold_off_left, .. }) => {
                self.last_ask = ask;
                let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
                let hold_off_left = if hold_off_left.is_zero() {
                    String::new()
                } else {
                    format!(" owing {}", hold_off_left.as_millis())
                };
                format!("release {}{to}{hold_off_left}", term.0)
            }
            ElectionEffect::Store(StoreRequest::AwaitEnd { witness }) => format!("await the end of {}", witness.file),
            ElectionEffect::Store(StoreRequest::Certify { ask, witness, term, gone_for, .. }) => {
                self.last_ask = ask;
                format!("certify the end of {}, term {}, gone for {}", witness.file, term.0, gone_for.as_millis())
            }
            ElectionEffect::MeasureRank { ask } => {
                self.measures = ask;
                "measure".to_owned()
            }
            ElectionEffect::Store(StoreRequest::PublishRank { ask, term, answer, stands }) => {
                self.publishes = ask;
                let stands = if stands { "" } else { ", not standing" };
                match answer {
                    Answer::Measuring => format!("publish measuring for {}{stands}", term.0),
                    Answer::Failed => format!("publish no rank for {}{stands}", term.0),
                    Answer::Known(rank) => format!("publish rank {rank} for {}{stands}", term.0),
                }
            }
            ElectionEffect::Store(StoreRequest::ReadRanks { ask }) => {
                self.reads_ranks = ask;
                "read ranks".to_owned()
            }
            ElectionEffect::Guard { deadline: Some(Time::NEVER) } => "guard while it lives".to_owned(),
            ElectionEffect::Guard { deadline: Some(at) } => format!("guard {}", from_start(at)),
            ElectionEffect::Guard { deadline: None } => "guard off".to_owned(),
            ElectionEffect::Promote { term } => format!("promote {}", term.0),
            ElectionEffect::Demote { why, by } => {
                let by = by.map_or("ever".to_owned(), |by| from_start(by).to_string());
                format!("demote by {by}: {why}")
            }
            ElectionEffect::Kill { .. } => "kill".to_owned(),
            ElectionEffect::Leader(_) => return,
            ElectionEffect::Say(notice) => {
                self.said.push(notice);
                return;
            }
        };
        self.heard.push(words);
    }
}

/// A key that never was.
pub fn free() -> View {
    View { at: 1, lock: Lock::Free { version: Revision(0), taken_from: None }, last: None, last_revision: Revision(0) }
}

/// Held by this candidate, by this session, for this term.
pub fn held(id: &str, session: u128, term: u64) -> View {
    let (session, term) = (SessionId(session), Term(term));
    View {
        at: term.0,
        lock: Lock::Held(Holder {
            id: id.into(),
            session,
            term,
            address: None,
            owes: Some(Duration::ZERO),
            witness: None,
        }),
        last: Some(last(id, session.0, term.0)),
        last_revision: Revision(term.0),
    }
}

/// The record of one that led and didn't say goodbye.
pub fn last(id: &str, session: u128, term: u64) -> Last {
    Last {
        id: id.into(),
        session: SessionId(session),
        term: Term(term),
        guarantee: LEASE,
        released: false,
        to: None,
        ended: false,
        hold_off_left: Duration::ZERO,
    }
}

/// Free after that one led; the key isn't there.
pub fn after(last: Last) -> View {
    let last_revision = Revision(last.term.0);
    View {
        at: last.term.0 + 1,
        lock: Lock::Free { version: Revision(0), taken_from: None },
        last: Some(last),
        last_revision,
    }
}
