//! A directory that a child works in, entered between fork and exec: system calls on memory that was made ready before,
//! and nothing else.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{chdir, fchdir};

use super::hand::Hand;

/// The way to a directory.
#[derive(Debug)]
pub struct Way {
    path: CString,
    /// Where it begins, and what is entered from there, one after the other.
    parts: Vec<CString>,
}

impl Way {
    /// Makes it ready. `None`: no path holds a NUL byte.
    pub fn to(path: &Path) -> Option<Way> {
        let text = |text: &[u8]| CString::new(text).ok();
        let start = if path.is_absolute() { "/" } else { "." };
        // From the root or a dot on, which a path names or not.
        let parts = path.components().map(|part| part.as_os_str()).filter(|part| *part != start);
        let parts = [start.as_ref()].into_iter().chain(parts).map(|part| text(part.as_bytes()));
        Some(Way { path: text(path.as_os_str().as_bytes())?, parts: parts.collect::<Option<_>>()? })
    }

    /// Enters the directory.
    ///
    /// # Errors
    /// chdir(2) has them.
    pub fn enter(&self) -> Result<(), Errno> {
        chdir(self.path.as_c_str())
    }

    /// Enters the directory by rights that whoever works there won't have; only where nobody else may change where the
    /// way leads. No link is followed: its target would need a walk of its own, and whoever may go there by their own
    /// right needs none of this.
    pub fn enter_where_it_is_ours(&self) -> bool {
        let walk = || {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut parts = self.parts.iter();
            let mut directory = openat(AT_FDCWD, parts.next()?.as_c_str(), flags, Mode::empty()).ok()?;
            let mut about = fstat(&directory).ok()?;
            for part in parts {
                let next = openat(&directory, part.as_c_str(), flags, Mode::empty()).ok()?;
                let about_next = fstat(&next).ok()?;
                if Hand::of(&about, Some(&about_next)).is_some() {
                    return None;
                }
                (directory, about) = (next, about_next);
            }
            fchdir(&directory).ok()
        };
        walk().is_some()
    }
}
