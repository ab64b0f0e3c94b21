//! The ACL of a file (acl(5)), as the kernel keeps it: who may read and write it beside its owner, group and all. Where there
//! is one, the group's bits of the mode are its mask, and say nothing of the group. It knows no path.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

const NAME: &std::ffi::CStr = c"system.posix_acl_access";
/// The longest that the kernel keeps (XATTR_SIZE_MAX).
const LONGEST: usize = 65_536;

/// <linux/posix_acl_xattr.h>: a version, and entries of a kind, rights and an id.
const HEAD: usize = 4;
const ENTRY: usize = 8;
const GROUP: u16 = 0x04;
const MASK: u16 = 0x10;

/// An ACL that says more than a mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<u8>);

impl From<Vec<u8>> for Acl {
    fn from(bytes: Vec<u8>) -> Acl {
        Acl(bytes)
    }
}

impl Acl {
    /// A file's; `None` where it has none, or its file system knows none.
    #[allow(unsafe_code)]
    pub(super) fn of(file: impl AsFd) -> Option<Acl> {
        let mut bytes = vec![0; LONGEST];
        // SAFETY: a descriptor, a name that ends, and room of the length that is said.
        let read =
            unsafe { libc::fgetxattr(file.as_fd().as_raw_fd(), NAME.as_ptr(), bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(usize::try_from(read).ok()?);
        Some(Acl(bytes))
    }

    /// Gives it to a file, with the mode that goes with it.
    #[allow(unsafe_code)]
    pub(super) fn give(&self, file: impl AsFd) -> io::Result<()> {
        // SAFETY: as in `of`.
        let done = unsafe {
            libc::fsetxattr(file.as_fd().as_raw_fd(), NAME.as_ptr(), self.0.as_ptr().cast(), self.0.len(), 0)
        };
        Ok(Errno::result(done).map(drop)?)
    }

    /// Takes one away that a file has from its directory (its default ACL).
    #[allow(unsafe_code)]
    pub(super) fn take(file: impl AsFd) {
        // SAFETY: a descriptor, and a name that ends. Where there is none, there is none to take.
        unsafe { libc::fremovexattr(file.as_fd().as_raw_fd(), NAME.as_ptr()) };
    }

    /// What the file's group may, as in a mode; nothing where that can't be read from it.
    pub(super) fn group(&self) -> u32 {
        let entries = self.0.get(HEAD..).unwrap_or_default().chunks_exact(ENTRY);
        let rights = |kind: u16| {
            let mut entries = entries.clone();
            let entry = entries.find(|entry| u16::from_le_bytes([entry[0], entry[1]]) == kind)?;
            Some(u32::from(u16::from_le_bytes([entry[2], entry[3]])) & 0o7)
        };
        rights(GROUP).unwrap_or(0) & rights(MASK).unwrap_or(0o7)
    }
}
