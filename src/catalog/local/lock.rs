//! An election's lock in a shared directory: a file that the kernel keeps locked as long as anything of the leader's lives
//! (see [`lock_file`]), and beside it `leader`, the holder's record, and `last`, which outlives it. There is no
//! clock in it.
//!
//! Terms and versions come from one counter, kept in `last`: it grows with each acquisition and each release.
//!
//! An acquisition waits until `last` is on the disk, for a term must not come back after the host's crash. A release
//! waits for no disk, while which nobody could lead: it doesn't touch `last`, but is a file beside it, `released`, which
//! counts if it is of the same term. A crash that takes it costs the next one a wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, sleep, sleep_until};

use crate::catalog::election::record::{GREATEST_TERM, LastLeader, Leader};
use crate::catalog::election::{AcquireRequest, CandidateSettings, LockViewSender};
use crate::catalog::rate::RateLimit;
use crate::files::in_a_thread;
use crate::net::backoff::{self, Pace, jittered};
use crate::supervisor::machines::election::event::{Acquisition, Id, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Lock, Revision, SessionId, Term, View};
use crate::supervisor::vocabulary::Fence;

use super::budget;
use super::files::{self, Folder};
use super::follow::{IN_DOUBT, POLL, RETRY};
use super::inotify::Watching;
use super::lock_file::{self, HeldLock, LOCK, LockFile, OwnLock};
use super::name::of_election;
use super::root::Opened;
use super::{Error, Local};

/// A lock that changes hands is looked at several times, so that the next candidate has it within milliseconds.
const LOOKS_AT_ONCE: u32 = 400;
/// Files of an election.
const LEADER: &str = "leader";
const LAST: &str = "last";
const RELEASED: &str = "released";

/// Between two looks without a reason.
const SWEEP: Duration = Duration::from_secs(10);
/// Between taking the lock and writing who has it there is a moment, which a slow disk makes long; a reader waits for it
/// so often.
const RECORD_AGAIN: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
    Duration::from_millis(500),
];

impl Local {
    /// See [`LockClient::open`](crate::catalog::election::LockClient::open). A session is a name; what is promised is
    /// promised by the kernel.
    pub async fn open_session(&self, candidate: &CandidateSettings) -> Result<(SessionId, Guarantee, Revision), Error> {
        let root = self.root.open_to_write().await?;
        self.lock_file.open_at(&root.make_election(&of_election(&candidate.name)?)?)?;
        let session = SessionId(u128::from(backoff::random()) << 64 | u128::from(backoff::random()));
        self.lock_file.open(session);
        Ok((session, Guarantee::WhileAlive { linger: candidate.kill_margin }, Revision(0)))
    }

