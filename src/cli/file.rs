//! Subcommands that work on files: `check`, `render`, and what prints. They reach no agent.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{BAD_CONFIG, BAD_USAGE, FAILED};
use crate::catalog::{self, Backend, address};
use crate::config::election::Sum;
use crate::config::{self, Config, Context, Exec, Report};
use crate::logging;

/// `pilotfish check`.
pub fn check(named: Option<&Path>, command: Exec) -> u8 {
    let context = Context::of_this_process();
    let command = Some(command).filter(|command| !command.is_empty());
    let file = match existing(named, &context) {
        Ok(file) => file,
        Err(code) => return code,
    };
    match Config::load(&file, command, &context) {
        Ok(loaded) => {
            let warnings: String = loaded.warnings.iter().map(|warning| format!("{}\n\n", warning.picture())).collect();
            let survey = Backend::survey(&loaded.config.catalog).err();
            let survey =
                survey.map(|doubt| format!("warning: here, {}\n\n", catalog::report(&doubt))).unwrap_or_default();
            let sum = Sum::of(&loaded.config).map(|sum| format!("{sum}\n")).unwrap_or_default();
            print(&format!(
                "{warnings}{survey}{}: ok
{sum}{}",
                file.display(),
                addresses(&loaded.config)
            ))
        }
        Err(report) => bad(&report),
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
        Err(error) => format!("{} has no address to advertise here: {}\n", service.id, catalog::report(&error)),
    };
    config.services.iter().map(line).collect()
}

/// `pilotfish render`.
pub fn render(named: Option<&Path>) -> u8 {
    let context = Context::of_this_process();
    match existing(named, &context).map(|file| config::render(&file, &context)) {
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
