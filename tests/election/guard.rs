//! What the guard kills, when, and what becomes of an agent that is past waking: in real PID namespaces, with the agent
//! stopped, spinning, dead, or without the right to kill. A fixture stands in for the agent, so that a test says by
//! itself until when a leader may act.
#![allow(unsafe_code, clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::support::namespace::{
    Container, Process, Report, Scratch, Start, eventually, example, processes, specimen, status_line, within,
};

/// Beside main, in every way of leaving it: a child, one in a session of its own, and an orphan in another.
const FAMILY: &str = "sleep 1000 & setsid sleep 1000 & (setsid sleep 1000 &); exec sleep 1000";
/// How many those are.
const MEMBERS: usize = 4;
/// A deadline near enough to wait for, and far enough to be set in time.
const SOON: Duration = Duration::from_millis(600);

struct Guarded {
    container: Container,
    orders: File,
}

/// The fixture with this fence.
fn program(fence: &str) -> [OsString; 2] {
    [example("guarded").into_os_string(), fence.into()]
}

impl Guarded {
    fn run(start: Start) -> Guarded {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let container = start.descriptor(0, reader).run().unwrap();
        let guarded = Guarded { container, orders: writer.into() };
        guarded.told("ready");
        guarded
    }

    /// As PID 1.
    fn new() -> Guarded {
        Guarded::run(Start::new(program("namespace")))
    }

    /// Main has a family.
    fn with_family() -> Guarded {
        let mut guarded = Guarded::new();
        guarded.order(&format!("main {FAMILY}"));
        guarded.has(MEMBERS);
        guarded
    }

    fn order(&mut self, order: &str) {
        self.orders.write_all(format!("{order}\n").as_bytes()).unwrap();
    }

    /// Orders it and waits until it is done.
    fn done(&mut self, order: &str) {
        let before = self.times(order);
        self.order(order);
        eventually(order, || (self.times(order) > before).then_some(())).unwrap();
    }

    fn times(&self, line: &str) -> usize {
        self.container.stdout().lines().filter(|told| *told == line).count()
    }

    #[track_caller]
    fn told(&self, line: &str) {
        eventually(line, || (self.times(line) > 0).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.container.stdout(), self.container.stderr()));
    }

    /// Living processes below it.
    fn below(&self) -> Vec<Process> {
        let all = processes();
        let mut found: Vec<Process> = Vec::new();
        loop {
            let is_new = |p: &&Process| {
                let known = |pid| found.iter().any(|known| known.pid == pid);
                (p.parent == self.container.pid || known(p.parent)) && !known(p.pid)
            };
            let new: Vec<Process> = all.iter().filter(is_new).cloned().collect();
            if new.is_empty() {
                return found.into_iter().filter(|p| p.state != 'Z').collect();
            }
            found.extend(new);
        }
    }

    /// Once it has its name: a moment after the agent has begun.
    #[track_caller]
    fn its_guard(&self) -> i32 {
        eventually("the guard", || self.guard()).unwrap_or_else(|error| panic!("{error}: {}", self.container.stdout()))
    }

    fn guard(&self) -> Option<i32> {
        let name = |pid| status_line(pid, "Name").is_some_and(|name| name == "pilotfish-guard");
        self.below().into_iter().map(|p| p.pid).find(|pid| name(*pid))
    }

    /// Everybody below it but the guard.
    fn others(&self) -> Vec<i32> {
        let guard = self.guard();
        self.below().into_iter().map(|p| p.pid).filter(|pid| Some(*pid) != guard).collect()
    }

    #[track_caller]
    fn has(&self, count: usize) {
        eventually("the family", || (self.others().len() == count).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {:?} {}", self.others(), self.container.stdout()));
    }

    /// Waits until nobody is left but the agent and the guard; how long that took from `since` on.
    #[track_caller]
    fn is_alone(&self, since: Instant) -> Duration {
        eventually("the strike", || self.others().is_empty().then(|| since.elapsed()))
            .unwrap_or_else(|error| panic!("{error}: {:?} {}", self.others(), self.container.stderr()))
    }
}

fn kill(pid: i32, signal: i32) {
    // SAFETY: no memory involved.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{pid} can't be signalled");
}

fn soon() -> String {
    format!("until {}", SOON.as_millis())
}

