//! `pilotfish wait`: until the running agent, which may be yet to start, says that something is so.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hyper::{Method, StatusCode};

use super::ask::{encoded, explain, fail, find, runtime};
use super::file::print;
use crate::clock;
use crate::config::duration;
use crate::endpoints::client::{self, ClientError};
use crate::endpoints::wait::{Awaited, WAIT_AT_MOST};
use crate::exit_codes::{BROKEN, FAILED, TOO_LATE};
use crate::plain;

/// As long as a start is given by most who wait for one.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks for an agent that isn't there yet.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// An agent that is well answers so soon after it was to.
const GRACE: Duration = Duration::from_millis(500);

/// What is waited for, as it is written: `ready`, `key=KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    what: String,
    name: Option<String>,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Goal, String> {
        let (what, name) = text.split_once('=').map_or((text, None), |(what, name)| (what, Some(name.to_owned())));
        if name.as_deref() == Some("") || Awaited::named(what, name.clone()).is_none() {
            return Err("it is ready, leader, leader=ELECTION, key=KEY or service=NAME".to_owned());
        }
        Ok(Goal { what: what.to_owned(), name })
    }
}

/// Waits.
pub fn wait(socket: Option<PathBuf>, named: Option<&Path>, goal: &Goal, timeout: Option<Duration>) -> u8 {
    let patience = timeout.unwrap_or(PATIENCE);
    let until = clock::now() + patience;
    let (socket, doubt) = match find(socket, named) {
        Ok(found) => found,
        Err(error) => return fail(&error),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            fail(&format!("can't wait: {error}"));
            return BROKEN;
        }
    };
    loop {
        let left = clock::now().until(until);
        let why = match runtime.block_on(ask(&socket, goal, left.min(WAIT_AT_MOST))) {
            Ok((StatusCode::OK, said)) => return print(&format!("{}\n", plain::lines(said.trim_end()))),
            Ok((StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE, why)) => {
                why
            }
            Ok((_, refused)) => return fail(&refused),
            // It may be yet to start, or be between two lives.
            Err(
                error @ (ClientError::Unreachable { .. }
                | ClientError::Deserted { .. }
                | ClientError::Broken(_)
                | ClientError::TooLate(_)),
            ) => explain(&error, doubt.clone()),
            Err(
                error @ (ClientError::Stranger { .. }
                | ClientError::NoAgent { .. }
                | ClientError::Another { .. }
                | ClientError::NotForUs { .. }),
            ) => {
                fail(&explain(&error, doubt));
                return FAILED;
            }
        };
        if clock::now() >= until {
            fail(&format!("not so within {}: {}", duration::print(patience), why.trim_end()));
            return TOO_LATE;
        }
        std::thread::sleep(LOOK_AGAIN.min(clock::now().until(until)));
    }
}

async fn ask(socket: &Path, goal: &Goal, within: Duration) -> Result<(StatusCode, String), ClientError> {
    let name = goal.name.as_ref().map(|name| format!("&name={}", encoded(name))).unwrap_or_default();
    // In whole milliseconds, which every duration that is written can be read in.
    let millis = Duration::from_millis(within.as_millis() as u64);
    let path = format!("/wait?what={}&within={}{name}", goal.what, encoded(&duration::print(millis)));
    let reply = client::ask(socket, Method::GET, &path, within + GRACE).await?;
    Ok((reply.status, reply.body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_named_or_refused_with_what_there_is() {
        for good in ["ready", "leader", "leader=db", "key=a/b=c", "service=web"] {
            assert!(good.parse::<Goal>().is_ok(), "{good}");
        }
        assert_eq!("key=a=b".parse(), Ok(Goal { what: "key".to_owned(), name: Some("a=b".to_owned()) }));
        for bad in ["", "read", "ready=1", "key", "key=", "service=", "leader="] {
            assert!(bad.parse::<Goal>().unwrap_err().contains("ready, leader"), "{bad}");
        }
    }
}
