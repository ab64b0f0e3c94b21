//! Hooks, checks and coprocesses whose variables come from files. Their storage may hang, so they are read beside the
//! loop, and each run is started once what it is to get is here.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use tokio::time::timeout;

use crate::config::{Coprocess, Exec, RunAs, Signal, When};
use crate::files::Reader;
use crate::process;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Job, RunId, Secrets, SpawnError, Target};

use super::files::{FILES_WITHIN, failed};
use super::tasks::no_answer;

/// What was ordered and isn't started yet.
#[derive(Debug, Default)]
pub struct Waiting {
    runs: HashMap<RunId, Ordered>,
    /// One for each of these, so that the storage of one holds up no other's.
    readers: HashMap<String, Arc<Reader>>,
}

/// A run as it was ordered.
#[derive(Debug)]
pub struct Ordered {
    pub job: Job,
    /// The role that all of it ends with.
    pub role: When,
    pub exec: Exec,
    pub run_as: RunAs,
    pub env: Vec<(String, String)>,
    pub stdin: Option<String>,
    /// It is this one's own process.
    pub coprocess: Option<Arc<Coprocess>>,
}

impl Waiting {
    /// A run waits for its files, which are what is returned.
    pub fn add(
        &mut self,
        run: RunId,
        ordered: Ordered,
    ) -> impl Future<Output = Result<Secrets, SpawnError>> + Send + 'static {
        let reader = self.readers.entry(ordered.job.to_string()).or_default().clone();
        let (exec, run_as) = (ordered.exec.clone(), ordered.run_as.clone());
        self.runs.insert(run, ordered);
        async move {
            match timeout(FILES_WITHIN, reader.read(move || process::read_hook_files(&exec, &run_as))).await {
                Ok(Ok(read)) => read,
                Ok(Err(error)) => Err(failed(&error.to_string())),
                Err(_) => Err(failed(&no_answer(FILES_WITHIN))),
            }
        }
    }

    /// A run waits no more.
    pub fn take(&mut self, run: RunId) -> Option<Ordered> {
        self.runs.remove(&run)
    }

    /// Who is told to end before it was started has ended.
    pub fn told(&mut self, target: Target, signal: Signal) -> Option<Event> {
        let (Target::Process(run) | Target::Group(run) | Target::All(run)) = target else { return None };
        if signal == Signal::CONT {
            return None;
        }
        self.runs.remove(&run).map(|_| Event::SpawnFailed { run, error: failed("are waited for no more") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId(7);

    fn ordered(file: &std::path::Path) -> Ordered {
        let run_as = RunAs { env_from_files: [("KEY".to_owned(), file.to_owned())].into(), ..RunAs::default() };
        Ordered {
            job: Job::OnPromote,
            role: When::Leader,
            exec: vec!["true".into()],
            run_as,
            env: Vec::new(),
            stdin: None,
            coprocess: None,
        }
    }

    #[tokio::test]
    async fn a_run_gets_what_its_files_hold_or_why_there_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        std::fs::write(&file, "secret\n").unwrap();
        let mut waiting = Waiting::default();
        assert_eq!(waiting.add(RUN, ordered(&file)).await.unwrap().0, [("KEY".to_owned(), b"secret".to_vec())]);
        assert!(waiting.take(RUN).is_some() && waiting.take(RUN).is_none());
        std::fs::remove_file(&file).unwrap();
        assert!(waiting.add(RUN, ordered(&file)).await.unwrap_err().message.contains("KEY from"));
    }

    #[tokio::test]
    async fn who_is_told_to_end_before_it_is_started_has_ended() {
        let mut waiting = Waiting::default();
        drop(waiting.add(RUN, ordered(std::path::Path::new("/dev/null"))));
        assert!(waiting.told(Target::All(RunId(8)), Signal::KILL).is_none());
        assert!(waiting.told(Target::All(RUN), Signal::CONT).is_none());
        assert!(matches!(waiting.told(Target::All(RUN), Signal::TERM), Some(Event::SpawnFailed { run: RUN, .. })));
        assert!(waiting.take(RUN).is_none());
    }
}
