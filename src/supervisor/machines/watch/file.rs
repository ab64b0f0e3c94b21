//! The file of a watch: rendered from what is seen, checked, put in place; and whether main may start without.

use std::path::Path;

use crate::config::{Exec, Hook, Required};

use super::{Context, Watch, WatchStage};
use crate::supervisor::machines::commands::Outcome;
use crate::supervisor::vocabulary::{Effect, Job, Notice, Observation, Rendering, RunId, Staged};

impl Watch {
    /// Whether main need not wait for this watch's file.
    pub fn is_prepared(&self, leads: bool) -> bool {
        self.prepared || !self.config.when.applies(leads)
    }

    /// Whether only a first answer keeps main waiting, and not for longer than it may.
    pub fn awaits_answer(&self, leads: bool) -> bool {
        !self.is_prepared(leads)
            && matches!(self.stage, WatchStage::Quiet)
            && self.believed.is_none()
            && self.required().is_none()
    }

    /// How long main waits for this watch's file; `None` when it isn't to start without.
    pub fn required(&self) -> Option<Required> {
        self.config.template.as_ref().and_then(|template| template.required)
    }

    /// Why main couldn't start, for people.
    pub fn missing(&self) -> String {
        let destination = self.config.template.as_ref().map(|template| template.destination.display().to_string());
        let why = self.trouble.as_deref().or(self.error.as_deref()).unwrap_or("the catalog gave no answer");
        format!("watch {}: {} isn't made: {why}", self.config.name, destination.unwrap_or_default())
    }

    /// Main shall not wait longer for a first answer: the file is made with what is known, be it nothing.
    pub fn prepare_without_answer(&mut self, context: &mut Context<'_, '_>) {
        if self.awaits_answer(context.leads == Some(true)) {
            let on = self.acted.clone();
            self.render(on, true, context);
        }
    }

    pub(super) fn render(&mut self, on: Observation, unanswered: bool, context: &mut Context<'_, '_>) {
        let Some(template) = self.config.template.clone() else { return };
        let watch = self.config.name.clone();
        self.doubtful = unanswered;
        context.step.out.push(Effect::Render { watch, template, seen: on.clone(), unanswered });
        self.stage = WatchStage::Rendering { on, since: context.step.now };
    }

