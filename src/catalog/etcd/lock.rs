//! An election's lock in etcd: `leader`, a key under a lease, and beside it `last`, which outlives every lease.
//!
//! A keep-alive alone proves nothing: a server that leads no more may answer it. It counts if a consistent read sent
//! after its answer shows the lock under that lease, and both were answered by the server, and in the raft term, by which
//! the lock was put under it: had another led when the lease was kept alive, that server would know of its term once it
//! has answered such a read (raft commits an entry of each new term before any read of it).
//!
//! Otherwise a fresh lease is granted, and one transaction proves that the lock is ours and puts it under that lease: at
//! each change of etcd's leader, so that what the one before may still do to leases it knew of harms nobody. It compares
//! as which the lock was last written, too: a renewal that comes late must not put the lock back under an older lease.
//! `last` names the lease, so that a successor can see whether it lives, and is written along. At rest nothing is written.

use std::convert::Infallible;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, KeyValue, PutOptions, ResponseHeader, Txn, TxnOp, TxnOpResponse,
    TxnResponse,
};
use tokio::time::Instant;
use tonic::Code;

use crate::catalog::election::record::{LastLeader, Leader, RankRecord};
use crate::catalog::election::{AcquireRequest, CandidateSettings, Certificate, LockViewSender};
use crate::net::backoff;
use crate::supervisor::machines::election::event::{Acquisition, Certification, Id, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Lock, PeerRank, Revision, SessionId, Term, View};

use super::sessions::{Server, SessionLeases};
use super::{Error, Etcd};

/// Of an answer: with three such in a row a first renewal is close to what it may take.
const SLOW: Duration = Duration::from_millis(500);

/// The keys of an election.
pub(super) struct Keys {
    pub(super) leader: String,
    last: String,
    /// Where it is asked whether a lease lives.
    asked: String,
}

impl Etcd {
    /// See [`LockClient::open`](crate::catalog::election::LockClient::open). Reaches nobody: the lease is granted when
    /// the lock is acquired, so that it begins no earlier than the core counts it from.
    pub async fn open_session(&self, candidate: &CandidateSettings) -> Result<(SessionId, Guarantee, Revision), Error> {
        let session = SessionId(u128::from(backoff::random()) << 64 | u128::from(backoff::random()));
        // What is granted is never less than what is asked for.
        let guarantee = Guarantee::For(Duration::from_secs(candidate.lease.as_secs()));
        self.sessions.open(session, guarantee);
        Ok((session, guarantee, Revision(0)))
    }

    /// See [`LockClient::close`](crate::catalog::election::LockClient::close).
    pub async fn close_session(&self, session: SessionId) -> Result<(), Error> {
        let mut failed = Ok(());
        for lease in self.sessions.close(session) {
            if let Err(error) = self.revoke(lease).await {
                failed = Err(error);
            }
        }
        failed
    }

    /// See [`LockClient::look`](crate::catalog::election::LockClient::look).
    pub async fn look(&self, election: &str) -> Result<View, Error> {
        let keys = self.keys(election);
        let got = self.members.call_briefly("read a lock", |mut client: Client| {
            let txn = Txn::new().and_then(keys.both());
            async move { client.txn(txn).await }
        });
        self.view(&keys, got.await?).await
    }

