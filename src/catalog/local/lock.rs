//! An election's lock in a shared directory: a file that the kernel keeps locked as long as anything of the leader's lives
//! (see [`seat`](super::seat)), and beside it `leader`, the holder's record, and `last`, which outlives it. There is no
//! clock in it.
//!
//! Terms and versions come from one counter, kept in `last`: it grows with each acquisition and each release.
//!
//! An acquisition waits until `last` is on the disk, for a term must not come back after the host's crash. A release
//! waits for no disk, while which nobody could lead: it doesn't touch `last`, but is a file beside it, `released`, which
//! counts if it is of the same term. A crash that takes it costs the next one a wait.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::catalog::election::record::{LastLeader, Leader};
use crate::catalog::election::{Contest, Views, Wanted};
use crate::catalog::pace::{self, Pace, jittered};
use crate::config::Backoff;
use crate::supervisor::election::fact::{Acquisition, Id, Renewal};
use crate::supervisor::election::record::{Guarantee, Lock, SessionId, Term, Version, View};

use super::files::{self, Folder};
use super::inotify::Watching;
use super::name::escape;
use super::root::Opened;
use super::seat::{self, Held, LOCK, Seat, Tenure};
use super::{Error, Local};

/// Files of an election.
const LEADER: &str = "leader";
const LAST: &str = "last";
const RELEASED: &str = "released";

