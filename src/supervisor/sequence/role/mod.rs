//! What an election means for the container: told to lead, it promotes main; told to go, it has main leave the role or
//! stops it; and it tells the election of all that bears on it. Who leads is decided in
//! [`election`](crate::supervisor::machines::election).
//!
//! Here is what a container's part is made of and how the election's orders are obeyed; [`transition`] is the way into
//! the leader's role and out of it, [`preparation`] whether main may start in its role, [`acting`] how a leader says that it
//! acts, [`announce`] who learns of it, [`complaints`] what is said of a store that fails, [`rank`] what others ask,
//! [`report`] what people are told.

mod acting;
mod announce;
mod complaints;
mod preparation;
mod rank;
mod report;
mod transition;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::config::election::{LONGEST_LOCK_DELAY, Mode};
use crate::config::{Backend, Election as Config, Service, When};

use self::complaints::Complaints;
use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::KILL_AFTER;
use crate::supervisor::machines::election::event::Renewal;
use crate::supervisor::machines::election::record::{Holder, Term, UNKNOWN};
use crate::supervisor::machines::election::{
    Election, ElectionEffect, ElectionEvent, RENEWING, Ranking, RequestId, Settings,
};
use crate::supervisor::sequence::duties::{Duty, keeps};
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::vocabulary::{Effect, Fence, Notice, RunId, StartReason, Step, Time, earliest};

/// Between two tries for a guard: one that ends as soon as it stands must not keep a processor busy.
const GUARD_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Between two reads of the ranks, while others measure theirs: some 10 ms are usual for that.
const READ_RANKS_EVERY: Duration = Duration::from_millis(100);
/// How long a promotion waits for the end of what runs for replicas: its SIGKILL, and that to show.
const CLEAR_WITHIN: Duration = KILL_AFTER.saturating_add(Duration::from_secs(1));

/// What hooks are told where there is no election.
pub fn no_env() -> Vec<(String, String)> {
    ["ROLE", "TERM", "LEADER_ID", "LEADER", "FIRST"].map(|name| (format!("PILOTFISH_{name}"), String::new())).into()
}

/// This container's part in its election.
#[derive(Debug)]
pub struct Leadership {
    config: Arc<Config>,
    core: Election,
    role: Role,
    leader: Option<Holder>,
    /// The lock's key, while its value isn't an agent's, and whether it stays so.
    foreign: Option<(String, bool)>,
    /// The leader that main, or the hook for replicas, knows of.
    announced: Option<Holder>,
    /// The leader that the preparation under way was told of, if there is any.
    prepared_for: Option<Option<Holder>>,
    announcing: Option<RunId>,
    acting: acting::Acting,
    measuring: Option<Measuring>,
    /// It is asked first whether anybody has led yet.
    measures_once_known: Option<RequestId>,
    /// The rank that is asked for next, once nothing is left of the last measuring.
    measures_next: Option<RequestId>,
    /// What `[[wait_for]]` and `pre_start` have made ready for since main last led.
    prepared: Option<Part>,
    /// `on_leader_change` failed since main was started.
    remakes: bool,
    /// What main was started as, or was made since by `on_promote` or `on_demote`.
    part: Part,
    /// SIGKILL didn't end main: the lock isn't given back while it may act, only the container's end can help.
    stuck: bool,
    /// Something that acts for the leader can only be ended together with all that main leaves.
    lost: bool,
    /// What the election is yet to be told: an order obeyed at once may have news for it.
    events: VecDeque<ElectionEvent>,
    healthy: bool,
    ready: bool,
    /// As the watches know it.
    led: bool,
    leaderships: u64,
    /// The time of the leadership that it leaves is over.
    over: bool,
    /// When it is.
    leave_by: Option<Time>,
    guard_since: Option<Time>,
    guard_again_at: Option<Time>,
    /// Whether the witness stands, once that is known.
    witness: Option<Result<(), String>>,
    complaints: Complaints,
}

/// What main is, or is prepared for: the data it works on is one or the other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Replica,
    Leader,
}

/// What this container is in its election.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Another one leads, or nobody.
    Replica,
    /// Leads.
    Leader {
        /// Its fencing token.
        term: Term,
        /// How far main is.
        promotion: Promotion,
    },
    /// Must not lead any more, and may still act.
    Leaving {
        /// The term that is over.
        term: Term,
        /// How far it has come.
        stage: Leaving,
    },
}

