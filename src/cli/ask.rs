//! Subcommands that ask the running agent, through its control socket.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::{Method, StatusCode};
use nix::sys::signal::{SigSet, Signal};
use percent_encoding::{NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::file::print;
use super::table;
use crate::config::{self, Context, Source, duration};
use crate::endpoints::client::{self, ClientError, Reply};
use crate::errors;
use crate::exit_codes::FAILED;
use crate::logging;
use crate::plain;

/// Where an agent listens unless its config says otherwise.
const DEFAULT_SOCKET: &str = "/run/pilotfish.sock";
/// An agent that is well answers in milliseconds.
pub(super) const LOOK_WITHIN: Duration = Duration::from_secs(5);
/// An order is answered when it is done, for which the agent has 30 s.
pub(super) const ORDER_WITHIN: Duration = Duration::from_secs(35);
/// Encoded, it fits into the 8 KiB that the agent takes as a request's head.
const LONGEST_REASON: usize = 1000;

/// `pilotfish status`.
pub fn status(socket: Option<PathBuf>, named: Option<&Path>, json: bool) -> u8 {
    match ask(socket, named, Method::GET, "/status", LOOK_WITHIN) {
        Ok(reply) if reply.status == StatusCode::OK && json => {
            print(&format!("{}\n", plain::json(reply.body.trim_end())))
        }
        Ok(reply) if reply.status == StatusCode::OK => match serde_json::from_str(&reply.body) {
            Ok(status) => print(&table::render(&status)),
            Err(error) => fail(&format!("the agent's answer can't be read: {error}")),
        },
        Ok(reply) => fail(&reply.body),
        Err(error) => fail(&error),
    }
}

/// `pilotfish record`.
pub fn record(socket: Option<PathBuf>, named: Option<&Path>) -> u8 {
    match ask(socket, named, Method::GET, "/record", ORDER_WITHIN) {
        Ok(reply) if reply.status == StatusCode::OK => print(&plain::json(&reply.body)),
        Ok(reply) => fail(&reply.body),
        Err(error) => fail(&error),
    }
}

/// `pilotfish health`: one line why, which Docker shows in `docker inspect`.
pub fn health(socket: Option<PathBuf>, named: Option<&Path>) -> u8 {
    match ask(socket, named, Method::GET, "/healthz", LOOK_WITHIN) {
        Ok(reply) => {
            let printed = print(&format!("{}\n", plain::lines(reply.body.trim_end())));
            if reply.status == StatusCode::OK { printed } else { FAILED }
        }
        Err(error) => {
            print(&format!("{}\n", plain::lines(&error)));
            FAILED
        }
    }
}

/// `pilotfish leader`: one line, for scripts.
pub fn leader(socket: Option<PathBuf>, named: Option<&Path>) -> u8 {
    let reply = match ask(socket, named, Method::GET, "/status", LOOK_WITHIN) {
        Ok(reply) if reply.status == StatusCode::OK => reply,
        Ok(reply) => return fail(&reply.body),
        Err(error) => return fail(&error),
    };
    match serde_json::from_str::<Value>(&reply.body) {
        Ok(status) if status["election"].is_null() => fail("this container takes part in no election"),
        Ok(status) if status["election"]["leader"].is_null() => {
            let said = |key: &str| status["election"][key].as_str().filter(|said| !said.is_empty());
            let error = said("error").map(|error| format!("; {error}")).unwrap_or_default();
            fail(&format!("nobody leads, as far as is known: {}{error}", said("doing").unwrap_or_default()))
        }
        Ok(status) => {
            let leader = &status["election"]["leader"];
            // Three words, whoever named themselves.
            let word = |key: &str| leader[key].as_str().unwrap_or("-").replace(char::is_whitespace, "\\u{20}");
            let line = format!("{} {} {}", word("id"), word("address"), leader["term"]);
            if let Some(error) =
                status["election"]["error"].as_str().filter(|_| leader["id"] != status["election"]["id"])
            {
                let stale = "note: this is what the catalog last said, and may be out of date";
                logging::last_words(&format!("{stale}: {}\n", plain::line(error)));
            }
            if let Some(note) = not_acting(&status) {
                logging::last_words(&format!("note: {}\n", plain::line(&note)));
            }
            print(&format!("{}\n", plain::line(&line)))
        }
        Err(error) => fail(&format!("the agent's answer can't be read: {error}")),
    }
}

/// That the holder of the lock doesn't act as leader, if so. An agent of a version that didn't tell says nothing.
fn not_acting(status: &Value) -> Option<String> {
    let (election, leader) = (&status["election"], &status["election"]["leader"]);
    let own = leader["id"] == election["id"];
    let doing = election["doing"].as_str().filter(|_| own).map(|doing| format!(": {doing}")).unwrap_or_default();
    (leader["acts"] == false).then(|| format!("it holds the lock and isn't acting as leader yet{doing}"))
}

/// `pilotfish maintenance on`.
pub fn maintenance(socket: Option<PathBuf>, named: Option<&Path>, lasts: Option<Duration>, reason: Option<&str>) -> u8 {
    let lasts = lasts.map(|lasts| format!("for={}", encoded(&duration::print(lasts))));
    let reason = reason.map(|reason| format!("reason={}", encoded(reason)));
    let query = lasts.into_iter().chain(reason).collect::<Vec<_>>().join("&");
    order(socket, named, &format!("/maintenance/on?{query}"))
}

/// `pilotfish restart` and `pilotfish signal`.
pub fn of_process(
    socket: Option<PathBuf>,
    named: Option<&Path>,
    path: &str,
    name: Option<&str>,
    parameters: &[(&str, &str)],
) -> u8 {
    let name = name.map(|name| ("name", name));
    let pairs = parameters.iter().copied().chain(name).map(|(key, value)| format!("{key}={}", encoded(value)));
    order(socket, named, &format!("{path}?{}", pairs.collect::<Vec<_>>().join("&")))
}

/// How long maintenance lasts, as `--for` has it.
pub fn lasting(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err("it would be over at once".to_owned()),
        Ok(lasting) => Ok(lasting),
        Err(error) => {
            // Hints are written for files, where values stand in quotes.
            let hint = error.hint().map(|hint| format!("; {}", hint.replace('"', ""))).unwrap_or_default();
            Err(format!("{error}{hint}"))
        }
    }
}

