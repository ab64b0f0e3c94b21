//! `pilotfish step-down`: has the running agent lead no longer and, if asked to, waits until somebody leads again. The
//! agent only says what it sees: who holds the lock, for which term, and whether that one acts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::ask::{LOOK_WITHIN, ask, encoded, fail, find, order};
use crate::clock;
use crate::config::duration;
use crate::exit_codes::{FAILED, TOO_LATE};
use crate::plain;

/// Longer than a demotion and a promotion take unless their hooks are slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at who leads.
const LOOK_EACH: Duration = Duration::from_millis(50);

/// How long to wait for who leads next; `None`: not at all. Who names a successor wants to know what came of it.
pub fn patience(wait: bool, timeout: Option<Duration>, names: bool) -> Option<Duration> {
    (wait || timeout.is_some() || names).then(|| timeout.unwrap_or(PATIENCE))
}

/// Has the agent step down, for `to` if anybody is named.
pub fn step_down(socket: Option<PathBuf>, named: Option<&Path>, to: Option<&str>, patience: Option<Duration>) -> u8 {
    let query = to.map(|to| format!("?to={}", encoded(to))).unwrap_or_default();
    let path = format!("/step-down{query}");
    let Some(patience) = patience else { return order(socket, named, &path) };
    let socket = match find(socket, named) {
        Ok((socket, _)) => socket,
        Err(error) => return fail(&error),
    };
    // What is seen afterwards is news only if it is another term's.
    let before = match look(&socket, named) {
        Ok(status) => status["election"]["leader"]["term"].clone(),
        Err(error) => return fail(&error),
    };
    let code = order(Some(socket.clone()), named, &path);
    if code != 0 {
        return code;
    }
    let until = clock::now() + patience;
    let mut last;
    loop {
        last = look(&socket, named);
        if let Some(leader) = last.as_ref().ok().and_then(|status| next_leader(&status["election"], &before)) {
            return leads(leader, to);
        }
        if clock::now() >= until {
            break;
        }
        std::thread::sleep(LOOK_EACH.min(patience));
    }
    fail(&format!("nobody leads {} after that: {}", duration::print(patience), why(&last)));
    TOO_LATE
}

fn look(socket: &Path, named: Option<&Path>) -> Result<Value, String> {
    let reply = ask(Some(socket.to_owned()), named, Method::GET, "/status", LOOK_WITHIN)?;
    match reply.status {
        StatusCode::OK => serde_json::from_str(&reply.body).map_err(|error| format!("the agent's answer: {error}")),
        _ => Err(reply.body),
    }
}

/// Who leads for another term than before, once it acts.
fn next_leader<'a>(election: &'a Value, before: &Value) -> Option<&'a Value> {
    let leader = &election["leader"];
    let another = !leader.is_null() && leader["term"] != *before;
    (another && leader["acts"] == true).then_some(leader)
}

/// Says who leads, and whether it is the one that should.
fn leads(leader: &Value, to: Option<&str>) -> u8 {
    let id = leader["id"].as_str().unwrap_or("-");
    let at = leader["address"].as_str().map(|address| format!(" at {address}")).unwrap_or_default();
    let leads = format!("{id}{at} leads, for term {}", leader["term"]);
    match to {
        Some(to) if to != id => {
            fail(&plain::line(&format!("{to} didn't take over: {leads}")));
            FAILED
        }
        Some(_) | None => super::file::print(&format!("{}\n", plain::line(&leads))),
    }
}

/// What is known of why nobody leads yet.
fn why(status: &Result<Value, String>) -> String {
    match status {
        Err(error) => error.clone(),
        Ok(status) => {
            let said = |key: &str| status["election"][key].as_str().filter(|text| !text.is_empty());
            let doing = match another_holds(&status["election"]) {
                Some(id) => format!("{id} holds the lock, and doesn't act as leader yet"),
                None => said("doing").unwrap_or("it takes part in no election").to_owned(),
            };
            said("error").map_or(doing.clone(), |error| format!("{doing}; {error}"))
        }
    }
}

/// Who holds the lock and doesn't act, if that is another than who is asked.
fn another_holds(election: &Value) -> Option<&str> {
    let leader = &election["leader"];
    leader["id"].as_str().filter(|_| leader["acts"] == false && leader["id"] != election["id"])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_names_a_successor_waits_and_others_only_if_they_say_so() {
        assert_eq!(patience(false, None, false), None);
        assert_eq!(patience(true, None, false), Some(PATIENCE));
        assert_eq!(patience(false, None, true), Some(PATIENCE));
        assert_eq!(patience(false, Some(Duration::from_secs(3)), false), Some(Duration::from_secs(3)));
    }

    #[test]
    fn why_nobody_leads_is_what_the_next_one_waits_for_or_what_this_one_does() {
        let why = |leader: Value, error: Value| {
            why(&Ok(json!({"election": {"id": "one", "doing": "following", "leader": leader, "error": error}})))
        };
        let two = json!({"id": "two", "term": 8, "acts": false});
        assert_eq!(why(two.clone(), Value::Null), "two holds the lock, and doesn't act as leader yet");
        assert_eq!(why(two, json!("full")), "two holds the lock, and doesn't act as leader yet; full");
        assert_eq!(why(json!({"id": "one", "term": 7, "acts": false}), Value::Null), "following");
        assert_eq!(why(Value::Null, Value::Null), "following");
    }

    #[test]
    fn only_another_term_is_a_next_leader_and_only_once_it_acts() {
        let seen = |id: &str, term: u64, acts: bool| {
            let election = json!({"id": "one", "leader": {"id": id, "term": term, "acts": acts}});
            next_leader(&election, &json!(7)).is_some()
        };
        assert!(!seen("one", 7, true), "the demotion is under way");
        assert!(!seen("two", 8, false), "it isn't promoted yet");
        assert!(seen("two", 8, true));
        assert!(!seen("one", 9, false), "it holds the lock again, and doesn't act");
        assert!(seen("one", 9, true));
        assert!(next_leader(&json!({"id": "one", "leader": null}), &json!(7)).is_none());
    }
}
