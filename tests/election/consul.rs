//! An election's lock in Consul, real: what holds the lock, what frees it, and what nobody may take. Each test has an
//! election of its own name, so that they share one server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pilotfish::catalog::election::{AcceptedLoss, AcquireRequest, CandidateSettings, LockClient};
use pilotfish::catalog::{Backend, Changed, ObservationSender};
use pilotfish::config::backends::{Consul as Settings, ConsulAddress, Endpoint, Tls};
use pilotfish::config::{self, AddressSpec, ConsulService, Query, Service};
use pilotfish::supervisor::Event;
use pilotfish::supervisor::machines::election::event::{Acquisition, Renewal};
use pilotfish::supervisor::machines::election::record::{
    Answer, Guarantee, Lock, PeerRank, Rank, Revision, SessionId, Term, View,
};
use pilotfish::supervisor::machines::election::rules::Rules;
use pilotfish::supervisor::vocabulary::{
    Fence, Follow, KeyChange, Observation, Registration, ServiceStatus, Value, acting_key, acting_value,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::election::lock::{SOON, Watch, lead, look, seen, try_as};
use crate::support::servers::{Consul, ConsulCluster, Relay, eventually};

/// Long enough to be seen, short enough to be waited for.
const LEASE: Duration = Duration::from_millis(1500);

fn backend(at: SocketAddr) -> Arc<Backend> {
    let settings = Settings {
        address: ConsulAddress::Tcp(Endpoint { https: false, host: at.ip().to_string(), port: at.port() }),
        token: None,
        basic: None,
        tls: Tls::default(),
    };
    let backend = config::Backend::Consul(Box::new(settings));
    let config = config::Catalog { backend, prefix: "pilotfish".to_owned() };
    Arc::new(Backend::open(&config).expect("a good config"))
}

fn contest(name: &str, id: &str) -> CandidateSettings {
    CandidateSettings {
        name: name.to_owned(),
        id: id.to_owned(),
        lease: LEASE,
        kill_margin: Duration::from_millis(100),
        service: None,
        witness: None,
        loss: AcceptedLoss::default(),
    }
}

fn candidate(consul: &Consul, name: &str, id: &str) -> LockClient {
    LockClient::new(backend(consul.http), contest(name, id))
}

fn service(id: &str, ttl: Duration) -> Arc<Service> {
    Arc::new(Service {
        name: id.to_owned(),
        id: id.to_owned(),
        port: 3306,
        of: Default::default(),
        tags: Vec::new(),
        meta: BTreeMap::new(),
        address: vec![AddressSpec::Static("192.0.2.7".parse().unwrap())],
        ttl,
        consul: ConsulService { enable_tag_override: false, deregister_critical_after: None },
    })
}

async fn publish(backend: &Backend, service: &Arc<Service>) {
    let registration = Registration {
        service: Arc::clone(service),
        status: ServiceStatus::Passing,
        note: "ok".to_owned(),
        maintenance: None,
    };
    backend.publish(&registration).await.expect("published");
}

async fn lead_once_free(candidate: &LockClient) -> (SessionId, Term) {
    let start = Instant::now();
    loop {
        let view = look(candidate).await;
        if seen(&view).is_some() {
            let opened = candidate.open().await.expect("opened");
            match try_as(candidate, &view, opened).await {
                Acquisition::Won(term) => return (opened.0, term),
                Acquisition::HeldBack | Acquisition::Changed => candidate.close(opened.0).await.expect("closed"),
                Acquisition::Unknown(error) => panic!("{error}"),
            }
        }
        assert!(start.elapsed() < SOON, "not led within {SOON:?}");
        sleep(Duration::from_millis(30)).await;
    }
}

fn destroy(consul: &Consul, session: SessionId) {
    let hex = format!("{:032x}", session.0);
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    assert_eq!(consul.ask("PUT", &format!("/v1/session/destroy/{id}"), "").0, 200);
}

#[tokio::test]
async fn the_first_takes_a_lock_that_never_was_and_the_second_sees_who_holds_it() {
    let consul = Consul::shared();
    let mut first = contest("first/takes", "a-1");
    first.service = Some(service("first-takes", Duration::from_secs(5)));
    let first = LockClient::new(backend(consul.http), first);
    publish(&backend(consul.http), &service("first-takes", Duration::from_secs(5))).await;
    let second = candidate(&consul, "first/takes", "b-1");
    let view = look(&second).await;
    assert_eq!((seen(&view), view.last), (Some((Revision(0), Revision(0))), None));
    let (session, term) = lead(&first).await;
    let view = look(&second).await;
    let holder = view.holder().expect("held");
    assert_eq!((&*holder.id, holder.session, holder.term), ("a-1", session, term));
    assert_eq!(holder.address.as_deref(), Some("192.0.2.7:3306"));
    assert!(view.at >= term.0);
    assert!(matches!(first.renew(session, term).await, Renewal::Alive(view) if view.shows(session, term)));
}

#[tokio::test]
async fn a_leader_that_moves_says_so_beside_the_lock_once_and_keeps_its_term() {
    let consul = Consul::shared();
    let agent = backend(consul.http);
    let here = service("moves", Duration::from_secs(5));
    publish(&agent, &here).await;
    let one_of = |service| LockClient::new(agent.clone(), CandidateSettings { service, ..contest("moves", "a") });
    let (one, two) = (one_of(Some(Arc::clone(&here))), candidate(&consul, "moves", "b"));
    let (session, term) = lead(&one).await;
    let address = |view: &View| view.holder().and_then(|holder| holder.address.as_deref().map(str::to_owned));
    let last = || consul.ask("GET", "/v1/kv/moves/last", "").1;
    let renewed = async |candidate: &LockClient| match candidate.renew(session, term).await {
        Renewal::Alive(view) if view.shows(session, term) => address(&view),
        other => panic!("{other:?}"),
    };
    let before = last();
    assert_eq!(renewed(&one).await.as_deref(), Some("192.0.2.7:3306"));
    assert_eq!(last(), before, "a renewal writes nothing");
    let elsewhere = vec![AddressSpec::Static("192.0.2.9".parse().unwrap())];
    let moved = one_of(Some(Arc::new(Service { address: elsewhere, ..(*here).clone() })));
    assert_eq!(renewed(&moved).await.as_deref(), Some("192.0.2.9:3306"));
    let told = last();
    // Nor one of a leader that stays there, or can't be found for a moment.
    for candidate in [&moved, &one_of(None)] {
        assert_eq!(renewed(candidate).await.as_deref(), Some("192.0.2.9:3306"));
    }
    assert_eq!(last(), told);
    let view = look(&two).await;
    assert!(view.shows(session, term), "{view:?}");
    assert_eq!(address(&view).as_deref(), Some("192.0.2.9:3306"));
    moved.release(session, term, None, Duration::ZERO).await.unwrap();
    let (next, _) = lead(&two).await;
    let view = look(&one).await;
    assert_eq!((view.holder().map(|holder| holder.session), address(&view)), (Some(next), None));
}

#[tokio::test]
async fn a_lock_that_changed_since_it_was_seen_is_not_taken() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "changed", "a"), candidate(&consul, "changed", "b"));
    let before = look(&b).await;
    let theirs = b.open().await.unwrap();
    let (session, term) = lead(&a).await;
    assert_eq!(try_as(&b, &before, theirs).await, Acquisition::Changed);
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    // Free again, but not as it was.
    assert_eq!(try_as(&b, &before, theirs).await, Acquisition::Changed);
    let now = look(&b).await;
    // The lock as it is, and a `last` that isn't.
    let stale = View { last_revision: Revision(now.last_revision.0 - 1), ..now.clone() };
    assert_eq!(try_as(&b, &stale, theirs).await, Acquisition::Changed);
    assert!(matches!(try_as(&b, &now, theirs).await, Acquisition::Won(later) if later > term));
}

