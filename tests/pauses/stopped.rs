//! The agent alone is stopped, wedged or without a guard, and main runs on: until the guard ends it, in time.

use std::time::Duration;

use nix::sys::{ptrace, wait};
use nix::unistd::Pid;

use super::figures::Figures;
use super::pair::{Candidate, Config, Pair, SHORTEST, Story, TELL, actor, another_guard, signal};
use crate::lab::Lab;
use crate::namespace::{Start, misruled};
use crate::nemesis::register::Register;
use crate::servers::{Consul, Etcd};

/// How often each thing happens in the long forms.
const LONG: usize = 20;
/// capabilities(7)
const CAP_KILL: libc::c_ulong = 5;

/// Renewals come each second: what happens to a leader shall meet them at every moment.
fn at_any_moment(round: usize) {
    std::thread::sleep(Duration::from_millis((1000 + round * 370 % 1000) as u64));
}

/// A main and what tells it its role, given a register.
type Main = fn(&Register) -> (String, &'static str);

fn plain(register: &Register) -> (String, &'static str) {
    (actor(register.path()), TELL)
}

/// It acts in a session of its own, and so does an orphan of its.
fn with_daemons(register: &Register) -> (String, &'static str) {
    let run = |socket: &str| format!("ACTOR run DIR/{socket} {} ID", register.path().display());
    let main = format!("(setsid {} &) ; exec setsid --wait {}", run("orphan"), run("actor"));
    (main, "ACTOR tell DIR/actor && exec ACTOR tell DIR/orphan")
}

struct Play<'a> {
    catalog: String,
    main: Main,
    user: Option<&'a str>,
    start: fn(&Lab) -> Start,
}

impl Play<'_> {
    fn on(catalog: String) -> Self {
        Play { catalog, main: plain, user: None, start: Lab::start }
    }

    fn pair(&self) -> Pair {
        let mut register = Register::new();
        let (main, tell) = (self.main)(&register);
        let open = |path: &std::path::Path, mode| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
            std::fs::set_permissions(path, mode).expect("its mode can be set");
        };
        // To mains of any user.
        open(register.path(), 0o666);
        open(register.path().parent().expect("it is in a directory"), 0o777);
        let config = Config { catalog: &self.catalog, election: SHORTEST, main: &main, tell, user: self.user };
        Pair::new(&config, Story::of(move || register.news()), self.start)
    }

    /// The leader suffers this so many times, each time until there is another leadership; what that took.
    #[track_caller]
    fn rounds(
        &self,
        what: &str,
        rounds: usize,
        mut suffer: impl FnMut(&mut Candidate),
        after: impl Fn(&mut Candidate),
    ) {
        let mut pair = self.pair();
        let (mut acted_on, mut vacant) = (Figures::default(), Figures::default());
        for round in 0..rounds {
            at_any_moment(round);
            let succession = pair.succession(&mut suffer);
            acted_on.add(succession.acted_on);
            vacant.add(succession.vacant);
            after(&mut pair.candidates[succession.loser]);
            pair.recovers(&succession);
        }
        println!("{what}\n  acted on for  {acted_on}\n  then nobody   {vacant}");
        pair.never_two(rounds + 1);
    }
}

fn etcd(etcd: &Etcd) -> String {
    format!("backend = \"etcd\"\nendpoints = [\"http://{}\"]", etcd.client())
}

fn consul(consul: &Consul) -> String {
    format!("backend = \"consul\"\naddress = \"http://{}\"", consul.http)
}

fn stop(candidate: &mut Candidate) {
    candidate.container.signal(libc::SIGSTOP);
}

fn resume(candidate: &mut Candidate) {
    candidate.container.signal(libc::SIGCONT);
}

fn stopped(catalog: String, what: &str, rounds: usize) {
    Play::on(catalog).rounds(&format!("agent stopped, {what}"), rounds, stop, resume);
}

