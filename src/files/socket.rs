//! Where a unix socket listens: bound, looked at and removed in the directory it was found in, whatever becomes of the
//! path to it meanwhile.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::UnixAddr;
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, stat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::hand::Hand;
use super::walk::refused;
use super::{Place, find, kind, replaced, same, while_replaced};

/// A directory, and a socket's name in it.
#[derive(Debug)]
pub struct SocketPlace {
    place: Place,
}

/// A socket that was found, whatever its name leads to by now.
#[derive(Debug)]
pub struct HeldSocket {
    socket: OwnedFd,
    /// Its name, where nobody else may change what that leads to.
    ours: Option<PathBuf>,
}

impl HeldSocket {
    /// Where it is, for as long as it is held. Without /proc it goes by its name, if that is in nobody else's hands.
    pub fn path(&self) -> PathBuf {
        match &self.ours {
            Some(path) if !Path::new("/proc/self/fd").exists() => path.clone(),
            Some(_) | None => format!("/proc/self/fd/{}", self.socket.as_raw_fd()).into(),
        }
    }

    /// Whether others may have had it found.
    pub fn is_in_others_hands(&self) -> bool {
        self.ours.is_none()
    }
}

impl SocketPlace {
    /// Walks there.
    ///
    /// # Errors
    /// The way can't be walked, or whoever put a link on it may put nothing there themselves.
    pub fn find(path: &Path) -> io::Result<SocketPlace> {
        let place = find(path)?;
        let may_not = |hand: &Hand| !hand.may_replace(&place.about_directory, place.entry.as_ref());
        match place.linked_by().filter(may_not) {
            Some(hand) => Err(refused(hand, "may put nothing there")),
            None => Ok(SocketPlace { place }),
        }
    }

    /// What to bind or connect to: the path, or where others may change it, the name in the very directory that was
    /// found (there is no bindat(2)).
    ///
    /// # Errors
    /// The path is too long.
    pub fn address(&self) -> io::Result<UnixAddr> {
        let directory = match self.place.led_by {
            Some(_) => PathBuf::from(format!("/proc/self/fd/{}", self.place.directory.as_raw_fd())),
            None => self.place.path.clone(),
        };
        Ok(UnixAddr::new(&directory.join(&self.place.name))?)
    }

    /// The directory whose number stands in the [address](Self::address), if one does.
    pub fn into_directory_of_its_name(self) -> Option<OwnedFd> {
        self.place.led_by.is_some().then_some(self.place.directory)
    }

    /// What to connect to in place of the path, where others may change what that leads to: the very socket that was
    /// found.
    ///
    /// # Errors
    /// Another has taken its place, or nothing is there.
    pub fn held(&self) -> io::Result<Option<HeldSocket>> {
        self.place.led_by.map(|_| self.hold()).transpose()
    }

    /// The same, whoever may change it: where nothing was found anybody may put something in a directory for all, and it is
    /// their link that the path leads by then.
    ///
    /// # Errors
    /// The same.
    pub fn hold(&self) -> io::Result<HeldSocket> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Some(seen) = &self.place.entry else { return Err(Errno::ENOENT.into()) };
        let socket = openat(&self.place.directory, self.place.name.as_os_str(), flags, Mode::empty())?;
        let ours = self.place.led_by.is_none().then(|| self.place.path.join(&self.place.name));
        // What is ours and no socket refuses by itself.
        match same(seen, &fstat(&socket)?) && (self.is_socket() || ours.is_some()) {
            true => Ok(HeldSocket { socket, ours }),
            false => Err(replaced()),
        }
    }

    /// Walks there and holds what is there, be it replaced meanwhile, as by an agent that begins anew; and whose it is.
    ///
    /// # Errors
    /// As for [`find`](Self::find) and [`hold`](Self::hold).
    pub fn find_and_hold(path: &Path) -> io::Result<(HeldSocket, Option<u32>)> {
        while_replaced(|| {
            let place = SocketPlace::find(path)?;
            Ok((place.hold()?, place.owner()))
        })
    }

    /// Holds it to send to whoever listens: it must be one to which whoever led here, if anybody did, may send themselves.
    ///
    /// # Errors
    /// As for [`hold`](Self::hold), or they may not.
    pub fn hold_to_send(&self) -> io::Result<HeldSocket> {
        match (self.place.led_by, &self.place.entry) {
            // Another name of it may be anywhere.
            (Some(hand), Some(entry)) if entry.st_nlink > 1 || !hand.may_write(entry) => {
                Err(refused(hand, "may not send to the socket there"))
            }
            _ => self.hold(),
        }
    }

    /// Whether anything is there.
    pub fn is_taken(&self) -> bool {
        self.place.entry.is_some()
    }

    /// Whether a socket is there.
    pub fn is_socket(&self) -> bool {
        self.place.entry.as_ref().is_some_and(|entry| kind(entry) == SFlag::S_IFSOCK)
    }

    /// Whose what is there is.
    pub fn owner(&self) -> Option<u32> {
        self.place.entry.as_ref().map(|entry| entry.st_uid)
    }

    /// Device and inode of what is there.
    // Their types differ between architectures.
    #[allow(clippy::unnecessary_cast)]
    pub fn identity(&self) -> Option<(u64, u64)> {
        self.place.entry.as_ref().map(|entry| (entry.st_dev as u64, entry.st_ino as u64))
    }

    /// Who may listen there, or lead elsewhere, besides root and ourselves: nobody, or one user, whose own the directory is
    /// below root's, as packages give a daemon one. What is there now tells nothing: in a directory for all (1777) the next socket
    /// is whoever's comes first when its listener is started again. The socket needn't be there.
    ///
    /// # Errors
    /// Others may, which says who, where, and what keeps them out; or a directory of the way can't be looked at.
    pub fn one_user(&self) -> io::Result<Option<u32>> {
        let (path, about) = (&self.place.path, &self.place.about_directory);
        if let Some(hand) = self.place.linked_by() {
            return Err(refused(hand, "may have whoever they like be told what is said there"));
        }
        let mut one = None;
        let mut is_theirs = |hand, directory: &FileStat| match hand {
            None => true,
            // Where all may write and rename only what is their own, it is theirs because they were the first.
            Some(Hand::User(user)) => Hand::on(directory) == hand && *one.get_or_insert(user) == user,
            Some(_) => false,
        };
        if !is_theirs(Hand::on(about), about) {
            return Err(open_to_others(path, about));
        }
        let mut entry = *about;
        for directory in path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            let about = stat(directory)?;
            if !is_theirs(Hand::of(&about, Some(&entry)), &about) {
                return Err(open_to_others(directory, &about));
            }
            entry = about;
        }
        Ok(one)
    }

    /// Removes what was seen there.
    ///
    /// # Errors
    /// It is another one by now, or can't be removed.
    pub fn remove(&self) -> io::Result<()> {
        let name = self.place.name.as_os_str();
        let there = fstatat(&self.place.directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        if !self.place.entry.as_ref().is_some_and(|seen| same(seen, &there)) {
            return Err(replaced());
        }
        Ok(unlinkat(&self.place.directory, name, UnlinkatFlags::NoRemoveDir)?)
    }
}

fn open_to_others(directory: &Path, about: &FileStat) -> io::Error {
    let (path, mode) = (directory.display(), about.st_mode & 0o7777);
    let who = Hand::on(about).map_or_else(|| "somebody else".to_owned(), |hand| hand.to_string());
    io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "refused: {who} may put a socket of theirs in {path} (uid {}'s, mode {mode:o}) and would hear what is said; \
             let it listen in a directory that only root or its own user may write, and so all above it",
            about.st_uid
        ),
    )
}
