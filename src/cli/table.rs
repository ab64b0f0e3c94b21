//! A status for people: aligned columns, nothing that isn't there. It takes the agent's JSON as it comes, so that
//! another version's status can be read too.

use serde_json::Value;

use crate::plain;

/// Of what others wrote, in characters: a reader has seen enough.
const LONGEST_CELL: usize = 1000;

/// The table.
pub fn render(status: &Value) -> String {
    let mut text = String::new();
    let doing = text_of(&status["doing"]);
    let phase = text_of(&status["phase"]);
    text += &format!("{phase}{}{doing}\n", if doing.is_empty() { "" } else { ": " });
    text += &format!("main {}\n", main(&status["main"]));
    if !status["maintenance"].is_null() {
        text += &format!("{}\n", maintenance(&status["maintenance"]));
    }
    let published = |service: &Value| match (service["published"].as_bool(), text_of(&service["error"])) {
        (Some(true), _) => "in the catalog".to_owned(),
        (_, error) if error.is_empty() => "not in the catalog".to_owned(),
        // What was told before may be there still.
        (_, _) => "not registered".to_owned(),
    };
    let passing = |check: &Value| {
        let passing = if check["passing"] == true { "passing" } else { "critical" };
        if check["counts"] == false { format!("{passing}, doesn't count") } else { passing.to_owned() }
    };
    if !status["election"].is_null() {
        text += &format!("{}\n", election(&status["election"]));
        if !status["ranks"].is_null() {
            text += &format!("{}\n", ranks(&status["ranks"]));
        }
    }
    section(&mut text, ["COPROCESS", "STATE", "PROCESS", "RESTARTS", "NOTE"], &status["coprocesses"], |coprocess| {
        let cell = |key: &str| text_of(&coprocess[key]);
        let note = match cell("error") {
            error if error.is_empty() => last_exit(coprocess).unwrap_or_default(),
            error => error,
        };
        [cell("name"), cell("state"), cell("pid"), cell("restarts"), note]
    });
    section(&mut text, ["CHECK", "STATUS", "PASSED", "FAILED", "NOTE"], &status["health"], |check| {
        let count = |key: &str| text_of(&check[key]);
        [text_of(&check["name"]), passing(check), count("passed"), count("failed"), text_of(&check["note"])]
    });
    let address = |service: &Value| match (text_of(&service["address"]), text_of(&service["address_because"])) {
        (address, _) if address.is_empty() => address,
        (address, because) => format!("{address}: {because}"),
    };
    section(&mut text, ["SERVICE", "STATUS", "CATALOG", "ADDRESS", "ERROR"], &status["services"], |service| {
        let cell = |key: &str| text_of(&service[key]);
        [cell("id"), cell("status"), published(service), address(service), cell("error")]
    });
    section(&mut text, ["WATCH", "SEEN", "CHANGES", "ERROR"], &status["watches"], |watch| {
        let seen = if watch["seen"].is_null() { "no answer yet".to_owned() } else { text_of(&watch["seen"]) };
        let note = match (text_of(&watch["making_since"]), text_of(&watch["error"])) {
            (since, error) if since.is_empty() => error,
            (since, error) if error.is_empty() => format!("making its file since {since}"),
            (since, error) => format!("{error}; making its file since {since}"),
        };
        [text_of(&watch["name"]), seen, text_of(&watch["changes"]), note]
    });
    section(&mut text, ["TASK", "NEXT", "ENDED", "TOOK", "CODE", "FAILED"], &status["tasks"], |task| {
        let last = &task["last"];
        let next = match task["running"] == true {
            true => "runs".to_owned(),
            false => text_of(&task["next"]),
        };
        let took = last["seconds"].as_f64().map(|seconds| format!("{seconds}s")).unwrap_or_default();
        [text_of(&task["name"]), next, text_of(&last["ended"]), took, text_of(&last["code"]), text_of(&task["failed"])]
    });
    section(&mut text, ["SENSOR", "VALUES", "SUCCEEDED", "FAILED", "ERROR"], &status["sensors"], |sensor| {
        ["name", "values", "succeeded", "failed", "error"].map(|key| text_of(&sensor[key]))
    });
    let hooks = status["hooks"].as_object().into_iter().flatten();
    let hooks = hooks
        .map(|(name, count)| [plain::line(name).into_owned(), text_of(&count["succeeded"]), text_of(&count["failed"])]);
    columns(&mut text, ["HOOK", "SUCCEEDED", "FAILED"], hooks.collect());
    text
}

