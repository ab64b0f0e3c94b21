//! Instances as files: who is there, and who left a file behind. It makes none; that is the holder's part.
//!
//! An instance lives as long as its file is locked. The rules that keep readers, holders and successors apart:
//! - A file is put at its path only when it is complete and locked; it is never written again.
//! - Who wants to know whether it lives asks the kernel for a write lock, and takes none: nobody is taken for a holder who
//!   only asks, or who can only read.
//! - Who removes or replaces the file at a path takes it away first, and has seen that it is the dead one.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::catalog::border::{Flaw, LeftOut, RawInstance};
use crate::catalog::bounds::{self, Allowance};
use crate::supervisor::vocabulary::{Instance, ServiceStatus};

use super::Error;
use super::budget::ScanBudget;
use super::files::{self, FileId, Folder, errno};
use super::name::unescape;

/// Files without a holder that are looked at one after another: more than a host has instances, as a rule.
const MOST_TIDIED: usize = 5000;
/// For so long at most: a tenth of what a call of the directory may take.
const MOST_TIDYING: Duration = Duration::from_millis(500);

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

/// How far the files without a holder in all services are gone through: what comes after this one is left, by the names of
/// its service and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Tidying {
    service: String,
    file: String,
}

/// Removes files without a holder in every service; how many there were, and from where to go on another time, for whoever
/// fills a directory must not have one start wait for all of it. What can't be removed stays; what couldn't be looked at this
/// time, for want of a descriptor say, is gone on from.
pub(super) fn remove_dead(services: &Folder, from: Tidying) -> (usize, Option<Tidying>) {
    let began = Instant::now();
    let (mut removed, mut looks) = (0, 0);
    let Ok(names) = sorted(services) else { return (0, Some(from)) };
    for name in names.into_iter().filter(|name| *name >= from.service) {
        let after = if name == from.service { from.file.clone() } else { String::new() };
        let mut at = Tidying { service: name, file: after };
        // Names take their time, too.
        if began.elapsed() >= MOST_TIDYING {
            return (removed, Some(at));
        }
        let listed = services.sub(&at.service).and_then(|service| match service {
            Some(service) => sorted(&service).map(|files| Some((service, files))),
            None => Ok(None),
        });
        let (service, files) = match listed {
            Ok(Some(listed)) => listed,
            Err(error) if error.is_passing() => return (removed, Some(at)),
            Ok(None) | Err(_) => continue,
        };
        let behind = at.file.clone();
        for file in files.into_iter().filter(|file| *file > behind) {
            if looks == MOST_TIDIED || began.elapsed() >= MOST_TIDYING {
                return (removed, Some(at));
            }
            looks += 1;
            match look(&service, &file) {
                Ok(Liveness::Dead(dead)) => removed += usize::from(service.remove_dead(&file, dead).unwrap_or(false)),
                Err(error) if error.is_passing() => return (removed, Some(at)),
                Ok(_) | Err(_) => {}
            }
            at.file = file;
        }
    }
    (removed, None)
}

/// The names in a directory, in an order that is the same the next time.
fn sorted(folder: &Folder) -> Result<Vec<String>, Error> {
    let mut names = folder.names()?;
    names.sort_unstable();
    Ok(names)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::super::files::Kept;
    use super::*;

    fn services(directory: &Path) -> Folder {
        Folder::at(directory, &Kept::default()).unwrap().unwrap()
    }

    fn everybodys(directory: &Path) {
        std::fs::create_dir(directory).unwrap();
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o777)).unwrap();
    }

    #[test]
    fn however_many_dead_a_neighbour_leaves_they_are_gone_through_a_part_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let many = MOST_TIDIED + 100;
        for (service, files) in [("a", 100), ("b", many - 100)] {
            let service = directory.path().join(service);
            everybodys(&service);
            for file in 0..files {
                std::fs::write(service.join(file.to_string()), "{}").unwrap();
            }
        }
        // What no agent wrote stays, and is in nobody's way.
        std::fs::write(directory.path().join("a/0"), "junk").unwrap();
        let (first, mut rest) = remove_dead(&services(directory.path()), Tidying::default());
        assert!(rest.is_some() && (1..=MOST_TIDIED).contains(&first), "{first}");
        let mut removed = first;
        while let Some(from) = rest {
            let (more, next) = remove_dead(&services(directory.path()), from.clone());
            assert!(next.as_ref() != Some(&from), "{from:?}");
            (removed, rest) = (removed + more, next);
        }
        assert_eq!(removed, many - 1);
        assert_eq!(std::fs::read(directory.path().join("a/0")).unwrap(), b"junk");
    }
}
