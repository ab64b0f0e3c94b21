//! An election's lock in etcd, real: leases, renewals that trust no keep-alive, and calls that reach two members.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, PutOptions, Txn, TxnOp};
use nix::sys::signal::Signal;
use pilotfish::catalog::Backend;
use pilotfish::catalog::election::{AcceptedLoss, AcquireRequest, CandidateSettings, LockClient};
use pilotfish::config;
use pilotfish::config::backends::{Endpoint, Etcd as Settings, Tls};
use pilotfish::supervisor::machines::election::event::{Acquisition, Renewal};
use pilotfish::supervisor::machines::election::record::{
    Answer, Guarantee, PeerRank, Rank, Revision, SessionId, Term, View,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::election::lock::{SOON, Watch, lead, look, seen, try_as};
use crate::support::lab::Lab;
use crate::support::namespace::eventually;
use crate::support::servers::{Etcd, EtcdCluster, Relay};

const LEASE: Duration = Duration::from_secs(2);

/// One server of each version for all tests at a time; it ends with the last of them.
fn shared(version: &'static str) -> Arc<Etcd> {
    static SHARED: [Mutex<Weak<Etcd>>; 2] = [Mutex::new(Weak::new()), Mutex::new(Weak::new())];
    let mut shared = SHARED[usize::from(version == "etcd35")].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let etcd = Arc::new(Etcd::start(version));
        *shared = Arc::downgrade(&etcd);
        etcd
    })
}

fn candidate_on(members: &[SocketAddr], name: &str, id: &str) -> LockClient {
    let endpoint = |at: &SocketAddr| Endpoint { https: false, host: at.ip().to_string(), port: at.port() };
    let settings = Settings { endpoints: members.iter().map(endpoint).collect(), login: None, tls: Tls::default() };
    let backend = config::Backend::Etcd(Box::new(settings));
    let config = config::Catalog { backend, prefix: "pilotfish".to_owned() };
    let contest = CandidateSettings {
        name: name.to_owned(),
        id: id.to_owned(),
        lease: LEASE,
        kill_margin: Duration::from_millis(100),
        service: None,
        witness: None,
        loss: AcceptedLoss::default(),
    };
    LockClient::new(Arc::new(Backend::open(&config).expect("a good config")), contest)
}

fn candidate(etcd: &Etcd, name: &str, id: &str) -> LockClient {
    candidate_on(&[etcd.client()], name, id)
}

async fn renewed(candidate: &LockClient, session: SessionId, term: Term) {
    match candidate.renew(session, term).await {
        Renewal::Alive(view) => assert!(view.shows(session, term), "{view:?}"),
        other => panic!("not renewed: {other:?}"),
    }
}

/// A key as etcd has it.
/// One that has yet to wait: what `last` says of it changes with each renewal, which therefore puts all anew.
async fn lead_owing(candidate: &LockClient) -> (SessionId, Term) {
    let (session, guarantee, _) = candidate.open().await.unwrap();
    let seen = seen(&look(candidate).await).expect("the lock was free");
    let wanted = AcquireRequest { session, guarantee, seen, hold_off_left: Duration::from_secs(60) };
    let Acquisition::Won(term) = candidate.acquire(wanted).await else { panic!("not won") };
    (session, term)
}

fn key(etcd: &Etcd, path: &str) -> serde_json::Value {
    let got = etcd.ctl(&["-w", "json", "get", &format!("pilotfish/elections/{path}")]).unwrap();
    serde_json::from_str::<serde_json::Value>(&got)
        .unwrap()
        .pointer_mut("/kvs/0")
        .map(serde_json::Value::take)
        .unwrap_or_default()
}

fn lease_of(etcd: &Etcd, election: &str) -> i64 {
    key(etcd, &format!("{election}/leader"))["lease"].as_i64().expect("the lock is under a lease")
}

fn revoke(etcd: &Etcd, lease: i64) {
    etcd.ctl(&["lease", "revoke", &format!("{lease:x}")]).unwrap();
}

fn leases(etcd: &Etcd) -> usize {
    etcd.ctl(&["lease", "list"]).unwrap().lines().filter(|line| !line.contains("found")).count()
}

#[tokio::test]
async fn the_first_takes_the_lock_and_the_second_sees_who_holds_it() {
    for version in ["etcd", "etcd35"] {
        let etcd = shared(version);
        let (a, b) = (candidate(&etcd, "first/takes", "a"), candidate(&etcd, "first/takes", "b"));
        let before = look(&b).await;
        assert_eq!((seen(&before), &before.last), (Some((Revision(0), Revision(0))), &None));
        let theirs = b.open().await.unwrap();
        assert_eq!(theirs.1, Guarantee::For(LEASE));
        let (session, term) = lead(&a).await;
        assert_eq!(try_as(&b, &before, theirs).await, Acquisition::Changed);
        b.close(theirs.0).await.unwrap();
        let view = look(&b).await;
        let holder = view.holder().expect("held");
        assert_eq!((&*holder.id, holder.session, holder.term), ("a", session, term));
        assert!(view.at >= term.0);
        let lock = key(&etcd, "first%2Ftakes/leader");
        assert_eq!(lock["create_revision"].as_u64(), Some(term.0));
        // The one that lost leaves no lease behind.
        renewed(&a, session, term).await;
    }
}

