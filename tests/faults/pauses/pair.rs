//! Two candidates of one election, what their mains did, and what becomes of both when the leader suffers something.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::faults::nemesis::judge::Judge;
use crate::faults::nemesis::register::{Act, now};
use crate::support::lab::Lab;
use crate::support::namespace::{Container, Start, eventually, example, status_line, within};

/// The shortest lease that takes the hooks below: see `pilotfish check`.
pub const SHORTEST: &str = "lease = \"6s\"\nkill_margin = \"400ms\"";

/// Longer than any lease here, with what an engine takes to notice.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// The config of a candidate of `db`. Main, and what tells it its role, are commands of a shell, in which ACTOR is the
/// actor; `user` is whose processes both are.
pub struct Config<'a> {
    pub catalog: &'a str,
    pub election: &'a str,
    pub main: &'a str,
    pub tell: &'a str,
    pub user: Option<&'a str>,
}

impl Config<'_> {
    fn of(&self, id: &str) -> String {
        let user = self.user.map(|user| format!("user = \"{user}\"")).unwrap_or_default();
        let exec = |command: &str| {
            let command = command.replace("ACTOR", &example("actor").display().to_string()).replace("ID", id);
            format!("exec = [\"sh\", \"-c\", \"{command}\"]")
        };
        let mut text = format!("[process]\n{}\n{user}\n", exec(self.main));
        for (hook, timeout) in [("on_promote", "2s"), ("on_demote", "500ms")] {
            let _ = writeln!(text, "[hooks.{hook}]\n{}\n{user}\ntimeout = \"{timeout}\"", exec(self.tell));
        }
        let _ = write!(
            text,
            "[[service]]\nname = \"db\"\nid = \"{id}\"\nport = 3306\naddress = [\"static:192.0.2.1\"]\n\
             [catalog]\n{}\n[election]\nname = \"db\"\n{}\n",
            self.catalog, self.election
        );
        text
    }
}

/// One that acts into a register.
pub fn actor(register: &Path) -> String {
    format!("exec ACTOR run DIR/actor {} ID", register.display())
}

/// Tells it its role.
pub const TELL: &str = "exec ACTOR tell DIR/actor";

/// One of the two.
pub struct Candidate {
    pub id: &'static str,
    pub lab: Lab,
    pub container: Container,
    start: Box<dyn Fn(&Lab) -> Start>,
}

impl Candidate {
    fn new(id: &'static str, config: &Config<'_>, start: Box<dyn Fn(&Lab) -> Start>) -> Candidate {
        let lab = Lab::new(&config.of(id));
        // Mains of other users make their sockets here.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(lab.path("."), mode).expect("its mode can be set");
        let container = lab.run_as(start(&lab));
        Candidate { id, lab, container, start }
    }

    /// Starts its container again.
    pub fn restart(&mut self) {
        self.container.wait().expect("it has ended");
        // What tells that the new one is there.
        let _ = fs::remove_file(self.lab.path("control.sock"));
        self.container = self.lab.run_as((self.start)(&self.lab));
    }

    /// Waits until it is a replica with a main; a container that has ended is started again.
    #[track_caller]
    pub fn comes_back(&mut self) {
        let back = within(PATIENCE, "a replica", || {
            if self.container.ended().is_some() {
                self.restart();
            }
            self.lab.ask(&["status"]).1.contains("replica of db: following").then_some(())
        });
        back.unwrap_or_else(|error| {
            panic!("{}: {error}: {:?} {}", self.id, self.lab.ask(&["status"]), self.container.stderr())
        });
    }

    /// Its container is killed and started again: an agent pauses after each leadership that came to nothing, ever longer,
    /// so that of many rounds the later ones would show little but that.
    #[track_caller]
    pub fn forgets(&mut self) {
        self.container.signal(libc::SIGKILL);
        self.restart();
        self.comes_back();
    }

    /// Its guard's process id.
    pub fn guard(&self) -> Option<i32> {
        let is_guard = |pid: &i32| status_line(*pid, "Name").is_some_and(|name| name == "pilotfish-guard");
        self.container.children().into_iter().find(is_guard)
    }
}

/// What one did for one term: its first act and its last.
#[derive(Debug, Clone)]
pub struct Turn {
    pub who: String,
    pub term: u64,
    pub first: u64,
    pub last: u64,
}

/// What mains did.
pub struct Story {
    source: Box<dyn FnMut() -> Vec<Act>>,
    pub judge: Judge,
    pub turns: Vec<Turn>,
}

