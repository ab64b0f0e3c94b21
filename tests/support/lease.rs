//! Leases on files (fcntl(2), F_SETLEASE), which a process of their owner's user may take though it can only read: as long
//! as it doesn't give one back, nobody opens that file, for 45 seconds at most, and then it takes the next.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;

/// Which signal tells the holder that somebody waits (fcntl(2)); libc doesn't have it.
const F_SETSIG: libc::c_int = 10;

/// Leases a file, if nobody has it open.
pub fn lease(path: &Path) -> Option<File> {
    let file = File::open(path).ok()?;
    let descriptor = file.as_raw_fd();
    // SAFETY: system calls on our own descriptor. Who waits for the file makes the kernel signal its holder, which SIGIO
    // would end: SIGURG does nothing.
    let leased = unsafe {
        libc::fcntl(descriptor, F_SETSIG, libc::SIGURG);
        libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_WRLCK)
    };
    (leased == 0).then_some(file)
}

/// Leases whatever can be leased, all the time.
pub struct Leasing {
    over: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<usize>>,
}

impl Leasing {
    /// Of these files, whenever one is there and closed.
    pub fn of(paths: Vec<PathBuf>) -> Leasing {
        let over = Arc::new(AtomicBool::new(false));
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !until.load(Ordering::Relaxed) {
                held.extend(paths.iter().filter_map(|path| lease(path)));
                std::thread::sleep(Duration::from_micros(200));
            }
            held.len()
        });
        Leasing { over, thread: Some(thread) }
    }

    /// How many it has leased so far; that is over now.
    pub fn end(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().expect("it ends once").join().expect("no panic")
    }
}

impl Drop for Leasing {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
