//! From a file to a [`Config`] or a [`Report`]: find, read, parse, expand, check.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::context::Context;
use super::document::{Document, read};
use super::expand::LeftOut;
use super::parse::{Lines, Syntax};
use super::render::masked;
use super::report::{Mistake, Report};
use super::validate::{over_the_config, validate};
use super::{Config, Exec};

/// Where a config is looked for when none is named, in this order.
pub const DEFAULT_FILES: [&str; 2] = ["/etc/pilotfish.toml", "/etc/pilotfish.json"];
/// The variable that names a config.
pub const FILE_VARIABLE: &str = "PILOTFISH_CONFIG";

/// The variable that names ContainerPilot's config, as a path, as `file://` and a path, or as the text itself.
const CONTAINERPILOT_VARIABLE: &str = "CONTAINERPILOT";

/// A config that can be used. Written down, it is its text.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Loaded {
    /// The config.
    #[serde(skip)]
    pub config: Config,
    /// What in it may not be as meant.
    #[serde(skip)]
    pub warnings: Vec<Mistake>,
    /// What to know about a config that was another program's, a line each.
    #[serde(skip)]
    pub remarks: Vec<String>,
    /// Which tables aren't there because their `enabled` says so, a line each.
    #[serde(skip)]
    pub left_out: Vec<String>,
    /// What it was made of; empty where there was no file.
    pub written: Written,
}

/// What a config was made of, with stars for secrets: what an agent decides by it is what it decides by the other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Written {
    /// The file's name.
    pub file: String,
    /// Its text, templates filled in.
    pub text: String,
    /// The program that stood after `--`, if any; not its arguments.
    pub program: Option<String>,
    /// The host's name.
    pub hostname: String,
}

impl From<Config> for Loaded {
    fn from(config: Config) -> Loaded {
        Loaded { config, warnings: Vec::new(), remarks: Vec::new(), left_out: Vec::new(), written: Written::default() }
    }
}

/// Which file holds the config: the one named (by `-c`), else the one `PILOTFISH_CONFIG` names, else the first of
/// [`DEFAULT_FILES`] that is there, else ContainerPilot's, which `CONTAINERPILOT` names, else none. Of ContainerPilot's
/// the name may be the text itself, as there.
///
/// # Errors
/// The one named isn't there.
pub fn find(named: Option<&Path>, context: &Context) -> Result<Option<PathBuf>, Report> {
    find_among(named, context, &DEFAULT_FILES)
}

fn find_among(named: Option<&Path>, context: &Context, defaults: &[&str]) -> Result<Option<PathBuf>, Report> {
    let variable = || context.variables.get(FILE_VARIABLE).filter(|path| !path.is_empty());
    let (file, by) = match (named, variable()) {
        (Some(file), _) => (file.to_owned(), "the command line"),
        (None, Some(file)) => (PathBuf::from(file), FILE_VARIABLE),
        (None, None) => {
            // Not `exists`: a link to nowhere was meant to be something, and reading it says so.
            let default = defaults.iter().map(PathBuf::from).find(|file| file.symlink_metadata().is_ok());
            let theirs = || context.variables.get(CONTAINERPILOT_VARIABLE).filter(|value| !value.is_empty());
            match (default, theirs()) {
                (Some(file), _) => return Ok(Some(file)),
                (None, Some(value)) => {
                    let path = value.as_bytes().strip_prefix(b"file://").unwrap_or(value.as_bytes());
                    (PathBuf::from(OsStr::from_bytes(path)), CONTAINERPILOT_VARIABLE)
                }
                (None, None) => return Ok(None),
            }
        }
    };
    if inline(&file).is_some() {
        return Ok(Some(file));
    }
    match file.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let hint = format!("it was named by {by}; without that, {} are tried", defaults.join(" and "));
            Err(Report::whole(&file, "there is no such file", Some(hint)))
        }
        // Whatever else is wrong with it is said when it is read.
        _ => Ok(Some(file)),
    }
}

/// The config that stands where its path is looked for, as ContainerPilot 2 took it.
fn inline(file: &Path) -> Option<&str> {
    file.to_str().filter(|text| text.trim_start().starts_with('{') && text.contains(':'))
}

/// A config's text, and what its file is called.
pub(super) fn read_named(file: &Path) -> Result<(String, PathBuf), Report> {
    match inline(file) {
        Some(text) => Ok((text.to_owned(), PathBuf::from("the config on the command line"))),
        None => Ok((read(file)?, file.to_owned())),
    }
}

impl Config {
    /// Reads and checks a config file. `command` is what follows `--` and overrides `[process] exec`.
    ///
    /// # Errors
    /// Every mistake in it at once, or that it can't be read.
    pub fn load(file: &Path, command: Option<Exec>, context: &Context) -> Result<Loaded, Report> {
        Config::from_text(&read(file)?, file, command, context)
    }

