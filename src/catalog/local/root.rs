//! The shared directory itself: made, checked, and opened anew for each call, so that one that is deleted, remounted
//! or replaced is noticed by the next. It knows nothing of instances and keys.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use tokio::time::{Instant, timeout};

use super::Error;
use super::boot::{self, Mark, Suspect};
use super::entries::{self, Tidying};
use super::files::{FileId, Folder, Kept, errno};
use super::{filesystem, solitude};
use crate::files;

/// A directory of a dead disk or server must not hold up more than its own call.
const PATIENCE: Duration = Duration::from_secs(5);

/// A scratch file of this age belongs to an agent that died between making it and putting it in place.
const ABANDONED: Duration = Duration::from_secs(60);

/// Who writes on the loop does so only where a write was taken within this.
const WRITTEN_WITHIN: Duration = Duration::from_millis(500);

/// So many names are looked at for what is abandoned; the rest is left to another time.
const MOST_SWEPT: usize = 5_000;

/// Directories in the shared one.
const SERVICES: &str = "services";
const KEYS: &str = "keys";
const SCRATCH: &str = "tmp";
const ELECTIONS: &str = "elections";
const WITNESSES: &str = "witnesses";

/// The directories that agents make in it.
const PARTS: [&str; 5] = [SERVICES, KEYS, SCRATCH, ELECTIONS, WITNESSES];
/// And what else may be there: a mark, of which it is told elsewhere if it is none, and what a new ext4 has.
const OTHER_NAMES: [&str; 2] = [boot::MARK, "lost+found"];

/// A shared directory, wherever its path leads now.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// As configured; the user's own.
    directory: PathBuf,
    /// Known to be, wherever it lies.
    shared: bool,
    /// Below it; several directories when it has slashes.
    prefix: String,
    path: PathBuf,
    state: Arc<Mutex<RootState>>,
    /// Held by the one thread that makes the directory ready or touches it: when that thread hangs, no second one follows it.
    preparing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct RootState {
    /// The directory that was made ready, and when it was last touched.
    ready: Option<(FileId, Instant)>,
    boot_id: Option<String>,
    suspect: Option<Suspect>,
    /// When it turned out to be of before a reboot.
    taken_over: Option<Instant>,
    /// What was left from before a reboot, as far as it isn't gone through yet.
    left_over: Option<Tidying>,
    kept: Kept,
}

/// The shared directory, open and checked.
#[derive(Debug)]
pub(super) struct Opened {
    root: Folder,
}

impl Root {
    /// Looks at nothing yet.
    pub(super) fn new(directory: &Path, prefix: &str, shared: bool) -> Root {
        Root {
            directory: directory.to_owned(),
            shared,
            prefix: prefix.to_owned(),
            path: directory.join(prefix),
            state: Arc::default(),
            preparing: Arc::default(),
        }
    }

    /// Where everything is: the directory and the prefix.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the instances of a service are.
    pub(super) fn path_of_service(&self, file: &str) -> PathBuf {
        self.path.join(SERVICES).join(file)
    }

    /// Where the keys are.
    pub(super) fn path_of_keys(&self) -> PathBuf {
        self.path.join(KEYS)
    }

    /// Where an election is.
    pub(super) fn path_of_election(&self, file: &str) -> PathBuf {
        self.path.join(ELECTIONS).join(file)
    }

    /// Where the files are by which the ends of an election's containers are known.
    pub(super) fn path_of_witnesses(&self, file: &str) -> PathBuf {
        self.path.join(WITNESSES).join(file)
    }

    /// Whether all that was registered here ended with a reboot, within this time: who lives is about to register again.
    pub(super) fn began_anew_within(&self, within: Duration) -> bool {
        self.lock().taken_over.is_some_and(|at| at.elapsed() < within) || boot::is_just_booted()
    }

    /// Opens the directory; makes it and takes possession of it first when it isn't the one of the last call. Until
    /// it is known to be on a disk of this host it is touched from a thread of its own only.
    pub(super) async fn open(&self) -> Result<Opened, Error> {
        self.open_touched_within(boot::TOUCH_EVERY).await
    }

    /// The same for who writes on the loop: a disk may let itself be read and hang whoever writes (fsfreeze(8), as backups
    /// do), so it has taken a write a moment ago.
    pub(super) async fn open_to_write(&self) -> Result<Opened, Error> {
        self.open_touched_within(WRITTEN_WITHIN).await
    }