#[test]
fn all_die_at_the_deadline_while_pid_1_is_stopped_and_it_is_resumed_to_reap_them() {
    let mut guarded = Guarded::with_family();
    let since = Instant::now();
    guarded.done(&soon());
    guarded.container.signal(libc::SIGSTOP);
    assert_eq!(guarded.others().len(), MEMBERS);
    let after = guarded.is_alone(since);
    assert!(after >= SOON, "it struck after {after:?}");
    guarded.told("exited 137");
    assert_eq!(guarded.container.ended(), None);
    // Nobody is harmed any more once the agent has understood.
    guarded.done("never");
    guarded.order(&format!("main {FAMILY}"));
    guarded.has(MEMBERS);
    std::thread::sleep(Duration::from_millis(1200));
    guarded.has(MEMBERS);
    println!("all were dead {:?} after the deadline", after - SOON);
}

#[test]
fn a_renewal_moves_the_deadline_and_does_not_wake_the_guard() {
    let mut guarded = Guarded::with_family();
    let guard = guarded.its_guard();
    guarded.done("until 4000");
    let woken = || status_line(guard, "voluntary_ctxt_switches").unwrap().parse::<u32>().unwrap();
    within(Duration::from_secs(5), "rest", || (status_line(guard, "State")?.starts_with('S')).then_some(())).unwrap();
    let before = woken();
    for _ in 0..100 {
        guarded.done("until 4000");
    }
    // Its own looks at the page, at 4 s and at 8 s, if this took as long.
    assert!(woken() - before <= 3, "woken {} times", woken() - before);
    let since = Instant::now();
    guarded.done("until 4000");
    let after = guarded.is_alone(since);
    assert!(after >= Duration::from_secs(4), "it struck after {after:?}");
}

#[test]
fn an_earlier_deadline_is_heeded_and_none_is_never() {
    let mut guarded = Guarded::with_family();
    guarded.done("until 600000");
    guarded.done("until 300");
    guarded.done("never");
    std::thread::sleep(Duration::from_millis(700));
    guarded.has(MEMBERS);
    guarded.done("until 600000");
    let since = Instant::now();
    guarded.done(&soon());
    assert!(guarded.is_alone(since) >= SOON);
}

#[test]
fn after_a_strike_the_next_deadline_is_kept_to_the_moment() {
    let mut guarded = Guarded::with_family();
    guarded.done("until 1");
    guarded.is_alone(Instant::now());
    // The passed one stands, and the guard looks but once a second.
    std::thread::sleep(Duration::from_millis(100));
    let since = Instant::now();
    guarded.done(&soon());
    guarded.order(&format!("main {FAMILY}"));
    guarded.has(MEMBERS);
    assert!(guarded.is_alone(since) >= SOON);
}

#[test]
fn a_guard_that_is_killed_is_told_of_and_the_next_one_knows_the_deadline() {
    for fence in ["namespace", "process-group"] {
        let mut guarded = Guarded::run(Start::new(program(fence)));
        guarded.order("main sleep 1000 & exec sleep 1000");
        guarded.has(2);
        let since = Instant::now();
        guarded.done("until 1500");
        kill(guarded.its_guard(), libc::SIGKILL);
        guarded.told("guard false");
        assert_eq!(guarded.guard(), None);
        guarded.order("restart");
        guarded.told("guard true");
        eventually("another guard", || guarded.guard()).unwrap();
        assert!(guarded.is_alone(since) >= Duration::from_millis(1500));
    }
}

fn is_awake(guard: i32) -> Option<()> {
    status_line(guard, "State")?.starts_with('S').then_some(())
}

#[test]
fn a_guard_that_is_stopped_is_resumed_at_once() {
    let guarded = Guarded::with_family();
    let guard = guarded.its_guard();
    for _ in 0..3 {
        kill(guard, libc::SIGSTOP);
        eventually("the guard's resumption", || is_awake(guard)).unwrap();
    }
    guarded.told("warning the guard was stopped by SIGSTOP, and is resumed");
    assert_eq!(guarded.guard(), Some(guard));
}

