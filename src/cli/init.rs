//! A plain init's own options: `pilotfish --group --within 5s -- CMD`. Read by hand, for a parser isn't worth building
//! before main can run; each means what the config's key of its name does.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::config::{self, Config, Level, Signal, SignalScope, Strays, duration};

/// What `--help` says of them.
pub const HELP: &str = "\
Options of a plain init (no config), before --:
      --group            Signals go to main's process group ([process] signal_scope)
      --drain <D>        The pause between a stop signal and main's ([stop] drain)
      --within <D>       SIGKILL this long after a stop signal; what main left is ended, too ([stop] within)
      --wait-all         What main left is waited for ([process] strays = \"wait\")
      --rewrite <A=B>    Main gets B in place of A, nothing if B is empty ([process] rewrite_signals)
      --exit-code <A=B>  The container ends with B in place of A ([process] exit_codes)
      --user <USER>      Who main runs as ([process] user)
      --pdeath <SIG>     pilotfish gets this signal when its parent ends ([process] parent_death)";

/// Whether this is one of them.
pub fn is_option(argument: &OsStr) -> bool {
    let name = argument.to_str().map(|text| text.split_once('=').map_or(text, |(name, _)| name));
    matches!(
        name,
        Some("--group" | "--drain" | "--within" | "--wait-all" | "--rewrite" | "--exit-code" | "--user" | "--pdeath")
    )
}

/// The config they make, with what follows `--`. `args` are without the program's own name.
///
/// # Errors
/// What is wrong with them, for people.
pub fn read(args: &[OsString]) -> Result<Config, String> {
    let mut config = Config::plain(Vec::new());
    let mut args = args.iter();
    loop {
        let argument = args.next().ok_or("there is no command: write it after --")?;
        if argument == "--" {
            break;
        }
        let text = argument.to_str().unwrap_or_default();
        let (name, inline) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if !is_option(argument) {
            return Err(format!("`{}` isn't an option of a plain init; its command follows --", argument.display()));
        }
        if matches!(name, "--group" | "--wait-all") && inline.is_some() {
            return Err(format!("{name} takes no value"));
        }
        let mut value = || -> Result<&str, String> {
            let next = || args.next().filter(|value| value.as_bytes() != b"--")?.to_str();
            match inline.or_else(next) {
                None => Err("it needs a value".to_owned()),
                // `--user "$APP_USER"` where that isn't set: taken for "leave it as it is", main would run as root.
                Some("") => Err("its value is empty".to_owned()),
                Some(value) => Ok(value),
            }
        };
        set(&mut config, name, &mut value).map_err(|error| format!("{name}: {error}"))?;
    }
    config.process.exec = args.cloned().collect();
    if config.process.exec.is_empty() {
        return Err("there is no command after --".to_owned());
    }
    finish(&mut config)?;
    Ok(config)
}

fn set<'a>(config: &mut Config, name: &str, value: &mut impl FnMut() -> Result<&'a str, String>) -> Result<(), String> {
    match name {
        "--group" => config.process.signal_scope = SignalScope::Group,
        "--wait-all" => config.process.strays = Strays::Wait,
        "--drain" => config.stop.drain = lasting(value()?)?,
        "--within" => config.stop.within = Some(lasting(value()?)?),
        "--user" => config.process.user = Some(config::user(value()?)?),
        "--pdeath" => config.process.parent_death = Some(signal(value()?)?),
        "--exit-code" => {
            let (from, to) = pair(value()?)?;
            let code = |text: &str| text.parse::<u8>().map_err(|_| format!("`{text}` isn't an exit code (0 to 255)"));
            config.process.exit_codes.insert(code(from)?, code(to)?);
        }
        "--rewrite" => {
            let (from, to) = pair(value()?)?;
            let from = signal(from)?;
            if [Signal::KILL, Signal::STOP].contains(&from) {
                return Err(format!("{from} can't be caught"));
            }
            let to = if to.is_empty() { None } else { Some(signal(to)?) };
            config.process.rewrite_signals.insert(from, to);
        }
        _ => {}
    }
    Ok(())
}

