//! The command line: `pilotfish [-c FILE] [-- CMD ARGS]` runs a container; the subcommands talk to a running agent or
//! work on files. It decides nothing about a container.
#![allow(rustdoc::broken_intra_doc_links)] // what clap prints names tables of the config in brackets

mod ask;
mod containerpilot;
mod file;
mod import;
mod init;
mod kv;
mod metric;
mod personas;
mod probe;
mod step_down;
mod table;
mod task;
mod wait;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::agent;
use crate::config::{self, Context, Exec, Report, Signal, Source};
use crate::errors;
use crate::exit_codes::{BAD_CONFIG, BAD_USAGE, BROKEN};
use crate::logging;
use crate::process::signals::Inherited;

/// Runs one process as PID 1 of a container: reaps, supervises, checks, registers, and tells it when its dependencies
/// change.
#[derive(Debug, Parser)]
#[command(name = "pilotfish", version, subcommand_negates_reqs = true, disable_help_subcommand = true)]
#[command(
    override_usage = "pilotfish [-c FILE] [-- CMD [ARGS]...]\n       pilotfish [OPTIONS OF A PLAIN INIT] -- CMD [ARGS]...\n       pilotfish [-c FILE] COMMAND"
)]
#[command(after_help = init::HELP)]
struct CommandLine {
    /// The config [default: $PILOTFISH_CONFIG, else /etc/pilotfish.toml or .json where there is one; else a plain
    /// init]
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The main process; overrides exec of the config's [process]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    #[command(subcommand)]
    order: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Report every mistake in the config (exit 78), or that there is none
    Check {
        /// The config, like -c
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// The main process, as it will follow `--`
        #[arg(last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Print what a config may hold
    Schema {
        /// In which form
        #[arg(long, value_enum, default_value_t)]
        format: Form,
    },
    /// Print the config with its templates filled in
    Render {
        /// The config, like -c
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Make a config of ContainerPilot's (2 or 3) or supervisord's one of pilotfish's: exit 3 if something couldn't be
    /// carried over
    Import {
        /// The config; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Decide what a template asks: as if this variable were set so
        #[arg(long, value_name = "NAME=VALUE", value_parser = import::pair)]
        set: Vec<(String, String)>,
        /// Where to write it, in place of what is there; not the config itself [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Tell what the running agent is doing
    Status {
        /// As JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        at: At,
    },
    /// Exit 0 if main runs and every check passes, or if it stands by; else 1 (for Docker's HEALTHCHECK)
    Health {
        #[command(flatten)]
        at: At,
    },
    /// Ask a server once: exit 0 if it answers well, 1 if not. Needs no agent and no config (for a HEALTHCHECK)
    Probe(probe::Question),
    /// Have the running agent read its config again
    Reload {
        #[command(flatten)]
        at: At,
    },
    /// Have the running agent stop its container
    Stop {
        #[command(flatten)]
        at: At,
    },
    /// Have the running agent stop its main process, or a coprocess, and start it again: exit 0 once it runs. Where it is
    /// main's, a leader steps down first
    Restart {
        /// Which process [default: main]
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Send the main process, or a coprocess, a signal, as it is
    Signal {
        /// Such as HUP, SIGUSR1, RTMIN+3 or 10
        #[arg(value_name = "SIG")]
        signal: Signal,
        /// Which process [default: main]
        #[arg(value_name = "NAME")]
        name: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Wait until something is so: exit 0 then, 124 if not in time, 1 if it never can be. The agent need not run yet
    Wait {
        /// ready, leader, leader=ELECTION, key=KEY or service=NAME
        #[arg(value_name = "WHAT")]
        awaited: wait::Goal,
        /// For how long at most [default: 1m]
        #[arg(long, value_name = "DURATION", value_parser = ask::lasting)]
        timeout: Option<Duration>,
        #[command(flatten)]
        at: At,
    },
    /// Read and write keys of the running agent's catalog, by its connection and rights: exit 1 if what it depends on isn't
    /// so, 69 if the catalog can't be asked
    Kv {
        #[command(subcommand)]
        verb: kv::KeyVerb,
    },
    /// Tell who leads, as the running agent knows it: ID, ADDRESS and TERM (exit 1 if nobody does)
    Leader {
        #[command(flatten)]
        at: At,
    },
    /// Have the running agent give up leading, so that another one takes over
    StepDown {
        /// Who is to take over, with a few seconds' head start over the others. Waits, and fails (exit 1) if another
        /// one leads then
        #[arg(long, value_name = "ID")]
        to: Option<String>,
        /// Return when somebody leads again, and say who
        #[arg(long)]
        wait: bool,
        /// How long to wait for that at most; then exit 124 [default: 30s]
        #[arg(long, value_name = "DURATION", value_parser = ask::lasting)]
        timeout: Option<Duration>,
        #[command(flatten)]
        at: At,
    },
    /// Have the running agent lead although it knows too few ranks: what only others have is lost
    Promote {
        /// That this is meant
        #[arg(long, required = true)]
        accept_loss: bool,
        #[command(flatten)]
        at: At,
    },
    /// Give the running agent values for its config's sensors: a gauge is set to its value, a counter grows by it, a
    /// histogram observes it
    Metric {
        /// Which, with labels if there are any, and the number: jobs=3 or 'jobs{kind="mail"}=3'
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = metric::value)]
        values: Vec<String>,
        #[command(flatten)]
        at: At,
    },
    /// The running agent's tasks
    Task {
        #[command(subcommand)]
        order: TaskOrder,
    },
    /// Take the running agent's services out of the rotation, and bring them back
    Maintenance {
        #[command(subcommand)]
        switch: Switch,
    },
    /// Print the running agent's last events, without secrets: to be sent along with a report of what it did wrong
    Record {
        #[command(flatten)]
        at: At,
    },
    /// Wait on this host for the ends of leaders' containers, and free their locks at once; runs no main process
    Witness {
        /// The elections [default: the config's]
        #[arg(value_name = "NAME")]
        elections: Vec<String>,
        /// Where the candidates of this host have their files [default: the config's [election] witness]
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// The terms of the election
    Term {
        /// Have the running agent stand again although terms went back (the catalog was restored or wiped)
        #[arg(long, required = true)]
        accept: bool,
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
enum Switch {
    /// Out of the rotation, with watches paused and no part in the election; main runs on
    On {
        /// For how long, such as 10m [default: until `maintenance off` or the container's restart]
        #[arg(long = "for", value_name = "DURATION", value_parser = ask::lasting)]
        lasts: Option<Duration>,
        /// Why, for those who look at the catalog or the status
        #[arg(long, value_name = "TEXT", value_parser = ask::reason)]
        reason: Option<String>,
        #[command(flatten)]
        at: At,
    },
    /// Back again; what changed meanwhile is told to on_change once
    Off {
        #[command(flatten)]
        at: At,
    },
}

#[derive(Debug, Subcommand)]
enum TaskOrder {
    /// Run one out of turn, and wait for its end: exit with its code (125 if it can't be run)
    Run {
        /// As the config calls it
        #[arg(value_name = "NAME")]
        name: String,
        /// Don't wait for its end
        #[arg(long)]
        detach: bool,
        #[command(flatten)]
        at: At,
    },
}

/// Where the running agent is.
#[derive(Debug, clap::Args)]
struct At {
    /// Its control socket [default: the config's, else /run/pilotfish.sock]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON Schema, for editors and other tools
    #[default]
    Json,
    /// A config with every key at its default
    Toml,
    /// Tables of key, default and reason
    Markdown,
}

/// The command line as its parser knows it, for pages that are made of it.
pub fn command() -> clap::Command {
    CommandLine::command()
}

/// Does what the command line says; the process's exit code. `args` begin with the program's own name.
pub fn run(args: Vec<OsString>, inherited: Inherited) -> u8 {
    if let Some(persona) = args.first().and_then(|name| personas::Persona::of(name)) {
        return persona.run(&args, inherited);
    }
    // How every image starts: not worth building a parser for, before main can run.
    if args.get(1).is_some_and(|arg| arg == "--") && args.len() > 2 {
        return start(None, args[2..].to_vec(), inherited);
    }
    if args.get(1).is_some_and(|arg| init::is_option(arg)) {
        return plain(&args[1..], inherited);
    }
    if let Some(translated) = containerpilot::command_line(&args) {
        return match translated {
            // What it becomes is no command line of ContainerPilot's any more.
            Ok(args) => run(args, inherited),
            Err(error) => {
                logging::last_words(&format!("error: {error}\n"));
                BAD_USAGE
            }
        };
    }
    command_line(&args, inherited)
}

/// With a parser, and apart: what it needs of the stack would stay an agent's for as long as that lives.
#[inline(never)]
fn command_line(args: &[OsString], inherited: Inherited) -> u8 {
    let line = match CommandLine::try_parse_from(args) {
        Ok(line) => line,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return file::print(&error.to_string());
        }
        Err(error) => {
            let tip = as_main(args, error.kind()).map(|tip| format!("\n{tip}\n")).unwrap_or_default();
            logging::last_words(&format!("{error}{tip}"));
            return BAD_USAGE;
        }
    };
    let named = line.config.as_deref();
    let Some(order) = line.order else { return start(named, line.command, inherited) };
    // Somebody waits at a terminal, and Ctrl-C must work.
    inherited.restore();
    match order {
        Verb::Check { file, command } => file::check(file.as_deref().or(named), command),
        Verb::Schema { format } => file::print(&match format {
            Form::Json => config::schema::json(),
            Form::Toml => config::schema::toml(),
            Form::Markdown => config::schema::markdown(),
        }),
        Verb::Render { file } => file::render(file.as_deref().or(named)),
        Verb::Import { file, set, output } => import::import(&file, set, output.as_deref()),
        Verb::Status { json, at } => ask::status(at.socket, named, json),
        Verb::Health { at } => ask::health(at.socket, named),
        Verb::Probe(question) => probe::ask(question),
        Verb::Reload { at } => ask::order(at.socket, named, "/reload"),
        Verb::Stop { at } => ask::order(at.socket, named, "/stop"),
        Verb::Restart { name, at } => ask::of_process(at.socket, named, "/restart", name.as_deref(), &[]),
        Verb::Signal { signal, name, at } => {
            ask::of_process(at.socket, named, "/signal", name.as_deref(), &[("signal", &signal.to_string())])
        }
        Verb::Wait { awaited, timeout, at } => wait::wait(at.socket, named, &awaited, timeout),
        Verb::Kv { verb } => kv::key(verb, named),
        Verb::Record { at } => ask::record(at.socket, named),
        Verb::Leader { at } => ask::leader(at.socket, named),
        Verb::StepDown { to, wait, timeout, at } => {
            step_down::step_down(at.socket, named, to.as_deref(), step_down::patience(wait, timeout, to.is_some()))
        }
        Verb::Promote { accept_loss: _, at } => ask::order(at.socket, named, "/accept-loss"),
        Verb::Metric { values, at } => metric::push(at.socket, named, &values),
        Verb::Task { order: TaskOrder::Run { name, detach, at } } => task::run(at.socket, named, &name, detach),
        Verb::Maintenance { switch: Switch::On { lasts, reason, at } } => {
            ask::maintenance(at.socket, named, lasts, reason.as_deref())
        }
        Verb::Maintenance { switch: Switch::Off { at } } => ask::order(at.socket, named, "/maintenance/off"),
        Verb::Witness { elections, directory } => file::witness(named, elections, directory),
        Verb::Term { accept: _, at } => ask::order(at.socket, named, "/accept-term"),
    }
}

/// Runs a container from its beginning to its end.
fn start(named: Option<&Path>, command: Exec, inherited: Inherited) -> u8 {
    let context = Context::of_this_process();
    let command = Some(command).filter(|command| !command.is_empty());
    let translate: Option<config::Translate> = Some(containerpilot::config);
    let source = match config::find(named, &context) {
        Ok(file) => Source { file, command, context, translate },
        Err(report) => return refuse(&report),
    };
    if source.file.is_none() && source.command.is_none() {
        let usage = CommandLine::command().render_help();
        let missing = "error: there is neither a command after -- nor a config";
        // Last, where who looks at the end of a log finds it.
        logging::last_words(&format!("{usage}\n{missing}\n"));
        logging::termination_log(missing);
        return BAD_USAGE;
    }
    let loaded = match source.read() {
        Ok(loaded) => loaded,
        Err(report) => return refuse(&report),
    };
    logging::init(&loaded.config.log);
    // What it is comes first, then what it loses.
    for (index, remark) in loaded.remarks.iter().enumerate() {
        match index {
            0 => tracing::info!(event = "config.imported", "{remark}"),
            _ => tracing::warn!(event = "config.imported", "{remark}"),
        }
    }
    for out in &loaded.left_out {
        tracing::info!(event = "config.left_out", "{out}");
    }
    for warning in &loaded.warnings {
        tracing::warn!(event = "config.warning", "{warning}");
    }
    live(loaded, source, inherited)
}

/// A plain init with options of its own.
#[inline(never)]
fn plain(args: &[OsString], inherited: Inherited) -> u8 {
    let refuse = |error: &str| {
        // Last, where who looks at the end of a log finds it.
        logging::last_words(&format!("{}\n\nerror: {error}\n", init::HELP));
        BAD_USAGE
    };
    let config = match init::read(args) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    match config::find(None, &Context::of_this_process()) {
        Ok(None) => run_plain(config, inherited),
        Ok(Some(file)) => refuse(&format!(
            "there is a config, {}, and these options are for runs without one: write them there, or point PILOTFISH_CONFIG at another file",
            file.display()
        )),
        Err(report) => self::refuse(&report),
    }
}

/// Runs a container by a config that no file holds.
fn run_plain(config: config::Config, inherited: Inherited) -> u8 {
    let command = Some(config.process.exec.clone());
    let source = Source { file: None, command, context: Context::of_this_process(), translate: None };
    logging::init(&config.log);
    live(config.into(), source, inherited)
}

#[inline(never)]
fn live(loaded: config::Loaded, source: Source, inherited: Inherited) -> u8 {
    agent::run(loaded, source, inherited).unwrap_or_else(|error| {
        let text = format!("pilotfish: the agent can't run: {}\n", errors::chain(&error));
        logging::last_words(&text);
        logging::termination_log(&text);
        match error {
            agent::Error::Fence(_) => BAD_CONFIG,
            agent::Error::Kernel(_) => BROKEN,
        }
    })
}

fn refuse(report: &Report) -> u8 {
    logging::last_words(&format!("{report}\n"));
    logging::termination_log(&report.to_string());
    BAD_CONFIG
}

/// What a command line most likely means that begins with a program, as those of other inits do.
fn as_main(args: &[OsString], mistake: ErrorKind) -> Option<String> {
    let command = args.get(1..)?;
    let program = command.first()?.to_string_lossy();
    let verbs = CommandLine::command();
    let is_verb = verbs.get_subcommands().any(|verb| verb.get_name() == program);
    let may_be_meant = mistake == ErrorKind::UnknownArgument && !program.starts_with('-') && !is_verb;
    let all = || command.iter().map(|arg| as_typed(&arg.to_string_lossy())).collect::<Vec<_>>().join(" ");
    may_be_meant.then(|| {
        let nearest = config::suggest::nearest(&program, verbs.get_subcommands().map(clap::Command::get_name));
        let tip = nearest.map(|verb| format!("Did you mean `{verb}`? ")).unwrap_or_default();
        format!("{tip}If `{program}` is what is to run as the main process: pilotfish -- {}", all())
    })
}

/// As a shell takes it for one word.
fn as_typed(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_mains_byte_for_byte() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(vec![0xff, b'-', b'-']);
        let args = ["pilotfish", "-c", "x.toml", "--", "cmd", "--help", "--", "-c"].map(OsString::from);
        let line = CommandLine::try_parse_from(args.into_iter().chain([odd.clone()])).unwrap();
        assert_eq!(line.config, Some("x.toml".into()));
        assert_eq!(
            line.command,
            ["cmd", "--help", "--", "-c"].map(OsString::from).into_iter().chain([odd]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_program_that_was_given_not_even_its_name_says_how_it_is_used() {
        // execve(2) with an empty argv; kernels before 5.18 pass that on.
        let line = CommandLine::try_parse_from([] as [OsString; 0]);
        assert!(line.is_ok_and(|line| line.command.is_empty() && line.order.is_none()));
    }

    #[test]
    fn a_config_may_be_named_before_and_after_a_subcommand() {
        for args in [["pilotfish", "-c", "x", "status"], ["pilotfish", "status", "-c", "x"]] {
            let line = CommandLine::try_parse_from(args).unwrap();
            assert_eq!(line.config, Some("x".into()), "{args:?}");
            assert!(matches!(line.order, Some(Verb::Status { json: false, .. })));
        }
    }

    #[test]
    fn a_program_without_two_dashes_is_told_how_to_become_main() {
        let tip = |args: &[&str]| {
            let args: Vec<OsString> = ["pilotfish"].iter().chain(args).map(OsString::from).collect();
            as_main(&args, CommandLine::try_parse_from(&args).unwrap_err().kind())
        };
        let expected = "If `nginx` is what is to run as the main process: pilotfish -- nginx -g x";
        assert_eq!(tip(&["nginx", "-g", "x"]).as_deref(), Some(expected));
        let tip_of_a_slip = tip(&["statsu"]).unwrap();
        assert!(tip_of_a_slip.starts_with("Did you mean `status`? If `statsu` is"), "{tip_of_a_slip}");
        let quoted = tip(&["sh", "-c", "exit 3"]).unwrap();
        assert!(quoted.ends_with("pilotfish -- sh -c 'exit 3'"), "{quoted}");
        // What is wrong with an order isn't that it is one.
        assert_eq!(tip(&["status", "--josn"]), None);
        assert_eq!(tip(&["--nonsense"]), None);
        assert_eq!(tip(&["-c"]), None);
    }

    #[test]
    fn a_command_without_two_dashes_is_a_mistake() {
        assert!(CommandLine::try_parse_from(["pilotfish", "/bin/true"]).is_err());
        assert!(CommandLine::try_parse_from(["pilotfish", "--nonsense"]).is_err());
    }
}
