//! Which hook runs when: every way in which something ends, in every part that a container can have. The table of
//! docs/election.md is this one.

use super::*;
use crate::config::RestartPolicy;

/// What a container can be in as it happens.
const PARTS: [&str; 6] =
    ["leader", "replica", "leader of standbys", "standby that waits", "in on_promote", "in a leader's pre_start"];

/// All hooks there are, a check that has main restarted, and failures restarted.
fn config(mode: Mode) -> Config {
    let mut config = Config { election: Some(Election { mode, ..election() }), ..super::super::script::config() };
    config.process.restart.policy = RestartPolicy::OnFailure;
    config.health = vec![check("ping", OnFailure::Restart)];
    config.hooks = Hooks {
        pre_start: vec![pre_start(0)],
        pre_stop: Some(hook("drain")),
        post_stop: Some(hook("clean")),
        ..hooks()
    };
    config
}

fn in_part(part: &str) -> Script {
    let mode = if part.contains("standby") { Mode::Standby } else { Mode::Role };
    let mut script = Script::candidate(config(mode));
    script.catches = false;
    match part {
        "replica" | "standby that waits" => script.sees_lock(held("third", 8, 3)),
        _ => script.wins(7),
    }
    if part != "in a leader's pre_start" && part != "standby that waits" {
        script.ends("pre_start", 0);
        script.answer("probe", Ok(()));
    }
    if part.starts_with("leader") {
        script.ends("on_promote", 0);
    }
    script.told();
    script
}

fn happens(what: &str, script: &mut Script) {
    match what {
        "main crashes" => script.ends("main", 1),
        "main exits with 0" => script.ends("main", 0),
        "main dies of a signal passed on" => {
            script.signal(Signal::HUP);
            script.ends_as("main", ExitStatus::Killed(Signal::HUP));
        }
        "Ctrl-C at main's terminal" => {
            script.send(Event::FromTerminal { run: script.run("main"), signal: Signal::INT });
            script.ends_as("main", ExitStatus::Killed(Signal::INT));
        }
        "a check has main restarted" => {
            script.when("probe");
            script.answer("probe", Err("down"));
        }
        "step-down" => step_down(script),
        "the lock is lost" => script.sees_lock(held("other", 9, 8)),
        "an outage" => {
            script.event(ElectionEvent::Saw(Err("cut".to_owned())));
            // Up to where it must go, and no further.
            script.until(script.now() + 8_900);
        }
        "stop" => script.signal(Signal::TERM),
        "maintenance" => script.maintenance(None, None),
        "reload" => {
            script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
            script.send(Event::ConfigLoaded(Ok(Box::new(config(Mode::Role).into()))));
        }
        other => panic!("what is {other}?"),
    }
}

/// Whatever is ordered succeeds at once; who gives the lock back sees another one take it. What was ordered, in short.
fn plays_on(script: &mut Script) -> String {
    let mut story = Vec::new();
    for _ in 0..4 {
        loop {
            let orders = script.told();
            if orders.is_empty() {
                break;
            }
            for order in orders {
                story.extend(carries_out(script, &order));
            }
        }
        script.until(script.now() + 500);
    }
    // SIGKILL comes again until it shows.
    story.dedup();
    story.join(", ")
}

fn carries_out(script: &mut Script, order: &str) -> Option<String> {
    if let Some(job) = order.strip_prefix("spawn ") {
        if job != "main" {
            script.ends(job, 0);
        }
        return Some(job.to_owned());
    }
    if let Some((signal, to)) = order.split_once(" to ") {
        let job = to.trim_start_matches("all of ").trim_end_matches("'s group");
        // What comes a second time comes too late.
        let status = ExitStatus::Killed(if signal == "SIGKILL" { Signal::KILL } else { Signal::TERM });
        if signal == "SIGTERM" || job == "main" {
            script.ends_as(job, status);
        }
        let short = signal.trim_start_matches("SIG");
        return (signal != "SIGHUP").then(|| format!("{short} {job}"));
    }
    match order {
        "probe" => script.answer("probe", Ok(())),
        "release" => {
            script.released();
            script.sees_lock(held("other", 9, 8));
            return Some("release".to_owned());
        }
        _ if order.starts_with("exit") => return Some("exit".to_owned()),
        _ => {}
    }
    None
}

