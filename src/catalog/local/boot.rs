//! Whose locks are in the directory: a mark with the kernel's boot id, since a lock is seen by its own kernel only.
//!
//! A mark of another boot is either left from before this host's reboot, and then no lock of that time can be held any
//! more, or it is another live host's (a disk shared by two machines), and then this kernel would take that host's live
//! instances for dead. The two are told apart without a person having to delete anything: a mark last touched before
//! this kernel booted is left over; any other is left over when nobody touches it for [`SILENCE`], which agents on the
//! other host would do every [`TOUCH_EVERY`] or with each heartbeat. That second rule needs no clock to be right: a
//! host without a battery-backed clock, or a directory copied with its times, is not refused for ever.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::sys::stat::{Mode, UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::Error;
use super::files::{self, Folder, errno};

/// How often a live agent touches the mark at most: it costs a write to the disk.
pub(super) const TOUCH_EVERY: Duration = Duration::from_secs(10);

/// How long a mark of another boot must be untouched to count as left over. Three times the slowest sign of life: the
/// sweep of a follower, or the heartbeat of a service with a ttl of 90 s. (A longer ttl without any follower on the
/// same host is not protected against a second host.)
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// A host has started its containers after this, if it starts any by itself.
const BOOTING: Duration = Duration::from_secs(120);

pub(super) const MARK: &str = "boot";

/// What a look at the mark came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// This boot's.
    Ours,
    /// Made now: until now this was no directory of any agent's.
    New,
    /// Replaced: what is in the directory is of before a reboot.
    TakenOver,
}

/// A mark that might be a live host's, and since when it is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Suspect {
    boot_id: String,
    touched: SystemTime,
    since: Instant,
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// This kernel's boot id; `None` where it can't be known.
pub(super) fn boot_id() -> Option<String> {
    known_boot_id().ok().flatten()
}

