//! Called by another init's name it takes that one's options and variables, and does what that one does. It never looks
//! for a config then. What each of them means was read in their sources: tini 0.19, dumb-init 1.2.5, catatonit 0.2.

mod getopt;

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::file;
use crate::config::{Config, FailedStart, Level, Manner, Signal, SignalScope};
use crate::logging;
use crate::process;
use crate::process::signals::Inherited;
use getopt::{Found, Options};

/// What docker and scripts look for is `tini version`; the number is that of the tini whose options these are. `docker
/// info` shows what follows `git.`.
const TINI_VERSION: &str = concat!("tini version 0.19.0_pilotfish-", env!("CARGO_PKG_VERSION"), " - git.pilotfish\n");
const DUMB_INIT_VERSION: &str = concat!("dumb-init v1.2.5 (pilotfish ", env!("CARGO_PKG_VERSION"), ")\n");
const LICENSE: &str = "pilotfish: MIT or Apache-2.0, as you like (see LICENSE)\n";

const TINI_HELP: &str = "\
usage: tini [-s] [-p SIGNAL] [-v] [-w] [-g] [-e CODE] [--] PROGRAM [ARGS]...
       tini -h | -l | --version

  -s         adopt orphans although this isn't PID 1 (or TINI_SUBREAPER is set)
  -p SIGNAL  get, and pass on, this signal when the parent ends
  -v         say more, up to three times (or TINI_VERBOSITY=0 to 4)
  -w         say which orphans are reaped
  -g         signals go to the program's process group (or TINI_KILL_PROCESS_GROUP is set)
  -e CODE    end with 0 in place of CODE; may be given several times
  -l         print the license

This is pilotfish by the name of tini.
";
const DUMB_INIT_HELP: &str = "\
usage: dumb-init [-c] [-r S:R]... [-v] [--] PROGRAM [ARGS]...
       dumb-init -h | -V

  -c, --single-child  signals go to the program alone, which gets no session of its own (or DUMB_INIT_SETSID=0)
  -r, --rewrite S:R   signal R in place of S; 0 for none; may be given several times
  -v, --verbose       say more (or DUMB_INIT_DEBUG=1)
  -V, --version       print the version
  -h, --help          print this

This is pilotfish by the name of dumb-init.
";
const CATATONIT_HELP: &str = "\
usage: catatonit [-g] [--] PROGRAM [ARGS]...
       catatonit -P | -h | -L | -V

  -g             signals go to the program's process group
  -P             run nothing, reap, and end at TERM or INT
  -L             print the license
  -V, --version  print the version

This is pilotfish by the name of catatonit.
";

/// Another init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persona {
    Tini,
    DumbInit,
    Catatonit,
}

/// What its command line asks for.
#[derive(Debug, PartialEq)]
pub enum Asked {
    /// Be an init by this config. `as_new`: main finds no signal blocked or ignored.
    Run { config: Box<Config>, as_new: bool },
    /// Run nothing, and reap.
    Pause,
    /// Print this, and end well.
    Tell(&'static str),
    /// It makes no sense.
    Refuse(String),
}

impl Persona {
    /// Who is called by this name.
    pub fn of(name: &OsStr) -> Option<Persona> {
        match Path::new(name).file_name()?.to_str()? {
            "tini" | "tini-static" | "docker-init" => Some(Persona::Tini),
            "dumb-init" => Some(Persona::DumbInit),
            // podman mounts it as the second.
            "catatonit" | "podman-init" => Some(Persona::Catatonit),
            _ => None,
        }
    }

    /// Does what the command line says; the exit code.
    #[inline(never)]
    pub fn run(self, args: &[OsString], inherited: Inherited) -> u8 {
        match self.asked(args, |name| env::var_os(name)) {
            Asked::Run { config, as_new } => {
                logging::init(&config.log);
                if self == Persona::Tini && !config.process.manner.subreaper && !process::adopts_orphans() {
                    tracing::warn!(
                        event = "degraded",
                        "this is neither PID 1 nor a subreaper, so zombie reaping won't work: use -s, or set TINI_SUBREAPER"
                    );
                }
                super::run_plain(*config, if as_new { inherited.as_new() } else { inherited })
            }
            Asked::Pause => process::pause(),
            // dumb-init's go to stderr.
            Asked::Tell(text) if self == Persona::DumbInit => {
                logging::last_words(text);
                0
            }
            Asked::Tell(text) => file::print(text),
            Asked::Refuse(text) => {
                logging::last_words(&text);
                1
            }
        }
    }