    /// See [`LockClient::close`](crate::catalog::election::LockClient::close). Needs nothing that could fail before the
    /// lock is free: nobody else could free it as long as this container lives.
    pub async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        self.lock_file.close(session);
        let turn = || Arc::clone(&self.lock_file.write_lock).lock_owned();
        let close = move |mut held: OwnedMutexGuard<Option<OwnLock>>| {
            let own = held.take_if(|own| own.session == session);
            own.map_or(Ok(()), |own| resign(&own))
        };
        let held = turn().await;
        // The disk may hang. Nobody takes the lock anew before it is given back.
        match in_a_thread(move || close(held)).await {
            Ok(closed) => closed,
            Err(_) => close(turn().await),
        }
    }

    /// See [`LockClient::look`](crate::catalog::election::LockClient::look).
    pub async fn look(&self, election: &str) -> Result<View, Error> {
        self.look_after(election, None).await
    }

    async fn look_after(&self, election: &str, freed: Option<Revision>) -> Result<View, Error> {
        let root = self.root.open().await?;
        let name = of_election(election)?;
        let mut pauses = RECORD_AGAIN.into_iter();
        loop {
            match view(&root, &name, freed)? {
                LockSeen::View(view) => return Ok(view),
                LockSeen::Nobody(view) => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Ok(view),
                },
            }
        }
    }

    /// See [`LockClient::acquire`](crate::catalog::election::LockClient::acquire).
    pub async fn acquire(&self, candidate: &CandidateSettings, wanted: AcquireRequest) -> Result<Acquisition, Error> {
        let root = self.root.open().await?;
        let (lock_file, candidate) = (self.lock_file.share(), candidate.clone());
        let mut held = self.lock_file.write_lock.clone().lock_owned().await;
        self.on_disk(move || {
            let election = root.make_election(&of_election(&candidate.name)?)?;
            // By the same description the kernel would give it once more.
            if held.is_some() {
                return Ok(Acquisition::Changed);
            }
            let mut lock = lock_file.open_at(&election)?;
            if !lock_file::take(&lock, &election)? {
                match lock_file.clear(&election, &root.scratch()?, &lock)? {
                    Some(new) => lock = new,
                    None => return Ok(Acquisition::Changed),
                }
            }
            let session = wanted.session;
            let told = lock_file.guarantee(&lock, candidate.kill_margin);
            let hold_off_until = (!wanted.hold_off_left.is_zero()).then(|| Instant::now() + wanted.hold_off_left);
            let address = candidate.address().map(Id::from);
            let acquired = record_acquisition(&root, &election, &lock_file, &lock, &candidate, &wanted, told);
            match acquired {
                Ok(Acquisition::Won(term)) => {
                    *held =
                        Some(OwnLock { session, term, election, lock, told, told_loss: false, address, hold_off_until })
                }
                // Also when somebody else's file has taken the place of the one that is locked.
                Ok(_) | Err(_) => lock_file::give_back(&lock, &election)?,
            }
            acquired
        })
        .await
    }

    /// See [`LockClient::renew`](crate::catalog::election::LockClient::renew): there is nothing to renew, only to see,
    /// and to say in `last` should main have got the lock or closed it meanwhile, or what was owed be paid; and in the
    /// holder's record, should it be reached elsewhere.
    pub async fn renew(&self, candidate: &CandidateSettings, session: SessionId, term: Term) -> Result<Renewal, Error> {
        let root = self.root.open().await?;
        let (lock_file, of) = (self.lock_file.share(), candidate.clone());
        let mut held = self.lock_file.write_lock.clone().lock_owned().await;
        let stands = self
            .on_disk(move || {
                let stands = keep(&root, &lock_file, &of, &mut held, session, term);
                // Whoever closed the session meanwhile may have given up waiting for its turn.
                match held.take_if(|own| own.session == session && !lock_file.is_open(session)) {
                    Some(own) => resign(&own).map(|()| false),
                    None => stands,
                }
            })
            .await?;
        let view = self.look(&candidate.name).await?;
        Ok(match stands && view.shows(session, term) {
            true => Renewal::Alive(view),
            false => Renewal::Gone { void: true },
        })
    }

    /// See [`LockClient::release`](crate::catalog::election::LockClient::release).
    pub async fn release(
        &self,
        candidate: &CandidateSettings,
        session: SessionId,
        term: Term,
        to: Option<Id>,
        hold_off_left: Duration,
    ) -> Result<(), Error> {
        let root = self.root.open().await?;
        let (lock_file, candidate) = (self.lock_file.share(), candidate.clone());
        let mut held = self.lock_file.write_lock.clone().lock_owned().await;
        self.on_disk(move || {
            let Some(own) = held.take_if(|own| own.session == session && own.term == term) else {
                return Ok(());
            };
            let told = tell_release(&root, &candidate, &own, to, hold_off_left);
            // As long as it isn't told it isn't given back; unless nobody will ask for it again.
            if told.is_err() && lock_file.is_open(session) {
                *held = Some(own);
                return told;
            }
            told.and(resign(&own))
        })
        .await
    }

    /// See [`LockClient::watch`](crate::catalog::election::LockClient::watch).
    pub async fn watch_lock(&self, election: &str, views: &mut LockViewSender) {
        let (mut pace, mut rate) = (Pace::new(RETRY), RateLimit::after(LOOKS_AT_ONCE));
        let (mut watching, mut freed) = (None, None);
        let mut doubts = IN_DOUBT.iter();
        loop {
            match self.see_lock(election, &mut watching, &mut freed, views).await {
                Ok(()) => {
                    pace.reset();
                    // What happens meanwhile is news after that.
                    budget::rest(rate.answered(Instant::now())).await;
                    let pause = doubts.next().copied().unwrap_or_else(|| jittered(SWEEP));
                    if news(&mut watching, pause).await {
                        doubts = IN_DOUBT.iter();
                    }
                }
                Err(error) => {
                    watching = None;
                    views.failed(&error).await;
                    sleep(pace.pause()).await;
                }
            }
        }
    }

    async fn see_lock(
        &self,
        election: &str,
        watching: &mut Option<Watching>,
        freed: &mut Option<Revision>,
        views: &mut LockViewSender,
    ) -> Result<(), Error> {
        let root = self.root.open_to_write().await?;
        let name = of_election(election)?;
        match root.make_election(&name) {
            // What main inherits must be there before main is.
            Ok(election) if views.of_a_candidate() => drop(self.lock_file.open_at(&election)?),
            Ok(_) => {}
            // Who only looks needs no more than to read.
            Err(error) if error.is_read_only() && !views.of_a_candidate() => {}
            Err(error) => return Err(error),
        }
        // Before the look: what changes between the two is then an event.
        if watching.is_none() {
            *watching = self.watch(&self.root.path_of_election(&name)).ok();
        }
        let view = self.look_after(election, *freed).await?;
        if view.holder().is_none() {
            *freed = Some(view.last_revision);
        }
        views.saw(view).await;
        Ok(())
    }

    /// See [`LockClient::main_inherits`](crate::catalog::election::LockClient::main_inherits).
    pub fn main_inherits(&self, main: i32) {
        self.lock_file.main_inherits(main);
    }

    /// See [`LockClient::inheritable_fd`](crate::catalog::election::LockClient::inheritable_fd).
    pub fn inheritable_fd(&self) -> Option<std::sync::Arc<std::fs::File>> {
        self.lock_file.file()
    }
}

