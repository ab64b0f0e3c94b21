//! A cgroup of a test's own, to be frozen and thawed.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::namespace::{Start, eventually};

/// Begins the name of each, before the number of its test program.
const MARK: &str = "pilotfish-test-";

/// Removed when dropped; what is in it must have ended by then.
pub struct Freezer {
    /// Of v2, which freezes; and of v1's `cpu` where that is in use, so that what a container's processes have to share
    /// they share among themselves. Otherwise a session is a group of its own to the scheduler (sched(7), autogroup),
    /// and so is the guard: that is a head start which it wouldn't have in a container.
    directories: Vec<PathBuf>,
    // Where they are: in mounts of this test's own, which are attached nowhere, so that nothing depends on how this
    // machine has mounted them.
    _mounts: Vec<OwnedFd>,
}

impl Freezer {
    /// An empty one.
    pub fn new() -> Freezer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unified = hierarchy(c"cgroup2", None).expect("cgroups v2 can be mounted (root, Linux 5.2)");
        let mounts: Vec<OwnedFd> =
            [Some(unified), hierarchy(c"cgroup", Some(c"cpu")).ok()].into_iter().flatten().collect();
        let name = format!("{MARK}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let make = |mount: &OwnedFd| {
            let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
            remove_what_the_dead_left(&root);
            let directory = root.join(&name);
            fs::create_dir(&directory).expect("a cgroup can be made");
            directory
        };
        Freezer { directories: mounts.iter().map(make).collect(), _mounts: mounts }
    }

    /// Has this start in it.
    pub fn holds(&self, start: Start) -> Start {
        let open = |directory: &PathBuf| File::options().write(true).open(directory.join("cgroup.procs"));
        self.directories.iter().fold(start, |start, at| start.in_cgroup(open(at).expect("it is there")))
    }

    /// Stops all in it; they have stopped.
    pub fn freeze(&self) {
        self.write("1");
        let frozen = |events: String| events.lines().any(|line| line == "frozen 1").then_some(());
        let events = self.directories[0].join("cgroup.events");
        eventually("frost", || fs::read_to_string(&events).ok().and_then(frozen)).unwrap();
    }

    /// Has all in it go on.
    pub fn thaw(&self) {
        self.write("0");
    }

    fn write(&self, what: &str) {
        fs::write(self.directories[0].join("cgroup.freeze"), what).expect("it can be frozen and thawed");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        for directory in &self.directories {
            let _ = eventually("an empty cgroup", || fs::remove_dir(directory).ok());
        }
    }
}

fn remove_what_the_dead_left(root: &Path) {
    for entry in fs::read_dir(root).expect("it can be read").flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(MARK)?.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// fsopen(2), fsconfig(2), fsmount(2).
#[allow(unsafe_code)]
fn hierarchy(kind: &CStr, controller: Option<&CStr>) -> io::Result<OwnedFd> {
    const SET_FLAG: libc::c_uint = 0;
    const CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    let descriptor = |result: libc::c_long| match result {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: just made by the kernel, and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    };
    let nothing = ptr::null::<libc::c_char>();
    // SAFETY: system calls on strings and descriptors that live as long as they last.
    unsafe {
        let wanted = descriptor(libc::syscall(libc::SYS_fsopen, kind.as_ptr(), CLOEXEC))?;
        let configure = |command: libc::c_uint, key: *const libc::c_char| match libc::syscall(
            libc::SYS_fsconfig,
            wanted.as_raw_fd(),
            command,
            key,
            nothing,
            0,
        ) {
            -1 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        };
        controller.map_or(Ok(()), |controller| configure(SET_FLAG, controller.as_ptr()))?;
        configure(CREATE, nothing)?;
        descriptor(libc::syscall(libc::SYS_fsmount, wanted.as_raw_fd(), CLOEXEC, 0))
    }
}
