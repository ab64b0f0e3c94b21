//! A file of ours in a directory of ours, for commands that look at what isn't live yet where it may not lie beside
//! what it replaces. Nobody else may put another in its place: whoever checks it may be root.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use super::find;
use super::walk::refused;

/// Where temporary directories may be made; containers with a read-only root have at least the second.
const PLACES: [&str; 4] = ["/run", "/dev/shm", "/tmp", "/var/tmp"];

/// Of a file that is for one reader.
const READER: u32 = 0o400;

/// A directory with one file; both are gone with it.
#[derive(Debug)]
pub struct Scratch;

impl Scratch {
    /// Makes a file of this name and content, that nobody else may change; `mode` says who may read it. With a `reader` it
    /// is for that user alone, and theirs to change, as what they make of it is.
    ///
    /// # Errors
    /// No temporary directory can be written.
    pub fn make(name: &std::ffi::OsStr, text: &[u8], mode: u32, reader: Option<u32>) -> io::Result<PathBuf> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for place in PLACES {
            match make_in(Path::new(place), name, text, mode, reader) {
                Ok(path) => return Ok(path),
                Err(error) => last = error,
            }
        }
        let what = format!("no temporary directory can be written (tried {}): {last}", PLACES.join(", "));
        Err(io::Error::new(last.kind(), what))
    }

    /// Removes what [`make`](Self::make) made.
    pub fn remove(path: &Path) {
        let _ = fs::remove_file(path);
        if let Some(directory) = path.parent() {
            let _ = fs::remove_dir(directory);
        }
    }
}

pub(super) fn make_in(
    place: &Path,
    name: &std::ffi::OsStr,
    text: &[u8],
    mode: u32,
    reader: Option<u32>,
) -> io::Result<PathBuf> {
    let directory = place.join(format!(".pilotfish-{:016x}", random()));
    if let Some(hand) = find(&directory)?.led_by {
        return Err(refused(hand, "may move what is in it"));
    }
    // Fails on whatever is there already, links too.
    DirBuilder::new().mode(0o700).create(&directory)?;
    let path = directory.join(name);
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text)?;
        // Given away last, for its mode is its owner's to set; who may not give it away lets them read what its mode lets them.
        let given = reader.is_some_and(|reader| {
            file.set_permissions(fs::Permissions::from_mode(READER)).is_ok()
                && fchown(&file, Some(reader), None).is_ok()
        });
        if !given {
            file.set_permissions(fs::Permissions::from_mode(mode))?;
        }
        // Its name can't be guessed; who runs the check must be able to get at it.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))
    };
    write().inspect_err(|_| Scratch::remove(&path))?;
    Ok(path)
}

/// From std's keys of hash maps, which are the kernel's random numbers.
fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