/// Waits for news of the directory, at most so long; whether there was any.
async fn news(watching: &mut Option<Watching>, pause: Duration) -> bool {
    let Some(watch) = watching else {
        sleep(pause.min(POLL)).await;
        return false;
    };
    let told = tokio::select! {
        told = watch.news() => told,
        () = sleep_until(Instant::now() + pause) => return false,
    };
    if told.map_or(true, |news| news.lost) {
        *watching = None;
    }
    true
}

/// What was seen of a lock.
enum LockSeen {
    View(View),
    /// It is held, and who holds it isn't written yet.
    Nobody(View),
}

/// The reads are in the opposite order of the writes: what a free lock shows was so when it was free, and a holder is
/// shown as of its own term, so that no view read while we acquired looks like one read after. `freed` is as of when the
/// lock was seen free before.
fn view(root: &Opened, name: &str, freed: Option<Revision>) -> Result<LockSeen, Error> {
    let free = Lock::Free { version: Revision(0), taken_from: None };
    let Some(election) = root.election(name)? else {
        return Ok(LockSeen::View(View { at: 0, lock: free, last: None, last_revision: Revision(0) }));
    };
    let used = used(&election)?;
    let last = last(&election)?;
    let last_revision = version(last.as_ref());
    let (last_term, released) = last.as_ref().map_or((0, true), |last| (last.term.unwrap_or(0), last.released));
    // Through a description of its own: the one that holds the lock sees none. Opened for reading only, so that its
    // closing is no event.
    let held = match election.file(LOCK)? {
        Some(file) => lock_file::is_held(&file, &election)?,
        None => false,
    };
    if !held {
        let last = last.map(|last| last.last(Term(0)));
        return Ok(LockSeen::View(View { at: last_revision.0.max(used), lock: free, last, last_revision }));
    }
    let view = |at, holder| View { at, lock: Lock::Held(holder), last: None, last_revision: Revision(0) };
    let leader = leader(&election)?.map(|leader| leader.holder(Term(0)));
    // An older one is of somebody who is gone; and so is one whose lock was seen free: another has it, and is about to
    // say so.
    let gone = |term: Term| term.0 < last_term || freed == Some(Revision(term.0));
    Ok(match leader.filter(|leader| !gone(leader.term)) {
        Some(leader) => LockSeen::View(view(leader.term.0, leader)),
        // As of before the term that somebody begins here, whether `last` tells of it already or not.
        None => LockSeen::Nobody(view(
            last_revision.0.saturating_sub(u64::from(!released)),
            Leader::unknown(SessionId(0), Term(last_term)),
        )),
    })
}

