//! What touches files that the user named: templates, secrets, the config. Their storage may hang, so each works beside
//! the loop, in a thread of its own while it lasts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::catalog::report;
use crate::config::{Process, Template};
use crate::exit_codes::CANT_RUN;
use crate::supervisor::Event;
use crate::supervisor::vocabulary::{Hope, Observation, Rendering, RunId, SpawnError, Staged};
use crate::{files, process, render};

use super::tasks::no_answer;
use super::{Adapters, degraded};

/// Rendering, installing and reading the config touch files only; storage that takes longer hangs.
pub(super) const FILES_WITHIN: Duration = Duration::from_secs(10);
/// Before a staged file is removed after all.
const AFTER_NO_THREAD: Duration = Duration::from_secs(1);

impl Adapters {
    pub(super) fn render(&self, watch: String, template: Template, seen: Observation, unanswered: bool) {
        let variables = self.source.context.variables.clone();
        let event = {
            let watch = watch.clone();
            move |outcome| Event::Rendered { watch: watch.clone(), outcome }
        };
        self.on_templates(
            move || {
                let rendering = render::stage(&watch, &template, &seen, unanswered, &variables);
                rendering.map_err(|error| report(&error))
            },
            move |result| event(result.unwrap_or_else(Rendering::Failed)),
        );
    }

    /// Nobody waits for it.
    pub(super) fn discard(&self, staged: Staged) {
        tokio::spawn(async move {
            let staged = Arc::new(staged);
            let discard = |staged: Arc<Staged>| files::beside_as_template(move || render::discard(&staged));
            // What lies beside its destination is replaced by the next one, which mustn't be removed in its place.
            while discard(staged.clone()).await.is_err() && !staged.beside {
                tokio::time::sleep(AFTER_NO_THREAD).await;
            }
        });
    }

    pub(super) fn install(&self, watch: String, staged: Staged) {
        self.on_templates(
            move || render::install(&staged).map_err(|error| report(&error)),
            move |result| Event::Installed { watch: watch.clone(), result },
        );
    }

    pub(super) fn read_files(&self, run: RunId, process: Arc<Process>) {
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

    pub(super) fn load_config(&self) {
        let source = self.source.clone();
        self.on_files(
            files::beside(move || match source.file {
                None => Err("there is no config file to read again".to_owned()),
                Some(_) => {
                    let loaded = source.read().map_err(|report| report.to_string())?;
                    loaded.warnings.iter().for_each(|warning| degraded(warning.to_string()));
                    process::users::mind_groups(loaded.config.users().into_keys());
                    Ok(Box::new(loaded))
                }
            }),
            Event::ConfigLoaded,
        );
    }

    fn on_templates<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        self.on_files(files::beside_as_template(work), event);
    }

    /// Waits for work on files the user named: their storage may hang.
    fn on_files<T: Send + 'static>(
        &self,
        work: impl Future<Output = io::Result<Result<T, String>>> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        let failed = event.clone();
        self.task(move |error| failed(Err(error)), async move {
            let result = match tokio::time::timeout(FILES_WITHIN, work).await {
                Ok(Ok(result)) => result,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(no_answer(FILES_WITHIN)),
            };
            event(result)
        });
    }
}

/// Why a run's files aren't here.
pub(super) fn failed(why: &str) -> SpawnError {
    SpawnError { code: CANT_RUN, message: format!("the files of env_from_files: {why}"), hope: Hope::Soon }
}