#[test]
fn a_leader_whose_agent_is_stopped_acts_no_more_when_the_next_one_does() {
    let server = Etcd::start("etcd35");
    stopped(etcd(&server), "etcd", 1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_on_etcd() {
    let server = Etcd::start("etcd35");
    stopped(etcd(&server), "etcd", LONG);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_on_consul() {
    let server = Consul::start();
    stopped(consul(&server), "Consul", LONG);
}

/// Unlike one that was stopped, it can't be resumed by the guard: so it is stopped until another leads.
fn held_by_a_tracer(rounds: usize) {
    let server = Etcd::start("etcd35");
    let process = |candidate: &Candidate| Pid::from_raw(candidate.container.pid);
    let hold = |candidate: &mut Candidate| {
        ptrace::seize(process(candidate), ptrace::Options::empty()).expect("it can be traced");
        ptrace::interrupt(process(candidate)).expect("it can be stopped");
        wait::waitpid(process(candidate), Some(wait::WaitPidFlag::__WALL)).expect("it stops");
    };
    Play::on(etcd(&server)).rounds("agent held by a tracer", rounds, hold, |candidate| {
        // As nobody reaped, the guard may have ended it by now.
        ptrace::detach(process(candidate), None).expect("it is held");
    });
}

#[test]
fn a_leader_whose_agent_stays_stopped_is_succeeded_at_its_leases_end() {
    held_by_a_tracer(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_held_by_a_tracer() {
    held_by_a_tracer(LONG);
}

fn stopped_with_daemons(rounds: usize) {
    let server = Etcd::start("etcd35");
    let play = Play { main: with_daemons, ..Play::on(etcd(&server)) };
    play.rounds("agent stopped, main in a session of its own and an orphan in another", rounds, stop, resume);
}

#[test]
fn what_main_leaves_behind_in_sessions_of_its_own_acts_no_more_either() {
    stopped_with_daemons(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_with_daemons() {
    stopped_with_daemons(LONG);
}

fn stopped_without_the_right_to_kill(rounds: usize) {
    let server = Etcd::start("etcd35");
    let start = |lab: &Lab| lab.start().without_capability(CAP_KILL);
    let play = Play { user: Some("nobody"), start, ..Play::on(etcd(&server)) };
    play.rounds("agent stopped, main another user's, no CAP_KILL", rounds, stop, |candidate| {
        // It was main's end that its own agent could not bring about.
        assert_eq!(candidate.container.wait(), Ok(70), "{}", candidate.container.stderr());
    });
}

#[test]
fn a_leader_whose_main_cannot_be_killed_ends_with_its_container_in_time() {
    stopped_without_the_right_to_kill(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_stopped_without_the_right_to_kill() {
    stopped_without_the_right_to_kill(LONG);
}

fn stopped_after_the_guard_was_killed(rounds: usize) {
    let server = Etcd::start("etcd35");
    let suffer = |candidate: &mut Candidate| {
        let guard = candidate.guard().expect("a guard");
        assert!(signal(guard, libc::SIGKILL));
        another_guard(candidate, guard);
        stop(candidate);
    };
    Play::on(etcd(&server)).rounds("guard killed, agent stopped when there was another", rounds, suffer, resume);
}

#[test]
fn the_guard_after_one_that_was_killed_ends_a_leader_in_time() {
    stopped_after_the_guard_was_killed(1);
}

#[test]
#[ignore = "takes minutes: make pauses"]
fn guards_killed_before_agents_are_stopped() {
    stopped_after_the_guard_was_killed(LONG);
}

/// No renewal counts without a guard, so a leader that can't keep one leads no longer than its lease.
#[test]
#[ignore = "takes minutes: make pauses"]
fn a_leader_whose_guards_are_all_killed_steps_down_in_time() {
    let server = Etcd::start("etcd35");
    let mut pair = Play::on(etcd(&server)).pair();
    at_any_moment(0);
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let killer = std::cell::RefCell::new(None);
    let succession = pair.succession(|candidate| {
        let (agent, over) = (candidate.container.pid, over.clone());
        *killer.borrow_mut() = Some(std::thread::spawn(move || {
            let mut killed = std::collections::BTreeSet::new();
            while !over.load(std::sync::atomic::Ordering::SeqCst) {
                let children =
                    std::fs::read_to_string(format!("/proc/{agent}/task/{agent}/children")).unwrap_or_default();
                let guard = |pid: &i32| {
                    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "pilotfish-guard\n")
                };
                let guards = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(guard);
                killed.extend(guards.filter(|pid| signal(*pid, libc::SIGKILL)));
                std::thread::sleep(Duration::from_micros(200));
            }
            killed.len()
        }));
    });
    over.store(true, std::sync::atomic::Ordering::SeqCst);
    let killed = killer.into_inner().unwrap().join().unwrap();
    println!(
        "{killed} guards of a leader killed as they came: acted on for {:.0} ms, then nobody for {:.0} ms",
        succession.acted_on as f64 / 1e6,
        succession.vacant as f64 / 1e6
    );
    pair.candidates[succession.loser].comes_back();
    pair.never_two(2);
}

/// Two faults at once, which docs/election.md doesn't promise anything for: this shows that it has to say so.
#[test]
#[ignore = "takes minutes: make pauses"]
fn a_stopped_agent_whose_guard_is_killed_can_end_nobody() {
    let server = Etcd::start("etcd35");
    let mut pair = Play::on(etcd(&server)).pair();
    at_any_moment(0);
    let succession = pair.succession(|candidate| {
        stop(candidate);
        assert!(signal(candidate.guard().expect("a guard"), libc::SIGKILL));
    });
    std::thread::sleep(Duration::from_secs(2));
    let woken = crate::nemesis::register::now();
    resume(&mut pair.candidates[succession.loser]);
    pair.candidates[succession.loser].comes_back();
    pair.story.look();
    let overlaps = pair.story.judge.overlaps();
    let last = pair.story.turns.iter().rev().nth(1).unwrap().last;
    println!(
        "agent stopped, then its guard killed: {} overlap(s), {:.1} ms after SIGCONT: {}",
        overlaps.len(),
        (last as f64 - woken as f64) / 1e6,
        overlaps.iter().map(|o| o.to_string()).collect::<Vec<_>>().join("; ")
    );
    assert_eq!(overlaps.len(), 1);
}

/// The loop never comes back: nobody reaps, so the guard ends the agent too.
#[test]
#[ignore = "takes minutes: make pauses"]
fn agents_wedged() {
    let server = Etcd::start("etcd35");
    misruled();
    let start = |lab: &Lab| {
        let _ = std::fs::remove_file(lab.path("wedge"));
        let (program, config) = (misruled(), lab.path("pilotfish.toml"));
        Start::new([program.as_os_str(), "-c".as_ref(), config.as_os_str()])
            .env("PILOTFISH_MISRULE=wedge")
            .env(format!("PILOTFISH_WEDGE_FILE={}", lab.path("wedge").display()))
    };
    let wedge = |candidate: &mut Candidate| std::fs::write(candidate.lab.path("wedge"), "").unwrap();
    let play = Play { start, ..Play::on(etcd(&server)) };
    play.rounds("loop wedged", LONG, wedge, |candidate| {
        assert_eq!(candidate.container.wait(), Ok(70), "{}", candidate.container.stderr());
    });
}
