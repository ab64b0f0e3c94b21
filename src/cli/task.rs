//! `pilotfish task run`: has the running agent run a task out of turn and, unless told otherwise, waits for its end. How long
//! a task may take is the agent's to bound; the one who waits may go, and the task runs on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::ask::{LOOK_WITHIN, ORDER_WITHIN, ask, encoded, fail, find};
use super::file::print;
use crate::exit_codes::{FAILED, NOT_RUN};
use crate::plain;

/// Between two looks at whether it has ended: at first, and at most.
const LOOK_EACH: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// Has a task run; its exit code, once it has ended.
pub fn run(socket: Option<PathBuf>, named: Option<&Path>, name: &str, detach: bool) -> u8 {
    let refuse = |error: &str| {
        fail(error);
        NOT_RUN
    };
    let socket = match find(socket, named) {
        Ok((socket, _)) => socket,
        Err(error) => return refuse(&error),
    };
    let path = format!("/task/run?name={}", encoded(name));
    let started = match ask(Some(socket.clone()), named, Method::POST, &path, ORDER_WITHIN) {
        Ok(reply) if reply.status == StatusCode::OK => reply.body,
        Ok(reply) => return refuse(&reply.body),
        Err(error) => return refuse(&error),
    };
    if detach {
        return print(&format!("{}\n", plain::lines(started.trim_end())));
    }
    let Some(run) = started.trim_end().rsplit(' ').next().and_then(|number| number.parse().ok()) else {
        return refuse(&format!("the agent's answer can't be read: {started}"));
    };
    let mut pause = LOOK_EACH[0];
    loop {
        match look(&socket, named, name, run) {
            Ok(None) => {}
            Ok(Some((code, said))) => {
                return match code {
                    0 => print(&format!("{}\n", plain::line(&said))),
                    code => {
                        fail(&said);
                        code
                    }
                };
            }
            Err(error) => {
                fail(&error);
                return FAILED;
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LOOK_EACH[1]);
    }
}

/// How a run ended, if it has.
fn look(socket: &Path, named: Option<&Path>, name: &str, run: u64) -> Result<Option<(u8, String)>, String> {
    let reply = ask(Some(socket.to_owned()), named, Method::GET, "/status", LOOK_WITHIN);
    let reply = reply.map_err(|error| format!("the agent can't be asked any more how task {name} ended: {error}"))?;
    if reply.status != StatusCode::OK {
        return Err(reply.body);
    }
    let status: Value = serde_json::from_str(&reply.body).map_err(|error| format!("the agent's answer: {error}"))?;
    let tasks = status["tasks"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(task) = tasks.iter().find(|task| task["name"] == name) else {
        return Err(format!("task {name} isn't in the config any more, and was ended"));
    };
    end_of(task, run)
}

/// How this run ended, and in words; nothing while it runs. How another one ended says nothing of it.
fn end_of(task: &Value, run: u64) -> Result<Option<(u8, String)>, String> {
    let name = task["name"].as_str().unwrap_or_default();
    let last = &task["last"];
    let mut ends = task["out_of_turn"].as_array().into_iter().flatten().chain([last]);
    let Some(end) = ends.find(|end| end["run"].as_u64() == Some(run)) else {
        let runs = task["running"] == true && last["run"].as_u64().is_none_or(|last| last < run);
        return if runs { Ok(None) } else { Err(format!("the agent doesn't know how run {run} of task {name} ended")) };
    };
    let Some(code) = end["code"].as_u64().and_then(|code| u8::try_from(code).ok()) else {
        return Err(format!("the agent's answer can't be read: {end}"));
    };
    let how = end["error"].as_str().unwrap_or("succeeded");
    Ok(Some((code, format!("task {name} {how} after {} s", end["seconds"]))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ended(run: u64, code: u8, error: Value) -> Value {
        json!({"run": run, "code": code, "seconds": 1.5, "error": error})
    }

    #[test]
    fn only_the_end_of_its_own_run_counts() {
        let task = |running: bool, last: Value, out_of_turn: Value| json!({"name": "backup", "running": running, "last": last, "out_of_turn": out_of_turn});
        assert_eq!(end_of(&task(true, json!(null), json!([])), 7), Ok(None));
        assert_eq!(end_of(&task(true, ended(6, 0, json!(null)), json!([])), 7), Ok(None), "the run before");
        let well = Ok(Some((0, "task backup succeeded after 1.5 s".to_owned())));
        assert_eq!(end_of(&task(false, ended(7, 0, json!(null)), json!([])), 7), well);
        let failed = Ok(Some((3, "task backup exited with code 3 after 1.5 s".to_owned())));
        let own = json!([ended(4, 0, json!(null)), ended(7, 3, json!("exited with code 3"))]);
        for running in [false, true] {
            assert_eq!(end_of(&task(running, ended(9, 0, json!(null)), own.clone()), 7), failed, "one came after it");
        }
    }

    #[test]
    fn an_end_that_the_agent_does_not_know_is_nobodys() {
        for (running, last) in
            [(false, json!(null)), (false, ended(6, 0, json!(null))), (true, ended(9, 0, json!(null)))]
        {
            let task = json!({"name": "backup", "running": running, "last": last, "out_of_turn": []});
            assert!(end_of(&task, 7).is_err(), "{task}");
        }
    }
}
