//! What a signal to the agent means: stop, reload, maintenance, or a word for main.

use crate::config::Signal;

use super::Supervisor;
use super::event::Effect;
use super::lifecycle::Life;
use super::notice::Notice;
use super::shutdown::Cause;
use super::time::Time;

impl Supervisor {
    /// A signal came.
    pub(super) fn signalled(&mut self, now: Time, signal: Signal, out: &mut Vec<Effect>) {
        if self.config.control.signals && signal == Signal::HUP {
            return self.reload(None, out);
        }
        if self.config.control.signals && signal == Signal::USR1 {
            return self.toggle_maintenance(now, format!("{signal} came"), out);
        }
        // The signals of the config main runs by: a changed [process] counts at its next start.
        if self.process.stop_on.contains(&signal) {
            return self.stop(now, format!("{signal} came"), Cause::Signal(signal), out);
        }
        let sent = match self.process.rewrite_signals.get(&signal) {
            Some(None) => return,
            Some(Some(other)) => *other,
            None => signal,
        };
        if self.main.signal(sent, self.process.signal_scope, out) {
            out.push(Effect::Say(Notice::SignalForwarded { received: signal, sent }));
            if sent.terminates_by_default() {
                self.passed_on = Some((now, sent));
            }
        } else if self.is_before_main() && [Signal::TERM, Signal::INT, Signal::QUIT].contains(&signal) {
            // There is nobody to pass it on to, and whoever sent it wants an end: `stop_on = ["QUIT"]` must not make a
            // container that waits for its database deaf to `docker stop`.
            self.stop(now, format!("{signal} came"), Cause::Signal(signal), out);
        }
    }

    /// Whether no main runs, and one is to be started.
    fn is_before_main(&self) -> bool {
        match self.life {
            Life::Created
            | Life::Waiting
            | Life::Electing { .. }
            | Life::WaitingInRole
            | Life::Preparing { .. }
            | Life::PreStart { .. } => true,
            Life::Running { start_at } => start_at.is_some(),
            Life::Stopping(_) | Life::Ended => false,
        }
    }
}
