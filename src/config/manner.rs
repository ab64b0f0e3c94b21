//! What a plain init does otherwise than others, for it was called by another one's name. A config file knows none of it.

use super::Signal;

/// How a plain init behaves beyond its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manner {
    /// It says nothing of a container's normal end.
    pub silent: bool,
    /// It adopts orphans although it isn't PID 1.
    pub subreaper: bool,
    /// Main leads a session of its own, and takes the terminal with it.
    pub session: bool,
    /// It stops itself after a TSTP, TTIN or TTOU was passed on, so that a shell sees its job stopped.
    pub stops_with_main: bool,
    /// Signals of faults (SIGILL, SIGSEGV, ...) that somebody sends are passed on, too.
    pub passes_faults: bool,
    /// What is left of main's process group gets this when main has ended, as far as it isn't rewritten.
    pub last_word: Option<Signal>,
    /// Each orphan it reaps is told.
    pub tells_reaped: bool,
    /// The exit code when main can't be started.
    pub failed_start: FailedStart,
}

impl Default for Manner {
    fn default() -> Manner {
        Manner {
            silent: false,
            subreaper: true,
            session: false,
            stops_with_main: false,
            passes_faults: false,
            last_word: None,
            tells_reaped: false,
            failed_start: FailedStart::AsShells,
        }
    }
}

/// The exit code when main can't be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailedStart {
    /// 127 when there is no such program, 126 otherwise.
    AsShells,
    /// 127 for ENOENT, 126 for EACCES, 1 otherwise.
    AsTini,
    /// Always this.
    Always(u8),
}
