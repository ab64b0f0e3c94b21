//! The one sentence of each notice, for people. Names, levels and fields are elsewhere.

use std::fmt;
use std::time::Duration;

use super::{ExitStatus, Job, Notice};

/// What is wrong with a lock whose value isn't an agent's, and what ends that.
pub fn foreign_lock(key: &str, stays: bool) -> String {
    let end = if stays { "; delete the key" } else { ": it is free once the session that holds it ends" };
    format!("the value of its lock, {key}, isn't pilotfish's{end}")
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(code) => write!(f, "exited with code {code}"),
            ExitStatus::Killed(signal) => write!(f, "was killed by {signal}"),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let span = |d: &Duration| humantime::format_duration(Duration::from_millis(d.as_millis() as u64)).to_string();
        match self {
            Notice::MainStarted { pid } => write!(f, "main runs as process {pid}"),
            Notice::MainFailedToStart { error } => write!(f, "main can't be started: {error}"),
            Notice::MainStopsItself => write!(f, "main says that it is stopping (STOPPING=1)"),
            Notice::MainExited { status } => write!(f, "main {status}"),
            Notice::MainWentToBackground { left, followed: true, .. } => match left {
                1 => f.write_str("main went to the background: the process it left is followed"),
                _ => write!(f, "main went to the background: one of the {left} processes it left is followed"),
            },
            Notice::MainWentToBackground { left, followed: false, by_itself } => {
                match left {
                    1 => f.write_str("main ended but left a process, which is ended now")?,
                    _ => write!(f, "main ended but left {left} processes, which are ended now")?,
                }
                match by_itself {
                    true => f.write_str(" (run it in the foreground, or set [process] background = \"follow\")"),
                    false => Ok(()),
                }
            }
            Notice::MainFollowed { pid } => write!(f, "main is process {pid} from now on"),
            Notice::RestartOrdered => f.write_str("main is restarted, as asked for at the control endpoint"),
            Notice::MainRestarting { after, attempt, max } => {
                write!(f, "main starts again in {} (restart {attempt} of at most {max})", span(after))
            }
            Notice::RestartBudgetSpent { max, within } => {
                let times = if *max == 1 { "once".to_owned() } else { format!("{max} times") };
                write!(f, "main was restarted {times} within {}: giving up", span(within))
            }
            Notice::CoprocessStarted { name, pid } => write!(f, "{name} runs as process {pid}"),
            Notice::CoprocessFailedToStart { name, error } => write!(f, "{name} can't be started: {error}"),
            Notice::CoprocessReady { name, took } => write!(f, "{name} is ready after {}", span(took)),
            Notice::CoprocessNotReady { name, within, because } => {
                let because = because.as_deref().unwrap_or("its `ready` says when it is");
                write!(f, "{name} wasn't ready within {}: {because}", span(within))
            }
            Notice::CoprocessExited { name, status } => write!(f, "{name} {status}"),
            Notice::CoprocessFollowed { name, pid } => {
                write!(f, "{name} went to the background: it is process {pid} from now on")
            }
            Notice::CoprocessRestarting { name, after, attempt, max } => {
                write!(f, "{name} starts again in {} (restart {attempt} of at most {max})", span(after))
            }
            Notice::CoprocessGivenUp { name: _, why } => write!(f, "{why}: giving it up"),
            Notice::CoprocessTold { name, signal } => write!(f, "{signal} sent to {name}"),
            Notice::CoprocessRestartOrdered { name } => {
                write!(f, "{name} is restarted, as asked for at the control endpoint")
            }
            Notice::CoprocessSignalled { name, signal } => {
                write!(f, "{signal} sent to {name}, as asked for at the control endpoint")
            }
            Notice::MainSignalled { signal } => {
                write!(f, "{signal} sent to main, as asked for at the control endpoint")
            }
            Notice::SignalForwarded { received, sent } if received == sent => write!(f, "{received} passed on to main"),
            Notice::SignalForwarded { received, sent } => write!(f, "{received} passed on to main as {sent}"),
            Notice::Stopping { reason, within: Some(within) } => {
                write!(f, "stopping within {}: {reason}", span(within))
            }
            Notice::Stopping { reason, within: None } => write!(f, "stopping: {reason}"),
            Notice::MainTold { signal } => write!(f, "{signal} sent to main"),
            Notice::Killing { what } => write!(f, "time is up: SIGKILL to {what}"),
            Notice::HookStarted { hook } => write!(f, "{hook} started"),
            Notice::HookSucceeded { hook, took } => write!(f, "{hook} succeeded in {}", span(took)),
            Notice::HookFailed { hook, error } => write!(f, "{hook} failed{}: {error}", consequence(hook)),
            Notice::HookTimedOut { hook, timeout } => {
                write!(f, "{hook} took longer than the {} it had{}", span(timeout), consequence(hook))
            }
            Notice::HookSkipped { hook } => write!(f, "{hook} cut short"),
            Notice::HookRetrying { hook, after } => write!(f, "{hook} is tried again in {}", span(after)),
            Notice::TaskLeftOut { task, because } => write!(f, "{task} is skipped: {because}"),
            Notice::SensorFailed { sensor, error } => write!(f, "sensor {sensor}: {error}"),
            Notice::SensorBack { sensor } => write!(f, "sensor {sensor} works again"),
            Notice::Waiting { what } => write!(f, "waiting for {what}"),
            Notice::Waited { what } => write!(f, "{what} is there"),
            Notice::CheckChanged { check, error: None } => write!(f, "check {check} passes"),
            Notice::CheckChanged { check, error: Some(error) } => write!(f, "check {check} is critical: {error}"),
            Notice::CheckFailing { check, error, because } => write!(f, "check {check} failed ({because}): {error}"),
            Notice::Published { service, status: "maintenance" } => {
                write!(f, "{service} is in maintenance in the catalog")
            }
            Notice::Published { service, status } => write!(f, "{service} is {status} in the catalog"),
            Notice::Advertised { service, address, why } => write!(f, "{service} is advertised at {address}: {why}"),
            Notice::Withdrawn { service } => write!(f, "{service} is out of the catalog"),
            Notice::EntryLeft { service, status, ttl, because } => {
                let (status, ttl) = (status.unwrap_or("there"), span(ttl));
                let because = because.as_deref().unwrap_or("it didn't answer in time");
                write!(f, "{service} may be {status} in the catalog for {ttl} more: {because}")
            }
            Notice::LockLeft { election, lease, because } => {
                let lease = span(lease);
                write!(f, "nobody can lead {election} for about {lease} more, counted from when the store is up: ")?;
                match because {
                    Some(because) => write!(f, "the lock isn't given back: {because}"),
                    None => write!(f, "the lock's release wasn't answered in time"),
                }
            }
            Notice::CatalogFailed { what, error } => write!(f, "{what} failed; trying again: {error}"),
            Notice::CatalogBack { what } => write!(f, "{what} works again"),
            Notice::DependencyChanged { watch, what } => write!(f, "watch {watch}: {what}"),
            Notice::TemplateWritten { watch, destination } => write!(f, "watch {watch}: {destination} written"),
            Notice::TemplateSlow { watch, destination, after } => {
                let after = humantime::format_duration(*after);
                write!(f, "watch {watch}: {destination} isn't written after {after}; others don't wait for it")
            }
            Notice::TemplateKept { watch, destination } => {
                write!(f, "watch {watch}: no answer to go by yet, so {destination} stays as it is")
            }
            Notice::TemplateFailed { watch, error } => {
                write!(f, "watch {watch}: the template failed, so its file stays as it was: {error}")
            }
            Notice::Reloaded { changed, later } => {
                let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
                write!(f, "config read again; changed: {}", list(changed))?;
                if !later.is_empty() {
                    write!(f, "; applies at the next start: {}", list(later))?;
                }
                Ok(())
            }
            Notice::ReloadFailed { error } => write!(f, "the new config can't be used, so the old one stays:\n{error}"),
            Notice::Degraded { what } => write!(f, "{what}"),
            Notice::WitnessLost { error } => {
                write!(f, "there is no witness, so this container's end costs the lease: {error}")
            }
            Notice::WitnessBack => f.write_str("the witness is back: this container's end is known at once"),
            Notice::Demoting { why } => write!(f, "stepping down: {why}"),
            Notice::HandoverFailed { to, within } => {
                write!(f, "{to} hasn't taken the lead within {}: from now on anybody may", span(within))
            }
            Notice::ReplicaRemade { error } => write!(f, "on_leader_change failed, so main is prepared again: {error}"),
            Notice::RanksMissing { known, quorum, missing, ahead, never } => {
                write!(f, "not leading yet: ")?;
                match (quorum, ahead) {
                    (_, Some(ahead)) => write!(f, "{ahead} is further ahead, and doesn't take the lock now")?,
                    _ if *never => {
                        write!(f, "by its rank this container's data must never lead, and no other rank is known")?
                    }
                    (Some(quorum), None) => {
                        write!(f, "the ranks of {quorum} candidates are needed, {} known", Names(known, "none is"))?
                    }
                    (None, None) => write!(f, "{} known", Names(known, "no rank is"))?,
                }
                if !missing.is_empty() {
                    write!(f, "; missing: {}", missing.join(", "))?;
                }
                Ok(())
            }
            Notice::RanksKnown { known } => write!(f, "enough ranks are known now: of {}", known.join(", ")),
            Notice::AcceptsLoss { term, known } => write!(
                f,
                "promoted by hand for term {}, whatever is lost by it: {} known",
                term.0,
                Names(known, "no rank is")
            ),
            Notice::Promoting { term } => write!(f, "the lock is ours, for term {}: main is to lead", term.0),
            Notice::Leads { term } => write!(f, "leading, for term {}", term.0),
            Notice::LeaderChanged { id: Some(id), address: Some(address) } => write!(f, "{id} at {address} leads"),
            Notice::LeaderChanged { id: Some(id), address: None } => write!(f, "{id} leads"),
            Notice::LeaderChanged { id: None, .. } => write!(f, "nobody leads"),
            Notice::LockForeign { election, key, stays } => {
                write!(f, "nobody can lead {election}: {}", foreign_lock(key, *stays))
            }
            Notice::FormerLifeHolds => {
                write!(
                    f,
                    "the lock is still held from before this container's restart: nobody leads until that is over"
                )
            }
            Notice::IdShared { id, certainly: true } => write!(
                f,
                "another container holds the lock under this one's id, {id}: give each an [election] id of its own"
            ),
            Notice::IdShared { id, certainly: false } => write!(
                f,
                "the lock has been held under this container's id, {id}, for longer than its last run could: if another \
                 container has this id, give each an [election] id of its own"
            ),
            Notice::Certified { id, term } => {
                write!(
                    f,
                    "the kernel says that nothing is left of {id}'s container: its lock, of term {}, is freed",
                    term.0
                )
            }
            Notice::ElectionFailed { what, error } => write!(f, "{what} failed; trying again: {error}"),
            Notice::LeaseTooShort { usable, least } => write!(
                f,
                "not standing for leader: the catalog promises {}, and a leader needs {} (raise [election] lease)",
                span(usable),
                span(least)
            ),
            Notice::TermWentBack { term, seen } => write!(
                f,
                "refusing to lead: the catalog gives term {} after {}, so it was restored or wiped (pilotfish term --accept if that was meant)",
                term.0, seen.0
            ),
            Notice::MaintenanceBegan { lasts, reason } => {
                write!(f, "in maintenance ")?;
                match lasts {
                    Some(lasts) => write!(f, "for {}", span(lasts))?,
                    None => write!(f, "until it is ended")?,
                }
                reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Notice::MaintenanceEnded { because } => write!(f, "maintenance is over: {because}"),
            Notice::Ended { code, reason, .. } => write!(f, "ending with code {code}: {reason}"),
        }
    }
}

/// What becomes of main by a hook that failed, where nothing else says so.
fn consequence(hook: &Job) -> &'static str {
    match hook {
        Job::OnDemote => ", so main is stopped: it may still act as leader",
        _ => "",
    }
}

/// Names with a verb, or what is said of none.
struct Names<'a>(&'a [String], &'a str);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => f.write_str(self.1),
            [one] => write!(f, "{one}'s is"),
            several => write!(f, "those of {} are", several.join(", ")),
        }
    }
}
