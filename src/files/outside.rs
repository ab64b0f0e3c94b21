//! Files of users who aren't in this container. In a user namespace (rootless, or `userns-remap`) whoever isn't mapped into it
//! shows as one number, the overflow user's (user_namespaces(7)), as the host's root does in a file that is mounted from
//! there. What is mounted read-only nobody here writes by any other right; but where the number is mapped too, it is also that
//! of a user of containers (`nobody`), who may write the same volume from elsewhere.

use std::os::fd::AsFd;

use nix::sys::stat::{FileStat, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::hand::is_trusted;

/// Unless the kernel has another one set (DEFAULT_OVERFLOWUID).
const OVERFLOW: u32 = 65_534;
/// As a namespace maps users that maps all to themselves: the host's.
const ALL: [u32; 3] = [0, 0, u32::MAX];

/// As fstat(2) has it, but that what nobody may write, here or in another container, is root's.
pub(super) fn about(of: impl AsFd) -> nix::Result<FileStat> {
    about_unless(of, is_anybodys)
}

/// The same of a file that is the host's as a rule, though its owner's number may be that of a user here: only the mount's
/// being read-only tells them apart.
pub(super) fn about_hosts(of: impl AsFd) -> nix::Result<FileStat> {
    about_unless(of, |map, _| !is_remapped(map))
}

/// `known` says of a namespace's map, and a number, whether whose it is may be somebody.
fn about_unless(of: impl AsFd, known: impl Fn(&str, u32) -> bool) -> nix::Result<FileStat> {
    let mut about = fstat(&of)?;
    // Most files are root's or our own: nothing is asked for them.
    let may_be = !is_trusted(about.st_uid) && is_read_only(&of) && about.st_uid == number("overflowuid");
    if may_be && !known(&text("/proc/self/uid_map"), about.st_uid) {
        about.st_uid = 0;
        if about.st_gid == number("overflowgid") && !known(&text("/proc/self/gid_map"), about.st_gid) {
            about.st_gid = 0;
        }
    }
    Ok(about)
}

/// Whether a namespace that maps its users so has one of this number. Of one that can't be looked at nothing is known.
fn is_anybodys(map: &str, number: u32) -> bool {
    let has = |range: &str| {
        let mut range = range.split_whitespace().map(str::parse::<u32>);
        match (range.next(), range.nth(1)) {
            (Some(Ok(first)), Some(Ok(count))) => number >= first && number - first < count,
            _ => true,
        }
    };
    map.is_empty() || map.lines().any(has)
}

/// Whether it is mounted read-only.
pub(super) fn is_read_only(of: impl AsFd) -> bool {
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

    /// Docker's `userns-remap` maps 65,536 users, `nobody` among them: another container's may write a volume that is mounted
    /// read-only here.
    #[test]
    fn what_belongs_to_a_number_that_somebody_here_may_have_is_not_the_hosts() {
        let small = "         0       1000          1\n         1     100000       1000\n";
        for (map, anybodys) in [
            ("         0          0 4294967295\n", true),
            ("         0     100000      65536\n", true),
            ("         0     100000      65535\n", true),
            ("         0     100000      65534\n", false),
            ("         0       1000          1\n         1     100000      65536\n", true),
            (small, false),
            ("", true),
            ("no map\n", true),
        ] {
            assert_eq!(is_anybodys(map, OVERFLOW), anybodys, "{map}");
        }
        assert!(is_anybodys(small, 0) && is_anybodys(small, 1_000) && !is_anybodys(small, 1_001));
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
