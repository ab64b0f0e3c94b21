//! Reads tokens, passwords and certificates from the files the config names, at each use, so that a file that was
//! replaced counts from the next call on. It keeps nothing itself.

use std::io;
use std::path::PathBuf;

use crate::config::backends::{Secret, SecretSource};
use crate::errors::chain;
use crate::files;

use super::last_good::LastGood;

/// A token or password is never longer than this.
const LONGEST_SECRET: u64 = 8 * 1024;

/// A file the config names couldn't be read.
#[derive(Debug, thiserror::Error)]
#[error("[catalog] {key}: {path} can't be read", path = path.display())]
pub struct FileError {
    /// The key that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The secret as it is now; ends of lines before and after it don't count.
///
/// # Errors
/// The file can't be read, isn't a plain file, too long, empty or no text.
pub fn read(key: &'static str, source: &SecretSource) -> Result<Secret, FileError> {
    match source {
        SecretSource::Given(secret) => Ok(secret.clone()),
        SecretSource::File(path) => {
            let failed = |source| FileError { key, path: path.clone(), source };
            let bytes = files::read(path, LONGEST_SECRET).map_err(failed)?;
            let text = String::from_utf8(bytes)
                .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "it isn't text")))?;
            let words = text.trim_matches(['\n', '\r']);
            if words.is_empty() {
                return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty")));
            }
            Ok(Secret::new(words))
        }
    }
}

/// The same, or as it was when it could last be read, with a warning.
///
/// # Errors
/// It could never be read.
pub(crate) fn read_or_last(
    key: &'static str,
    source: &SecretSource,
    last: &LastGood<Secret>,
) -> Result<Secret, FileError> {
    last.or(read(key, source), |error| {
        tracing::warn!(event = "catalog.files", "what was last read of it is used: {}", chain(&error));
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, SecretSource) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, content).unwrap();
        (dir, SecretSource::File(path))
    }

    #[test]
    fn a_replaced_token_file_counts_at_the_next_call() {
        let (_dir, source) = file(b"first\n");
        assert_eq!(read("token_file", &source).unwrap().reveal(), "first");
        let SecretSource::File(path) = &source else { unreachable!() };
        for content in ["second", "\nsecond\n\n", "second\r\n"] {
            std::fs::write(path, content).unwrap();
            assert_eq!(read("token_file", &source).unwrap().reveal(), "second");
        }
    }

    #[test]
    fn an_empty_missing_or_endless_token_file_is_an_error_that_names_key_and_file() {
        let (dir, source) = file(b"\n");
        let error = read("token_file", &source).unwrap_err();
        assert!(error.to_string().contains("token_file") && error.to_string().contains("/token"), "{error}");
        let missing = SecretSource::File(dir.path().join("missing"));
        assert!(read("token_file", &missing).is_err());
        assert!(read("token_file", &SecretSource::File("/dev/zero".into())).is_err());
        let (_dir, long) = file(&[b'x'; 9000]);
        assert!(read("token_file", &long).is_err());
    }

    #[test]
    fn a_pipe_in_a_token_files_place_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(read("token_file", &SecretSource::File(path)).is_err());
    }
}
