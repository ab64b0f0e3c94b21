//! One function per effect, each a call into an adapter. Nothing here waits: slow work is a task that answers with an
//! event, and a task that panics answers with the failure it stands for.

mod keys;
mod waiting;

use std::collections::HashMap;
use std::future::Future;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::catalog::election::{AcquireRequest, CandidateSettings, Certificate, LockClient, LockViewSender};
use crate::catalog::local::WitnessDirectory;
use crate::catalog::{self, Audience, Backend, ObservationSender};
use crate::clock::{self, CalendarWatch};
use crate::config::coprocess::OutputMode;
use crate::config::election::REQUEST_WITHIN;
use crate::config::{
    self, Background, Config, Control, Coprocess, Election, Limits, Process, Query, Service, Signal, Source, Telemetry,
    Template, When,
};
use crate::endpoints::{self, ControlRequest, Endpoint};
use crate::files;
use crate::logging;
use crate::net::address;
use crate::probe;
use crate::process::notify::Notify;
use crate::process::{self, Order, Processes};
use crate::render;
use crate::supervisor::machines::election::event::{Acquisition, Certification, ElectionEvent, Renewal, StoreRequest};
use crate::supervisor::vocabulary::{
    Answer, Fence, Follow, Job, KeyRequest, Observation, Pid, Registration, Rendering, ReplyId, Request, RunId,
    Secrets, Staged, Target,
};
use crate::supervisor::{Effect, Event, Notice, Status, Time};

use waiting::{Ordered, Waiting, failed};

/// One call to the catalog; a healthy backend may take as long to choose a new leader (8.7 s measured on Consul).
const CATALOG_CALL_WITHIN: Duration = Duration::from_secs(10);
/// Rendering, installing and reading the config touch files only; storage that takes longer hangs.
const FILES_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks at a calendar's clock that nobody tells of.
const LOOK_AT_CALENDAR: Duration = Duration::from_secs(60);
/// Before a follower whose task panicked is started again.
const AFTER_PANIC: Duration = Duration::from_secs(1);
/// Before a staged file is removed after all.
const AFTER_NO_THREAD: Duration = Duration::from_secs(1);

/// The adapters, and what is under way in them.
pub struct Adapters {
    processes: Processes,
    backend: Arc<Backend>,
    source: Source,
    lock_client: Option<Arc<LockClient>>,
    services: Vec<Arc<Service>>,
    /// Hooks get main's.
    limits: Limits,
    /// Held while main's files are read.
    reading: Arc<tokio::sync::Mutex<()>>,
    /// One for each query, whoever follows it; and whether a value is of use to them.
    followers: HashMap<(Query, bool), Follower>,
    /// Hooks, checks and coprocesses that wait for their files.
    waiting: Waiting,
    end_awaited: Option<AbortHandle>,
    replies: HashMap<ReplyId, oneshot::Sender<Answer>>,
    last_reply: u64,
    /// What was said of the last signal, if that was refused.
    refused: Option<String>,
    telemetry: Option<(Telemetry, endpoints::Handle)>,
    control: Option<(Control, endpoints::Handle)>,
    endpoint: Endpoint,
    tell: mpsc::Sender<Event>,
}