#[tokio::test]
async fn a_lock_that_changed_since_it_was_seen_is_not_taken_though_it_is_free() {
    let etcd = shared("etcd35");
    let (a, b) = (candidate(&etcd, "changed", "a"), candidate(&etcd, "changed", "b"));
    let before = look(&b).await;
    let theirs = b.open().await.unwrap();
    let (session, term) = lead(&a).await;
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    assert_eq!(try_as(&b, &before, theirs).await, Acquisition::Changed);
    let now = look(&b).await;
    assert!(matches!(try_as(&b, &now, theirs).await, Acquisition::Won(later) if later > term));
    // A second time it changes nothing.
    assert_eq!(try_as(&b, &now, theirs).await, Acquisition::Changed);
    assert!(look(&a).await.holder().is_some_and(|holder| holder.session == theirs.0));
}

#[tokio::test]
async fn a_release_hands_over_within_milliseconds_and_a_second_one_frees_nothing() {
    let etcd = shared("etcd");
    let (a, b) = (candidate(&etcd, "release", "a"), candidate(&etcd, "release", "b"));
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&etcd, "release", "b"));
    assert!(watch.next().await.unwrap().shows(session, term));
    let opened = b.open().await.unwrap();
    let start = Instant::now();
    a.release(session, term, Some("b".into()), Duration::from_millis(300)).await.unwrap();
    let view = watch.next().await.unwrap();
    let won = try_as(&b, &view, opened).await;
    let took = start.elapsed();
    println!("released, seen and taken within {took:?}");
    let Acquisition::Won(later) = won else { panic!("{won:?}") };
    assert!(later > term && took < Duration::from_millis(500), "{took:?}");
    let last = view.last.unwrap();
    assert!(last.released && last.to.as_deref() == Some("b") && last.term == term && !last.ended);
    assert_eq!(last.hold_off_left, Duration::from_millis(300));
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    a.close(session).await.unwrap();
    assert!(look(&a).await.shows(opened.0, later));
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
}

#[tokio::test]
async fn a_renewal_writes_nothing_while_the_same_server_leads() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start(version);
        let a = candidate(&etcd, "idle", "a");
        let (session, term) = lead(&a).await;
        let (before, lease) = (key(&etcd, "idle/leader"), lease_of(&etcd, "idle"));
        let start = Instant::now();
        while start.elapsed() < LEASE * 2 {
            renewed(&a, session, term).await;
            sleep(Duration::from_millis(400)).await;
        }
        // The lease is twice as old as it gets by itself.
        assert_eq!((key(&etcd, "idle/leader"), lease_of(&etcd, "idle")), (before, lease));
        assert_eq!(leases(&etcd), 1);
        // Nobody renews it any more.
        sleep(LEASE + Duration::from_secs(1)).await;
        assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
    }
}

#[tokio::test]
async fn a_renewal_takes_a_fresh_lease_where_something_is_owed_and_leaves_no_old_one() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start(version);
        let a = candidate(&etcd, "fresh", "a");
        let (session, term) = lead_owing(&a).await;
        let mut lease = lease_of(&etcd, "fresh");
        let start = Instant::now();
        while start.elapsed() < LEASE * 2 {
            renewed(&a, session, term).await;
            let next = lease_of(&etcd, "fresh");
            assert_ne!(next, lease);
            lease = next;
            sleep(Duration::from_millis(400)).await;
        }
        // The one in use, and the one before it; what couldn't be revoked beside a renewal is so beside the next.
        let mut more = 0;
        while leases(&etcd) > 2 {
            more += 1;
            assert!(more < 10, "{}", leases(&etcd));
            renewed(&a, session, term).await;
        }
        let last = key(&etcd, "fresh/last");
        assert!(last["lease"].is_null(), "it must outlive every lease: {last}");
        a.close(session).await.unwrap();
        assert_eq!(leases(&etcd), 0);
        let view = look(&a).await;
        let last = view.last.clone().expect("somebody led");
        assert_eq!((last.session, last.term, last.guarantee), (session, term, Guarantee::For(LEASE)));
        assert!(!last.released && last.ended && seen(&view).is_some());
    }
}

