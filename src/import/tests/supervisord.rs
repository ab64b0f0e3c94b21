//! What stands in a supervisord.conf beside its programs, and what its values mean.

use std::collections::BTreeMap;
use std::path::Path;

use crate::import::{Imported, import};

fn at(file: &str, text: &str) -> Imported {
    import(text, Path::new(file), &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"))
}

fn of(text: &str) -> Imported {
    at("supervisord.conf", text)
}

fn has(imported: &Imported, line: &str) {
    assert!(imported.toml.lines().any(|written| written == line), "no `{line}`:\n{}", imported.toml);
}

fn note<'i>(imported: &'i Imported, key: &str) -> &'i crate::import::Remark {
    imported.notes.iter().find(|note| note.key == key).unwrap_or_else(|| panic!("no note on {key}"))
}

#[test]
fn what_stands_in_supervisords_own_section_counts_for_each_program() {
    let shared = "[supervisord]\nuser=nobody\nenvironment=A=\"1\",B=2\n";
    let imported =
        of(&format!("{shared}[program:x]\ncommand=x %(ENV_A)s\nuser=other\nenvironment=B=3\n[program:y]\ncommand=y\n"));
    for line in [
        "exec = [\"x\", \"1\"]",
        "user = \"other\"",
        "env = { A = \"1\", B = \"3\" }",
        "user = \"nobody\"",
        "env = { A = \"1\", B = \"2\" }",
    ] {
        has(&imported, line);
    }
    assert!(!imported.is_lossy());
    assert!(!of("[supervisord]\nuser=root\n[program:x]\ncommand=x\n").toml.contains("user"));
}

#[test]
fn what_counts_only_for_a_daemon_counts_only_there() {
    let imported =
        |daemon: &str| of(&format!("[supervisord]\n{daemon}\numask=027\ndirectory=/srv\n[program:x]\ncommand=x\n"));
    let background = imported("nodaemon=false");
    has(&background, "directory = \"/srv\"");
    has(&background, "limits = { umask = \"027\" }");
    let foreground = imported("nodaemon=true");
    assert!(!foreground.toml.contains("\ndirectory") && !foreground.toml.contains("\nlimits"), "{}", foreground.toml);
    for key in ["[supervisord] umask", "[supervisord] directory"] {
        assert!(note(&foreground, key).what.contains("did nothing") && !foreground.is_lossy());
    }
}

/// As supervisord 4.3 starts them.
#[test]
fn the_order_of_programs_is_supervisords() {
    let order = |text: &str| {
        let toml = of(text).toml;
        let names: Vec<String> =
            toml.lines().filter_map(|line| line.strip_prefix("exec = ")).map(str::to_owned).collect();
        names.into_iter().map(|exec| exec.trim_matches(['[', ']', '"']).to_owned()).collect::<Vec<_>>()
    };
    let program = |name: &str, more: &str| format!("[program:{name}]\ncommand={name}\n{more}\n");
    // Main is the last, and is written first.
    assert_eq!(order(&[program("worker", ""), program("app", "")].concat()), ["worker", "app"]);
    assert_eq!(order(&[program("cron", ""), program("app", "priority=1000")].concat()), ["app", "cron"]);
    // A group counts by its own priority and name, and starts its programs in the order it names them.
    let group = "[group:a]\nprograms=z,b\n";
    assert_eq!(
        order(&[group, &program("b", "priority=1"), &program("c", ""), &program("z", "")].concat()),
        ["c", "z", "b"]
    );
    let last = "[group:a]\nprograms=z,b\npriority=1000\n";
    assert_eq!(order(&[last, &program("b", ""), &program("c", ""), &program("z", "")].concat()), ["b", "c", "z"]);
}

#[test]
fn where_a_programs_output_goes_is_said_as_it_is() {
    let imported = of("[program:a]\ncommand=a\nstdout_logfile=/a.log\n[program:b]\ncommand=b\nstdout_logfile=/b.log\n");
    assert!(note(&imported, "[program:a] stdout_logfile").what.contains("pilotfish's log"));
    assert!(note(&imported, "[program:b] stdout_logfile").what.contains("the container's own output"));
    let raw = of("[program:a]\ncommand=a\nstdout_logfile=/dev/stdout\nstderr_logfile=/a.err\n[program:b]\ncommand=b\n");
    assert!(note(&raw, "[program:a] stderr_logfile").what.contains("the container's own output"));
}

#[test]
fn here_is_where_the_file_is_if_it_is_where_it_belongs() {
    let text = "[program:x]\ncommand=%(here)s/x\n";
    let imported = at("/etc/supervisor/supervisord.conf", text);
    has(&imported, "exec = [\"/etc/supervisor/x\"]");
    assert!(!imported.is_lossy() && note(&imported, "[program:x] command").what.contains("/etc/supervisor"));
    for elsewhere in ["supervisord.conf", "../supervisord.conf", "/dev/stdin"] {
        let imported = at(elsewhere, text);
        assert!(imported.is_lossy() && note(&imported, "[program:x] command").what.contains("%(here)s"));
    }
}

