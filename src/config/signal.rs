//! A signal as a config file names it: `TERM`, `SIGTERM`, `15` or `RTMIN+1`.

use std::fmt;
use std::str::FromStr;

/// A signal number of this kernel, 1 to 64 (signal(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

/// The text names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no signal is called `{0}`")]
pub struct UnknownSignal(String);

// x86-64 and aarch64 share these numbers; MIPS, SPARC and Alpha don't, and aren't built for.
const NAMES: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The first real-time signal users may name. glibc keeps 32 and 33 for its threads, so its `SIGRTMIN` is 34.
const RTMIN: i32 = 34;
/// The last signal.
const RTMAX: i32 = 64;

impl Signal {
    /// Hangup.
    pub const HUP: Signal = Signal(1);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(2);
    /// Quit from the keyboard.
    pub const QUIT: Signal = Signal(3);
    /// Kill: can't be caught.
    pub const KILL: Signal = Signal(9);
    /// The user's first.
    pub const USR1: Signal = Signal(10);
    /// The user's second.
    pub const USR2: Signal = Signal(12);
    /// Terminate.
    pub const TERM: Signal = Signal(15);
    /// A child changed.
    pub const CHLD: Signal = Signal(17);
    /// Go on.
    pub const CONT: Signal = Signal(18);
    /// Stop: can't be caught.
    pub const STOP: Signal = Signal(19);
    /// Stop from the keyboard.
    pub const TSTP: Signal = Signal(20);
    /// A read from a terminal's background.
    pub const TTIN: Signal = Signal(21);
    /// A write from a terminal's background.
    pub const TTOU: Signal = Signal(22);
    /// The window's size changed.
    pub const WINCH: Signal = Signal(28);

    /// The signal with this number, if there is one.
    pub fn new(number: i32) -> Option<Signal> {
        (1..=RTMAX).contains(&number).then_some(Signal(number))
    }

    /// Its number.
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether a process that does nothing about it is ended by it (signal(7), column "Action": Term and Core).
    pub fn terminates_by_default(self) -> bool {
        const IGN_STOP_CONT: [i32; 8] = [17, 18, 19, 20, 21, 22, 23, 28];
        !IGN_STOP_CONT.contains(&self.0)
    }

    /// Every signal there is.
    pub fn all() -> impl Iterator<Item = Signal> {
        (1..=RTMAX).map(Signal)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None if self.0 == RTMIN => write!(f, "SIGRTMIN"),
            None if self.0 > RTMIN => write!(f, "SIGRTMIN+{}", self.0 - RTMIN),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl serde::Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    fn from_str(text: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(text.to_owned());
        let upper = text.trim().to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Ok(Signal(*number));
        }
        let offset = |rest: &str| if rest.is_empty() { Ok(0) } else { rest[1..].parse::<i32>().map_err(|_| unknown()) };
        let number = if let Some(rest) = name.strip_prefix("RTMIN").filter(|r| r.is_empty() || r.starts_with('+')) {
            RTMIN.checked_add(offset(rest)?)
        } else if let Some(rest) = name.strip_prefix("RTMAX").filter(|r| r.is_empty() || r.starts_with('-')) {
            RTMAX.checked_sub(offset(rest)?)
        } else {
            name.parse().ok()
        };
        let named = name.starts_with("RT");
        number.filter(|n| !named || *n >= RTMIN).and_then(Signal::new).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_each_of_its_names() {
        for text in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(text.parse(), Ok(Signal::TERM), "{text}");
        }
        assert_eq!("RTMIN+1".parse::<Signal>().unwrap().number(), 35);
        assert_eq!("SIGRTMAX-1".parse::<Signal>().unwrap().number(), 63);
    }

    #[test]
    fn what_names_no_signal_is_refused() {
        for text in ["", "SIG", "TERMINATE", "0", "65", "-1", "RTMIN-1", "RTMIN+31", "RTMAX-31", "RTMAX+1", "RTMIN+"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_signal_reads_back_what_it_prints() {
        for signal in Signal::all().filter(|s| !(32..34).contains(&s.number())) {
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
    }
}