impl Adapters {
    /// Adapters of this config. A catalog that can't even be opened is reported by each call to it.
    pub fn new(
        config: &Config,
        source: Source,
        processes: Processes,
        tell: mpsc::Sender<Event>,
        ask: mpsc::Sender<ControlRequest>,
        status: watch::Receiver<Status>,
    ) -> Adapters {
        let mut processes = processes;
        if let config::Backend::Consul(_) = &config.catalog.backend {
            processes.keep_secret(&config::backends::CONSUL_SECRETS);
        }
        process::users::mind_groups(config.users().into_keys());
        let backend = Backend::open(&config.catalog).unwrap_or_else(|error| {
            degraded(format!("there is no catalog: {}", catalog::report(&error)));
            Backend::None
        });
        Adapters {
            processes,
            backend: Arc::new(backend),
            source,
            lock_client: None,
            services: Vec::new(),
            limits: config.process.limits.clone(),
            waiting: Waiting::default(),
            reading: Arc::default(),
            followers: HashMap::new(),
            end_awaited: None,
            replies: HashMap::new(),
            last_reply: 0,
            refused: None,
            telemetry: None,
            control: None,
            endpoint: Endpoint { status, asked: ask },
            tell,
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
            Effect::SpawnMain { run, process, files, env } => {
                let plain = self.source.file.is_none();
                // A plain init passes the environment byte for byte.
                let mut env = if plain { env } else { self.env(env) };
                watchdog(&mut env);
                self.limits = process.limits.clone();
                let lock = self.lock_client.as_ref().and_then(|lock_client| lock_client.inheritable_fd());
                let keep = lock.as_ref().map(|lock| lock.as_fd());
                let event = self.processes.spawn_main(run, &process, &files, &env, keep);
                if let (Some(lock_client), Event::Spawned { pid, .. }) = (&self.lock_client, &event) {
                    lock_client.main_inherits(*pid);
                }
                if plain {
                    // It starts nothing more and opens no path, so it need not pin the mount it stands on.
                    self.processes.leave_directory();
                }
                return self.with_warnings(vec![event]);
            }
            Effect::Spawn { run, job, exec, run_as, env, stdin } => {
                return self.order(run, Ordered { job, exec, run_as, env, stdin, coprocess: None });
            }
            Effect::SpawnCoprocess { run, coprocess, env } => {
                let Coprocess { name, exec, run_as, .. } = (*coprocess).clone();
                let (job, coprocess) = (Job::Coprocess { name }, Some(coprocess));
                return self.order(run, Ordered { job, exec, run_as, env, stdin: None, coprocess });
            }
            Effect::Kill { target, signal } => {
                self.kill(target, signal);
                return self.waiting.told(target, signal).into_iter().collect();
            }
            Effect::Forward { target, signal, reply } => {
                let heeded = self.processes.heeds(target, signal);
                self.kill(target, signal);
                if let Some(reply) = reply {
                    let sent = self.refused.clone().map_or_else(|| Ok(format!("{signal} sent to main")), Err);
                    self.answer(reply, sent.into());
                }
                return vec![Event::Forwarded { signal, heeded }];
            }
            Effect::Suspend => self.processes.suspend(),
            Effect::EndGroup { signal } => self.processes.end_group(signal),
            Effect::Hint { watch, target, signal } => return vec![self.hint(watch, target, signal)],
            Effect::CountStrays => return self.processes.count_strays().into_iter().collect(),
            Effect::CountRest => return vec![self.processes.count_rest()],
            Effect::FollowStray { run, told } => return self.processes.follow_stray(run, told).into_iter().collect(),
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
            Effect::AskWhoActed { fence, id } => {
                let (backend, term) = (self.backend.clone(), fence.term);
                let asked = async move { keys::ask_who_acted(&backend, &fence, &id).await };
                self.catalog_call(asked, move |result| Event::ActedBefore { term, result });
            }
            Effect::TellActing { fence, id, mark } => {
                let (backend, term) = (self.backend.clone(), fence.term);
                let told = async move { keys::tell_acting(&backend, &fence, &id, mark).await };
                self.catalog_call(told, move |result| Event::ActingTold { term, result: result.and_then(|told| told) });
            }
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

    /// Starts a run at once, or when its files are read.
    fn order(&mut self, run: RunId, ordered: Ordered) -> Vec<Event> {
        if ordered.run_as.env_from_files.is_empty() {
            return self.spawn(run, ordered, &Secrets::default());
        }
        let read = self.waiting.add(run, ordered);
        self.task(move |error| Event::FilesRead { run, result: Err(failed(&error)) }, async move {
            Event::FilesRead { run, result: read.await }
        });
        Vec::new()
    }

    fn spawn(&mut self, run: RunId, ordered: Ordered, files: &Secrets) -> Vec<Event> {
        let Ordered { job, exec, run_as, env, stdin, coprocess } = ordered;
        let env = self.env(env);
        let keep =
            self.lock_client.as_ref().and_then(|client| match coprocess.as_ref().map(|coprocess| coprocess.when) {
                None if job.is_task() => client.tasks_inherit(),
                None => client.hooks_inherit(),
                Some(When::Leader) => client.coprocesses_inherit(),
                // What outlasts a leadership must not hold its lock.
                Some(When::Always | When::Replica) => None,
            });
        let order = Order::hook(&job, &exec, &run_as, &self.limits);
        let order = match &coprocess {
            None => order,
            Some(coprocess) => Order {
                limits: &coprocess.limits,
                directory: coprocess.directory.as_deref(),
                raw: coprocess.output == OutputMode::Raw,
                follows: coprocess.background == Background::Follow,
                leads: coprocess.when == When::Leader,
                ..order
            },
        };
        let order = Order { keep: keep.as_ref().map(|file| file.as_fd()), ..order };
        let event = self.processes.spawn(run, order, files, &env, stdin);
        self.with_warnings(vec![event])
    }

    /// Children ended.
    pub fn reap(&mut self) -> Vec<Event> {
        let events = self.processes.reap();
        self.with_warnings(events)
    }

    /// Whether there is more to reap.
    pub fn has_more(&self) -> bool {
        self.processes.has_more()
    }

    /// Main's process id while it runs.
    pub fn main_pid(&self) -> Option<Pid> {
        self.processes.main_pid()
    }

    /// From its next start on a coprocess finds this socket in NOTIFY_SOCKET.
    pub fn offer_coprocess(&mut self, name: &str, notify: &Notify) {
        self.processes.offer_coprocess(name, notify);
    }

    /// A coprocess's process id while it runs.
    pub fn coprocess_pid(&self, name: &str) -> Option<Pid> {
        self.processes.coprocess_pid(name)
    }

    /// Somebody asks at the control endpoint.
    pub fn asked(&mut self, request: Request, answer: oneshot::Sender<Answer>) -> Event {
        self.last_reply += 1;
        let reply = ReplyId(self.last_reply);
        self.replies.insert(reply, answer);
        Event::Control { reply, request }
    }

    fn answer(&mut self, reply: ReplyId, answer: Answer) {
        if let Some(waiting) = self.replies.remove(&reply) {
            // Who asked may have gone; nobody is left to tell then.
            let _ = waiting.send(answer);
        }
    }

    /// Whether anybody can look at the status.
    pub fn has_endpoints(&self) -> bool {
        self.telemetry.is_some() || self.control.is_some()
    }

    /// A SIGKILL that is refused is tried again and again; its refusal is told once.
    fn kill(&mut self, target: Target, signal: Signal) {
        let refused = self.processes.kill(target, signal).err().map(|error| format!("can't send {signal}: {error}"));
        if let Some(refused) = refused.clone().filter(|_| refused != self.refused) {
            degraded(refused);
        }
        self.refused = refused;
    }

    fn hint(&mut self, watch: String, target: Target, signal: Signal) -> Event {
        let sent = self.processes.survives(target, signal);
        if sent {
            self.kill(target, signal);
        }
        Event::Hinted { watch, sent }
    }

    fn with_warnings(&mut self, events: Vec<Event>) -> Vec<Event> {
        self.processes.warnings().into_iter().for_each(degraded);
        events
    }

    /// What main and hooks are told beyond what the core knows.
    fn env(&self, mut env: Vec<(String, String)>) -> Vec<(String, String)> {
        env.push(("PILOTFISH_PID".to_owned(), std::process::id().to_string()));
        for service in &self.services {
            let address = address::advertised(&service.address).map(|found| found.address.to_string());
            let name: String = service
                .name
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' })
                .collect();
            // Empty where there is none, so that a script may ask for it under `set -u`.
            env.push((format!("PILOTFISH_{name}_ADDRESS"), address.unwrap_or_default()));
        }
        // The core reads a leader's address in the catalog; this candidate leads before that shows its own.
        let leader = env.iter().find(|(name, _)| name == "PILOTFISH_LEADER_ID").map(|(_, id)| id.clone());
        let own = self.lock_client.as_ref().zip(leader).and_then(|(lock_client, id)| lock_client.address_as(&id));
        let known = env.iter_mut().find(|(name, value)| name == "PILOTFISH_LEADER" && value.is_empty());
        if let (Some((_, address)), Some(own)) = (known, own) {
            *address = own;
        }
        env
    }

    fn probe(&self, run: RunId, probe: config::Probe, timeout: Duration) {
        let failed = move |error| Event::Probed { run, result: Err(error) };
        self.task(failed, async move { Event::Probed { run, result: probe::probe(&probe, timeout).await } });
    }

    fn publish(&self, registration: Registration) {
        let service = registration.service.id.clone();
        let backend = self.backend.clone();
        self.catalog_call(async move { backend.publish(&registration).await }, move |result| Event::Published {
            service: service.clone(),
            result,
        });
    }

    fn withdraw(&self, service: Arc<Service>) {
        let id = service.id.clone();
        let backend = self.backend.clone();
        self.catalog_call(async move { backend.withdraw(&service).await }, move |result| Event::Withdrawn {
            service: id.clone(),
            result,
        });
    }

    fn catalog_call<T>(
        &self,
        call: impl Future<Output = Result<T, catalog::Error>> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        let failed = event.clone();
        self.task(move |error| failed(Err(error)), async move {
            let result = match tokio::time::timeout(CATALOG_CALL_WITHIN, call).await {
                Ok(result) => result.map_err(|error| catalog::report(&error)),
                Err(_) => Err(no_answer(CATALOG_CALL_WITHIN)),
            };
            event(result)
        });
    }

    /// The answer takes no way through the loop: nothing follows from it.
    fn key(&mut self, reply: ReplyId, request: KeyRequest, fence: Option<Fence>) {
        let Some(waiting) = self.replies.remove(&reply) else { return };
        let backend = self.backend.clone();
        let work = tokio::spawn(async move {
            match tokio::time::timeout(CATALOG_CALL_WITHIN, keys::carry_out(&backend, request, fence)).await {
                Ok(answer) => answer,
                Err(_) => Answer::Unavailable(no_answer(CATALOG_CALL_WITHIN)),
            }
        });
        tokio::spawn(async move {
            let answer = work.await.unwrap_or_else(|error| Answer::Unavailable(format!("the task failed: {error}")));
            // Who asked may have gone.
            let _ = waiting.send(answer);
        });
    }

    /// Who follows what somebody follows already is told by the same follower: a query costs its backend one question.
    fn follow(&mut self, follow: Follow, query: Query) -> Option<Event> {
        self.unfollow(&follow);
        let want_a_value = catalog::wants_a_value(&follow) || !matches!(query, Query::Key { .. });
        let key = (query.clone(), want_a_value);
        if let Some(follower) = self.followers.get(&key) {
            return follower.audience.join(follow);
        }
        let audience = Audience::default();
        audience.join(follow);
        let backend = self.backend.clone();
        let task = following(self.tell.clone(), audience.clone(), want_a_value, move |observations| {
            let (backend, query) = (backend.clone(), query.clone());
            async move { backend.follow(&query, observations).await }
        });
        self.followers.insert(key, Follower { audience, task });
        None
    }

    fn unfollow(&mut self, follow: &Follow) {
        self.followers.retain(|_, follower| {
            let over = follower.audience.has(follow) && follower.audience.leave(follow);
            if over {
                follower.task.abort();
            }
            !over
        });
    }

    fn settings(&mut self, election: &Election) {
        let service = self.services.iter().find(|service| Some(&service.id) == election.service.as_ref());
        let settings = CandidateSettings {
            name: election.name.clone(),
            id: election.id.clone(),
            lease: election.lease,
            kill_margin: election.pace.kill_margin,
            service: service.cloned(),
            witness: witness_of(election),
        };
        let lock_client = Arc::new(LockClient::new(self.backend.clone(), settings));
        self.lock_client = Some(lock_client.clone());
        if election.witness.is_some() {
            let (lock_client, tell, failed) = (lock_client.clone(), self.tell.clone(), self.tell.clone());
            again_and_again(
                move |error| {
                    let tell = failed.clone();
                    async move {
                        // The loop that would hear it may have ended.
                        let _ = tell.send(Event::Witness { stands: Err(error) }).await;
                    }
                },
                move || {
                    let (lock_client, tell) = (lock_client.clone(), tell.clone());
                    async move { lock_client.watch_witness(tell).await }
                },
            );
        }
        let tell = self.tell.clone();
        let failed = self.tell.clone();
        again_and_again(
            move |error| {
                let tell = failed.clone();
                async move {
                    // The loop that would hear it may have ended.
                    let _ = tell.send(Event::Election(ElectionEvent::Saw(Err(error)))).await;
                }
            },
            move || {
                let (lock_client, views) = (lock_client.clone(), LockViewSender::of_candidate(tell.clone()));
                async move { lock_client.watch(views).await }
            },
        );
    }

    /// Each request is a task of its own, and answers in the time a request has.
    fn elect(&mut self, request: StoreRequest) {
        let Some(lock_client) = self.lock_client.clone() else { return };
        match request {
            StoreRequest::OpenSession { ask } => {
                self.request(move |error| ElectionEvent::Opened { ask, result: Err(error) }, async move {
                    ElectionEvent::Opened { ask, result: lock_client.open().await.map_err(|e| catalog::report(&e)) }
                })
            }
            StoreRequest::CloseSession { session } => {
                self.unanswered("closing a session", async move { lock_client.close(session).await })
            }
            StoreRequest::EndFormerLife { session } => {
                self.unanswered(
                    "closing a former life's session",
                    async move { lock_client.end_former_life(session).await },
                )
            }
            StoreRequest::Look { ask } => {
                self.request(move |error| ElectionEvent::Looked { ask, result: Err(error) }, async move {
                    ElectionEvent::Looked { ask, result: lock_client.look().await.map_err(|e| catalog::report(&e)) }
                })
            }
            StoreRequest::Acquire { ask, session, guarantee, seen, hold_off_left } => self.request(
                move |error| ElectionEvent::Acquired { ask, result: Acquisition::Unknown(error) },
                async move {
                    let wanted = AcquireRequest { session, guarantee, seen, hold_off_left };
                    ElectionEvent::Acquired { ask, result: lock_client.acquire(wanted).await }
                },
            ),
            StoreRequest::Renew { ask, session, term } => self
                .request(move |error| ElectionEvent::Renewed { ask, result: Renewal::Unknown(error) }, async move {
                    ElectionEvent::Renewed { ask, result: lock_client.renew(session, term).await }
                }),
            StoreRequest::Release { ask, session, term, to, hold_off_left } => {
                self.request(move |error| ElectionEvent::Released { ask, result: Err(error) }, async move {
                    let released = lock_client.release(session, term, to, hold_off_left).await;
                    ElectionEvent::Released { ask, result: released.map_err(|error| catalog::report(&error)) }
                })
            }
            StoreRequest::AwaitEnd { witness } => {
                let tell = self.tell.clone();
                let waiting = tokio::spawn(async move {
                    if lock_client.gone(&witness).await {
                        // The loop that would hear it may have ended.
                        let _ = tell.send(Event::Election(ElectionEvent::Gone { witness })).await;
                    }
                });
                // Nobody asks for the end of who held the lock before.
                if let Some(before) = self.end_awaited.replace(waiting.abort_handle()) {
                    before.abort();
                }
            }
            StoreRequest::Certify { ask, witness, session, term, gone_for } => self.request(
                move |error| ElectionEvent::Certified { ask, result: Certification::Unknown(error) },
                async move {
                    let certificate = Certificate { witness, session, term, gone_for };
                    ElectionEvent::Certified { ask, result: lock_client.certify(certificate).await }
                },
            ),
            StoreRequest::PublishRank { vacancy, rank } => {
                self.unanswered("publishing the rank", async move { lock_client.publish_rank(vacancy, rank).await })
            }
            StoreRequest::ReadRanks { ask, vacancy } => {
                self.request(move |error| ElectionEvent::Ranks { ask, result: Err(error) }, async move {
                    let ranks = lock_client.ranks(vacancy).await;
                    ElectionEvent::Ranks { ask, result: ranks.map_err(|error| catalog::report(&error)) }
                })
            }
        }
    }

    fn request(
        &self,
        failed: impl Fn(String) -> ElectionEvent + Clone + Send + 'static,
        work: impl Future<Output = ElectionEvent> + Send + 'static,
    ) {
        let panicked = failed.clone();
        self.task(move |error| Event::Election(panicked(error)), async move {
            let answer = tokio::time::timeout(REQUEST_WITHIN, work).await;
            Event::Election(answer.unwrap_or_else(|_| failed(no_answer(REQUEST_WITHIN))))
        });
    }

    /// What nobody waits for: its failure is logged, and its consequence is seen elsewhere.
    fn unanswered(&self, what: &'static str, work: impl Future<Output = Result<(), catalog::Error>> + Send + 'static) {
        tokio::spawn(async move {
            match tokio::time::timeout(CATALOG_CALL_WITHIN, work).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(event = "election.failed", "{what}: {}", catalog::report(&error)),
                Err(_) => tracing::warn!(event = "election.failed", "{what}: {}", no_answer(CATALOG_CALL_WITHIN)),
            }
        });
    }

    fn render(&self, watch: String, template: Template, seen: Observation, unanswered: bool) {
        let variables = self.source.context.variables.clone();
        let event = {
            let watch = watch.clone();
            move |outcome| Event::Rendered { watch: watch.clone(), outcome }
        };
        self.on_files(
            move || {
                let rendering = render::stage(&watch, &template, &seen, unanswered, &variables);
                rendering.map_err(|error| catalog::report(&error))
            },
            move |result| event(result.unwrap_or_else(Rendering::Failed)),
        );
    }

    /// Nobody waits for it.
    fn discard(&self, staged: Staged) {
        tokio::spawn(async move {
            let staged = Arc::new(staged);
            let discard = |staged: Arc<Staged>| files::beside(move || render::discard(&staged));
            // What lies beside its destination is replaced by the next one, which mustn't be removed in its place.
            while discard(staged.clone()).await.is_err() && !staged.beside {
                tokio::time::sleep(AFTER_NO_THREAD).await;
            }
        });
    }

    fn install(&self, watch: String, staged: Staged) {
        self.on_files(
            move || render::install(&staged).map_err(|error| catalog::report(&error)),
            move |result| Event::Installed { watch: watch.clone(), result },
        );
    }

    fn read_files(&self, run: RunId, process: Arc<Process>) {
        let turn = self.reading.clone();
        let read = async move {
            // A read that hangs must not be joined by one more for each main that is ordered after it.
            let _turn = turn.lock_owned().await;
            let work = move || {
                let _turn = _turn;
                process::read_files(&process)
            };
            files::beside(work).await
        };
        self.task(move |error| Event::FilesRead { run, result: Err(failed(&error)) }, async move {
            let result = match tokio::time::timeout(FILES_WITHIN, read).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => Err(failed(&error.to_string())),
                Err(_) => Err(failed(&no_answer(FILES_WITHIN))),
            };
            Event::FilesRead { run, result }
        });
    }