    /// Checks the text of a config; `file` names it in reports and says by its extension what language it is in.
    ///
    /// # Errors
    /// Every mistake in it at once.
    pub fn from_text(text: &str, file: &Path, command: Option<Exec>, context: &Context) -> Result<Loaded, Report> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut document = Document::parse(text, Syntax::of(file, text), &context.variables);
        let raw = document.deserialize();
        let Document { root, syntax, mut problems, left_out, .. } = document;
        let program = command.as_ref().and_then(|command| command.first());
        let written = Written {
            file: file.display().to_string(),
            text: masked(text, syntax, &root, &left_out),
            program: program.map(|program| program.to_string_lossy().into_owned()),
            hostname: context.hostname.clone(),
        };
        let config = raw.map(|raw| validate(raw, &root, command, context, syntax, &left_out, &mut problems));
        if let Some(config) = &config {
            over_the_config(&config.watches, &root, file, &mut problems);
        }
        let warnings = Report::of(file, text, problems)?;
        match config {
            Some(config) => {
                let lines = Lines::of(text);
                let place = |out: &LeftOut| format!("{}:{}", file.display(), lines.line(out.span.start) + 1);
                let left_out = left_out.iter().map(|out| format!("{}: {out}", place(out))).collect();
                Ok(Loaded { warnings, left_out, written, ..Loaded::from(config) })
            }
            None => Err(Report::whole(file, "the config can't be read, and it can't be told why", None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(by_variable: &Path) -> Context {
        Context { variables: [(FILE_VARIABLE, by_variable)].into_iter().collect(), hostname: String::new() }
    }

    fn load(file: &Path) -> Result<Loaded, Report> {
        Config::load(file, None, &Context::default())
    }

    #[test]
    fn the_named_file_comes_before_the_variable_and_that_before_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        let [first, second, default] = ["first", "second", "default"].map(|name| {
            let file = folder.path().join(name);
            std::fs::write(&file, "").unwrap();
            file
        });
        let defaults = ["/nowhere", default.to_str().unwrap()];
        let nothing = Context::default();
        let found = |named: Option<&Path>, context: &Context| find_among(named, context, &defaults).unwrap();
        assert_eq!(found(Some(&first), &named(&second)), Some(first.clone()));
        assert_eq!(found(None, &named(&second)), Some(second.clone()));
        assert_eq!(found(None, &named(Path::new(""))), Some(default.clone()));
        assert_eq!(found(None, &nothing), Some(default.clone()));
        assert_eq!(find_among(None, &nothing, &["/nowhere"]).unwrap(), None);
    }

    #[test]
    fn containerpilots_variable_comes_last_and_may_be_the_config_itself() {
        let folder = tempfile::tempdir().unwrap();
        let [theirs, default] = ["containerpilot.json", "default"].map(|name| folder.path().join(name));
        std::fs::write(&theirs, "{}").unwrap();
        let by = |value: String| Context {
            variables: [("CONTAINERPILOT", value)].into_iter().collect(),
            hostname: String::new(),
        };
        let found = |value: String| find_among(None, &by(value), &[default.to_str().unwrap()]).unwrap();
        assert_eq!(found(theirs.display().to_string()), Some(theirs.clone()));
        assert_eq!(found(format!("file://{}", theirs.display())), Some(theirs.clone()));
        let text = "{ \"services\": [] }".to_owned();
        assert_eq!(found(text.clone()), Some(PathBuf::from(&text)));
        assert_eq!(read_named(Path::new(&text)).unwrap().0, text);
        std::fs::write(&default, "").unwrap();
        assert_eq!(found(theirs.display().to_string()), Some(default.clone()));
    }

    #[test]
    fn a_file_that_is_named_and_missing_is_an_error() {
        for result in [
            find_among(Some(Path::new("/nowhere")), &Context::default(), &[]),
            find_among(None, &named(Path::new("/nowhere")), &[]),
        ] {
            let report = result.unwrap_err().to_string();
            assert!(report.contains("there is no such file") && report.contains("/nowhere"), "{report}");
        }
    }

    #[test]
    fn a_default_that_is_a_link_to_nowhere_is_found_and_reported_when_read() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("pilotfish.toml");
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
        let found = find_among(None, &Context::default(), &[link.to_str().unwrap()]).unwrap();
        assert_eq!(found.as_deref(), Some(link.as_path()));
        assert!(load(&link).unwrap_err().to_string().contains("can't be read"));
    }

    #[test]
    fn what_is_no_text_file_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        assert!(load(folder.path()).unwrap_err().to_string().contains("can't be read"));
        std::fs::write(&file, b"a = 1\nb = \"\xff\"\n").unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("isn't UTF-8: byte 11, in line 2"));
        std::fs::write(&file, vec![b'#'; super::super::document::LONGEST_FILE as usize + 1]).unwrap();
        assert!(load(&file).unwrap_err().to_string().contains("that isn't a config"));
        let pipe = folder.path().join("pipe.toml");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(load(&pipe).unwrap_err().to_string().contains("it isn't a plain file"));
        assert!(load(Path::new("/dev/zero")).unwrap_err().to_string().contains("that isn't a config"));
    }

    #[test]
    fn a_template_over_the_config_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        let template = |destination: &Path| {
            let head = "process.exec = [\"a\"]\ncatalog.backend = \"consul\"\n[[watch]]\nkey = \"a\"\n";
            let text = format!("{head}template = {{ source = \"/a\", destination = \"{}\" }}\n", destination.display());
            std::fs::write(&file, text).unwrap();
            load(&file)
        };
        let report = template(&file).unwrap_err().to_string();
        assert!(report.contains("overwrite the config") && report.contains("t.toml:5"), "{report}");
        template(&folder.path().join("other")).unwrap();
    }

    #[test]
    fn a_file_is_read_checked_and_named_in_its_report() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.toml");
        std::fs::write(&file, "process.exec = [\"a\"]\n").unwrap();
        assert_eq!(load(&file).unwrap().config.process.exec, ["a"]);
        std::fs::write(&file, "process.exce = [\"a\"]\n").unwrap();
        let report = load(&file).unwrap_err();
        assert_eq!(report.file(), file);
        assert!(report.to_string().contains(&format!("{}:1:9", file.display())));
    }
}
