//! A watch under another config: what was told stays told, and its file is looked at again.

use std::sync::Arc;

use crate::config::{Exec, Watch as Config};

use super::{Watch, WatchStage, nothing};
use crate::supervisor::vocabulary::{Effect, RunId};

impl Watch {
    /// Whether one so configured sees what this one does.
    pub fn serves(&self, config: &Config) -> bool {
        (&self.config.name, &self.config.query) == (&config.name, &config.query)
    }

    /// Goes on, as configured now: what was told stays told, and its file is looked at again. A check of one that is to be
    /// made otherwise, or not at all, which is to be ended.
    pub fn reconfigure(&mut self, config: Arc<Config>, out: &mut Vec<Effect>) -> Option<RunId> {
        let run = if self.config.template == config.template { None } else { self.give_up_file(out) };
        if self.config.template.is_some() != config.template.is_some() {
            self.prepared = config.template.is_none();
        }
        self.doubtful |= config.template.is_some();
        let another = command_of(&self.config) != command_of(&config);
        self.config = config;
        if another {
            self.tells_another();
        }
        run
    }

    /// Another command is told all there is. The one before, should it run, is waited for, and nothing follows from it.
    fn tells_another(&mut self) {
        self.give_up_hook();
        self.told.begins_anew();
        self.failed_on = None;
        if self.config.template.is_none() {
            self.acted = nothing(&self.config.query);
            self.pending |= self.told.is_any();
        }
    }

    /// One that looks at something else, in place of another. Its command, if it is the same, hears what is no more of what
    /// that one saw.
    pub fn in_place_of(mut other: Watch, config: Arc<Config>) -> Watch {
        let mut watch = Watch::new(config);
        if let WatchStage::Outdated = other.stage {
            (watch.stage, watch.pending) = (WatchStage::Outdated, other.pending);
        }
        if command_of(&other.config) == command_of(&watch.config) && other.told.is_like(&watch.acted) {
            other.give_up_hook();
            watch.told = other.told;
            watch.pending |= watch.config.template.is_none() && watch.told.is_any();
        }
        watch
    }
}

/// What is told of changes: how, and for how long it may, says nothing of what it knows.
fn command_of(config: &Config) -> Option<&Exec> {
    config.on_change.as_ref().map(|hook| &hook.exec)
}