    fn load_config(&self) {
        let source = self.source.clone();
        self.on_files(
            move || match source.file {
                None => Err("there is no config file to read again".to_owned()),
                Some(_) => {
                    let loaded = source.read().map_err(|report| report.to_string())?;
                    loaded.warnings.iter().for_each(|warning| degraded(warning.to_string()));
                    process::users::mind_groups(loaded.config.users().into_keys());
                    Ok(Box::new(loaded))
                }
            },
            Event::ConfigLoaded,
        );
    }

    fn follow_calendar(&self) {
        let tell = self.tell.clone();
        let failed = |error| async move { degraded(format!("the calendar isn't followed for a moment: {error}")) };
        again_and_again(failed, move || follow_calendar(tell.clone()));
    }

    fn endpoints(&mut self, telemetry: Option<Telemetry>, control: Control) {
        if self.telemetry.as_ref().map(|(config, _)| config) != telemetry.as_ref() {
            self.telemetry = None;
            if let Some(config) = telemetry {
                match endpoints::telemetry::open(&config, self.endpoint.clone()) {
                    Ok(handle) => self.telemetry = Some((config, handle)),
                    Err(error) => degraded(format!("can't listen on {}: {error}", config.listen)),
                }
            }
        }
        if self.control.as_ref().map(|(config, _)| config) != Some(&control) {
            self.control = None;
            match endpoints::control::open(&control, self.endpoint.clone()) {
                Ok(Some(handle)) => self.control = Some((control, handle)),
                Ok(None) => {}
                Err(error) => {
                    let socket = control.socket.unwrap_or_default();
                    degraded(format!("there is no control socket: can't open {}: {error}", socket.display()));
                }
            }
        }
    }

