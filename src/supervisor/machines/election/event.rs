//! What can happen to an election and what it wants done. Every request that is answered carries a [`RequestId`], and its
//! answer names it, so that a late answer is told from one that is waited for.

use std::time::Duration;

pub use super::record::Id;
pub use crate::config::election::Pace;
use serde::Serialize;

use crate::supervisor::vocabulary::{Notice, Time};

use super::demotion::DemotionReason;
use super::record::{Answer, Guarantee, Holder, PeerRank, Rank, Revision, SessionId, Term, View, Witness};

/// One question to the store; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct RequestId(pub u64);

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum ElectionEvent {
    /// Time has passed.
    Tick,
    /// Answers [`StoreRequest::OpenSession`].
    Opened {
        /// Which question.
        ask: RequestId,
        /// The session, what the store promises of it, and what the store had come to when it was opened, zero where a view
        /// tells; or why there is none.
        result: Result<(SessionId, Guarantee, Revision), String>,
    },
    /// Answers [`StoreRequest::Look`]: a consistent read.
    Looked {
        /// Which question.
        ask: RequestId,
        /// What it showed; or why nothing could be read.
        result: Result<View, String>,
    },
    /// Whether another container in this network namespace has this candidate's id. Told before the first view.
    IdShared {
        /// It has, and lives.
        shared: bool,
    },
    /// The watch on the key shows this now.
    Saw(Result<View, String>),
    /// Answers [`StoreRequest::Acquire`].
    Acquired {
        /// Which question.
        ask: RequestId,
        /// What came of it.
        result: Acquisition,
    },
    /// Answers [`StoreRequest::Renew`].
    Renewed {
        /// Which question.
        ask: RequestId,
        /// What came of it.
        result: Renewal,
    },
    /// Answers [`StoreRequest::Release`]: the key is free of our term (or had been before); or nobody knows.
    Released {
        /// Which question.
        ask: RequestId,
        /// Done, or why that isn't known.
        result: Result<(), String>,
    },
    /// Answers [`ElectionEffect::MeasureRank`].
    Measured {
        /// Which question.
        ask: RequestId,
        /// Our rank; or why there is none.
        result: Result<Rank, String>,
    },
    /// Answers [`StoreRequest::ReadRanks`].
    Ranks {
        /// Which question.
        ask: RequestId,
        /// Of the candidates that live, as far as the store knows, for whatever term.
        result: Result<Vec<PeerRank>, String>,
    },
    /// Answers [`StoreRequest::PublishRank`].
    Published {
        /// Which question.
        ask: RequestId,
        /// The others can read it; or why that isn't known.
        result: Result<(), String>,
    },
    /// Another candidate, which holds the lock for this term, acts: nobody counts ranks for it any more.
    Acts {
        /// The term.
        term: Term,
    },
    /// Answers [`StoreRequest::AwaitEnd`], should it come to that: the kernel says that nothing of this container is left.
    Gone {
        /// Whose file is locked no more.
        witness: Witness,
    },
    /// Answers [`StoreRequest::Certify`].
    Certified {
        /// Which question.
        ask: RequestId,
        /// What came of it.
        result: Certification,
    },
    /// Whether the guard stands.
    Guard {
        /// It does.
        stands: bool,
    },
    /// Promoting came to its end.
    Promoted {
        /// Done, or what failed.
        result: Result<(), String>,
    },
    /// Nothing acts any more: main is out of the role, or gone with all it left.
    OutOfRole,
    /// The container's health changed; an unhealthy one neither stands nor leads where the config says so.
    Health {
        /// Well.
        healthy: bool,
    },
    /// Whether main could be promoted at once. One that can't leaves a free lock to those who can for a while.
    Ready {
        /// It could.
        ready: bool,
    },
    /// Maintenance began or ended.
    Maintenance {
        /// It began.
        on: bool,
    },
    /// Somebody asks the leader to step down.
    StepDown {
        /// Who shall lead next; `None`: anybody else.
        to: Option<Id>,
    },
    /// What it stepped down for is done: a lock that nobody takes is left to others only for a moment more.
    StandAgain,
    /// A person says that a term lower than one seen before is right.
    AcceptTerm,
    /// A person says that a winner which knows too few ranks shall lead, whatever is lost.
    AcceptLoss,
    /// The container stops.
    Stop,
}

/// What came of trying to acquire.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Acquisition {
    /// The lock is ours.
    Won(Term),
    /// The key isn't any more what it was seen to be.
    Changed,
    /// The store holds everyone back for a while.
    HeldBack,
    /// It may or may not be ours.
    Unknown(String),
}