impl Story {
    /// What this tells when it is asked.
    pub fn of(source: impl FnMut() -> Vec<Act> + 'static) -> Story {
        Story { source: Box::new(source), judge: Judge::default(), turns: Vec::new() }
    }

    /// Hears what is new.
    pub fn look(&mut self) {
        for act in (self.source)() {
            self.judge.hear(&act);
            match self.turns.iter_mut().rev().find(|turn| turn.term == act.term && turn.who == act.who) {
                Some(turn) => turn.last = turn.last.max(act.at),
                None => self.turns.push(Turn { who: act.who, term: act.term, first: act.at, last: act.at }),
            }
        }
    }
}

/// The leader suffered something, and another leadership began.
pub struct Succession {
    /// Who led before.
    pub loser: usize,
    /// Who leads now: the same, perhaps, if it was woken in time to stand again.
    pub winner: usize,
    /// From the beginning of the suffering to its last act, in nanoseconds.
    pub acted_on: u64,
    /// From the beginning to the next leader's first act.
    pub lasted: u64,
    /// From its last act to the next leader's first; 0 for an overlap.
    pub vacant: u64,
}

/// Two of them.
pub struct Pair {
    pub candidates: [Candidate; 2],
    pub story: Story,
}

impl Pair {
    /// Both run, and one leads.
    pub fn new(config: &Config<'_>, story: Story, start: impl Fn(&Lab) -> Start + Clone + 'static) -> Pair {
        Pair::each(config, story, || Box::new(start.clone()))
    }

    /// The same, with a way of starting for each.
    pub fn each(config: &Config<'_>, story: Story, mut start: impl FnMut() -> Box<dyn Fn(&Lab) -> Start>) -> Pair {
        let candidates = ["one", "two"].map(|id| Candidate::new(id, config, start()));
        let mut pair = Pair { candidates, story };
        let leader = pair.next_leader(0);
        pair.candidates[1 - leader].comes_back();
        pair
    }

    /// Waits until there are more turns than so many; whose the last is.
    #[track_caller]
    pub fn next_leader(&mut self, turns: usize) -> usize {
        let turn = within(PATIENCE, "the next leader", || {
            self.story.look();
            (self.story.turns.len() > turns).then(|| self.story.turns.last().cloned()).flatten()
        });
        let turn = turn.unwrap_or_else(|error| {
            let told = self.candidates.iter().map(|c| c.container.stderr()).collect::<Vec<_>>().join("\n---\n");
            panic!("{error}: {told}")
        });
        self.index(&turn.who)
    }

    fn index(&self, who: &str) -> usize {
        self.candidates.iter().position(|candidate| candidate.id == who).expect("one of the two")
    }

    /// The leader suffers this; waits until there is another leadership.
    #[track_caller]
    pub fn succession(&mut self, suffer: impl FnOnce(&mut Candidate)) -> Succession {
        self.story.look();
        let turns = self.story.turns.len();
        let elder = turns.checked_sub(1).expect("somebody leads");
        let loser = self.index(&self.story.turns[elder].who.clone());
        let since = now();
        suffer(&mut self.candidates[loser]);
        let winner = self.next_leader(turns);
        let (elder, younger) = (&self.story.turns[elder], &self.story.turns[turns]);
        Succession {
            loser,
            winner,
            acted_on: elder.last.saturating_sub(since),
            lasted: younger.first.saturating_sub(since),
            vacant: younger.first.saturating_sub(elder.last),
        }
    }

    /// Waits until both are well again, the loser as if nothing had ever happened to it.
    #[track_caller]
    pub fn recovers(&mut self, after: &Succession) {
        if after.loser != after.winner {
            self.candidates[after.loser].comes_back();
            self.candidates[after.loser].forgets();
        }
    }

    /// That never two acted at once, all in all.
    #[track_caller]
    pub fn never_two(&mut self, leaderships: usize) {
        self.story.look();
        let overlaps = self.story.judge.overlaps();
        assert!(overlaps.is_empty(), "{}", overlaps.iter().map(|o| o.to_string()).collect::<Vec<_>>().join("\n"));
        assert!(self.story.judge.leaderships() >= leaderships, "only {}", self.story.judge.leaderships());
    }
}

/// Sends a signal to a process of this machine, as it is seen from here.
#[allow(unsafe_code)]
pub fn signal(pid: i32, signal: i32) -> bool {
    // SAFETY: no memory involved.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Waits for a guard that isn't this one.
pub fn another_guard(candidate: &Candidate, than: i32) -> i32 {
    eventually("another guard", || candidate.guard().filter(|guard| *guard != than)).unwrap()
}
