//! What packages bring along: man pages, and what shells complete; and the command lines that pages show.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fs;
use std::process::Command;

use super::readme;
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

/// What follows `pilotfish` in code: in the words between backquotes, and at the beginning of a block's line.
fn command_lines(page: &str) -> Vec<String> {
    let prose = readme::prose(page);
    let inline = prose.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " "));
    let blocks = page.split("```").skip(1).step_by(2).flat_map(str::lines).map(str::to_owned);
    inline.chain(blocks).filter_map(|code| Some(code.strip_prefix("pilotfish ")?.to_owned())).collect()
}

/// What of a command line the program doesn't take: `[--to ID]` may be left out, and `get\|put` is one of two.
fn refused(program: &clap::Command, line: &str) -> Option<String> {
    let init = program.get_after_help().map(ToString::to_string).unwrap_or_default();
    let mut command = program;
    let mut words = line.split_whitespace().map(|word| word.trim_matches(['[', ']', ',']));
    while let Some(word) = words.next() {
        let name = word.split('=').next().unwrap_or_default();
        let is_named = |argument: &&clap::Arg| {
            argument.get_long().is_some_and(|long| name.strip_prefix("--") == Some(long))
                || argument.get_short().is_some_and(|short| *name == format!("-{short}"))
        };
        if ["--", "#"].contains(&word) {
            return None;
        } else if name.starts_with('-') && name.len() > 1 {
            match command.get_arguments().chain(program.get_arguments()).find(is_named) {
                Some(argument) if argument.get_action().takes_values() && name == word => drop(words.next()),
                Some(_) => {}
                // A plain init's options have a parser of their own.
                None if std::ptr::eq(command, program) && init.contains(&format!(" {name} ")) => return None,
                None => return Some(format!("{} has no {name}", command.get_name())),
            }
        } else if command.has_subcommands() && word.contains(|c: char| !c.is_uppercase()) {
            let mut verbs = word.split('|').map(|verb| command.find_subcommand(verb.trim_end_matches('\\')));
            match verbs.next().flatten() {
                Some(found) if verbs.all(|verb| verb.is_some()) => command = found,
                _ => return Some(format!("{} has no {word}", command.get_name())),
            }
        }
    }
    None
}

#[test]
fn every_command_line_on_a_page_is_one_that_the_program_takes() {
    let program = pilotfish::cli::command();
    let (mut wrong, mut lines) = (Vec::new(), 0);
    for page in readme::pages() {
        for line in command_lines(&fs::read_to_string(&page).unwrap()) {
            lines += 1;
            wrong.extend(refused(&program, &line).map(|why| format!("{}: pilotfish {line}: {why}", page.display())));
        }
    }
    assert!(lines > 100, "only {lines} command lines were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for bad in ["stauts", "status --jsn", "kv get\\|pot KEY", "--pdeaht TERM -- CMD", "task walk NAME", "-c FILE chek"]
    {
        assert!(refused(&program, bad).is_some(), "{bad}");
    }
}
