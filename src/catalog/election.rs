//! One candidate's way to an election's lock: sessions, acquiring, renewing, releasing, and the watch on the key. It
//! decides nothing, and answers each order of the core within the caller's time; what it doesn't know it calls
//! unknown.

mod claim;
pub(in crate::catalog) mod record;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{Backoff, Service};
use crate::supervisor::Event;
use crate::supervisor::machines::election::event::{Acquisition, Certification, ElectionEvent, Id, Renewal};
use crate::supervisor::machines::election::record::{
    Answer, Guarantee, Holder, PeerRank, Revision, SessionId, Term, View, Witness,
};

use self::claim::IdClaim;
use self::record::RankRecord;
use crate::supervisor::vocabulary::{Instance, Observation};

use super::local::{self, WitnessDirectory};
use super::{Backend, Error, ObservationSender, border, report};
use crate::net::address;
use crate::net::backoff::Pace;

/// From one look for a witness's file that isn't there to the next.
const WITNESS_MISSING: Duration = Duration::from_secs(5);
/// Between two tries to wait for a container's end, where the directory can't be used.
const WITNESS_AGAIN: Backoff = Backoff { first: Duration::from_millis(200), most: Duration::from_secs(10) };

/// Between two tries for an id that another container here has.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// A session waits no longer for this container's file: it has four seconds in all.
const WITNESS_WITHIN: Duration = Duration::from_secs(1);

/// Between two looks at this container's file.
const WITNESS_EVERY: Duration = Duration::from_secs(1);

/// What a candidate stands with.
#[derive(Debug, Clone)]
pub struct CandidateSettings {
    /// The election's name.
    pub name: String,
    /// The candidate's.
    pub id: String,
    /// How long a leader may act on its last proof: what the session is asked to promise.
    pub lease: Duration,
    /// How long before that it is killed.
    pub kill_margin: Duration,
    /// The service whose address is the leader's, and whose `alive` check a Consul session is bound to.
    pub service: Option<Arc<Service>>,
    /// Where its end, and others', are known on this host.
    pub witness: Option<Arc<WitnessDirectory>>,
    /// What `last` says of a person's order.
    pub loss: AcceptedLoss,
}

/// By which session a person had the candidate lead, whatever was lost by it.
#[derive(Debug, Clone, Default)]
pub struct AcceptedLoss(Arc<Mutex<Option<SessionId>>>);

impl AcceptedLoss {
    /// By this one.
    fn accept(&self, session: SessionId) {
        *self.lock() = Some(session);
    }

    /// Whether by this one.
    pub(super) fn by(&self, session: SessionId) -> bool {
        *self.lock() == Some(session)
    }

    fn lock(&self) -> MutexGuard<'_, Option<SessionId>> {
        // One assignment: a panic can't have left it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CandidateSettings {
    /// By what its end is known.
    pub(super) fn witness(&self) -> Option<Witness> {
        self.witness.as_ref()?.own()
    }

    /// How long main may outlive the lock on that.
    pub(super) fn linger(&self) -> Option<Duration> {
        self.witness.as_ref()?.linger()
    }

    /// Where the candidate can be reached, as of now: `host:port`.
    pub fn address(&self) -> Option<String> {
        let service = self.service.as_ref()?;
        let host = address::advertised(&service.address).ok()?.address;
        Some(SocketAddr::new(host, service.port).to_string())
    }

    /// Whether the candidate can be reached elsewhere than there. What isn't to be found now has not moved.
    pub(super) fn moved_from(&self, told: Option<&Id>) -> bool {
        self.address().is_some_and(|now| told.is_none_or(|told| **told != *now))
    }

    /// How long a rank is wanted: a store must forget it by itself, for candidates that are gone don't.
    pub(super) fn rank_for(&self) -> Duration {
        self.lease + MEASURED_WITHIN
    }
}

/// How long a rank may take from its vacancy until it is read, beside the winner's holding off: until all have measured.
const MEASURED_WITHIN: Duration = Duration::from_secs(15);

