//! When main may run, and as what.

use super::*;
use crate::config::backends::{Consul, ConsulAddress, Etcd, Tls};
use crate::config::{Backend, Catalog};

#[test]
fn main_waits_for_the_first_result_and_is_told_its_role() {
    let mut script = Script::candidate(candidate());
    script.expect(&["join db"]);
    script.until(5_000);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER"), Some("other:3306"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), Some("other"));
    assert_eq!(script.variable("main", "PILOTFISH_TERM"), Some("3"));
}

#[test]
fn a_main_that_crashed_as_leader_runs_again_only_when_all_of_the_leaders_has_ended() {
    let mut config = Config { hooks: hooks(), ..candidate() };
    config.process.restart.policy = crate::config::RestartPolicy::Always;
    let mut script = Script::candidate(config);
    script.wins(7);
    script.told();
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    // on_promote was told to end, and takes its time.
    script.until(script.now() + 1_000);
    assert!(!script.told().contains(&"spawn main".to_owned()));
    script.ends("on_promote", 1);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(script.now() + 1_000);
    assert!(script.told().contains(&"spawn main".to_owned()));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), Some("other"));
}

#[test]
fn a_standby_runs_main_only_while_it_leads() {
    let mut script = Script::candidate(standby());
    script.sees_lock(held("other", 9, 3));
    script.until(60_000);
    script.tells(&["join db"]);
    script.sees_lock(View { at: 5, ..free() });
    script.takes(7);
    script.tells(&["open", "acquire", "spawn main"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(120_000);
    script.tells(&["guard off", "release", "close"]);
}

#[test]
fn a_standby_whose_main_fails_runs_it_again_when_it_leads_again() {
    let mut restarted = standby();
    restarted.process.restart.policy = crate::config::RestartPolicy::Always;
    let mut script = Script::leading(restarted);
    script.ends("main", 1);
    script.tells(&["guard off", "release"]);
    script.released();
    let ask = script.asked("look");
    script.event(ElectionEvent::Looked { ask, result: Ok(View { at: 8, ..free() }) });
    script.when("open");
    script.told();
    script.takes(9);
    assert!(script.told().contains(&"spawn main".to_owned()));
}

#[test]
fn a_start_in_an_outage_waits_or_is_a_replica_as_configured() {
    let cut = || ElectionEvent::Saw(Err("cut".to_owned()));
    let mut script = Script::candidate(candidate());
    script.event(cut());
    script.until(3_600_000);
    script.tells(&["join db"]);

    let election = Election { without_catalog: WithoutCatalog::Replica, ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.event(cut());
    assert_eq!(script.when("spawn main"), 2_000);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER"), Some(""));
}

#[test]
fn one_that_led_until_the_outage_goes_on_as_a_replica_where_that_is_configured() {
    let election = Some(Election { without_catalog: WithoutCatalog::Replica, ..election() });
    let mut script = Script::leading(Config { election, ..config() });
    let cut = || ElectionEvent::Saw(Err("cut".to_owned()));
    script.event(cut());
    script.when("SIGTERM to main");
    script.ends("main", 0);
    script.until(script.now() + 1_000);
    assert!(script.told().contains(&"spawn main".to_owned()));
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), Some(""));
    // Once it has given up telling the store that the lock is free.
    script.until(script.now() + 10_000);
    assert_eq!(script.core.status().election.unwrap().leader, None);
}

#[test]
fn what_a_role_waits_for_comes_after_the_first_result() {
    let key = Query::Key { key: "db/snapshot".to_owned() };
    let wait = WaitFor { query: key, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let mut script = Script::candidate(Config { wait_for: vec![wait.clone()], ..candidate() });
    script.expect(&["join db"]);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["follow WaitFor(0)"]);
    let seen = Ok(Observation::Key(Some("1".to_owned())));
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
    script.tells(&["unfollow WaitFor(0)", "spawn main"]);
    // A leader doesn't wait for its own snapshot.
    let mut script = Script::candidate(Config { wait_for: vec![wait], ..candidate() });
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn main"]);
}

#[test]
fn a_leader_does_not_wait_until_it_acts_itself() {
    let query = Query::Leader { election: election().name };
    let wait = WaitFor { query, count: 1, timeout: Duration::from_secs(60), when: When::Always };
    let mut script = Script::candidate(Config { wait_for: vec![wait.clone()], ..candidate() });
    script.wins(7);
    script.tells(&["join db", "open", "acquire", "spawn main"]);
    let mut script = Script::candidate(Config { wait_for: vec![wait], ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.tells(&["join db", "follow WaitFor(0)"]);
}

#[test]
fn who_comes_to_lead_while_it_waits_as_a_replica_waits_no_longer() {
    let key = Query::Key { key: "db/snapshot".to_owned() };
    let wait = WaitFor { query: key, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let mut script = Script::candidate(Config { wait_for: vec![wait], ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.told();
    let last_revision = Revision(5);
    script.sees_lock(View { at: 5, last_revision, ..free() });
    script.until(20_000);
    let ask = script.asked("open");
    script.event(ElectionEvent::Opened { ask, result: Ok((SessionId(7), LEASE, Revision(0))) });
    let ask = script.asked("acquire");
    script.event(ElectionEvent::Acquired { ask, result: Acquisition::Won(Term(7)) });
    let told = script.told();
    assert!(told.ends_with(&["unfollow WaitFor(0)".to_owned(), "spawn main".to_owned()]), "{told:?}");
}

#[test]
fn a_main_that_still_starts_at_its_leases_end_is_killed_once_it_runs() {
    let mut script = Script::candidate(standby());
    script.starts_slowly = true;
    script.wins(7);
    assert_eq!(script.told().last().unwrap(), "spawn main");
    // Between the order and the fork nothing of the agent ran.
    script.sleeps_until(20_000);
    script.main_starts();
    script.tells(&["SIGKILL to main", "SIGKILL to main's group"]);
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    assert!(script.told().contains(&"guard off".to_owned()), "it lives on as a standby");
}

#[test]
fn a_main_that_could_not_start_before_its_leases_end_is_a_standby_again() {
    let mut script = Script::candidate(standby());
    script.starts_slowly = true;
    script.wins(7);
    script.told();
    script.sleeps_until(20_000);
    let run = script.run_of("main");
    let error = SpawnError { code: 126, message: "main: its leader's time is over".to_owned(), hope: Hope::None };
    script.send(Event::SpawnFailed { run, error });
    script.until(20_100);
    let told = script.told();
    assert!(told.contains(&"guard off".to_owned()) && !told.iter().any(|told| told.starts_with("exit")), "{told:?}");
}

#[test]
fn a_main_whose_files_are_still_being_read_at_its_leases_end_never_starts() {
    let mut secret = standby();
    secret.process.env_from_files = [("SECRET".to_owned(), "/run/secret".into())].into();
    let mut script = Script::candidate(secret);
    script.wins(7);
    assert_eq!(script.told().last().unwrap(), "read files");
    script.sleeps_until(20_000);
    script.reads(Ok(Secrets::default()));
    script.until(20_100);
    let told = script.told();
    assert!(told.contains(&"guard off".to_owned()) && !told.contains(&"spawn main".to_owned()), "{told:?}");
    let last = Last {
        id: "me".into(),
        term: Term(7),
        guarantee: LEASE,
        session: SessionId(7),
        released: true,
        to: None,
        ended: false,
        hold_off_left: Duration::ZERO,
    };
    script.sees_lock(View { at: 9, last: Some(last), last_revision: Revision(9), ..free() });
    script.when("open");
    script.takes(10);
    assert_eq!(script.told().last().unwrap(), "read files");
    script.reads(Ok(Secrets::default()));
    script.tells(&["spawn main"]);
}

#[test]
fn one_whose_main_isnt_up_and_healthy_leaves_a_free_lock_to_those_whose_is() {
    let last = Last {
        id: "other".into(),
        session: SessionId(9),
        term: Term(3),
        guarantee: LEASE,
        released: true,
        to: None,
        ended: false,
        hold_off_left: Duration::ZERO,
    };
    let free_again = || View { at: 5, last: Some(last.clone()), last_revision: Revision(5), ..free() };
    let health = vec![check("ping", OnFailure::Report)];
    let hooks = Hooks { pre_start: vec![pre_start(0)], ..Hooks::default() };
    // In the midst of pre_start, up and not yet healthy, healthy.
    for (prepared, healthy, after) in [(false, false, 2_000), (true, false, 2_000), (true, true, 0)] {
        let mut script = Script::candidate(Config { hooks: hooks.clone(), health: health.clone(), ..candidate() });
        script.sees_lock(held("other", 9, 3));
        if prepared {
            script.ends("pre_start", 0);
        }
        if healthy {
            script.answer("probe", Ok(()));
        }
        script.told();
        script.sees_lock(free_again());
        assert_eq!(script.when("open"), after, "{prepared} {healthy}");
    }
    // None of the standbys runs main before it leads.
    let mut script = Script::candidate(standby());
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(free_again());
    assert_eq!(script.when("open"), 0);
}

#[test]
fn a_witness_that_goes_and_comes_back_is_said_once_each_and_shown() {
    let election = Election { witness: Some("/run/pilotfish".into()), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    let shown = |script: &Script| script.core.status().election.and_then(|election| election.witness).unwrap();
    assert_eq!((shown(&script).directory.as_str(), shown(&script).stands), ("/run/pilotfish", false));
    let said = |script: &Script| {
        let lost = script.said.iter().filter(|notice| matches!(notice, Notice::WitnessLost { .. })).count();
        let back = script.said.iter().filter(|notice| matches!(notice, Notice::WitnessBack)).count();
        (lost, back)
    };
    script.send(Event::Witness { stands: Ok(()) });
    assert_eq!((shown(&script).stands, said(&script)), (true, (0, 0)));
    for why in ["gone", "refused"] {
        script.send(Event::Witness { stands: Err(why.to_owned()) });
        assert_eq!((shown(&script).stands, shown(&script).error.as_deref(), said(&script)), (false, Some(why), (1, 0)));
    }
    script.send(Event::Witness { stands: Ok(()) });
    assert_eq!((shown(&script).stands, shown(&script).error, said(&script)), (true, None, (1, 1)));
}

/// Where the lock is a key that anybody with the right may write.
pub fn on_etcd() -> Config {
    let tls = Tls { ca: None, identity: None, server_name: None };
    let etcd = Etcd { endpoints: Vec::new(), login: None, tls };
    let catalog = Catalog { backend: Backend::Etcd(Box::new(etcd)), prefix: "prod".to_owned() };
    Config { catalog, ..candidate() }
}

#[test]
fn a_lock_that_somebody_has_overwritten_is_said_once_with_its_key_and_is_no_leader() {
    let mut script = Script::candidate(on_etcd());
    script.sees_lock(held("other", 9, 3));
    script.sees_holder(held("(unknown)", 0, 3));
    script.sees_holder(held("(unknown)", 0, 4));
    let said = script.said.iter().filter(|notice| notice.name().starts_with("election.l"));
    let said: Vec<String> = said.map(|notice| format!("{}: {notice}", notice.name())).collect();
    let foreign = "the value of its lock, prod/elections/db/leader, isn't pilotfish's; delete the key";
    let expected = [
        "election.leader_changed: other at other:3306 leads".to_owned(),
        format!("election.lock_foreign: nobody can lead db: {foreign}"),
    ];
    assert_eq!(said, expected);
    let status = script.core.status().election.unwrap();
    assert_eq!((status.leader.is_none(), status.doing.as_str()), (true, foreign));
    script.sees_lock(View { at: 5, ..free() });
    let status = script.core.status().election.unwrap();
    assert_eq!(status.doing, "waiting for a leader");
}

#[test]
fn a_lock_of_consuls_that_somebody_has_overwritten_is_free_with_its_session() {
    let tls = Tls { ca: None, identity: None, server_name: None };
    let address = ConsulAddress::Unix("/run/consul".into());
    let consul = Consul { address, token: None, basic: None, tls };
    let catalog = Catalog { backend: Backend::Consul(Box::new(consul)), prefix: "prod".to_owned() };
    let mut script = Script::candidate(Config { catalog, ..candidate() });
    script.sees_holder(held("(unknown)", 9, 3));
    let doing = script.core.status().election.unwrap().doing;
    assert_eq!(
        doing,
        "the value of its lock, db/leader, isn't pilotfish's: it is free once the session that holds it ends"
    );
}

#[test]
fn who_never_stands_says_so() {
    let election = Election { prefer: Preference::Never, ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    let doing = |script: &Script| script.core.status().election.unwrap().doing;
    assert_eq!(doing(&script), "waiting for a leader; it never stands (`prefer = \"never\"`)");
    script.sees_lock(held("other", 9, 3));
    assert_eq!(doing(&script), "following; it never stands (`prefer = \"never\"`)");
}
