//! Where an agent listens that can't have its control socket as a file: an abstract socket, which needs no writable
//! file system. Abstract names belong to the network namespace, which containers may share; so the name tells PID and
//! mount namespace and the configured path, by which a client in the same container finds it, and both sides look at
//! who is at the other end ([`peer`](super::peer)).

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{Backlog, UnixAddr, bind, listen};

/// A path as long as this is part of the name, a longer one only its hash: a name has 107 bytes (unix(7)).
const LONGEST_PATH: usize = 50;
/// So much of `/proc/net/unix` is read: some 50,000 sockets.
const MOST_OF_A_TABLE: u64 = 8 * 1024 * 1024;
/// As many names of one path are tried: others may have put some there, and each takes them a descriptor.
const MOST_NAMES: usize = 4096;

/// Listens for this path's clients; the name, without the NUL byte it begins with.
pub fn listening(path: &Path) -> Result<(OwnedFd, String), Errno> {
    let base = base(path).ok_or(Errno::ENOENT)?;
    // Somebody else may have taken the name, of which they then have the use of a client's first look, and no more.
    let unlikely = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &base);
    for name in [base.clone(), format!("{base}/{unlikely:016x}")] {
        let socket = super::peer::stream()?;
        match bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?) {
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                listen(&socket, Backlog::new(64)?)?;
                return Ok((socket, name));
            }
        }
    }
    Err(Errno::EADDRINUSE)
}

/// The names at which an agent of this container may listen for this path's clients.
pub fn names(path: &Path) -> Vec<String> {
    let Some(base) = base(path) else { return Vec::new() };
    let mut table = Vec::new();
    let read = File::open("/proc/net/unix").and_then(|file| file.take(MOST_OF_A_TABLE).read_to_end(&mut table));
    match read {
        Ok(_) => listed(&String::from_utf8_lossy(&table), &base),
        // Without the list the first name is still known.
        Err(_) => vec![base],
    }
}

/// The names in `/proc/net/unix` (proc_net(5)) at which somebody listens.
pub(super) fn listed(table: &str, base: &str) -> Vec<String> {
    /// SO_ACCEPTCON, the fourth column of who listens.
    const LISTENS: &str = "00010000";
    let names = table.lines().filter_map(|line| {
        let name = line.split_ascii_whitespace().nth(7)?.strip_prefix('@')?;
        let rest = name.strip_prefix(base)?;
        let ours = rest.is_empty() || rest.starts_with('/');
        (ours && line.split_ascii_whitespace().nth(3)? == LISTENS).then(|| name.to_owned())
    });
    names.take(MOST_NAMES).collect()
}

/// What all names of this path begin with, in this container; `None` without /proc.
fn base(path: &Path) -> Option<String> {
    let namespace = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).ok()?;
        Some(link.to_str()?.trim_matches(|c: char| !c.is_ascii_digit()).to_owned())
    };
    let bytes = path.as_os_str().as_bytes();
    let path = match path.to_str().filter(|_| bytes.len() <= LONGEST_PATH && bytes.iter().all(u8::is_ascii_graphic)) {
        Some(path) => path.to_owned(),
        None => {
            // The same for everybody who has this program: its keys are fixed.
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            format!("{:016x}", hasher.finish())
        }
    };
    Some(format!("pilotfish/{}/{}/{path}", namespace("pid")?, namespace("mnt")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listening_sockets_of_this_path_are_names_of_it() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path\n\
                     0000: 00000002 00000000 00010000 0001 01 1 @pilotfish/1/2//run/p\n\
                     0000: 00000002 00000000 00010000 0001 01 2 @pilotfish/1/2//run/p/00ff\n\
                     0000: 00000003 00000000 00000000 0001 03 3 @pilotfish/1/2//run/p\n\
                     0000: 00000002 00000000 00010000 0001 01 4 @pilotfish/1/2//run/pq\n\
                     0000: 00000002 00000000 00010000 0001 01 5 pilotfish/1/2//run/p\n\
                     0000: 00000002 00000000 00010000 0001 01 6\n";
        assert_eq!(listed(table, "pilotfish/1/2//run/p"), ["pilotfish/1/2//run/p", "pilotfish/1/2//run/p/00ff"]);
    }

    #[test]
    fn a_name_that_is_taken_leaves_another_and_both_are_found() {
        let path = format!("/nowhere/{}/{}", std::process::id(), "x".repeat(200));
        let path = Path::new(&path);
        let (_first, name) = listening(path).unwrap();
        let (_second, other) = listening(path).unwrap();
        assert!(name.len() < 60 + LONGEST_PATH && other.starts_with(&format!("{name}/")), "{other}");
        let mut found = names(path);
        found.sort();
        assert_eq!(found, [name, other]);
    }
}
