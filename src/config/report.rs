//! What is wrong with a config: every mistake at once, each with file, line, column, the place itself and help. It
//! judges nothing.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::redact::redact;
use super::tree::Span;
use crate::plain;

/// A file that isn't a config at all has as many mistakes as lines; nobody reads more than this.
pub(crate) const MOST_SHOWN: usize = 100;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The config isn't used.
    Error,
    /// The config is used, though something in it may not be as meant.
    Warning,
}

/// A mistake before it is known in which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) label: Option<String>,
    pub(crate) hint: Option<String>,
    /// Another place that has to do with it.
    pub(crate) other: Option<(Span, String)>,
}

impl Problem {
    pub(crate) fn error(span: Span, message: impl Into<String>) -> Problem {
        let severity = Severity::Error;
        Problem { severity, span, message: message.into(), label: None, hint: None, other: None }
    }

    pub(crate) fn warning(span: Span, message: impl Into<String>) -> Problem {
        Problem { severity: Severity::Warning, ..Problem::error(span, message) }
    }

    /// Says something beside the caret.
    pub(crate) fn label(self, label: impl Into<String>) -> Problem {
        Problem { label: Some(label.into()), ..self }
    }

    /// Says what to do.
    pub(crate) fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    /// Says what to do, if that is known.
    pub(crate) fn maybe_hint(self, hint: Option<String>) -> Problem {
        Problem { hint, ..self }
    }

    /// Shows another place that has to do with it.
    pub(crate) fn other(self, span: Span, label: impl Into<String>) -> Problem {
        Problem { other: Some((span, label.into())), ..self }
    }
}

/// One thing that is wrong, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// How bad it is.
    pub severity: Severity,
    /// From 1; 0 where the whole file is meant.
    pub line: usize,
    /// In characters, from 1; 0 where the whole file is meant.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    file: PathBuf,
    /// As people read it: with the lines themselves, but for their secrets, and a caret.
    picture: String,
}

impl Mistake {
    fn new(file: &Path, source: &str, problem: Problem) -> Mistake {
        // What words quote of a value is no less secret than its line, and may steer a terminal as well.
        let fit = |words: &str| plain::line(&redact(words)).into_owned();
        let problem = Problem {
            message: fit(&problem.message),
            label: problem.label.as_deref().map(fit),
            hint: problem.hint.as_deref().map(fit),
            other: problem.other.map(|(span, label)| (span, fit(&label))),
            ..problem
        };
        let (line, column) = position(source, problem.span.start);
        let picture = draw(file, source, &problem);
        let Problem { severity, message, hint, .. } = problem;
        Mistake { severity, line, column, message, hint, file: file.to_owned(), picture }
    }

    /// As people read it: with the lines themselves, a caret, and help.
    pub fn picture(&self) -> &str {
        &self.picture
    }
}

/// One line, for logs: `file:line:column: message (hint)`.
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

/// Every mistake in a config that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    file: PathBuf,
    mistakes: Vec<Mistake>,
    /// How many errors there are, also those that aren't shown.
    errors: usize,
}

impl Report {
    /// A report on a whole file, not on a place in it.
    pub(crate) fn whole(file: &Path, message: impl Into<String>, hint: Option<String>) -> Report {
        let message = message.into();
        let mut picture = format!("error: {message}\n  --> {}", file.display());
        if let Some(hint) = &hint {
            let _ = write!(picture, "\n   = help: {hint}");
        }
        let mistake =
            Mistake { severity: Severity::Error, line: 0, column: 0, message, hint, file: file.to_owned(), picture };
        Report { file: file.to_owned(), mistakes: vec![mistake], errors: 1 }
    }

    /// A report on a whole file that says what to do.
    pub fn about(file: &Path, message: impl Into<String>, hint: impl Into<String>) -> Report {
        Report::whole(file, message, Some(hint.into()))
    }

    /// Sorts problems by place; a report if one of them is an error, else the warnings.
    pub(crate) fn of(file: &Path, source: &str, mut problems: Vec<Problem>) -> Result<Vec<Mistake>, Report> {
        problems.sort_by_key(|problem| (problem.span.start, problem.span.end));
        problems.dedup();
        let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        problems.truncate(MOST_SHOWN);
        // Reports go to logs. The whole file at once: a secret may begin on a line before the one that is shown.
        let source = redact(source);
        let mistakes = problems.into_iter().map(|problem| Mistake::new(file, &source, problem)).collect();
        if errors > 0 { Err(Report { file: file.to_owned(), mistakes, errors }) } else { Ok(mistakes) }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The mistakes (at most a hundred), and what else was noticed, in the order of the file.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

/// As people read it: each mistake with its lines, and how many there are.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.mistakes {
            writeln!(f, "{}\n", mistake.picture)?;
        }
        let noun = if self.errors == 1 { "mistake" } else { "mistakes" };
        write!(f, "{} {noun} in {}", self.errors, self.file.display())?;
        let shown = self.mistakes.iter().filter(|mistake| mistake.severity == Severity::Error).count();
        if shown < self.errors { write!(f, ", of which the first {shown} are shown") } else { Ok(()) }
    }
}

impl std::error::Error for Report {}

/// Line and column (in characters), from 1.
fn position(source: &str, offset: usize) -> (usize, usize) {
    let offset = boundary(source, offset);
    let before = &source[..offset];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// The nearest character boundary at or before an offset.
fn boundary(source: &str, offset: usize) -> usize {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

/// The first line of a span: a caret under ten lines of table says less than one under its header.
fn first_line(source: &str, span: &Span) -> Span {
    let start = boundary(source, span.start);
    let end = boundary(source, span.end.max(start));
    let line = source[start..end].split('\n').next().unwrap_or_default().trim_end();
    start..start + line.len()
}

fn draw(file: &Path, source: &str, problem: &Problem) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let file = file.display().to_string();
    let main = first_line(source, &problem.span);
    let other = problem.other.as_ref().map(|(span, label)| (first_line(source, span), label));
    // Only the lines that are shown: looking through the whole file for each mistake takes its time.
    let first = other.as_ref().map_or(main.start, |(span, _)| span.start.min(main.start));
    let last = other.as_ref().map_or(main.end, |(span, _)| span.end.max(main.end));
    let start = source[..first].rfind('\n').map_or(0, |newline| newline + 1);
    let end = source[last..].find('\n').map_or(source.len(), |newline| last + newline);
    let within = |span: Span| span.start - start..span.end - start;
    let caret = AnnotationKind::Primary.span(within(main)).label(problem.label.as_deref());
    let mut snippet = Snippet::source(&source[start..end])
        .line_start(position(source, start).0)
        .path(file.as_str())
        .annotation(caret);
    if let Some((span, label)) = other {
        snippet = snippet.annotation(AnnotationKind::Context.span(within(span)).label(label.as_str()));
    }
    let mut group: Group<'_> = level.primary_title(problem.message.as_str()).element(snippet);
    if let Some(hint) = &problem.hint {
        group = group.element(Level::HELP.message(hint.as_str()));
    }
    // The renderer takes out most of what steers a terminal, but not all: U+FEFF stays, and other signs nobody sees.
    plain::lines(&Renderer::plain().render(&[group])).into_owned()
}