/// How far main is on its way into the leader's role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// What runs for replicas, and may have main follow another, is being ended.
    Clearing {
        /// For so long at most.
        until: Time,
    },
    /// Main isn't up yet, or not healthy.
    Due,
    /// `on_promote` runs.
    Running(RunId),
    /// Main acts as leader.
    Done,
}

/// How far main is on its way out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// What acts beside main is being ended.
    Clearing,
    /// `on_demote` runs.
    Demoting {
        /// As this.
        run: RunId,
        /// For so long at most.
        until: Time,
    },
    /// It succeeded; what it left behind is being ended.
    Demoted,
    /// Main is being stopped.
    Stopping,
}

/// The rank's command.
#[derive(Debug)]
struct Measuring {
    ask: RequestId,
    run: RunId,
    printed: Option<String>,
}

impl Leadership {
    /// A candidate that knows nothing yet. The same seed gives the same scatter.
    pub fn new(config: Config, backend: &Backend, seed: u64) -> Leadership {
        let settings = Settings {
            id: config.id.as_str().into(),
            prefer: config.prefer,
            rank: config.rank.as_ref().map(|rank| Ranking {
                within: rank.timeout,
                quorum: config.quorum,
                every: READ_RANKS_EVERY,
                longest_hold_off: config.lease.max(LONGEST_LOCK_DELAY),
            }),
            pace: config.pace.clone(),
            witness: config.witness.is_some(),
            lease: (!matches!(backend, Backend::Local { .. })).then_some(config.lease),
        };
        Leadership {
            core: Election::new(settings, seed),
            config: Arc::new(config),
            role: Role::Replica,
            leader: None,
            foreign: None,
            announced: None,
            prepared_for: None,
            announcing: None,
            acting: acting::Acting::default(),
            measuring: None,
            measures_once_known: None,
            measures_next: None,
            prepared: None,
            remakes: false,
            part: Part::Replica,
            stuck: false,
            lost: false,
            events: VecDeque::new(),
            healthy: true,
            ready: true,
            led: false,
            leaderships: 0,
            over: false,
            leave_by: None,
            guard_since: None,
            guard_again_at: None,
            witness: None,
            complaints: Complaints::default(),
        }
    }

    /// As configured.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Whether this container leads, or is to as soon as main is up.
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// What this container is now.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Whether nothing of it is in the store any more.
    pub fn is_over(&self) -> bool {
        self.core.is_over()
    }

    /// That the container ends without knowing that of its lock.
    pub fn left_behind(&self) -> Notice {
        let because = self.core.error().map(str::to_owned);
        Notice::LockLeft { election: self.config.name.clone(), lease: self.config.lease, because }
    }

    /// Whether something may act for the leader, or `on_demote` runs, and will come to an end: the lock is kept.
    pub fn may_act(&self) -> bool {
        self.is_leaving() && !self.stuck
    }

    /// By which term something may be written that is the leader's alone: from when main may act until nothing does.
    pub fn fence(&self) -> Option<Fence> {
        let (Role::Leader { term, .. } | Role::Leaving { term, .. }) = self.role else { return None };
        let session = self.core.held_by(term)?;
        Some(Fence { election: self.config.name.clone(), session, term })
    }

    fn is_leaving(&self) -> bool {
        matches!(self.role, Role::Leaving { .. })
    }

    /// Who leads, as far as is known. That it did itself says nothing once it doesn't hold the lock any more, and who has
    /// overwritten the lock is no leader.
    fn known_leader(&self) -> Option<&Holder> {
        let known = |leader: &&Holder| self.core.term().is_some() || *leader.id != *self.config.id;
        self.leader.as_ref().filter(known).filter(|_| self.foreign.is_none())
    }

    /// Who leads, once it acts.
    fn acting_leader(&self) -> Option<&Holder> {
        self.leader.as_ref().filter(|leader| self.acts(leader))
    }

    /// When something must happen next.
    pub fn deadline(&self) -> Option<Time> {
        let own = match self.role {
            Role::Leaving { stage: Leaving::Demoting { until, .. }, .. }
            | Role::Leader { promotion: Promotion::Clearing { until }, .. } => Some(until),
            Role::Leaving { .. } | Role::Leader { .. } | Role::Replica => None,
        };
        [own, self.guard_again_at, self.acting.deadline()].into_iter().fold(self.core.deadline(), earliest)
    }