/// Whether the lock is held for this term; if it is, `last` says what is promised and owed as of now.
fn keep(
    root: &Opened,
    lock_file: &LockFile,
    candidate: &CandidateSettings,
    held: &mut HeldLock,
    session: SessionId,
    term: Term,
) -> Result<bool, Error> {
    let (Some(own), Some(election)) = (held, root.election(&of_election(&candidate.name)?)?) else { return Ok(false) };
    // What the record says isn't enough: whoever has just locked another file in its place has yet to write it.
    if !own.stands(session, term, &election)? {
        return Ok(false);
    }
    let due = lock_file.guarantee(&own.lock, candidate.kill_margin);
    let loss = candidate.loss.by(session);
    if (own.told != due || own.told_loss != loss || own.hold_off_until.is_some())
        && let Some(written) = last(&election)?
    {
        let hold_off_left = own.hold_off_until.map(|at| at.saturating_duration_since(Instant::now()));
        let hold_off_left = hold_off_left.filter(|hold_off_left| !hold_off_left.is_zero());
        let written = written.promised(due).accepting_loss(loss).owing(hold_off_left.unwrap_or_default());
        put(root, &election, LAST, &written.json(), true)?;
        (own.told, own.told_loss) = (due, loss);
        own.hold_off_until = own.hold_off_until.filter(|_| hold_off_left.is_some());
    }
    tell_address(root, candidate, own, &election)?;
    Ok(true)
}

/// Says in the holder's record, if that is this term's, where the holder can be reached by now.
fn tell_address(
    root: &Opened,
    candidate: &CandidateSettings,
    own: &mut OwnLock,
    election: &Folder,
) -> Result<(), Error> {
    if !candidate.moved_from(own.address.as_ref()) {
        return Ok(());
    }
    let address = candidate.address().map(Id::from);
    let ours = |leader: &Leader| leader.session == own.session && leader.term == Some(own.term.0);
    if let Some(leader) = leader(election)?.filter(ours) {
        let moved = leader.at(address.clone());
        put(root, election, LEADER, &moved.json(), false)?;
    }
    own.address = address;
    Ok(())
}

/// Whether the lock is held for this term.
pub(super) fn stands(root: &Opened, held: &HeldLock, fence: &Fence) -> Result<bool, Error> {
    match (held, root.election(&of_election(&fence.election)?)?) {
        (Some(own), Some(election)) => own.stands(fence.session, fence.term, &election),
        (None, _) | (_, None) => Ok(false),
    }
}

/// Says beside `last` that the lock is given back, unless it isn't the one that everyone looks at any more.
fn tell_release(
    root: &Opened,
    candidate: &CandidateSettings,
    own: &OwnLock,
    to: Option<Id>,
    hold_off_left: Duration,
) -> Result<(), Error> {
    let election = root.make_election(&of_election(&candidate.name)?)?;
    if own.stands(own.session, own.term, &election)? {
        let last = LastLeader::new(candidate, own.session, Some(own.term), own.told, hold_off_left).released(to);
        put(root, &election, RELEASED, &last.json(), false)?;
    }
    Ok(())
}