    /// Works on files the user named, in a thread of its own while it lasts: their storage may hang.
    fn on_files<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        let failed = event.clone();
        self.task(move |error| failed(Err(error)), async move {
            let result = match tokio::time::timeout(FILES_WITHIN, files::beside(work)).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(no_answer(FILES_WITHIN)),
            };
            event(result)
        });
    }

    fn task(
        &self,
        failed: impl FnOnce(String) -> Event + Send + 'static,
        work: impl Future<Output = Event> + Send + 'static,
    ) {
        beside(self.tell.clone(), failed, work);
    }
}

/// Runs slow work beside the loop; its event, or that of its panic, comes to the loop when there is room.
fn beside(
    tell: mpsc::Sender<Event>,
    failed: impl FnOnce(String) -> Event + Send + 'static,
    work: impl Future<Output = Event> + Send + 'static,
) {
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        let event = work.await.unwrap_or_else(|error| failed(format!("the task failed: {error}")));
        // The loop that would hear it may have ended.
        let _ = tell.send(event).await;
    });
}

/// What follows a query, and for whom.
#[derive(Debug)]
struct Follower {
    audience: Audience,
    task: AbortHandle,
}

/// Follows for ever, by a task that is started again when it panics.
fn following<F>(
    tell: mpsc::Sender<Event>,
    audience: Audience,
    want_a_value: bool,
    look: impl Fn(ObservationSender) -> F + Send + 'static,
) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
{
    let observations = move || ObservationSender::shared(tell.clone(), audience.clone(), want_a_value);
    let failed = {
        let observations = observations.clone();
        move |error| {
            let mut observations = observations();
            async move { observations.failed_as(error).await }
        }
    };
    again_and_again(failed, move || look(observations()))
}

