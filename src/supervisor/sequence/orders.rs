//! What people order of a running container, and what each order becomes: start a process again, signal it, and say when
//! something is so; the rest is elsewhere.

use std::time::Duration;

use crate::config::{Backend, Query, ServiceOf, Signal};
use crate::supervisor::Supervisor;
use crate::supervisor::machines::election::ElectionEvent;
use crate::supervisor::sequence::life::LifeStage;
use crate::supervisor::sequence::role::Leadership;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::sequence::waits::subject;
use crate::supervisor::vocabulary::{
    Answer, Effect, Follow, KeyOperation, KeyRequest, Notice, Observation, ReplyId, Request, Step, Time, earliest,
    is_elections_own,
};

/// As many wait at once for something in the catalog: on Consul each may hold a connection of the 200 that one agent takes
/// from one address.
const MOST_AWAITED: usize = 16;

/// There is nothing to read, write or wait for.
const NO_CATALOG: &str = "no catalog is configured ([catalog] backend = \"none\")";

/// As many wait at once for the same process to be started again.
pub const MOST_ORDERS: usize = 64;

/// What main is called.
pub const MAIN: &str = "main";

/// What was ordered and isn't answered yet.
#[derive(Debug, Default)]
pub struct Orders {
    restart: Option<RestartOrder>,
    awaited: Vec<Awaited>,
}

/// Somebody wants main to be started again.
#[derive(Debug)]
struct RestartOrder {
    /// Whoever wants the same meanwhile is answered with the first.
    replies: Vec<ReplyId>,
    stage: RestartStage,
}

/// How far an ordered restart is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RestartStage {
    /// Main is out of the rotation, and those who watch look elsewhere.
    Draining { until: Time },
    /// It is told to stop once it is up, and out of the leader's role.
    Due,
    /// It ends, or starts again already.
    Told,
}

/// Somebody waits for something in the catalog.
#[derive(Debug)]
struct Awaited {
    reply: ReplyId,
    query: Query,
    until: Time,
    error: Option<String>,
}

impl Orders {
    /// Whether main is to be started again.
    pub fn restart_main(&self) -> bool {
        self.restart.is_some()
    }

    /// Whether main is about to be told to stop.
    pub fn will_stop_main(&self) -> bool {
        self.restart.as_ref().is_some_and(|order| order.stage != RestartStage::Told)
    }

    /// Whether that waits until those who watch look elsewhere.
    pub fn is_draining(&self) -> bool {
        self.drained_at().is_some()
    }

    fn drained_at(&self) -> Option<Time> {
        match self.restart.as_ref()?.stage {
            RestartStage::Draining { until } => Some(until),
            RestartStage::Due | RestartStage::Told => None,
        }
    }

    /// When a wait, or the drain, is over.
    pub fn deadline(&self) -> Option<Time> {
        self.awaited.iter().map(|awaited| Some(awaited.until)).fold(self.drained_at(), earliest)
    }
}

impl Supervisor {
    /// Does what is asked for at the control endpoint. What isn't answered here is answered once it is so, or can't be.
    pub(in crate::supervisor) fn ordered(&mut self, step: &mut Step<'_>, reply: ReplyId, request: Request) {
        let result = match request {
            Request::Reload => return self.reload(Some(reply), step.out),
            Request::Restart { name } => return self.order_restart(step, reply, name),
            Request::Signal { signal, name } => return self.order_signal(step, reply, signal, name),
            Request::Await { query, within } => return self.await_query(step, reply, query, within),
            Request::Key { request, fenced } => return self.order_key(step, reply, request, fenced),
            Request::Stop => {
                self.stop(step, "asked for at the control endpoint".to_owned(), Cause::Control);
                Ok("stopping".to_owned())
            }
            Request::StepDown { to } => self.step_down(step, to),
            Request::AcceptTerm => self.accept_term(step),
            Request::AcceptLoss => self.accept_loss(step),
            Request::BeginMaintenance { lasts, reason } => self.begin_maintenance(step, lasts, reason),
            Request::EndMaintenance => self.end_maintenance(step),
            Request::PushMetrics { values } => self.push_metrics(&values),
            Request::RunTask { name } => self.run_task(step, &name),
        };
        step.out.push(Effect::Reply { reply, answer: result.into() });
    }