fn main(main: &Value) -> String {
    let mut text = match main["pid"].as_i64() {
        Some(pid) => format!("runs as process {pid}"),
        None => "doesn't run".to_owned(),
    };
    for word in ["reloading", "stopping"] {
        if main[word] == true {
            text += &format!(", {word}");
        }
    }
    if let Some(restarts @ 1..) = main["restarts"].as_u64() {
        text += &match restarts {
            1 => ", restarted once".to_owned(),
            restarts => format!(", restarted {restarts} times"),
        };
    }
    text += &last_exit(main).map(|exit| format!(", {exit}")).unwrap_or_default();
    let notified = text_of(&main["notified"]);
    if notified.is_empty() { text } else { format!("{text}; it says: {notified}") }
}

fn last_exit(of: &Value) -> Option<String> {
    let exit = of["last_exit"].as_object()?;
    Some(match text_of(&exit["signal"]) {
        signal if !signal.is_empty() => format!("last killed by {signal}"),
        _ => format!("last exited with code {}", exit["code"]),
    })
}

fn maintenance(maintenance: &Value) -> String {
    let said = |word: &str, key: &str| match text_of(&maintenance[key]) {
        said if said.is_empty() => said,
        said => format!("{word}{said}"),
    };
    format!("in maintenance{}{}{}", said(" since ", "since"), said(" until ", "until"), said(": ", "reason"))
}

/// What keeps a winner from being promoted.
fn ranks(ranks: &Value) -> String {
    let names = |key: &str| {
        let names = ranks[key].as_array().into_iter().flatten().map(text_of);
        names.collect::<Vec<_>>().join(", ")
    };
    let (known, missing, ahead) = (names("known"), names("missing"), text_of(&ranks["ahead"]));
    let known = if known.is_empty() { "nobody".to_owned() } else { known };
    let needed = ranks["quorum"].as_u64().map(|quorum| format!("{quorum} ranks are needed, ")).unwrap_or_default();
    let mut text = format!("{needed}known are those of {known}");
    if !missing.is_empty() {
        text += &format!("; missing: {missing}");
    }
    if !ahead.is_empty() {
        text += &format!("; {ahead} is further ahead");
    }
    let own = text_of(&ranks["own_missing"]);
    if !own.is_empty() {
        text += &format!("; this container's own rank isn't known: {own}");
    }
    text + &format!("; since {}", text_of(&ranks["since"]))
}

fn election(election: &Value) -> String {
    let (name, role, doing) = (text_of(&election["name"]), text_of(&election["role"]), text_of(&election["doing"]));
    let leader = &election["leader"];
    let mut text = format!("{role} of {name}: {doing}");
    if leader.is_null() {
        text += "; nobody is known to lead";
    } else {
        let (id, address, term) = (text_of(&leader["id"]), text_of(&leader["address"]), text_of(&leader["term"]));
        let at = if address.is_empty() { String::new() } else { format!(" at {address}") };
        text += &format!("; {id}{at} leads, for term {term}");
    }
    let error = text_of(&election["error"]);
    if !error.is_empty() {
        text += &format!("; {error}");
    }
    if election["loss_accepted"] == true {
        text += "\nit was promoted by hand, whatever was lost by it";
    }
    let witness = &election["witness"];
    if !witness.is_null() {
        let (directory, error) = (text_of(&witness["directory"]), text_of(&witness["error"]));
        text += &match (witness["stands"].as_bool(), error.is_empty()) {
            (Some(true), _) => format!("\nthe witness in {directory} stands"),
            (_, true) => format!("\nthe witness in {directory} isn't known to stand yet"),
            (_, false) => {
                format!("\nthere is no witness in {directory}, so this container's end costs the lease: {error}")
            }
        };
    }
    text
}

fn section<const N: usize>(text: &mut String, head: [&str; N], rows: &Value, row: impl Fn(&Value) -> [String; N]) {
    columns(text, head, rows.as_array().into_iter().flatten().map(row).collect());
}

fn columns<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let all: Vec<[String; N]> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    text.push('\n');
    for row in &all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        *text += &format!("{}\n", line.trim_end());
    }
}