#[test]
fn all_die_at_the_deadline_while_the_agent_and_the_guard_are_both_stopped() {
    for fence in ["namespace", "process-group"] {
        let mut guarded = Guarded::run(Start::new(program(fence)));
        guarded.order("main sleep 1000 & exec sleep 1000");
        guarded.has(2);
        let (guard, since) = (guarded.its_guard(), Instant::now());
        guarded.done("until 2500");
        guarded.container.signal(libc::SIGSTOP);
        // Each time it is resumed to look, too.
        let stopping = std::thread::spawn(move || {
            while since.elapsed() < Duration::from_millis(2400) {
                kill(guard, libc::SIGSTOP);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        stopping.join().unwrap();
        guarded.has(2);
        let after = guarded.is_alone(since);
        assert!(after >= Duration::from_millis(2500), "it struck after {after:?}");
        guarded.container.signal(libc::SIGCONT);
        println!("{fence}: all were dead {:?} after the deadline", after - Duration::from_millis(2500));
    }
}

#[test]
fn a_guard_that_a_tracer_holds_is_replaced() {
    let mut guarded = Guarded::with_family();
    let guard = guarded.its_guard();
    guarded.done("until 20000");
    // SAFETY: no memory involved; nobody else waits for what isn't this process's child.
    unsafe {
        let none = std::ptr::null_mut::<libc::c_void>();
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, guard, none, none), 0);
        assert_eq!(libc::ptrace(libc::PTRACE_INTERRUPT, guard, none, none), 0);
    }
    let since = Instant::now();
    while guarded.times("guard false") == 0 {
        assert!(since.elapsed() < Duration::from_secs(8), "{}", guarded.container.stdout());
        guarded.done("until 20000");
        std::thread::sleep(Duration::from_secs(1));
    }
    guarded.order("restart");
    guarded.told("guard true");
    // SAFETY: as above.
    unsafe { libc::waitpid(guard, std::ptr::null_mut(), libc::__WALL) };
    let next = eventually("another guard", || guarded.guard().filter(|next| *next != guard)).unwrap();
    guarded.has(MEMBERS);
    let since = Instant::now();
    guarded.done(&soon());
    guarded.is_alone(since);
    assert_eq!(guarded.guard(), Some(next));
    assert_eq!(guarded.times("guard false"), 1, "the end of the one that was replaced is no news");
}

#[test]
fn what_cannot_be_killed_is_ended_with_the_container_within_a_short_kill_margin_too() {
    const MARGIN: Duration = Duration::from_millis(200);
    let fixture = program("namespace").into_iter().chain([MARGIN.as_millis().to_string().into()]);
    let mut guarded = Guarded::run(Start::new(fixture).without_capability(5));
    guarded.order("main setpriv --reuid 33 --regid 33 --clear-groups sleep 1000 & exec sleep 1000");
    guarded.has(2);
    let since = Instant::now();
    guarded.done(&soon());
    assert_eq!(guarded.container.wait(), Ok(70), "{}", guarded.container.stdout());
    let late = since.elapsed() - SOON;
    println!("it had ended {late:?} after the deadline");
    assert!(late < MARGIN, "{late:?}");
}

#[test]
fn what_is_started_after_the_deadline_ends_before_it_is_anything() {
    for fence in ["namespace", "process-group"] {
        let scratch = Scratch::new();
        let mut guarded = Guarded::run(Start::new(program(fence)));
        let mark = |name: &str| format!("main touch {}; exec sleep 1000", scratch.file(name).display());
        guarded.done("until 1");
        std::thread::sleep(Duration::from_millis(20));
        guarded.order(&mark("late"));
        let refused = || guarded.container.stdout().contains("the leader's time was over").then_some(());
        eventually("a refusal", refused).unwrap();
        guarded.done("never");
        guarded.order(&mark("later"));
        eventually("main", || scratch.file("later").exists().then_some(())).unwrap();
        assert!(!scratch.file("late").exists());
    }
}

#[test]
fn an_agent_that_spins_is_ended_and_the_container_with_it() {
    let mut guarded = Guarded::with_family();
    guarded.done(&soon());
    guarded.order("spin");
    assert_eq!(guarded.container.wait(), Ok(70));
    assert!(guarded.container.stderr().contains("ended by SIGABRT"), "{}", guarded.container.stderr());
}

#[test]
fn an_agent_that_writes_to_a_log_nobody_reads_can_be_ended_too() {
    let (_reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    fill(&writer);
    let mut guarded = Guarded::run(Start::new(program("namespace")).descriptor(2, writer));
    guarded.done("until 1");
    guarded.order("main exec sleep 1000");
    guarded.order("spin");
    assert_eq!(guarded.container.wait(), Ok(70));
}

fn fill(pipe: &OwnedFd) {
    // SAFETY: a plain call on an open descriptor.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    while nix::unistd::write(pipe, &[0; 4096]).is_ok() {}
    // SAFETY: as above.
    unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, 0) };
}