    /// Somebody wants main, or a coprocess, to be started again. It leaves the rotation first, and a leader's main its
    /// role, as when the container stops.
    pub(in crate::supervisor) fn order_restart(&mut self, step: &mut Step<'_>, reply: ReplyId, name: Option<String>) {
        if let Some(name) = name.filter(|name| name != MAIN) {
            return self.order_coprocess(step, reply, &name);
        }
        if let Err(refused) = self.may_restart() {
            return step.out.push(Effect::Reply { reply, answer: Answer::Refused(refused) });
        }
        if let Some(order) = &mut self.orders.restart {
            return join(&mut order.replies, reply, step);
        }
        step.out.push(Effect::Say(Notice::RestartOrdered));
        let pauses = matches!(self.life.stage(), LifeStage::Running { start_at: Some(_) });
        // One that ends already runs again all the same.
        let stage = match self.main.is_up() || self.main.is_starting() || self.main.is_following() {
            true => RestartStage::Draining { until: self.drained_at(step.now, &ServiceOf::Main) },
            false => RestartStage::Told,
        };
        self.orders.restart = Some(RestartOrder { replies: vec![reply], stage });
        match pauses {
            true => self.life.run_again(step.now),
            false => self.tell_catalog(step.out),
        }
    }

    /// When those who watch know that what is on its way out is in the rotation no more, if it is now.
    pub(in crate::supervisor) fn drained_at(&self, now: Time, of: &ServiceOf) -> Time {
        let in_rotation = self.entries.iter().any(|entry| entry.service().of == *of && entry.is_in_rotation());
        if in_rotation { now + self.config.stop.drain } else { now }
    }

    fn may_restart(&self) -> Result<(), String> {
        match self.life.stage() {
            LifeStage::Running { .. } => Ok(()),
            LifeStage::Stopping(_) | LifeStage::Ended => Err("the container is stopping".to_owned()),
            _ => Err(format!("main doesn't run: {}", self.doing())),
        }
    }

    /// Has main stop, once nothing acts for a leader any more.
    pub(in crate::supervisor) fn advance_restart(&mut self, step: &mut Step<'_>) {
        if self.stands_by() {
            let standing_by = "main has ended, and runs again when this container leads";
            return self.answer_restart(step, Answer::Done(standing_by.to_owned()));
        }
        if let Some(order) = &mut self.orders.restart
            && matches!(order.stage, RestartStage::Draining { until } if until <= step.now)
        {
            order.stage = RestartStage::Due;
            if self.leads() {
                self.elect(step, ElectionEvent::StepDown { to: None });
            }
        }
        let may_stop = self.main.is_up() && !self.leads() && !self.is_leaving_role();
        if let Some(order) = self.orders.restart.as_mut().filter(|order| order.stage == RestartStage::Due && may_stop) {
            order.stage = RestartStage::Told;
            self.stop_main_to_restart(step);
            self.checks_rest(step, None);
        }
    }

    /// Main is gone; whether somebody wants it to run again.
    pub(in crate::supervisor) fn main_ended_for_order(&mut self) -> bool {
        match &mut self.orders.restart {
            Some(order) => {
                order.stage = RestartStage::Told;
                true
            }
            None => false,
        }
    }

    /// Main runs: if that is what was ordered, it is done.
    pub(in crate::supervisor) fn restarted(&mut self, step: &mut Step<'_>) {
        if self.orders.restart.as_ref().is_some_and(|order| order.stage == RestartStage::Told) {
            let pid = self.main.pid().map(|pid| format!(", as process {pid}")).unwrap_or_default();
            self.answer_restart(step, Answer::Done(format!("main runs again{pid}")));
        }
    }

    fn answer_restart(&mut self, step: &mut Step<'_>, answer: Answer) {
        for reply in self.orders.restart.take().into_iter().flat_map(|order| order.replies) {
            step.out.push(Effect::Reply { reply, answer: answer.clone() });
        }
    }

    /// Somebody sends main, or a coprocess, a signal, which it gets as it is.
    pub(in crate::supervisor) fn order_signal(
        &mut self,
        step: &mut Step<'_>,
        reply: ReplyId,
        signal: Signal,
        name: Option<String>,
    ) {
        if let Some(name) = name.filter(|name| name != MAIN) {
            return self.signal_coprocess(step, reply, signal, &name);
        }
        match self.main.target(self.process.signal_scope) {
            Some(target) => {
                step.out.push(Effect::Say(Notice::MainSignalled { signal }));
                step.out.push(Effect::Forward { target, signal, reply: Some(reply) });
            }
            None => {
                let answer = Answer::Refused(format!("{MAIN} doesn't run"));
                step.out.push(Effect::Reply { reply, answer });
            }
        }
    }

