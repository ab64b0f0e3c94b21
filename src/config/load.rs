//! From a file to a [`Config`] or a [`Report`]: find, read, parse, expand, check. The only part of this room that reads
//! files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::expand::expand;
use super::parse::{Parsed, Syntax, line_of, parse};
use super::report::{Mistake, Problem, Report, Severity};
use super::schema::check_shape;
use super::surroundings::{Surroundings, Variables};
use super::tree::Node;
use super::validate::validate;
use super::{Config, Exec, raw};

/// Where a config is looked for when none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/pilotfish.toml", "/etc/pilotfish.json"];
/// The variable that names a config.
pub const FILE_VARIABLE: &str = "PILOTFISH_CONFIG";

/// A config is written by people; what is longer was named by mistake.
const LONGEST_FILE: u64 = 1 << 20;

/// A config that can be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What in it may not be as meant.
    pub warnings: Vec<Mistake>,
}

/// Which file holds the config: the one named (by `-c`), else the one `PILOTFISH_CONFIG` names, else the first of
/// [`DEFAULT_FILES`] that is there, else none.
///
/// # Errors
/// The one named isn't there.
pub fn find(named: Option<&Path>, surroundings: &Surroundings) -> Result<Option<PathBuf>, Report> {
    find_among(named, surroundings, &DEFAULT_FILES)
}

fn find_among(named: Option<&Path>, surroundings: &Surroundings, defaults: &[&str]) -> Result<Option<PathBuf>, Report> {
    let variable = || surroundings.variables.get(FILE_VARIABLE).filter(|path| !path.is_empty());
    let (file, by) = match (named, variable()) {
        (Some(file), _) => (file.to_owned(), "-c"),
        (None, Some(file)) => (PathBuf::from(file), FILE_VARIABLE),
        // Not `exists`: a link to nowhere was meant to be something, and reading it says so.
        (None, None) => {
            return Ok(defaults.iter().map(PathBuf::from).find(|file| file.symlink_metadata().is_ok()));
        }
    };
    match file.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = format!("it was named by {by}; without that, {} are tried", defaults.join(" and "));
            Err(Report::whole(&file, "there is no such file", Some(hint)))
        }
        // Whatever else is wrong with it is said when it is read.
        _ => Ok(Some(file)),
    }
}

impl Config {
    /// Reads and checks a config file. `command` is what follows `--` and overrides `[process] exec`.
    ///
    /// # Errors
    /// Every mistake in it at once, or that it can't be read.
    pub fn load(file: &Path, command: Option<Exec>, surroundings: &Surroundings) -> Result<Loaded, Report> {
        Config::from_text(&read(file)?, file, command, surroundings)
    }

    /// Checks the text of a config; `file` names it in reports and says by its extension what language it is in.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn from_text(
        text: &str,
        file: &Path,
        command: Option<Exec>,
        surroundings: &Surroundings,
    ) -> Result<Loaded, Report> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut document = Document::parse(text, Syntax::of(file, text), &surroundings.variables);
        let raw = document.deserialize();
        let Document { root, mut problems, .. } = document;
        let config = raw.map(|raw| validate(raw, &root, command, &surroundings.hostname, &mut problems));
        let warnings = Report::of(file, text, problems)?;
        match config {
            Some(config) => Ok(Loaded { config, warnings }),
            None => Err(Report::whole(file, "the config can't be read, and it can't be told why", None)),
        }
    }
}

/// A document on its way to a config.
pub(super) struct Document<'t> {
    text: &'t str,
    syntax: Syntax,
    root: Node,
    problems: Vec<Problem>,
    /// See [`Parsed`].
    whole: bool,
    /// See [`Parsed`].
    sound_until: usize,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str, syntax: Syntax, variables: &Variables) -> Document<'t> {
        let mut problems = Vec::new();
        let Parsed { mut root, whole, sound_until } = parse(text, syntax, &mut problems);
        let mut found = Vec::new();
        expand(&mut root, variables, &mut found);
        let mut document = Document { text, syntax, root, problems, whole, sound_until };
        document.add(found);
        document
    }

    /// What can be used of it; `None` is always reported.
    fn deserialize(&mut self) -> Option<raw::Root> {
        if self.problems.is_empty()
            && let Ok(raw) = raw::Root::deserialize(&self.root)
        {
            return Some(raw);
        }
        self.check_shape();
        match raw::Root::deserialize(&self.root) {
            // What wasn't parsed would be reported as missing.
            Ok(raw) => self.whole.then_some(raw),
            Err(error) => {
                if !self.is_bad() {
                    let span = error.span.unwrap_or(self.root.span.clone());
                    self.problems.push(Problem::error(span, error.message));
                }
                None
            }
        }
    }

    /// Reports mistakes of shape.
    pub(super) fn check_shape(&mut self) {
        let mut found = Vec::new();
        check_shape(&mut self.root, self.syntax, &mut found);
        self.add(found);
    }

    /// Adds problems, but not where the text itself was already found wrong: there they would be echoes.
    fn add(&mut self, mut found: Vec<Problem>) {
        if !self.whole {
            let line = |problem: &Problem| line_of(self.text, problem.span.start);
            let wrong: Vec<usize> = self.problems.iter().map(line).collect();
            found.retain(|problem| problem.span.start < self.sound_until && !wrong.contains(&line(problem)));
        }
        self.problems.append(&mut found);
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    fn is_bad(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

pub(super) fn read(file: &Path) -> Result<String, Report> {
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => Some("pilotfish reads it as the user it was started as".to_owned()),
            _ => None,
        };
        Report::whole(file, format!("can't be read: {error}"), hint)
    };
    let mut bytes = Vec::new();
    File::open(file).and_then(|opened| opened.take(LONGEST_FILE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Report::whole(file, format!("is longer than {LONGEST_FILE} bytes; that is no config"), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Report::whole(file, format!("isn't UTF-8: byte {at}, in line {line}"), None)
    })
}
