//! What touches files that the user named: templates, secrets, the config. Their storage may hang, so each works beside
//! the loop, in a thread of its own while it lasts.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::catalog::report;
use crate::config::{Config, Process, Template};
use crate::exit_codes::CANT_RUN;
use crate::files::Turn;
use crate::logging;
use crate::supervisor::vocabulary::{Hope, Observation, Rendering, RunId, SpawnError, Staged};
use crate::supervisor::{Event, Notice};
use crate::{files, process, render, survey};

use super::tasks::no_answer;
use super::{Adapters, degraded};

/// Rendering, installing and reading the config touch files only; storage that takes longer hangs.
pub(super) const FILES_WITHIN: Duration = Duration::from_secs(10);
/// What a config names is looked at beside its reload; what takes longer is told, and looked at on.
const LOOKED_WITHIN: Duration = Duration::from_secs(2);
/// The end waits for no temporary directory.
const LEAVE_WITHIN: Duration = Duration::from_millis(100);
/// Before a staged file is removed after all.
const AFTER_NO_THREAD: Duration = Duration::from_secs(1);

impl Adapters {
    pub(super) fn render(&mut self, watch: String, template: Template, seen: Observation, unanswered: bool) {
        let variables = self.source.context.variables.clone();
        let event = {
            let watch = watch.clone();
            move |outcome| Event::Rendered { watch: watch.clone(), outcome }
        };
        let destination = template.destination.clone();
        let slow = slow(&watch, &destination);
        self.on_template(
            &destination,
            slow,
            move || {
                let rendering = render::stage(&watch, &template, &seen, unanswered, &variables);
                rendering.map_err(|error| report(&error))
            },
            move |result| event(result.unwrap_or_else(Rendering::Failed)),
        );
    }

    /// Nobody waits for it.
    pub(super) fn discard(&mut self, staged: Staged) {
        let turn = self.turn_of(&staged.template.destination);
        tokio::spawn(async move {
            let staged = Arc::new(staged);
            let discard =
                |staged: Arc<Staged>| files::beside_as_template(turn.clone(), move || render::discard(&staged), |_| {});
            while discard(staged.clone()).await.is_err() {
                tokio::time::sleep(AFTER_NO_THREAD).await;
            }
        });
    }

    pub(super) fn install(&mut self, watch: String, staged: Staged) {
        let destination = staged.template.destination.clone();
        self.on_template(
            &destination,
            slow(&watch, &destination),
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
        let (source, loading, surveying) = (self.source.clone(), self.loading.clone(), self.surveying.clone());
        let file = source.file.as_deref().unwrap_or(Path::new("the config")).display().to_string();
        let at = At::new(format!("an earlier reload, which still reads {file}"));
        let read = {
            let at = at.clone();
            async move {
                // A read that hangs must not be joined by one more for each reload that is ordered after it, nor take its
                // thread from others' files.
                let turn = loading.lock_owned().await;
                at.now(file);
                let work = move || {
                    let _turn = turn;
                    if source.file.is_none() {
                        return Err("there is no config file to read again".to_owned());
                    }
                    let loaded = source.read().map_err(|report| report.to_string())?;
                    loaded.warnings.iter().for_each(|warning| degraded(warning.to_string()));
                    at.now("/etc/passwd and /etc/group".to_owned());
                    process::users::mind_groups(loaded.config.users().into_keys());
                    Ok(Box::new(loaded))
                };
                files::in_a_thread(work).await
            }
        };
        self.task(|error| Event::ConfigLoaded(Err(error)), async move {
            let loaded = match tokio::time::timeout(FILES_WITHIN, read).await {
                Ok(Ok(loaded)) => loaded,
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("{}: {} (does its storage hang?)", at.get(), no_answer(FILES_WITHIN))),
            };
            if let Ok(loaded) = &loaded {
                tokio::spawn(look_around(surveying, loaded.config.clone()));
            }
            Event::ConfigLoaded(loaded)
        });
    }

    /// What the checks of templates looked at goes with the agent.
    pub async fn leave_no_file(&self) {
        if files::Scratch::is_any() {
            let _ = tokio::time::timeout(LEAVE_WITHIN, files::in_a_thread(files::Scratch::remove_all)).await;
        }
    }

    fn on_template<T: Send + 'static>(
        &mut self,
        destination: &Path,
        slow: impl FnOnce(Duration) + Send + 'static,
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
        event: impl Fn(Result<T, String>) -> Event + Clone + Send + 'static,
    ) {
        let work = files::beside_as_template(self.turn_of(destination), work, slow);
        self.on_files(work, event);
    }

    fn turn_of(&mut self, destination: &Path) -> Turn {
        // A reload may have done away with templates.
        self.templates.retain(|_, turn| !turn.is_idle());
        self.templates.entry(destination.to_owned()).or_default().clone()
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

/// What a thread is about, for whoever has waited for it too long.
#[derive(Debug, Clone)]
struct At(Arc<Mutex<String>>);

impl At {
    fn new(what: String) -> At {
        At(Arc::new(Mutex::new(what)))
    }

    fn now(&self, what: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Says what a config names that isn't here. Nobody waits for it: what is on storage that hangs is told, and once that goes
/// on, what is wrong with it. By one thread, however often a config is read.
async fn look_around(turn: Arc<tokio::sync::Mutex<()>>, config: Config) {
    let at = At::new("what the config names".to_owned());
    let looked = {
        let at = at.clone();
        async move {
            let turn = turn.lock_owned().await;
            let look = move || {
                survey::one_by_one(&config, |what| at.now(what), degraded);
                drop(turn);
            };
            files::in_a_thread(look).await
        }
    };
    match tokio::time::timeout(LOOKED_WITHIN, looked).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => degraded(format!("what the config names wasn't looked at: {error}")),
        Err(_) => {
            degraded(format!(
                "{} couldn't be looked at yet, nor what comes after it: does its storage hang? (the new config counts)",
                at.get()
            ));
        }
    }
}

/// Says of a template that it takes long.
fn slow(watch: &str, destination: &Path) -> impl FnOnce(Duration) + Send + 'static + use<> {
    let (watch, destination) = (watch.to_owned(), destination.display().to_string());
    move |after| logging::say(&Notice::TemplateSlow { watch, destination, after })
}

/// Why a run's files aren't here.
pub(super) fn failed(why: &str) -> SpawnError {
    SpawnError { code: CANT_RUN, message: format!("the files of env_from_files: {why}"), hope: Hope::Soon }
}
