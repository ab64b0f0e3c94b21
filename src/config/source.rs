//! Where a config came from, so that it can be read again.

use std::path::{Path, PathBuf};

use super::{Config, Context, Exec, Loaded, Report, load};

/// Makes a config of a text that is another program's; `None` where it is pilotfish's own.
pub type Translate = fn(&str, &Path, &Context) -> Option<Result<Translated, Report>>;

/// Another program's config as one of pilotfish's.
#[derive(Debug, Clone)]
pub struct Translated {
    /// TOML.
    pub toml: String,
    /// What it makes of what stands after `--`.
    pub command: fn(Exec, &Context) -> Exec,
    /// What to know about it, a line each.
    pub remarks: Vec<String>,
}

/// What a config was made of.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file; `None` for a plain init.
    pub file: Option<PathBuf>,
    /// What stood after `--`.
    pub command: Option<Exec>,
    /// What its templates see.
    pub context: Context,
    /// How other programs' configs are read.
    pub translate: Option<Translate>,
}

impl Source {
    /// Reads the config, now. Without a file it is that of a plain init, running what stood after `--`.
    ///
    /// # Errors
    /// The file can't be read, or has mistakes: all of them.
    pub fn read(&self) -> Result<Loaded, Report> {
        match &self.file {
            Some(file) => self.load(file),
            None => Ok(Config::plain(self.command.clone().unwrap_or_default()).into()),
        }
    }

    fn load(&self, file: &Path) -> Result<Loaded, Report> {
        let (text, name) = load::read_named(file)?;
        let translated = self.translate.and_then(|translate| translate(&text, &name, &self.context));
        let Some(translated) = translated else {
            return Config::from_text(&text, &name, self.command.clone(), &self.context);
        };
        let Translated { toml, command, remarks } = translated?;
        // Its mistakes are those of the text that it has become.
        let name = PathBuf::from(format!("{}, as imported", name.display()));
        let command = self.command.clone().map(|words| command(words, &self.context));
        let loaded = Config::from_text(&toml, &name, command, &self.context)?;
        Ok(Loaded { remarks, ..loaded })
    }
}
