//! The switchboard: one call for each effect, into the adapter that carries it out. Nothing here waits: slow work is a
//! task that answers with an event, and a task that panics answers with the failure it stands for.
//!
//! - `processes`: what is started and signalled; `waiting`: runs that wait for their files; `on_change`: what one reads.
//! - `catalog`: services, keys and what is followed; `keys`: what is said of a key; `election`: requests to a store.
//! - `files`: templates, secrets, the config. `endpoints`: our own. `tasks`: what runs beside the loop.

mod catalog;
mod election;
mod endpoints;
mod files;
mod keys;
pub(crate) mod on_change;
mod processes;
mod tasks;
mod waiting;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::catalog::election::LockClient;
use crate::catalog::{Backend, report};
use crate::config::election::REQUEST_WITHIN;
use crate::config::{self, Config, Control, Coprocess, Limits, Query, Service, Source, Telemetry};
use crate::endpoints::{ControlRequest, Endpoint};
use crate::files::Turn;
use crate::logging;
use crate::process::out_of_memory::OutOfMemory;
use crate::process::{self, Processes};
use crate::supervisor::machines::election::event::{ElectionEvent, Renewal, StoreRequest};
use crate::supervisor::vocabulary::{Answer, Job, ReplyId};
use crate::supervisor::{Effect, Event, Notice, Status, Time};

use self::catalog::Follower;
use self::endpoints::Opened;
use waiting::{Ordered, Waiting};

/// The adapters, and what is under way in them.
pub struct Adapters {
    processes: Processes,
    backend: Arc<Backend>,
    /// Which store that is.
    store: Arc<str>,
    source: Source,
    lock_client: Option<Arc<LockClient>>,
    /// So long a request of the election has.
    request_within: Duration,
    services: Vec<Arc<Service>>,
    /// Hooks get main's.
    limits: Limits,
    /// Held while main's files are read.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// Held while a config is read.
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Held while what a config names is looked at.
    surveying: Arc<tokio::sync::Mutex<()>>,
    /// One for each query, whoever follows it; and whether a value is of use to them.
    followers: HashMap<(Query, bool), Follower>,
    /// Those that something is done for, by where their files are.
    templates: HashMap<PathBuf, Turn>,
    /// Hooks, checks and coprocesses that wait for their files.
    waiting: Waiting,
    end_awaited: Option<AbortHandle>,
    replies: HashMap<ReplyId, oneshot::Sender<Answer>>,
    last_reply: u64,
    /// What was said of the last signal, if that was refused.
    refused: Option<String>,
    /// `None` in a plain init, which says nothing.
    out_of_memory: Option<OutOfMemory>,
    telemetry: Option<(Telemetry, Opened)>,
    control: Option<(Control, Vec<Opened>)>,
    endpoint: Endpoint,
    tell: mpsc::Sender<Event>,
    observe: mpsc::Sender<Event>,
}

/// The ways to the loop.
pub struct Senders {
    /// For what a task tells.
    pub tell: mpsc::Sender<Event>,
    /// For what a follower sees.
    pub observe: mpsc::Sender<Event>,
    /// For what is asked at the control endpoint.
    pub ask: mpsc::Sender<ControlRequest>,
}

impl Adapters {
    /// Adapters of this config. A catalog that can't even be opened is reported by each call to it.
    pub fn new(
        config: &Config,
        source: Source,
        processes: Processes,
        senders: Senders,
        status: watch::Receiver<Status>,
    ) -> Adapters {
        let mut processes = processes;
        let Senders { tell, observe, ask } = senders;
        if let config::Backend::Consul(_) = &config.catalog.backend {
            processes.keep_secret(&config::backends::CONSUL_SECRETS);
        }
        process::users::mind_groups(config.users().into_keys());
        let backend = Backend::open(&config.catalog).unwrap_or_else(|error| {
            degraded(format!("there is no catalog: {}", report(&error)));
            Backend::None
        });
        Adapters {
            processes,
            backend: Arc::new(backend),
            store: config.catalog.store().into(),
            lock_client: None,
            request_within: REQUEST_WITHIN,
            services: Vec::new(),
            limits: config.process.limits.clone(),
            templates: HashMap::new(),
            waiting: Waiting::default(),
            reading: Arc::default(),
            loading: Arc::default(),
            surveying: Arc::default(),
            followers: HashMap::new(),
            end_awaited: None,
            replies: HashMap::new(),
            last_reply: 0,
            refused: None,
            out_of_memory: source.file.is_some().then(OutOfMemory::watch),
            telemetry: None,
            control: None,
            endpoint: Endpoint::new(status, ask),
            source,
            tell,
            observe,
        }
    }