    /// What main and hooks are told.
    pub fn env(&self) -> Vec<(String, String)> {
        let mut env = Vec::new();
        let mut set = |name: &str, value: String| env.push((format!("PILOTFISH_{name}"), value));
        set("ROLE", if self.leads() { "leader" } else { "replica" }.to_owned());
        let leader = self.leader.as_ref().filter(|_| self.foreign.is_none());
        // To hold the lock and not to act is to be a replica, and no replica of itself.
        let leader = leader.filter(|leader| !matches!(self.role, Role::Replica) || *leader.id != *self.config.id);
        let own = match self.role {
            Role::Leader { term, .. } | Role::Leaving { term, .. } => Some(term),
            Role::Replica => None,
        };
        let term = own.or(leader.map(|leader| leader.term));
        set("TERM", term.map(|term| term.0.to_string()).unwrap_or_default());
        // That it leads is known before the catalog shows it.
        let id = if self.leads() { Some(self.config.id.as_str()) } else { leader.map(|leader| &*leader.id) };
        set("LEADER_ID", id.unwrap_or_default().to_owned());
        // A leader to follow is one that acts.
        let acts = |leader: &&Holder| !matches!(self.role, Role::Replica) || self.acts(leader);
        let address = leader.filter(|leader| Some(&*leader.id) == id).filter(acts);
        let address = address.and_then(|leader| leader.address.as_ref());
        set("LEADER", address.map(ToString::to_string).unwrap_or_default());
        // What the leader has written since it acts is nobody's to initialise.
        let first = match self.role {
            Role::Leader { promotion: Promotion::Done, .. } | Role::Leaving { .. } | Role::Replica => false,
            Role::Leader { term, .. } => self.acting.is_first(term),
        };
        set("FIRST", if first { "1" } else { "" }.to_owned());
        env
    }

    /// A service as the catalog shall have it: with the role's tag.
    pub fn tagged(&self, service: &Arc<Service>) -> Arc<Service> {
        let Some(tags) = self.config.role_tags.as_ref().filter(|_| self.config.service.as_ref() == Some(&service.id))
        else {
            return service.clone();
        };
        let acts = matches!(self.role, Role::Leader { promotion: Promotion::Done, .. });
        let mut tagged = Service::clone(service);
        tagged.tags.push(if acts { &tags.leader } else { &tags.replica }.clone());
        Arc::new(tagged)
    }
}

impl Supervisor {
    /// Tells the election something, and does what it orders.
    pub(in crate::supervisor) fn elect(&mut self, step: &mut Step<'_>, event: ElectionEvent) {
        if let Some(leadership) = &mut self.leadership {
            // Nothing else shows it: what was to fail by it hasn't.
            if let ElectionEvent::Renewed { result: Renewal::Alive(_), .. } = &event
                && leadership.complaints.is_over(step.now, RENEWING)
            {
                step.out.push(Effect::Say(Notice::CatalogBack { what: RENEWING.to_owned() }));
            }
            leadership.events.push_back(event);
        }
        self.advance_election(step);
    }

    /// Tells the election all there is to tell.
    fn advance_election(&mut self, step: &mut Step<'_>) {
        while let Some(leadership) = &mut self.leadership
            && let Some(event) = leadership.events.pop_front()
        {
            for order in leadership.core.handle(step.now, event) {
                self.obey(step, order);
            }
        }
    }

    fn tell_election(&mut self, event: ElectionEvent) {
        if let Some(leadership) = &mut self.leadership {
            leadership.events.push_back(event);
        }
    }

