//! A config's text, read and parsed, with what is wrong with it so far: on its way to a config, or to people's eyes.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use serde::Deserialize;

use super::context::Variables;
use super::expand::{LeftOut, expand};
use super::parse::{Lines, ParsedFile, Syntax, parse};
use super::raw;
use super::report::{Problem, Report, Severity};
use super::schema::check_shape;
use super::tree::Node;

/// A config is written by people; what is longer was named by mistake.
pub(super) const LONGEST_FILE: u64 = 256 << 10;

/// What may stand alone as well as in an array.
const ALONE_OR_SEVERAL: [&str; 2] = ["hooks", "pre_start"];

/// A document on its way to a config.
pub(super) struct Document<'t> {
    text: &'t str,
    pub(super) syntax: Syntax,
    pub(super) root: Node,
    pub(super) problems: Vec<Problem>,
    pub(super) left_out: Vec<LeftOut>,
    /// See [`ParsedFile`].
    whole: bool,
    /// See [`ParsedFile`].
    sound_until: usize,
}

impl<'t> Document<'t> {
    pub(super) fn parse(text: &'t str, syntax: Syntax, variables: &Variables) -> Document<'t> {
        let mut problems = Vec::new();
        let ParsedFile { mut root, whole, sound_until } = parse(text, syntax, &mut problems);
        root.lists(&ALONE_OR_SEVERAL);
        let mut found = Vec::new();
        let left_out = expand(&mut root, variables, &mut found);
        let mut document = Document { text, syntax, root, problems, left_out, whole, sound_until };
        document.add(found);
        document
    }

    /// What can be used of it; `None` is always reported.
    pub(super) fn deserialize(&mut self) -> Option<raw::Root> {
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
            let lines = Lines::of(self.text);
            let line = |problem: &Problem| lines.line(problem.span.start);
            let wrong: BTreeSet<usize> = self.problems.iter().map(line).collect();
            found.retain(|problem| problem.span.start < self.sound_until && !wrong.contains(&line(problem)));
        }
        self.problems.append(&mut found);
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The tables that aren't there.
    pub(super) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    pub(super) fn take_problems(&mut self) -> Vec<Problem> {
        std::mem::take(&mut self.problems)
    }

    fn is_bad(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}

/// The text of a config.
///
/// # Errors
/// It can't be read, isn't text, or is longer than any config.
pub fn read(file: &Path) -> Result<String, Report> {
    let unreadable = |error: io::Error| {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => Some("pilotfish reads it as the user it was started as".to_owned()),
            _ => None,
        };
        Report::whole(file, format!("can't be read: {error}"), hint)
    };
    let mut bytes = Vec::new();
    open(file).and_then(|opened| opened.take(LONGEST_FILE + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LONGEST_FILE {
        return Err(Report::whole(file, format!("is longer than {LONGEST_FILE} bytes; that isn't a config"), None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        Report::whole(file, format!("isn't UTF-8: byte {at}, in line {line}"), None)
    })
}

/// A pipe somebody put in a file's place is not waited for; one that a shell hands over (`/dev/stdin`, `/dev/fd/63`) is
/// read.
fn open(file: &Path) -> io::Result<File> {
    let handed_over = ["/dev/", "/proc/"].iter().any(|place| file.starts_with(place));
    let flags = if handed_over { 0 } else { libc::O_NONBLOCK | libc::O_NOCTTY };
    let opened = OpenOptions::new().read(true).custom_flags(flags).open(file)?;
    match handed_over || opened.metadata()?.is_file() {
        true => Ok(opened),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it isn't a plain file")),
    }
}
