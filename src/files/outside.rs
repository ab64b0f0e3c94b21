//! Files of users who aren't in this container. In a user namespace (rootless, or `userns-remap`) whoever isn't mapped into it
//! shows as one number, the overflow user's (user_namespaces(7)), as the host's root does in a file that is mounted from
//! there. Nobody here is that user, and what is mounted read-only nobody here writes by any other right.

use std::os::fd::AsFd;

use nix::sys::stat::{FileStat, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::hand::is_trusted;

/// Unless the kernel has another one set (DEFAULT_OVERFLOWUID).
const OVERFLOW: u32 = 65_534;
/// As a namespace maps users that maps all to themselves: the host's.
const ALL: [u32; 3] = [0, 0, u32::MAX];

/// As fstat(2) has it, but that what nobody here may write is root's. Only the mount's being read-only tells such a file from
/// one of a user who has that number here.
pub(super) fn about(of: impl AsFd) -> nix::Result<FileStat> {
    let mut about = fstat(&of)?;
    // Most files are root's or our own: nothing is asked for them.
    let may_be = !is_trusted(about.st_uid) && is_read_only(&of) && about.st_uid == number("overflowuid");
    if may_be && is_remapped(&text("/proc/self/uid_map")) {
        about.st_uid = 0;
        if about.st_gid == number("overflowgid") {
            about.st_gid = 0;
        }
    }
    Ok(about)
}

fn is_read_only(of: impl AsFd) -> bool {
    fstatvfs(of).is_ok_and(|about| about.flags().contains(FsFlags::ST_RDONLY))
}

/// Whether a namespace that maps its users so is another than the host's. Of one that can't be looked at nothing is known.
fn is_remapped(map: &str) -> bool {
    let is_all = |range: &str| range.split_whitespace().map(str::parse).eq(ALL.map(Ok));
    !map.is_empty() && !map.lines().any(is_all)
}

fn number(name: &str) -> u32 {
    text(&format!("/proc/sys/kernel/{name}")).trim().parse().unwrap_or(OVERFLOW)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_maps_all_users_to_themselves_is_the_hosts() {
        assert!(!is_remapped("         0          0 4294967295\n"));
        assert!(is_remapped("         0     100000      65536\n"));
        assert!(is_remapped("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_remapped(""), "without a /proc");
    }

    #[test]
    fn a_file_on_what_may_be_written_is_its_owners() {
        let file = tempfile::NamedTempFile::new().unwrap();
        if std::os::unix::fs::chown(file.path(), Some(OVERFLOW), Some(OVERFLOW)).is_ok() {
            assert_eq!(about(file.as_file()).unwrap().st_uid, OVERFLOW);
        }
        assert!(!is_read_only(file.as_file()));
    }
}