    fn obey(&mut self, step: &mut Step<'_>, order: ElectionEffect) {
        let Some(leadership) = &mut self.leadership else { return };
        match order {
            ElectionEffect::Promote { term } => {
                let until = step.now + CLEAR_WITHIN;
                leadership.role = Role::Leader { term, promotion: Promotion::Clearing { until } };
                leadership.leaderships += 1;
                (leadership.over, leadership.leave_by) = (false, None);
                leadership.announced = None;
                step.out.push(Effect::Say(Notice::Promoting { term }));
                self.commands.leave(step, When::Replica, None);
                // What this role waits for, and is prepared by, may be something else.
                self.prepare_anew(step);
                self.starts_for_role(StartReason::Demotion);
                self.ask_who_acted(step);
            }
            ElectionEffect::Demote { by, .. } => {
                leadership.leave_by = by;
                self.leave_role(step);
            }
            ElectionEffect::Kill { .. } => {
                leadership.over = true;
                self.leave_role(step);
                if let Some(Leadership { role: Role::Leaving { stage, .. }, part, .. }) = &mut self.leadership {
                    // A main that is still a replica does no harm.
                    if *part == Part::Leader && keeps(Duty::KillMain) {
                        *stage = Leaving::Stopping;
                        self.main.kill(step);
                    }
                    self.commands.kill(step);
                }
            }
            ElectionEffect::Leader(leader) => {
                let (id, address) = match &leader {
                    Some(Holder { id, address, .. }) => (Some(id.to_string()), address.as_ref().map(|a| a.to_string())),
                    None => (None, None),
                };
                // What its record says beside that is nothing to people.
                let told = |holder: &Holder| (holder.id.clone(), holder.session, holder.term, holder.address.clone());
                let news = leadership.leader.as_ref().map(told) != leader.as_ref().map(told);
                let another = leader.as_ref().is_some_and(|leader| *leader.id != *leadership.config.id);
                leadership.leader = leader;
                let (election, catalog) = (leadership.config.name.clone(), &self.config.catalog);
                // A kernel's lock is held before anything is written of who holds it; and the session that holds one's own
                // ends with one's term.
                let foreign = leadership.leader.as_ref().is_some_and(|leader| *leader.id == *UNKNOWN)
                    && (catalog.keeps_overwritten_locks() || leadership.core.term().is_none());
                let key = catalog.lock_key(&election).filter(|_| foreign);
                let lock = key.map(|key| (key, catalog.keeps_overwritten_locks()));
                let is_known = leadership.foreign.is_some() && leadership.foreign == lock;
                leadership.foreign.clone_from(&lock);
                match lock {
                    Some((key, stays)) if !is_known => {
                        step.out.push(Effect::Say(Notice::LockForeign { election, key, stays }));
                    }
                    None if news => step.out.push(Effect::Say(Notice::LeaderChanged { id, address })),
                    Some(_) | None => {}
                }
                if another && self.is_standby() && self.main.is_gone() {
                    // However its main ended, it runs again for the role alone.
                    self.starts_for_role(self.start_reason);
                }
            }
            ElectionEffect::Say(Notice::ElectionFailed { what, error }) => {
                if leadership.complaints.is_news(step.now, &what, &error) {
                    step.out.push(Effect::Say(Notice::ElectionFailed { what, error }));
                }
            }
            ElectionEffect::Say(notice) => step.out.push(Effect::Say(notice)),
            ElectionEffect::MeasureRank { ask } => self.measure_rank(step, ask),
            ElectionEffect::Store(request) => step.out.push(Effect::Elect(request)),
            ElectionEffect::Guard { deadline } => step.out.push(Effect::Guard { deadline }),
        }
    }

    /// A main that was to be prepared for this reason is prepared because it is given the role. The first start stays that.
    fn starts_for_role(&mut self, instead_of: StartReason) {
        if self.start_reason == instead_of && instead_of != StartReason::FirstStart {
            self.start_reason = StartReason::Promotion;
        }
    }

    /// Takes every step of promoting, demoting and telling that nothing holds back any more.
    pub(in crate::supervisor) fn advance_role(&mut self, step: &mut Step<'_>) {
        let Some(leadership) = &mut self.leadership else { return };
        if leadership.guard_again_at.is_some_and(|at| at <= step.now) {
            leadership.guard_again_at = None;
            step.out.push(Effect::StartGuard);
        }
        let (healthy, ready) = (self.is_fit_to_lead(), self.is_ready_to_lead());
        if let Some(leadership) = &mut self.leadership {
            if leadership.healthy != healthy {
                leadership.healthy = healthy;
                leadership.events.push_back(ElectionEvent::Health { healthy });
            }
            if leadership.ready != ready {
                leadership.ready = ready;
                leadership.events.push_back(ElectionEvent::Ready { ready });
            }
        }
        loop {
            self.clear_for_promotion(step);
            self.give_up_beginning(step.now);
            self.promote(step);
            self.advance_demotion(step);
            if self.leadership.as_ref().is_none_or(|leadership| leadership.events.is_empty()) {
                break;
            }
            self.advance_election(step);
        }
        self.advance_acting(step);
        self.tell_of_leader(step);
        self.tag(step.out);
        let leads = self.leads();
        if let Some(leadership) = &mut self.leadership
            && leadership.led != leads
        {
            leadership.led = leads;
            // What changed while the role was another one.
            self.each_watch(step, |watch, context| watch.act(context));
        }
    }