    /// See [`LockClient::acquire`](crate::catalog::election::LockClient::acquire).
    pub async fn acquire(&self, candidate: &CandidateSettings, wanted: AcquireRequest) -> Result<Acquisition, Error> {
        let AcquireRequest { session, guarantee, seen: (_, vacancy), hold_off_left } = wanted;
        let keys = self.keys(&candidate.name);
        self.members.are_sure("acquire a lock").await?;
        self.sessions.stands(session, hold_off_left);
        let asked = Instant::now();
        let lease = self.grant(candidate, session).await?;
        let is_slow = asked.elapsed() > SLOW;
        let leader = Leader::new(candidate, session, None).owing(hold_off_left);
        self.sessions.tells_address(session, leader.address.clone());
        let leader = leader.json();
        let mut last = LastLeader::new(candidate, session, None, guarantee, hold_off_left);
        last.lease = Some(lease);
        self.sessions.tells_linger(session, last.linger());
        let last = last.json();
        // Never but where nobody holds it: a lock that is free is a key that isn't there.
        let as_seen = [
            Compare::create_revision(keys.leader.as_str(), CompareOp::Equal, 0),
            Compare::mod_revision(keys.last.as_str(), CompareOp::Equal, revision(vacancy.0)),
        ];
        let taken = self.members.call_briefly("acquire a lock", |mut client: Client| {
            let under = || Some(PutOptions::new().with_lease(lease));
            let txn = Txn::new()
                .when(as_seen.clone())
                .and_then([
                    TxnOp::put(keys.leader.as_str(), leader.as_str(), under()),
                    TxnOp::put(keys.last.as_str(), last.as_str(), None),
                ])
                .or_else(keys.both());
            async move { client.txn(txn).await }
        });
        let answer = tokio::select! {
            biased;
            never = self.open_stream(lease), if is_slow => match never {},
            answer = taken => answer?,
        };
        if answer.succeeded() {
            let at = header(&answer);
            self.sessions.holds_by(session, lease, at, server(answer.header()), hold_off_left);
            return Ok(Acquisition::Won(Term(unsigned(at))));
        }
        let by = server(answer.header());
        // A call may be repeated at another member when an answer was lost: the lock may be ours by the first one. Under
        // an older lease it would end earlier than the core counts.
        let [found, _] = pair(&keys, answer);
        match found.filter(|found| found.lease() == lease) {
            Some(found) => {
                self.sessions.holds_by(session, lease, found.mod_revision(), by, hold_off_left);
                Ok(Acquisition::Won(Term(unsigned(found.create_revision()))))
            }
            None => {
                // Its time ends it, if this can't.
                let _ = self.revoke(lease).await;
                self.sessions.revoked(session, lease);
                Ok(Acquisition::Changed)
            }
        }
    }

    /// See [`LockClient::renew`](crate::catalog::election::LockClient::renew).
    pub async fn renew(&self, candidate: &CandidateSettings, session: SessionId, term: Term) -> Result<Renewal, Error> {
        self.members.are_uncontested("renew a lock")?;
        tokio::select! {
            renewed = self.keep(candidate, session, term) => renewed,
            // Beside it, and no longer than it takes: a lease that can't be revoked must not delay the answer.
            never = self.revoke_idle(session) => match never {},
        }
    }

    async fn keep(&self, candidate: &CandidateSettings, session: SessionId, term: Term) -> Result<Renewal, Error> {
        let Some(session_leases) = self.sessions.of(session) else { return Ok(Renewal::Gone { void: true }) };
        let is_told = session_leases.has_no_hold_off()
            && session_leases.told_linger == candidate.linger()
            && session_leases.told_loss == candidate.loss.by(session)
            && !candidate.moved_from(session_leases.told_address.as_ref());
        if let Some((lease, by)) = session_leases.kept_by().filter(|_| is_told)
            && let Some(renewed) = self.keep_alive(candidate, (session, term), lease, by).await?
        {
            return Ok(renewed);
        }
        // What has proved nothing won't the next time, should there be no time left for this.
        self.sessions.seen(session, session_leases.version);
        self.put_again(candidate, session_leases, session, term).await
    }

