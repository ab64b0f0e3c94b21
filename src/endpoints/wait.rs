//! Waiting at the control endpoint: an answer comes as soon as something is so, or when the asker's time is over. What the
//! status tells is waited for here, what the catalog tells by the agent's loop.

use std::time::Duration;

use tokio::sync::watch::Receiver;
use tokio::time::timeout;

use crate::config::Query;
use crate::supervisor::Status;
use crate::supervisor::vocabulary::{Answer, Phase};

/// One request waits no longer, for a connection has an end; who wants to know asks again.
pub const WAIT_AT_MOST: Duration = Duration::from_secs(20);

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Awaited {
    /// Main runs, and every check passes.
    Ready,
    /// Somebody leads the container's own election.
    Leader,
    /// Something in the catalog.
    Seen(Query),
}

impl Awaited {
    /// What a request names, as `what` and `name`.
    pub fn named(what: &str, name: Option<String>) -> Option<Awaited> {
        Some(match (what, name) {
            ("ready", None) => Awaited::Ready,
            ("leader", None) => Awaited::Leader,
            ("leader", Some(election)) => Awaited::Seen(Query::Leader { election }),
            ("key", Some(key)) => Awaited::Seen(Query::Key { key }),
            ("service", Some(name)) => Awaited::Seen(Query::Service { name, tag: None, datacenter: None }),
            _ => return None,
        })
    }
}

/// Waits until the status says so. `looks` answers it: whether, or why not.
pub async fn until(mut status: Receiver<Status>, within: Duration, looks: fn(&Status) -> Answer) -> Answer {
    let mut last = Answer::NotYet(String::new());
    let waited = timeout(within, async {
        loop {
            last = looks(&status.borrow_and_update());
            if !matches!(last, Answer::NotYet(_)) || status.changed().await.is_err() {
                return;
            }
        }
    });
    // Past its time, the last look stands.
    let _ = waited.await;
    last
}

/// Whether main runs and every check passes.
pub fn is_ready(status: &Status) -> Answer {
    match status.why_not_ready() {
        None => Answer::Done("ready".to_owned()),
        Some(why) if status.phase == Phase::Stopping => Answer::Refused(why),
        Some(why) => Answer::NotYet(why),
    }
}

/// Whether somebody leads and acts.
pub fn is_led(status: &Status) -> Answer {
    let Some(election) = &status.election else {
        return Answer::Refused("this container takes part in no election".to_owned());
    };
    match &election.leader {
        // Who leads itself knows until when.
        Some(leader) if leader.acts && leader.id != election.id && election.error.is_some() => {
            let error = election.error.as_deref().unwrap_or_default();
            Answer::NotYet(format!("{} led when the catalog last answered: {error}", leader.id))
        }
        Some(leader) if leader.acts => Answer::Done(format!("{} leads", leader.id)),
        _ if status.phase == Phase::Stopping => Answer::Refused("the container is stopping".to_owned()),
        Some(leader) => Answer::NotYet(format!("{} holds the lock, and doesn't act yet", leader.id)),
        None => {
            let because = election.error.as_ref().map(|error| format!(": {error}"));
            Answer::NotYet(format!("nobody leads{}", because.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use crate::supervisor::vocabulary::{ElectionStatus, LeaderStatus};

    use super::*;

    fn running() -> Status {
        let mut status = Status { phase: Phase::Running, ..Status::default() };
        status.main.pid = Some(7);
        status
    }

    #[test]
    fn what_is_waited_for_has_a_name_where_it_needs_one() {
        assert_eq!(Awaited::named("ready", None), Some(Awaited::Ready));
        assert_eq!(Awaited::named("leader", None), Some(Awaited::Leader));
        assert_eq!(Awaited::named("key", Some("a/b".into())), Some(Awaited::Seen(Query::Key { key: "a/b".into() })));
        for (what, name) in [("ready", Some("x")), ("key", None), ("service", None), ("", None), ("all", Some("x"))] {
            assert_eq!(Awaited::named(what, name.map(str::to_owned)), None, "{what} {name:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_status_answers_at_once_and_time_at_its_end() {
        let (tell, status) = watch::channel(Status::default());
        let waiting = tokio::spawn(until(status.clone(), Duration::from_secs(5), is_ready));
        tokio::task::yield_now().await;
        tell.send_replace(running());
        assert_eq!(waiting.await.unwrap(), Answer::Done("ready".to_owned()));

        tell.send_replace(Status { doing: "waiting for key k".to_owned(), ..Status::default() });
        let answer = until(status, Duration::from_secs(5), is_ready).await;
        assert_eq!(answer, Answer::NotYet("starting: waiting for key k".to_owned()));
    }

    #[test]
    fn a_container_that_stops_will_not_be_ready_and_one_without_an_election_not_led() {
        let stopping = Status { phase: Phase::Stopping, ..Status::default() };
        assert!(matches!(is_ready(&stopping), Answer::Refused(_)));
        assert!(matches!(is_led(&running()), Answer::Refused(_)));
    }

    #[test]
    fn a_leader_that_holds_the_lock_and_does_not_act_yet_is_none() {
        let led = |acts: Option<bool>, error: Option<&str>| {
            let leader = |acts| LeaderStatus { id: "two".to_owned(), address: None, term: Default::default(), acts };
            let election = ElectionStatus {
                name: "db".to_owned(),
                id: "one".to_owned(),
                role: "leader".to_owned(),
                promoted: false,
                doing: "following".to_owned(),
                leader: acts.map(leader),
                leaderships: 0,
                error: error.map(str::to_owned),
                ranks: None,
                loss_accepted: false,
                witness: None,
            };
            is_led(&Status { election: Some(election), ..running() })
        };
        assert_eq!(led(Some(false), None), Answer::NotYet("two holds the lock, and doesn't act yet".to_owned()));
        assert_eq!(led(Some(true), None), Answer::Done("two leads".to_owned()));
        // Nor is one of which nobody can know any more.
        let gone = "two led when the catalog last answered: can't reach consul";
        assert_eq!(led(Some(true), Some("can't reach consul")), Answer::NotYet(gone.to_owned()));
        assert_eq!(led(None, Some("the disk is full")), Answer::NotYet("nobody leads: the disk is full".to_owned()));
        assert_eq!(led(None, None), Answer::NotYet("nobody leads".to_owned()));
    }
}
