//! An election's lock in Consul: a key held by a session, `NAME/leader`, and beside it `NAME/last`, which outlives every
//! session. The lock delay, as read back from the session, is what Consul promises: whatever ends the session, nobody
//! gets the lock for so long. It is asked before a write and not in it, so every acquire names what was seen.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::catalog::election::record::{LastLeader, Leader, RankRecord, uuid};
use crate::catalog::election::{AcquireRequest, CandidateSettings, Certificate, LockViewSender};
use crate::catalog::rate::RateLimit;
use crate::catalog::report;
use crate::config::election::LONGEST_LOCK_DELAY;
use crate::errors::cut;
use crate::net::backoff::Pace;
use crate::sabotage;
use crate::supervisor::machines::election::event::{Acquisition, Certification, Id, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Last, Lock, PeerRank, Revision, SessionId, Term, View};

use super::answer::Answer;
use super::call::Connection;
use super::client::Client;
use super::follow::{RETRY, next_index};
use super::kv::Stored;
use super::publish::alive_id;
use super::session::{Holds, TTL};
use super::txn::{Operation, TxnOutcome};
use super::{Consul, Error};

/// How long a session waits for its check: the service has only just been registered, and its check reaches the
/// servers a moment later.
const CHECK_WITHIN: Duration = Duration::from_millis(1500);
/// A renewal's answer waits no longer for what is told beside it.
const TELL_WITHIN: Duration = Duration::from_millis(500);
/// Between two tries.
const CHECK_AGAIN: Duration = Duration::from_millis(50);

