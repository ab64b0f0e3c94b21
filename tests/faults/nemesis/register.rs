//! What the mains of a laboratory did: the register that tests/fixtures/actor.rs writes.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Somebody acted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who.
    pub who: String,
    /// For which term.
    pub term: u64,
    /// When, by main's own clock (`CLOCK_BOOTTIME`), in nanoseconds.
    pub at: u64,
}

/// Acts in the order in which they were done.
pub struct Register {
    path: PathBuf,
    file: File,
    /// What was read of a line whose end wasn't there yet.
    begun: String,
    /// The last act there was.
    pub last: Option<Act>,
    // Kept in memory: no disk holds an act up.
    _directory: tempfile::TempDir,
}

impl Register {
    /// An empty one.
    pub fn new() -> Register {
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let directory = directory.expect("a directory");
        let path = directory.path().join("register");
        let file = File::options().read(true).append(true).create(true).open(&path).expect("a file");
        // Mains of other users act, too.
        for (path, mode) in [(directory.path(), 0o755), (path.as_path(), 0o666)] {
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
        }
        Register { path, file, begun: String::new(), last: None, _directory: directory }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was done since the last look.
    pub fn news(&mut self) -> Vec<Act> {
        self.file.read_to_string(&mut self.begun).expect("the register can be read");
        let whole = self.begun.rfind('\n').map_or(0, |end| end + 1);
        let rest = self.begun.split_off(whole);
        let lines = std::mem::replace(&mut self.begun, rest);
        let acts: Vec<Act> =
            lines.lines().map(|line| parse(line).unwrap_or_else(|| panic!("no act: {line}"))).collect();
        self.last = acts.last().cloned().or(self.last.take());
        acts
    }
}

fn parse(line: &str) -> Option<Act> {
    let mut words = line.split(' ');
    let act = Act { who: words.next()?.to_owned(), term: words.next()?.parse().ok()?, at: words.next()?.parse().ok()? };
    words.next().is_none().then_some(act)
}

/// The time on the clock that acts are told by, in nanoseconds.
pub fn now() -> u64 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).expect("Linux has it");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[test]
fn acts_are_read_once_and_whole() {
    use std::io::Write;
    let mut register = Register::new();
    let mut writer = File::options().append(true).open(register.path()).unwrap();
    let act = |who: &str, term, at| Act { who: who.to_owned(), term, at };
    assert_eq!(register.news(), []);
    writer.write_all(b"one 3 17\none 3 18\ntw").unwrap();
    assert_eq!(register.news(), [act("one", 3, 17), act("one", 3, 18)]);
    assert_eq!(register.news(), []);
    writer.write_all(b"o 4 19\n").unwrap();
    assert_eq!(register.news(), [act("two", 4, 19)]);
    assert_eq!(register.last, Some(act("two", 4, 19)));
}
