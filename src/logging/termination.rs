//! `/dev/termination-log`: where Kubernetes looks for why a container ended. Best effort: it is never created, and
//! what main wrote there itself stays.

use std::io::{self, Write};
use std::path::Path;

use crate::{files, plain};

/// Kubernetes shows no more than this of it (terminationMessagePath, "Container v1" in its API reference).
const MOST: usize = 4096;

/// Adds one line to `/dev/termination-log`, where there is one and there is room.
pub fn termination_log(text: &str) {
    let path = Path::new("/dev/termination-log");
    // None is the usual case, known by one system call; and there is nobody left to tell of an error.
    if path.symlink_metadata().is_ok() {
        let _ = append(path, text);
    }
}

fn append(path: &Path, text: &str) -> io::Result<()> {
    // It is a volume's file, and its place in /dev not always root's alone.
    let mut file = files::append(path)?;
    let metadata = file.metadata()?;
    let room = MOST.saturating_sub(usize::try_from(metadata.len()).unwrap_or(MOST));
    // `kubectl describe` prints it as it is.
    let line = format!("{}\n", plain::lines(text.trim_end()));
    let end = (0..=room.min(line.len())).rev().find(|i| line.is_char_boundary(*i)).unwrap_or(0);
    file.write_all(&line.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_reason_is_added_to_what_main_wrote_and_never_beyond_what_is_shown() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        fs::write(&path, "main: out of cheese\n").unwrap();
        append(&path, "ending with code 3: main exited with code 3").unwrap();
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "main: out of cheese\nending with code 3: main exited with code 3\n"
        );
        append(&path, &"ä".repeat(10_000)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.len() <= MOST && text.len() > MOST - 2, "{}", text.len());
    }

    #[test]
    fn what_is_no_plain_file_is_neither_waited_for_nor_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(append(&path, "x").is_err());
        assert!(append(dir.path(), "x").is_err());
    }

    #[test]
    fn a_file_that_is_not_there_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("termination-log");
        assert_eq!(append(&path, "x").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!path.exists());
    }
}
