//! Subcommands that work on files: `check`, `render`, and what prints. They reach no agent.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::containerpilot;
use crate::catalog::local::survey_witness;
use crate::catalog::{Backend, report};
use crate::config::coprocess;
use crate::config::election::{Election, Sum};
use crate::config::{self, Config, Context, Exec, Report, Source};
use crate::exit_codes::{BAD_CONFIG, BAD_USAGE, FAILED};
use crate::logging;
use crate::net::address;
use crate::survey;
use crate::witness;

/// `pilotfish check`.
pub fn check(named: Option<&Path>, command: Exec) -> u8 {
    let context = Context::of_this_process();
    let command = Some(command).filter(|command| !command.is_empty());
    let file = match existing(named, &context) {
        Ok(file) => file,
        Err(code) => return code,
    };
    let source = Source { file: Some(file.clone()), command, context, translate: Some(containerpilot::config) };
    match source.read() {
        Ok(loaded) => {
            let remarks: String = loaded.remarks.iter().map(|remark| format!("note: {remark}\n\n")).collect();
            let warnings: String = loaded.warnings.iter().map(|warning| format!("{}\n\n", warning.picture())).collect();
            let left_out: String = loaded.left_out.iter().map(|out| format!("note: {out}\n\n")).collect();
            let survey = Backend::survey(&loaded.config.catalog).err();
            let survey = survey.map(|doubt| format!("warning: here, {}\n\n", report(&doubt))).unwrap_or_default();
            let witness = loaded.config.election.as_ref().and_then(|election| election.witness.as_deref());
            let doubt = witness.and_then(|directory| survey_witness(directory).err());
            let doubt = doubt.map(|doubt| format!("warning: here, {}\n\n", report(&doubt))).unwrap_or_default();
            let mut sum = Sum::of(&loaded.config).map(|sum| format!("{sum}\n")).unwrap_or_default();
            sum += &loaded.config.election.as_ref().and_then(Election::quorum_in_words).unwrap_or_default();
            print(&format!(
                "{remarks}{left_out}{warnings}{}{survey}{doubt}{}: ok
{sum}{}{}",
                overlooked(&file) + &doubts(&loaded.config),
                file.display(),
                coprocess::order(&loaded.config.coprocesses),
                addresses(&loaded.config)
            ))
        }
        Err(report) => bad(&report),
    }
}

/// `pilotfish witness`: of the config it takes the catalog, and what isn't given of the election.
pub fn witness(named: Option<&Path>, elections: Vec<String>, directory: Option<PathBuf>) -> u8 {
    let context = Context::of_this_process();
    let file = match existing(named, &context) {
        Ok(file) => file,
        Err(code) => return code,
    };
    // Its own config needs no main process.
    let command = Some(vec!["true".into()]);
    let config = match Config::load(&file, command, &context) {
        Ok(loaded) => loaded.config,
        Err(report) => return bad(&report),
    };
    let own = config.election.as_ref();
    let directory = directory.or_else(|| own.and_then(|election| election.witness.clone()));
    let elections = match elections.is_empty() {
        true => own.map(|election| election.name.clone()).into_iter().collect(),
        false => elections,
    };
    let (Some(directory), false) = (directory, elections.is_empty()) else {
        logging::last_words(
            "error: which election, and in which directory? (`[election] name` and `witness` in the config, or \
             `pilotfish witness NAME --directory DIRECTORY`)\n",
        );
        return BAD_USAGE;
    };
    if !matches!(config.catalog.backend, config::Backend::Consul(_) | config::Backend::Etcd(_)) {
        logging::last_words("error: a witness is for elections on Consul or etcd; on `local` the lock itself tells\n");
        return BAD_CONFIG;
    }
    logging::init(&config.log);
    match witness::run(&config.catalog, &directory, &elections) {
        Ok(()) => 0,
        Err(error) => {
            logging::last_words(&format!("error: {}\n", report(&error)));
            FAILED
        }
    }
}

/// With which address each service would be registered, were it here. Its container may have another network, so that
/// there is none is no mistake of the config's.
fn addresses(config: &Config) -> String {
    if config.catalog.backend == config::Backend::None {
        return String::new();
    }
    let line = |service: &config::Service| match address::advertised(&service.address) {
        Ok(found) => format!("{} is advertised at {}: {}\n", service.id, found.address, found.why),
        Err(error) => format!("{} has no address to advertise here: {}\n", service.id, report(&error)),
    };
    config.services.iter().map(line).collect()
}

/// What a start would miss here. The container may have another root, or get it later, so it is no mistake of the
/// config's.
fn doubts(config: &Config) -> String {
    survey::of(config).into_iter().map(|doubt| format!("warning: here, {doubt}\n\n")).collect()
}

/// Which file lies beside the one that is read, at the other of the places where one is looked for.
fn overlooked(file: &Path) -> String {
    let [first, second] = config::DEFAULT_FILES;
    match file == Path::new(first) && Path::new(second).exists() {
        true => format!("warning: {second} is there too, and isn't read\n\n"),
        false => String::new(),
    }
}

/// `pilotfish render`.
pub fn render(named: Option<&Path>) -> u8 {
    let context = Context::of_this_process();
    let rendered = |file: PathBuf| {
        let theirs = config::read(&file).ok().and_then(|text| containerpilot::template(&text, &file, &context));
        theirs.unwrap_or_else(|| config::render(&file, &context))
    };
    match existing(named, &context).map(rendered) {
        Ok(Ok(text)) => print(&text),
        Ok(Err(report)) => bad(&report),
        Err(code) => code,
    }
}

fn existing(named: Option<&Path>, context: &Context) -> Result<PathBuf, u8> {
    match config::find(named, context) {
        Ok(Some(file)) => Ok(file),
        Ok(None) => {
            logging::last_words("error: there is no config (name one with -c)\n");
            Err(BAD_USAGE)
        }
        Err(report) => Err(bad(&report)),
    }
}

fn bad(report: &Report) -> u8 {
    logging::last_words(&format!("{report}\n"));
    BAD_CONFIG
}

/// Prints to stdout; a reader that is gone is a failure, not a panic.
pub fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}