    /// Whether an unhealthy main, or one that is down, doesn't keep this candidate from standing.
    fn is_fit_to_lead(&self) -> bool {
        let Some(leadership) = &self.leadership else { return true };
        // A standby's main runs only while it leads. One that ended while something it left lives on isn't gone: what
        // becomes of the role is decided by what becomes of main.
        let down = leadership.config.mode == Mode::Role
            && matches!(self.life.stage(), LifeStage::Running { .. })
            && self.main.is_gone()
            && !leadership.is_leaving();
        let unhealthy = leadership.config.require_health
            && self.checks.iter().any(|check| check.bears_on_role() && check.is_unhealthy());
        // One that is to end, to run again, could only be promoted to leave its role at once. Who leads leads on until
        // those who watch look elsewhere.
        let drains = self.orders.is_draining() && self.leads();
        // Told already, it is the next one that starts.
        let is_next = !self.orders.will_stop_main() && self.main.is_starting();
        let ending = self.orders.restart_main() && !self.main.is_gone() && !is_next && !drains;
        !down && !unhealthy && !ending
    }

    /// Whether the time is over in which anything may still be done for the leader that this container was.
    pub(in crate::supervisor) fn is_time_over(&self) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| leadership.over)
    }

    /// How long what acts beside main may take to end once the role is being left: main, and `on_demote`, come after it.
    pub(in crate::supervisor) fn time_beside_leaving(&self, now: Time) -> Option<Duration> {
        let leadership = self.leadership.as_ref().filter(|leadership| leadership.is_leaving())?;
        leadership.leave_by.filter(|by| *by > now).map(|by| now.until(by) / 3)
    }

    /// Whether a winner could be promoted at once. A standby's main runs only while it leads, so none of them is readier.
    fn is_ready_to_lead(&self) -> bool {
        self.is_standby() || self.is_main_ready()
    }

    /// Whether main runs only while it leads.
    pub(in crate::supervisor) fn is_standby(&self) -> bool {
        self.leadership.as_ref().is_some_and(|leadership| leadership.config.mode == Mode::Standby)
    }

    /// Whether main leads, once it is neither on its way into that role nor out of it.
    pub(in crate::supervisor) fn settled_role(&self) -> Option<bool> {
        match self.leadership.as_ref().map(|leadership| leadership.role) {
            None | Some(Role::Replica) => Some(false),
            Some(Role::Leader { promotion: Promotion::Done, .. }) => Some(true),
            Some(Role::Leader { .. } | Role::Leaving { .. }) => None,
        }
    }

    /// The witness stands, or doesn't: each is said when it begins. That it stands from the start is no news.
    pub(in crate::supervisor) fn witness_stands(&mut self, step: &mut Step<'_>, stands: Result<(), String>) {
        let Some(leadership) = &mut self.leadership else { return };
        match (&leadership.witness, &stands) {
            (None | Some(Ok(())), Err(error)) => {
                step.out.push(Effect::Say(Notice::WitnessLost { error: error.clone() }))
            }
            (Some(Err(_)), Ok(())) => step.out.push(Effect::Say(Notice::WitnessBack)),
            (None | Some(Ok(())), Ok(())) | (Some(Err(_)), Err(_)) => {}
        }
        leadership.witness = Some(stands);
    }

    /// The guard stands, or has ended.
    pub(in crate::supervisor) fn guarded(&mut self, step: &mut Step<'_>, stands: bool) {
        if let Some(leadership) = &mut self.leadership {
            match (stands, leadership.guard_since) {
                (true, _) => (leadership.guard_since, leadership.guard_again_at) = (Some(step.now), None),
                (false, Some(since)) => {
                    leadership.guard_since = None;
                    leadership.guard_again_at = Some(step.now.max(since + GUARD_AGAIN_AFTER));
                }
                (false, None) => leadership.guard_again_at = Some(step.now + GUARD_AGAIN_AFTER),
            }
        }
        self.elect(step, ElectionEvent::Guard { stands });
    }

    /// Whether main acts as leader.
    pub(in crate::supervisor) fn acts_as_leader(&self) -> bool {
        let role = self.leadership.as_ref().map(Leadership::role);
        matches!(role, Some(Role::Leader { promotion: Promotion::Done, .. }))
    }

    /// Whether another container leads, or nobody.
    pub(in crate::supervisor) fn is_replica(&self) -> bool {
        matches!(self.leadership.as_ref().map(Leadership::role), Some(Role::Replica))
    }

    /// Whether main doesn't run because it is another container's turn to, or nobody's.
    pub(in crate::supervisor) fn waits_for_its_turn(&self) -> bool {
        let standby = |leadership: &Leadership| leadership.config.mode == Mode::Standby;
        matches!(self.life.stage(), LifeStage::Electing { .. })
            && !self.main.is_up()
            && self.is_replica()
            && self.leadership.as_ref().is_some_and(standby)
    }
}