    async fn open_touched_within(&self, within: Duration) -> Result<Opened, Error> {
        let ready = self.lock().ready;
        if let Some((ready, touched)) = ready
            && let Some(root) = self.find()?
            && root.identity()? == ready
            && (touched.elapsed() < within || self.in_turn(move |root| root.touch(ready)).await?)
        {
            return Ok(Opened { root });
        }
        self.in_turn(|root| root.prepare()).await
    }

    /// Works in a thread of its own, in which no second one follows a first that hangs.
    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce(Root) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let silent = |_| Error::Silent { directory: self.path.clone(), waited: PATIENCE };
        let work = async {
            let turn = Arc::clone(&self.preparing).lock_owned().await;
            let root = self.clone();
            crate::files::beside(move || {
                let _turn = turn;
                work(root)
            })
            .await
        };
        let done = timeout(PATIENCE, work).await.map_err(silent)?;
        done.map_err(|source| Error::NoThread { directory: self.path.clone(), source })?
    }

    /// A sign of life to other kernels, in the directory that was made ready; `false` when it is another's by now.
    fn touch(&self, ready: FileId) -> Result<bool, Error> {
        let now = Instant::now();
        let Some(root) = self.find()? else { return Ok(false) };
        if root.identity()? != ready {
            return Ok(false);
        }
        let boot_id = self.lock().boot_id.clone();
        if let Some(ours) = boot_id {
            if !boot::is_ours(&root, &ours)? {
                self.lock().ready = None;
                return Ok(false);
            }
            match boot::touch(&root) {
                Err(error) if error.is_read_only() => {}
                touched => touched?,
            }
        }
        // Unless another directory was made ready meanwhile.
        if let Some((still, touched)) = &mut self.lock().ready
            && *still == ready
        {
            *touched = now;
        }
        Ok(true)
    }

    /// Removes what agents that died at an unlucky moment left, and some more of what is left from before a reboot.
    pub(super) fn sweep(&self, opened: &Opened) -> Result<(), Error> {
        self.go_through_left_over(&opened.root)?;
        match opened.root.sub(SCRATCH)? {
            Some(scratch) => sweep(&scratch),
            None => Ok(()),
        }
    }

    /// Removes some more of what is left from before a reboot; how many entries. What couldn't be looked at is left to the
    /// next time.
    fn go_through_left_over(&self, root: &Folder) -> Result<usize, Error> {
        let Some(left_over) = self.lock().left_over.clone() else { return Ok(0) };
        let (removed, rest) = match root.sub(SERVICES)? {
            Some(services) => entries::remove_dead(&services, left_over),
            None => (0, None),
        };
        self.lock().left_over = rest;
        Ok(removed)
    }

    /// Below the user's own directory everybody may write, so no link is followed: the prefix is one directory in the
    /// other, or an error.
    fn find(&self) -> Result<Option<Folder>, Error> {
        let mut folder = Folder::at(&self.directory, &self.kept())?;
        for part in self.prefix.split('/') {
            folder = match folder {
                Some(folder) => folder.sub(part)?,
                None => None,
            };
        }
        Ok(folder)
    }

    /// The files by which the ends of an election's containers are known, where they are there; nothing is made.
    pub(super) fn find_witnesses(&self, file: &str) -> Result<Option<Folder>, Error> {
        let witnesses = self.find()?.map(|root| root.sub(WITNESSES)).transpose()?.flatten();
        witnesses.map_or(Ok(None), |witnesses| witnesses.sub(file))
    }

    fn prepare(&self) -> Result<Opened, Error> {
        let root = match self.find()? {
            Some(root) => root,
            None => self.make()?,
        };
        self.check(&root)?;
        match self.furnish(&root) {
            // A volume mounted read-only is enough to follow; what needs more says so itself.
            Err(error) if error.is_read_only() => {}
            furnished => furnished?,
        }
        let identity = root.identity()?;
        self.lock().ready = Some((identity, Instant::now()));
        Ok(Opened { root })
    }

    fn make(&self) -> Result<Folder, Error> {
        let mut folder = match Folder::at(&self.directory, &self.kept())? {
            Some(directory) => directory,
            None => self.make_directory()?,
        };
        self.check(&folder)?;
        for part in self.prefix.split('/') {
            folder = folder.make(part)?;
        }
        Ok(folder)
    }

    fn check(&self, directory: &Folder) -> Result<(), Error> {
        filesystem::check(directory.fd(), directory.path())?;
        match self.shared {
            true => Ok(()),
            false => solitude::check(directory.fd(), directory.path()),
        }
    }

    fn make_directory(&self) -> Result<Folder, Error> {
        if !self.shared {
            solitude::survey(&self.directory)?;
        }
        let refused = |e: std::io::Error| Error::refused("make", &self.directory)(errno(&e));
        // Another container may be first.
        files::make_directory(&self.directory, 0o777).map_err(refused)?;
        Folder::at(&self.directory, &self.kept())?.ok_or_else(|| Error::refused("open", &self.directory)(Errno::ENOENT))
    }

    fn furnish(&self, root: &Folder) -> Result<(), Error> {
        let boot_id = boot::known_boot_id()?;
        if boot_id.is_some()
            && !boot::is_marked(root)?
            && let Some(name) = self.strange(root)?
        {
            return Err(Error::NotOurs { directory: self.path.clone(), name });
        }
        let scratch = root.make(SCRATCH)?;
        let mut is_marked = true;
        match boot_id {
            Some(ours) => {
                // No lock is kept over work with files, for which the loop would wait; one thread at a time comes here.
                let mut suspect = self.lock().suspect.clone();
                let mark = boot::claim(root, &scratch, &ours, &mut suspect, Instant::now());
                self.lock().suspect = suspect;
                let mark = mark?;
                self.lock().boot_id = Some(ours);
                // What is in a directory without a mark was never an agent's.
                is_marked = mark != Mark::New;
                if mark == Mark::TakenOver {
                    self.lock().taken_over = Some(Instant::now());
                    // Before it is gone through: the mark says by now that all of it is this boot's.
                    self.lock().left_over = Some(Tidying::default());
                    let removed = self.go_through_left_over(root)?;
                    let rest = self.lock().left_over.is_some();
                    let more = if rest { ", and the rest is gone through later" } else { "" };
                    tracing::info!(
                        event = "catalog.taken_over",
                        "{} was left from before a reboot: {removed} entries removed{more}",
                        self.path.display()
                    );
                }
            }
            None => tracing::warn!(
                event = "degraded",
                "/proc is missing: whether {} is shared with another host can't be checked",
                self.path.display()
            ),
        }
        root.make(SERVICES)?;
        root.make(KEYS)?;
        if is_marked { sweep(&scratch) } else { Ok(()) }
    }

    /// Something in a directory that others can't have put there, and no agent did: somebody may have moved it here, to have
    /// directories made in it that are everybody's. An agent's are everybody's themselves, by whatever names.
    fn strange(&self, root: &Folder) -> Result<Option<String>, Error> {
        if root.is_for_others()? {
            return Ok(None);
        }
        let names = root.names()?;
        let is_known = |name: &&String| PARTS.contains(&name.as_str()) || OTHER_NAMES.contains(&name.as_str());
        if let Some(name) = names.iter().find(|name| !is_known(name)) {
            return Ok(Some(name.clone()));
        }
        for name in names.into_iter().filter(|name| PARTS.contains(&name.as_str())) {
            let part = root.sub(&name)?;
            if let Some(part) = part
                && !part.is_anybodys_to_tidy()?
            {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    fn kept(&self) -> Kept {
        self.lock().kept.clone()
    }

    fn lock(&self) -> MutexGuard<'_, RootState> {
        // Each change of it is one assignment: a panic can't have left it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// The instances of a service, made when there are none.
    pub(super) fn make_service(&self, file: &str) -> Result<Folder, Error> {
        self.root.make(SERVICES)?.make(file)
    }

    /// The instances of a service.
    pub(super) fn service(&self, file: &str) -> Result<Option<Folder>, Error> {
        match self.root.sub(SERVICES)? {
            Some(services) => services.sub(file),
            None => Ok(None),
        }
    }

    /// The keys, made when there are none.
    pub(super) fn make_keys(&self) -> Result<Folder, Error> {
        self.root.make(KEYS)
    }

    /// The keys.
    pub(super) fn keys(&self) -> Result<Option<Folder>, Error> {
        self.root.sub(KEYS)
    }

    /// An election, made when there is none.
    pub(super) fn make_election(&self, file: &str) -> Result<Folder, Error> {
        self.root.make(ELECTIONS)?.make(file)
    }

    /// An election.
    pub(super) fn election(&self, file: &str) -> Result<Option<Folder>, Error> {
        match self.root.sub(ELECTIONS)? {
            Some(elections) => elections.sub(file),
            None => Ok(None),
        }
    }

    /// The files by which the ends of an election's containers are known, their directory made when there is none.
    pub(super) fn make_witnesses(&self, file: &str) -> Result<Folder, Error> {
        self.root.make(WITNESSES)?.make(file)
    }

    /// The same, where there is one.
    pub(super) fn witnesses(&self, file: &str) -> Result<Option<Folder>, Error> {
        match self.root.sub(WITNESSES)? {
            Some(witnesses) => witnesses.sub(file),
            None => Ok(None),
        }
    }

    /// Where files are made before they are put in place.
    pub(super) fn scratch(&self) -> Result<Folder, Error> {
        self.root.make(SCRATCH)
    }
}

fn sweep(scratch: &Folder) -> Result<(), Error> {
    if !scratch.is_anybodys_to_tidy()? {
        return Ok(());
    }
    let is_ours = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    // What else is there, however much, holds nobody up.
    for name in scratch.some_names(MOST_SWEPT, is_ours)? {
        // What can't be opened isn't an agent's, or another's to sweep.
        let Ok(Some(file)) = scratch.file(&name) else { continue };
        let age = file.metadata().and_then(|about| about.modified()).map(|m| SystemTime::now().duration_since(m));
        // Neither a file without a time nor one of the future is known to be old.
        if matches!(age, Ok(Ok(age)) if age > ABANDONED) {
            scratch.take_away(&name, &file)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn dead(root: &Root, name: &str) -> PathBuf {
        let service = root.path().join(SERVICES).join("web");
        fs::create_dir_all(&service).unwrap();
        fs::set_permissions(&service, PermissionsExt::from_mode(0o777)).unwrap();
        let file = service.join(name);
        fs::write(&file, "{}").unwrap();
        file
    }

    /// Something else where the services are, while it lasts.
    fn without_services<T>(root: &Root, work: impl FnOnce() -> T) -> T {
        let (services, aside) = (root.path().join(SERVICES), root.path().join("aside"));
        fs::rename(&services, &aside).unwrap();
        fs::write(&services, "").unwrap();
        let done = work();
        fs::remove_file(&services).unwrap();
        fs::rename(&aside, &services).unwrap();
        done
    }

    #[tokio::test]
    async fn what_is_left_from_before_a_reboot_is_gone_through_though_it_could_not_be_opened_the_first_times() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path(), "pilotfish", true);
        let opened = root.open().await.unwrap();
        let left = dead(&root, "left");
        // As after a reboot: the mark is of another boot, and old.
        let mark = root.path().join(boot::MARK);
        fs::write(&mark, "00000000-0000-4000-8000-000000000000").unwrap();
        fs::File::open(&mark).and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH)).unwrap();
        let after = Root::new(directory.path(), "pilotfish", true);
        without_services(&root, || after.prepare().unwrap_err());
        without_services(&root, || after.sweep(&opened).unwrap_err());
        assert!(left.exists());
        after.sweep(&after.prepare().unwrap()).unwrap();
        assert!(!left.exists());
        // Gone through once.
        let later = dead(&root, "later");
        after.sweep(&opened).unwrap();
        assert!(later.exists());
    }

    /// As fsfreeze(8) makes one for a backup.
    #[tokio::test]
    async fn a_disk_that_can_be_read_and_hangs_whoever_writes_is_written_to_in_one_thread_beside_the_loop() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path(), "pilotfish", true);
        root.open_to_write().await.unwrap();
        // As the thread does that hangs.
        let hangs = Arc::clone(&root.preparing).lock_owned().await;
        root.open_to_write().await.expect("it took a write a moment ago");
        tokio::time::pause();
        tokio::time::advance(WRITTEN_WITHIN).await;
        root.open().await.expect("it can be read");
        for _ in 0..10 {
            let refused = root.open_to_write().await.unwrap_err();
            assert!(matches!(refused, Error::Silent { .. }), "{refused}");
        }
        assert!(matches!(root.open().await.unwrap_err(), Error::Silent { .. }), "others take it for dead by now");
        drop(hangs);
        tokio::time::resume();
        root.open_to_write().await.unwrap();
    }
}
