//! Each obstacle that published files have, with its note.

use super::*;

/// A note of a file: its key, a part of what it says, and whether something is lost.
const NOTES: &[(&str, &str, &str, bool)] = &[
    ("v2-all-keys.json", "main", "stands on the command line", false),
    ("v2-all-keys.json", "logging.output", "goes to stderr", false),
    ("v2-all-keys.json", "telemetry.sensors[lag].type", "a summary is a histogram", true),
    ("v2-all-keys.json", "stopTimeout", "raise the scheduler's own timeout", false),
    ("v2-all-keys.json", "preStart", "gave it no limit", false),
    ("v2-containerbuddy.json", "services[nginx].publicIp", "did nothing", false),
    ("v2-etcd.json", "etcd", "version 2 of etcd's API", true),
    ("v2-shell-in-a-string.json", "preStart", "split at single spaces", false),
    ("v2-shell-in-a-string.json", "services[web].health", "two spaces", false),
    ("v2-refused.json", "preSart", "ContainerPilot has no such key", true),
    ("v2-refused.json", "preStart", "received zero-length argument", true),
    ("v2-refused.json", "services[web].poll", "refuses a service without `poll`", false),
    ("v2-refused.json", "services[no-port].port", "refuses a service without `port`", true),
    ("v2-refused.json", "backends[app].onChange", "`onChange` is required", true),
    ("v2-shell-in-a-string.json", "JSON", "reads strict JSON, and refuses the file: ", false),
    ("supervisord.conf", "[eventlistener:crashmail]", "nothing speaks supervisord's protocol", true),
    ("supervisord.conf", "[program:worker] numprocs", "one process", true),
    ("supervisord.conf", "[program:app]", "is main here", false),
    ("supervisord.conf", "[program:cron] stdout_logfile", "goes to pilotfish's log", false),
    ("supervisord.conf", "[program:manual]", "isn't started by itself", true),
    ("supervisord-shared.conf", "[supervisord] umask", "is every program's here", false),
    ("supervisord-shared.conf", "[supervisord] minfds", "not raised to a least one", true),
    ("supervisord-shared.conf", "[program:cache] command", "`host_node_name` is the variable HOSTNAME", false),
    ("supervisord-shared.conf", "[program:app] command", "what `%(odd)s` stands for isn't known", true),
    ("v3-watches.json5", "jobs[reload-more].when", "runs at each here", false),
    ("v3-watches.json5", "jobs[slip].when", "there is no `watch.bd`", false),
    ("v3-watches.json5", "jobs[bare].when", "the source is called `watch.NAME`", false),
    ("v3-watches.json5", "watches[unused]", "nothing happens when it changes", false),
    ("v3-stopping.json5", "jobs[leave]", "leaves by itself", false),
    ("v3-stopping.json5", "jobs[self].when", "waits for its own end", false),
    ("v3-stopping.json5", "jobs[app]", "the container ended when every job had", false),
    ("v3-two-processes.json5", "jobs[agent-restart]", "is restarted instead", false),
    ("v3-two-processes.json5", "web.name", "a second entry of this name and port", false),
    ("v3-telemetry.json5", "consul.token", "a token doesn't stand in a config", true),
    ("v3-telemetry.json5", "consul.tls.verify", "it is verified here", true),
    ("v3-telemetry.json5", "telemetry.metrics", "pilotfish metric NAME=VALUE", false),
    ("v3-telemetry.json5", "logging.output", "to no file", true),
    ("v3-telemetry.json5", "jobs[app].initial_status", "critical until its first check", true),
    ("v3-syntax.json5", "port", "is there twice", false),
    ("v3-syntax.json5", "jobs[app].interfaces", "can't read `inet\\u{8}`", true),
    ("v3-refused.json5", "consul", "no discovery backend defined", false),
    ("v3-refused.json5", "jobs[app].health", "health must be set if 'port' is set", false),
    ("v3-refused.json5", "jobs[again].restarts", "may not be used when 'job.when.each' is set", false),
    ("v3-refused.json5", "jobs[again].when", "has no check", false),
    ("v3-refused.json5", "jobs[hup].when", "nothing is started by this event", true),
    ("v3-refused.json5", "jobs[failed].when", "nothing is started by this event", true),
    ("v3-refused.json5", "jobs[never].when", "there is no `nobody`", false),
    ("v3-refused.json5", "jobs[empty].exec", "received zero-length argument", true),
    ("v3-refused.json5", "jobs[odd].restarts", "accepts positive integers", true),
    ("v3-refused.json5", "jobs[odd].passthru", "no such key", true),
    ("v3-only-tasks.json5", "jobs", "none of them stays to be main", false),
    ("v3-only-tasks.json5", "jobs[tock].restarts", "6 times and no more", true),
    ("v3-when-in-an-if.json5", "jobs[preStart].timeout", "gave it no limit", false),
];

#[test]
fn every_obstacle_has_a_note_with_its_key() {
    let files = files("");
    for (file, key, what, lost) in NOTES {
        let (path, text) = files.iter().find(|(path, _)| name(path) == *file).expect(file);
        let imported = import(text, path, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
        let all: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
        let found = imported.notes.iter().find(|note| note.key == *key && note.what.contains(what));
        let found = found.unwrap_or_else(|| panic!("{file}: no note on {key} says {what:?}:\n{}", all.join("\n")));
        assert_eq!(found.lost, *lost, "{found}");
    }
}

#[test]
fn a_note_names_the_line_of_its_key() {
    let text = "{\n  consul: 'c',\n  jobs: [\n    { name: 'a', exec: '/bin/a', passthru: 1 },\n  ],\n}\n";
    let imported = imported(text);
    let note = imported.notes.iter().find(|note| note.key == "jobs[a].passthru").unwrap();
    assert_eq!((note.line, note.column), (4, 34), "{note}");
    assert!(note.to_string().starts_with("containerpilot.json5:4:34: not carried over: jobs[a].passthru: "), "{note}");
}

#[test]
fn what_is_harmless_loses_nothing() {
    for (file, text) in files("") {
        let lossless = [
            "plain",
            "containerbuddy",
            "agent",
            "string",
            "chain",
            "in-an-if",
            "choice",
            "stopping",
            "two-processes",
            "watches",
        ];
        if lossless.iter().any(|part| name(&file).contains(part)) {
            let imported = import(&text, &file, &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"));
            let lost: Vec<String> = imported.notes.iter().filter(|note| note.lost).map(ToString::to_string).collect();
            assert!(lost.is_empty(), "{}", lost.join("\n"));
        }
    }
}