/// What came of trying to free the lock of a container that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Certification {
    /// The lock is free, and `last` says that it was released.
    Done,
    /// It is held by another one, or for another term, or not at all.
    Changed,
    /// Main may have let go of the file before its end: it is to be gone for so long first.
    Lingers(Duration),
    /// It may or may not be free.
    Unknown(String),
}

/// What came of a renewal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Renewal {
    /// The store says that the session lives; this is the key, read after that.
    Alive(View),
    /// The session is no more.
    Gone {
        /// The lock shows it, and others may act already. Otherwise the store says so, and the lock wasn't looked at.
        void: bool,
    },
    /// It may or may not be alive.
    Unknown(String),
}

/// A request to the store, or to the kernel of this host, which knows the end of a container.
#[derive(Debug, Clone, PartialEq)]
pub enum StoreRequest {
    /// Open a session, to hold the lock by.
    OpenSession {
        /// To name in the answer.
        ask: RequestId,
    },
    /// Close a session, whatever it holds. Not answered.
    CloseSession {
        /// Which.
        session: SessionId,
    },
    /// The lock is held under our name by a session that isn't ours: of the container's life before. End it where the
    /// store withholds the lock from everyone from then on, so that two lives under one name by mistake are no harm;
    /// elsewhere its time does. Not answered.
    EndFormerLife {
        /// Which.
        session: SessionId,
    },
    /// Read lock and last, consistently.
    Look {
        /// To name in the answer.
        ask: RequestId,
    },
    /// Take the lock and write `last`, in one transaction, only if both are as they were seen.
    Acquire {
        /// To name in the answer.
        ask: RequestId,
        /// By which session.
        session: SessionId,
        /// What the store promised of it; it is written into `last`.
        guarantee: Guarantee,
        /// As which the lock and `last` were seen.
        seen: (Revision, Revision),
        /// How long one who led before may still act; it is written into `last`, for who comes after us, and into the lock,
        /// for peers that measure their ranks then ([`Holder::owes`]).
        hold_off_left: Duration,
    },
    /// From now on `last` says of this session's term that a person had it lead, whatever was lost by it: its next renewal
    /// writes that, and its release does. Not answered.
    AcceptLoss {
        /// By which session the lock is held.
        session: SessionId,
    },
    /// Renew the session, then read the key.
    Renew {
        /// To name in the answer.
        ask: RequestId,
        /// Which.
        session: SessionId,
        /// The term it holds the lock for.
        term: Term,
    },
    /// Free the lock and say so in `last`, in one transaction, if this term holds it.
    Release {
        /// To name in the answer.
        ask: RequestId,
        /// By which session it is held.
        session: SessionId,
        /// Which term.
        term: Term,
        /// Who shall lead next.
        to: Option<Id>,
        /// How long one who led before us may still act.
        hold_off_left: Duration,
    },
    /// Tell when nothing is left of the container that holds the lock, if this host's kernel is the one that knows.
    AwaitEnd {
        /// Its file.
        witness: Witness,
    },
    /// The container that held the lock is gone, the kernel says: free it and say in `last` that it was released, in one
    /// transaction, if this term still holds it.
    Certify {
        /// To name in the answer.
        ask: RequestId,
        /// Whose file is locked no more.
        witness: Witness,
        /// By which session it held the lock.
        session: SessionId,
        /// For which term.
        term: Term,
        /// For how long it has been gone.
        gone_for: Duration,
    },
    /// Let the others know our rank.
    PublishRank {
        /// To name in the answer.
        ask: RequestId,
        /// The term it was measured for.
        term: Term,
        /// How far we are.
        answer: Answer,
        /// Whether we would take the lock.
        stands: bool,
    },
    /// Read what candidates published.
    ReadRanks {
        /// To name in the answer.
        ask: RequestId,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum ElectionEffect {
    /// Ask the store.
    Store(StoreRequest),
    /// Ask for our rank.
    MeasureRank {
        /// To name in the answer.
        ask: RequestId,
    },
    /// The guard kills at this time; `None`: never.
    Guard {
        /// When.
        deadline: Option<Time>,
    },
    /// Act as leader from now on.
    Promote {
        /// The term, which is the fencing token.
        term: Term,
    },
    /// Stop acting, in peace until `by`.
    Demote {
        /// Why.
        why: DemotionReason,
        /// What still acts then is killed; `None`: there is no such time.
        by: Option<Time>,
    },
    /// SIGKILL to main and all it left, now.
    Kill {
        /// Why.
        why: DemotionReason,
    },
    /// Who holds the lock has changed; it may be this candidate itself, which needn't act yet.
    Leader(Option<Holder>),
    /// Tell people.
    Say(Notice),
}
