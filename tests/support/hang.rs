//! Storage that hangs: whoever opens one of these files waits until it is let go. The kernel asks us about each open
//! (fanotify(7), a permission event) and we don't answer. What ends the test ends the wait: a group that is closed
//! allows all it was asked.
#![allow(clippy::disallowed_methods, reason = "tests")]

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

/// Files nobody can open while this exists.
pub struct Hanging {
    _group: Fanotify,
}

impl Hanging {
    /// From now on these hang; each must exist.
    pub fn new<'a>(files: impl IntoIterator<Item = &'a Path>) -> Hanging {
        let flags = InitFlags::FAN_CLASS_CONTENT | InitFlags::FAN_CLOEXEC;
        let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).expect("fanotify");
        for file in files {
            let here = std::fs::File::open("/").expect("a directory");
            group
                .mark(MarkFlags::FAN_MARK_ADD, MaskFlags::FAN_OPEN_PERM, here.as_fd(), Some(file))
                .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
        Hanging { _group: group }
    }
}

#[test]
fn a_file_that_hangs_is_opened_when_it_is_let_go() {
    use std::time::{Duration, Instant};
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "it").unwrap();
    let hanging = Hanging::new([file.as_path()]);
    let reader = std::thread::spawn(move || {
        let since = Instant::now();
        (std::fs::read_to_string(&file).unwrap(), since.elapsed())
    });
    std::thread::sleep(Duration::from_millis(200));
    drop(hanging);
    let (read, took) = reader.join().unwrap();
    assert_eq!(read, "it");
    assert!(took >= Duration::from_millis(150), "{took:?}");
}