#[test]
fn a_comment_behind_a_value_is_none_of_it() {
    let imported = of("[program:x] ; one\ncommand=x a#b;c ; two\n  more # three\n# four\n\tlast\nuser=me ;five\n");
    has(&imported, "exec = [\"x\", \"a#b;c\", \"more\", \"last\"]");
    has(&imported, "user = \"me\"");
}

#[test]
fn words_are_those_of_a_shell() {
    let imported = of("[program:x]\ncommand=x \"a\\tb \\\" c\" '\\d' \"\" e\\ f %(ENV_G)s\"h i\"\n");
    has(&imported, "exec = [\"x\", 'a\\tb \" c', '\\d', \"\", \"e f\", \"{{ env.G }}h i\"]");
}

#[test]
fn what_ran_is_started_again_without_a_limit_as_supervisord_does() {
    let unlimited = "restart = { policy = \"always\", max = 1000000, backoff = \"1s\" }";
    for more in ["", "startsecs=1\n"] {
        let imported = of(&format!("[program:x]\ncommand=x\nautorestart=true\n{more}"));
        has(&imported, unlimited);
        assert!(imported.notes.is_empty(), "{more}");
    }
    let imported = of("[program:x]\ncommand=x\nautorestart=true\nstartretries=5\n");
    has(&imported, unlimited);
    assert!(note(&imported, "[program:x] startretries").what.contains("without a limit") && !imported.is_lossy());
    let imported = of("[program:x]\ncommand=x\nstartsecs=10\n");
    has(&imported, "restart = { policy = \"on-failure\", max = 1000000, backoff = \"1s\" }");
    assert!(note(&imported, "[program:x] startsecs").what.contains("code 0 is an end") && !imported.is_lossy());
    let imported = of("[program:x]\ncommand=x\nautorestart=false\nstartretries=5\nstartsecs=10\n");
    has(&imported, "restart = { policy = \"never\" }");
    assert!(note(&imported, "[program:x] startretries").what.contains("started once") && imported.is_lossy());
}

#[test]
fn a_program_of_a_higher_priority_stops_before_those_of_lower_ones() {
    let program = |name: &str, more: &str| format!("[program:{name}]\ncommand={name}\n{more}\n");
    let of_them = |texts: &[String]| of(&texts.concat());
    let imported = of_them(&[
        program("app", "priority=20"),
        program("nginx", "priority=10"),
        program("php-fpm", "priority=5"),
        program("memcached", "priority=5"),
        program("cache", "priority=1"),
        program("prepare", "priority=7\nautorestart=false"),
    ]);
    let table = |name: &str| {
        let (_, table) = imported.toml.split_once(&format!("name = \"{name}\"")).unwrap();
        table.split("\n\n").next().unwrap().to_owned()
    };
    assert!(table("nginx").contains("\nafter = [\"memcached\", \"php-fpm\"]\n"), "{}", imported.toml);
    assert!(table("php-fpm").contains("\nafter = [\"cache\"]\n"), "{}", imported.toml);
    assert!(table("prepare").contains("\nafter = [\"memcached\", \"php-fpm\"]\n"), "{}", imported.toml);
    assert!(!table("cache").contains("\nafter"), "{}", imported.toml);
    // Main is the last to start and the first to stop without a word.
    let main = imported.toml.split("[[coprocess]]").next().unwrap();
    assert!(!main.contains("\nafter"), "{main}");
    // By their names alone nobody orders programs, nor by the names of one group.
    let equals = of_them(&[program("a", ""), program("b", ""), program("c", "")]);
    assert!(!equals.toml.contains("after"), "{}", equals.toml);
    let group = "[group:g]\nprograms=a,b,c\n".to_owned();
    let grouped = of_them(&[group, program("a", "priority=1"), program("b", "priority=2"), program("c", "priority=3")]);
    assert!(!grouped.toml.contains("after"), "{}", grouped.toml);
}

/// As Python's configparser reads it: only what stands further in than its option goes on with it.
#[test]
fn options_may_stand_further_in_than_their_section() {
    let imported = of(
        "[supervisord]\n    nodaemon=true\n    user=me\n\n[program:nginx]\n    command=nginx\n        -g x\n    autorestart=true\n\
         \x20 [program:php]\n  command=php-fpm -F\n  environment=A=\"1\",\n    B=\"2\"\n  priority=5\n",
    );
    for line in [
        "exec = [\"nginx\", \"-g\", \"x\"]",
        "exec = [\"php-fpm\", \"-F\"]",
        "env = { A = \"1\", B = \"2\" }",
        "user = \"me\"",
        "restart = { policy = \"always\", max = 1000000, backoff = \"1s\" }",
    ] {
        has(&imported, line);
    }
    let alone = of("  [program:a]\n  command=/a\n");
    has(&alone, "exec = [\"/a\"]");
    // An option that stands further in than the one before is part of its value.
    let inside = of("[program:a]\ncommand=/a\n  --b=c\n");
    has(&inside, "exec = [\"/a\", \"--b=c\"]");
}