/// What follows from them together.
fn finish(config: &mut Config) -> Result<(), String> {
    if let Some(within) = config.stop.within
        && config.stop.drain >= within
    {
        return Err("--drain takes all of --within: nothing would be left to stop main".to_owned());
    }
    if config.stop.within.is_some() || !config.stop.drain.is_zero() {
        // A signal that is dropped stops nothing.
        let dropped = |signal: &Signal| config.process.rewrite_signals.get(signal) == Some(&None);
        config.process.stop_on = [Signal::TERM, Signal::INT].into_iter().filter(|signal| !dropped(signal)).collect();
    }
    if config.stop.within.is_some() || config.process.strays == Strays::Wait {
        // Silent as tini is: that something was left, or had to be killed, is what was asked for.
        config.log.level = Level::Error;
    }
    Ok(())
}

fn lasting(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("it would be over at once".to_owned()),
        Ok(lasting) => Ok(lasting),
        Err(error) => Err(error.to_string()),
    }
}

fn pair(text: &str) -> Result<(&str, &str), String> {
    text.split_once('=').ok_or_else(|| format!("`{text}` isn't A=B"))
}

fn signal(text: &str) -> Result<Signal, String> {
    text.parse().map_err(|error: crate::config::signal::UnknownSignal| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(line: &str) -> Result<Config, String> {
        read(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn each_option_is_the_configs_key_of_its_name() {
        let line = "--group --drain 1s --within=5s --wait-all --rewrite TERM=QUIT --rewrite HUP= --exit-code 143=0 \
                    --user nobody --pdeath KILL -- cmd --group -- x";
        let config = said(line).unwrap();
        let process = &config.process;
        assert_eq!(process.exec, ["cmd", "--group", "--", "x"]);
        assert_eq!((process.signal_scope, process.strays), (SignalScope::Group, Strays::Wait));
        assert_eq!(config.stop.within, Some(Duration::from_secs(5)));
        assert_eq!(config.stop.drain, Duration::from_secs(1));
        assert_eq!(process.rewrite_signals.get(&Signal::HUP), Some(&None));
        assert_eq!(process.exit_codes.get(&143), Some(&0));
        assert_eq!(process.user.as_deref(), Some("nobody"));
        assert_eq!(process.parent_death, Some(Signal::KILL));
        assert_eq!(process.stop_on, [Signal::TERM, Signal::INT]);
    }

    #[test]
    fn without_a_bound_nothing_but_what_was_said_changes() {
        let plain = Config::plain(vec!["cmd".into()]);
        let grouped = said("--group -- cmd").unwrap();
        assert!(grouped.is_plain() && grouped.process.stop_on.is_empty());
        let process = crate::config::Process { signal_scope: SignalScope::Group, ..plain.process.clone() };
        assert_eq!(grouped, Config { process, ..plain });
    }

    #[test]
    fn no_value_is_empty_though_what_stands_in_place_of_a_signal_may_be() {
        for option in ["--drain", "--within", "--rewrite", "--exit-code", "--user", "--pdeath"] {
            for words in [&[&*format!("{option}="), "--", "cmd"][..], &[option, "", "--", "cmd"][..]] {
                let refused = read(&words.iter().map(OsString::from).collect::<Vec<_>>());
                assert_eq!(refused, Err(format!("{option}: its value is empty")), "{words:?}");
            }
        }
        for line in ["--rewrite =TERM -- cmd", "--exit-code =0 -- cmd", "--exit-code 1= -- cmd"] {
            assert!(said(line).unwrap_err().contains("``"), "{line}");
        }
        assert!(said("--rewrite TERM= -- cmd").is_ok());
    }

    #[test]
    fn a_user_is_what_the_configs_key_takes() {
        for user in [":", ":staff", "app:", "-1", "4294967295", "a b"] {
            let refused = read(&["--user", user, "--", "cmd"].map(OsString::from)).unwrap_err();
            assert!(refused.starts_with("--user: ") && refused.contains("isn't a user"), "{refused}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_option() {
        for (line, part) in [
            ("--group", "no command"),
            ("--group --", "no command"),
            ("--group cmd", "`cmd`"),
            ("--group=1 -- cmd", "no value"),
            ("--drain -- cmd", "--drain: it needs a value"),
            ("--within 5 -- cmd", "--within"),
            ("--within 0s -- cmd", "--within"),
            ("--drain 5s --within 5s -- cmd", "--drain"),
            ("--rewrite TERM -- cmd", "--rewrite"),
            ("--rewrite KILL=TERM -- cmd", "caught"),
            ("--rewrite X=TERM -- cmd", "`X`"),
            ("--exit-code 256=0 -- cmd", "`256`"),
            ("--pdeath NONE -- cmd", "--pdeath"),
        ] {
            let error = said(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
