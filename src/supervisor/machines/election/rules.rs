//! The rules that keep two from leading, each by name, so that a test can break one and show which promise falls. In
//! the product every rule holds, and asking costs nothing.

/// A rule of the election's core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A lease counts from before its request was sent: the store may have begun to count at any moment since.
    CountFromSending,
    /// A renewal counts only when the key was read afterwards and still showed our session and our term: a store may
    /// renew a session or lease that holds nothing any more.
    CountVerifiedOnly,
    /// A guarantee too short for a renewal, two lost requests, the demotion and the kill margin is refused.
    RefuseShortLease,
    /// A guarantee is taken one per cent short: clocks drift.
    AllowForDrift,
    /// Leadership known to be lost ends at once.
    LostIsLost,
    /// A store that says there is no such session is asked for the lock before that is believed: one that was just
    /// restarted says so of sessions it has yet to replay.
    LookBeforeLosing,
    /// A store that fails to answer has taken nothing away: the leader goes on until its lease says otherwise.
    UnknownIsNotLost,
    /// An acquire with an unknown outcome is read back before anything else is tried.
    ReadBack,
    /// A session whose acquire may still be under way is never used again: the store drops what comes with it late.
    AbandonUnknown,
    /// Only what was seen free is acquired, and only if nothing changed since: a store's hold-off is checked before
    /// the write and not in it, so an acquire under way when a lock falls free would take it at once. The core can't break
    /// it, as no `Acquire` can be written without; the model does, on the way to the store.
    AcquireWhatWasSeen,
    /// Only one's own term is released: a release that comes twice, or late, must not free a newer term. Broken like the one
    /// before.
    ReleaseOwnTerm,
    /// A session serves one term.
    OneTermPerSession,
    /// A winner waits for as long as its predecessor may act, from when it saw the lock free itself.
    HoldOff,
    /// It waits itself though the store took the lock and holds everyone back: a lock freed by hand whose session ends
    /// later is held back for nobody, a server that was restarted forgets that it does, or decides by what it has yet
    /// to replay.
    WaitOneself,
    /// A lock read before `last` was written says nothing of who wrote it: a vacancy begun by such a view would be older
    /// than the leadership it is to follow.
    WholeViews,
    /// What a record says is owed is believed up to what an honest one could say: nobody may bind all who come after.
    BoundDebts,
    /// Who gives the lock back before the one before it can act no more says how long that is still: the next one waits it.
    PassDebtsOn,
    /// A leader is told to step down while there is time to do it in peace.
    DemoteBeforeKill,
    /// What still acts at the hard deadline is killed.
    KillAtDeadline,
    /// The guard knows the deadline before anyone acts.
    GuardBeforeActing,
    /// Without a guard no renewal counts.
    NoLeaseWithoutGuard,
    /// A deadline that has passed is not taken back by an answer that comes after it.
    DeadlineBeforeAnswers,
    /// The lock is released only when nothing acts any more.
    ReleaseAfterDemotion,
    /// Renewals go on until the release: a demotion must not be cut short by a lease nobody cared for.
    RenewUntilRelease,
    /// What was read before what is known already says nothing: views come from a watch, from reads and from renewals,
    /// in any order.
    NewestCounts,
    /// A read without an answer is asked for again: a watch tells changes only, and nothing may ever change.
    AskUntilAnswered,
    /// Who no longer stands when its acquire is answered gives the lock back.
    StandToLead,
    /// Only the kernel certifies an end: no silence, no refused connection and no expired check is one.
    KernelCertifies,
    /// A certificate is for whoever holds the lock by the file that is locked no more, and for nobody who came after, or
    /// whose file is another.
    CertifyNoOther,
    /// Where a quorum of ranks is asked for, nobody is promoted who doesn't know so many, its own among them, or knows of a
    /// higher one: of a write acknowledged by all but a quorum less one, one of them has it.
    KnowEnough,
    /// A rank is measured when who led before can act no more: until then its replicas receive.
    RankAfterHoldOff,
    /// A rank counts for the term it was measured for, and for none after it.
    RanksOfThisTerm,
    /// Terms grow: where one doesn't, the store was restored or wiped, and nobody leads until a person says so.
    TermsGrow,
}

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules {
    #[cfg(test)]
    broken: u64,
}

impl Rules {
    /// Whether a rule holds: always.
    #[cfg(not(test))]
    pub const fn hold(self, _rule: Rule) -> bool {
        true
    }

    /// Whether a rule holds.
    #[cfg(test)]
    pub const fn hold(self, rule: Rule) -> bool {
        self.broken & (1 << rule as u64) == 0
    }

    /// The rules without some.
    #[cfg(test)]
    pub fn without(rules: &[Rule]) -> Rules {
        Rules { broken: rules.iter().fold(0, |broken, rule| broken | 1 << *rule as u64) }
    }
}
