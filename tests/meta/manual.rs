//! What packages bring along: man pages, and what shells complete.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fs;
use std::process::Command;

use crate::support::namespace::example;

#[test]
fn the_man_pages_and_completions_know_every_subcommand() {
    let dir = tempfile::tempdir().unwrap();
    let made = Command::new(example("manual")).arg(dir.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let text = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let help = Command::new(crate::support::namespace::pilotfish()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands.lines().map_while(|line| line.strip_prefix("  ")).collect();
    let names = commands.iter().filter_map(|line| line.split(' ').next()).filter(|name| !name.is_empty());
    let names: Vec<&str> = names.collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(text(&format!("pilotfish-{name}.1")).contains(".SH SYNOPSIS"), "{name}");
        for completion in ["pilotfish.bash", "_pilotfish", "pilotfish.fish"] {
            assert!(text(completion).contains(name), "{completion} doesn't know {name}");
        }
    }
    assert!(text("pilotfish.1").contains("PILOTFISH_CONFIG"));

    let script = "source pilotfish.bash; COMP_WORDS=(pilotfish st); COMP_CWORD=1; _pilotfish pilotfish st pilotfish; \
                  printf '%s ' \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash").args(["-c", script]).current_dir(&dir).output().unwrap();
    assert_eq!(String::from_utf8(completed.stdout).unwrap(), "status stop step-down ");
}