/// What is asked for by an acquire.
#[derive(Debug, Clone)]
pub struct AcquireRequest {
    /// By which session.
    pub session: SessionId,
    /// What the store promised of it.
    pub guarantee: Guarantee,
    /// As which lock and `last` were seen.
    pub seen: (Revision, Revision),
    /// How long one who led before may still act.
    pub hold_off_left: Duration,
}

/// Where the watch on a lock tells what it sees; each view that differs from the one before it, and each failure once.
#[derive(Debug)]
pub struct LockViewSender(ViewSink);

#[derive(Debug)]
enum ViewSink {
    /// To the core's own election.
    Candidate { events: mpsc::Sender<Event>, last: Option<Result<View, String>> },
    /// To who only wants to know who leads.
    Observer { election: String, seen: ObservationSender },
}

impl LockViewSender {
    /// Views become [`Event::Election`].
    pub fn of_candidate(events: mpsc::Sender<Event>) -> LockViewSender {
        LockViewSender(ViewSink::Candidate { events, last: None })
    }

    /// The leader becomes an instance: of the election's name, with the holder's id and address, and the term as meta.
    pub fn of_observer(election: &str, seen: ObservationSender) -> LockViewSender {
        LockViewSender(ViewSink::Observer { election: election.to_owned(), seen })
    }

    /// Whether who is told stands for the lock.
    pub fn of_a_candidate(&self) -> bool {
        matches!(self.0, ViewSink::Candidate { .. })
    }

    /// Tells a view.
    pub async fn saw(&mut self, view: View) {
        match &mut self.0 {
            ViewSink::Candidate { events, last } => tell(events, last, Ok(view)).await,
            ViewSink::Observer { election, seen } => {
                let leader = view.holder().map(|holder| instance(election, holder));
                seen.saw(Observation::Instances(leader.into_iter().collect())).await;
            }
        }
    }

    /// Tells why nothing can be seen.
    pub async fn failed(&mut self, error: &(dyn std::error::Error + Sync)) {
        match &mut self.0 {
            ViewSink::Candidate { events, last } => tell(events, last, Err(report(error))).await,
            ViewSink::Observer { seen, .. } => seen.failed(error).await,
        }
    }
}

async fn tell(events: &mpsc::Sender<Event>, last: &mut Option<Result<View, String>>, seen: Result<View, String>) {
    if last.as_ref() == Some(&seen) {
        return;
    }
    *last = Some(seen.clone());
    if events.send(Event::Election(ElectionEvent::Saw(seen))).await.is_err() {
        // The loop has ended, and this task is about to.
        std::future::pending::<()>().await;
    }
}

fn instance(election: &str, holder: &Holder) -> Instance {
    let address: Option<SocketAddr> = holder.address.as_ref().and_then(|address| address.parse().ok());
    Instance {
        id: holder.id.to_string(),
        node: None,
        name: election.to_owned(),
        address: address.map(|address| address.ip().to_string()).unwrap_or_default(),
        port: address.map_or(0, |address| address.port()),
        tags: Vec::new(),
        meta: BTreeMap::from([("term".to_owned(), holder.term.0.to_string())]),
    }
}

/// The lock of a container that is gone.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// By what that is known.
    pub witness: Witness,
    /// By which session it is held.
    pub session: SessionId,
    /// For which term.
    pub term: Term,
    /// For how long it has been gone.
    pub gone_for: Duration,
}

impl Certificate {
    /// What there is to write, when this stands in the lock and in `last`; or what keeps it from being written.
    pub(super) fn over(
        &self,
        leader: Option<&record::Leader>,
        last: record::LastLeader,
    ) -> Result<String, Certification> {
        let holds =
            |leader: &&record::Leader| leader.session == self.session && leader.witness.as_ref() == Some(&self.witness);
        if leader.filter(holds).is_none() || last.session != self.session || last.released {
            return Err(Certification::Changed);
        }
        match last.linger() {
            None => Err(Certification::Changed),
            Some(linger) if self.gone_for < linger => Err(Certification::Lingers(linger)),
            // What it owed it may still owe.
            Some(_) => Ok(last.of(self.term).released(None).json()),
        }
    }
}

