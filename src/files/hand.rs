//! In whose hands a file or directory is: who, besides root and ourselves, may put something there.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::{getegid, geteuid};

use super::kind;

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

/// Somebody else is, or may be, in a user's private group.
static PRIVATE_GROUPS_ARE_SHARED: AtomicBool = AtomicBool::new(false);

/// No group is its user's alone, from now on.
pub fn share_private_groups() {
    PRIVATE_GROUPS_ARE_SHARED.store(true, Ordering::Relaxed);
}

/// Whether it is only its owner who is in its group: of one of the same number, as distributions give each user (with it
/// goes a umask of 002), nobody else is, as far as is known.
fn is_private_group(about: &FileStat) -> bool {
    about.st_gid == about.st_uid && !PRIVATE_GROUPS_ARE_SHARED.load(Ordering::Relaxed)
}

/// Others who had a hand in the way to a file. What they could open themselves is all that they may lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hand {
    /// A user's.
    User(u32),
    /// A group's.
    Group(u32),
    /// A user's, or a group's: either may have been it.
    UserOrGroup(u32, u32),
    /// Anybody's, or several users'.
    Anybody,
}

impl Hand {
    /// Who may have put this entry into this directory; `None` is root, or ourselves.
    ///
    /// The sticky bit keeps what is there from being moved away, and nothing from being moved there: whoever may write in
    /// the directory where a file is, of whomever, may rename it to here (rename(2) asks for the two directories alone). A
    /// directory they may only where they may write in it, too.
    pub(super) fn of(directory: &FileStat, entry: Option<&FileStat>) -> Option<Hand> {
        Hand::of_unless(directory, |others| match entry {
            None => None,
            Some(entry) if kind(entry) == SFlag::S_IFDIR => others.and_then(|_| Hand::on(entry)),
            Some(_) => others,
        })
    }

    /// The same of an entry that can't have been moved there, for its name is a mount's, or the directory is read-only.
    pub(super) fn of_unmoved(directory: &FileStat, entry: &FileStat) -> Option<Hand> {
        // A second name may be anybody's work (fs.protected_hardlinks = 0): a file's, a link's or a socket's.
        let is_one_of_two = kind(entry) != SFlag::S_IFDIR && entry.st_nlink > 1;
        Hand::of_unless(directory, |others| {
            others.and_then(|others| match is_one_of_two {
                true => Some(others),
                false => Hand::of_owner(entry),
            })
        })
    }

    /// Whoever may write in the directory, unless its sticky bit says otherwise.
    fn of_unless(directory: &FileStat, sticky: impl FnOnce(Option<Hand>) -> Option<Hand>) -> Option<Hand> {
        let others = Hand::of_others(directory);
        let others = if directory.st_mode & STICKY != 0 { sticky(others) } else { others };
        Hand::joined(Hand::of_owner(directory), others)
    }

    /// Whether others may write in this directory, but not move what isn't theirs.
    pub(super) fn is_sticky_for_others(directory: &FileStat) -> bool {
        directory.st_mode & STICKY != 0 && Hand::of_others(directory).is_some()
    }

    /// Who may write to this, or take the right to; `None` is root, or ourselves.
    pub(super) fn on(about: &FileStat) -> Option<Hand> {
        Hand::joined(Hand::of_owner(about), Hand::of_others(about))
    }

    fn of_owner(about: &FileStat) -> Option<Hand> {
        (!is_trusted(about.st_uid)).then_some(Hand::User(about.st_uid))
    }

    /// By the mode alone.
    fn of_others(about: &FileStat) -> Option<Hand> {
        if about.st_mode & OTHERS_WRITE != 0 {
            return Some(Hand::Anybody);
        }
        let group = about.st_mode & GROUP_WRITES != 0 && !is_own_group(about.st_gid) && !is_private_group(about);
        group.then_some(Hand::Group(about.st_gid))
    }

    /// Both had a hand in it.
    pub(super) fn joined(one: Option<Hand>, other: Option<Hand>) -> Option<Hand> {
        let (one, other) = match (one, other) {
            (hand, None) | (None, hand) => return hand,
            (Some(one), Some(other)) => (one, other),
        };
        let same = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        let are_known = one != Hand::Anybody && other != Hand::Anybody;
        if !are_known || !same(one.user(), other.user()) || !same(one.group(), other.group()) {
            return Some(Hand::Anybody);
        }
        Some(match (one.user().or(other.user()), one.group().or(other.group())) {
            (Some(user), Some(group)) => Hand::UserOrGroup(user, group),
            (Some(user), None) => Hand::User(user),
            (None, Some(group)) => Hand::Group(group),
            (None, None) => Hand::Anybody,
        })
    }

    /// The one user among them.
    pub(super) fn user(self) -> Option<u32> {
        match self {
            Hand::User(user) | Hand::UserOrGroup(user, _) => Some(user),
            Hand::Group(_) | Hand::Anybody => None,
        }
    }

    fn group(self) -> Option<u32> {
        match self {
            Hand::Group(group) | Hand::UserOrGroup(_, group) => Some(group),
            Hand::User(_) | Hand::Anybody => None,
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

    /// An owner takes what rights they want. Who is in the group has no more than the group's, where others have more.
    fn may(self, about: &FileStat, right: u32) -> bool {
        let everybody = about.st_mode & right != 0 && about.st_mode & (right << 3) != 0;
        match self {
            Hand::User(user) => everybody || about.st_uid == user,
            Hand::Group(group) => everybody || (about.st_gid == group && about.st_mode & (right << 3) != 0),
            Hand::UserOrGroup(user, group) => {
                Hand::User(user).may(about, right) && Hand::Group(group).may(about, right)
            }
            Hand::Anybody => everybody,
        }
    }
}

impl std::fmt::Display for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Hand::User(user) => write!(f, "uid {user}"),
            Hand::Group(group) => write!(f, "gid {group}"),
            Hand::UserOrGroup(user, group) => write!(f, "uid {user} or gid {group}"),
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
pub(super) fn is_trusted(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}
