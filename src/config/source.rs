//! Where a config came from, so that it can be read again.

use std::path::PathBuf;

use super::{Config, Context, Exec, Loaded, Report};

/// What a config was made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` for a plain init.
    pub file: Option<PathBuf>,
    /// What stood after `--`.
    pub command: Option<Exec>,
    /// What its templates see.
    pub context: Context,
}

impl Source {
    /// Reads the config, now. Without a file it is that of a plain init, running what stood after `--`.
    ///
    /// # Errors
    /// The file can't be read, or has mistakes: all of them.
    pub fn read(&self) -> Result<Loaded, Report> {
        match &self.file {
            Some(file) => Config::load(file, self.command.clone(), &self.context),
            None => {
                let config = Config::plain(self.command.clone().unwrap_or_default());
                Ok(Loaded { config, warnings: Vec::new() })
            }
        }
    }
}