/// One candidate, on one store.
#[derive(Debug)]
pub struct LockClient {
    backend: Arc<Backend>,
    candidate: CandidateSettings,
    claim: IdClaim,
    /// Why this container has no file in the witness's directory.
    witness_failed: Mutex<Option<String>>,
}

impl LockClient {
    /// Reaches nobody yet.
    pub fn new(backend: Arc<Backend>, candidate: CandidateSettings) -> LockClient {
        LockClient { backend, candidate, claim: IdClaim::default(), witness_failed: Mutex::default() }
    }

    /// Tells whether another container here has the candidate's id; and, if one has, when it has no more.
    pub async fn claim_id(&self, store: &str, tell: &mpsc::Sender<Event>) {
        let mut shared = false;
        loop {
            let was = std::mem::replace(&mut shared, !self.claim.hold(store, &self.candidate.name, &self.candidate.id));
            // The loop that would hear it may have ended.
            if (was != shared && tell.send(Event::Election(ElectionEvent::IdShared { shared })).await.is_err())
                || !shared
            {
                return;
            }
            tokio::time::sleep(CLAIM_AGAIN).await;
        }
    }

    /// Where the candidate can be reached, if `leader` is its id.
    pub fn address_as(&self, leader: &str) -> Option<String> {
        if leader == self.candidate.id { self.candidate.address() } else { None }
    }