/// A line for each end, a column for each of [`PARTS`]; `-` where it can't be.
const TABLE: [(&str, [&str; 6]); 11] = [
    (
        "main crashes",
        ["release, pre_start, main", "main", "release", "-", "TERM on_promote, release, pre_start, main", "-"],
    ),
    (
        "main exits with 0",
        [
            "release, post_stop, exit",
            "post_stop, exit",
            "release, post_stop, exit",
            "-",
            "TERM on_promote, release, post_stop, exit",
            "-",
        ],
    ),
    (
        "main dies of a signal passed on",
        [
            "release, post_stop, exit",
            "post_stop, exit",
            "release, post_stop, exit",
            "-",
            "TERM on_promote, release, post_stop, exit",
            "-",
        ],
    ),
    (
        "Ctrl-C at main's terminal",
        [
            "release, pre_stop, post_stop, exit",
            "pre_stop, post_stop, exit",
            "release, pre_stop, post_stop, exit",
            "-",
            "TERM on_promote, pre_stop, release, post_stop, exit",
            "-",
        ],
    ),
    (
        "a check has main restarted",
        [
            "TERM main, release, pre_start, main",
            "TERM main, main",
            "TERM main, release",
            "-",
            "TERM main, TERM on_promote, release, pre_start, main",
            "-",
        ],
    ),
    (
        "step-down",
        [
            "on_demote, release, on_leader_change",
            "",
            "on_demote, TERM main, release",
            "",
            "TERM on_promote, on_demote, release, on_leader_change",
            "TERM pre_start, release, pre_start, main",
        ],
    ),
    (
        "the lock is lost",
        [
            "KILL main, pre_start, main",
            "on_leader_change",
            "KILL main",
            "",
            "TERM on_promote, KILL main, KILL on_promote, pre_start, main",
            "TERM pre_start, KILL pre_start, pre_start, main",
        ],
    ),
    (
        "an outage",
        [
            "on_demote, release, on_leader_change",
            "",
            "on_demote, TERM main, release",
            "",
            "TERM on_promote, on_demote, release, on_leader_change",
            "TERM pre_start, release, pre_start, main",
        ],
    ),
    (
        "maintenance",
        [
            "on_demote, release, on_leader_change",
            "",
            "on_demote, TERM main, release",
            "",
            "TERM on_promote, on_demote, release, on_leader_change",
            "TERM pre_start, release, pre_start, main, on_leader_change",
        ],
    ),
    (
        "stop",
        [
            "pre_stop, on_demote, release, TERM main, post_stop, exit",
            "pre_stop, TERM main, post_stop, exit",
            "pre_stop, on_demote, TERM main, release, post_stop, exit",
            "post_stop, exit",
            "pre_stop, TERM on_promote, on_demote, release, TERM main, post_stop, exit",
            "TERM pre_start, release, post_stop, exit",
        ],
    ),
    ("reload", ["", "", "", "", "", ""]),
];

#[test]
fn each_end_in_each_part_runs_the_hooks_of_the_table() {
    let mut wrong = Vec::new();
    for (what, cells) in TABLE {
        for (part, cell) in PARTS.iter().zip(cells) {
            if cell == "-" {
                continue;
            }
            let mut script = in_part(part);
            happens(what, &mut script);
            let story = plays_on(&mut script);
            if story != cell {
                wrong.push(format!("{what} | {part}: {story}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_stands_in_the_docs() {
    let docs = include_str!("../../../../docs/election.md");
    let rows = std::iter::once(("", PARTS)).chain(TABLE);
    for (what, cells) in rows {
        let row = format!("| {} | {} |", what, cells.join(" | ")).replace("|  | leader |", "| | leader |");
        assert!(docs.lines().any(|line| line == row), "{row}");
    }
}
