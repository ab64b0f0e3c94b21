//! Where an agent listens that can't have its control socket as a file: an abstract socket, which needs no writable
//! file system. Abstract names belong to the network namespace, which containers may share; so the name tells PID and
//! mount namespace and the configured path, by which a client in the same container finds it, and both sides look at
//! who is at the other end ([`peer`](super::peer)).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, UnixAddr, bind, listen};

use super::peer::Peer;

/// A path as long as this is part of the name, a longer one only its hash: a name has 107 bytes (unix(7)).
const LONGEST_PATH: usize = 50;
/// Begins the name of a socket in a directory that is known by its number.
const BY_NUMBER: &str = "/proc/self/fd/";
/// So much of `/proc/net/unix` is read, line by line: some 400,000 sockets.
const MOST_OF_A_TABLE: u64 = 64 * 1024 * 1024;
/// As many names of one path are tried, beside those that are known to be the agent's: others may have put some there, and
/// each takes them a descriptor.
const MOST_NAMES: usize = 4096;

/// Listens for this path's clients; the name, without the NUL byte it begins with.
pub fn listen_beside(path: &Path) -> Result<(OwnedFd, String), Errno> {
    let base = base(path).ok_or(Errno::ENOENT)?;
    // Somebody else may have taken the name, of which they then have the use of a client's first look, and no more.
    let unlikely = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), &base);
    for name in [base.clone(), format!("{base}/{unlikely:016x}")] {
        let socket = super::peer::stream()?;
        match bind(socket.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?) {
            Err(Errno::EADDRINUSE) => {}
            Err(error) => return Err(error),
            Ok(()) => {
                // As many as the kernel allows by default: others who share the network may connect without end.
                listen(&socket, Backlog::new(4096)?)?;
                return Ok((socket, name));
            }
        }
    }
    Err(Errno::EADDRINUSE)
}

/// The names at which an agent of this container may listen for this path's clients.
pub fn names(path: &Path) -> Vec<String> {
    let Some(base) = base(path) else { return Vec::new() };
    match File::open("/proc/net/unix") {
        Ok(table) => listed(BufReader::new(table.take(MOST_OF_A_TABLE)), &base, &sockets_of_agents()),
        // Without the list the first name is still known.
        Err(_) => vec![base],
    }
}

/// The sockets of whoever may be the agent, by their inodes, as far as they can be seen: who crowds the list isn't it. That is
/// the container's init, or, beside one that is another program, root and our own user where they run this one.
fn sockets_of_agents() -> BTreeSet<String> {
    let is_agent = |peer: &Peer| peer.is_this_program() && peer.may_be_an_agent(true);
    if (Peer { pid: 1, uid: 0 }).is_this_program() {
        return sockets_of(1);
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let peer = |process: fs::DirEntry| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        Some(Peer { pid, uid: process.metadata().ok()?.uid() })
    };
    processes.filter_map(peer).filter(is_agent).flat_map(|agent| sockets_of(agent.pid)).collect()
}

/// The sockets of a process, by their inodes.
fn sockets_of(pid: i32) -> BTreeSet<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let inode = |link: &Path| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned());
    links.filter_map(|link| inode(&link)).collect()
}

/// Where the container's init listens for orders, if it is this program and nobody listens at the `expected` path: a config
/// may say something else by now than when the agent read it.
pub fn where_init_listens(expected: Option<&Path>) -> Option<PathBuf> {
    let init = Peer { pid: 1, uid: 0 };
    let table = File::open("/proc/net/unix").ok().filter(|_| init.is_this_program())?;
    let table = BufReader::new(table.take(MOST_OF_A_TABLE));
    elsewhere(table, expected, expected.and_then(base).as_deref(), &sockets_of(init.pid))
}

/// The same of this table; `base` is what abstract names of the expected path begin with.
fn elsewhere(
    table: impl BufRead,
    expected: Option<&Path>,
    base: Option<&str>,
    of_init: &BTreeSet<String>,
) -> Option<PathBuf> {
    let mut found = None;
    for (inode, name) in listening(table) {
        let of_init = of_init.contains(&inode);
        let is_abstract = || name.strip_prefix('@').zip(base).is_some_and(|(name, base)| is_of(name, base));
        // In which directory another one's is, its name doesn't tell.
        let by_number = |expected: &Path| {
            !of_init && name.starts_with(BY_NUMBER) && Path::new(&name).file_name() == expected.file_name()
        };
        let is_there = |expected: &Path| Path::new(&name) == expected || by_number(expected);
        if expected.is_some_and(is_there) || is_abstract() {
            return None;
        }
        if of_init {
            found = found.or(path_of(&name));
        }
    }
    found
}

/// The path that clients know a socket by: its own, or the one in its abstract name. Where others may change what its path
/// leads to it is named by the number that its directory has at the init ([`SocketPlace`](crate::files::SocketPlace)).
fn path_of(name: &str) -> Option<PathBuf> {
    if let Some(by_number) = name.strip_prefix(BY_NUMBER) {
        let (number, name) = by_number.split_once('/')?;
        let directory = fs::read_link(Path::new("/proc/1/fd").join(number)).ok()?;
        return Some(directory.join(name)).filter(|path| path.exists());
    }
    let Some(of_ours) = name.strip_prefix("@pilotfish/") else { return name.starts_with('/').then(|| name.into()) };
    let path = of_ours.splitn(3, '/').nth(2)?;
    let unlikely = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let path = path.rsplit_once('/').filter(|(_, end)| unlikely(end)).map_or(path, |(path, _)| path);
    path.starts_with('/').then(|| path.into())
}