/// What others were told of a leader that may change within its term, by the session that holds the lock.
#[derive(Debug, Default)]
pub(super) struct ToldInLast(Mutex<Option<(SessionId, LeaderNews)>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LeaderNews {
    /// How long main may outlive the lock on the witness's file.
    linger: Option<Duration>,
    /// Where it can be reached.
    address: Option<Id>,
    /// A person had it lead, whatever was lost by it.
    loss_accepted: bool,
}

impl LeaderNews {
    /// As it is now. What can't be known now is as it was.
    fn now(candidate: &CandidateSettings, session: SessionId, before: LeaderNews) -> LeaderNews {
        let address = candidate.address().map(Id::from).or(before.address);
        let linger = candidate.linger().or(before.linger);
        LeaderNews { linger, address, loss_accepted: candidate.loss.by(session) || before.loss_accepted }
    }
}

impl ToldInLast {
    fn set(&self, session: SessionId, told: LeaderNews) {
        *self.lock() = Some((session, told));
    }

    fn of(&self, session: SessionId) -> Option<LeaderNews> {
        self.lock().as_ref().filter(|(of, _)| *of == session).map(|(_, told)| told.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(SessionId, LeaderNews)>> {
        // One assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The lock's key.
pub(super) fn leader_key(election: &str) -> String {
    ElectionKeys::of(election).leader
}

/// The two keys of an election.
struct ElectionKeys {
    leader: String,
    last: String,
}

impl ElectionKeys {
    fn of(election: &str) -> ElectionKeys {
        ElectionKeys { leader: format!("{election}/leader"), last: format!("{election}/last") }
    }
}

impl Consul {
    /// See [`LockClient::open`](crate::catalog::election::LockClient::open). The session is bound to the host's
    /// `serfHealth`, and to the `alive` check of the candidate's service where it has one.
    pub async fn open_session(&self, candidate: &CandidateSettings) -> Result<(SessionId, Guarantee, Revision), Error> {
        let opening = self.session(candidate, || Holds::a_lock(candidate.lease));
        let (id, stands) = tokio::join!(opening, self.check_stands(candidate));
        let id = id?;
        // Perhaps it was registered only just now, as the session waited for that.
        if stands.is_err()
            && let Err(error) = self.check_stands(candidate).await
        {
            self.client.destroy_session(&id).await?;
            return Err(error);
        }
        let session = uuid::read(&id).ok_or(Error::Session)?;
        let (delay, at) = self.client.lock_delay(&id).await?.ok_or(Error::Session)?;
        // Consul notes a longer one as it was asked for, and keeps it no longer than this.
        let delay = delay.min(LONGEST_LOCK_DELAY);
        // The fault that a test of the whole shows to matter, as `last` says how long the lock is withheld: two leaders within
        // seconds.
        let promised = if sabotage::is_on("ttl") { 2 * TTL } else { delay };
        // A key's index tells when the key was written, not how far the store is.
        Ok((session, Guarantee::For(promised), Revision(at)))
    }

    /// Whether the agent has heard of the check since it was started. What its servers have is from before until it compares:
    /// a session that is opened then ends as it does, with the leader that was promoted meanwhile.
    async fn check_stands(&self, candidate: &CandidateSettings) -> Result<(), Error> {
        let Some(service) = &candidate.service else { return Ok(()) };
        let known = self.client.known(&service.id, CHECK_WITHIN).await?;
        let alive = alive_id(service);
        match known.as_ref().and_then(|known| known.check(&alive)) {
            Some(check) if check.status == "passing" => Ok(()),
            Some(_) | None => Err(Error::Unfed { id: service.id.clone() }),
        }
    }

    async fn session(&self, candidate: &CandidateSettings, holds: impl Fn() -> Holds) -> Result<String, Error> {
        let alive = candidate.service.as_ref().map(|service| alive_id(service));
        let name = format!("{}: {}", candidate.name, candidate.id);
        let until = Instant::now() + CHECK_WITHIN;
        loop {
            match self.client.open_session(&name, alive.as_deref(), holds()).await {
                Err(error) if is_about_the_check(&error) && Instant::now() < until => {
                    tokio::time::sleep(CHECK_AGAIN).await;
                }
                Err(error) if says_missing(&error) => {
                    if let Some(service) = &candidate.service {
                        self.presence.missed(&service.id);
                    }
                    return Err(error);
                }
                opened => return opened,
            }
        }
    }

    /// See [`LockClient::close`](crate::catalog::election::LockClient::close).
    pub async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        self.client.destroy_session(&uuid::text(session)).await
    }

    /// See [`LockClient::look`](crate::catalog::election::LockClient::look).
    pub async fn look(&self, election: &str) -> Result<View, Error> {
        Ok(self.view(Connection::Standing, election, 0).await?.0)
    }

    /// See [`LockClient::acquire`](crate::catalog::election::LockClient::acquire).
    pub async fn acquire(&self, candidate: &CandidateSettings, wanted: AcquireRequest) -> Result<Acquisition, Error> {
        let AcquireRequest { session, guarantee, seen: (lock, before), hold_off_left } = wanted;
        let keys = ElectionKeys::of(&candidate.name);
        let id = uuid::text(session);
        let leader = Leader::new(candidate, session, None).owing(hold_off_left);
        // Without a term: what is written together is written as the same index.
        let said = if sabotage::is_on("ttl") { Guarantee::For(candidate.lease) } else { guarantee };
        let last = LastLeader::new(candidate, session, None, said, hold_off_left);
        let mut steps = Vec::new();
        if !sabotage::is_on("check-index") {
            steps.push(Operation::check_version(&keys.leader, lock.0));
            steps.push(Operation::check_version(&keys.last, before.0));
        }
        steps.push(Operation::lock(&keys.leader, &leader.json(), &id));
        steps.push(Operation::set(&keys.last, last.json()));
        // In the record, where it may be.
        self.told.set(
            session,
            LeaderNews { linger: last.linger(), address: leader.address.clone(), ..LeaderNews::default() },
        );
        Ok(match self.client.attempt(&steps).await? {
            // The last one: the step that checks the version answers with the key as it was before.
            TxnOutcome::Done(found) => match found.iter().rfind(|found| found.key == keys.leader) {
                Some(found) => Acquisition::Won(Term(found.modify_index)),
                None => Acquisition::Unknown("the transaction's answer doesn't name the lock".to_owned()),
            },
            TxnOutcome::Refused(why) if why.contains("lock delay") => Acquisition::HeldBack,
            TxnOutcome::Refused(why) if why.contains("invalid session") => Acquisition::Unknown(cut(&why)),
            TxnOutcome::Refused(_) => Acquisition::Changed,
        })
    }

    /// See [`LockClient::renew`](crate::catalog::election::LockClient::renew).
    pub async fn renew(&self, candidate: &CandidateSettings, session: SessionId, term: Term) -> Result<Renewal, Error> {
        match self.client.renew_session(&uuid::text(session)).await? {
            true => {
                let mut view = view(&self.client, Connection::Standing, &candidate.name, 0).await?.0;
                if view.shows(session, term) {
                    self.tell_in_last(candidate, session, term).await;
                    let told = self.told.of(session).and_then(|told| told.address);
                    if let (Lock::Held(holder), Some(address)) = (&mut view.lock, told) {
                        holder.address = Some(address);
                    }
                }
                Ok(Renewal::Alive(view))
            }
            // A server that has just been restarted says so of sessions it has yet to replay: the lock tells.
            false => Ok(Renewal::Gone { void: false }),
        }
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
        let keys = ElectionKeys::of(&candidate.name);
        let id = uuid::text(session);
        let leader = Leader::new(candidate, session, Some(term)).json();
        let promised = Guarantee::For(candidate.lease);
        let last = LastLeader::new(candidate, session, Some(term), promised, hold_off_left).released(to).json();
        let steps = [
            Operation::check_version(&keys.leader, term.0),
            Operation::unlock(&keys.leader, &leader, &id),
            Operation::set(&keys.last, &last),
        ];
        match self.client.attempt(&steps).await? {
            TxnOutcome::Done(_) => Ok(()),
            TxnOutcome::Refused(why) => match self.look(&candidate.name).await?.shows(session, term) {
                true => Err(Error::Transaction { why }),
                false => Ok(()),
            },
        }
    }

    /// Says in `last` what has changed of this leader: each write of the lock would be another term. A failure is no
    /// renewal's: it is tried again with the next one.
    async fn tell_in_last(&self, candidate: &CandidateSettings, session: SessionId, term: Term) {
        let before = self.told.of(session).unwrap_or_default();
        let now = LeaderNews::now(candidate, session, before.clone());
        if now == before {
            return;
        }
        match timeout(TELL_WITHIN, self.put_in_last(candidate, session, term, &now)).await {
            Ok(Ok(true)) => self.told.set(session, now),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => tracing::debug!(event = "election.last_failed", "writing `last`: {}", report(&error)),
        }
    }

    async fn put_in_last(
        &self,
        candidate: &CandidateSettings,
        session: SessionId,
        term: Term,
        now: &LeaderNews,
    ) -> Result<bool, Error> {
        let keys = ElectionKeys::of(&candidate.name);
        let (Some(stored), _) = self.client.stored(&keys.last, 0).await? else { return Ok(false) };
        let last = LastLeader::read(&stored.bytes()).filter(|last| last.session == session);
        let Some(last) = last else { return Ok(false) };
        let last = last.of(term).lingering(now.linger).at(now.address.clone()).accepting_loss(now.loss_accepted).json();
        let steps = [
            Operation::check_version(&keys.leader, term.0),
            Operation::check_version(&keys.last, stored.modify_index),
            Operation::set(&keys.last, &last),
        ];
        Ok(matches!(self.client.attempt(&steps).await?, TxnOutcome::Done(_)))
    }

    /// See [`LockClient::certify`](crate::catalog::election::LockClient::certify). The session isn't destroyed, for which
    /// Consul would hold everyone back; with nothing to hold it ends by its time.
    pub async fn certify(&self, election: &str, certificate: &Certificate) -> Result<Certification, Error> {
        let keys = ElectionKeys::of(election);
        let id = uuid::text(certificate.session);
        let reads = tokio::try_join!(self.client.stored(&keys.leader, 0), self.client.stored(&keys.last, 0));
        let ((Some(leader), _), (Some(last), _)) = reads? else { return Ok(Certification::Changed) };
        let held = leader.session.as_deref() == Some(&*id) && leader.modify_index == certificate.term.0;
        let Some(read) = LastLeader::read(&last.bytes()).filter(|_| held) else { return Ok(Certification::Changed) };
        let record = leader.bytes();
        let released = match certificate.over(Leader::read(&record).as_ref(), read) {
            Ok(released) => released,
            Err(why) => return Ok(why),
        };
        let steps = [
            Operation::check_version(&keys.leader, certificate.term.0),
            Operation::check_version(&keys.last, last.modify_index),
            Operation::unlock(&keys.leader, &String::from_utf8_lossy(&record), &id),
            Operation::set(&keys.last, &released),
        ];
        Ok(match self.client.attempt(&steps).await? {
            TxnOutcome::Done(_) => Certification::Done,
            TxnOutcome::Refused(why) => match self.look(election).await?.shows(certificate.session, certificate.term) {
                true => Certification::Unknown(why),
                false => Certification::Changed,
            },
        })
    }

    /// See [`LockClient::publish_rank`](crate::catalog::election::LockClient::publish_rank). By a session of its own, which
    /// ends with the candidate as the lock's does, and takes the key along: that of one that died while the lock was
    /// withheld isn't counted, and none stays.
    pub(in crate::catalog) async fn publish_rank(
        &self,
        candidate: &CandidateSettings,
        rank: &RankRecord,
    ) -> Result<(), Error> {
        let session = self.session(candidate, || Holds::a_value(candidate.rank_for())).await?;
        let (key, rank) = (format!("{}/ranks/{}", candidate.name, candidate.id), rank.json());
        // An earlier session may hold what an earlier one published.
        let steps = [Operation::delete(&key), Operation::lock(&key, &rank, &session)];
        match self.client.attempt(&steps).await? {
            TxnOutcome::Done(_) => Ok(()),
            TxnOutcome::Refused(why) => Err(Error::Transaction { why }),
        }
    }

    /// See [`LockClient::ranks`](crate::catalog::election::LockClient::ranks).
    pub async fn ranks(&self, election: &str) -> Result<Vec<PeerRank>, Error> {
        let prefix = format!("{election}/ranks/");
        let keys = self.client.keys_now(&prefix).await?;
        let ranks = keys.iter().filter_map(|(key, value)| {
            let rank = RankRecord::read(value.as_bytes())?;
            Some(rank.of(key.strip_prefix(&prefix)?.into()))
        });
        Ok(ranks.collect())
    }

    /// See [`LockClient::watch`](crate::catalog::election::LockClient::watch). The end of a lock delay is announced by
    /// nothing: whoever stands tries again by itself.
    pub async fn watch_lock(&self, election: &str, views: &mut LockViewSender) {
        // Only who stands for the lock can't wait for a turn.
        let connection = if views.of_a_candidate() { Connection::Standing } else { Connection::InTurn };
        let mut pace = Pace::new(RETRY);
        let mut rate = RateLimit::new();
        let mut index = 0;
        loop {
            let pause = match self.next_view(connection, election, index).await {
                Ok((view, next)) => {
                    pace.reset();
                    index = next;
                    views.saw(view).await;
                    rate.answered(Instant::now())
                }
                // It comes back to the end of the queue: nothing is missed.
                Err(Error::Full { .. }) => pace.pause(),
                Err(error) => {
                    // A question that was waiting when its connection broke proves no outage: the next one tells.
                    let waited = std::mem::take(&mut index) > 0;
                    if !waited {
                        views.failed(&error).await;
                    }
                    pace.pause()
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn next_view(&self, connection: Connection, election: &str, index: u64) -> Result<(View, u64), Error> {
        let (view, answer) = self.view(connection, election, index).await?;
        Ok((view, next_index(index, &answer)?))
    }

    /// As the lock has it, and the holder where it says that it can be reached by now. Nothing wakes who waits for the lock
    /// when that changes: it is seen as the question is asked again.
    async fn view(&self, connection: Connection, election: &str, after: u64) -> Result<(View, Answer), Error> {
        let (mut view, answer) = view(&self.client, connection, election, after).await?;
        if let Lock::Held(holder) = &mut view.lock {
            let last = self.client.stored_by(connection, &ElectionKeys::of(election).last, 0).await?.0;
            let last = last.and_then(|last| LastLeader::read(&last.bytes()));
            if let Some(address) = last.filter(|last| last.session == holder.session).and_then(|last| last.address) {
                holder.address = Some(address);
            }
        }
        Ok((view, answer))
    }
}

/// Lock and `last` as the majority has them, as soon as the lock is newer than `after`. Two reads: what changes between
/// them fails the acquire that names what they saw; and a lock is read again when `last` was written since, for it may
/// be that one's by now.
async fn view(client: &Client, connection: Connection, election: &str, after: u64) -> Result<(View, Answer), Error> {
    let keys = ElectionKeys::of(election);
    let (at, lock, answer) = read_lock(client, connection, &keys, after).await?;
    if let Lock::Held(_) = lock {
        return Ok((View { at, lock, last: None, last_revision: Revision(0) }, answer));
    }
    let (last, last_revision) = match client.stored_by(connection, &keys.last, 0).await?.0 {
        None => (None, Revision(0)),
        Some(stored) => {
            let own = Term(stored.modify_index);
            let last = LastLeader::read(&stored.bytes()).map_or_else(LastLeader::unknown, |last| last.last(own));
            // The fault that another test of the whole shows to matter: that the store is taken to have waited.
            let taken = matches!(&lock, Lock::Free { taken_from, .. } if *taken_from == Some(last.session));
            let waived = taken && sabotage::is_on("hold-off");
            (Some(Last { released: last.released || waived, ..last }), Revision(stored.modify_index))
        }
    };
    if last_revision.0 <= at {
        return Ok((View { at, lock, last, last_revision }, answer));
    }
    let (at, lock, answer) = read_lock(client, connection, &keys, 0).await?;
    Ok((View { at: at.max(last_revision.0), lock, last, last_revision }, answer))
}

/// The lock, and what it shows at least.
async fn read_lock(
    client: &Client,
    connection: Connection,
    keys: &ElectionKeys,
    after: u64,
) -> Result<(u64, Lock, Answer), Error> {
    let (stored, answer) = client.stored_by(connection, &keys.leader, after).await?;
    let Some(at) = answer.index else { return Err(Error::NoIndex { endpoint: answer.endpoint }) };
    let at = stored.as_ref().map_or(at, |stored| stored.modify_index.max(at));
    let lock = match stored {
        None => Lock::Free { version: Revision(0), taken_from: None },
        Some(stored) => lock(stored),
    };
    Ok((at, lock, answer))
}

pub(super) fn lock(stored: Stored) -> Lock {
    let leader = Leader::read(&stored.bytes());
    let (version, term) = (Revision(stored.modify_index), Term(stored.modify_index));
    match &stored.session {
        // Its value may be a former leader's, when somebody else's program locked the key.
        Some(id) => {
            let session = uuid::read(id).unwrap_or(SessionId(0));
            let holder = leader.filter(|leader| leader.session == session).map(|leader| leader.holder(term));
            Lock::Held(holder.unwrap_or_else(|| Leader::unknown(session, term)))
        }
        None => Lock::Free { version, taken_from: leader.map(|leader| leader.session) },
    }
}

/// A check that the servers don't have.
fn says_missing(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 500, body, .. } if body.contains("Missing check"))
}

/// A check that isn't known to the servers yet, or isn't passing yet.
fn is_about_the_check(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 500, body, .. } if body.contains("heck"))
}