/// A reason, as `--reason` has it: it travels in a request's first line, and is shown in one.
pub fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        text if text.len() > LONGEST_REASON => Err(format!("it is longer than {LONGEST_REASON} bytes")),
        text if text.contains(plain::acts) => Err("it must be one line".to_owned()),
        text => Ok(text.to_owned()),
    }
}

pub(super) fn encoded(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

/// `pilotfish reload`, `pilotfish stop` and other orders.
pub fn order(socket: Option<PathBuf>, named: Option<&Path>, path: &str) -> u8 {
    match ask(socket, named, Method::POST, path, ORDER_WITHIN) {
        Ok(reply) if reply.status == StatusCode::OK => print(&format!("{}\n", plain::lines(reply.body.trim_end()))),
        Ok(reply) => fail(&reply.body),
        Err(error) => fail(&error),
    }
}

pub(super) fn ask(
    socket: Option<PathBuf>,
    named: Option<&Path>,
    method: Method,
    path: &str,
    within: Duration,
) -> Result<Reply, String> {
    let (socket, doubt) = find(socket, named)?;
    let runtime = runtime().map_err(|error| format!("can't ask: {error}"))?;
    runtime.block_on(client::ask(&socket, method, path, within)).map_err(|error| explain(&error, doubt))
}

/// The agent's control socket, and why it may be another one. The file may have been changed since the agent read it: the
/// container's init is asked where it listens.
pub(super) fn find(socket: Option<PathBuf>, named: Option<&Path>) -> Result<(PathBuf, Option<String>), String> {
    if let Some(socket) = socket {
        return Ok((socket, None));
    }
    let configured = configured(named);
    let expected = configured.as_ref().ok().map(|(socket, _)| socket.as_path());
    let file = config::find(named, &Context::of_this_process()).ok().flatten();
    match client::where_init_listens(expected).filter(|_| file.as_deref().is_none_or(is_inits)) {
        Some(socket) => Ok((socket, None)),
        None => configured,
    }
}

/// Whether the container's init was started on this very file: another one is of an agent beside it, which may have ended.
fn is_inits(file: &Path) -> bool {
    let file = file.as_os_str().as_bytes();
    let read = |what: &str| std::fs::read(format!("/proc/1/{what}")).unwrap_or_default();
    if read("cmdline").split(|byte| *byte == 0).any(|argument| argument.ends_with(file)) {
        return true;
    }
    let variables = read("environ");
    let by_variable = variables
        .split(|byte| *byte == 0)
        .find_map(|variable| variable.strip_prefix(config::FILE_VARIABLE.as_bytes())?.strip_prefix(b"="));
    match by_variable.filter(|named| !named.is_empty()) {
        Some(named) => named == file,
        None => config::DEFAULT_FILES.iter().any(|default| default.as_bytes() == file),
    }
}

fn configured(named: Option<&Path>) -> Result<(PathBuf, Option<String>), String> {
    let context = Context::of_this_process();
    let Some(file) = config::find(named, &context).map_err(|report| report.to_string())? else {
        let doubt = "there is no config here, and without one pilotfish is a plain init, which has no socket; `pilotfish \
                     probe URL` needs none";
        return Ok((DEFAULT_SOCKET.into(), Some(doubt.to_owned())));
    };
    // The running agent may have got its command by `--`, which can't be known here; only [control] counts.
    let command = Some(vec!["main".into()]);
    let translate: Option<config::Translate> = Some(super::containerpilot::config);
    match (Source { file: Some(file.clone()), command, context, translate }).read() {
        Ok(loaded) => match loaded.config.control.socket {
            Some(socket) => Ok((socket, None)),
            None => Err(format!("the control socket is turned off in {} ([control] socket)", file.display())),
        },
        // It may have had variables that this shell has not.
        Err(_) => {
            let doubt = format!("{} can't be used here, so its [control] isn't known: try --socket", file.display());
            Ok((DEFAULT_SOCKET.into(), Some(doubt)))
        }
    }
}

/// A runtime for a conversation. Whoever is asked may close as we speak, which is an answer, and not our end (SIGPIPE).
pub(super) fn runtime() -> io::Result<Runtime> {
    let mut pipe = SigSet::empty();
    pipe.add(Signal::SIGPIPE);
    pipe.thread_block()?;
    tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()
}

pub(super) fn explain(error: &ClientError, doubt: Option<String>) -> String {
    let text = errors::chain(error);
    doubt.map_or(text.clone(), |doubt| format!("{text} ({doubt})"))
}

/// What went wrong, and the code for it.
pub(super) fn fail(text: &str) -> u8 {
    // A config report says so itself, and may begin with a warning.
    let says_so = ["error: ", "warning: "].iter().any(|label| text.starts_with(label));
    let label = if says_so { "" } else { "error: " };
    logging::last_words(&format!("{label}{}\n", plain::lines(text.trim_end())));
    FAILED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_without_a_unit_is_refused_with_the_one_to_write() {
        assert_eq!(lasting("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(lasting("5").unwrap_err(), "`5` has no unit; write the unit: `5s` for seconds");
        assert!(lasting("0s").is_err() && lasting("soon").is_err());
    }

    #[test]
    fn a_holder_that_does_not_act_yet_is_told_with_what_it_waits_for() {
        let of = |acts: bool, id: &str| {
            serde_json::json!({"election": {"id": "a", "doing": "holding the lock, and waiting for ranks",
                                            "leader": {"id": id, "term": 7, "acts": acts}}})
        };
        let own = "it holds the lock and isn't acting as leader yet: holding the lock, and waiting for ranks";
        assert_eq!(not_acting(&of(false, "a")).as_deref(), Some(own));
        let others = "it holds the lock and isn't acting as leader yet";
        assert_eq!(not_acting(&of(false, "b")).as_deref(), Some(others));
        assert_eq!(not_acting(&of(true, "a")), None);
    }

    #[test]
    fn a_reason_is_one_line_with_something_in_it() {
        assert_eq!(reason(" disk 3 & 4: \"raid\" ").as_deref(), Ok("disk 3 & 4: \"raid\""));
        for bad in ["", " ", "a\nb", &"x".repeat(1001)] {
            assert!(reason(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_finds_no_config_is_told_that_a_plain_init_has_no_socket() {
        let (socket, doubt) = find(None, None).unwrap();
        assert_eq!(socket, PathBuf::from(DEFAULT_SOCKET));
        let error = ClientError::TooLate(Duration::from_secs(1));
        let told = explain(&error, doubt);
        assert!(told.ends_with("a plain init, which has no socket; `pilotfish probe URL` needs none)"), "{told}");
    }

    #[test]
    fn the_socket_is_the_configs_or_the_one_every_config_has() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.toml");
        let found = |text: &str| {
            std::fs::write(&file, text).unwrap();
            find(None, Some(&file))
        };
        // Without [process] exec: that may follow `--`.
        assert_eq!(found(""), Ok((DEFAULT_SOCKET.into(), None)));
        assert_eq!(found("[control]\nsocket = \"/tmp/x.sock\""), Ok(("/tmp/x.sock".into(), None)));
        assert!(found("[control]\nsocket = \"\"").unwrap_err().contains("turned off"));
        assert!(found("nonsense").unwrap().1.unwrap().contains("--socket"));
        assert_eq!(find(Some("/tmp/y".into()), Some(&file)), Ok(("/tmp/y".into(), None)));
    }
}