#[test]
fn where_main_cannot_be_killed_the_container_is_ended() {
    // CAP_KILL is 5.
    let mut guarded = Guarded::run(Start::new(program("namespace")).without_capability(5));
    guarded.order("main-as www-data exec sleep 1000");
    guarded.told("spawned");
    guarded.done(&soon());
    assert_eq!(guarded.container.wait(), Ok(70), "{}", guarded.container.stdout());
}

#[test]
fn where_a_child_of_mains_cannot_be_killed_the_container_is_ended() {
    let mut guarded = Guarded::run(Start::new(program("namespace")).without_capability(5));
    // setpriv(1) is util-linux's, as unshare(1) is.
    guarded.order("main setpriv --reuid 33 --regid 33 --clear-groups sleep 1000 & exec sleep 1000");
    guarded.has(2);
    guarded.done(&soon());
    assert_eq!(guarded.container.wait(), Ok(70), "{}", guarded.container.stdout());
}

#[test]
fn an_agent_that_is_aborted_before_any_deadline_ends_with_70() {
    let mut guarded = Guarded::with_family();
    guarded.container.signal(libc::SIGABRT);
    assert_eq!(guarded.container.wait(), Ok(70));
}

#[test]
fn what_main_was_to_do_about_sigabrt_is_as_it_was_given() {
    for (given, seen) in [(vec![], ""), (vec![libc::SIGABRT], "6")] {
        let scratch = Scratch::new();
        let mut guarded = Guarded::run(Start::new(program("namespace")).ignored(&given));
        guarded.order(&format!("main exec {} report {}", specimen().display(), scratch.file("report").display()));
        let report = Report::read(&scratch.file("report")).unwrap();
        // 13: Rust's own start code in the fixture ignores SIGPIPE; the agent has none.
        let ignored: Vec<&str> = report.get("ignored").split(',').filter(|signal| *signal != "13").collect();
        assert_eq!(ignored.join(","), seen);
    }
}

#[test]
fn who_is_neither_pid_1_nor_alone_in_its_cgroup_is_refused() {
    let mut container = Start::new(program("namespace")).ordinary().run().unwrap();
    assert_eq!(container.wait(), Ok(78));
    let said = container.stderr();
    for text in ["run pilotfish as PID 1", "process-group", "it isn't PID 1"] {
        assert!(said.contains(text), "{said}");
    }
}

/// In a cgroup of its own, with a family; removes the cgroup at its end, and whoever is left in it.
struct InCgroup {
    guarded: Guarded,
    mount: String,
    at: String,
    _scratch: Scratch,
}

impl InCgroup {
    fn with_family() -> InCgroup {
        let scratch = Scratch::new();
        let (root, fixture) = (scratch.file("cgroup"), example("guarded"));
        let (root, fixture) = (root.display(), fixture.display());
        let mount = format!("mkdir -p {root} && mount -t cgroup2 none {root}");
        let enter = format!("{mount} && mkdir {root}/pilotfish-$$ && echo $$ > {root}/pilotfish-$$/cgroup.procs");
        let script = format!("{enter} && exec {fixture} namespace");
        let mut guarded = Guarded::run(Start::new(["/usr/bin/unshare", "-m", "/bin/sh", "-c", &script]).ordinary());
        let at = format!("{root}/pilotfish-{}", guarded.container.pid);
        guarded.order(&format!("main {FAMILY}"));
        guarded.has(MEMBERS);
        InCgroup { guarded, mount, at, _scratch: scratch }
    }
}

