//! A watch's template made a file: rendered, shown to its check, and put in place in one step where that is possible. It
//! doesn't decide when, and knows nothing of the check in between.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

use crate::config::Template;
use crate::config::Variables;
use crate::config::backends::CONSUL_SECRETS;
use crate::config::template::{self, TemplateError};
use crate::files::{self, Access, Destination, Look, Scratch};
use crate::process::users;
use crate::supervisor::vocabulary::{Instance, Observation, Rendering, Staged, Text};

/// A template is text somebody wrote; more than this is a mistake.
const SOURCE_AT_MOST: u64 = 1 << 20;

/// Why a template didn't become a file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The template couldn't be read.
    #[error("can't read {path}")]
    Read {
        /// The template's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The template couldn't be rendered.
    #[error(transparent)]
    Render(#[from] TemplateError),
    /// The user and group it shall belong to aren't there.
    #[error("the owner {owner}")]
    Owner {
        /// As configured.
        owner: String,
        /// Why.
        #[source]
        source: users::UserError,
    },
    /// The new file couldn't be written or put in place.
    #[error("can't write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What a template may use.
#[derive(Debug, Serialize)]
struct Context<'a> {
    watch: &'a str,
    instances: &'a [Instance],
    /// Left out for a key that isn't there, so that `default()` sees it and a template without one says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a str>,
    keys: std::collections::BTreeMap<&'a str, &'a str>,
}

/// Renders a template, where its check can see it.
///
/// # Errors
/// The template can't be read or rendered, or the new file not be written.
pub fn stage(
    watch: &str,
    template: &Template,
    seen: &Observation,
    unanswered: bool,
    variables: &Variables,
) -> Result<Rendering, Error> {
    let unwritten = |source| Error::Write { path: template.destination.clone(), source };
    let destination = Destination::find(&template.destination, template.parents).map_err(unwritten)?;
    if unanswered && destination.is_there() {
        destination.sweep();
        return Ok(Rendering::Kept);
    }
    let (source, is_ours) = read(&template.source)?;
    // Whoever writes the template reads what it makes.
    let variables = if is_ours { variables } else { &variables.without(&CONSUL_SECRETS) };
    let context = match seen {
        Observation::Instances(instances) => Context { watch, instances, value: None, keys: Default::default() },
        Observation::Key(value) => Context { watch, instances: &[], value: value.as_deref(), keys: Default::default() },
        Observation::Keys(keys) => {
            let keys = keys.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            Context { watch, instances: &[], value: None, keys }
        }
    };
    let text = template::render_file(&source, &template.source.to_string_lossy(), context, variables)?;
    let access = access(template)?;
    if destination.is_accessible_as(access) && destination.has(text.as_bytes()).map_err(unwritten)? {
        destination.sweep();
        return Ok(Rendering::Unchanged);
    }
    // Only for who looks at it, and never beside its destination: whoever reads that directory would read it there before
    // it is checked, and whatever comes of that.
    // In another's directory the check would look at whatever that one puts there.
    let neighbours = destination.is_ours().then(|| files::directory_of(&template.destination));
    let path = match template.shows_file() {
        true => {
            let name = template.destination.file_name().unwrap_or(OsStr::new("file"));
            let look = Look { mode: destination.mode(access), reader: checker(template), neighbours };
            Some(Scratch::make(name, text.as_bytes(), &look).map_err(unwritten)?)
        }
        false => None,
    };
    Ok(Rendering::Staged(Staged {
        path,
        beside: neighbours.is_some(),
        text: Text(text.into()),
        template: Arc::new(template.clone()),
    }))
}

/// Puts a staged file in place, atomically where its directory allows it.
///
/// # Errors
/// It couldn't be put there; what its check looked at is gone all the same.
pub fn install(staged: &Staged) -> Result<(), Error> {
    discard(staged);
    let template = &staged.template;
    let access = access(template)?;
    // The way may have changed since.
    let destination = Destination::find(&template.destination, template.parents);
    let replaced = destination.and_then(|destination| destination.replace(staged.text.0.as_bytes(), access));
    replaced.map_err(|source| Error::Write { path: template.destination.clone(), source })
}

/// Removes what a staged file's check looks at.
pub fn discard(staged: &Staged) {
    if let Some(path) = &staged.path {
        Scratch::remove(path);
    }
}

fn access(template: &Template) -> Result<Access, Error> {
    let owner = match &template.owner {
        Some(owner) => {
            let failed = |source| Error::Owner { owner: owner.clone(), source };
            let found = users::look_up(owner).map_err(failed)?;
            Some((found.uid, found.gid))
        }
        None => None,
    };
    Ok(Access { mode: template.mode, owner })
}

/// Who looks at it before it goes live, if that is neither root nor ourselves. One who can't be found looks at nothing.
fn checker(template: &Template) -> Option<u32> {
    let user = template.check.as_ref().and(template.check_as.user.as_ref())?;
    users::look_up(user).ok().map(|user| user.uid).filter(|uid| ![0, nix::unistd::geteuid().as_raw()].contains(uid))
}

/// Why a template is of no use as it is here.
///
/// # Errors
/// It can't be read, or is none.
pub fn survey(template: &Template) -> Result<(), Error> {
    let (source, _) = read(&template.source)?;
    Ok(template::check_syntax(&source, &template.source.to_string_lossy())?)
}

fn read(path: &Path) -> Result<(String, bool), Error> {
    let unread = |source| Error::Read { path: path.to_owned(), source };
    let (bytes, not_ours) = files::read_and_see_whose(path, SOURCE_AT_MOST).map_err(unread)?;
    let no_text = |_| unread(io::Error::new(io::ErrorKind::InvalidData, "it isn't UTF-8 text"));
    String::from_utf8(bytes).map(|text| (text, not_ours.is_none())).map_err(no_text)
}

#[cfg(test)]
mod tests;