/// Whether this is a name of the path that `base` stands for.
fn is_of(name: &str, base: &str) -> bool {
    name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Who listens, by inode and name, as `/proc/net/unix` (proc_net(5)) has it.
fn listening(table: impl BufRead) -> impl Iterator<Item = (String, String)> {
    /// SO_ACCEPTCON, the fourth column of who listens.
    const LISTENS: &str = "00010000";
    table.split(b'\n').map_while(Result::ok).filter_map(|line| {
        let line = String::from_utf8_lossy(&line);
        let mut columns = line.split_ascii_whitespace().skip(3);
        let (flags, inode, name) = (columns.next()?, columns.nth(2)?, columns.next()?);
        (flags == LISTENS && columns.next().is_none()).then(|| (inode.to_owned(), name.to_owned()))
    })
}

/// The names at which somebody listens, the agent's own first, and then the one that every agent tries to have.
pub(super) fn listed(table: impl BufRead, base: &str, of_agents: &BTreeSet<String>) -> Vec<String> {
    let (mut agents, mut others) = (Vec::new(), Vec::new());
    for (inode, name) in listening(table) {
        let Some(name) = name.strip_prefix('@').filter(|name| is_of(name, base)) else { continue };
        if of_agents.contains(&inode) {
            agents.push(name.to_owned());
        } else if name == base {
            others.insert(0, name.to_owned());
        } else if others.len() < MOST_NAMES {
            others.push(name.to_owned());
        }
    }
    agents.extend(others);
    agents
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
        let found = listed(table.as_bytes(), "pilotfish/1/2//run/p", &BTreeSet::new());
        assert_eq!(found, ["pilotfish/1/2//run/p", "pilotfish/1/2//run/p/00ff"]);
    }

    /// 107 bytes a name, a descriptor each.
    #[test]
    fn however_many_names_others_take_the_agents_comes_first() {
        let crowd = |of: std::ops::Range<u32>| {
            of.map(|n| format!("0: 2 0 00010000 0001 01 {n} @pilotfish/1/2//run/p/{n:08}\n")).collect::<String>()
        };
        let ours =
            "0: 2 0 00010000 0001 01 77 @pilotfish/1/2//run/p/ours\n0: 2 0 00010000 0001 01 5 @pilotfish/1/2//run/p\n";
        let table = [crowd(1000..9000), ours.to_owned(), crowd(9000..20_000)].concat();
        let found = listed(table.as_bytes(), "pilotfish/1/2//run/p", &["77".to_owned()].into());
        assert_eq!(found[..2], ["pilotfish/1/2//run/p/ours", "pilotfish/1/2//run/p"]);
        assert!(found.len() <= MOST_NAMES + 2);
        // Where the agent's can't be seen.
        assert_eq!(listed(table.as_bytes(), "pilotfish/1/2//run/p", &BTreeSet::new())[0], "pilotfish/1/2//run/p");
    }

    #[test]
    fn the_init_is_asked_elsewhere_only_where_nobody_listens_at_the_path_in_the_config() {
        let line = |inode: u32, name: &str| format!("0: 2 0 00010000 0001 01 {inode} {name}\n");
        let found = |table: &str, expected: Option<&str>| {
            let base = expected.map(|path| format!("pilotfish/1/2/{path}"));
            elsewhere(table.as_bytes(), expected.map(Path::new), base.as_deref(), &["7".to_owned()].into())
        };
        let inits = line(7, "/run/p.sock");
        assert_eq!(found(&inits, Some("/tmp/x.sock")), Some("/run/p.sock".into()));
        assert_eq!(found(&inits, None), Some("/run/p.sock".into()));
        assert_eq!(found(&inits, Some("/run/p.sock")), None);
        // An agent beside the init.
        for beside in ["/tmp/x.sock", "@pilotfish/1/2//tmp/x.sock"] {
            assert_eq!(found(&[inits.clone(), line(8, beside)].concat(), Some("/tmp/x.sock")), None);
        }
        assert_eq!(found(&line(8, "/run/other.sock"), Some("/tmp/x.sock")), None);
        assert_eq!(found(&[inits, line(8, "/proc/self/fd/9/x.sock")].concat(), Some("/tmp/x.sock")), None);
    }

    #[test]
    fn a_socket_is_known_by_its_path_whether_it_is_a_file_or_not() {
        let path = |name: &str| path_of(name).map(|path| path.display().to_string());
        assert_eq!(path("/run/p.sock").as_deref(), Some("/run/p.sock"));
        assert_eq!(path("@pilotfish/1/2//run/p.sock").as_deref(), Some("/run/p.sock"));
        assert_eq!(path("@pilotfish/1/2//run/p.sock/0123456789abcdef").as_deref(), Some("/run/p.sock"));
        for other in ["@pilotfish/1/2/0123456789abcdef", "@other//run/p.sock", "relative"] {
            assert_eq!(path(other), None, "{other}");
        }
    }

    #[test]
    fn a_name_that_is_taken_leaves_another_and_both_are_found() {
        let path = format!("/nowhere/{}/{}", std::process::id(), "x".repeat(200));
        let path = Path::new(&path);
        let (_first, name) = listen_beside(path).unwrap();
        let (_second, other) = listen_beside(path).unwrap();
        assert!(name.len() < 60 + LONGEST_PATH && other.starts_with(&format!("{name}/")), "{other}");
        let mut found = names(path);
        found.sort();
        assert_eq!(found, [name, other]);
    }
}
