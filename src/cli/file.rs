//! Subcommands that work on files: `check`, `render`, and what prints. They reach no agent.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::containerpilot;
use crate::catalog::local::survey_witness;
use crate::catalog::{Backend, report};
use crate::config::coprocess;
use crate::config::election::{Election, Sum};
use crate::config::{self, Config, Context, Exec, Report, Source};
use crate::exit_codes::{BAD_CONFIG, BAD_USAGE, FAILED};
use crate::files;
use crate::logging;
use crate::net::address;
use crate::process::{command, users};
use crate::render;
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
                overlooked(&file) + &absences(&loaded.config),
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
fn absences(config: &Config) -> String {
    [strangers, programs, directories, unreadable, templates].map(|survey| survey(config)).concat()
}

/// Which file lies beside the one that is read, at the other of the places where one is looked for.
fn overlooked(file: &Path) -> String {
    let [first, second] = config::DEFAULT_FILES;
    match file == Path::new(first) && Path::new(second).exists() {
        true => format!("warning: {second} is there too, and isn't read\n\n"),
        false => String::new(),
    }
}

/// Which programs couldn't be run.
fn programs(config: &Config) -> String {
    let mut told = BTreeMap::<String, Vec<String>>::new();
    for (who, exec, path) in config.programs() {
        if let Some(why) = command::survey(exec, path.map(OsStr::new)) {
            told.entry(why).or_default().push(who);
        }
    }
    told.into_iter().map(|(why, who)| format!("warning: here, {}: {why}\n\n", who.join(", "))).collect()
}

/// Which working directories aren't here.
fn directories(config: &Config) -> String {
    let missing = |(who, directory): (String, &Path)| {
        let doubt = format!("warning: here, {}, the directory of {who}, doesn't exist\n\n", directory.display());
        matches!(directory.try_exists(), Ok(false)).then_some(doubt)
    };
    config.directories().into_iter().filter_map(missing).collect()
}

/// Which users and groups this root has no entry of.
fn strangers(config: &Config) -> String {
    let unknown = |(user, who): (&str, Vec<String>)| {
        let error = users::look_up(user).err()?;
        Some(format!("warning: here, {}, so {} can't start as {user:?}\n\n", report(&error), who.join(", ")))
    };
    config.users().into_iter().filter_map(unknown).collect()
}

/// Which files aren't here, or the agent would refuse to read as they are.
fn unreadable(config: &Config) -> String {
    let control = config.control.listen.as_ref().map(|listen| listen.token_file.as_path());
    let refused = |(path, who): (&Path, Vec<String>)| {
        let who = who.join(", ");
        if matches!(path.try_exists(), Ok(false)) {
            return Some(format!("warning: here, {} of {who} doesn't exist\n\n", path.display()));
        }
        let why = files::survey(path, control == Some(path))?;
        Some(format!("warning: here, {} of {who} is of no use: {why}\n\n", path.display()))
    };
    config.files().into_iter().filter_map(refused).collect()
}

/// Which templates aren't any.
fn templates(config: &Config) -> String {
    let templates = config.watches.iter().filter_map(|watch| Some((&watch.name, watch.template.as_ref()?)));
    let doubt = |(watch, template): (&String, &config::Template)| {
        if matches!(template.source.try_exists(), Ok(false)) {
            return None;
        }
        let error = render::survey(template).err()?;
        Some(format!("warning: here, the template of watch {watch} is of no use: {}\n\n", report(&error)))
    };
    templates.filter_map(doubt).collect()
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
            logging::last_words("error: there is no config (name one by -c)\n");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_directories_and_files_that_are_not_here_are_told_with_who_needs_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pilotfish.toml");
        let text = r#"
            process = { exec = ["sleep 100"], directory = "/nowhere/work" }
            catalog = { backend = "consul", address = "https://consul:8501", token_file = "/nowhere/token", tls.ca = "/nowhere/ca" }
            hooks.pre_stop = { exec = ["/nowhere/drain", "now"], timeout = "1s" }
            [[health]]
            name = "ping"
            exec = ["./relative"]
            [[health]]
            name = "directory"
            exec = ["/etc"]
            [[task]]
            name = "dump"
            exec = ["true"]
            every = "1h"
            env_from_files = { KEY = "/nowhere/key" }
        "#;
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, None, &Context::of_this_process()).unwrap().config;
        let told = absences(&config);
        let told: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix("warning: here, ")).collect();
        let words = r#"(each argument is a word of its own: ["sleep", "100"])"#;
        assert_eq!(
            told,
            [
                "check directory: can't run `/etc`: permission denied (is it executable?)",
                "pre_stop: can't run `/nowhere/drain`: no such file",
                &format!("main: can't run `sleep 100`: not found in PATH {words}"),
                "/nowhere/work, the directory of main, doesn't exist",
                "/nowhere/ca of [catalog] tls doesn't exist",
                "/nowhere/key of task dump doesn't exist",
                "/nowhere/token of [catalog] token_file doesn't exist",
            ]
        );
    }

    #[test]
    fn a_template_that_is_not_here_or_is_none_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a.j2");
        let file = directory.path().join("pilotfish.toml");
        let text = format!(
            "process.exec = [\"true\"]\n[catalog]\nbackend = \"local\"\ndirectory = \"/x\"\n[[watch]]\nservice = \"db\"\n\
             template = {{ source = {source:?}, destination = \"/a.conf\" }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, None, &Context::of_this_process()).unwrap().config;
        let told = absences(&config);
        assert!(told.contains("a.j2 of watch db doesn't exist"), "{told}");
        assert_eq!(told.matches("warning").count(), 1, "{told}");
        std::fs::write(&source, "").unwrap();
        assert_eq!(templates(&config), "");
        std::fs::write(&source, "a\n{% for i in instances %}{{ i.port }}\n{% end %}\n").unwrap();
        let told = templates(&config);
        assert!(told.contains("the template of watch db is of no use: ") && told.contains("a.j2:3: "), "{told}");
    }
}
