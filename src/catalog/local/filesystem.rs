//! On which file systems a lock shows whether its holder lives: an allow-list, since a network file system may
//! accept flock(2) and mean nothing by it, or mean it on one host only.

use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::statfs::fstatfs;

use super::Error;

/// Magic numbers of <linux/magic.h> (zfs and bcachefs: their own sources) of file systems whose locks are all kept by
/// the one kernel that mounted them.
const ACCEPTED: &[u32] = &[
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0x8584_58f6, // ramfs
    0x794c_7630, // overlayfs, which keeps the locks on its own inodes, whatever is below
    0xf2f5_2010, // f2fs
    0x2fc1_2fc1, // zfs
    0xca45_1a4e, // bcachefs
    0x3153_464a, // jfs
    0x5265_4973, // reiserfs
    0x0000_3434, // nilfs2
];

/// Those people are likely to meet, by name.
const REFUSED: &[(u32, &str)] = &[
    (0x0000_6969, "nfs"),
    (0xff53_4d42, "cifs"),
    (0xfe53_4d42, "smb"),
    (0x0000_517b, "smbfs"),
    (0x6573_5546, "fuse (fuse-overlayfs, glusterfs, sshfs or virtiofs)"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x7461_636f, "ocfs2"),
    (0x0116_1970, "gfs2"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x786f_4256, "a VirtualBox shared folder"),
    (0x0000_4d44, "vfat"),
    (0x0000_9fa0, "proc"),
    (0x6265_6572, "sysfs"),
];

/// Refuses a directory on whose file system locks mean nothing.
pub(super) fn check(directory: impl AsFd, path: &Path) -> Result<(), Error> {
    let about = fstatfs(directory).map_err(Error::refused("ask for the file system of", path))?;
    // Magic numbers have 32 bits; the field's width and sign differ between architectures.
    let magic = about.filesystem_type().0 as u32;
    match refusal(magic) {
        None => Ok(()),
        Some(kind) => Err(Error::FileSystem { directory: path.to_owned(), kind }),
    }
}

fn refusal(magic: u32) -> Option<String> {
    if ACCEPTED.contains(&magic) {
        return None;
    }
    let known = REFUSED.iter().find(|(number, _)| *number == magic);
    Some(known.map_or_else(|| format!("an unknown file system ({magic:#x})"), |(_, name)| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_refused_by_name() {
        assert_eq!(refusal(0x6969).as_deref(), Some("nfs"));
        assert_eq!(refusal(0xff53_4d42).as_deref(), Some("cifs"));
        assert!(refusal(0x6573_5546).is_some_and(|kind| kind.contains("virtiofs")));
    }

    #[test]
    fn a_file_system_nobody_knows_is_refused_with_its_number() {
        assert_eq!(refusal(0xdead_beef).as_deref(), Some("an unknown file system (0xdeadbeef)"));
    }

    #[test]
    fn local_disks_and_memory_are_accepted() {
        for magic in [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0x2fc1_2fc1] {
            assert_eq!(refusal(magic), None);
        }
    }

    #[test]
    fn a_directory_of_the_kernels_own_is_refused() {
        let proc = std::fs::File::open("/proc").expect("/proc is mounted here");
        let error = check(&proc, Path::new("/proc")).expect_err("no locks on proc").to_string();
        assert!(error.starts_with("/proc is on proc, where a lock"), "{error}");
    }
}
