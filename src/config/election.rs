//! `[election]`, made safe: who stands against whom, how long a leader may act on its last proof, and what must fit
//! into that.

use super::choice::words_alone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::{Backend, Config, Coprocess, Hook, When};

/// How often a leader renews its lease: a second lost is a second less to act on, and the backend is asked by leaders
/// only.
pub const RENEW_EVERY: Duration = Duration::from_secs(1);
/// A lease must have room for two requests of so long. A healthy backend answers in milliseconds.
pub const REQUEST_WITHIN: Duration = Duration::from_secs(2);
/// And where it has more room they may take so long: storage that syncs once a second makes a backend slow, not unhealthy. A
/// longer one would keep a candidate too long with what was lost on the way.
const LONGEST_REQUEST: Duration = Duration::from_secs(4);
/// What stepping down in peace may take unless `on_demote` says otherwise; without that hook it is what main has to
/// end after its stop signal.
pub const DEMOTE_WITHIN: Duration = Duration::from_secs(5);

/// The longest lock delay that Consul keeps (1.8; a longer one is cut to it without a word).
pub const LONGEST_LOCK_DELAY: Duration = Duration::from_secs(60);
/// For how long Consul took no writes after the loss of its leading server, at worst (1.8.7, three servers whose
/// `raft_multiplier` is 2, which suits machines of their own)...
pub const CONSUL_SILENCE: Duration = Duration::from_millis(8_700);
/// ...and where it is Consul's own, 5.
const CONSUL_SILENCE_BY_DEFAULT: Duration = Duration::from_millis(17_600);

/// `[election]`: one of several containers leads.
#[derive(Debug, Clone, PartialEq)]
pub struct Election {
    /// Who stands against whom.
    pub name: String,
    /// This candidate's name, unique in the election: its service's id, else `<name>-<hostname>`, unless set.
    pub id: String,
    /// The id of the service whose address is the leader's.
    pub service: Option<String>,
    /// Whether all run and one leads, or only the leader runs.
    pub mode: Mode,
    /// How long a leader may act on its last proof.
    pub lease: Duration,
    /// How soon a dead agent is noticed (Consul).
    pub alive_ttl: Duration,
    /// How long each part of leading may take.
    pub pace: Pace,
    /// Whether an unhealthy main keeps it from standing and from leading.
    pub require_health: bool,
    /// How eager it is.
    pub prefer: Preference,
    /// A command that prints how far this candidate is.
    pub rank: Option<Hook>,
    /// How many ranks a winner must know, its own included; `None`: as many as there are in time.
    pub quorum: Option<usize>,
    /// What happens at a start in an outage.
    pub without_catalog: WithoutCatalog,
    /// Tags that tell the role in the catalog.
    pub role_tags: Option<RoleTags>,
    /// What is killed at the deadline, and how surely.
    pub fence: Fence,
    /// A directory of this host by which a leader's end is known at once.
    pub witness: Option<PathBuf>,
}

impl Election {
    /// What its quorum of ranks is good for, a line of text; `None`: there is none.
    pub fn quorum_in_words(&self) -> Option<String> {
        let (quorum, name) = (self.quorum?, &self.name);
        let examples: Vec<String> = (quorum..)
            .skip(1)
            .step_by(2)
            .take(2)
            .map(|servers| format!("by {} of {servers}", servers - quorum + 1))
            .collect();
        Some(format!(
            "election {name}: with writes acknowledged by W of N servers, quorum = N - W + 1 loses none; {quorum} suits {}\n",
            examples.join(", ")
        ))
    }
}

/// Whether all run and one leads, or only the leader runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum Mode {
    /// All run, one leads.
    Role,
    /// Only the leader's main runs.
    Standby,
}

/// How eager a candidate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum Preference {
    /// As any other.
    Normal,
    /// Leaves a free lock to others for a while.
    Low,
    /// Never stands.
    Never,
}

/// What happens at a start in an outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum WithoutCatalog {
    /// The start waits for the election's first result.
    Wait,
    /// It starts as a replica.
    Replica,
}

/// Tags that tell the role in the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleTags {
    /// The leader's.
    pub leader: String,
    /// Everybody else's.
    pub replica: String,
}

/// What is killed at the deadline, and how surely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline, transform = words_alone)]
pub enum Fence {
    /// Everything in the container: needs to be PID 1, or alone in a cgroup that can be killed.
    Namespace,
    /// Main's process group, which a child may have left.
    ProcessGroup,
}

/// How long the coprocesses of a leader may take to stop before main is demoted, where the config says so; what it
/// doesn't is as short as for hooks.
pub fn leaders_stop(coprocesses: &[Coprocess]) -> Duration {
    let leaders = coprocesses.iter().filter(|coprocess| coprocess.when == When::Leader);
    leaders.filter_map(|coprocess| coprocess.stop_timeout).max().unwrap_or_default()
}