/// A value as a cell: what others wrote into it can't break the table or steer a terminal.
fn text_of(value: &Value) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = plain::line(&text).replace('\t', " ");
    match text.char_indices().nth(LONGEST_CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A column of 65,536 characters is more than `format!` takes.
    #[test]
    fn a_cell_is_cut_whatever_others_wrote_into_it() {
        let health = json!([{"name": "ping", "passing": false, "note": "é".repeat(70_000), "passed": 1, "failed": 2}]);
        let text = render(&json!({"phase": "running", "doing": "", "main": {}, "health": health}));
        assert!(text.contains(&format!("{}…\n", "é".repeat(LONGEST_CELL))), "{} characters", text.chars().count());
    }

    #[test]
    fn a_status_is_a_table() {
        let status = json!({
            "phase": "running", "doing": "",
            "main": {"pid": 7, "restarts": 2, "last_exit": {"code": 139, "signal": "SIGSEGV"}, "notified": null},
            "health": [{"name": "ping", "passing": false, "note": "status 503\u{1b}[31m", "passed": 10, "failed": 2}],
            "services": [{"id": "web-1", "name": "web", "status": "critical", "published": true, "error": null,
                          "address": "10.20.0.5", "address_because": "on ens3, which has the default route"}],
            "watches": [], "hooks": {"pre_start": {"succeeded": 1, "failed": 0}},
        });
        assert_eq!(
            render(&status),
            "running\nmain runs as process 7, restarted 2 times, last killed by SIGSEGV\n\n\
             CHECK  STATUS    PASSED  FAILED  NOTE\n\
             ping   critical  10      2       status 503\\u{1b}[31m\n\n\
             SERVICE  STATUS    CATALOG         ADDRESS                                          ERROR\n\
             web-1    critical  in the catalog  10.20.0.5: on ens3, which has the default route\n\n\
             HOOK       SUCCEEDED  FAILED\n\
             pre_start  1          0\n"
        );
    }

    #[test]
    fn a_task_is_told_with_its_last_end_and_its_next_run() {
        let last = json!({"run": 7, "ended": "2026-11-27T02:30:09Z", "seconds": 9.25, "code": 3});
        let told = render(&json!({"phase": "running", "tasks": [
            {"name": "backup", "running": false, "next": "2026-11-28T02:30:00Z", "failed": 1, "last": last},
            {"name": "purge", "running": true, "next": null, "failed": 0, "last": null},
        ]}));
        let expected = "\n\
            TASK    NEXT                  ENDED                 TOOK   CODE  FAILED\n\
            backup  2026-11-28T02:30:00Z  2026-11-27T02:30:09Z  9.25s  3     1\n\
            purge   runs                                                     0\n";
        assert!(told.ends_with(expected), "{told}");
    }

    #[test]
    fn the_witness_of_an_election_is_told() {
        let told = |witness: Value| {
            let election = json!({"name": "db", "role": "replica", "doing": "following", "witness": witness});
            render(&json!({"phase": "running", "election": election}))
        };
        let of = |stands: bool, error: Value| json!({"directory": "/w", "stands": stands, "error": error});
        let stands = told(of(true, json!(null)));
        assert!(stands.contains("\nthe witness in /w stands\n"), "{stands}");
        let gone = told(of(false, json!("/w/a is gone")));
        assert!(
            gone.contains("\nthere is no witness in /w, so this container's end costs the lease: /w/a is gone\n"),
            "{gone}"
        );
        assert!(told(of(false, json!(null))).contains("isn't known to stand yet"));
        assert!(!told(json!(null)).contains("witness"));
    }

    #[test]
    fn a_winner_that_waits_tells_why_its_own_rank_is_missing() {
        let told = |why: Value| {
            let ranks = json!({"known": [], "quorum": 2, "missing": ["a"], "own_missing": why, "since": "now"});
            render(&json!({"phase": "running", "election": {"name": "db"}, "ranks": ranks}))
        };
        let expected = "missing: a; this container's own rank isn't known: exited with code 3; since now\n";
        assert!(told(json!("exited with code 3")).contains(expected));
        assert!(!told(json!(null)).contains("own rank"));
    }

    #[test]
    fn maintenance_is_told_with_its_reason_and_its_end() {
        let told = |maintenance: Value| render(&json!({"phase": "running", "maintenance": maintenance}));
        let since = "2026-11-25T10:00:00Z";
        let long = told(json!({"since": since, "until": "2026-11-25T11:00:00Z", "reason": "disk"}));
        assert!(
            long.contains("\nin maintenance since 2026-11-25T10:00:00Z until 2026-11-25T11:00:00Z: disk\n"),
            "{long}"
        );
        let short = told(json!({"since": since, "until": null, "reason": null}));
        assert!(short.contains("\nin maintenance since 2026-11-25T10:00:00Z\n"), "{short}");
        assert!(!told(json!(null)).contains("maintenance"));
    }

    #[test]
    fn what_another_version_says_is_no_panic() {
        for odd in [json!(null), json!([]), json!({"main": 3, "health": {"a": 1}, "hooks": []})] {
            assert!(!render(&odd).is_empty());
        }
    }
}
