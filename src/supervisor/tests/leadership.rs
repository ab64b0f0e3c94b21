//! What an election means for the container, as scripts: an engine that a test plays, and what main and hooks are told.

use std::time::Duration;

use super::script::*;
use crate::config::election::{Fence, Mode, Pace, Preference, RoleTags, WithoutCatalog};
use crate::config::{Config, Election, Hook, Hooks, OnFailure, Query, Signal, WaitFor, When};
use crate::supervisor::Event;
use crate::supervisor::election::fact::{Acquisition, Fact, Renewal};
use crate::supervisor::election::record::{Guarantee, Holder, Last, Lock, SessionId, Term, Version, View};
use crate::supervisor::event::*;

const LEASE: Guarantee = Guarantee::For(Duration::from_secs(15));

pub fn election() -> Election {
    Election {
        name: "db".to_owned(),
        id: "me".to_owned(),
        service: None,
        mode: Mode::Role,
        lease: Duration::from_secs(15),
        alive_ttl: Duration::from_secs(3),
        pace: Pace {
            renew: Duration::from_secs(1),
            request: Duration::from_secs(2),
            demote: Duration::from_secs(5),
            kill_margin: Duration::from_secs(1),
        },
        require_health: true,
        prefer: Preference::Normal,
        rank: None,
        without_catalog: WithoutCatalog::Wait,
        role_tags: None,
        fence: Fence::Namespace,
    }
}

fn candidate() -> Config {
    Config { election: Some(election()), ..config() }
}

fn standby() -> Config {
    Config { election: Some(Election { mode: Mode::Standby, ..election() }), ..config() }
}

fn hooks() -> Hooks {
    Hooks {
        on_promote: Some(hook("promote")),
        on_demote: Some(hook("demote")),
        on_leader_change: Some(hook("follow")),
        ..Hooks::default()
    }
}

fn free() -> View {
    View { at: 1, lock: Lock::Free { version: Version(0), taken_from: None }, last: None, last_version: Version(0) }
}

pub fn held(id: &str, session: u128, term: u64) -> View {
    let holder = Holder {
        id: id.into(),
        session: SessionId(session),
        term: Term(term),
        address: Some(format!("{id}:3306").into()),
        vacancy: None,
    };
    View { at: term, lock: Lock::Held(holder), last: None, last_version: Version(0) }
}

impl Script {
    fn candidate(config: Config) -> Script {
        let mut script = Script::start(config);
        script.send(Event::Guard { stands: true });
        script
    }

    fn sees_lock(&mut self, view: View) {
        self.fact(Fact::Saw(Ok(view)));
    }

    /// Sees the lock free and takes it, for this term.
    fn wins(&mut self, term: u64) {
        self.sees_lock(free());
        self.takes(term);
    }

    fn takes(&mut self, term: u64) {
        let session = SessionId(u128::from(term));
        self.fact(Fact::Opened { ask: self.asked("open"), result: Ok((session, LEASE)) });
        self.fact(Fact::Acquired { ask: self.asked("acquire"), result: Acquisition::Won(Term(term)) });
        self.sees_lock(held("me", u128::from(term), term));
    }

    fn released(&mut self) {
        self.fact(Fact::Released { ask: self.asked("release"), result: Ok(()) });
    }

    /// What was heard but for what comes all the time.
    fn told(&mut self) -> Vec<String> {
        let noise = ["renew", "look", "guard", "doors"];
        self.heard().into_iter().filter(|heard| !noise.contains(&heard.as_str())).collect()
    }

    #[track_caller]
    fn tells(&mut self, orders: &[&str]) {
        assert_eq!(self.told(), orders);
    }

    fn variable(&self, of: &str, name: &str) -> Option<&str> {
        self.env.get(of)?.get(name).map(String::as_str)
    }

    /// Having led, it sees the lock free for long and takes it again.
    fn leads_again(&mut self) {
        self.sees_lock(View { at: 9, last_version: Version(9), ..free() });
        self.until(self.now() + 20_000);
        self.takes(10);
    }

    /// A leader with a main that runs, promoted if there is a hook for that.
    fn leading(config: Config) -> Script {
        let has_hook = config.hooks.on_promote.is_some();
        let mut script = Script::candidate(config);
        script.wins(7);
        if has_hook {
            script.ends("on_promote", 0);
        }
        script.told();
        script
    }
}