/// Unlocks. The kernel tells nobody of that, so the holder's record goes first, which it tells of.
fn resign(own: &OwnLock) -> Result<(), Error> {
    let removed = own.election.holds(LOCK, &own.lock).and_then(|ours| match ours {
        true => own.election.remove(LEADER).map(drop),
        false => Ok(()),
    });
    lock_file::give_back(&own.lock, &own.election).and(removed)
}

/// Writes down that the lock, which is ours now, was acquired; unless it isn't what was seen. The holder's record comes
/// last: who reads it may take the lock for acquired.
fn record_acquisition(
    root: &Opened,
    election: &Folder,
    lock_file: &LockFile,
    lock: &std::fs::File,
    candidate: &CandidateSettings,
    wanted: &AcquireRequest,
    promised: Guarantee,
) -> Result<Acquisition, Error> {
    let before = last(election)?;
    let version = version(before.as_ref());
    let (_, seen) = wanted.seen;
    if seen != version || !election.holds(LOCK, lock)? {
        return Ok(Acquisition::Changed);
    }
    let counted = version.0.max(used(election)?);
    let term = match counted < GREATEST_TERM {
        true => Term(counted + 1),
        // Somebody has written the greatest of all, which can't be told from a record. The election is counted anew, as where
        // everything was deleted: who has seen that term refuses to lead until a person says that this is right.
        false => {
            election.remove(RELEASED)?;
            Term(1)
        }
    };
    let session = wanted.session;
    let last = LastLeader::new(candidate, session, Some(term), promised, wanted.hold_off_left);
    put(root, election, LAST, &last.json(), true)?;
    let leader = Leader::new(candidate, session, Some(term)).owing(wanted.hold_off_left);
    put(root, election, LEADER, &leader.json(), false)?;
    // Whoever waited for this may have given up.
    match lock_file.is_open(session) {
        true => Ok(Acquisition::Won(term)),
        false => Ok(Acquisition::Unknown("the session was closed meanwhile".to_owned())),
    }
}

/// As which `last` was written: the term, and one more once it is released.
fn version(last: Option<&LastLeader>) -> Revision {
    Revision(last.map_or(0, |last| last.term.unwrap_or(0) + u64::from(last.released)))
}

/// What is used up by the other records: somebody may have deleted `last`, or written something into it that is none.
fn used(election: &Folder) -> Result<u64, Error> {
    let led = leader(election)?.and_then(|leader| leader.term).unwrap_or(0);
    Ok(version(record(election, RELEASED)?.as_ref()).0.max(led))
}

fn leader(election: &Folder) -> Result<Option<Leader>, Error> {
    Ok(text(election, LEADER)?.and_then(|text| Leader::read(text.as_bytes())))
}

fn last(election: &Folder) -> Result<Option<LastLeader>, Error> {
    let Some(acquired) = record(election, LAST)? else { return Ok(None) };
    let same_term = |released: &LastLeader| (released.session, released.term) == (acquired.session, acquired.term);
    Ok(Some(record(election, RELEASED)?.filter(same_term).unwrap_or(acquired)))
}

fn record(election: &Folder, name: &str) -> Result<Option<LastLeader>, Error> {
    Ok(text(election, name)?.and_then(|text| LastLeader::read(text.as_bytes())))
}

fn text(folder: &Folder, name: &str) -> Result<Option<String>, Error> {
    let Some(open) = folder.kept(name)? else { return Ok(None) };
    files::text(&open, folder.path_of(name))
}

