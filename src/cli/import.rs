//! `pilotfish import`: another program's config as one of pilotfish's.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::file;
use crate::config;
use crate::exit_codes::{BAD_CONFIG, BAD_USAGE, FAILED, LOSSY_IMPORT};
use crate::import;
use crate::logging;
use crate::plain;

/// `NAME=VALUE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE; NAME= is set and empty".to_owned()),
    }
}

/// Whether two paths are one file, by whatever names and links. What isn't a file, such as a terminal, can be both.
fn is_one_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| {
        let file = std::fs::metadata(path).ok().filter(Metadata::is_file)?;
        Some((file.dev(), file.ino()))
    };
    identity(one).is_some_and(|one| identity(other) == Some(one))
}

/// Writes the config to `output` or stdout, and notes to stderr.
pub fn import(source: &Path, set: Vec<(String, String)>, output: Option<&Path>) -> u8 {
    let named = if source == Path::new("-") { Path::new("/dev/stdin") } else { source };
    if let Some(output) = output.filter(|output| is_one_file(named, output)) {
        let what = format!("error: {} is the file that is imported; name another one for -o", output.display());
        logging::last_words(&format!("{what}\n"));
        return BAD_USAGE;
    }
    let imported = match config::read(named).and_then(|text| import::import(&text, named, &set.into_iter().collect())) {
        Ok(imported) => imported,
        Err(report) => {
            logging::last_words(&format!("{report}\n"));
            return BAD_CONFIG;
        }
    };
    let written = match output {
        None => file::print(&imported.toml) == 0,
        Some(output) => std::fs::write(output, &imported.toml)
            .inspect_err(|error| {
                logging::last_words(&format!("error: {} can't be written: {error}\n", output.display()))
            })
            .is_ok(),
    };
    let notes: String = imported.notes.iter().map(|note| format!("{}\n", plain::line(&note.to_string()))).collect();
    let lost = imported.notes.iter().filter(|note| note.lost).count();
    let sum = match lost {
        0 => String::new(),
        1 => "1 thing couldn't be carried over\n".to_owned(),
        many => format!("{many} things couldn't be carried over\n"),
    };
    logging::last_words(&format!("{notes}{sum}"));
    match (written, lost) {
        (false, _) => FAILED,
        (true, 0) => 0,
        (true, _) => LOSSY_IMPORT,
    }
}
