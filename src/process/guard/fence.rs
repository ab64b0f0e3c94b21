//! What the guard can kill here, and how surely. It looks at where the agent stands and kills nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::config::election;

/// What is killed at the deadline.
#[derive(Debug)]
pub enum Fence {
    /// Everything in the PID namespace whose PID 1 the agent is.
    Namespace,
    /// Everything in the agent's own cgroup, the agent too: its `cgroup.kill`, opened to be written.
    Cgroup(File),
    /// Main's process group, which a child may have left.
    ProcessGroup,
}

/// Why `fence = "namespace"` can't be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "[election] fence = \"namespace\" can't be had here; run pilotfish as PID 1 of its container, or give it a cgroup \
     of its own whose cgroup.kill it may write (cgroup v2, Linux 5.14), or set fence = \"process-group\", which doesn't \
     reach what has left main's process group, so that it could act on after the lease"
)]
pub struct FenceError(#[source] Without);

/// What is missing for it.
#[derive(Debug, thiserror::Error)]
enum Without {
    #[error("it isn't PID 1, and there is no cgroup v2 to be seen (/proc/self/cgroup, /proc/self/mountinfo)")]
    Cgroup,
    #[error("it isn't PID 1, and can't write {}", .0.display())]
    KillFile(PathBuf, #[source] io::Error),
    #[error("it isn't PID 1, and others are in its cgroup {} too", .0.display())]
    Solitude(PathBuf),
}

impl Fence {
    /// The fence that is configured, if it can be had where the agent stands.
    ///
    /// # Errors
    /// It can't, and a weaker one must be asked for.
    pub fn choose(configured: election::Fence) -> Result<Fence, FenceError> {
        match configured {
            election::Fence::ProcessGroup => Ok(Fence::ProcessGroup),
            election::Fence::Namespace if std::process::id() == 1 => Ok(Fence::Namespace),
            election::Fence::Namespace => own_cgroup().map_err(FenceError),
        }
    }
}

fn own_cgroup() -> Result<Fence, Without> {
    let group = std::fs::read("/proc/self/cgroup").ok().and_then(|text| path_of(&text)).ok_or(Without::Cgroup)?;
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut refused = Without::Cgroup;
    for directory in directories_of(&group, &mounts) {
        let file = directory.join("cgroup.kill");
        match File::options().write(true).open(&file) {
            // Who is in it at the start is what it was made for; whoever comes later came to be with us.
            Ok(kill) if alone(&directory, std::process::id()) => return Ok(Fence::Cgroup(kill)),
            Ok(_) => return Err(Without::Solitude(directory)),
            // Mounted elsewhere too, it may be writable there.
            Err(error) => refused = Without::KillFile(file, error),
        }
    }
    Err(refused)
}

/// The cgroup v2 of cgroups(7)'s /proc/PID/cgroup: the line of hierarchy 0.
pub(in crate::process) fn path_of(cgroups: &[u8]) -> Option<PathBuf> {
    let path = cgroups.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(OsString::from_vec(path.to_vec()).into())
}

/// Where a cgroup lies, by proc_pid_mountinfo(5): fields 4 and 5 are the root of a mount in its file system and the
/// mount point, and what follows the lone dash begins with the file system's type.
pub(in crate::process) fn directories_of(group: &Path, mounts: &[u8]) -> Vec<PathBuf> {
    let directory = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let kind = fields.iter().position(|field| *field == b"-").and_then(|dash| fields.get(dash + 1))?;
        if *kind != b"cgroup2" {
            return None;
        }
        let inside = group.strip_prefix(unescaped(fields.get(3)?)).ok()?.to_owned();
        Some(unescaped(fields.get(4)?).join(inside))
    };
    mounts.split(|byte| *byte == b'\n').filter_map(directory).filter(|directory| directory.is_absolute()).collect()
}

/// Blanks, newlines and backslashes stand as three octal digits there.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).filter(|_| *first == b'\\');
        let octal = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &others[3..] } else { others };
    }
    OsString::from_vec(bytes).into()
}

/// Whether a cgroup, with every one below it, holds nobody else. What can't be read may hold somebody.
fn alone(directory: &Path, own: u32) -> bool {
    let own = own.to_string();
    let only_us = |text: String| text.lines().all(|pid| pid == own);
    let empty = |text: String| text.lines().any(|line| line == "populated 0");
    let below = |entry: io::Result<std::fs::DirEntry>| {
        let directory = entry?.path();
        Ok(!directory.is_dir() || std::fs::read_to_string(directory.join("cgroup.events")).is_ok_and(empty))
    };
    std::fs::read_to_string(directory.join("cgroup.procs")).is_ok_and(only_us)
        && std::fs::read_dir(directory)
            .is_ok_and(|entries| entries.map(below).all(|empty: io::Result<bool>| empty.unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_under_whatever_part_of_the_tree_is_mounted() {
        let group = path_of(b"9:name=systemd:/x\n0::/box/inner\n").unwrap();
        let line = |root: &str, at: &str| format!("31 23 0:26 {root} {at} rw,relatime shared:9 - cgroup2 cgroup2 rw\n");
        let found = |root: &str, at: &str| directories_of(&group, line(root, at).as_bytes()).pop();
        assert_eq!(found("/", "/sys/fs/cgroup"), Some("/sys/fs/cgroup/box/inner".into()));
        assert_eq!(found("/box", "/sys/fs/cgroup"), Some("/sys/fs/cgroup/inner".into()));
        assert_eq!(found("/box/inner", "/a\\040b"), Some("/a b/".into()));
        assert_eq!(found("/other", "/sys/fs/cgroup"), None);
        assert!(directories_of(&group, b"22 1 0:20 / /proc rw - proc proc rw\n").is_empty());
        assert_eq!(path_of(b"4:memory:/x\n"), None);
    }

    #[test]
    fn a_cgroup_with_anybody_else_in_it_or_below_is_not_ones_own() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        assert!(!alone(directory.path(), 7), "nothing can be read");
        write("cgroup.procs", "7\n");
        assert!(alone(directory.path(), 7));
        std::fs::create_dir(directory.path().join("below")).unwrap();
        write("below/cgroup.events", "populated 0\nfrozen 0\n");
        assert!(alone(directory.path(), 7));
        write("below/cgroup.events", "populated 1\nfrozen 0\n");
        assert!(!alone(directory.path(), 7));
        write("below/cgroup.events", "populated 0\nfrozen 0\n");
        // 0: somebody of another PID namespace.
        write("cgroup.procs", "0\n7\n");
        assert!(!alone(directory.path(), 7));
    }
}
