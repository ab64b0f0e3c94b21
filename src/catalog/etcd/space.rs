//! Whether etcd has room: one whose database has grown to its quota takes no writes, and nothing shows of that before the
//! next write. It is asked now and then, and said once; nobody waits for the answer.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::Client;
use tokio::time::Instant;

use super::members::Members;

/// Between two looks.
const EACH: Duration = Duration::from_secs(60);
/// A heartbeat waits no longer for one.
const WITHIN: Duration = Duration::from_millis(500);

/// What was seen last, and when.
#[derive(Debug, Default)]
pub(super) struct Space(Mutex<(Option<Instant>, Option<String>)>);

impl Space {
    /// Looks, if it is time to.
    pub(super) async fn look(&self, members: &Members) {
        if !self.is_due(Instant::now()) {
            return;
        }
        let status = members.call("look at etcd's status", |mut client: Client| async move { client.status().await });
        if let Ok(Ok(status)) = tokio::time::timeout(WITHIN, status).await {
            let alarm =
                status.errors().iter().find(|error| error.contains("alarm:")).map(|alarm| alarm.trim().to_owned());
            if let Some(words) = self.is_news(alarm) {
                tracing::warn!(event = "catalog.alarm", "{words}");
            }
        }
    }

    /// The same for ever.
    pub(super) async fn keep_looking(&self, members: &Members) -> ! {
        loop {
            self.look(members).await;
            tokio::time::sleep(EACH).await;
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let looked = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).0;
        let due = looked.is_none_or(|at| now.duration_since(at) >= EACH);
        if due {
            *looked = Some(now);
        }
        due
    }

    /// What to say of it, if it wasn't said yet.
    fn is_news(&self, alarm: Option<String>) -> Option<String> {
        let last = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner).1;
        if *last == alarm {
            return None;
        }
        last.clone_from(&alarm);
        Some(match alarm {
            None => "etcd's alarm is over: it takes writes again".to_owned(),
            Some(alarm) if alarm.contains("NOSPACE") => format!(
                "etcd's database has grown to its quota ({alarm}): it takes no writes, so nobody can register or come to lead, \
                 until it is compacted and defragmented, and `etcdctl alarm disarm` (start it with --auto-compaction-retention)"
            ),
            Some(alarm) => format!("etcd says that something is wrong with it: {alarm}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_said_once_and_its_end_too() {
        let space = Space::default();
        let alarm = || Some("memberID:13 alarm:NOSPACE".to_owned());
        assert_eq!(space.is_news(None), None);
        let said = space.is_news(alarm()).unwrap();
        assert!(said.contains("memberID:13 alarm:NOSPACE") && said.contains("alarm disarm"), "{said}");
        assert_eq!(space.is_news(alarm()), None);
        assert!(space.is_news(None).unwrap().contains("is over"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_looks_once_a_minute() {
        let space = Space::default();
        assert!(space.is_due(Instant::now()));
        assert!(!space.is_due(Instant::now()));
        tokio::time::advance(EACH).await;
        assert!(space.is_due(Instant::now()));
    }
}