/// Begins work that should never end, and again when it panics, having said so.
fn again_and_again<F, S>(
    failed: impl Fn(String) -> S + Send + 'static,
    begin: impl Fn() -> F + Send + 'static,
) -> AbortHandle
where
    F: Future<Output = ()> + Send + 'static,
    S: Future<Output = ()> + Send + 'static,
{
    let follower = tokio::spawn(async move {
        loop {
            // In a set, so that aborting this task ends the one in it too.
            let mut inner = JoinSet::new();
            inner.spawn(begin());
            if let Some(Err(error)) = inner.join_next().await {
                failed(format!("the follower failed: {error}")).await;
            }
            tokio::time::sleep(AFTER_PANIC).await;
        }
    });
    follower.abort_handle()
}

/// Tells how the calendar's clock goes, now and whenever it is set.
async fn follow_calendar(tell: mpsc::Sender<Event>) {
    let watch = CalendarWatch::new();
    // The loop that would hear it may have ended.
    let told = async || tell.send(Event::Calendar(clock::calendar_now())).await.is_ok();
    match watch {
        Ok(mut watch) => while told().await && watch.set().await.is_ok() {},
        // Without a descriptor nobody says when it is set: it is looked at.
        Err(_) => {
            while told().await && !tell.is_closed() {
                tokio::time::sleep(LOOK_AT_CALENDAR).await;
            }
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

/// Where the end of a leader's container is known at once, if the config says so.
pub fn witness_of(election: &Election) -> Option<Arc<WitnessDirectory>> {
    let directory = election.witness.as_ref()?;
    Some(Arc::new(WitnessDirectory::new(directory, &election.name, election.pace.kill_margin)))
}

/// What main is told of the watchdog of a check: it sees to that of a supervisor above as well, so the shorter holds; and
/// it is meant for main, whose process id takes the place of ours.
fn watchdog(env: &mut Vec<(String, String)>) {
    let Some((_, micros)) = env.iter_mut().find(|(name, _)| name == "WATCHDOG_USEC") else { return };
    let ours = std::process::id();
    if let (Ok(asked), Some(outer)) = (micros.parse::<u128>(), process::notify::watchdog_of(ours)) {
        *micros = asked.min(outer.as_micros()).to_string();
    }
    env.push(("WATCHDOG_PID".to_owned(), ours.to_string()));
}

fn degraded(what: String) {
    logging::say(&Notice::Degraded { what });
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {}", humantime::format_duration(within))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One thread, and time that goes on as soon as everybody waits.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(future)
    }

    #[test]
    fn a_task_that_panics_answers_with_the_failure_it_stands_for() {
        block_on(async {
            let (tell, mut events) = mpsc::channel(1);
            let failed = |error| Event::Probed { run: RunId(7), result: Err(error) };
            beside(tell, failed, async { panic!("a fault in a probe") });
            let Some(Event::Probed { run: RunId(7), result: Err(error) }) = events.recv().await else {
                panic!("nothing came")
            };
            assert!(error.contains("a fault in a probe"), "{error}");
        });
    }

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
        assert!(given_up(&Effect::CountStrays).is_none());
    }

    #[test]
    fn a_follower_that_panics_says_so_and_looks_again() {
        block_on(async {
            let (tell, mut events) = mpsc::channel(1);
            let looks = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let audience = Audience::default();
            audience.join(Follow::Watch("app".to_owned()));
            let _follower = following(tell, audience, true, move |mut observations| {
                let look = looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                async move {
                    assert!(look > 0, "a fault in a follower");
                    observations.saw(Observation::Key(None)).await;
                    std::future::pending().await
                }
            });
            let mut seen = Vec::new();
            while seen.len() < 2 {
                let Some(Event::Observed { seen: one, .. }) = events.recv().await else { panic!("nothing came") };
                seen.push(one);
            }
            assert!(seen[0].as_ref().is_err_and(|error| error.contains("a fault in a follower")), "{seen:?}");
            assert_eq!(seen[1], Ok(Observation::Key(None)));
        });
    }
}