#[tokio::test]
async fn a_lease_that_nobody_renews_frees_the_lock_and_is_proven_to_have_ended() {
    let etcd = shared("etcd35");
    let (a, b) = (candidate(&etcd, "expired", "a"), candidate(&etcd, "expired", "b"));
    let start = Instant::now();
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&etcd, "expired", "b"));
    assert!(watch.next().await.unwrap().shows(session, term));
    let view = watch.next().await.unwrap();
    let took = start.elapsed();
    println!("a lease of {LEASE:?} ended after {took:?}");
    assert!(took >= LEASE && view.last.as_ref().is_some_and(|last| last.ended && last.term == term));
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
    assert!(lead(&b).await.1 > term);
}

#[tokio::test]
async fn a_lock_deleted_by_hand_leaves_a_lease_that_is_proven_to_live() {
    for version in ["etcd", "etcd35"] {
        let etcd = shared(version);
        let a = candidate(&etcd, "deleted", "a");
        let (session, term) = lead(&a).await;
        let mut watch = Watch::start(candidate(&etcd, "deleted", "a"));
        assert!(watch.next().await.unwrap().shows(session, term));
        etcd.ctl(&["del", "pilotfish/elections/deleted/leader"]).unwrap();
        let view = watch.next().await.unwrap();
        assert!(seen(&view).is_some() && view.at > term.0);
        let last = view.last.expect("somebody led");
        assert!(!last.ended && !last.released && last.session == session, "{last:?}");
        assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
        // What was asked is gone with the lease.
        a.close(session).await.unwrap();
        assert!(key(&etcd, "deleted/asked").is_null());
        assert!(look(&a).await.last.is_some_and(|last| last.ended));
    }
}

#[tokio::test]
async fn a_revoked_lease_is_lost_at_once() {
    let etcd = shared("etcd");
    let a = candidate(&etcd, "revoked", "a");
    let (session, term) = lead(&a).await;
    renewed(&a, session, term).await;
    revoke(&etcd, lease_of(&etcd, "revoked"));
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
    let b = candidate(&etcd, "revoked", "b");
    let (theirs, later) = lead(&b).await;
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
    renewed(&b, theirs, later).await;
}

#[tokio::test]
async fn a_lock_overwritten_by_hand_is_seen_to_be_not_ours_and_is_nobodys_to_take() {
    let etcd = shared("etcd35");
    let a = candidate(&etcd, "overwritten", "a");
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&etcd, "overwritten", "a"));
    assert!(watch.next().await.unwrap().shows(session, term));
    renewed(&a, session, term).await;
    etcd.ctl(&["put", "pilotfish/elections/overwritten/leader", "mine"]).unwrap();
    // The renewal was no news.
    let view = watch.next().await.unwrap();
    assert!(!view.shows(session, term));
    assert_eq!(view.holder().map(|holder| &*holder.id), Some("(unknown)"));
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: true });
}

#[tokio::test]
async fn an_older_renewal_that_comes_late_does_not_win() {
    let etcd = shared("etcd35");
    let a = candidate(&etcd, "late", "a");
    let (session, term) = lead_owing(&a).await;
    let before = key(&etcd, "late/leader");
    renewed(&a, session, term).await;
    let lease = lease_of(&etcd, "late");
    // As it was sent before that: our term, the lock as it was then, a lease of its own.
    let mut client = Client::connect([etcd.client().to_string()], None).await.unwrap();
    let older = client.lease_client().grant(60, None).await.unwrap().id();
    let path = "pilotfish/elections/late/leader";
    let late = Txn::new()
        .when([
            Compare::create_revision(path, CompareOp::Equal, i64::try_from(term.0).unwrap()),
            Compare::mod_revision(path, CompareOp::Equal, before["mod_revision"].as_i64().unwrap()),
        ])
        .and_then([TxnOp::put(path, "late", Some(PutOptions::new().with_lease(older)))]);
    assert!(!client.txn(late).await.unwrap().succeeded());
    assert_eq!(lease_of(&etcd, "late"), lease);
    // Had it come first, ours would have found that out and gone on from there.
    let value = etcd.ctl(&["get", "--print-value-only", path]).unwrap();
    client.put(path, value.trim(), Some(PutOptions::new().with_lease(older))).await.unwrap();
    assert!(matches!(a.renew(session, term).await, Renewal::Unknown(_)));
    renewed(&a, session, term).await;
    assert_ne!(lease_of(&etcd, "late"), older);
}

/// Leads to a server with a delay on the way back; once it is armed, what the server says from a little later on is
/// lost: the first of two calls in a row is answered, the second carried out and never answered.
struct Lossy {
    at: SocketAddr,
    answers: Arc<AtomicUsize>,
    armed: Arc<Mutex<Option<Instant>>>,
    lost: Arc<AtomicBool>,
}

