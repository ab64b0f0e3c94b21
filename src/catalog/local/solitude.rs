//! Whether a directory is the container's own. In one that is, as when a `-v` was forgotten, each container finds every
//! lock free and leads. It can't be known for sure, for nothing tells a container what others see; so what a container
//! backend gives each container for itself is refused until somebody says that it is shared.
//!
//! A host's own disk is neither, so several agents in namespaces of one host may share any directory of it.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs, statfs};

use super::Error;
use super::files::{Folder, Kept};

/// A container's root has layers; and whatever else has them was hardly made to be shared.
const LAYERS: &str = "overlayfs";
/// docker's `--tmpfs`, and `--mount type=tmpfs`.
const MEMORY: &str = "a tmpfs of its own in a container";

/// Refuses a directory that only this container sees.
pub(super) fn check(directory: impl AsFd, path: &Path) -> Result<(), Error> {
    let about = fstatfs(&directory).map_err(Error::refused("ask for the file system of", path))?;
    let kind = match about.filesystem_type() {
        OVERLAYFS_SUPER_MAGIC => LAYERS,
        TMPFS_MAGIC if is_on_layers(Path::new("/")) && is_whole(directory) => MEMORY,
        _ => return Ok(()),
    };
    Err(Error::Alone { directory: path.to_owned(), kind })
}

/// Looks where a directory is, or would be made.
///
/// # Errors
/// Only this container would see it, or it can't be looked at.
pub fn survey(directory: &Path) -> Result<(), Error> {
    for place in directory.ancestors() {
        if let Some(folder) = Folder::at(place, &Kept::default())? {
            return check(folder.fd(), directory);
        }
    }
    Ok(())
}

/// As in a container. What can't be asked is a host's.
fn is_on_layers(path: &Path) -> bool {
    let overlay = statfs(path).is_ok_and(|about| about.filesystem_type() == OVERLAYFS_SUPER_MAGIC);
    overlay || path == Path::new("/") && has_root_of_a_container(&mounts())
}

/// Storage drivers without an overlay of the kernel's: an engine without root's rights, or on an old kernel, has this one.
fn has_root_of_a_container(mounts: &str) -> bool {
    mounts.lines().filter(|line| line.split(' ').nth(4) == Some("/")).any(|line| {
        let kind = line.split_once(" - ").and_then(|(_, about)| about.split(' ').next());
        kind.is_some_and(|kind| ["fuse.fuse-overlayfs", "aufs"].contains(&kind))
    })
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// Whether all of a file system was mounted here; a directory of one that the host has may be another container's, too.
/// Without /proc it is taken for so.
fn is_whole(directory: impl AsFd) -> bool {
    let about = format!("/proc/self/fdinfo/{}", directory.as_fd().as_raw_fd());
    let about = std::fs::read_to_string(about).unwrap_or_default();
    let mount = about.lines().find_map(|line| line.strip_prefix("mnt_id:")).map(str::trim);
    mount.is_none_or(|mount| root_of(mount, &mounts()).is_none_or(|root| root == "/"))
}

/// By proc_pid_mountinfo(5): field 1 is the mount's id, field 4 the directory of its file system that was mounted.
fn root_of<'a>(mount: &str, mounts: &'a str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        (fields.next() == Some(mount)).then(|| fields.nth(2))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_root_tells_a_bound_directory_from_a_whole_file_system() {
        let mounts =
            "31 23 0:26 / /shared rw,relatime - tmpfs tmpfs rw\n32 23 0:27 /a /b rw shared:1 - tmpfs tmpfs rw\n";
        assert_eq!(root_of("31", mounts), Some("/"));
        assert_eq!(root_of("32", mounts), Some("/a"));
        assert_eq!(root_of("3", mounts), None);
    }

    #[test]
    fn a_root_that_an_engine_made_in_user_space_is_a_containers() {
        let root =
            |kind: &str| format!("1 0 0:30 / / rw,relatime - {kind} {kind} rw\n2 1 0:4 / /proc rw - proc proc rw\n");
        assert!(has_root_of_a_container(&root("fuse.fuse-overlayfs")));
        assert!(!has_root_of_a_container(&root("ext4")));
        assert!(!has_root_of_a_container("1 0 0:30 / / rw - ext4 a rw\n2 1 0:31 / /x rw - fuse.fuse-overlayfs b rw\n"));
    }

    #[test]
    fn a_hosts_own_directory_may_be_shared_by_its_namespaces() {
        let directory = std::fs::File::open("/sys").expect("/sys is mounted here");
        assert!(check(&directory, Path::new("/sys")).is_ok(), "neither layers nor memory");
    }
}