    /// The template was rendered.
    pub fn rendered(&mut self, outcome: Rendering, context: &mut Context<'_, '_>) {
        let on = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Rendering { on, .. } => on,
            other => {
                if let Rendering::Staged(staged) = outcome {
                    context.step.out.push(Effect::Discard(staged));
                }
                return self.is_over(other, context);
            }
        };
        match outcome {
            Rendering::Unchanged if self.pending => self.tell(on, context),
            Rendering::Unchanged => self.done(on, context),
            Rendering::Kept => self.kept(context),
            Rendering::Failed(error) => self.failed(error, context),
            Rendering::Staged(staged) if !context.is_for(self.config.when) => {
                context.step.out.push(Effect::Discard(staged));
                self.set_aside(context);
            }
            Rendering::Staged(staged) => {
                let Some(template) = &self.config.template else { return };
                let Some(check) = &template.check else { return self.install(on, staged, context) };
                let exec = with_path(check, staged.path.as_deref().unwrap_or(&template.destination));
                let run_as = template.check_as.clone();
                let hook = Hook { run_as, ..Hook::new(exec, template.check_timeout) };
                let job = Job::TemplateCheck { watch: self.config.name.clone() };
                let run = self.command(job, hook, None, context);
                self.stage = WatchStage::Checking { on, run, staged };
            }
        }
    }

    /// The check of a rendered file ended.
    pub fn checked(&mut self, run: RunId, outcome: &Outcome, context: &mut Context<'_, '_>) {
        let (on, staged) = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Checking { on, run: own, staged } if own == run => (on, staged),
            other => return self.stage = other,
        };
        // Another role's file doesn't go live, and a check that was cut short says nothing of the template.
        let in_vain = !context.is_for(self.config.when) || *outcome == Outcome::Cancelled;
        match outcome.result() {
            _ if in_vain => {
                context.step.out.push(Effect::Discard(staged));
                self.set_aside(context);
            }
            Ok(()) => self.install(on, staged, context),
            Err(error) => {
                // By a relative path the file finds nothing of what lies beside its destination there.
                let apart = match staged.path.is_some() && !staged.beside {
                    true => format!(
                        " (it looked at a copy apart from {}, where what the file names by relative paths isn't)",
                        staged.template.destination.display()
                    ),
                    false => String::new(),
                };
                context.step.out.push(Effect::Discard(staged));
                self.failed(format!("its check {error}{apart}"), context);
            }
        }
    }

    fn install(&mut self, on: Observation, staged: Staged, context: &mut Context<'_, '_>) {
        context.step.out.push(Effect::Install { watch: self.config.name.clone(), staged });
        self.stage = WatchStage::Installing { on, since: context.step.now };
    }

    /// The file is in place, or couldn't be put there.
    pub fn installed(&mut self, result: Result<(), String>, context: &mut Context<'_, '_>) {
        let on = match std::mem::replace(&mut self.stage, WatchStage::Quiet) {
            WatchStage::Installing { on, .. } => on,
            other => return self.is_over(other, context),
        };
        match result {
            Err(error) => self.failed(error, context),
            Ok(()) => {
                if let Some(template) = &self.config.template {
                    let destination = template.destination.display().to_string();
                    let watch = self.config.name.clone();
                    context.step.out.push(Effect::Say(Notice::TemplateWritten { watch, destination }));
                }
                self.pending = true;
                self.tell(on, context);
            }
        }
    }

    /// What is over isn't what this one waits for now; but what it had begun as configured before may be.
    fn is_over(&mut self, stage: WatchStage, context: &mut Context<'_, '_>) {
        match stage {
            WatchStage::Outdated => self.act(context),
            other => self.stage = other,
        }
    }

    /// No file of it goes live any more, but for one that is being put in place. Its check, which is to be ended.
    pub fn give_up_file(&mut self, out: &mut Vec<Effect>) -> Option<RunId> {
        match std::mem::replace(&mut self.stage, WatchStage::Outdated) {
            WatchStage::Checking { run, staged, .. } => {
                self.stage = WatchStage::Quiet;
                out.push(Effect::Discard(staged));
                return Some(run);
            }
            // Main and the hook know nothing of that.
            WatchStage::Installing { .. } => self.pending = true,
            WatchStage::Rendering { .. } | WatchStage::Outdated => {}
            other @ (WatchStage::Quiet | WatchStage::Hook { .. }) => self.stage = other,
        }
        None
    }

    /// Nobody has said what to make the file of, or a store that may have lost it, and there is one: no answer isn't an empty
    /// one.
    fn kept(&mut self, context: &mut Context<'_, '_>) {
        if let Some(template) = &self.config.template {
            let destination = template.destination.display().to_string();
            context.step.out.push(Effect::Say(Notice::TemplateKept { watch: self.config.name.clone(), destination }));
        }
        (self.prepared, self.kept) = (true, true);
        // An answer that came meanwhile.
        self.act(context);
    }

    fn failed(&mut self, error: String, context: &mut Context<'_, '_>) {
        // It is tried again for as long as it fails: that is news only if it is for another reason.
        if self.trouble.as_ref() != Some(&error) {
            let watch = self.config.name.clone();
            context.step.out.push(Effect::Say(Notice::TemplateFailed { watch, error: error.clone() }));
        }
        // Main starts with the file there is: a fault in a template must not keep a database down.
        self.prepared |= self.required().is_none();
        self.try_again(error, context);
    }
}

fn with_path(check: &Exec, path: &Path) -> Exec {
    let filled = |arg: &std::ffi::OsString| match arg.to_str() {
        Some(text) if text.contains("{}") => text.replace("{}", &path.to_string_lossy()).into(),
        _ => arg.clone(),
    };
    check.iter().map(filled).collect()
}
