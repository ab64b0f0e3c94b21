//! What people want of coprocesses: one started again, or sent a signal.

use crate::config::{ServiceOf, Signal};

use crate::supervisor::Supervisor;
use crate::supervisor::machines::coprocess::Coprocess;
use crate::supervisor::sequence::orders::{MAIN, join};
use crate::supervisor::vocabulary::{Answer, Effect, Notice, ReplyId, Step};

use super::in_role;

impl Supervisor {
    /// Somebody wants one to be started again.
    pub(in crate::supervisor) fn order_coprocess(&mut self, step: &mut Step<'_>, reply: ReplyId, name: &str) {
        let refused = match self.coprocesses.find(name) {
            None => Some(self.no_such_process(name)),
            Some(_) if self.is_stopping() => Some("the container is stopping".to_owned()),
            Some(coprocess) if !self.is_wanted(coprocess) => {
                Some(format!("`{name}` is to run once {}", in_role(coprocess.config().when)))
            }
            Some(_) if self.lives_on(name) => Some(format!("{name} can't be ended")),
            Some(coprocess) if !self.may_start(coprocess) => {
                Some(format!("`{name}` couldn't be started now: what it comes after isn't there"))
            }
            Some(_) => None,
        };
        let drained_at = self.drained_at(step.now, &ServiceOf::Coprocess(name.to_owned()));
        let answer = match (refused, self.coprocesses.named(name)) {
            (Some(refused), _) => Answer::Refused(refused),
            (None, None) => return,
            (None, Some(coprocess)) => {
                match coprocess.ordered_by() {
                    Some(replies) => join(replies, reply, step),
                    None => {
                        step.out.push(Effect::Say(Notice::CoprocessRestartOrdered { name: name.to_owned() }));
                        coprocess.order(reply, drained_at);
                    }
                }
                return self.tell_catalog(step.out);
            }
        };
        step.out.push(Effect::Reply { reply, answer });
    }

    /// Somebody sends one a signal, which it gets as it is: how it ends by that is its own end.
    pub(in crate::supervisor) fn signal_coprocess(
        &mut self,
        step: &mut Step<'_>,
        reply: ReplyId,
        signal: Signal,
        name: &str,
    ) {
        let refused = match self.coprocesses.find(name).map(Coprocess::target) {
            Some(Some(target)) => {
                let name = name.to_owned();
                step.out.push(Effect::Say(Notice::CoprocessSignalled { name: name.clone(), signal }));
                return step.out.push(Effect::Signal { name, target, signal, reply });
            }
            Some(None) => {
                let all = self.coprocess_statuses();
                let state = all.into_iter().find(|status| status.name == name).map(|status| status.state);
                format!("{name} doesn't run ({})", state.unwrap_or_default())
            }
            None => self.no_such_process(name),
        };
        step.out.push(Effect::Reply { reply, answer: Answer::Refused(refused) });
    }

    fn no_such_process(&self, name: &str) -> String {
        let others = self.coprocesses.all.iter().map(|coprocess| format!(", `{}`", coprocess.config().name));
        format!("there is no process `{name}` here, but `{MAIN}`{}", others.collect::<String>())
    }

    /// The container stops: none of them is started again.
    pub(in crate::supervisor) fn refuse_coprocess_orders(&mut self, step: &mut Step<'_>, refused: &Answer) {
        self.coprocesses.all.iter_mut().for_each(|coprocess| coprocess.answer_order(step, refused.clone()));
    }
}