impl Drop for InCgroup {
    fn drop(&mut self) {
        let InCgroup { mount, at, .. } = self;
        let cleared = format!("{mount} && echo 1 > {at}/cgroup.kill && rmdir {at}");
        let _ = eventually("an empty cgroup", || {
            let done = std::process::Command::new("unshare").args(["-m", "/bin/sh", "-c", &cleared]).output();
            done.is_ok_and(|done| done.status.success()).then_some(())
        });
    }
}

fn living<'a>(those: impl IntoIterator<Item = &'a i32>) -> Vec<i32> {
    let all = processes();
    let lives = |pid: &i32| all.iter().any(|p| p.pid == *pid && p.state != 'Z');
    those.into_iter().copied().filter(lives).collect()
}

/// Waits for their end; how long it took.
#[track_caller]
fn gone(those: &[i32]) -> Duration {
    let since = Instant::now();
    eventually("everybody's end", || living(those).is_empty().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {:?} of {those:?}", living(those)));
    since.elapsed()
}

#[test]
fn in_a_cgroup_of_its_own_all_in_it_dies_at_the_deadline() {
    let mut inside = InCgroup::with_family();
    let guarded = &mut inside.guarded;
    let all: Vec<i32> = guarded.below().iter().map(|p| p.pid).collect();
    guarded.done(&soon());
    assert_eq!(guarded.container.wait(), Ok(137));
    gone(&all);
}

#[test]
fn in_a_cgroup_of_its_own_all_in_it_dies_with_an_agent_that_is_killed_before_the_deadline() {
    for restarted in [false, true] {
        let mut inside = InCgroup::with_family();
        let guarded = &mut inside.guarded;
        guarded.done("until 600000");
        if restarted {
            kill(guarded.its_guard(), libc::SIGKILL);
            guarded.told("guard false");
            guarded.order("restart");
            guarded.told("guard true");
        }
        let all: Vec<i32> = guarded.below().iter().map(|p| p.pid).collect();
        guarded.container.signal(libc::SIGKILL);
        println!("all were dead {:?} after the agent", gone(&all));
    }
}

#[test]
fn in_a_cgroup_of_its_own_an_agent_that_ends_without_a_deadline_takes_the_guard_with_it_and_no_workers_of_mains() {
    let mut inside = InCgroup::with_family();
    let guarded = &mut inside.guarded;
    guarded.done("until 600000");
    guarded.done("never");
    let (guard, others) = (guarded.its_guard(), guarded.others());
    guarded.container.signal(libc::SIGKILL);
    gone(&[guard]);
    // Main alone is the agent's child of its own making.
    eventually("main's end", || (living(&others).len() < MEMBERS).then_some(())).unwrap();
    assert!(!living(&others).is_empty(), "main's workers are replicas");
}

#[test]
fn the_weaker_fence_kills_mains_group_and_says_what_it_misses() {
    let mut guarded = Guarded::run(Start::new(program("process-group")).ordinary());
    guarded.order("main sleep 20 & setsid sleep 20 & exec sleep 20");
    guarded.has(3);
    guarded.done(&soon());
    guarded.container.signal(libc::SIGSTOP);
    guarded.has(1);
    guarded.container.signal(libc::SIGCONT);
    guarded.told("exited 137");
    assert_eq!(guarded.container.ended(), None);
    assert!(guarded.container.stderr().contains("what leaves main's process group"), "{}", guarded.container.stderr());
    guarded.others().into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
}

#[test]
fn a_group_that_outlives_main_is_still_behind_the_weaker_fence() {
    let mut guarded = Guarded::run(Start::new(program("process-group")));
    guarded.order("main sleep 1000 & exit 0");
    guarded.told("exited 0");
    guarded.has(1);
    guarded.done(&soon());
    guarded.has(0);
}

#[test]
fn a_guard_does_not_outlive_its_agent() {
    let guarded = Guarded::run(Start::new(program("process-group")).ordinary());
    let guard = guarded.its_guard();
    guarded.container.signal(libc::SIGKILL);
    gone(&[guard]);
}

#[test]
fn the_weaker_fence_kills_mains_group_when_its_agent_is_killed() {
    let mut guarded = Guarded::run(Start::new(program("process-group")).ordinary());
    guarded.order("main sleep 100 & exec sleep 100");
    guarded.has(2);
    guarded.done("until 600000");
    let all: Vec<i32> = guarded.below().iter().map(|p| p.pid).collect();
    guarded.container.signal(libc::SIGKILL);
    gone(&all);
}

#[test]
fn signals_to_the_guard_and_a_full_stop_of_its_agents_group_change_nothing() {
    let mut guarded = Guarded::with_family();
    let guard = guarded.its_guard();
    let unstoppable = [libc::SIGKILL, libc::SIGSTOP];
    for signal in (1..=64).filter(|signal| !unstoppable.contains(signal) && ![32, 33].contains(signal)) {
        kill(guard, signal);
    }
    guarded.done(&soon());
    // SAFETY: no memory involved.
    let group = unsafe { libc::getpgid(guarded.container.pid) };
    kill(-group, libc::SIGSTOP);
    guarded.is_alone(Instant::now());
    kill(-group, libc::SIGCONT);
}

#[test]
fn a_guard_younger_than_main_is_no_stray_with_proc_and_without() {
    for start in [Start::new(program("namespace")), Start::new(program("namespace")).without_proc()] {
        let mut guarded = Guarded::run(start);
        guarded.order("main sleep 1000 & exec sleep 1");
        guarded.has(2);
        kill(guarded.its_guard(), libc::SIGKILL);
        guarded.told("guard false");
        guarded.order("restart");
        guarded.told("guard true");
        guarded.told("exited 0");
        guarded.order("count");
        guarded.told("strays 1");
        let guard = guarded.guard();
        guarded.others().into_iter().for_each(|pid| kill(pid, libc::SIGKILL));
        guarded.told("strays 0");
        assert_eq!(guarded.guard(), guard);
    }
}

#[test]
fn main_gets_the_one_descriptor_that_is_kept_for_it() {
    for (order, count) in [("main", 3), ("keeping", 4)] {
        let scratch = Scratch::new();
        let mut guarded = Guarded::new();
        guarded.order(&format!("{order} exec {} report {}", specimen().display(), scratch.file("report").display()));
        let report = Report::read(&scratch.file("report")).unwrap();
        assert_eq!(report.get("descriptors").split(',').count(), count, "{}", report.get("descriptors"));
    }
}

#[test]
fn what_a_rank_command_prints_is_told_before_its_end_and_at_most_four_kilobytes_of_it() {
    let mut guarded = Guarded::new();
    guarded.order("rank echo 42; echo logged >&2; exit 3");
    guarded.told("exited 3");
    guarded.order("rank head -c 10000 /dev/zero | tr '\\0' x");
    guarded.told("exited 0");
    let told = guarded.container.stdout();
    let lines: Vec<&str> = told.lines().filter(|line| line.contains("printed") || line.contains("exited")).collect();
    assert_eq!(lines[..2], ["printed 3 \"42\\n\"", "exited 3"], "{told}");
    assert!(lines[2].starts_with("printed 4096 \"xxx"), "{told}");
}

#[test]
fn a_guard_holds_two_descriptors_and_little_memory() {
    let mut guarded = Guarded::with_family();
    let measure = |guarded: &Guarded, what: &str| {
        let guard = eventually("a guard", || guarded.guard()).unwrap();
        let rests = || status_line(guard, "State").filter(|state| state.starts_with('S'));
        within(Duration::from_secs(5), "the guard's rest", rests).unwrap();
        assert_eq!(std::fs::read_dir(format!("/proc/{guard}/fd")).unwrap().count(), 2);
        assert_eq!(std::fs::read_link(format!("/proc/{guard}/cwd")).unwrap(), std::path::Path::new("/"));
        let rollup = std::fs::read_to_string(format!("/proc/{guard}/smaps_rollup")).unwrap();
        let kilobytes = |name: &str| -> u64 {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        let (pss, dirty, locked) = (kilobytes("Pss:"), kilobytes("Private_Dirty:"), kilobytes("Locked:"));
        println!("{what}: {pss} KB PSS, {dirty} KB private dirty, {locked} KB locked");
        assert!(dirty < 500, "{dirty} KB");
        guard
    };
    let first = measure(&guarded, "the first guard");
    kill(first, libc::SIGKILL);
    guarded.told("guard false");
    guarded.done("heap");
    guarded.order("restart");
    guarded.told("guard true");
    // As the agent writes to it, what both had would become each one's own.
    guarded.done("heap");
    measure(&guarded, "the second guard");
}
