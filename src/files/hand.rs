//! In whose hands a file or directory is: who, besides root and ourselves, may put something there.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::FileStat;
use nix::unistd::{getegid, geteuid};

use super::is_plain;

const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITES: u32 = 0o020;
const STICKY: u32 = 0o1000;

/// Whether other users are in root's group or ours.
static GROUP_IS_SHARED: AtomicBool = AtomicBool::new(false);

/// What root's group or ours may write is in others' hands too, from now on.
pub fn share_own_group() {
    GROUP_IS_SHARED.store(true, Ordering::Relaxed);
}

/// Whether nobody but root and ourselves is in a group, as far as is known.
fn is_own_group(group: u32) -> bool {
    [0, getegid().as_raw()].contains(&group) && !GROUP_IS_SHARED.load(Ordering::Relaxed)
}

/// Others who had a hand in the way to a file. What they could open themselves is all that they may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// A user's.
    User(u32),
    /// A group's.
    Group(u32),
    /// Anybody's, or several users'.
    Anybody,
}

impl Hand {
    /// Who may have put this entry into this directory; `None` is root, or ourselves.
    pub(super) fn of(directory: &FileStat, entry: Option<&FileStat>) -> Option<Hand> {
        let by = Hand::on(directory)?;
        if matches!(by, Hand::User(_)) {
            return Some(by);
        }
        if directory.st_mode & STICKY == 0 {
            return Some(by);
        }
        match entry {
            None => None,
            // A second name of a file may be anybody's work (fs.protected_hardlinks = 0).
            Some(entry) if is_plain(entry) && entry.st_nlink > 1 => Some(by),
            Some(entry) if is_trusted(entry.st_uid) => None,
            Some(entry) => Some(Hand::User(entry.st_uid)),
        }
    }

    /// Who may write to this, or take the right to; `None` is root, or ourselves.
    pub(super) fn on(about: &FileStat) -> Option<Hand> {
        if !is_trusted(about.st_uid) {
            Some(Hand::User(about.st_uid))
        } else if about.st_mode & OTHERS_WRITE != 0 {
            Some(Hand::Anybody)
        } else if about.st_mode & GROUP_WRITES != 0 && !is_own_group(about.st_gid) {
            Some(Hand::Group(about.st_gid))
        } else {
            None
        }
    }

    /// Both had a hand in it.
    pub(super) fn joined(one: Option<Hand>, other: Option<Hand>) -> Option<Hand> {
        match (one, other) {
            (hand, None) | (None, hand) => hand,
            (Some(one), Some(other)) if one == other => Some(one),
            (Some(_), Some(_)) => Some(Hand::Anybody),
        }
    }

    /// Whether they may read this by their own right.
    pub(super) fn may_read(self, about: &FileStat) -> bool {
        self.may(about, 4)
    }

    /// Whether they may put something into this directory, in the place of `entry`.
    pub(super) fn may_replace(self, directory: &FileStat, entry: Option<&FileStat>) -> bool {
        let owns = |about: &FileStat| matches!(self, Hand::User(user) if user == about.st_uid);
        let may_write = self.may(directory, 2) && self.may_search(directory);
        let sticky = directory.st_mode & STICKY != 0;
        may_write && (!sticky || owns(directory) || entry.is_none_or(owns))
    }

    /// Whether they may write into this.
    pub(super) fn may_write(self, about: &FileStat) -> bool {
        self.may(about, 2)
    }

    /// Whether they may look what is in this directory.
    pub(super) fn may_search(self, about: &FileStat) -> bool {
        self.may(about, 1)
    }

    /// An owner takes what rights they want.
    fn may(self, about: &FileStat, right: u32) -> bool {
        let everybody = about.st_mode & right != 0;
        match self {
            Hand::User(user) => everybody || about.st_uid == user,
            Hand::Group(group) => everybody || (about.st_gid == group && about.st_mode & (right << 3) != 0),
            Hand::Anybody => everybody,
        }
    }
}

impl std::fmt::Display for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hand::User(user) => write!(f, "uid {user}"),
            Hand::Group(group) => write!(f, "gid {group}"),
            Hand::Anybody => write!(f, "anybody"),
        }
    }
}

/// A directory as it would be with the sticky bit.
pub(super) fn sticky(directory: &FileStat) -> FileStat {
    let mut directory = *directory;
    directory.st_mode |= STICKY;
    directory
}

/// Root may do anything anyway, and what is ours is in nobody else's hands.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}