impl Lossy {
    async fn to(server: SocketAddr) -> Lossy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lossy = Lossy {
            at: listener.local_addr().unwrap(),
            answers: Arc::default(),
            armed: Arc::default(),
            lost: Arc::default(),
        };
        let (answers, armed, lost) = (lossy.answers.clone(), lossy.armed.clone(), lossy.lost.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (answers, armed, lost) = (answers.clone(), armed.clone(), lost.clone());
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let (late, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(64);
                tokio::spawn(async move {
                    let mut bytes = [0; 16384];
                    while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
                        answers.fetch_add(1, Ordering::Relaxed);
                        let since = *armed.lock().unwrap();
                        let due = match since {
                            Some(since) if since.elapsed() > Duration::from_millis(100) => {
                                lost.store(true, Ordering::Relaxed);
                                continue;
                            }
                            Some(since) => since + Duration::from_millis(200),
                            None => Instant::now(),
                        };
                        let _ = late.send((due, bytes[..count].to_vec())).await;
                    }
                });
                tokio::spawn(async move {
                    while let Some((at, bytes)) = due.recv().await {
                        tokio::time::sleep_until(at).await;
                        if to_client.write_all(&bytes).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        lossy
    }

    fn arm(&self) {
        *self.armed.lock().unwrap() = Some(Instant::now());
    }

    fn disarm(&self) {
        *self.armed.lock().unwrap() = None;
    }

    /// One whose calls begin here, with another way to the same server.
    async fn candidate(&self, etcd: &Etcd, name: &str) -> LockClient {
        loop {
            let candidate = candidate_on(&[self.at, etcd.client()], name, "a");
            // The first time all are asked for their cluster.
            look(&candidate).await;
            sleep(Duration::from_millis(20)).await;
            let before = self.answers.load(Ordering::Relaxed);
            look(&candidate).await;
            if self.answers.load(Ordering::Relaxed) > before {
                return candidate;
            }
        }
    }
}

#[tokio::test]
async fn an_acquire_or_a_renewal_that_was_carried_out_and_not_answered_is_found_by_its_repetition() {
    let etcd = shared("etcd35");
    let lossy = Lossy::to(etcd.client()).await;
    let a = lossy.candidate(&etcd, "lost").await;
    let opened = a.open().await.unwrap();
    let view = look(&a).await;
    lossy.arm();
    let won = try_as(&a, &view, opened).await;
    let Acquisition::Won(term) = won else { panic!("{won:?}") };
    assert!(lossy.lost.swap(false, Ordering::Relaxed), "nothing was lost");
    lossy.disarm();
    assert_eq!(key(&etcd, "lost/leader")["create_revision"].as_u64(), Some(term.0));
    renewed(&a, opened.0, term).await;
    a.release(opened.0, term, None, Duration::ZERO).await.unwrap();

    let a = lossy.candidate(&etcd, "lost").await;
    let (session, term) = lead_owing(&a).await;
    lossy.arm();
    renewed(&a, session, term).await;
    assert!(lossy.lost.load(Ordering::Relaxed), "nothing was lost");
    lossy.disarm();
    // It went on under the lease that the lost one had put it under.
    let lease = lease_of(&etcd, "lost");
    renewed(&a, session, term).await;
    assert_ne!(lease_of(&etcd, "lost"), lease);
    a.close(session).await.unwrap();
}

#[tokio::test]
async fn an_acquire_given_up_on_leaves_nothing_behind_its_session() {
    let etcd = shared("etcd35");
    let lossy = Lossy::to(etcd.client()).await;
    let a = candidate_on(&[lossy.at], "given-up", "a");
    let opened = a.open().await.unwrap();
    let view = look(&a).await;
    lossy.arm();
    // As the caller does: after a while nobody waits for it any more.
    let answer = timeout(Duration::from_secs(1), try_as(&a, &view, opened)).await;
    assert!(answer.is_err(), "{answer:?}");
    lossy.disarm();
    let view = look(&candidate(&etcd, "given-up", "b")).await;
    let holder = view.holder().expect("it came through");
    assert_eq!(holder.session, opened.0);
    // Read back and found to be ours, it goes on.
    let term = holder.term;
    let start = Instant::now();
    while !matches!(a.renew(opened.0, term).await, Renewal::Alive(_)) {
        assert!(start.elapsed() < LEASE, "the first connection was cut, and the next one stands");
    }
    a.close(opened.0).await.unwrap();
    assert!(seen(&look(&candidate(&etcd, "given-up", "b")).await).is_some());
}

#[tokio::test]
async fn members_that_are_all_slow_are_waited_for() {
    const SLOW: Duration = Duration::from_millis(900);
    let etcd = shared("etcd35");
    let members = [Relay::slow(etcd.client(), SLOW).await, Relay::slow(etcd.client(), SLOW).await];
    let a = candidate_on(&members.each_ref().map(|member| member.at), "slow", "a");
    let view = look(&a).await;
    let opened = a.open().await.unwrap();
    let Acquisition::Won(term) = try_as(&a, &view, opened).await else { panic!("not won") };
    renewed(&a, opened.0, term).await;
    renewed(&a, opened.0, term).await;
}

/// What a lease has room for is as many: of three, a store that answers within the time would keep no leader.
#[tokio::test]
async fn a_renewal_is_two_questions_one_after_the_other() {
    const SLOW: Duration = Duration::from_millis(400);
    let etcd = shared("etcd35");
    let relay = Relay::slow(etcd.client(), SLOW).await;
    let a = candidate_on(&[relay.at], "two-questions", "a");
    let view = look(&a).await;
    let opened = a.open().await.unwrap();
    let Acquisition::Won(term) = try_as(&a, &view, opened).await else { panic!("not won") };
    // The first one opens a stream. Given up meanwhile, the next goes on with it.
    assert!(timeout(5 * SLOW / 2, a.renew(opened.0, term)).await.is_err());
    for _ in 0..3 {
        let start = Instant::now();
        renewed(&a, opened.0, term).await;
        let took = start.elapsed();
        assert!(took < 3 * SLOW, "{took:?}");
    }
}

/// Of a store whose answers take long, the first one, too.
#[tokio::test]
async fn the_first_renewal_of_a_slow_store_is_two_questions_as_well() {
    const SLOW: Duration = Duration::from_millis(600);
    let etcd = shared("etcd35");
    let relay = Relay::slow(etcd.client(), SLOW).await;
    let a = candidate_on(&[relay.at], "slow-at-first", "a");
    let view = look(&a).await;
    let opened = a.open().await.unwrap();
    let Acquisition::Won(term) = try_as(&a, &view, opened).await else { panic!("not won") };
    let start = Instant::now();
    renewed(&a, opened.0, term).await;
    let took = start.elapsed();
    assert!(took < 3 * SLOW, "{took:?}");
}

#[tokio::test]
async fn a_silent_member_costs_a_call_less_than_a_second_and_the_next_one_nothing() {
    // Its backlog takes connections, and nobody answers them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let etcd = shared("etcd");
    let mut slowest = Duration::ZERO;
    for round in 0..6 {
        let name = format!("silent-{round}");
        let a = candidate_on(&[silent.local_addr().unwrap(), etcd.client()], &name, "a");
        let start = Instant::now();
        let view = look(&a).await;
        slowest = slowest.max(start.elapsed());
        let opened = a.open().await.unwrap();
        // Half of the endpoints are enough once the other half had the time to name another cluster.
        let start = Instant::now();
        let term = loop {
            if let Acquisition::Won(term) = try_as(&a, &view, opened).await {
                break term;
            }
            assert!(start.elapsed() < SOON);
            sleep(Duration::from_millis(50)).await;
        };
        let start = Instant::now();
        renewed(&a, opened.0, term).await;
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        a.close(opened.0).await.unwrap();
    }
    println!("a call that found a silent member first took {slowest:?} at most");
    assert!(slowest < Duration::from_millis(1200), "{slowest:?}");
}

#[tokio::test]
async fn a_leader_renews_within_its_lease_when_the_leading_member_of_three_dies() {
    let mut cluster = EtcdCluster::start("etcd35");
    let a = candidate_on(&cluster.clients, "cluster", "a");
    let mut watch = Watch::start(candidate_on(&cluster.clients, "cluster", "b"));
    assert!(seen(&watch.next().await.unwrap()).is_some());
    let (session, term) = lead(&a).await;
    assert!(watch.next().await.unwrap().shows(session, term));
    let leader = cluster.leader().expect("one leads");
    cluster.down(leader);
    let start = Instant::now();
    // As the core does: each request is waited for so long.
    while !matches!(timeout(Duration::from_secs(2), a.renew(session, term)).await, Ok(Renewal::Alive(_))) {
        assert!(start.elapsed() < SOON);
    }
    println!("renewed {:?} after the death of the member that led", start.elapsed());
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    loop {
        if watch.next().await.is_ok_and(|view| view.last.is_some_and(|last| last.released)) {
            break;
        }
    }
}

#[tokio::test]
async fn the_watch_tells_held_free_and_held_and_an_outage_once() {
    let etcd = shared("etcd35");
    let relay = Relay::to(etcd.client()).await;
    let (a, b) = (candidate(&etcd, "watched", "a"), candidate(&etcd, "watched", "b"));
    let mut watch = Watch::start(candidate_on(&[relay.at], "watched", "c"));
    assert!(seen(&watch.next().await.unwrap()).is_some());
    let (session, term) = lead(&a).await;
    assert!(watch.next().await.unwrap().shows(session, term));
    for _ in 0..3 {
        renewed(&a, session, term).await;
    }
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    assert!(watch.next().await.unwrap().last.is_some_and(|last| last.released && last.term == term));
    let (theirs, later) = lead(&b).await;
    assert!(watch.next().await.unwrap().shows(theirs, later));
    relay.lead_to(None);
    watch.next().await.unwrap_err();
    b.release(theirs, later, None, Duration::ZERO).await.unwrap();
    sleep(Duration::from_millis(1500)).await;
    relay.lead_to(Some(etcd.client()));
    assert!(seen(&watch.next().await.unwrap()).is_some());
    // A history that is gone is no outage.
    let (session, term) = lead(&a).await;
    assert!(watch.next().await.unwrap().shows(session, term));
    relay.lead_to(None);
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    let revision = look(&a).await.at;
    etcd.ctl(&["compact", &revision.to_string()]).unwrap();
    relay.lead_to(Some(etcd.client()));
    let view = loop {
        if let Ok(view) = watch.next().await {
            break view;
        }
    };
    assert!(view.last.is_some_and(|last| last.released && last.term == term));
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_within_seconds() {
    let etcd = Etcd::start("etcd");
    let a = candidate(&etcd, "stopped", "a");
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&etcd, "stopped", "b"));
    assert!(watch.next().await.unwrap().shows(session, term));
    etcd.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let start = Instant::now();
    assert!(matches!(a.renew(session, term).await, Renewal::Unknown(_)));
    assert!(start.elapsed() < Duration::from_millis(4500));
    watch.next_within(Duration::from_secs(14)).await.unwrap_err();
    println!("a silent server was noticed after {:?}", start.elapsed());
    etcd.process().signal(nix::sys::signal::Signal::SIGCONT);
    watch.next().await.unwrap();
}

#[tokio::test]
async fn a_cut_connection_leaves_unknown_what_was_asked() {
    let etcd = shared("etcd");
    let relay = Relay::to(etcd.client()).await;
    let a = candidate_on(&[relay.at], "cut", "a");
    let opened = a.open().await.unwrap();
    let view = look(&a).await;
    relay.lead_to(None);
    assert!(matches!(try_as(&a, &view, opened).await, Acquisition::Unknown(_)));
    assert!(matches!(a.renew(opened.0, Term(1)).await, Renewal::Unknown(_)));
    a.release(opened.0, Term(1), None, Duration::ZERO).await.unwrap_err();
    relay.lead_to(Some(etcd.client()));
    assert!(matches!(try_as(&a, &view, opened).await, Acquisition::Won(_)));
}

#[tokio::test]
async fn what_is_owed_stays_in_last_over_renewals_until_it_is_paid() {
    let etcd = shared("etcd35");
    let a = candidate(&etcd, "hold_off_left", "a");
    let (session, guarantee, _) = a.open().await.unwrap();
    let view = look(&a).await;
    let wanted =
        AcquireRequest { session, guarantee, seen: seen(&view).unwrap(), hold_off_left: Duration::from_millis(900) };
    let Acquisition::Won(term) = a.acquire(wanted).await else { panic!("not won") };
    let hold_off_left = || {
        let value = etcd.ctl(&["get", "--print-value-only", "pilotfish/elections/hold_off_left/last"]).unwrap();
        serde_json::from_str::<serde_json::Value>(&value).unwrap()["owed_ms"].as_u64().unwrap()
    };
    assert_eq!(hold_off_left(), 900);
    sleep(Duration::from_millis(300)).await;
    renewed(&a, session, term).await;
    assert!((300..=600).contains(&hold_off_left()), "{}", hold_off_left());
    sleep(Duration::from_millis(700)).await;
    renewed(&a, session, term).await;
    assert_eq!(hold_off_left(), 0);
}

#[tokio::test]
async fn ranks_are_read_for_one_election() {
    let etcd = shared("etcd");
    let (a, b) = (candidate(&etcd, "ranks", "a/1%"), candidate(&etcd, "ranks", "b"));
    let known = |rank| Answer::Known(Rank::Number(rank));
    a.publish_rank(Term(7), &known(-3), true).await.unwrap();
    b.publish_rank(Term(6), &known(9), false).await.unwrap();
    let rank = |id: &str, term, rank, stands| PeerRank { id: id.into(), term: Term(term), answer: known(rank), stands };
    assert_eq!(a.ranks().await.unwrap(), [rank("a/1%", 7, -3, true), rank("b", 6, 9, false)]);
    b.publish_rank(Term(7), &known(9), true).await.unwrap();
    assert_eq!(b.ranks().await.unwrap(), [rank("a/1%", 7, -3, true), rank("b", 7, 9, true)]);
    assert!(candidate(&etcd, "rank", "b").ranks().await.unwrap().is_empty());
}

#[tokio::test]
async fn terms_grow_also_over_a_lock_that_was_deleted() {
    let etcd = shared("etcd");
    let a = candidate(&etcd, "grow", "a");
    let mut before = Term(0);
    for round in 0..6 {
        let (session, term) = lead(&a).await;
        assert!(term > before, "{term:?} after {before:?}");
        before = term;
        a.release(session, term, None, Duration::ZERO).await.unwrap();
        a.close(session).await.unwrap();
        if round % 2 == 1 {
            etcd.ctl(&["del", "--prefix", "pilotfish/elections/grow/"]).unwrap();
        }
    }
}

/// A member loses its disk and comes back as a cluster of its own, which knows of no lock.
#[tokio::test]
async fn a_stray_member_takes_no_lock_from_its_leader_and_shows_nobody_that_it_is_free() {
    let mut cluster = EtcdCluster::start("etcd35");
    let names = ["a", "b", "c", "d", "e", "f"].map(|id| format!("stray/{id}"));
    let (mut leaders, mut others) = (Vec::new(), Vec::new());
    // Each begins with a member of its own choice, be it the one that goes astray.
    for name in &names {
        let (leader, other) = (candidate_on(&cluster.clients, name, "a"), candidate_on(&cluster.clients, name, "b"));
        let (session, term) = lead(&leader).await;
        assert!(look(&other).await.shows(session, term));
        leaders.push((leader, session, term));
        others.push(other);
    }
    cluster.down(1);
    cluster.spawn_stray(1);
    let begun = Instant::now();
    while begun.elapsed() < LEASE * 4 {
        for ((leader, session, term), other) in leaders.iter().zip(&others) {
            match leader.renew(*session, *term).await {
                Renewal::Alive(view) => assert!(view.shows(*session, *term), "{view:?}"),
                // The connection broke, or the others choose a leader.
                Renewal::Unknown(why) => assert!(begun.elapsed() < LEASE, "{why}"),
                Renewal::Gone { void } => panic!("the stray member was believed (void: {void})"),
            }
            if let Ok(view) = other.look().await {
                assert!(view.shows(*session, *term), "{view:?}");
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
    cluster.wait_ready(1);
    // Nor does whoever comes anew, whichever member it begins with.
    for _ in 0..4 {
        for (name, (_, session, term)) in names.iter().zip(&leaders) {
            let view = look(&candidate_on(&cluster.clients, name, "new")).await;
            assert!(view.shows(*session, *term), "{view:?}");
        }
    }
    let stray = cluster.ctl(1, &["get", "--prefix", "pilotfish/"]).unwrap();
    assert_eq!(stray, "", "nothing was written there");
}

/// Started while the members of the cluster are silent for a while, as on storage that hangs.
#[tokio::test]
async fn whoever_starts_and_reaches_nobody_but_a_stray_member_takes_no_lock_there() {
    let mut cluster = EtcdCluster::start("etcd35");
    cluster.down(1);
    cluster.spawn_stray(1);
    cluster.wait_ready(1);
    [0, 2].iter().for_each(|member| cluster.process(*member).signal(Signal::SIGSTOP));
    let a = candidate_on(&cluster.clients, "doubtful", "a");
    let opened = a.open().await.unwrap();
    let view = look(&a).await;
    let Acquisition::Unknown(why) = try_as(&a, &view, opened).await else { panic!("it tried") };
    assert!(why.contains("too few of etcd's 3 endpoints"), "{why}");
    [0, 2].iter().for_each(|member| cluster.process(*member).signal(Signal::SIGCONT));
    let begun = Instant::now();
    // The first one that reaches the others finds out.
    let lock = loop {
        if let Acquisition::Won(_) = try_as(&a, &look_until_answered(&a).await, opened).await {
            break cluster.ctl(0, &["get", "pilotfish/elections/doubtful/leader"]).unwrap();
        }
        assert!(begun.elapsed() < SOON);
        sleep(Duration::from_millis(100)).await;
    };
    assert!(lock.contains("\"a\""), "{lock}");
    assert_eq!(cluster.ctl(1, &["get", "--prefix", "pilotfish/"]).unwrap(), "");
}

/// Each answer of the cluster's own members takes longer than anybody is waited for.
#[tokio::test]
async fn a_candidate_far_from_the_cluster_and_near_a_stray_member_takes_no_lock_there_and_waits_for_nobody_long() {
    let mut cluster = EtcdCluster::start("etcd35");
    cluster.down(1);
    cluster.spawn_stray(1);
    cluster.wait_ready(1);
    let far = Duration::from_millis(300);
    let (first, third) = (Relay::slow(cluster.clients[0], far).await, Relay::slow(cluster.clients[2], far).await);
    // Each begins with a member of its own choice.
    for id in ["a", "b", "c", "d", "e", "f"] {
        let candidate = candidate_on(&[first.at, cluster.clients[1], third.at], "far", id);
        let opened = candidate.open().await.unwrap();
        let begun = Instant::now();
        let term = loop {
            let view = look_until_answered(&candidate).await;
            if let Acquisition::Won(term) = try_as(&candidate, &view, opened).await {
                break term;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "{id}: too long after the others were heard");
            sleep(Duration::from_millis(100)).await;
        };
        let lock = cluster.ctl(0, &["get", "pilotfish/elections/far/leader"]).unwrap();
        assert!(lock.contains(&format!("\"{id}\"")), "{lock}");
        candidate.release(opened.0, term, None, Duration::ZERO).await.unwrap();
    }
    assert_eq!(cluster.ctl(1, &["get", "--prefix", "pilotfish/"]).unwrap(), "");
}

/// Of two endpoints one may be down for ever, so the other one is enough; until it comes back, and is another cluster's.
#[tokio::test]
async fn who_came_to_lead_at_a_stray_member_renews_no_more_once_as_many_name_another_cluster() {
    let mut cluster = EtcdCluster::start("etcd35");
    cluster.down(1);
    cluster.spawn_stray(1);
    cluster.wait_ready(1);
    let good = Relay::to(cluster.clients[0]).await;
    good.lead_to(None);
    let a = candidate_on(&[good.at, cluster.clients[1]], "tie", "a");
    let opened = a.open().await.unwrap();
    let begun = Instant::now();
    let term = loop {
        if let Acquisition::Won(term) = try_as(&a, &look_until_answered(&a).await, opened).await {
            break term;
        }
        assert!(begun.elapsed() < SOON, "half of the endpoints name it, and none another");
        sleep(Duration::from_millis(100)).await;
    };
    good.lead_to(Some(cluster.clients[0]));
    let begun = Instant::now();
    loop {
        match a.renew(opened.0, term).await {
            Renewal::Alive(_) => assert!(begun.elapsed() < Duration::from_secs(40), "it leads on"),
            Renewal::Unknown(why) if why.contains("may be astray") => break,
            Renewal::Unknown(_) => {}
            Renewal::Gone { .. } => panic!("the stray member still says that it is held"),
        }
        sleep(Duration::from_millis(200)).await;
    }
}

async fn look_until_answered(candidate: &LockClient) -> View {
    loop {
        if let Ok(view) = candidate.look().await {
            return view;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_cluster_in_the_others_place_is_believed_once_that_one_was_silent_for_long() {
    let mut etcd = Etcd::start("etcd35");
    let a = candidate(&etcd, "replaced", "a");
    let (session, term) = lead(&a).await;
    etcd.down();
    etcd.up_as_another();
    let begun = Instant::now();
    let mut told = String::new();
    let view = loop {
        match a.look().await {
            Ok(view) => break view,
            Err(error) => told = pilotfish::catalog::report(&error),
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{told}");
        sleep(Duration::from_millis(200)).await;
    };
    assert!(begun.elapsed() > Duration::from_secs(25), "{:?}", begun.elapsed());
    assert!(told.contains("belongs to another etcd cluster"), "{told}");
    assert!(!view.shows(session, term), "{view:?}");
    lead(&a).await;
}

#[test]
fn what_a_call_takes_of_memory_while_it_is_under_way_is_little() {
    let a = candidate_on(&["127.0.0.1:1".parse().unwrap()], "size", "a");
    // Each is a task of its own, and the client's own futures are of 20 KB.
    assert!(std::mem::size_of_val(&a.renew(SessionId(0), Term(0))) < 4096);
    assert!(std::mem::size_of_val(&a.look()) < 4096);
}

#[test]
fn who_stands_for_election_says_that_etcd_has_no_room_before_anybody_has_to_be_elected() {
    for version in ["etcd", "etcd35"] {
        let etcd = Etcd::start_with(version, &["--quota-backend-bytes=16777216".to_owned()]);
        let large = "x".repeat(1_000_000);
        assert!(
            (0..40).any(|key| etcd.ctl_fed(&["put", &format!("fill/{key}")], &large).is_err()),
            "{version} has room"
        );
        let lab = Lab::new(&format!(
            "[process]\nexec = [\"sleep\", \"60\"]\n[catalog]\nbackend = \"etcd\"\nendpoints = [\"http://{}\"]\n\
             [election]\nname = \"db\"\n",
            etcd.client()
        ));
        let container = lab.run();
        let alarm = || container.stderr().contains("has grown to its quota").then_some(());
        eventually("the alarm", alarm).unwrap_or_else(|error| panic!("{version}: {error}: {}", container.stderr()));
    }
}