    /// Opens a session that holds nothing yet; with what the store had come to then, where views don't tell.
    ///
    /// # Errors
    /// The store can't be asked, refuses, or promises nothing.
    pub async fn open(&self) -> Result<(SessionId, Guarantee, Revision), Error> {
        // Where its disk hangs, the lease alone has to tell of this container's end.
        let _ = tokio::time::timeout(WITNESS_WITHIN, self.open_witness()).await;
        match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.open_session(&self.candidate).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.open_session(&self.candidate).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.open_session(&self.candidate).await.map_err(Error::Etcd),
        }
    }

    /// Closes a session, whatever it holds.
    ///
    /// # Errors
    /// The store can't be asked; the session then ends by its time.
    pub async fn close(&self, session: SessionId) -> Result<(), Error> {
        match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.close_session(session).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.close_session(session).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.close_session(session).await.map_err(Error::Etcd),
        }
    }

    /// Ends a session of the container's life before, where the lock is withheld from everyone from then on (Consul's
    /// lock delay). Elsewhere nothing is done: an etcd lease is what its holder was promised, and the kernel knows.
    ///
    /// # Errors
    /// The store can't be asked, or refuses (a session of another host, for example); it then ends by its time.
    pub async fn end_former_life(&self, session: SessionId) -> Result<(), Error> {
        match &*self.backend {
            Backend::Consul(consul) => consul.close_session(session).await.map_err(Error::Consul),
            Backend::None | Backend::Local(_) | Backend::Etcd(_) => Ok(()),
        }
    }

    /// Reads lock and `last`, consistently.
    ///
    /// # Errors
    /// The store can't be asked, or refuses.
    pub async fn look(&self) -> Result<View, Error> {
        let name = &self.candidate.name;
        match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.look(name).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.look(name).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.look(name).await.map_err(Error::Etcd),
        }
    }

    /// Takes the lock and writes `last`, in one transaction, only if both are as they were seen.
    pub async fn acquire(&self, wanted: AcquireRequest) -> Acquisition {
        let acquired = match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.acquire(&self.candidate, wanted).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.acquire(&self.candidate, wanted).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.acquire(&self.candidate, wanted).await.map_err(Error::Etcd),
        };
        acquired.unwrap_or_else(|error| Acquisition::Unknown(report(&error)))
    }

    /// From now on `last` says that a person had this session's term lead, whatever was lost by it: written by its next
    /// renewal, and by its release.
    pub fn accept_loss(&self, session: SessionId) {
        self.candidate.loss.accept(session);
    }

    /// Renews the session, then reads the key. Where the lock's version is not the term (etcd, `local`), a leader that can
    /// be reached elsewhere by now says so in its record, which stays this term's and this session's.
    pub async fn renew(&self, session: SessionId, term: Term) -> Renewal {
        let renewed = match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.renew(&self.candidate, session, term).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.renew(&self.candidate, session, term).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.renew(&self.candidate, session, term).await.map_err(Error::Etcd),
        };
        renewed.unwrap_or_else(|error| Renewal::Unknown(report(&error)))
    }

    /// Frees the lock and says so in `last`, in one transaction, if this term holds it. Done also when it doesn't.
    ///
    /// # Errors
    /// Whether it is free isn't known.
    pub async fn release(
        &self,
        session: SessionId,
        term: Term,
        to: Option<Id>,
        hold_off_left: Duration,
    ) -> Result<(), Error> {
        let candidate = &self.candidate;
        match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => {
                local.release(candidate, session, term, to, hold_off_left).await.map_err(Error::Local)
            }
            Backend::Consul(consul) => {
                consul.release(candidate, session, term, to, hold_off_left).await.map_err(Error::Consul)
            }
            Backend::Etcd(etcd) => etcd.release(candidate, session, term, to, hold_off_left).await.map_err(Error::Etcd),
        }
    }

    /// Makes this container's file in the witness's directory. Without it only the lease tells of its end.
    async fn open_witness(&self) {
        let Some(witness) = self.candidate.witness.as_ref().filter(|witness| witness.own().is_none()) else { return };
        let failed = witness.open().await.err().map(|error| report(&error));
        if let Some(own) = witness.own() {
            tracing::debug!(event = "election.witness", "the end of this container is known by {}", own.file);
        }
        *self.witness_failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
    }

    /// Tells whether others find this container's file in the witness's directory, each time that changes. Never returns.
    pub async fn watch_witness(&self, events: mpsc::Sender<Event>) {
        let Some(witness) = &self.candidate.witness else { return std::future::pending().await };
        let mut told = None;
        loop {
            tokio::time::sleep(WITNESS_EVERY).await;
            let failed = self.witness_failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let stands = match (witness.own(), failed) {
                (Some(_), _) => witness.stands().map_err(|error| report(&error)),
                (None, Some(error)) => Err(error),
                // Being made.
                (None, None) => continue,
            };
            if told.as_ref() != Some(&stands) {
                told = Some(stands.clone());
                // The loop that would hear it may have ended.
                let _ = events.send(Event::Witness { stands }).await;
            }
        }
    }

    /// Waits until nothing is left of a container, and for its file where that isn't there; `false` where that can't be
    /// known, as of another host's.
    pub async fn gone(&self, witness: &Witness) -> bool {
        let Some(directory) = &self.candidate.witness else { return false };
        let mut pace = Pace::new(WITNESS_AGAIN);
        loop {
            match directory.gone(witness).await {
                Ok(()) => return true,
                // Of this host and not there now: its directory may be mounted late, or come back.
                Err(local::Error::NotHere { .. }) if directory.may_come(witness) => {
                    tokio::time::sleep(WITNESS_MISSING).await;
                }
                Err(local::Error::NotHere { .. }) => return false,
                Err(error) => {
                    let error = report(&error);
                    tracing::warn!(event = "degraded", "can't wait for the end of the leader's container: {error}");
                    tokio::time::sleep(pace.pause()).await;
                }
            }
        }
    }

    /// Frees the lock of a container that is gone and says in `last` that it was released, in one transaction, if its term
    /// still holds it.
    pub async fn certify(&self, certificate: Certificate) -> Certification {
        let name = &self.candidate.name;
        let certified = match &*self.backend {
            Backend::None | Backend::Local(_) => return Certification::Changed,
            Backend::Consul(consul) => consul.certify(name, &certificate).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.certify(name, &certificate).await.map_err(Error::Etcd),
        };
        certified.unwrap_or_else(|error| Certification::Unknown(report(&error)))
    }

    /// Lets the others know this candidate's rank, measured for this term, and whether it would take the lock.
    ///
    /// # Errors
    /// The store can't be asked, or refuses.
    pub async fn publish_rank(&self, term: Term, answer: &Answer, stands: bool) -> Result<(), Error> {
        let (candidate, rank) = (&self.candidate, &RankRecord::new(term, answer, stands));
        match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.publish_rank(candidate, rank).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.publish_rank(candidate, rank).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.publish_rank(candidate, rank).await.map_err(Error::Etcd),
        }
    }

    /// What candidates published that live as far as the store knows, for whatever term.
    ///
    /// # Errors
    /// The store can't be asked, or refuses.
    pub async fn ranks(&self) -> Result<Vec<PeerRank>, Error> {
        let name = &self.candidate.name;
        let mut ranks = match &*self.backend {
            Backend::None => Err(Error::NotConfigured),
            Backend::Local(local) => local.ranks(name).await.map_err(Error::Local),
            Backend::Consul(consul) => consul.ranks(name).await.map_err(Error::Consul),
            Backend::Etcd(etcd) => etcd.ranks(name).await.map_err(Error::Etcd),
        }?;
        ranks.retain(|peer| border::is_name(&peer.id));
        Ok(ranks)
    }

    /// Tells what the lock shows: at once, then at each change, and why it can't be read when it can't. Retries by
    /// itself. Never returns.
    pub async fn watch(&self, views: LockViewSender) {
        // What main inherits must be there before main is.
        self.open_witness().await;
        watch(&self.backend, &self.candidate.name, views).await;
    }

    /// Main was started with [`inheritable_fd`](LockClient::inheritable_fd), as this process: as long as it keeps it, whoever
    /// is next needs to wait for nothing once the lock is free.
    pub fn main_inherits(&self, main: i32) {
        if let Backend::Local(local) = &*self.backend {
            local.main_inherits(main);
        }
        if let Some(witness) = &self.candidate.witness {
            witness.main_inherits(main);
        }
    }

    /// A descriptor that main must inherit, so that the lock, or the witness's, is held as long as any process of main's
    /// lives (there is none before the first view).
    pub fn inheritable_fd(&self) -> Option<Arc<std::fs::File>> {
        match &*self.backend {
            Backend::Local(local) => local.inheritable_fd(),
            Backend::None | Backend::Consul(_) | Backend::Etcd(_) => self.candidate.witness.as_ref()?.for_main(),
        }
    }

    /// A descriptor that all must inherit that runs for the leader beside main, and ends before its role does with all that
    /// it leaves: it acts as main does, and what it started may live on where its agent is killed.
    pub fn leaders_inherit(&self) -> Option<Arc<std::fs::File>> {
        match &*self.backend {
            Backend::Local(local) => local.inheritable_fd(),
            Backend::None | Backend::Consul(_) | Backend::Etcd(_) => self.hooks_inherit(),
        }
    }

    /// A descriptor that all other hooks and tasks must inherit: by it the container's end is known, and no leadership's.
    pub fn hooks_inherit(&self) -> Option<Arc<std::fs::File>> {
        self.candidate.witness.as_ref()?.file()
    }
}

/// Tells what the lock of an election shows, for ever.
pub(super) async fn watch(backend: &Backend, election: &str, mut views: LockViewSender) {
    match backend {
        Backend::None => {
            views.failed(&Error::NotConfigured).await;
            std::future::pending().await
        }
        Backend::Local(local) => local.watch_lock(election, &mut views).await,
        Backend::Consul(consul) => consul.watch_lock(election, &mut views).await,
        Backend::Etcd(etcd) => etcd.watch_lock(election, &mut views).await,
    }
}