/// An event can come before the lock is gone: the kernel tells of a closing first. So after each the lock is looked at
/// again, after these pauses.
const IN_DOUBT: [Duration; 5] = [
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
    Duration::from_secs(1),
];
/// And once in a while without any.
const SWEEP: Duration = Duration::from_secs(10);
/// Where the kernel tells nothing.
const POLL: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(5) };
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
    /// See [`Candidacy::open`](crate::catalog::election::Candidacy::open). A session is a name; what is promised is
    /// promised by the kernel.
    pub async fn open_session(&self, contest: &Contest) -> Result<(SessionId, Guarantee), Error> {
        let root = self.root.open().await?;
        self.seat.sit(&root.make_election(&file(&contest.name)?)?)?;
        let session = SessionId(u128::from(pace::random()) << 64 | u128::from(pace::random()));
        self.seat.open(session);
        Ok((session, Guarantee::WhileAlive { linger: contest.kill_margin }))
    }

    /// See [`Candidacy::close`](crate::catalog::election::Candidacy::close). Needs nothing that could fail before the
    /// lock is free: nobody else could free it as long as this container lives.
    pub async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        self.seat.close(session);
        let mut held = self.seat.turn.lock().await;
        match held.take_if(|tenure| tenure.session == session) {
            Some(tenure) => resign(&tenure),
            None => Ok(()),
        }
    }

    /// See [`Candidacy::look`](crate::catalog::election::Candidacy::look).
    pub async fn look(&self, election: &str) -> Result<View, Error> {
        self.look_after(election, None).await
    }

    async fn look_after(&self, election: &str, freed: Option<Version>) -> Result<View, Error> {
        let root = self.root.open().await?;
        let name = file(election)?;
        let mut pauses = RECORD_AGAIN.into_iter();
        loop {
            match view(&root, &name, freed)? {
                Seen::View(view) => return Ok(view),
                Seen::Nobody(view) => match pauses.next() {
                    Some(pause) => sleep(pause).await,
                    None => return Ok(view),
                },
            }
        }
    }

    /// See [`Candidacy::acquire`](crate::catalog::election::Candidacy::acquire).
    pub async fn acquire(&self, contest: &Contest, wanted: Wanted) -> Result<Acquisition, Error> {
        let root = self.root.open().await?;
        let (seat, contest) = (self.seat.share(), contest.clone());
        let mut held = self.seat.turn.clone().lock_owned().await;
        self.on_disk(move || {
            let election = root.make_election(&file(&contest.name)?)?;
            // By the same description the kernel would give it once more.
            if held.is_some() {
                return Ok(Acquisition::Changed);
            }
            let mut lock = seat.sit(&election)?;
            if !seat::take(&lock, &election)? {
                match seat.clear(&election, &root.scratch()?, &lock)? {
                    Some(new) => lock = new,
                    None => return Ok(Acquisition::Changed),
                }
            }
            let session = wanted.session;
            let told = seat.guarantee(&lock, contest.kill_margin);
            let owed_until = (!wanted.owed.is_zero()).then(|| Instant::now() + wanted.owed);
            let acquired = record_acquisition(&root, &election, &seat, &lock, &contest, &wanted, told);
            match acquired {
                Ok(Acquisition::Won(term)) => *held = Some(Tenure { session, term, election, lock, told, owed_until }),
                // Also when somebody else's file has taken the place of the one that is locked.
                Ok(_) | Err(_) => seat::give_back(&lock, &election)?,
            }
            acquired
        })
        .await
    }

    /// See [`Candidacy::renew`](crate::catalog::election::Candidacy::renew): there is nothing to renew, only to see,
    /// and to say in `last` should main have got the lock or closed it meanwhile, or what was owed be paid.
    pub async fn renew(&self, contest: &Contest, session: SessionId, term: Term) -> Result<Renewal, Error> {
        let root = self.root.open().await?;
        let (seat, of) = (self.seat.share(), contest.clone());
        let mut held = self.seat.turn.clone().lock_owned().await;
        let stands = self
            .on_disk(move || {
                let stands = keep(&root, &seat, &of, &mut held, session, term);
                // Whoever closed the session meanwhile may have given up waiting for its turn.
                match held.take_if(|tenure| tenure.session == session && !seat.is_open(session)) {
                    Some(tenure) => resign(&tenure).map(|()| false),
                    None => stands,
                }
            })
            .await?;
        let view = self.look(&contest.name).await?;
        Ok(match stands && view.shows(session, term) {
            true => Renewal::Alive(view),
            false => Renewal::Gone { void: true },
        })
    }

    /// See [`Candidacy::release`](crate::catalog::election::Candidacy::release).
    pub async fn release(
        &self,
        contest: &Contest,
        session: SessionId,
        term: Term,
        to: Option<Id>,
        owed: Duration,
    ) -> Result<(), Error> {
        let root = self.root.open().await?;
        let (seat, contest) = (self.seat.share(), contest.clone());
        let mut held = self.seat.turn.clone().lock_owned().await;
        self.on_disk(move || {
            let Some(tenure) = held.take_if(|tenure| tenure.session == session && tenure.term == term) else {
                return Ok(());
            };
            let told = tell_release(&root, &contest, &tenure, to, owed);
            // As long as it isn't told it isn't given back; unless nobody will ask for it again.
            if told.is_err() && seat.is_open(session) {
                *held = Some(tenure);
                return told;
            }
            told.and(resign(&tenure))
        })
        .await
    }

    /// See [`Candidacy::watch`](crate::catalog::election::Candidacy::watch).
    pub async fn watch_lock(&self, election: &str, views: &mut Views) {
        let mut pace = Pace::new(RETRY);
        let (mut watching, mut freed) = (None, None);
        let mut doubts = IN_DOUBT.iter();
        loop {
            match self.see_lock(election, &mut watching, &mut freed, views).await {
                Ok(()) => {
                    pace.reset();
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
        freed: &mut Option<Version>,
        views: &mut Views,
    ) -> Result<(), Error> {
        let root = self.root.open().await?;
        let name = file(election)?;
        match root.make_election(&name) {
            // What main inherits must be there before main is.
            Ok(election) if views.of_a_candidate() => drop(self.seat.sit(&election)?),
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
            *freed = Some(view.last_version);
        }
        views.saw(view).await;
        Ok(())
    }

    /// See [`Candidacy::bequeath`](crate::catalog::election::Candidacy::bequeath).
    pub fn bequeath(&self, main: i32) {
        self.seat.bequeath(main);
    }

    /// See [`Candidacy::inheritance`](crate::catalog::election::Candidacy::inheritance).
    pub fn inheritance(&self) -> Option<std::sync::Arc<std::fs::File>> {
        self.seat.file()
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
enum Seen {
    View(View),
    /// It is held, and who holds it isn't written yet.
    Nobody(View),
}

/// The reads are in the opposite order of the writes: what a free lock shows was so when it was free, and a holder is
/// shown as of its own term, so that no view read while we acquired looks like one read after. `freed` is as of when the
/// lock was seen free before.
fn view(root: &Opened, name: &str, freed: Option<Version>) -> Result<Seen, Error> {
    let free = Lock::Free { version: Version(0), taken_from: None };
    let Some(election) = root.election(name)? else {
        return Ok(Seen::View(View { at: 0, lock: free, last: None, last_version: Version(0) }));
    };
    let last = last(&election)?;
    let last_version = version(last.as_ref());
    let (last_term, released) = last.as_ref().map_or((0, true), |last| (last.term.unwrap_or(0), last.released));
    // Through a description of its own: the one that holds the lock sees none. Opened for reading only, so that its
    // closing is no event.
    let held = match election.file(LOCK)? {
        Some(file) => seat::is_held(&file, &election)?,
        None => false,
    };
    if !held {
        let last = last.map(|last| last.last(Term(0)));
        return Ok(Seen::View(View { at: last_version.0, lock: free, last, last_version }));
    }
    let view = |at, holder| View { at, lock: Lock::Held(holder), last: None, last_version: Version(0) };
    let leader = leader(&election)?.map(|leader| leader.holder(Term(0)));
    // An older one is of somebody who is gone; and so is one whose lock was seen free: another has it, and is about to
    // say so.
    let gone = |term: Term| term.0 < last_term || freed == Some(Version(term.0));
    Ok(match leader.filter(|leader| !gone(leader.term)) {
        Some(leader) => Seen::View(view(leader.term.0, leader)),
        // As of before the term that somebody begins here, whether `last` tells of it already or not.
        None => Seen::Nobody(view(
            last_version.0.saturating_sub(u64::from(!released)),
            Leader::unknown(SessionId(0), Term(last_term)),
        )),
    })
}

/// Whether the lock is held for this term; if it is, `last` says what is promised and owed as of now.
fn keep(
    root: &Opened,
    seat: &Seat,
    contest: &Contest,
    held: &mut Held,
    session: SessionId,
    term: Term,
) -> Result<bool, Error> {
    let (Some(tenure), Some(election)) = (held, root.election(&file(&contest.name)?)?) else { return Ok(false) };
    // What the record says isn't enough: whoever has just locked another file in its place has yet to write it.
    if !tenure.stands(session, term, &election)? {
        return Ok(false);
    }
    let due = seat.guarantee(&tenure.lock, contest.kill_margin);
    if (tenure.told != due || tenure.owed_until.is_some())
        && let Some(written) = last(&election)?
    {
        let owed = tenure.owed_until.map(|at| at.saturating_duration_since(Instant::now()));
        let owed = owed.filter(|owed| !owed.is_zero());
        let written = written.promised(due).owing(owed.unwrap_or_default());
        put(root, &election, LAST, &written.json(), true)?;
        tenure.told = due;
        tenure.owed_until = tenure.owed_until.filter(|_| owed.is_some());
    }
    Ok(true)
}

/// Says beside `last` that the lock is given back, unless it isn't the one that everyone looks at any more.
fn tell_release(
    root: &Opened,
    contest: &Contest,
    tenure: &Tenure,
    to: Option<Id>,
    owed: Duration,
) -> Result<(), Error> {
    let election = root.make_election(&file(&contest.name)?)?;
    if tenure.stands(tenure.session, tenure.term, &election)? {
        let last = LastLeader::new(contest, tenure.session, Some(tenure.term), tenure.told, owed).released(to);
        put(root, &election, RELEASED, &last.json(), false)?;
    }
    Ok(())
}

/// Unlocks. The kernel tells nobody of that, so the holder's record goes first, which it tells of.
fn resign(tenure: &Tenure) -> Result<(), Error> {
    let removed = tenure.election.holds(LOCK, &tenure.lock).and_then(|ours| match ours {
        true => tenure.election.remove(LEADER).map(drop),
        false => Ok(()),
    });
    seat::give_back(&tenure.lock, &tenure.election).and(removed)
}

/// Writes down that the lock, which is ours now, was acquired; unless it isn't what was seen. The holder's record comes
/// last: who reads it may take the lock for acquired.
fn record_acquisition(
    root: &Opened,
    election: &Folder,
    seat: &Seat,
    lock: &std::fs::File,
    contest: &Contest,
    wanted: &Wanted,
    promised: Guarantee,
) -> Result<Acquisition, Error> {
    let before = last(election)?;
    let version = version(before.as_ref());
    let as_seen = wanted.seen.is_none_or(|(_, seen)| seen == version);
    if !as_seen || !election.holds(LOCK, lock)? {
        return Ok(Acquisition::Changed);
    }
    // Should somebody have deleted `last`.
    let used = leader(election)?.and_then(|leader| leader.term).unwrap_or(0);
    let term = Term(version.0.max(used) + 1);
    let session = wanted.session;
    let last = LastLeader::new(contest, session, Some(term), promised, wanted.owed);
    put(root, election, LAST, &last.json(), true)?;
    let leader = Leader::new(contest, session, Some(term)).won_after(Some(version));
    put(root, election, LEADER, &leader.json(), false)?;
    // Whoever waited for this may have given up.
    match seat.is_open(session) {
        true => Ok(Acquisition::Won(term)),
        false => Ok(Acquisition::Unknown("the session was closed meanwhile".to_owned())),
    }
}

/// As which `last` was written: the term, and one more once it is released.
fn version(last: Option<&LastLeader>) -> Version {
    Version(last.map_or(0, |last| last.term.unwrap_or(0) + u64::from(last.released)))
}

fn leader(election: &Folder) -> Result<Option<Leader>, Error> {
    Ok(text(election, LEADER)?.and_then(|text| Leader::read(text.as_bytes())))
}

fn last(election: &Folder) -> Result<Option<LastLeader>, Error> {
    let read = |name| Ok(text(election, name)?.and_then(|text| LastLeader::read(text.as_bytes())));
    let Some(acquired) = read(LAST)? else { return Ok(None) };
    let same_term = |released: &LastLeader| (released.session, released.term) == (acquired.session, acquired.term);
    Ok(Some(read(RELEASED)?.filter(same_term).unwrap_or(acquired)))
}

fn text(folder: &Folder, name: &str) -> Result<Option<String>, Error> {
    let Some(mut open) = folder.file(name)? else { return Ok(None) };
    files::text(&mut open, folder.path_of(name))
}

/// Replaces a file whole. `durably`: a term must not come back after the host's crash.
fn put(root: &Opened, folder: &Folder, name: &str, content: &str, durably: bool) -> Result<(), Error> {
    let scratch = root.scratch()?;
    let staged = scratch.stage(content.as_bytes(), files::readable())?;
    if durably {
        files::sync(&staged.file, &folder.path_of(name))?;
    }
    scratch.put_over(staged, folder, name)?;
    if durably {
        folder.sync()?;
    }
    Ok(())
}

/// The name of its directory.
pub(super) fn file(election: &str) -> Result<String, Error> {
    escape("election name", election)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contest() -> Contest {
        let (lease, kill_margin) = (Duration::from_secs(15), Duration::from_secs(1));
        Contest { name: "db".to_owned(), id: "one".to_owned(), lease, kill_margin, service: None }
    }

    #[tokio::test]
    async fn a_renewal_that_outlasts_the_closing_of_its_session_frees_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::new(directory.path(), "pilotfish", true);
        let (session, guarantee) = local.open_session(&contest()).await.unwrap();
        let wanted = Wanted { session, guarantee, seen: None, owed: Duration::ZERO };
        let Acquisition::Won(term) = local.acquire(&contest(), wanted).await.unwrap() else { panic!("it was free") };
        // As one that waits for the disk.
        let turn = local.seat.turn.clone().lock_owned().await;
        let contest = contest();
        let renewal = local.renew(&contest, session, term);
        let closing = tokio::time::timeout(Duration::from_millis(50), local.close_session(session));
        let (renewed, closed, ()) = tokio::join!(renewal, closing, async {
            sleep(Duration::from_millis(100)).await;
            drop(turn);
        });
        closed.unwrap_err();
        assert!(matches!(renewed.unwrap(), Renewal::Gone { .. }));
        assert!(local.look("db").await.unwrap().holder().is_none());
    }
}
