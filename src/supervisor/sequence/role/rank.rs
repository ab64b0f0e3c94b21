//! What others ask: the election for our rank, people for a successor or a lower term.

use crate::supervisor::Supervisor;
use crate::supervisor::machines::commands::{JobState, Launch, Outcome};
use crate::supervisor::machines::election::record::Rank;
use crate::supervisor::machines::election::{ElectionEvent, RequestId};
use crate::supervisor::vocabulary::{Job, RunId, Step};

use super::{Leadership, Measuring};

impl Supervisor {
    /// The election asks. Beside what the last run left behind, or one whose result nobody wants any more, none begins.
    pub(super) fn measure_rank(&mut self, step: &mut Step<'_>, ask: RequestId) {
        let before = self.commands.of_job(&Job::Rank);
        let Some(leadership) = &mut self.leadership else { return };
        match before {
            JobState::Clear => {}
            JobState::Busy => {
                leadership.measures_next = Some(ask);
                return;
            }
            JobState::Stuck => {
                let result = Err("what its last run left behind can't be ended".to_owned());
                return leadership.events.push_back(ElectionEvent::Measured { ask, result });
            }
        }
        let Some(term) = leadership.core.ranked_term() else {
            let result = Err("no rank is wanted any more".to_owned());
            return leadership.events.push_back(ElectionEvent::Measured { ask, result });
        };
        let Some(unled) = leadership.acting.unled(term) else {
            // Who has no data must know whether anybody else has: "never" would be as wrong as the lack of a rank.
            leadership.measures_once_known = Some(ask);
            return self.ask_whether_led(step, term);
        };
        let run = self.next_run();
        let mut env = self.env(&Job::Rank);
        if unled {
            env.retain(|(name, _)| name != "PILOTFISH_FIRST");
            env.push(("PILOTFISH_FIRST".to_owned(), "1".to_owned()));
        }
        let Some(leadership) = &mut self.leadership else { return };
        let Some(hook) = leadership.config.rank.clone() else {
            return leadership
                .events
                .push_back(ElectionEvent::Measured { ask, result: Err("no rank is configured".to_owned()) });
        };
        leadership.measuring = Some(Measuring { ask, run, printed: None });
        self.commands.start(step, run, Launch { job: Job::Rank, hook, env, stdin: None });
    }

    /// Whether anybody has led is known, or is to be asked again.
    pub(super) fn measure_once_known(&mut self, step: &mut Step<'_>) {
        if let Some(ask) = self.leadership.as_mut().and_then(|leadership| leadership.measures_once_known.take()) {
            self.measure_rank(step, ask);
        }
    }

    /// Nothing is left of the rank's command, or nothing that can be ended.
    pub(in crate::supervisor) fn measure_next(&mut self, step: &mut Step<'_>) {
        if let Some(ask) = self.leadership.as_mut().and_then(|leadership| leadership.measures_next.take()) {
            self.measure_rank(step, ask);
        }
    }

    /// The rank's command printed something.
    pub(in crate::supervisor) fn printed(&mut self, run: RunId, text: String) {
        if let Some(Leadership { measuring: Some(measuring), .. }) = &mut self.leadership
            && measuring.run == run
        {
            measuring.printed = Some(text);
        }
    }

    /// The rank's command ended.
    pub(in crate::supervisor) fn measured(&mut self, run: RunId, outcome: &Outcome) {
        let Some(leadership) = &mut self.leadership else { return };
        let Some(Measuring { ask, printed, .. }) = leadership.measuring.take_if(|measuring| measuring.run == run)
        else {
            return;
        };
        let result = outcome.result().and_then(|()| {
            let text = printed.unwrap_or_default();
            Rank::read(&text).ok_or_else(|| format!("rank printed {:?}, which isn't a rank", shortened(text.trim())))
        });
        leadership.events.push_back(ElectionEvent::Measured { ask, result });
    }

    /// Somebody asks the leader to step down.
    pub(in crate::supervisor) fn step_down(
        &mut self,
        step: &mut Step<'_>,
        to: Option<String>,
    ) -> Result<String, String> {
        let Some(leadership) = &self.leadership else { return Err("there is no [election]".to_owned()) };
        let name = &leadership.config.name;
        if leadership.core.term().is_none() {
            let leader =
                leadership.known_leader().map_or("nobody does".to_owned(), |leader| format!("{} does", leader.id));
            return Err(format!("this container doesn't lead {name}; {leader}"));
        }
        if to.as_ref() == Some(&leadership.config.id) {
            return Err(format!("{} is this container itself", leadership.config.id));
        }
        if leadership.is_leaving() {
            if to.is_none() {
                return Ok(format!("stepping down as leader of {name} already"));
            }
            return Err("it is stepping down already".to_owned());
        }
        let said = match &to {
            Some(to) => format!("stepping down as leader of {name}, for {to}"),
            None => format!("stepping down as leader of {name}"),
        };
        self.elect(step, ElectionEvent::StepDown { to: to.map(Into::into) });
        Ok(said)
    }

    /// Somebody says that terms may go back.
    pub(in crate::supervisor) fn accept_term(&mut self, step: &mut Step<'_>) -> Result<String, String> {
        let Some(leadership) = &self.leadership else { return Err("there is no [election]".to_owned()) };
        let said = format!("any term of {} is accepted", leadership.config.name);
        self.elect(step, ElectionEvent::AcceptTerm);
        Ok(said)
    }

    /// Somebody says that this container shall lead, whatever is lost by it.
    pub(in crate::supervisor) fn accept_loss(&mut self, step: &mut Step<'_>) -> Result<String, String> {
        let Some(leadership) = &self.leadership else { return Err("there is no [election]".to_owned()) };
        let name = &leadership.config.name;
        let Some(waiting) = leadership.core.waits_for_ranks() else {
            return Err(match leadership.known_leader() {
                _ if leadership.leads() => format!("this container leads {name}"),
                Some(leader) => format!("{} holds the lock of {name}: run this there", leader.id),
                None => format!("nobody holds the lock of {name} yet"),
            });
        };
        if waiting.never {
            return Err("by its rank this container's data must never lead".to_owned());
        }
        if waiting.measuring {
            return Err(
                "this container's own rank is being measured, and may yet say that its data must never lead: try \
                 again in a moment"
                    .to_owned(),
            );
        }
        let said = format!("leading {name}, whatever is lost by it");
        self.elect(step, ElectionEvent::AcceptLoss);
        Ok(said)
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}
