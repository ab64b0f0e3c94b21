//! What a container owes whoever leads next, each duty by name, so that a test can break one and show which promise falls
//! (`tests/model`). In the product every duty is kept, and asking costs nothing.

/// A duty of the supervisor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// What may act no longer is killed when it is ordered, main first.
    KillMain,
    /// What main left acts as main did: the role is left when that is gone, too.
    AwaitStrays,
    /// What acts beside main for the leader is ended, with all it left, before the role is.
    AwaitHooks,
    /// What begins once main is up is of the role that main has, and ends with that.
    BindToRole,
    /// A coprocess that runs for the leader only acts as main does: it is ended before the role is.
    AwaitCoprocesses,
    /// What acts for the leader is allowed to leave nothing that lives on, once the role is being left.
    KeepNothing,
    /// For a leader whose time is over nothing is begun any more, be it to clear up after a coprocess.
    BeginNothingMore,
    /// Main runs on only in the role that it was prepared for.
    RunAsPrepared,
    /// Having led, main's data are a leader's: for a replica it is prepared anew.
    PrepareAnew,
    /// Main's end ends the role: what it leaves, and runs next, acts for no term of the past.
    LeaveWithMain,
    /// Main lives on as a replica only if `on_demote` says that it is none of the leader's.
    BelieveSuccessOnly,
    /// A leader is said to act once its promotion has succeeded, and not before.
    TellOncePromoted,
    /// Who is called the first of all leaders acts once the store says so: nobody else is called that afterwards.
    TellBeforeFirst,
    /// What is a leader's runs while this container acts as leader, and at no other time.
    RunTasksInRole,
    /// A standby's main is the leader: it is stopped, whatever `on_demote` says.
    StopStandbys,
}

/// Whether a duty is kept: always.
#[cfg(not(test))]
pub const fn keeps(_duty: Duty) -> bool {
    true
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Duty>> = const { std::cell::Cell::new(None) };
}

/// Whether a duty is kept.
#[cfg(test)]
pub fn keeps(duty: Duty) -> bool {
    BROKEN.get() != Some(duty)
}

/// From now on this thread's supervisors break a duty, or none.
#[cfg(test)]
pub fn break_only(duty: Option<Duty>) {
    BROKEN.set(duty);
}
