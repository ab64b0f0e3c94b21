//! A watch's template made a file: rendered beside its destination, and put in place in one step. It doesn't decide
//! when, and knows nothing of the check in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::config::Template;
use crate::config::Variables;
use crate::config::template::{self, TemplateError};
use crate::supervisor::event::{Instance, Observation, Staged};

/// A template is text somebody wrote; more than this is a mistake.
const SOURCE_AT_MOST: u64 = 1 << 20;

/// Why a template didn't become a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template couldn't be read.
    #[error("can't read {path}")]
    Read {
        /// The template's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The template couldn't be rendered.
    #[error(transparent)]
    Render(#[from] TemplateError),
    /// The new file couldn't be written or put in place.
    #[error("can't write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a template may use.
#[derive(Debug, Serialize)]
struct Context<'a> {
    watch: &'a str,
    instances: &'a [Instance],
    /// Left out for a key that isn't there, so that `default()` sees it and a template without one says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    keys: std::collections::BTreeMap<&'a str, &'a str>,
}

/// Renders a template beside its destination; `None` when the destination already has this content.
///
/// # Errors
/// The template can't be read or rendered, or the new file not be written.
pub fn stage(
    watch: &str,
    template: &Template,
    seen: &Observation,
    variables: &Variables,
) -> Result<Option<Staged>, Error> {
    let source = read(&template.source)?;
    let context = match seen {
        Observation::Instances(instances) => Context { watch, instances, value: None, keys: Default::default() },
        Observation::Key(value) => Context { watch, instances: &[], value: value.as_deref(), keys: Default::default() },
        Observation::Keys(keys) => {
            let keys = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            Context { watch, instances: &[], value: None, keys }
        }
    };
    let text = template::render_file(&source, &template.source.to_string_lossy(), context, variables)?;
    // A symlink at the destination stays one: the file it points at is replaced.
    let destination = fs::canonicalize(&template.destination).unwrap_or_else(|_| template.destination.clone());
    let unwritten = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let old = match File::open(&destination) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(unwritten(&destination)(error)),
    };
    if let Some(old) = &old
        && same(old, &text).map_err(unwritten(&destination))?
    {
        return Ok(None);
    }
    let path = beside(&destination);
    write(&path, &text, old.as_ref()).map_err(|error| {
        let _ = fs::remove_file(&path);
        unwritten(&path)(error)
    })?;
    Ok(Some(Staged { path, destination }))
}

/// Puts a staged file in place, atomically where the file system allows it.
///
/// # Errors
/// It couldn't be put there; the staged file is gone.
pub fn install(staged: &Staged) -> Result<(), Error> {
    let moved = match fs::rename(&staged.path, &staged.destination) {
        // A file bind-mounted by itself (docker run -v FILE:FILE) can't be replaced, only rewritten.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            fs::read(&staged.path).and_then(|text| fs::write(&staged.destination, text))
        }
        other => other,
    };
    let _ = fs::remove_file(&staged.path);
    moved.map_err(|source| Error::Write { path: staged.destination.clone(), source })
}

/// Removes a staged file.
pub fn discard(staged: &Staged) {
    let _ = fs::remove_file(&staged.path);
}

fn read(path: &Path) -> Result<String, Error> {
    let unread = |source| Error::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unread)?;
    file.take(SOURCE_AT_MOST + 1).read_to_string(&mut text).map_err(unread)?;
    if text.len() as u64 > SOURCE_AT_MOST {
        return Err(unread(io::Error::new(io::ErrorKind::FileTooLarge, "a template holds at most 1 MiB")));
    }
    Ok(text)
}

fn same(file: &File, text: &str) -> io::Result<bool> {
    if file.metadata()?.len() != text.len() as u64 {
        return Ok(false);
    }
    let mut old = Vec::with_capacity(text.len());
    file.take(text.len() as u64 + 1).read_to_end(&mut old)?;
    Ok(old == text.as_bytes())
}

/// In the same directory, so that a rename can put it in place; hidden, so that `include *.conf` doesn't see it.
fn beside(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    destination.with_file_name(format!(".{name}.pilotfish"))
}

fn write(path: &Path, text: &str, old: Option<&File>) -> io::Result<()> {
    // What a crash left is not written into but replaced: it may be a link somebody else planted.
    let _ = fs::remove_file(path);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    new.write_all(text.as_bytes())?;
    if let Some(old) = old.map(File::metadata).transpose()? {
        let ours = new.metadata()?;
        if (old.uid(), old.gid()) != (ours.uid(), ours.gid()) {
            std::os::unix::fs::fchown(&new, Some(old.uid()), Some(old.gid()))?;
        }
        new.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
    }
    new.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(directory: &Path, text: &str) -> Template {
        let source = directory.join("app.conf.j2");
        fs::write(&source, text).unwrap();
        let destination = directory.join("app.conf");
        let check_timeout = std::time::Duration::from_secs(1);
        Template { source, destination, check: None, check_as: Default::default(), check_timeout }
    }

    fn value(value: &str) -> Observation {
        Observation::Key(Some(value.to_owned()))
    }

    #[test]
    fn a_new_file_is_live_only_once_installed_and_then_not_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let template = template(directory.path(), "it is {{ value }}\n");
        let variables = Variables::default();
        let staged = stage("w", &template, &value("1"), &variables).unwrap().unwrap();
        assert!(!template.destination.exists());
        install(&staged).unwrap();
        assert_eq!(fs::read_to_string(&template.destination).unwrap(), "it is 1\n");
        assert!(stage("w", &template, &value("1"), &variables).unwrap().is_none());
        let staged = stage("w", &template, &value("2"), &variables).unwrap().unwrap();
        discard(&staged);
        assert_eq!(fs::read_to_string(&template.destination).unwrap(), "it is 1\n");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn owner_mode_and_a_symlink_at_the_destination_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let template = template(directory.path(), "{{ value }}");
        let real = directory.path().join("real.conf");
        fs::write(&real, "old").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &template.destination).unwrap();
        install(&stage("w", &template, &value("new"), &Variables::default()).unwrap().unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        assert_eq!(fs::metadata(&real).unwrap().mode() & 0o7777, 0o640);
        assert!(fs::symlink_metadata(&template.destination).unwrap().is_symlink());
    }

    #[test]
    fn an_error_in_the_template_names_it_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let template = template(directory.path(), "{{ nobody.knows.this }}");
        let error = stage("w", &template, &value("1"), &Variables::default()).unwrap_err();
        assert!(crate::catalog::report(&error).contains("app.conf.j2"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