    /// Carries out an effect that was decided then; what is known at once about its outcome comes back. A pause may lie
    /// between the two, in which a leader's time has ended: what would speak for it after that is given up.
    pub fn perform(&mut self, decided: Time, effect: Effect) -> Vec<Event> {
        if self.processes.lease_ended_since(decided)
            && let Some(event) = given_up(&effect)
        {
            if let Effect::Install { staged, .. } = effect {
                self.discard(staged);
            }
            return vec![event];
        }
        match effect {
            Effect::ReadFiles { run, process } => self.read_files(run, process),
            Effect::SpawnMain { run, process, files, env } => return self.spawn_main(run, &process, &files, env),
            Effect::Spawn { run, job, role, exec, run_as, env, stdin } => {
                let stdin = stdin.as_ref().map(on_change::json);
                return self.order(run, Ordered { job, role, exec, run_as, env, stdin, coprocess: None });
            }
            Effect::SpawnCoprocess { run, coprocess, env } => {
                let Coprocess { name, when: role, exec, run_as, .. } = (*coprocess).clone();
                let (job, coprocess) = (Job::Coprocess { name }, Some(coprocess));
                return self.order(run, Ordered { job, role, exec, run_as, env, stdin: None, coprocess });
            }
            Effect::Kill { target, signal } => {
                self.kill(target, signal);
                return self.waiting.told(target, signal).into_iter().collect();
            }
            Effect::Forward { target, signal, reply } => return vec![self.forward(target, signal, reply)],
            Effect::Signal { name, target, signal, reply } => {
                self.kill(target, signal);
                self.answer_sent(reply, signal, &name);
            }
            Effect::Suspend => self.processes.suspend(),
            Effect::EndGroup { signal } => self.processes.end_group(signal),
            Effect::Hint { watch, target, signal } => return vec![self.hint(watch, target, signal)],
            Effect::CountStrays { may_wait } => return self.processes.count_strays(may_wait).into_iter().collect(),
            Effect::CountRest => return vec![self.processes.count_rest()],
            Effect::FollowStray { run, told, only } => {
                return self.processes.follow_stray(run, told, only).into_iter().collect();
            }
            Effect::Probe { run, probe, timeout } => self.probe(run, probe, timeout),
            Effect::Publish(registration) => self.publish(registration),
            Effect::Withdraw { service } => self.withdraw(service),
            Effect::Key { reply, request, fence } => self.key(reply, request, fence),
            Effect::Follow { follow, query } => return self.follow(follow, query).into_iter().collect(),
            Effect::Unfollow { follow } => self.unfollow(&follow),
            Effect::Render { watch, template, seen, unanswered } => self.render(watch, template, seen, unanswered),
            Effect::Install { watch, staged } => self.install(watch, staged),
            Effect::Discard(staged) => self.discard(staged),
            Effect::JoinElection(election) => self.settings(&election),
            Effect::AskWhoActed { fence, id, within } => self.ask_who_acted(fence, id, within),
            Effect::AskWhetherLed { election, term } => self.ask_whether_led(election, term),
            Effect::TellActing { fence, id, mark } => self.tell_acting(fence, id, mark),
            Effect::Guard { deadline } => {
                let silent = self.processes.guard_until(deadline);
                return self.with_warnings(silent.into_iter().collect());
            }
            Effect::Elect(request) => self.elect(request),
            Effect::StartGuard => return vec![self.processes.start_guard()],
            Effect::LoadConfig => self.load_config(),
            Effect::FollowCalendar => self.follow_calendar(),
            Effect::Services(services) => self.services = services,
            Effect::Endpoints { telemetry, control } => self.endpoints(telemetry, control),
            Effect::Logging(log) => logging::configure(&log),
            Effect::Reply { reply, answer } => self.answer(reply, answer),
            Effect::Say(notice) => logging::say(&notice),
            // The loop sees to them before they come here.
            Effect::Exit { .. } | Effect::TellOuter(_) => {}
        }
        Vec::new()
    }

    /// What a task tells: most of it the supervisor.
    pub fn heard(&mut self, event: Event) -> Vec<Event> {
        match event {
            Event::FilesRead { run, result } => match (self.waiting.take(run), result) {
                (None, result) => vec![Event::FilesRead { run, result }],
                (Some(ordered), Ok(files)) => self.spawn(run, ordered, &files),
                (Some(_), Err(error)) => vec![Event::SpawnFailed { run, error }],
            },
            event => vec![event],
        }
    }
}

/// How an effect is answered that comes too late; `None`: it harms nobody, or looks at the clock itself.
fn given_up(effect: &Effect) -> Option<Event> {
    let why = || "the lease ended first".to_owned();
    Some(match effect {
        Effect::Publish(registration) => {
            Event::Published { service: registration.service.id.clone(), result: Err(why()) }
        }
        Effect::Install { watch, .. } => Event::Installed { watch: watch.clone(), result: Err(why()) },
        Effect::Hint { watch, .. } => Event::Hinted { watch: watch.clone(), sent: false },
        Effect::Elect(StoreRequest::Renew { ask, .. }) => {
            Event::Election(ElectionEvent::Renewed { ask: *ask, result: Renewal::Unknown(why()) })
        }
        _ => return None,
    })
}

fn degraded(what: String) {
    logging::say(&Notice::Degraded { what });
}

#[cfg(test)]
mod tests {
    use crate::config::Signal;
    use crate::supervisor::vocabulary::{RunId, Target};

    use super::*;

    #[test]
    fn what_would_speak_for_a_leader_whose_time_is_over_is_answered_as_failed() {
        use crate::supervisor::machines::election::RequestId;
        use crate::supervisor::machines::election::record::{SessionId, Term};
        let renew = Effect::Elect(StoreRequest::Renew { ask: RequestId(3), session: SessionId(1), term: Term(7) });
        let unknown = |event| {
            matches!(event, Event::Election(ElectionEvent::Renewed { ask: RequestId(3), result: Renewal::Unknown(_) }))
        };
        assert!(given_up(&renew).is_some_and(unknown));
        let hint = |signal| Effect::Hint { watch: "app".to_owned(), target: Target::Process(RunId(1)), signal };
        assert!(matches!(given_up(&hint(Signal::HUP)), Some(Event::Hinted { sent: false, .. })));
        // What ends something comes never too late, and what is forked looks itself.
        assert!(given_up(&Effect::Kill { target: Target::Strays, signal: Signal::KILL }).is_none());
        assert!(given_up(&Effect::CountStrays { may_wait: true }).is_none());
    }
}