#[test]
fn main_waits_for_the_first_result_and_is_told_its_role() {
    let mut script = Script::candidate(candidate());
    script.expect(&["contest db"]);
    script.until(5_000);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER"), Some("other:3306"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), Some("other"));
    assert_eq!(script.variable("main", "PILOTFISH_TERM"), Some("3"));
}

#[test]
fn a_leader_prepares_starts_and_promotes_main_in_this_order() {
    let hooks = Hooks { pre_start: Some(pre_start(0)), ..hooks() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.tells(&["contest db", "open", "acquire", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("leader"));
    assert_eq!(script.variable("pre_start", "PILOTFISH_TERM"), Some("7"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main", "spawn on_promote"]);
    assert_eq!(script.variable("on_promote", "PILOTFISH_TERM"), Some("7"));
    script.ends("on_promote", 0);
    script.tells(&[]);
    let status = script.core.status().election.unwrap();
    assert_eq!((status.role.as_str(), status.promoted, status.doing.as_str()), ("leader", true, "leading"));
}

#[test]
fn main_is_promoted_once_its_checks_pass() {
    let health = vec![check("ping", OnFailure::Report)];
    let mut script = Script::candidate(Config { hooks: hooks(), health, ..candidate() });
    script.wins(7);
    script.tells(&["contest db", "open", "acquire", "spawn main", "probe"]);
    script.answer("probe", Ok(()));
    script.tells(&["spawn on_promote"]);
}

#[test]
fn main_is_promoted_ill_where_the_election_doesnt_ask_for_health_once_that_is_known() {
    let health = vec![check("ping", OnFailure::Report)];
    let election = Some(Election { require_health: false, ..election() });
    let mut script = Script::candidate(Config { hooks: hooks(), health, election, ..config() });
    script.wins(7);
    script.tells(&["contest db", "open", "acquire", "spawn main", "probe"]);
    script.answer("probe", Err("no answer"));
    script.tells(&["spawn on_promote"]);
}

#[test]
fn hooks_of_the_stop_go_by_the_role_it_began_in() {
    let of = |name: &str, when: When| Some(Hook { when, ..hook(name) });
    let hooks = |when| Hooks { pre_stop: of("pre", when), post_stop: of("post", when), ..Hooks::default() };
    let mut leader = Script::leading(Config { hooks: hooks(When::Leader), ..candidate() });
    leader.signal(Signal::TERM);
    leader.tells(&["spawn pre_stop"]);
    leader.ends("pre_stop", 0);
    leader.tells(&["SIGTERM to main"]);
    leader.ends("main", 0);
    leader.tells(&["guard off", "release"]);
    leader.released();
    leader.tells(&["close", "spawn post_stop"]);

    let mut replica = Script::candidate(Config { hooks: hooks(When::Leader), ..candidate() });
    replica.sees_lock(held("other", 9, 3));
    replica.told();
    replica.signal(Signal::TERM);
    replica.tells(&["SIGTERM to main"]);
    replica.ends("main", 0);
    replica.tells(&["exit 0"]);
}

#[test]
fn a_stop_while_the_role_is_left_runs_no_hook_of_the_leaders_before_main() {
    let pre_stop = Some(Hook { when: When::Leader, ..hook("pre") });
    let hooks = Hooks { pre_stop, ..hooks() };
    let mut script = Script::leading(Config { hooks, ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.signal(Signal::TERM);
    script.ends("on_demote", 0);
    assert!(!script.told().contains(&"spawn pre_stop".to_owned()));
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
fn a_main_that_ended_as_leader_ends_the_container_after_the_leaders_post_stop() {
    let post_stop = Some(Hook { when: When::Leader, ..hook("post") });
    let mut script = Script::leading(Config { hooks: Hooks { post_stop, ..Hooks::default() }, ..candidate() });
    script.ends("main", 0);
    script.released();
    script.tells(&["guard off", "release", "close", "spawn post_stop"]);
    script.ends("post_stop", 0);
    script.tells(&["exit 0"]);
}

#[test]
fn a_replica_is_told_of_each_new_leader_and_not_of_the_one_it_started_with() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.tells(&["contest db", "spawn main"]);
    script.sees_lock(held("third", 10, 4));
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER"), Some("third:3306"));
    // One at a time; the last one counts.
    script.sees_lock(held("other", 11, 5));
    script.sees_lock(held("fourth", 12, 6));
    script.tells(&[]);
    script.ends("on_leader_change", 0);
    script.tells(&["spawn on_leader_change"]);
    assert_eq!(script.variable("on_leader_change", "PILOTFISH_LEADER_ID"), Some("fourth"));
}

#[test]
fn a_replica_that_comes_to_lead_is_promoted_and_main_runs_on() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    let last = Last {
        id: "other".into(),
        session: SessionId(9),
        term: Term(3),
        guarantee: LEASE,
        released: true,
        to: None,
        ended: false,
        owed: Duration::ZERO,
    };
    script.told();
    script.sees_lock(View { at: 4, last: Some(last), last_version: Version(4), ..free() });
    script.takes(7);
    script.tells(&["open", "acquire", "spawn on_promote"]);
}

#[test]
fn a_peaceful_step_down_releases_only_after_on_demote_and_main_lives() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: Some("other".to_owned()) } });
    script.tells(&["reply ok", "spawn on_demote"]);
    assert_eq!(script.variable("on_demote", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("on_demote", "PILOTFISH_TERM"), Some("7"));
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close"]);
    script.sees_lock(held("other", 9, 8));
    script.tells(&["spawn on_leader_change"]);
}

#[test]
fn without_on_demote_main_is_stopped_and_starts_again_as_a_replica() {
    let hooks = Hooks { pre_start: Some(pre_start(0)), ..Hooks::default() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.ends("pre_start", 0);
    script.told();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.tells(&["close", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("replica"));
    script.ends("pre_start", 0);
    script.tells(&["spawn main"]);
}

#[test]
fn an_on_demote_that_fails_or_hangs_has_main_stopped() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.ends("on_demote", 1);
    script.tells(&["reply ok", "spawn on_demote", "SIGTERM to main"]);

    let short =
        Hooks { on_demote: Some(crate::config::Hook { timeout: Duration::from_secs(3), ..hook("demote") }), ..hooks() };
    let mut script = Script::leading(Config { hooks: short, ..candidate() });
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.told();
    assert_eq!(script.when("SIGTERM to main"), 3_000);
}

#[test]
fn a_silent_engine_has_the_leader_demoted_in_time_and_killed_at_the_deadline() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    // 14.85 s to act on, one to kill, five to step down.
    let told = script.when("spawn on_demote");
    assert!((8_800..9_000).contains(&told), "{told}");
    let killed = script.when("SIGKILL to main");
    assert!((13_800..13_900).contains(&killed), "{killed}");
    script.ends_as("main", ExitStatus::Killed(Signal::KILL));
    script.ends_as("on_demote", ExitStatus::Killed(Signal::KILL));
    assert!(script.told().contains(&"guard off".to_owned()));
    // The container lives on, and main runs again once it is known who leads.
    script.sees_lock(held("other", 9, 8));
    assert!(script.told().contains(&"spawn main".to_owned()));
}

#[test]
fn an_agent_that_slept_past_its_lease_kills_before_it_listens() {
    let mut script = Script::leading(candidate());
    script.until(1_000);
    script.sleeps_until(20_000);
    let ask = script.asked("renew");
    script.fact(Fact::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
    assert_eq!(script.told()[0], "SIGKILL to main");
}

#[test]
fn mains_own_end_gives_the_lock_back_before_main_starts_again() {
    let mut restarted = Config { hooks: hooks(), ..candidate() };
    restarted.process.restart.policy = crate::config::RestartPolicy::Always;
    let mut script = Script::leading(restarted);
    script.ends("main", 1);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(held("other", 9, 8));
    script.until(1_000);
    script.tells(&["close", "spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn an_ill_leader_steps_down_and_stands_again_when_well() {
    let health = vec![check("ping", OnFailure::Report)];
    let mut script = Script::candidate(Config { hooks: hooks(), health, ..candidate() });
    script.wins(7);
    script.answer("probe", Ok(()));
    script.ends("on_promote", 0);
    script.told();
    script.when("probe");
    script.told();
    script.answer("probe", Err("down"));
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.released();
    script.tells(&["guard off", "release", "close"]);
    let ask = script.asked("look");
    script.fact(Fact::Looked { ask, result: Ok(free()) });
    script.until(9_000);
    assert!(!script.told().contains(&"open".to_owned()), "it doesn't stand while it is ill");
    script.when("probe");
    script.answer("probe", Ok(()));
    script.when("open");
}

#[test]
fn a_failed_promotion_is_undone_and_given_back() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    script.ends("on_promote", 1);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}

#[test]
fn a_leader_that_must_go_while_it_prepares_ends_that_first() {
    let hooks = Hooks { pre_start: Some(pre_start(0)), ..Hooks::default() };
    let mut script = Script::candidate(Config { hooks, ..candidate() });
    script.wins(7);
    script.told();
    script.sees_lock(held("other", 9, 8));
    // Others may act already.
    script.tells(&["SIGTERM to pre_start's group", "SIGKILL to pre_start's group"]);
    script.ends_as("pre_start", ExitStatus::Killed(Signal::KILL));
    script.until(100);
    script.tells(&["guard off", "close", "spawn pre_start"]);
    assert_eq!(script.variable("pre_start", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn a_standby_runs_main_only_while_it_leads() {
    let mut script = Script::candidate(standby());
    script.sees_lock(held("other", 9, 3));
    script.until(60_000);
    script.tells(&["contest db"]);
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
    script.fact(Fact::Looked { ask, result: Ok(free()) });
    script.when("open");
    script.told();
    script.takes(9);
    assert!(script.told().contains(&"spawn main".to_owned()));
}

#[test]
fn a_graceful_stop_demotes_stops_main_and_then_releases() {
    let hooks = Hooks { pre_stop: Some(hook("drain")), ..hooks() };
    let services = vec![service("web")];
    let mut script = Script::leading(Config { hooks, services, ..candidate() });
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.tells(&["publish web draining", "spawn pre_stop"]);
    script.ends("pre_stop", 0);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    // Out of the role, the lock is free for the next while main still ends.
    script.tells(&["guard off", "release", "SIGTERM to main"]);
    script.released();
    script.ends("main", 0);
    script.published("web", Ok(()));
    assert_eq!(script.told(), ["close", "withdraw web"]);
}

#[test]
fn a_stop_whose_on_demote_fails_releases_only_when_main_is_gone() {
    let services = vec![service("web")];
    let mut script = Script::leading(Config { hooks: hooks(), services, ..candidate() });
    script.published("web", Ok(()));
    script.signal(Signal::TERM);
    script.ends("on_demote", 1);
    script.tells(&["publish web draining", "spawn on_demote", "SIGTERM to main"]);
    script.published("web", Ok(()));
    script.ends("main", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close", "withdraw web"]);
    script.withdrawn("web");
    script.tells(&["exit 0"]);
}

#[test]
fn an_engine_that_does_not_answer_holds_a_leaders_end_for_half_a_second() {
    let mut script = Script::leading(candidate());
    script.signal(Signal::TERM);
    script.ends("main", 0);
    script.told();
    assert_eq!(script.when("exit 0"), 500);
}

#[test]
fn a_second_signal_waits_for_no_on_demote() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.signal(Signal::TERM);
    script.signal(Signal::TERM);
    script.tells(&["spawn on_demote", "SIGTERM to on_demote's group", "SIGTERM to main"]);
}

#[test]
fn a_container_that_stops_comes_to_lead_no_more() {
    let mut script = Script::candidate(candidate());
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.signal(Signal::TERM);
    script.sees_lock(View { at: 9, ..free() });
    script.until(3_000);
    script.tells(&["SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["exit 0"]);
}

#[test]
fn a_start_in_an_outage_waits_or_is_a_replica_as_configured() {
    let cut = || Fact::Saw(Err("cut".to_owned()));
    let mut script = Script::candidate(candidate());
    script.fact(cut());
    script.until(3_600_000);
    script.tells(&["contest db"]);

    let election = Election { without_catalog: WithoutCatalog::Replica, ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.fact(cut());
    assert_eq!(script.when("spawn main"), 2_000);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER"), None);
}

#[test]
fn one_that_led_until_the_outage_goes_on_as_a_replica_where_that_is_configured() {
    let election = Some(Election { without_catalog: WithoutCatalog::Replica, ..election() });
    let mut script = Script::leading(Config { election, ..config() });
    let cut = || Fact::Saw(Err("cut".to_owned()));
    script.fact(cut());
    script.when("SIGTERM to main");
    script.ends("main", 0);
    script.until(script.now() + 1_000);
    assert!(script.told().contains(&"spawn main".to_owned()));
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
    assert_eq!(script.variable("main", "PILOTFISH_LEADER_ID"), None);
    // Once it has given up telling the engine that the lock is free.
    script.until(script.now() + 10_000);
    assert_eq!(script.core.status().election.unwrap().leader, None);
}

#[test]
fn what_a_role_waits_for_comes_after_the_first_result() {
    let key = Query::Key { key: "db/snapshot".to_owned() };
    let wait = WaitFor { query: key, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let mut script = Script::candidate(Config { wait_for: vec![wait.clone()], ..candidate() });
    script.expect(&["contest db"]);
    script.sees_lock(held("other", 9, 3));
    script.tells(&["follow WaitFor(0)"]);
    let seen = Ok(Observation::Key(Some("1".to_owned())));
    script.send(Event::Observed { follow: Follow::WaitFor(0), seen });
    script.tells(&["unfollow WaitFor(0)", "spawn main"]);
    // A leader doesn't wait for its own snapshot.
    let mut script = Script::candidate(Config { wait_for: vec![wait], ..candidate() });
    script.wins(7);
    script.tells(&["contest db", "open", "acquire", "spawn main"]);
}

#[test]
fn who_comes_to_lead_while_it_waits_as_a_replica_waits_no_longer() {
    let key = Query::Key { key: "db/snapshot".to_owned() };
    let wait = WaitFor { query: key, count: 1, timeout: Duration::from_secs(60), when: When::Replica };
    let mut script = Script::candidate(Config { wait_for: vec![wait], ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.told();
    let last_version = Version(5);
    script.sees_lock(View { at: 5, last_version, ..free() });
    script.until(20_000);
    let ask = script.asked("open");
    script.fact(Fact::Opened { ask, result: Ok((SessionId(7), LEASE)) });
    let ask = script.asked("acquire");
    script.fact(Fact::Acquired { ask, result: Acquisition::Won(Term(7)) });
    let told = script.told();
    assert!(told.ends_with(&["unfollow WaitFor(0)".to_owned(), "spawn main".to_owned()]), "{told:?}");
}

#[test]
fn the_catalog_tells_the_role_once_it_is_taken() {
    let tags = RoleTags { leader: "primary".to_owned(), replica: "standby".to_owned() };
    let election = Election { service: Some("web".to_owned()), role_tags: Some(tags), ..election() };
    let services = vec![service("web")];
    let mut script = Script::candidate(Config { election: Some(election), services, hooks: hooks(), ..config() });
    // A candidate is in the catalog before main runs: what it stands by is bound to its service.
    script.expect(&["contest db", "publish web critical"]);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["standby"]);
    script.wins(7);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["standby"]);
    script.ends("on_promote", 0);
    script.published("web", Ok(()));
    assert_eq!(script.tags["web"], ["primary"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    assert_eq!(script.tags["web"], ["standby"]);
}

#[test]
fn a_watch_of_one_role_acts_in_that_role_only() {
    let watches = vec![crate::config::Watch { when: When::Leader, ..watch("app") }];
    let mut script = Script::candidate(Config { watches, hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.until(1_000);
    script.tells(&["follow Watch(\"app\")", "contest db", "spawn main"]);
    script.sees_lock(View { at: 5, last_version: Version(5), ..free() });
    script.until(40_000);
    script.told();
    script.takes(7);
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn a_rank_is_what_its_command_prints() {
    let election = Election { rank: Some(hook("rank")), ..election() };
    let mut script = Script::candidate(Config { election: Some(election), ..config() });
    script.sees_lock(free());
    script.tells(&["contest db", "spawn rank"]);
    let run = script.run("rank");
    script.send(Event::Printed { run, text: " 42\n".to_owned() });
    script.ends("rank", 0);
    script.tells(&["publish rank", "open"]);
}

#[test]
fn a_guard_that_ended_is_started_again_and_not_in_a_hurry() {
    let mut script = Script::candidate(candidate());
    script.until(5_000);
    script.heard();
    script.send(Event::Guard { stands: false });
    script.expect(&["start guard"]);
    script.send(Event::Guard { stands: true });
    script.send(Event::Guard { stands: false });
    script.expect(&[]);
    assert_eq!(script.when("start guard"), 6_000);
}

#[test]
fn a_leader_in_maintenance_leaves_the_rotation_then_the_role_and_stands_again_after_it() {
    let config = Config { hooks: hooks(), services: vec![service("web")], ..candidate() };
    let mut script = Script::leading(config);
    script.published("web", Ok(()));
    script.told();
    script.maintenance(None, Some("disk"));
    script.tells(&["publish web passing, in maintenance: disk", "reply ok", "spawn on_demote"]);
    script.published("web", Ok(()));
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.sees_lock(View { at: 9, ..free() });
    script.told();
    script.until(60_000);
    // It looks, as every follower does, and takes nothing.
    script.tells(&[]);
    script.maintenance_off();
    script.published("web", Ok(()));
    script.tells(&["publish web passing", "open", "reply ok"]);
}

#[test]
fn a_follower_in_maintenance_leaves_a_free_lock_to_others() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.maintenance(Some(60_000), None);
    script.told();
    script.sees_lock(View { at: 9, ..free() });
    script.until(59_000);
    script.tells(&[]);
    assert_eq!(script.when("open"), 60_000);
}

#[test]
fn a_leader_without_on_demote_runs_on_as_a_replica_in_maintenance() {
    let mut script = Script::leading(candidate());
    script.maintenance(None, None);
    script.tells(&["reply ok", "SIGTERM to main"]);
    script.ends("main", 0);
    script.tells(&["guard off", "release", "spawn main"]);
    assert_eq!(script.variable("main", "PILOTFISH_ROLE"), Some("replica"));
}

#[test]
fn a_leader_that_stops_in_the_midst_of_a_demotion_for_maintenance_releases_once() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    script.maintenance(None, None);
    script.signal(Signal::TERM);
    script.ends("on_demote", 0);
    script.ends("main", 0);
    script.tells(&["reply ok", "spawn on_demote", "guard off", "release", "SIGTERM to main"]);
    script.released();
    script.tells(&["close", "exit 0"]);
}

#[test]
fn only_a_leader_can_step_down() {
    let mut script = Script::candidate(candidate());
    script.sees_lock(held("other", 9, 3));
    script.told();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.tells(&["reply error"]);
    let mut script = Script::start(config());
    script.heard();
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    script.send(Event::Control { reply: ReplyId(2), request: Request::AcceptTerm });
    script.expect(&["reply error", "reply error"]);
}

#[test]
fn a_main_that_sigkill_does_not_end_keeps_the_lock_until_the_container_ends() {
    let mut script = Script::leading(candidate());
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
    let mut told = Vec::new();
    while !told.iter().any(|order: &String| order.starts_with("exit")) {
        let now = script.core.next_deadline().expect("it goes on");
        script.until(now.from_boot().as_millis() as u64 + 1);
        told.extend(script.told());
        if let Some(ask) = script.try_asked("renew") {
            script.fact(Fact::Renewed { ask, result: Renewal::Alive(held("me", 7, 7)) });
        }
    }
    assert!(!told.contains(&"release".to_owned()), "{told:?}");
}

/// A replica whose `on_leader_change` runs as it comes to lead.
fn leading_while_it_follows(more: Config) -> Script {
    let mut script = Script::candidate(more);
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(held("third", 10, 4));
    assert_eq!(script.told().last().unwrap(), "spawn on_leader_change");
    script.sees_lock(View { at: 5, last_version: Version(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script
}

fn step_down(script: &mut Script) {
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
}

const TERMINATED: ExitStatus = ExitStatus::Killed(Signal::TERM);

#[test]
fn main_is_promoted_only_when_the_hook_that_had_it_follow_another_is_gone() {
    let mut script = leading_while_it_follows(Config { hooks: hooks(), ..candidate() });
    script.tells(&["acquire", "SIGTERM to on_leader_change's group"]);
    script.ends_leaving("on_leader_change", TERMINATED);
    script.tells(&[]);
    script.until(21_000);
    script.group_ends("on_leader_change");
    script.tells(&["spawn on_promote"]);
}

#[test]
fn a_hook_for_replicas_that_ignores_sigterm_holds_a_promotion_until_it_is_killed() {
    let on_promote = crate::config::Hook { timeout: Duration::from_secs(4), ..hook("promote") };
    let hooks = Hooks { on_promote: Some(on_promote), ..hooks() };
    let mut script = leading_while_it_follows(Config { hooks, ..candidate() });
    assert_eq!(script.when("SIGKILL to on_leader_change's group"), 22_000);
    script.ends_as("on_leader_change", ExitStatus::Killed(Signal::KILL));
    script.tells(&["spawn on_promote"]);
    // Its own time begins only now.
    assert_eq!(script.when("SIGTERM to on_promote's group"), 26_000);
}

#[test]
fn a_hook_for_replicas_that_nothing_ends_makes_the_promotion_fail() {
    let mut script = leading_while_it_follows(Config { hooks: hooks(), ..candidate() });
    assert_eq!(script.when("spawn on_demote"), 23_000);
    assert!(!script.told().contains(&"spawn on_promote".to_owned()));
    assert!(script.said.iter().any(|notice| notice.to_string().contains("what ran for a replica doesn't end")));
}

#[test]
fn a_change_acted_on_for_replicas_only_is_cut_short_by_a_promotion() {
    let watches = vec![crate::config::Watch { when: When::Replica, ..watch("app") }];
    let mut script = Script::candidate(Config { watches, hooks: hooks(), ..candidate() });
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.sees_lock(View { at: 5, last_version: Version(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script.tells(&["acquire", "SIGTERM to on_change of app's group"]);
    script.ends_as("on_change of app", TERMINATED);
    script.tells(&["spawn on_promote"]);
    script.ends("on_promote", 0);
    script.until(25_000);
    script.tells(&[]);
    // It was cut short, so that it isn't done.
    step_down(&mut script);
    script.ends("on_demote", 0);
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn the_lock_is_kept_while_a_child_of_a_cancelled_on_promote_lives() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    step_down(&mut script);
    script.ends_leaving("on_promote", TERMINATED);
    script.tells(&["SIGTERM to on_promote's group", "reply ok"]);
    assert_eq!(script.when("SIGKILL to on_promote's group"), 2_000);
    script.tells(&["spawn on_demote"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
}

#[test]
fn the_lock_is_kept_while_an_on_promote_past_its_timeout_lives() {
    let on_promote = crate::config::Hook { timeout: Duration::from_secs(3), ..hook("promote") };
    let mut script =
        Script::candidate(Config { hooks: Hooks { on_promote: Some(on_promote), ..hooks() }, ..candidate() });
    script.wins(7);
    assert_eq!(script.when("SIGTERM to on_promote's group"), 3_000);
    script.ends_leaving("on_promote", TERMINATED);
    script.tells(&[]);
    script.until(4_000);
    script.group_ends("on_promote");
    script.tells(&["spawn on_demote"]);
}

#[test]
fn what_a_killed_leaders_hook_left_is_killed_too() {
    let mut script = Script::candidate(Config { hooks: hooks(), ..candidate() });
    script.wins(7);
    script.told();
    step_down(&mut script);
    script.ends_leaving("on_promote", TERMINATED);
    script.told();
    script.sees_lock(held("other", 9, 8));
    assert!(script.told().contains(&"SIGKILL to on_promote's group".to_owned()));
}

fn for_leaders(watch: crate::config::Watch) -> Config {
    let watches = vec![crate::config::Watch { when: When::Leader, ..watch }];
    Config { watches, hooks: hooks(), ..candidate() }
}

#[test]
fn a_reload_does_not_hide_a_leaders_hook_from_a_step_down() {
    let mut script = Script::leading(for_leaders(watch("app")));
    script.sees("app", &["a"]);
    script.tells(&["spawn on_change of app"]);
    script.send(Event::Control { reply: ReplyId(1), request: Request::Reload });
    script.send(Event::ConfigLoaded(Ok(Box::new(Config { hooks: hooks(), ..candidate() }))));
    script.told();
    step_down(&mut script);
    script.tells(&["SIGTERM to on_change of app's group", "reply ok"]);
    script.ends_as("on_change of app", TERMINATED);
    script.tells(&["spawn on_demote"]);
}

#[test]
fn a_leaders_change_that_is_cut_short_signals_nobody_and_is_acted_on_by_the_next_leadership() {
    let mut script = Script::leading(for_leaders(crate::config::Watch { signal: Some(Signal::HUP), ..watch("app") }));
    script.sees("app", &["a"]);
    script.told();
    step_down(&mut script);
    script.ends_as("on_change of app", TERMINATED);
    script.ends("on_demote", 0);
    script.tells(&["SIGTERM to on_change of app's group", "reply ok", "spawn on_demote", "guard off", "release"]);
    script.released();
    script.leads_again();
    assert!(script.told().contains(&"spawn on_change of app".to_owned()));
}

#[test]
fn a_template_of_the_leaders_that_is_first_rendered_while_main_runs_is_told_to_main() {
    let mut script = Script::candidate(for_leaders(super::watch::templated()));
    script.sees_lock(held("other", 9, 3));
    script.sees("app", &["a"]);
    script.told();
    script.sees_lock(View { at: 5, last_version: Version(5), ..free() });
    script.until(40_000);
    script.takes(7);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.told();
    script.installed("app");
    script.tells(&["SIGHUP to main"]);
}

/// A leader that runs with the first file for leaders in place.
fn leading_with_template() -> Script {
    let mut script = Script::candidate(for_leaders(super::watch::templated()));
    script.wins(7);
    script.sees("app", &["a"]);
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    script.ends("on_promote", 0);
    script.until(1_000);
    script
}

#[test]
fn a_file_for_leaders_goes_no_further_once_the_role_is_gone() {
    let mut script = leading_with_template();
    // While it is rendered.
    script.sees("app", &["a", "b"]);
    script.told();
    step_down(&mut script);
    script.staged("app");
    script.tells(&["reply ok", "spawn on_demote", "discard"]);

    let mut script = leading_with_template();
    script.sees("app", &["a", "b"]);
    script.staged("app");
    script.ends("template_check of app", 0);
    script.told();
    // While it is put in place.
    step_down(&mut script);
    script.installed("app");
    script.ends("on_demote", 0);
    script.tells(&["reply ok", "spawn on_demote", "guard off", "release"]);
    script.released();
    script.leads_again();
    script.told();
    // The file is as it shall be; main doesn't know yet.
    script.send(Event::Rendered { watch: "app".to_owned(), outcome: Rendering::Unchanged });
    assert!(script.told().contains(&"SIGHUP to main".to_owned()));
}

#[test]
fn a_main_that_on_demote_stops_ends_the_container_only_after_on_demote_and_the_release() {
    let config = Config { hooks: hooks(), services: vec![service("web")], ..candidate() };
    let mut script = Script::leading(config);
    script.published("web", Ok(()));
    script.told();
    step_down(&mut script);
    script.until(1_000);
    script.ends("main", 0);
    script.published("web", Ok(()));
    script.published("web", Ok(()));
    script.until(3_000);
    script.tells(&["reply ok", "spawn on_demote", "publish web critical", "publish web draining"]);
    script.ends("on_demote", 0);
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close", "withdraw web"]);
    script.withdrawn("web");
    script.tells(&["exit 0"]);
}

#[test]
fn an_on_demote_that_hangs_when_main_is_gone_leaves_the_time_to_release() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.ends("main", 0);
    script.told();
    // Two thirds of what there is before main would be killed, as in any stop.
    assert_eq!(script.when("SIGTERM to on_demote's group"), 6_000);
    script.tells(&["guard off", "release"]);
    script.released();
    script.tells(&["close", "SIGKILL to on_demote's group", "exit 0"]);
}

#[test]
fn an_on_demote_that_began_before_the_stop_leaves_main_its_chance() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.signal(Signal::TERM);
    script.told();
    assert_eq!(script.when("SIGTERM to main"), 6_000);
}

#[test]
fn a_signal_cuts_an_on_demote_short_whose_main_is_gone() {
    let mut script = Script::leading(Config { hooks: hooks(), ..candidate() });
    step_down(&mut script);
    script.ends("main", 0);
    script.told();
    script.signal(Signal::TERM);
    script.tells(&["SIGTERM to on_demote's group", "guard off", "release"]);
}