/// The same; `None` only where /proc isn't mounted, or doesn't show it.
pub(super) fn known_boot_id() -> Result<Option<String>, Error> {
    match std::fs::read_to_string(BOOT_ID) {
        Ok(id) => Ok(Some(id.trim().to_owned()).filter(|id| !id.is_empty())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => Ok(None),
        // For want of a descriptor, say: that is no reason to trust another kernel's locks.
        Err(error) => Err(Error::refused("read", BOOT_ID)(errno(&error))),
    }
}

/// Makes sure that the directory is this kernel's.
///
/// # Errors
/// It is another live kernel's, as far as can be said now.
pub(super) fn claim(
    root: &Folder,
    scratch: &Folder,
    ours: &str,
    suspect: &mut Option<Suspect>,
    now: Instant,
) -> Result<Mark, Error> {
    let Some((there, touched)) = read(root)? else {
        let staged = scratch.stage(ours.as_bytes(), shared())?;
        return match scratch.put_new(staged, root, MARK)? {
            // Kept open before it is closed here: nobody leases it in between.
            Some(_made) => root.kept(MARK).map(|_| Mark::New),
            // Another container was first; it is looked at again with the next call.
            None => read(root)?.filter(|(there, _)| there == ours).map(|_| Mark::Ours).ok_or_else(|| taken(root, "?")),
        };
    };
    // Something else's file of that name, and no mark: whatever is beside it isn't ours to remove.
    if !is_boot_id(&there) {
        return Err(taken(root, &there));
    }
    match judge(&there, touched, ours, booted_at(), suspect.as_ref(), now) {
        BootMark::Ours => {
            *suspect = None;
            Ok(Mark::Ours)
        }
        BootMark::LeftOver => {
            let staged = scratch.stage(ours.as_bytes(), shared())?;
            let _made = scratch.put_over(staged, root, MARK)?;
            root.kept(MARK)?;
            *suspect = None;
            Ok(Mark::TakenOver)
        }
        BootMark::PerhapsAlive { since } => {
            *suspect = Some(Suspect { boot_id: there.clone(), touched, since });
            Err(taken(root, &there))
        }
    }
}

/// As the kernel writes them (random(4)): 8-4-4-4-12 hexadecimal digits.
fn is_boot_id(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A sign of life to other kernels.
pub(super) fn touch(root: &Folder) -> Result<(), Error> {
    let now = TimeSpec::UTIME_NOW;
    match utimensat(root.fd(), MARK, &now, &now, UtimensatFlags::NoFollowSymlink) {
        // Gone: the next look makes a new one.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(source) => Err(Error::refused("touch", root.path_of(MARK))(source)),
    }
}

/// Whether there is a mark, of whatever boot.
pub(super) fn is_marked(root: &Folder) -> Result<bool, Error> {
    Ok(read(root)?.is_some_and(|(there, _)| is_boot_id(&there)))
}

/// Whether the mark is (still) this boot's.
pub(super) fn is_ours(root: &Folder, ours: &str) -> Result<bool, Error> {
    Ok(read(root)?.is_some_and(|(there, _)| there == ours))
}

#[derive(Debug, PartialEq, Eq)]
enum BootMark {
    Ours,
    LeftOver,
    PerhapsAlive { since: Instant },
}

fn judge(
    there: &str,
    touched: SystemTime,
    ours: &str,
    booted: SystemTime,
    suspect: Option<&Suspect>,
    now: Instant,
) -> BootMark {
    if there == ours {
        return BootMark::Ours;
    }
    if touched < booted {
        return BootMark::LeftOver;
    }
    match suspect.filter(|s| s.boot_id == there && s.touched == touched) {
        Some(silent) if now.duration_since(silent.since) >= SILENCE => BootMark::LeftOver,
        Some(silent) => BootMark::PerhapsAlive { since: silent.since },
        None => BootMark::PerhapsAlive { since: now },
    }
}

/// Any user's agent must be able to touch it.
fn shared() -> Mode {
    Mode::from_bits_truncate(0o666)
}

fn read(root: &Folder) -> Result<Option<(String, SystemTime)>, Error> {
    let Some(file) = root.kept(MARK)? else { return Ok(None) };
    let about = file.metadata().and_then(|about| about.modified());
    let touched = about.map_err(|e| Error::refused("look at", root.path_of(MARK))(errno(&e)))?;
    let text = files::text(&file, root.path_of(MARK))?;
    Ok(Some((text.unwrap_or_default().trim().to_owned(), touched)))
}

/// Whether the containers that start with the host may not all have started yet. The mark tells only the first of them.
pub(super) fn is_just_booted() -> bool {
    clock_gettime(ClockId::CLOCK_BOOTTIME).is_ok_and(|up| Duration::from(up) < BOOTING)
}

/// When this kernel booted, by the wall clock as it is set now.
fn booted_at() -> SystemTime {
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    SystemTime::now().checked_sub(up).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn taken(root: &Folder, boot_id: &str) -> Error {
    Error::OtherKernel { directory: root.path().to_owned(), boot_id: boot_id.to_owned(), silence: SILENCE }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: Duration = Duration::from_secs(1_000_000);

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn look(touched: u64, suspect: Option<&Suspect>, now: Instant) -> BootMark {
        judge("theirs", at(touched), "ours", SystemTime::UNIX_EPOCH + BOOT, suspect, now)
    }

    #[tokio::test]
    async fn a_mark_of_this_boot_is_ours() {
        assert_eq!(judge("ours", at(0), "ours", at(9), None, Instant::now()), BootMark::Ours);
    }

    #[test]
    fn only_what_a_kernel_wrote_is_a_mark() {
        assert!(is_boot_id(&boot_id().unwrap()) && is_boot_id("00000000-0000-0000-0000-000000000000"));
        for no_mark in ["", "vmlinuz", "00000000-0000-0000-0000-00000000000g", "../../etc/passwd"] {
            assert!(!is_boot_id(no_mark), "{no_mark}");
        }
    }

    #[tokio::test]
    async fn a_mark_from_before_the_reboot_is_left_over_at_once() {
        assert_eq!(look(999_999, None, Instant::now()), BootMark::LeftOver);
    }

    #[tokio::test]
    async fn a_mark_touched_since_this_boot_is_taken_over_only_after_its_silence() {
        let since = Instant::now();
        assert_eq!(look(1_000_001, None, since), BootMark::PerhapsAlive { since });
        let suspect = Suspect { boot_id: "theirs".to_owned(), touched: at(1_000_001), since };
        let soon = since + SILENCE - Duration::from_millis(1);
        assert_eq!(look(1_000_001, Some(&suspect), soon), BootMark::PerhapsAlive { since });
        assert_eq!(look(1_000_001, Some(&suspect), since + SILENCE), BootMark::LeftOver);
    }

    #[tokio::test]
    async fn another_hosts_sign_of_life_starts_the_silence_anew() {
        let since = Instant::now();
        let suspect = Suspect { boot_id: "theirs".to_owned(), touched: at(1_000_001), since };
        let later = since + SILENCE;
        assert_eq!(look(1_000_010, Some(&suspect), later), BootMark::PerhapsAlive { since: later });
    }
}
