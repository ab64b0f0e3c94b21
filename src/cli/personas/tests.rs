use super::*;

fn line(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

fn asked(text: &str, variables: &[(&str, &str)]) -> Asked {
    let args = line(text);
    let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    Persona::of(&args[0]).unwrap().asked(&args, value)
}

fn config(text: &str, variables: &[(&str, &str)]) -> Config {
    match asked(text, variables) {
        Asked::Run { config, .. } => *config,
        other => panic!("{text}: {other:?}"),
    }
}

fn refused(text: &str) -> bool {
    matches!(asked(text, &[]), Asked::Refuse(_))
}

#[test]
fn the_last_part_of_the_name_says_who_is_called() {
    for (name, persona) in [
        ("/sbin/tini", Some(Persona::Tini)),
        ("tini-static", Some(Persona::Tini)),
        ("/sbin/docker-init", Some(Persona::Tini)),
        ("/usr/bin/dumb-init", Some(Persona::DumbInit)),
        ("/run/podman-init", Some(Persona::Catatonit)),
        ("/tini/pilotfish", None),
        ("tini2", None),
        ("", None),
    ] {
        assert_eq!(Persona::of(OsStr::new(name)), persona, "{name}");
    }
}

#[test]
fn tini_takes_its_options_up_to_the_program() {
    let config = config("tini -sgvw -p SIGKILL -e143 -e 1 -- sh -c -g", &[]);
    let process = &config.process;
    assert_eq!(process.exec, ["sh", "-c", "-g"]);
    assert_eq!(process.signal_scope, SignalScope::Group);
    assert_eq!(process.exit_codes, [(1, 0), (143, 0)].into());
    assert!(process.manner.subreaper && process.manner.tells_reaped);
    assert_eq!(process.parent_death, Some(Signal::KILL));
    assert_eq!(config.log.level, Level::Info);
}

#[test]
fn tini_is_no_subreaper_unless_it_is_told_to_be() {
    assert!(!config("tini x", &[]).process.manner.subreaper);
    assert!(config("tini x", &[("TINI_SUBREAPER", "")]).process.manner.subreaper);
    let grouped = config("tini x", &[("TINI_KILL_PROCESS_GROUP", "")]);
    assert_eq!(grouped.process.signal_scope, SignalScope::Group);
    for (verbosity, level) in [("0", Level::Error), ("x", Level::Error), ("3", Level::Debug), ("9", Level::Trace)] {
        assert_eq!(config("tini -v x", &[("TINI_VERBOSITY", verbosity)]).log.level, level, "{verbosity}");
    }
}

#[test]
fn a_programs_own_options_are_never_tinis() {
    assert_eq!(config("tini nginx -g daemon-off", &[]).process.exec, ["nginx", "-g", "daemon-off"]);
    // glibc's getopt, by which the usage has it so.
    assert_eq!(config("tini prog -- -x", &[]).process.exec, ["prog", "-x"]);
    assert_eq!(config("tini prog -- -x", &[("POSIXLY_CORRECT", "")]).process.exec, ["prog", "--", "-x"]);
    assert_eq!(config("tini -- prog -- -x", &[("POSIXLY_CORRECT", "1")]).process.exec, ["prog", "--", "-x"]);
}

#[test]
fn tini_refuses_what_it_doesnt_know() {
    for text in ["tini", "tini --", "tini -x a", "tini -e", "tini -e 256 a", "tini -e x a", "tini -p NONE a", "tini -s"]
    {
        assert!(refused(text), "{text}");
    }
    assert!(refused("tini --version a"), "only alone");
    assert!(matches!(asked("docker-init --version", &[]), Asked::Tell(text) if text.starts_with("tini version ")));
    assert!(matches!(asked("tini -h a", &[]), Asked::Tell(_)));
}

#[test]
fn dumb_init_gives_main_a_session_and_its_group_all_signals() {
    let config = config("dumb-init -r 15:3 --rewrite=2:0 -- sh -c x", &[]);
    let process = &config.process;
    assert_eq!(process.exec, ["sh", "-c", "x"]);
    assert!(process.manner.session && process.manner.passes_faults && process.manner.stops_with_main);
    assert_eq!((process.signal_scope, process.manner.last_word), (SignalScope::Group, Some(Signal::TERM)));
    assert_eq!(process.rewrite_signals.get(&Signal::TERM), Some(&Some(Signal::QUIT)));
    assert_eq!(process.rewrite_signals.get(&Signal::INT), Some(&None));
    assert_eq!(process.rewrite_signals.get(&Signal::TSTP), Some(&Some(Signal::STOP)));
    assert!(matches!(asked("dumb-init x", &[]), Asked::Run { as_new: true, .. }));
}

#[test]
fn dumb_init_for_a_single_child_keeps_to_it() {
    for config in [config("dumb-init -c x", &[]), config("dumb-init x", &[("DUMB_INIT_SETSID", "0")])] {
        let process = config.process;
        assert!(!process.manner.session && process.manner.last_word.is_none());
        assert_eq!(process.signal_scope, SignalScope::Process);
        assert!(process.rewrite_signals.is_empty());
    }
    assert_eq!(config("dumb-init --verb x", &[]).log.level, Level::Debug, "an option may be cut short");
    assert_eq!(config("dumb-init x", &[("DUMB_INIT_DEBUG", "1")]).log.level, Level::Debug);
}

#[test]
fn dumb_init_refuses_what_it_doesnt_know() {
    for text in ["-r", "-r x", "-r 15", "-r 15::12", "-r 15:x", "-r 15:12 -r 0", "-r 1:32", "-r 32:1", "-r 0:1"] {
        assert!(refused(&format!("dumb-init {text} echo")), "{text}");
    }
    let odd = asked("dumb-init --yolo /bin/true", &[]);
    assert_eq!(odd, Asked::Refuse("dumb-init: unrecognized option '--yolo'\n".to_owned()));
    assert!(refused("dumb-init --ver x"), "verbose or version");
    assert!(refused("dumb-init"));
}

#[test]
fn catatonit_runs_a_program_or_pauses() {
    let config = config("catatonit -g -- x -P", &[]);
    assert_eq!(config.process.exec, ["x", "-P"]);
    assert!(config.process.manner.subreaper);
    assert_eq!(config.process.manner.failed_start, FailedStart::Always(1));
    assert_eq!(asked("catatonit -P", &[]), Asked::Pause);
    assert!(matches!(asked("catatonit --version", &[]), Asked::Tell(text) if text.starts_with("tini version ")));
    assert!(refused("catatonit") && refused("catatonit -x y"));
}