/// How long each part of leading may take.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pace {
    /// From one renewal to the next.
    pub renew: Duration,
    /// A lease has room for two requests of so long.
    pub request: Duration,
    /// Past this a request has no known outcome: as long as the lease has room for.
    pub patience: Duration,
    /// What stepping down in peace may take.
    pub demote: Duration,
    /// SIGKILL comes this long before another may lead.
    pub kill_margin: Duration,
}

impl Pace {
    /// The shortest lease that loses no leader to two lost requests: one pause between renewals, two requests without
    /// an answer, stepping down, and the kill margin.
    pub fn least(&self) -> Duration {
        self.renew + 2 * self.request + self.demote + self.kill_margin
    }

    /// The same, patient as this lease has room for.
    pub fn within(self, lease: Duration) -> Pace {
        let room = usable(lease).saturating_sub(self.renew + self.demote + self.kill_margin);
        let patience = (room / 2).min(LONGEST_REQUEST).max(self.request);
        Pace { patience, ..self }
    }
}

/// What of a lease can be relied on: the holder's clock may be slow, and the backend's fast.
pub fn usable(lease: Duration) -> Duration {
    lease - lease / 100
}

/// What must fit into a lease, part by part; as text, a line for each thing that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    election: String,
    lease: Duration,
    pace: Pace,
    /// Whether stepping down is a hook's, or main's own after its stop signal.
    on_demote: bool,
    /// The part of it that a leader's coprocesses have to stop.
    coprocesses: Duration,
    /// The longest time without writes that a sound backend has shown.
    silence: Option<Duration>,
    /// A leader's end is known from the kernel of its own host.
    witness: bool,
}

impl Sum {
    /// The sum of a config's election; `None` where nothing is counted on a lease.
    pub fn of(config: &Config) -> Option<Sum> {
        let election = config.election.as_ref()?;
        let coprocesses = leaders_stop(&config.coprocesses);
        Sum::on(&config.catalog.backend, election, config.hooks.on_demote.is_some(), coprocesses)
    }

    pub(super) fn on(backend: &Backend, election: &Election, on_demote: bool, coprocesses: Duration) -> Option<Sum> {
        let silence = match backend {
            Backend::None | Backend::Local { .. } => return None,
            Backend::Consul(_) => Some(CONSUL_SILENCE),
            Backend::Etcd(_) => None,
        };
        let Election { name, lease, pace, witness, .. } = election;
        let witness = witness.is_some();
        Some(Sum {
            election: name.clone(),
            lease: *lease,
            pace: pace.clone(),
            on_demote,
            coprocesses,
            silence,
            witness,
        })
    }

    /// Whether all fits.
    pub fn fits(&self) -> bool {
        usable(self.lease) >= self.pace.least()
    }

    /// What is needed, part by part: `1 s between ... = 11 s`.
    pub fn parts(&self) -> String {
        let Pace { renew, request, demote, kill_margin, .. } = &self.pace;
        let beside = match self.coprocesses {
            Duration::ZERO => String::new(),
            coprocesses => format!("{} for a leader's coprocesses + ", seconds(coprocesses)),
        };
        format!(
            "{} between renewals + 2 × {} for requests without an answer + {beside}{} {} + {} kill_margin = {}",
            seconds(*renew),
            seconds(*request),
            seconds(demote.saturating_sub(self.coprocesses)),
            if self.on_demote { "on_demote" } else { "to stop the main process" },
            seconds(*kill_margin),
            seconds(self.pace.least()),
        )
    }

    /// The shortest lease, in whole seconds, into which all fits.
    pub fn least_lease(&self) -> Duration {
        lease_of(self.pace.least())
    }

    /// For how long a leader outlives a backend that takes no writes, when that begins just before a renewal.
    pub fn outlives(&self) -> Duration {
        let Pace { renew, demote, kill_margin, .. } = &self.pace;
        usable(self.lease).saturating_sub(*renew + *demote + *kill_margin)
    }

    /// What is left of the lease, in words.
    pub(super) fn left(&self) -> String {
        format!("{} lease less 1 % is {}", seconds(self.lease), seconds(usable(self.lease)))
    }
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(f)?;
        if self.witness {
            let lease = seconds(self.lease);
            write!(
                f,
                "\nwith the witness, who is next waits {lease} only for a whole host that is lost, not for a container"
            )?;
        }
        Ok(())
    }
}

