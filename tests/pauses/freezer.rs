//! A cgroup of a test's own, to be frozen and thawed.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::namespace::eventually;

/// Begins the name of each, before the number of its test program.
const MARK: &str = "pilotfish-test-";

/// Removed when dropped; what is in it must have ended by then.
pub struct Freezer {
    directory: PathBuf,
    // Where the directory is: cgroups v2 in a mount of this test's own, which is attached nowhere, so that nothing
    // depends on how this machine has mounted them.
    _mount: OwnedFd,
}

impl Freezer {
    /// An empty one.
    pub fn new() -> Freezer {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mount = cgroups().expect("cgroups v2 can be mounted (root, Linux 5.2)");
        let name = format!("{MARK}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        remove_what_the_dead_left(&root);
        let directory = root.join(name);
        fs::create_dir(&directory).expect("a cgroup can be made");
        Freezer { directory, _mount: mount }
    }

    /// To enter it by.
    pub fn processes(&self) -> File {
        File::options().write(true).open(self.directory.join("cgroup.procs")).expect("it is there")
    }

    /// Stops all in it; they have stopped.
    pub fn freeze(&self) {
        self.write("1");
        let frozen = |events: String| events.lines().any(|line| line == "frozen 1").then_some(());
        eventually("frost", || fs::read_to_string(self.directory.join("cgroup.events")).ok().and_then(frozen)).unwrap();
    }

    /// Has all in it go on.
    pub fn thaw(&self) {
        self.write("0");
    }

    fn write(&self, what: &str) {
        fs::write(self.directory.join("cgroup.freeze"), what).expect("it can be frozen and thawed");
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = eventually("an empty cgroup", || fs::remove_dir(&self.directory).ok());
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
fn cgroups() -> std::io::Result<OwnedFd> {
    const CREATE: libc::c_uint = 6;
    const CLOEXEC: libc::c_uint = 1;
    let descriptor = |result: libc::c_long| match result {
        -1 => Err(std::io::Error::last_os_error()),
        // SAFETY: just made by the kernel, and nobody else's.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
    };
    let nothing = std::ptr::null::<libc::c_char>();
    // SAFETY: system calls on strings and descriptors that live as long as they last.
    unsafe {
        let kind = descriptor(libc::syscall(libc::SYS_fsopen, c"cgroup2".as_ptr(), CLOEXEC))?;
        if libc::syscall(libc::SYS_fsconfig, kind.as_raw_fd(), CREATE, nothing, nothing, 0) == -1 {
            return Err(std::io::Error::last_os_error());
        }
        descriptor(libc::syscall(libc::SYS_fsmount, kind.as_raw_fd(), CLOEXEC, 0))
    }
}