    /// Keeps a lease alive and reads the lock; `None` when that doesn't prove anything.
    async fn keep_alive(
        &self,
        candidate: &CandidateSettings,
        (session, term): (SessionId, Term),
        lease: i64,
        by: Server,
    ) -> Result<Option<Renewal>, Error> {
        let keys = self.keys(&candidate.name);
        let asked = self.members.call_briefly("renew a lock", |mut client: Client| {
            let key = keys.leader.clone();
            async move {
                let kept = self.keeper.keep_alive(&mut client, lease).await?;
                Ok((kept, client.get(key, None).await?))
            }
        });
        let (kept, mut got) = match asked.await {
            Ok(answers) => answers,
            Err(Error::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let kept = kept.is_some_and(|kept| kept.ttl() > 0 && server(kept.header()) == Some(by));
        let proven = kept && server(got.header()) == Some(by);
        let at = got.header().map_or(0, |header| header.revision());
        let Some(found) = got.take_kvs().pop().filter(|found| is_ours(found, session, term)) else {
            return Ok(Some(Renewal::Gone { void: true }));
        };
        let counts = proven && found.lease() == lease;
        Ok(counts.then(|| Renewal::Alive(self.shown(&found, term, unsigned(at)))))
    }

    async fn put_again(
        &self,
        candidate: &CandidateSettings,
        session_leases: SessionLeases,
        session: SessionId,
        term: Term,
    ) -> Result<Renewal, Error> {
        let keys = self.keys(&candidate.name);
        let version = async {
            match session_leases.version {
                Some(version) => Ok(Some(version)),
                None => self.own(&keys, session, term).await,
            }
        };
        // At once, for each takes as long as etcd takes to answer.
        let (version, lease) = tokio::try_join!(version, self.grant(candidate, session))?;
        let Some(version) = version else { return Ok(Renewal::Gone { void: true }) };
        let hold_off_left = session_leases.hold_off_left();
        let record = Leader::new(candidate, session, None).or_at(session_leases.told_address).owing(hold_off_left);
        let leader = record.json();
        let mut last = LastLeader::new(candidate, session, Some(term), session_leases.guarantee, hold_off_left);
        last.lease = Some(lease);
        let (linger, loss) = (last.linger(), last.accepts_loss());
        let last = last.json();
        // Until its answer is here nobody knows as which the lock is written.
        self.sessions.seen(session, None);
        let renewed = self.members.call_briefly("renew a lock", |mut client: Client| {
            let under = || Some(PutOptions::new().with_lease(lease));
            let txn = Txn::new()
                .when([
                    Compare::create_revision(keys.leader.as_str(), CompareOp::Equal, revision(term.0)),
                    Compare::mod_revision(keys.leader.as_str(), CompareOp::Equal, version),
                ])
                .and_then([
                    TxnOp::put(keys.leader.as_str(), leader.as_str(), under()),
                    TxnOp::put(keys.last.as_str(), last.as_str(), None),
                ])
                .or_else(keys.both());
            async move { client.txn(txn).await }
        });
        let answer = renewed.await?;
        let by = server(answer.header());
        if !answer.succeeded() {
            let at = unsigned(header(&answer));
            let [found, _] = pair(&keys, answer);
            return match found.filter(|found| is_ours(found, session, term)) {
                None => Ok(Renewal::Gone { void: true }),
                // Written by this call's own first try, whose answer was lost, or by an earlier one that came late.
                Some(found) if found.lease() == lease => {
                    self.sessions.holds_by(session, lease, found.mod_revision(), by, hold_off_left);
                    Ok(Renewal::Alive(self.shown(&found, term, at)))
                }
                Some(found) => {
                    self.sessions.seen(session, Some(found.mod_revision()));
                    Ok(Renewal::Unknown("another renewal of ours came in between".to_owned()))
                }
            };
        }
        let at = header(&answer);
        self.sessions.holds_by(session, lease, at, by, hold_off_left);
        self.sessions.tells_linger(session, linger);
        self.sessions.tells_loss(session, loss);
        self.sessions.tells_address(session, record.address.clone());
        let holder = record.holder(term);
        let last_revision = Revision(unsigned(at));
        Ok(Renewal::Alive(View { at: unsigned(at), lock: Lock::Held(holder), last: None, last_revision }))
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
        let keys = self.keys(&candidate.name);
        let promised = Guarantee::For(candidate.lease);
        let last = LastLeader::new(candidate, session, Some(term), promised, hold_off_left).released(to).json();
        let released = self.members.call_briefly("release a lock", |mut client: Client| {
            let ours = [Compare::create_revision(keys.leader.as_str(), CompareOp::Equal, revision(term.0))];
            let txn = Txn::new().when(ours).and_then([
                TxnOp::delete(keys.leader.as_str(), None),
                TxnOp::put(keys.last.as_str(), last.as_str(), None),
            ]);
            async move { client.txn(txn).await }
        });
        // When it wasn't ours any more there was nothing to release.
        released.await.map(drop)
    }

    /// See [`LockClient::certify`](crate::catalog::election::LockClient::certify). The lease ends by its time, with nothing
    /// under it.
    pub async fn certify(&self, election: &str, certificate: &Certificate) -> Result<Certification, Error> {
        let keys = self.keys(election);
        let got = self.members.call_briefly("read a lock", |mut client: Client| {
            let txn = Txn::new().and_then(keys.both());
            async move { client.txn(txn).await }
        });
        let term = revision(certificate.term.0);
        let [leader, last] = pair(&keys, got.await?);
        let leader =
            leader.filter(|found| found.create_revision() == term).and_then(|found| Leader::read(found.value()));
        let Some(last) = last else { return Ok(Certification::Changed) };
        let Some(read) = LastLeader::read(last.value()) else { return Ok(Certification::Changed) };
        let released = match certificate.over(leader.as_ref(), read) {
            Ok(released) => released,
            Err(why) => return Ok(why),
        };
        let freed = self.members.call_briefly("free a lock", |mut client: Client| {
            let as_seen = [
                Compare::create_revision(keys.leader.as_str(), CompareOp::Equal, term),
                Compare::mod_revision(keys.last.as_str(), CompareOp::Equal, last.mod_revision()),
            ];
            let txn = Txn::new().when(as_seen).and_then([
                TxnOp::delete(keys.leader.as_str(), None),
                TxnOp::put(keys.last.as_str(), released.as_str(), None),
            ]);
            async move { client.txn(txn).await }
        });
        match freed.await?.succeeded() {
            true => Ok(Certification::Done),
            // By another one, or by this call's own first try.
            false => match self.look(election).await?.shows(certificate.session, certificate.term) {
                true => Ok(Certification::Unknown("the lock was written meanwhile".to_owned())),
                false => Ok(Certification::Changed),
            },
        }
    }

    /// See [`LockClient::publish_rank`](crate::catalog::election::LockClient::publish_rank).
    pub(in crate::catalog) async fn publish_rank(
        &self,
        candidate: &CandidateSettings,
        rank: &RankRecord,
    ) -> Result<(), Error> {
        let key = self.layout.rank(&candidate.name, &candidate.id);
        // Under a lease, or those of candidates long gone would stay for ever.
        let ttl = seconds(candidate.rank_for());
        let granted = self
            .members
            .call_briefly("get a lease", |client: Client| async move { client.lease_client().grant(ttl, None).await });
        let lease = granted.await?.id();
        let put = self.members.call_briefly("publish a rank", |mut client: Client| {
            let (key, rank) = (key.clone(), rank.json());
            async move { client.put(key, rank, Some(PutOptions::new().with_lease(lease))).await }
        });
        put.await.map(drop)
    }

    /// See [`LockClient::ranks`](crate::catalog::election::LockClient::ranks).
    pub async fn ranks(&self, election: &str) -> Result<Vec<PeerRank>, Error> {
        let prefix = self.layout.ranks(election);
        let got = self.members.call_briefly("read the ranks", |mut client: Client| {
            let prefix = prefix.clone();
            async move { client.get(prefix, Some(GetOptions::new().with_prefix())).await }
        });
        let got = got.await?;
        let ranks = got.kvs().iter().filter_map(|found| {
            let rank = RankRecord::read(found.value())?;
            let id = String::from_utf8_lossy(found.key()).strip_prefix(&prefix)?.to_owned();
            let id = percent_encoding::percent_decode_str(&id).decode_utf8_lossy().into_owned();
            Some(rank.of(Id::from(id)))
        });
        Ok(ranks.collect())
    }

    /// See [`LockClient::watch`](crate::catalog::election::LockClient::watch).
    pub async fn watch_lock(&self, election: &str, views: &mut LockViewSender) {
        tokio::select! {
            never = super::follow::follow_lock(self, election, views) => never,
            // A leader at rest writes nothing, and wouldn't know that no other could be elected.
            never = self.space.keep_looking(&self.members) => never,
        }
    }

    pub(super) fn keys(&self, election: &str) -> Keys {
        let of = |name: &str| format!("{}{name}", self.layout.election(election));
        Keys { leader: of("leader"), last: of("last"), asked: of("asked") }
    }

    async fn grant(&self, candidate: &CandidateSettings, session: SessionId) -> Result<i64, Error> {
        let ttl = seconds(candidate.lease);
        let granted = self
            .members
            .call_briefly("get a lease", |client: Client| async move { client.lease_client().grant(ttl, None).await });
        let lease = granted.await?.id();
        if !self.sessions.granted(session, lease) {
            // Nobody would end what it came to hold. Its time ends it, if this can't.
            let _ = self.revoke(lease).await;
            return Err(Error::Closed);
        }
        Ok(lease)
    }

    /// Ends a lease; done also when it is gone.
    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        let revoked = self
            .members
            .call_briefly("revoke a lease", |client: Client| async move { client.lease_client().revoke(lease).await });
        match revoked.await {
            Ok(_) | Err(Error::Refused { code: Code::NotFound, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Ends the leases that the lock is under no more. What fails is tried again with the next renewal, and ends by its
    /// time otherwise.
    async fn revoke_idle(&self, session: SessionId) -> Infallible {
        for lease in self.sessions.idle(session) {
            if self.revoke(lease).await.is_ok() {
                self.sessions.revoked(session, lease);
            }
        }
        std::future::pending().await
    }

    /// The first renewal opens a stream, which takes one answer more than the others. Where answers take long there is no time
    /// for that, so it is opened beside the acquire.
    async fn open_stream(&self, lease: i64) -> Infallible {
        let open = |mut client: Client| async move { self.keeper.open(&mut client, lease).await };
        let _ = self.members.call_briefly("renew a lock", open).await;
        std::future::pending().await
    }

    /// As which the lock is written, if it is ours.
    async fn own(&self, keys: &Keys, session: SessionId, term: Term) -> Result<Option<i64>, Error> {
        let got = self.members.call_briefly("read a lock", |mut client: Client| {
            let key = keys.leader.clone();
            async move { client.get(key, None).await }
        });
        let mut got = got.await?;
        let ours = got.take_kvs().pop().filter(|found| is_ours(found, session, term));
        let version = ours.map(|found| found.mod_revision());
        self.sessions.seen(session, version);
        Ok(version)
    }

    /// What a transaction that read both keys shows.
    async fn view(&self, keys: &Keys, answer: TxnResponse) -> Result<View, Error> {
        let at = unsigned(header(&answer));
        let [leader, last] = pair(keys, answer);
        if let Some(found) = leader {
            return Ok(self.shown(&found, Term(unsigned(found.create_revision())), at));
        }
        let lock = Lock::Free { version: Revision(0), taken_from: None };
        let Some(found) = last else { return Ok(View { at, lock, last: None, last_revision: Revision(0) }) };
        let last_revision = Revision(unsigned(found.mod_revision()));
        let Some(record) = LastLeader::read(found.value()) else {
            return Ok(View { at, lock, last: Some(LastLeader::unknown()), last_revision });
        };
        let ended = match record.lease {
            Some(lease) if !record.released => self.has_ended(keys, lease).await?,
            Some(_) | None => false,
        };
        let mut last = record.last(Term(last_revision.0));
        last.ended = ended;
        Ok(View { at, lock, last: Some(last), last_revision })
    }

    /// A lock that is held.
    fn shown(&self, found: &KeyValue, term: Term, at: u64) -> View {
        let holder = match Leader::read(found.value()) {
            Some(leader) => leader.holder(term),
            // A person's hand, or another program's: whatever it is, it isn't free.
            None => Leader::unknown(SessionId(0), term),
        };
        View { at, lock: Lock::Held(holder), last: None, last_revision: Revision(0) }
    }

    /// Whether a lease is no more. Not asked for its time to live, which a server that leads no more would answer too:
    /// a key can be put under a lease only if the majority knows it, and goes with it.
    async fn has_ended(&self, keys: &Keys, lease: i64) -> Result<bool, Error> {
        let put = self.members.call_briefly("ask for a lease", |mut client: Client| {
            let key = keys.asked.clone();
            async move { client.put(key, "", Some(PutOptions::new().with_lease(lease))).await }
        });
        match put.await {
            Ok(_) => Ok(false),
            Err(Error::Refused { code: Code::NotFound, .. }) => Ok(true),
            // Who may only read sees the lock all the same, and waits for what the lease promised if it ever comes to that.
            Err(Error::Refused { code: Code::PermissionDenied, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Keys {
    fn both(&self) -> [TxnOp; 2] {
        [TxnOp::get(self.leader.as_str(), None), TxnOp::get(self.last.as_str(), None)]
    }
}

/// Whether a lock is held for this term by this session. A person's write keeps the first.
fn is_ours(found: &KeyValue, session: SessionId, term: Term) -> bool {
    unsigned(found.create_revision()) == term.0
        && Leader::read(found.value()).is_some_and(|leader| leader.session == session)
}

/// What a transaction read of both keys.
fn pair(keys: &Keys, answer: TxnResponse) -> [Option<KeyValue>; 2] {
    let (mut leader, mut last) = (None, None);
    for response in answer.op_responses() {
        if let TxnOpResponse::Get(mut got) = response {
            for found in got.take_kvs() {
                match found.key() {
                    key if key == keys.leader.as_bytes() => leader = Some(found),
                    key if key == keys.last.as_bytes() => last = Some(found),
                    _ => {}
                }
            }
        }
    }
    [leader, last]
}

/// Who answered.
fn server(header: Option<&ResponseHeader>) -> Option<Server> {
    header.map(|header| Server { member: header.member_id(), raft_term: header.raft_term() })
}

fn header(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, |header| header.revision())
}

/// As a lease has them.
fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

/// Revisions are never negative.
fn unsigned(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or(0)
}

pub(super) fn revision(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