impl Sum {
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outlives = self.outlives();
        writeln!(f, "election {}: {}; needed: {}", self.election, self.left(), self.parts())?;
        write!(f, "a leader outlives a store that takes no writes for {}, at worst", seconds(outlives))?;
        let Some(silence) = self.silence else { return Ok(()) };
        let lost = format!(
            "the loss of a Consul server was measured to take up to {}, and up to {} with Consul's own raft_multiplier of 5",
            seconds(silence),
            seconds(CONSUL_SILENCE_BY_DEFAULT)
        );
        if outlives >= silence {
            return write!(f, "; {lost}");
        }
        let enough = lease_of(silence + (usable(self.lease) - outlives));
        write!(f, "\nwarning: {lost}; for the first, ")?;
        if enough <= LONGEST_LOCK_DELAY {
            write!(f, "`lease = \"{}s\"` outlives that", enough.as_secs())
        } else {
            write!(f, "no lease outlives that unless stepping down takes less")
        }
    }
}

/// The shortest lease, in whole seconds, of which this is left.
fn lease_of(needed: Duration) -> Duration {
    let mut lease = Duration::from_secs(needed.as_secs());
    while usable(lease) < needed {
        lease += Duration::from_secs(1);
    }
    lease
}

/// `14.85 s`: sums are added up in one unit, to the millisecond.
fn seconds(duration: Duration) -> String {
    let text = format!("{:.3}", duration.as_secs_f64());
    format!("{} s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(lease: u64, demote: u64, silence: Option<Duration>) -> Sum {
        let pace = Pace {
            renew: RENEW_EVERY,
            request: REQUEST_WITHIN,
            patience: REQUEST_WITHIN,
            demote: Duration::from_secs(demote),
            kill_margin: Duration::from_secs(1),
        };
        Sum {
            election: "mysql".to_owned(),
            lease: Duration::from_secs(lease),
            pace,
            coprocesses: Duration::ZERO,
            on_demote: true,
            silence,
            witness: false,
        }
    }

    #[test]
    fn a_request_may_take_what_a_lease_has_room_for() {
        let patience = |lease| sum(lease, 5, None).pace.within(Duration::from_secs(lease)).patience;
        assert_eq!(patience(12), Duration::from_millis(2_440));
        assert_eq!(patience(15), Duration::from_millis(3_925));
        assert_eq!(patience(60), LONGEST_REQUEST);
        assert_eq!(patience(8), REQUEST_WITHIN, "too short a lease is refused elsewhere");
    }

    #[test]
    fn a_sum_shows_its_parts_and_what_follows_from_them() {
        assert_eq!(
            sum(15, 5, None).to_string(),
            "election mysql: 15 s lease less 1 % is 14.85 s; needed: 1 s between renewals + 2 × 2 s for requests without \
             an answer + 5 s on_demote + 1 s kill_margin = 11 s\n\
             a leader outlives a store that takes no writes for 7.85 s, at worst"
        );
        let without_hook = Sum { on_demote: false, ..sum(15, 5, None) };
        assert!(without_hook.parts().contains("+ 5 s to stop the main process +"), "{without_hook}");
    }

    #[test]
    fn a_witness_makes_a_long_lease_cheap_and_the_sum_says_so() {
        let told = Sum { witness: true, ..sum(60, 5, Some(CONSUL_SILENCE)) }.to_string();
        let lines: Vec<&str> = told.lines().collect();
        assert!(lines[1].starts_with("a leader outlives a store that takes no writes for 52.4 s, at worst"), "{told}");
        let last = "with the witness, who is next waits 60 s only for a whole host that is lost, not for a container";
        assert_eq!(lines[2], last);
    }

    #[test]
    fn a_lease_that_a_lost_consul_server_outlasts_is_told_of_with_one_that_would_do() {
        let told = sum(15, 5, Some(CONSUL_SILENCE)).to_string();
        let warning = "warning: the loss of a Consul server was measured to take up to 8.7 s, and up to 17.6 s with Consul's \
                       own raft_multiplier of 5; for the first, `lease = \"16s\"` outlives that";
        assert_eq!(told.lines().last(), Some(warning));
        let enough = sum(16, 5, Some(CONSUL_SILENCE));
        assert!(enough.outlives() >= CONSUL_SILENCE && !enough.to_string().contains("warning"), "{enough}");
        let never = sum(60, 50, Some(CONSUL_SILENCE)).to_string();
        assert!(never.ends_with("no lease outlives that unless stepping down takes less"), "{never}");
    }

    #[test]
    fn the_least_lease_is_the_first_whole_second_that_holds_all() {
        for demote in 1..60 {
            let least = sum(1, demote, None).least_lease().as_secs();
            assert!(sum(least, demote, None).fits() && !sum(least - 1, demote, None).fits(), "{demote}");
        }
    }
}