    /// What the command line and these variables ask for. `args` begin with the name.
    #[inline(never)]
    fn asked(self, args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Asked {
        match self {
            Persona::Tini => tini(args, variable),
            Persona::DumbInit => dumb_init(args, variable),
            Persona::Catatonit => catatonit(args, variable),
        }
    }
}

fn tini(args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Asked {
    if args.len() == 2 && args[1] == "--version" {
        return Asked::Tell(TINI_VERSION);
    }
    let mut config = plain(FailedStart::AsTini);
    let process = &mut config.process;
    process.manner.subreaper = false;
    let mut verbosity = 1;
    let mut options = Options::new(args, "p:hvwgle:s", &[]);
    while let Some(found) = options.next() {
        match found {
            Found::Option('h', _) => return Asked::Tell(TINI_HELP),
            Found::Option('l', _) => return Asked::Tell(LICENSE),
            Found::Option('s', _) => process.manner.subreaper = true,
            Found::Option('v', _) => verbosity += 1,
            Found::Option('w', _) => process.manner.tells_reaped = true,
            Found::Option('g', _) => process.signal_scope = SignalScope::Group,
            Found::Option('p', value) => match value.to_str().and_then(|name| name.parse().ok()) {
                Some(signal) => process.parent_death = Some(signal),
                None => return Asked::Refuse(format!("tini: -p {}: no such signal\n", value.display())),
            },
            Found::Option('e', value) => match exit_code(&value) {
                Some(code) => {
                    process.exit_codes.insert(code, 0);
                }
                None => return Asked::Refuse(format!("tini: -e {}: no exit code\n", value.display())),
            },
            Found::Option(..) => {}
            Found::Mistake(text) => return Asked::Refuse(format!("{text}\n{TINI_HELP}")),
        }
    }
    process.manner.subreaper |= variable("TINI_SUBREAPER").is_some();
    if variable("TINI_KILL_PROCESS_GROUP").is_some() {
        process.signal_scope = SignalScope::Group;
    }
    if let Some(level) = variable("TINI_VERBOSITY") {
        verbosity = number(level.as_bytes()).map_or(0, |(level, _)| level);
    }
    config.log.level = match verbosity {
        ..=0 => Level::Error,
        1 => Level::Warn,
        2 => Level::Info,
        3 => Level::Debug,
        4.. => Level::Trace,
    };
    let posix = variable("POSIXLY_CORRECT").is_some();
    run(config, options.rest(), !posix, false, TINI_HELP)
}

fn dumb_init(args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Asked {
    const LONG: [(&str, char); 5] =
        [("help", 'h'), ("single-child", 'c'), ("rewrite", 'r'), ("verbose", 'v'), ("version", 'V')];
    const JOB: [Signal; 3] = [Signal::TSTP, Signal::TTIN, Signal::TTOU];
    let name = args.first().map_or("dumb-init".into(), |name| name.to_string_lossy());
    let mut config = plain(FailedStart::Always(2));
    let process = &mut config.process;
    let (mut session, mut verbose) = (true, false);
    let mut options = Options::new(args, "hvVcr:", &LONG);
    while let Some(found) = options.next() {
        match found {
            Found::Option('h', _) => return Asked::Tell(DUMB_INIT_HELP),
            Found::Option('V', _) => return Asked::Tell(DUMB_INIT_VERSION),
            Found::Option('v', _) => verbose = true,
            Found::Option('c', _) => session = false,
            Found::Option('r', value) => match rewrite(value.as_bytes()) {
                Some((from, to)) => {
                    process.rewrite_signals.insert(from, to);
                }
                None => {
                    return Asked::Refuse(
                        "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.\n\
                         This option can be specified multiple times.\nUse --help for full usage.\n"
                            .to_owned(),
                    );
                }
            },
            Found::Option(..) => {}
            Found::Mistake(text) => return Asked::Refuse(format!("{text}\n")),
        }
    }
    verbose |= variable("DUMB_INIT_DEBUG").is_some_and(|debug| debug == "1");
    session &= variable("DUMB_INIT_SETSID").is_none_or(|setsid| setsid != "0");
    process.manner = Manner {
        subreaper: false,
        session,
        stops_with_main: true,
        passes_faults: true,
        // Of one process alone nobody is left.
        last_word: session.then_some(Signal::TERM),
        ..process.manner.clone()
    };
    if session {
        process.signal_scope = SignalScope::Group;
        for signal in JOB {
            // In a session of its own nobody's TSTP would stop it (setpgid(2), orphaned groups).
            process.rewrite_signals.entry(signal).or_insert(Some(Signal::STOP));
        }
    }
    config.log.level = if verbose { Level::Debug } else { Level::Warn };
    let usage = format!("Usage: {name} [option] program [args]\nTry {name} --help for full usage.\n");
    run(config, options.rest(), false, true, &usage)
}

fn catatonit(args: &[OsString], variable: impl Fn(&str) -> Option<OsString>) -> Asked {
    let mut config = plain(FailedStart::Always(1));
    let mut pause = false;
    let mut options = Options::new(args, "ghLPV", &[("version", 'V')]);
    while let Some(found) = options.next() {
        match found {
            Found::Option('h', _) => return Asked::Tell(CATATONIT_HELP),
            Found::Option('L', _) => return Asked::Tell(LICENSE),
            Found::Option('V', _) => return Asked::Tell(TINI_VERSION),
            Found::Option('g', _) => config.process.signal_scope = SignalScope::Group,
            Found::Option('P', _) => pause = true,
            Found::Option(..) => {}
            Found::Mistake(text) => return Asked::Refuse(format!("{text}\n{CATATONIT_HELP}")),
        }
    }
    config.log.level = if variable("CATATONIT_DEBUG").is_some() { Level::Debug } else { Level::Error };
    if pause {
        return Asked::Pause;
    }
    let posix = variable("POSIXLY_CORRECT").is_some();
    run(config, options.rest(), !posix, false, CATATONIT_HELP)
}

fn plain(failed_start: FailedStart) -> Config {
    let mut config = Config::plain(Vec::new());
    config.process.manner.failed_start = failed_start;
    config
}

/// With what is left as the command. glibc's getopt, which moves options before arguments, takes the `--` out of
/// `tini PROGRAM -- ARGS`, and that form is in tini's usage.
fn run(mut config: Config, command: &[OsString], permuted: bool, as_new: bool, usage: &str) -> Asked {
    if command.is_empty() {
        return Asked::Refuse(usage.to_owned());
    }
    let mut command = command.to_vec();
    if permuted && command.len() > 1 && command[1] == "--" {
        command.remove(1);
    }
    config.process.exec = command;
    Asked::Run { config: Box::new(config), as_new }
}

/// strtol(3)'s: white space, a sign, digits; and what follows them.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        digits => (false, digits),
    };
    let count = digits.iter().take_while(|digit| digit.is_ascii_digit()).count();
    let value: i64 = std::str::from_utf8(&digits[..count]).ok().filter(|digits| !digits.is_empty())?.parse().ok()?;
    Some((if negative { -value } else { value }, &digits[count..]))
}

fn exit_code(text: &OsStr) -> Option<u8> {
    match number(text.as_bytes()) {
        Some((code, [])) => u8::try_from(code).ok(),
        _ => None,
    }
}

/// sscanf(3)'s `%d:%d`, from 1 or 0 to 31.
fn rewrite(text: &[u8]) -> Option<(Signal, Option<Signal>)> {
    let (from, rest) = number(text)?;
    let (to, _) = number(rest.strip_prefix(b":")?)?;
    let signal = |number: i64| i32::try_from(number).ok().filter(|number| *number <= 31).and_then(Signal::new);
    let to = if to == 0 { None } else { Some(signal(to)?) };
    Some((signal(from)?, to))
}

#[cfg(test)]
mod tests;
