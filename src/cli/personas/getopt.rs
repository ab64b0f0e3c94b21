//! getopt(3) and getopt_long(3) as far as the inits use them: what follows the first argument that is no option is the
//! program's. glibc would look for options there, too, and take a program's own for the init's.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// An option, with its value, which is empty where it takes none.
    Option(char, OsString),
    /// No option, or one without its value, in getopt's words.
    Mistake(String),
}

/// A command line's options.
pub struct Options<'a> {
    args: &'a [OsString],
    short: &'a str,
    long: &'a [(&'a str, char)],
    next: usize,
    /// What follows in a bundle such as `-vv`.
    bundle: &'a [u8],
}

impl<'a> Options<'a> {
    /// Of these arguments, the first of which is the program's name. A colon follows each short option that takes a
    /// value.
    pub fn new(args: &'a [OsString], short: &'a str, long: &'a [(&'a str, char)]) -> Options<'a> {
        Options { args, short, long, next: 1, bundle: &[] }
    }

    /// The next option.
    pub fn next(&mut self) -> Option<Found> {
        if !self.bundle.is_empty() {
            return Some(self.of_bundle());
        }
        let argument = self.args.get(self.next)?.as_bytes();
        if argument == b"--" {
            self.next += 1;
            // Nothing after it is an option.
            self.args = &self.args[self.next.min(self.args.len())..];
            self.next = usize::MAX;
            return None;
        }
        if argument.len() < 2 || argument[0] != b'-' {
            return None;
        }
        self.next += 1;
        if !self.long.is_empty()
            && let Some(long) = argument.strip_prefix(b"--")
        {
            return Some(self.of_long(long));
        }
        self.bundle = &argument[1..];
        Some(self.of_bundle())
    }

    /// What is left once there is no option any more.
    pub fn rest(&self) -> &'a [OsString] {
        match self.next {
            usize::MAX => self.args,
            next => self.args.get(next..).unwrap_or_default(),
        }
    }

    fn takes_value(&self, option: char) -> Option<bool> {
        let mut rest = self.short.chars().skip_while(|known| *known != option || option == ':');
        rest.next().map(|_| rest.next() == Some(':'))
    }

    fn of_bundle(&mut self) -> Found {
        let (first, rest) = (self.bundle[0], &self.bundle[1..]);
        self.bundle = rest;
        let option = char::from(first);
        match self.takes_value(option) {
            None => Found::Mistake(format!("{}: invalid option -- '{}'", self.name(), option.escape_default())),
            Some(false) => Found::Option(option, OsString::new()),
            Some(true) if rest.is_empty() => self.with_next(option, &option.to_string()),
            Some(true) => {
                self.bundle = &[];
                Found::Option(option, OsStr::from_bytes(rest).to_owned())
            }
        }
    }

    fn of_long(&mut self, text: &'a [u8]) -> Found {
        let mut parts = text.splitn(2, |byte| *byte == b'=');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next());
        let mut fits = self.long.iter().filter(|(long, _)| long.as_bytes().starts_with(name));
        let exact = self.long.iter().find(|(long, _)| long.as_bytes() == name);
        let shown = String::from_utf8_lossy(name);
        let (long, option) = match (exact, fits.next(), fits.next()) {
            (Some(exact), ..) | (None, Some(exact), None) => *exact,
            (None, Some(_), Some(_)) => {
                return Found::Mistake(format!("{}: option '--{shown}' is ambiguous", self.name()));
            }
            (None, None, _) => return Found::Mistake(format!("{}: unrecognized option '--{shown}'", self.name())),
        };
        match (self.takes_value(option) == Some(true), value) {
            (true, Some(value)) => Found::Option(option, OsStr::from_bytes(value).to_owned()),
            (true, None) => self.with_next(option, long),
            (false, None) => Found::Option(option, OsString::new()),
            (false, Some(_)) => Found::Mistake(format!("{}: option '--{long}' doesn't allow an argument", self.name())),
        }
    }

    fn with_next(&mut self, option: char, shown: &str) -> Found {
        match self.args.get(self.next) {
            Some(value) => {
                self.next += 1;
                Found::Option(option, value.clone())
            }
            None => Found::Mistake(format!("{}: option requires an argument -- '{shown}'", self.name())),
        }
    }

    fn name(&self) -> String {
        self.args.first().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}