#[tokio::test]
async fn last_says_who_led_and_what_it_was_promised() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "last", "a"), candidate(&consul, "last", "b"));
    let (session, guarantee, _) = a.open().await.unwrap();
    assert_eq!(guarantee, Guarantee::For(LEASE));
    let view = look(&a).await;
    let hold_off_left = Duration::from_millis(700);
    let wanted = AcquireRequest { session, guarantee, seen: seen(&view).unwrap(), hold_off_left };
    let Acquisition::Won(term) = a.acquire(wanted).await else { panic!("not won") };
    destroy(&consul, session);
    let view = look(&b).await;
    let last = view.last.clone().expect("somebody led");
    assert_eq!((&*last.id, last.session, last.term, last.guarantee), ("a", session, term, guarantee));
    assert_eq!((last.released, last.hold_off_left), (false, hold_off_left));
    // The term is the index that both keys were written at.
    assert_eq!(view.last_revision, Revision(term.0));
    // The engine took the lock, and holds everybody back.
    assert!(matches!(view.lock, Lock::Free { taken_from: Some(from), .. } if from == session), "{view:?}");
}

#[tokio::test]
async fn the_session_of_a_former_life_is_ended_and_the_lock_delay_does_the_waiting() {
    let consul = Consul::shared();
    let (former, after) = (candidate(&consul, "former", "a"), candidate(&consul, "former", "a"));
    let (session, _) = lead(&former).await;
    let start = Instant::now();
    after.end_former_life(session).await.unwrap();
    let view = look(&after).await;
    assert!(matches!(view.lock, Lock::Free { taken_from: Some(from), .. } if from == session), "{view:?}");
    assert!(view.last.is_some_and(|last| !last.released));
    lead_once_free(&after).await;
    assert!(start.elapsed() >= LEASE, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_release_hands_over_within_milliseconds_and_names_the_next() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "release", "a"), candidate(&consul, "release", "b"));
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&consul, "release", "b"));
    watch.until(|view| view.holder().is_some()).await;
    let opened = b.open().await.unwrap();
    let start = Instant::now();
    a.release(session, term, Some("b".into()), Duration::from_millis(300)).await.unwrap();
    let view = watch.next().await.unwrap();
    let won = try_as(&b, &view, opened).await;
    let took = start.elapsed();
    assert!(matches!(won, Acquisition::Won(later) if later > term), "{won:?}");
    assert!(took < LEASE / 2, "{took:?}");
    println!("released, seen and taken within {took:?}");
    let last = view.last.unwrap();
    assert!(last.released && last.to.as_deref() == Some("b") && last.term == term);
    assert_eq!(last.hold_off_left, Duration::from_millis(300));
    a.close(session).await.unwrap();
    assert!(look(&b).await.holder().is_some_and(|holder| holder.session == opened.0));
}