/// Replaces a file whole. `durably`: a term must not come back after the host's crash.
fn put(root: &Opened, folder: &Folder, name: &str, content: &str, durably: bool) -> Result<(), Error> {
    let scratch = root.scratch()?;
    let staged = scratch.stage(content.as_bytes(), files::readable())?;
    if durably {
        files::sync(&staged.file, &folder.path_of(name))?;
    }
    let _open = scratch.put_over(staged, folder, name)?;
    if durably {
        folder.sync()?;
    }
    // Before it is closed above, so that nobody can lease it in between.
    folder.kept(name).map(drop)
}

#[cfg(test)]
mod tests {
    use crate::catalog::election::AcceptedLoss;

    use super::*;

    fn candidate() -> CandidateSettings {
        let (lease, kill_margin) = (Duration::from_secs(15), Duration::from_secs(1));
        CandidateSettings {
            name: "db".to_owned(),
            id: "one".to_owned(),
            lease,
            kill_margin,
            service: None,
            witness: None,
            loss: AcceptedLoss::default(),
        }
    }

    async fn as_seen(local: &Local) -> (Revision, Revision) {
        (Revision::default(), local.look("db").await.unwrap().last_revision)
    }

    #[tokio::test]
    async fn what_somebody_writes_into_last_neither_sends_terms_back_nor_past_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path(), "pilotfish", true);
        let lead = async || {
            let (session, guarantee, _) = local.open_session(&candidate()).await.unwrap();
            let seen = as_seen(&local).await;
            let wanted = AcquireRequest { session, guarantee, seen, hold_off_left: Duration::ZERO };
            let won = local.acquire(&candidate(), wanted).await;
            if let Ok(Acquisition::Won(term)) = won {
                local.release(&candidate(), session, term, None, Duration::ZERO).await.unwrap();
            }
            won.map_err(|error| error.to_string())
        };
        let last = directory.path().join("pilotfish/elections/db/last");
        assert_eq!(lead().await, Ok(Acquisition::Won(Term(1))));
        let written = std::fs::read_to_string(&last).unwrap();
        // No store has come so far, so it is no record.
        let scribble =
            |term: u64| std::fs::write(&last, written.replace("\"term\":1,", &format!("\"term\":{term},"))).unwrap();
        scribble(u64::MAX);
        // Who has seen greater ones knows that they go on.
        assert_eq!(local.look("db").await.unwrap().at, 2);
        assert_eq!(lead().await, Ok(Acquisition::Won(Term(3))));
        for (scribbled, next) in [(1 << 62, 5), ((1 << 62) - 1, 7), (GREATEST_TERM + 1, 9)] {
            scribble(scribbled);
            assert_eq!(lead().await, Ok(Acquisition::Won(Term(next))), "{scribbled}");
        }
        // The last that may be one: none comes after it, so they begin anew, and go on.
        scribble(GREATEST_TERM);
        assert_eq!(lead().await, Ok(Acquisition::Won(Term(1))));
        assert_eq!(lead().await, Ok(Acquisition::Won(Term(3))));
    }

    #[tokio::test]
    async fn a_renewal_that_outlasts_the_closing_of_its_session_frees_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path(), "pilotfish", true);
        let (session, guarantee, _) = local.open_session(&candidate()).await.unwrap();
        let seen = as_seen(&local).await;
        let wanted = AcquireRequest { session, guarantee, seen, hold_off_left: Duration::ZERO };
        let Acquisition::Won(term) = local.acquire(&candidate(), wanted).await.unwrap() else { panic!("it was free") };
        // As one that waits for the disk.
        let write_lock = local.lock_file.write_lock.clone().lock_owned().await;
        let candidate = candidate();
        let renewal = local.renew(&candidate, session, term);
        let closing = tokio::time::timeout(Duration::from_millis(50), local.close_session(session));
        let (renewed, closed, ()) = tokio::join!(renewal, closing, async {
            sleep(Duration::from_millis(100)).await;
            drop(write_lock);
        });
        closed.unwrap_err();
        assert!(matches!(renewed.unwrap(), Renewal::Gone { .. }));
        assert!(local.look("db").await.unwrap().holder().is_none());
    }
}