    /// Somebody reads or writes a key; `fenced`: only while this container leads, or is on its way out of that.
    pub(in crate::supervisor) fn order_key(
        &mut self,
        step: &mut Step<'_>,
        reply: ReplyId,
        request: KeyRequest,
        fenced: bool,
    ) {
        let fence = self.leadership.as_ref().and_then(Leadership::fence);
        let answer = if self.config.catalog.backend == Backend::None {
            Answer::Refused(NO_CATALOG.to_owned())
        } else if matches!(request.operation, KeyOperation::Change(_)) && self.is_elections_own(&request.key) {
            Answer::Unmet(format!(
                "{} is the election's own: whoever writes it may take the lock from its leader",
                request.key
            ))
        } else if fenced && self.leadership.is_none() {
            Answer::Unmet("there is no [election]".to_owned())
        } else if fenced && fence.is_none() {
            Answer::Unmet("this container doesn't lead".to_owned())
        } else {
            let fence = fence.filter(|_| fenced);
            return step.out.push(Effect::Key { reply, request, fence });
        };
        step.out.push(Effect::Reply { reply, answer });
    }

    fn is_elections_own(&self, key: &str) -> bool {
        let one_space = matches!(self.config.catalog.backend, Backend::Consul(_));
        self.config.election.as_ref().is_some_and(|election| is_elections_own(key, &election.name, one_space))
    }

    /// Somebody waits until a query sees something.
    pub(in crate::supervisor) fn await_query(
        &mut self,
        step: &mut Step<'_>,
        reply: ReplyId,
        query: Query,
        within: Duration,
    ) {
        let refused = |why: &str| Answer::Refused(why.to_owned());
        let answer = if self.is_stopping() {
            refused("the container is stopping")
        } else if self.config.catalog.backend == Backend::None {
            refused(NO_CATALOG)
        } else if self.orders.awaited.len() >= MOST_AWAITED {
            // Whoever asked asks again: those who wait may have gone.
            Answer::NotYet(format!("{MOST_AWAITED} others wait for something already"))
        } else {
            step.out.push(Effect::Follow { follow: Follow::Await(reply), query: query.clone() });
            let until = step.now + within;
            return self.orders.awaited.push(Awaited { reply, query, until, error: None });
        };
        step.out.push(Effect::Reply { reply, answer });
    }

    /// A query that somebody waits for sees this.
    pub(in crate::supervisor) fn awaited(
        &mut self,
        step: &mut Step<'_>,
        reply: ReplyId,
        seen: Result<Observation, String>,
    ) {
        let Some(at) = self.orders.awaited.iter().position(|awaited| awaited.reply == reply) else { return };
        match seen {
            Ok(seen) if !seen.is_empty() => {
                let awaited = self.orders.awaited.swap_remove(at);
                let answer = Answer::Done(format!("{} is there", subject(&awaited.query)));
                answer_awaited(&awaited, answer, step.out);
            }
            seen => self.orders.awaited[at].error = seen.err(),
        }
    }

    /// Waits whose time is over.
    pub(in crate::supervisor) fn tick_orders(&mut self, step: &mut Step<'_>) {
        for awaited in self.orders.awaited.extract_if(.., |awaited| awaited.until <= step.now) {
            let because = awaited.error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default();
            let answer = Answer::NotYet(format!("{} isn't there{because}", subject(&awaited.query)));
            answer_awaited(&awaited, answer, step.out);
        }
    }

    /// The container stops: nothing that was ordered comes any more.
    pub(in crate::supervisor) fn refuse_orders(&mut self, step: &mut Step<'_>) {
        let refused = || Answer::Refused("the container is stopping".to_owned());
        self.answer_restart(step, refused());
        self.refuse_coprocess_orders(step, &refused());
        for awaited in self.orders.awaited.drain(..) {
            answer_awaited(&awaited, refused(), step.out);
        }
    }
}

/// One more wants what is under way.
pub fn join(replies: &mut Vec<ReplyId>, reply: ReplyId, step: &mut Step<'_>) {
    if replies.len() < MOST_ORDERS {
        replies.push(reply);
    } else {
        let answer = Answer::Refused(format!("{MOST_ORDERS} wait for that already"));
        step.out.push(Effect::Reply { reply, answer });
    }
}

fn answer_awaited(awaited: &Awaited, answer: Answer, out: &mut Vec<Effect>) {
    out.push(Effect::Unfollow { follow: Follow::Await(awaited.reply) });
    out.push(Effect::Reply { reply: awaited.reply, answer });
}
