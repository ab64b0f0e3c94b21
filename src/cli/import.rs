//! `pilotfish import`: another program's config as one of pilotfish's.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::stat::{Mode, umask};

use super::file;
use crate::config;
use crate::exit_codes::{BAD_CONFIG, BAD_USAGE, FAILED, LOSSY_IMPORT};
use crate::files::{Access, Destination};
use crate::import;
use crate::logging;
use crate::plain;

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE; NAME= is set and empty".to_owned()),
    }
}

/// Whether two paths are one file, by whatever names and links. What isn't a file, such as a terminal, can be both.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let file = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some((file.dev(), file.ino()))
    };
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Names of our own output, which may be anything.
const STDOUT: [&str; 3] = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

/// How open open(2) makes a new file here.
fn mode_of_new() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    0o666 & !mask.bits()
}

/// Makes it a file of this content, of this mode if it is new: it may hold secrets. By another's link no file of ours is
/// overwritten, and no pipe is waited for.
fn write(output: &Path, text: &str, new: u32) -> io::Result<()> {
    let destination = Destination::find(output, false)?;
    let mode = destination.is_new().then_some(new);
    destination.replace(text.as_bytes(), Access { mode, owner: None })
}

/// Writes the config to `output` or stdout, and notes to stderr.
pub fn import(source: &Path, set: Vec<(String, String)>, output: Option<&Path>) -> u8 {
    let named = if source == Path::new("-") { Path::new("/dev/stdin") } else { source };
    if let Some(output) = output.filter(|output| is_one_file(named, output)) {
        let what = format!("error: {} is the file that is imported; name another one for -o", output.display());
        logging::last_words(&format!("{what}\n"));
        return BAD_USAGE;
    }
    let imported = match config::read(named).and_then(|text| import::import(&text, named, &set.into_iter().collect())) {
        Ok(imported) => imported,
        Err(report) => {
            logging::last_words(&format!("{report}\n"));
            return BAD_CONFIG;
        }
    };
    let written = match output {
        None => file::print(&imported.toml) == 0,
        Some(output) if STDOUT.iter().any(|stdout| output == Path::new(stdout)) => file::print(&imported.toml) == 0,
        Some(output) if output == Path::new("/dev/null") => true,
        Some(output) => write(output, &imported.toml, mode_of_new())
            .inspect_err(|error| {
                logging::last_words(&format!("error: {} can't be written: {error}\n", output.display()))
            })
            .is_ok(),
    };
    let notes: String = imported.notes.iter().map(|note| format!("{}\n", plain::line(&note.to_string()))).collect();
    let lost = imported.notes.iter().filter(|note| note.lost).count();
    let sum = match lost {
        0 => String::new(),
        1 => "1 thing couldn't be carried over\n".to_owned(),
        many => format!("{many} things couldn't be carried over\n"),
    };
    logging::last_words(&format!("{notes}{sum}"));
    match (written, lost) {
        (false, _) => FAILED,
        (true, 0) => 0,
        (true, _) => LOSSY_IMPORT,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    #[test]
    fn an_import_overwrites_no_file_of_roots_by_anothers_link_and_waits_for_no_pipe() {
        const OTHER: u32 = 65_534;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
        let [new, link, roots, app] = ["new", "link", "roots", "app"].map(|name| directory.path().join(name));
        write(&new, "one", 0o640).unwrap();
        symlink("new", &link).unwrap();
        write(&link, "two", 0o644).unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "two");
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o7777, 0o640);
        fs::write(&roots, "precious").unwrap();
        fs::set_permissions(&roots, Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(&app).unwrap();
        match chown(&app, Some(OTHER), Some(OTHER)) {
            Ok(()) => {
                symlink(&roots, app.join("out")).unwrap();
                lchown(app.join("out"), Some(OTHER), Some(OTHER)).unwrap();
                let written = write(&app.join("out"), "theirs", 0o644);
                assert_eq!(fs::read_to_string(&roots).unwrap(), "precious");
                assert_eq!(written.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            }
            Err(error) => eprintln!("not tried: only root has other users' directories ({error})"),
        }
        nix::unistd::mkfifo(&app.join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(write(&app.join("pipe"), "text", 0o644).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
