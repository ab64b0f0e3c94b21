//! What main's start waits for: `[[wait_for]]`, before the role is known or in it.

use crate::config::{Query, WaitFor, When};
use crate::exit_codes::UNAVAILABLE;
use crate::supervisor::Supervisor;
use crate::supervisor::sequence::stopping::Cause;
use crate::supervisor::vocabulary::{Effect, Follow, Notice, Observation, Step, Time};

/// One `[[wait_for]]` under way.
#[derive(Debug)]
pub struct Wait {
    /// Which of the config's.
    index: usize,
    config: WaitFor,
    until: Time,
    done: bool,
    error: Option<String>,
}

impl Supervisor {
    /// Begins to wait for what the config asks for: in any role, or in this one.
    pub(super) fn begin_waiting(&mut self, step: &mut Step<'_>, in_role: bool) {
        self.waits.clear();
        for (index, config) in self.config.wait_for.iter().cloned().enumerate() {
            let is_met = self.leads() && self.is_of_own_leader(&config);
            if self.is_of_role(&config) != in_role || (in_role && (is_met || !config.when.applies(self.leads()))) {
                continue;
            }
            step.out.push(Effect::Say(Notice::Waiting { what: what(&config) }));
            step.out.push(Effect::Follow { follow: Follow::WaitFor(index), query: config.query.clone() });
            self.waits.push(Wait { index, until: step.now + config.timeout, config, done: false, error: None });
        }
    }

    /// Whether something can only be waited for once the role is known. The own election has no leader while all its
    /// candidates wait for one.
    fn is_of_role(&self, wait: &WaitFor) -> bool {
        wait.when != When::Always || self.is_of_own_leader(wait)
    }

    /// Whether it asks for a leader of this container's election. Who leads can't wait for it: it acts once main runs.
    fn is_of_own_leader(&self, wait: &WaitFor) -> bool {
        let own = self.leadership.as_ref().map(|leadership| &leadership.config().name);
        matches!(&wait.query, Query::Leader { election } if Some(election) == own)
    }

    /// Nothing is waited for any more.
    pub(in crate::supervisor) fn stop_waiting(&mut self, out: &mut Vec<Effect>) {
        let open = std::mem::take(&mut self.waits).into_iter().filter(|wait| !wait.done);
        out.extend(open.map(|wait| Effect::Unfollow { follow: Follow::WaitFor(wait.index) }));
    }

    /// Whether all that is waited for is there; what isn't in time ends the container.
    pub(super) fn has_waited(&mut self, step: &mut Step<'_>) -> bool {
        if let Some(wait) = self.waits.iter().find(|wait| !self.is_over(wait) && wait.until <= step.now) {
            let because = wait.error.as_deref().map(|error| format!(" ({error})")).unwrap_or_default();
            let timeout = humantime::format_duration(wait.config.timeout);
            let reason = format!("{} wasn't there within {timeout}{because}", what(&wait.config));
            self.stop(step, reason, Cause::Failed(UNAVAILABLE));
            return false;
        }
        self.open_waits().next().is_none()
    }

    /// Whether what is waited for is there. The own election's leader is there once what starts then is told of it.
    fn is_over(&self, wait: &Wait) -> bool {
        wait.done && (!self.is_of_own_leader(&wait.config) || self.knows_acting_leader())
    }

    /// A follower of a `[[wait_for]]` saw something.
    pub(in crate::supervisor) fn waited(
        &mut self,
        index: usize,
        seen: Result<Observation, String>,
        out: &mut Vec<Effect>,
    ) {
        let Some(wait) = self.waits.iter_mut().find(|wait| wait.index == index && !wait.done) else { return };
        match seen {
            Ok(seen) if seen.len() >= wait.config.count => {
                wait.done = true;
                out.push(Effect::Say(Notice::Waited { what: what(&wait.config) }));
                out.push(Effect::Unfollow { follow: Follow::WaitFor(index) });
            }
            Ok(_) => wait.error = None,
            Err(error) => {
                if wait.error.as_ref() != Some(&error) {
                    let what = format!("waiting for {}", what(&wait.config));
                    out.push(Effect::Say(Notice::CatalogFailed { what, error: error.clone() }));
                }
                wait.error = Some(error);
            }
        }
    }

    /// What is still waited for.
    fn open_waits(&self) -> impl Iterator<Item = &Wait> {
        self.waits.iter().filter(|wait| !self.is_over(wait))
    }

    /// When the first of what is waited for is too late.
    pub(super) fn waits_deadline(&self) -> Option<Time> {
        self.open_waits().map(|wait| wait.until).min()
    }

    /// What is still waited for, for people.
    pub(super) fn waited_for(&self) -> String {
        let open: Vec<String> = self.open_waits().map(|wait| what(&wait.config)).collect();
        open.join(", ")
    }
}

fn what(wait: &WaitFor) -> String {
    match (&wait.query, wait.count) {
        (Query::Service { .. }, count) if count != 1 => format!("{count} instances of {}", subject(&wait.query)),
        (query, _) => subject(query),
    }
}

/// What is waited for, for people.
pub fn subject(query: &Query) -> String {
    match query {
        Query::Service { name, tag, datacenter } => {
            let tag = tag.as_ref().map(|tag| format!(" with tag {tag}")).unwrap_or_default();
            let place = datacenter.as_ref().map(|datacenter| format!(" in {datacenter}")).unwrap_or_default();
            format!("service {name}{tag}{place}")
        }
        Query::Key { key } => format!("key {key}"),
        Query::KeyPrefix { prefix } => format!("a key below {prefix}"),
        Query::Leader { election } => format!("a leader of {election}"),
    }
}
