//! The status page: what `/status` says, for people. Plain HTML, no script, nothing loaded from anywhere.

use std::fmt::Write;

use super::dated::{Maintenance, Task, date};
use crate::supervisor::Status;

/// The page.
pub fn render(status: &Status) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>pilotfish</title>\
         <style>body{font:16px/1.5 system-ui,sans-serif;margin:2em}td,th{text-align:left;padding:0 1.5em .2em 0;\
         vertical-align:top}</style><h1>pilotfish</h1>",
    );
    let ready = status.why_not_ready().map_or("ready".to_owned(), |reason| format!("not ready: {reason}"));
    // Writing to a String can't fail.
    let _ = write!(page, "<p>{}</p>", escaped(&ready));
    if let Some(maintenance) = &status.maintenance {
        let _ = write!(page, "<p>{}</p>", escaped(&Maintenance::of(maintenance).to_string()));
    }
    let main = match status.main.pid {
        Some(pid) => format!("runs as process {pid}"),
        None if status.main.following => "runs on in what it left".to_owned(),
        None => "doesn't run".to_owned(),
    };
    let _ = write!(page, "<p>main {main}, {}</p>", restarted(status.main.restarts));
    table(
        &mut page,
        "election",
        status.election.iter().map(|election| {
            let leader = election.leader.as_ref().map_or("nobody is known to lead".to_owned(), |leader| {
                let at = leader.address.as_ref().map(|address| format!(" at {address}")).unwrap_or_default();
                format!("{}{at} leads, for term {}", leader.id, leader.term.0)
            });
            [election.name.clone(), format!("{}: {}", election.role, election.doing), leader]
        }),
    );
    table(
        &mut page,
        "coprocess",
        status.coprocesses.iter().map(|coprocess| {
            let note = coprocess.error.clone().unwrap_or_else(|| restarted(coprocess.restarts));
            [coprocess.name.clone(), coprocess.state.clone(), note]
        }),
    );
    table(
        &mut page,
        "check",
        status.health.iter().map(|check| {
            let standing = match (check.passing, check.counts) {
                (true, true) => "passing",
                (false, true) => "critical",
                (true, false) => "passing, doesn't count",
                (false, false) => "critical, doesn't count",
            };
            [check.name.clone(), standing.to_owned(), check.note.clone()]
        }),
    );
    table(
        &mut page,
        "service",
        status.services.iter().map(|service| {
            let told = match &service.error {
                _ if service.published => "in the catalog".to_owned(),
                None => "not in the catalog".to_owned(),
                // What was told before may be there still.
                Some(error) => format!("not registered: {error}"),
            };
            [service.id.clone(), service.status.to_owned(), told]
        }),
    );
    table(
        &mut page,
        "watch",
        status.watches.iter().map(|watch| {
            let seen = watch.seen.map_or("no answer yet".to_owned(), |seen| format!("{seen} seen"));
            let changes = format!("{} changes", watch.changes);
            let making = watch.making_since.map(|since| format!("making its file since {}", date(since)));
            [watch.name.clone(), seen, watch.error.clone().or(making).unwrap_or(changes)]
        }),
    );
    table(
        &mut page,
        "task",
        status.tasks.iter().map(|task| {
            let [last, next] = Task::of(task).lines();
            [task.name.clone(), next, last]
        }),
    );
    page.push_str("</html>\n");
    page
}

fn table(page: &mut String, title: &str, rows: impl Iterator<Item = [String; 3]>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let _ = write!(page, "<table><tr><th>{title}<th><th></tr>");
    for [name, state, note] in rows {
        let _ = write!(page, "<tr><td>{}<td>{}<td>{}</tr>", escaped(&name), escaped(&state), escaped(&note));
    }
    page.push_str("</table>");
}

fn restarted(times: u64) -> String {
    match times {
        0 => "never restarted".to_owned(),
        1 => "restarted once".to_owned(),
        times => format!("restarted {times} times"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