#[tokio::test]
async fn a_release_that_comes_twice_frees_nothing_of_a_newer_term() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "twice", "a"), candidate(&consul, "twice", "b"));
    let (session, term) = lead(&a).await;
    let view = look(&b).await;
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    let (theirs, later) = lead(&b).await;
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    assert!(look(&a).await.shows(theirs, later));
    b.release(theirs, later, None, Duration::ZERO).await.unwrap();
    // Nor by the same session.
    let opened = a.open().await.unwrap();
    let mut free = look(&a).await;
    let Acquisition::Won(first) = try_as(&a, &free, opened).await else { panic!("not won") };
    a.release(opened.0, first, None, Duration::ZERO).await.unwrap();
    free = look(&a).await;
    let Acquisition::Won(second) = try_as(&a, &free, opened).await else { panic!("not won") };
    a.release(opened.0, first, None, Duration::ZERO).await.unwrap();
    assert!(second > first && look(&a).await.shows(opened.0, second));
    // An acquire that comes twice changes nothing either.
    assert_eq!(try_as(&a, &free, opened).await, Acquisition::Changed);
    assert!(look(&a).await.shows(opened.0, second));
    assert!(seen(&view).is_none());
}

#[tokio::test]
async fn a_destroyed_session_is_gone_and_everybody_is_held_back_for_the_lock_delay() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "destroyed", "a"), candidate(&consul, "destroyed", "b"));
    let (session, term) = lead(&a).await;
    let opened = b.open().await.unwrap();
    let start = Instant::now();
    destroy(&consul, session);
    assert_eq!(a.renew(session, term).await, Renewal::Gone { void: false });
    let view = look(&b).await;
    assert_eq!(try_as(&b, &view, opened).await, Acquisition::HeldBack);
    b.close(opened.0).await.unwrap();
    let (_, later) = lead_once_free(&b).await;
    assert!(later > term && start.elapsed() >= LEASE, "{:?}", start.elapsed());
    // Done also when there is nothing to be done.
    a.close(session).await.unwrap();
    a.release(session, term, None, Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn nobody_slips_past_the_lock_delay_however_often_it_is_tried() {
    let consul = Consul::shared();
    let (rounds, mut tries, mut early) = (20, 0, 0);
    for round in 0..rounds {
        let name = format!("hammered-{round}");
        let a = candidate(&consul, &name, "a");
        let (session, _) = lead(&a).await;
        let held = look(&a).await;
        let hammers: Vec<_> = (0..4)
            .map(|hammer| {
                let b = candidate(&consul, &name, &format!("b-{hammer}"));
                let held = held.clone();
                tokio::spawn(async move {
                    let (session, guarantee, at) = b.open().await.unwrap();
                    let (mut tries, mut won) = (0, 0);
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_millis(250) {
                        // What is seen free now: that is held back.
                        let view = look(&b).await;
                        if seen(&view).is_some() {
                            tries += 1;
                            let opened = (session, guarantee, at);
                            won += i32::from(matches!(try_as(&b, &view, opened).await, Acquisition::Won(_)));
                        }
                        // What was seen free before the holder came, or what it was written as since.
                        for version in [Revision(0), Revision(held.at), Revision(held.at - 1)] {
                            let seen = (version, Revision(held.at));
                            let wanted = AcquireRequest { session, guarantee, seen, hold_off_left: Duration::ZERO };
                            tries += 1;
                            match b.acquire(wanted).await {
                                Acquisition::Won(_) => won += 1,
                                Acquisition::Unknown(error) => panic!("{error}"),
                                Acquisition::Changed | Acquisition::HeldBack => {}
                            }
                        }
                    }
                    (tries, won)
                })
            })
            .collect();
        sleep(Duration::from_millis(80)).await;
        destroy(&consul, session);
        for hammer in hammers {
            let (tried, won) = hammer.await.unwrap();
            tries += tried;
            early += won;
        }
    }
    println!("{early} of {tries} acquires in {rounds} rounds");
    assert_eq!(early, 0);
}

#[tokio::test]
async fn a_lock_deleted_by_hand_is_seen_to_be_nobodys() {
    let consul = Consul::shared();
    let a = candidate(&consul, "deleted", "a");
    let (session, term) = lead(&a).await;
    let mut watch = Watch::start(candidate(&consul, "deleted", "b"));
    watch.until(|view| view.shows(session, term)).await;
    consul.ask("DELETE", "/v1/kv/deleted/leader", "");
    let view = watch.next().await.unwrap();
    assert_eq!(view.lock, Lock::Free { version: Revision(0), taken_from: None });
    assert!(view.at > term.0, "or it would pass for one of before");
    // Its holder may still act: who comes next must wait.
    assert!(view.last.is_some_and(|last| !last.released && last.session == session));
    // The session lives on, and that says nothing.
    assert!(matches!(a.renew(session, term).await, Renewal::Alive(view) if !view.shows(session, term)));
    let b = candidate(&consul, "deleted", "b");
    assert!(lead(&b).await.1 > term);
}

#[tokio::test]
async fn a_lock_overwritten_or_freed_by_hand_is_seen_to_be_not_ours() {
    let consul = Consul::shared();
    let a = candidate(&consul, "overwritten", "a");
    let (session, term) = lead(&a).await;
    consul.ask("PUT", "/v1/kv/overwritten/leader", "mine");
    assert!(matches!(a.renew(session, term).await, Renewal::Alive(view) if !view.shows(session, term)));
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    a.close(session).await.unwrap();

    let a = candidate(&consul, "freed", "a");
    let (session, term) = lead(&a).await;
    let hex = format!("{:032x}", session.0);
    let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    let (_, value) = consul.ask("GET", "/v1/kv/freed/leader?raw", "");
    let (_, freed) = consul.ask("PUT", &format!("/v1/kv/freed/leader?release={id}"), &value);
    assert_eq!(freed.trim(), "true");
    let Renewal::Alive(view) = a.renew(session, term).await else { panic!("the session lives") };
    assert!(matches!(view.lock, Lock::Free { .. }), "{view:?}");
    // However it fell free, whoever comes next waits.
    assert_eq!(view.hold_off(Guarantee::For(LEASE), Rules::default()), LEASE);
    assert!(view.last.is_some_and(|last| last.session == session && !last.released));
}

#[tokio::test]
async fn a_last_that_nobody_can_read_makes_its_successor_wait_long() {
    let consul = Consul::shared();
    let a = candidate(&consul, "unreadable", "a");
    let (session, term) = lead(&a).await;
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    consul.ask("PUT", "/v1/kv/unreadable/last", "{}");
    let last = look(&a).await.last.expect("somebody led");
    assert_eq!((last.guarantee, last.released), (Guarantee::For(Duration::from_secs(60)), false));
}

#[tokio::test]
async fn the_promise_is_the_lock_delay_as_read_back_and_never_more_than_consul_keeps() {
    let consul = Consul::shared();
    let mut long = contest("long", "a");
    long.lease = Duration::from_secs(90);
    let long = LockClient::new(backend(consul.http), long);
    // Consul reads back 90 s, and holds nobody back for longer than 60.
    let (session, guarantee, _) = long.open().await.unwrap();
    assert_eq!(guarantee, Guarantee::For(Duration::from_secs(60)));
    long.close(session).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_the_alive_check_of_its_service_and_not_with_its_health() {
    let consul = Consul::shared();
    let service = service("bound", Duration::from_secs(1));
    let a = LockClient::new(
        backend(consul.http),
        CandidateSettings { service: Some(Arc::clone(&service)), ..contest("bound", "a") },
    );
    // Not registered yet.
    let start = Instant::now();
    let error = a.open().await.map_err(|error| pilotfish::catalog::report(&error)).unwrap_err();
    assert!(error.contains("Missing check 'bound:alive'"), "{error}");
    assert!((Duration::from_millis(1400)..Duration::from_millis(1950)).contains(&start.elapsed()));
    // Just being registered.
    let backend = backend(consul.http);
    let late = async {
        sleep(Duration::from_millis(300)).await;
        publish(&backend, &service).await;
    };
    let (opened, ()) = tokio::join!(a.open(), late);
    let opened = opened.expect("as soon as it is there");
    let view = look(&a).await;
    let Acquisition::Won(term) = try_as(&a, &view, opened).await else { panic!("not won") };
    let ill = Registration {
        service: Arc::clone(&service),
        status: ServiceStatus::Critical,
        note: "ill".to_owned(),
        maintenance: None,
    };
    for _ in 0..5 {
        backend.publish(&ill).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        assert!(matches!(a.renew(opened.0, term).await, Renewal::Alive(view) if view.shows(opened.0, term)));
    }
    // Nobody feeds it any more.
    let b = candidate(&consul, "bound", "b");
    let start = Instant::now();
    while seen(&look(&b).await).is_none() {
        assert!(start.elapsed() < Duration::from_secs(3));
        sleep(Duration::from_millis(20)).await;
    }
    println!("an agent that is gone is noticed after {:?}", start.elapsed());
    assert_eq!(a.renew(opened.0, term).await, Renewal::Gone { void: false });
    assert!(matches!(look(&b).await.lock, Lock::Free { taken_from: Some(from), .. } if from == opened.0));
}

#[tokio::test]
async fn the_watch_tells_held_free_and_held_and_an_outage_once() {
    let consul = Consul::shared();
    let relay = Relay::to(consul.http).await;
    let (a, b) = (candidate(&consul, "watched", "a"), candidate(&consul, "watched", "b"));
    let mut watch = Watch::start(LockClient::new(backend(relay.at), contest("watched", "c")));
    assert!(seen(&watch.next().await.unwrap()).is_some());
    let (session, term) = lead(&a).await;
    // As long as the key isn't there, keys beside it are news.
    watch.until(|view| view.shows(session, term)).await;
    // Renewals are no news.
    for _ in 0..3 {
        a.renew(session, term).await;
    }
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    assert!(watch.next().await.unwrap().last.unwrap().released);
    let (theirs, later) = lead(&b).await;
    assert!(watch.next().await.unwrap().shows(theirs, later));
    relay.lead_to(None);
    watch.next().await.unwrap_err();
    b.release(theirs, later, None, Duration::ZERO).await.unwrap();
    sleep(Duration::from_millis(1200)).await;
    relay.lead_to(Some(consul.http));
    // Of all that failed meanwhile nothing was told.
    assert!(seen(&watch.next().await.unwrap()).is_some());
}

#[tokio::test]
async fn who_only_wants_to_know_sees_the_leader_as_an_instance() {
    let consul = Consul::shared();
    let a = candidate(&consul, "onlooker", "a");
    let (sender, mut events) = mpsc::channel(16);
    let looking = backend(consul.http);
    let seen = ObservationSender::new(sender, Follow::WaitFor(0));
    let follower =
        tokio::spawn(async move { looking.follow(&Query::Leader { election: "onlooker".to_owned() }, seen).await });
    let mut next = async || match timeout(SOON, events.recv()).await.unwrap() {
        Some(Event::Observed { seen: Ok(Observation::Instances(instances)), .. }) => instances.to_vec(),
        other => panic!("not instances: {other:?}"),
    };
    assert!(next().await.is_empty());
    let (_, term) = lead(&a).await;
    let acts = KeyChange::Put(Value(acting_value("a", term).into_bytes().into()));
    backend(consul.http).change(&acting_key("onlooker"), &acts, None).await.unwrap();
    let leader = next().await;
    assert_eq!((leader[0].id.as_str(), leader[0].meta["term"].clone()), ("a", term.0.to_string()));
    follower.abort();
}

#[tokio::test]
async fn a_cut_connection_leaves_unknown_what_was_asked() {
    let consul = Consul::shared();
    let relay = Relay::to(consul.http).await;
    let a = LockClient::new(backend(relay.at), contest("cut", "a"));
    let opened = a.open().await.unwrap();
    let view = look(&a).await;
    relay.lead_to(None);
    assert!(matches!(try_as(&a, &view, opened).await, Acquisition::Unknown(_)));
    assert!(matches!(a.renew(opened.0, Term(1)).await, Renewal::Unknown(_)));
    a.release(opened.0, Term(1), None, Duration::ZERO).await.unwrap_err();
    relay.lead_to(Some(consul.http));
    let Acquisition::Won(term) = try_as(&a, &view, opened).await else { panic!("not won") };
    // One that is no session's any more.
    let b = candidate(&consul, "cut", "b");
    let theirs = b.open().await.unwrap();
    b.close(theirs.0).await.unwrap();
    a.release(opened.0, term, None, Duration::ZERO).await.unwrap();
    let view = look(&b).await;
    let refused = try_as(&b, &view, theirs).await;
    assert!(matches!(&refused, Acquisition::Unknown(error) if error.contains("invalid session")), "{refused:?}");
}

#[tokio::test]
async fn ranks_are_read_for_one_election() {
    let consul = Consul::shared();
    let (a, b) = (candidate(&consul, "ranks", "a/1%"), candidate(&consul, "ranks", "b"));
    let known = |rank| Answer::Known(Rank::Number(rank));
    a.publish_rank(Term(7), &known(-3), true).await.unwrap();
    b.publish_rank(Term(6), &known(9), false).await.unwrap();
    let rank = |id: &str, term, rank, stands| PeerRank { id: id.into(), term: Term(term), answer: known(rank), stands };
    assert_eq!(a.ranks().await.unwrap(), [rank("a/1%", 7, -3, true), rank("b", 6, 9, false)]);
    b.publish_rank(Term(7), &known(9), true).await.unwrap();
    assert_eq!(b.ranks().await.unwrap(), [rank("a/1%", 7, -3, true), rank("b", 7, 9, true)]);
    assert!(candidate(&consul, "rank", "b").ranks().await.unwrap().is_empty());
}

/// docs/catalogs.md has this policy.
#[tokio::test]
async fn a_candidate_needs_no_right_but_those_written_down() {
    const ROOT: &str = "7f4ac3c1-7e0b-4c63-9b8e-6f1a2d3c4b5a";
    let acl = serde_json::json!({"enabled": true, "default_policy": "deny", "tokens": {"master": ROOT, "agent": ROOT}});
    let consul = Consul::start_with(&serde_json::json!({"acl": acl}).to_string(), ROOT);
    let rules = format!(
        r#"service "mysql" {{ policy = "write" }}
        service_prefix "" {{ policy = "read" }}
        node_prefix "" {{ policy = "read" }}
        key "mysql/leader" {{ policy = "write" }}
        key "mysql/last" {{ policy = "write" }}
        key "mysql/acting" {{ policy = "write" }}
        key_prefix "mysql/ranks/" {{ policy = "write" }}
        session "{}" {{ policy = "write" }}"#,
        consul.node
    );
    let policy = serde_json::json!({"Name": "candidate", "Rules": rules});
    let anonymous = serde_json::json!({"Policies": [{"Name": "candidate"}]});
    let token = "/v1/acl/token/00000000-0000-0000-0000-000000000002";
    for (path, body) in [("/v1/acl/policy", policy), (token, anonymous)] {
        // ACLs come up a moment after the server does.
        eventually(path, SOON, || consul.ask("PUT", path, &body.to_string()).0 == 200);
    }
    let (backend, service) = (backend(consul.http), service("mysql", SOON));
    publish(&backend, &service).await;
    let a = LockClient::new(backend.clone(), CandidateSettings { service: Some(service), ..contest("mysql", "a") });
    look(&a).await;
    for rank in 1..=2 {
        let answer = Answer::Known(Rank::Number(rank));
        a.publish_rank(Term(1), &answer, true).await.unwrap();
        assert_eq!(a.ranks().await.unwrap(), [PeerRank { id: "a".into(), term: Term(1), answer, stands: true }]);
    }
    let (session, term) = lead(&a).await;
    assert!(matches!(a.renew(session, term).await, Renewal::Alive(view) if view.shows(session, term)));
    let (fence, acts) = (Fence { election: "mysql".to_owned(), session, term }, acting_value("a", term).into_bytes());
    assert_eq!(backend.get(&acting_key("mysql")).await.unwrap(), None);
    let put = KeyChange::Put(Value(acts.clone().into()));
    assert_eq!(backend.change(&acting_key("mysql"), &put, Some(&fence)).await.unwrap(), Changed::Done);
    assert_eq!(backend.get(&acting_key("mysql")).await.unwrap(), Some(acts));
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    a.close(session).await.unwrap();
}

#[tokio::test]
async fn terms_grow_also_over_a_lock_that_was_deleted() {
    let consul = Consul::shared();
    let a = candidate(&consul, "grow", "a");
    let mut before = Term(0);
    for round in 0..6 {
        let (session, term) = lead(&a).await;
        assert!(term > before, "{term:?} after {before:?}");
        before = term;
        a.release(session, term, None, Duration::ZERO).await.unwrap();
        a.close(session).await.unwrap();
        if round % 2 == 1 {
            consul.ask("DELETE", "/v1/kv/grow?recurse", "");
        }
    }
}

#[tokio::test]
async fn a_heartbeat_of_a_short_ttl_gives_up_in_time_for_another_one() {
    let consul = Consul::start();
    let (backend, service) = (backend(consul.http), service("hangs", Duration::from_secs(3)));
    publish(&backend, &service).await;
    consul.process().signal(nix::sys::signal::Signal::SIGSTOP);
    let start = Instant::now();
    let registration =
        Registration { service, status: ServiceStatus::Passing, note: "ok".to_owned(), maintenance: None };
    backend.publish(&registration).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_leader_keeps_its_lock_over_the_death_of_the_server_that_led() {
    let mut cluster = ConsulCluster::start();
    let leader = cluster.leader(0).expect("one leads");
    let others: Vec<usize> = (0..3).filter(|server| *server != leader).collect();
    let a = LockClient::new(backend(cluster.http[others[0]]), contest("cluster", "a"));
    let mut watch = Watch::start(LockClient::new(backend(cluster.http[others[1]]), contest("cluster", "b")));
    watch.until(|view| seen(view).is_some()).await;
    let (session, term) = lead(&a).await;
    watch.until(|view| view.shows(session, term)).await;
    cluster.down(leader);
    let start = Instant::now();
    let renewed = loop {
        // As the core does: each request is waited for so long.
        match timeout(Duration::from_secs(2), a.renew(session, term)).await {
            Ok(Renewal::Alive(view)) => break view,
            Ok(Renewal::Gone { .. }) => panic!("the session is there"),
            Ok(Renewal::Unknown(_)) | Err(_) => assert!(start.elapsed() < 2 * SOON),
        }
        sleep(Duration::from_millis(100)).await;
    };
    println!("renewed {:?} after the death of the server that led", start.elapsed());
    assert!(renewed.shows(session, term));
    a.release(session, term, None, Duration::ZERO).await.unwrap();
    watch.until(|view| view.last.as_ref().is_some_and(|last| last.released)).await;
}
