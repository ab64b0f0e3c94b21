//! Instances as files: who is there, and who left a file behind. It makes none; that is the holder's part.
//!
//! An instance lives as long as its file is locked. The rules that keep readers, holders and successors apart:
//! - A file is put at its path only when it is complete and locked; it is never written again.
//! - Who wants to know whether it lives asks the kernel for a write lock, and takes none: nobody is taken for a holder who
//!   only asks, or who can only read.
//! - Who removes or replaces the file at a path takes it away first, and has seen that it is the dead one.

use std::collections::BTreeMap;
use std::fs::File;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::catalog::border::{Flaw, LeftOut, RawInstance};
use crate::catalog::bounds::{self, Allowance};
use crate::supervisor::vocabulary::{Instance, ServiceStatus};

use super::Error;
use super::budget::ScanBudget;
use super::files::{self, FileId, Folder, errno};
use super::name::unescape;

/// What is in an instance's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryFile {
    /// The instance as others see it.
    #[serde(flatten)]
    pub(super) instance: InstanceRecord,
    /// passing, critical, draining or maintenance.
    pub(super) status: String,
    /// Why, for people.
    #[serde(default)]
    pub(super) note: String,
}

/// [`Instance`] as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InstanceRecord {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) port: i64,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    #[serde(default)]
    pub(super) meta: BTreeMap<String, String>,
}

impl From<InstanceRecord> for RawInstance {
    fn from(record: InstanceRecord) -> RawInstance {
        let InstanceRecord { id, name, address, port, tags, meta } = record;
        RawInstance { id, node: None, name, address, port, tags, meta }
    }
}

/// What a service's directory holds.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The passing instances, sorted by id.
    pub(super) passing: Vec<Instance>,
    /// Every live file, by name.
    pub(super) alive: BTreeMap<String, FileId>,
    /// A dead one that can't be removed, and why.
    pub(super) stuck: Option<Error>,
}

/// Looks at every file, and removes the dead ones if `tidy`. What is wrong with one entry costs only that one: it is left
/// out.
pub(super) async fn scan(
    service: &Folder,
    tag: Option<&str>,
    tidy: bool,
    left_out: &mut LeftOut,
) -> Result<Scan, Error> {
    let mut scan = Scan::default();
    let (mut allowance, mut budget) = (Allowance::default(), ScanBudget::default());
    for name in service.names()? {
        budget.next().await;
        match look(service, &name) {
            Ok(Liveness::None) => {}
            Ok(Liveness::Dead(file)) if tidy => {
                if let Err(error) = service.remove_dead(&name, file) {
                    scan.stuck = Some(error);
                }
            }
            Ok(Liveness::Dead(_)) => {}
            Ok(Liveness::Leased) => left_out.say(&name, &Flaw::Unreadable),
            Ok(Liveness::Alive(file)) => {
                let identity = FileId::of_file(&file).map_err(Error::refused("look at", service.path_of(&name)))?;
                scan.alive.insert(name.clone(), identity);
                match passing(&file, service, &name)? {
                    Ok(Some(instance)) => {
                        if tag.is_none_or(|tag| instance.tags.iter().any(|t| t == tag)) {
                            allowance.take(bounds::size(&instance)).map_err(Error::TooMuchToFollow)?;
                            scan.passing.push(instance);
                        }
                    }
                    Ok(None) => {}
                    Err(flaw) => left_out.say(&name, &flaw),
                }
            }
            Err(error) if error.is_read_only() => left_out.say(&name, &Flaw::Unreadable),
            Err(error) => return Err(error),
        }
    }
    scan.passing.sort();
    Ok(scan)
}

/// The instance of a live file, if it passes.
fn passing(file: &File, service: &Folder, name: &str) -> Result<Result<Option<Instance>, Flaw>, Error> {
    let entry = match entry(file, service, name) {
        Ok(Some(entry)) => entry,
        Ok(None) => return Ok(Err(Flaw::NoEntry("it is locked, but no agent wrote it".to_owned()))),
        Err(Error::TooMuch { .. }) => return Ok(Err(Flaw::TooLarge)),
        Err(error) => return Err(error),
    };
    if entry.status != ServiceStatus::Passing.as_str() {
        return Ok(Ok(None));
    }
    Ok(RawInstance::from(entry.instance).instance().map(Some))
}

/// Removes every file without a holder in every service; how many there were.
pub(super) fn remove_all_dead(services: &Folder) -> Result<usize, Error> {
    let mut removed = 0;
    for name in services.names()? {
        let Some(service) = services.sub(&name)? else { continue };
        for file in service.names()? {
            if let Liveness::Dead(dead) = look(&service, &file)? {
                removed += usize::from(service.remove_dead(&file, dead)?);
            }
        }
    }
    Ok(removed)
}

/// The state of the file at a path.
#[derive(Debug)]
pub(super) enum Liveness {
    /// There is none.
    None,
    /// Somebody holds it.
    Alive(File),
    /// Nobody holds it, and it is still the one at the path.
    Dead(File),
    /// Nobody holds it, or it couldn't have been leased; nor can it be opened.
    Leased,
}

/// Whether the file at a path has a holder.
pub(super) fn look(service: &Folder, name: &str) -> Result<Liveness, Error> {
    // Each round means that somebody put a new file there in between; nobody does that for long.
    for _ in 0..5 {
        let file = match service.file(name) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(Liveness::None),
            Err(Error::Leased { .. }) => return Ok(Liveness::Leased),
            Err(error) => return Err(error),
        };
        if files::is_held(&file).map_err(Error::refused("ask for the lock of", service.path_of(name)))? {
            return Ok(Liveness::Alive(file));
        }
        if service.holds(name, &file)? {
            return Ok(Liveness::Dead(file));
        }
    }
    Err(Error::refused("follow the changes of", service.path_of(name))(Errno::EAGAIN))
}

/// A live file's content; `None` when no agent wrote it.
pub(super) fn entry(file: &File, service: &Folder, name: &str) -> Result<Option<EntryFile>, Error> {
    let text = match files::text(file, service.path_of(name)) {
        Ok(Some(text)) => text,
        // No agent writes one so large.
        Ok(None) | Err(Error::TooMuch { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let entry = serde_json::from_str::<EntryFile>(&text).ok();
    Ok(entry.filter(|entry| unescape(name).is_some_and(|id| id == entry.instance.id)))
}

/// As it is written. Fails only where memory does.
pub(super) fn content(entry: &EntryFile, service: &Folder, name: &str) -> Result<Vec<u8>, Error> {
    let content = serde_json::to_vec(entry).map_err(|e| {
        let source = e.io_error_kind().map_or(Errno::EINVAL, |kind| errno(&kind.into()));
        Error::refused("write", service.path_of(name))(source)
    })?;
    if content.len() as u64 > files::LARGEST {
        let what = format!("the entry of {}", entry.instance.id);
        return Err(Error::TooMuch { what, limit: format!("{} bytes", files::LARGEST) });
    }
    Ok(content)
}
