//! The instances this agent holds: their files, locked as long as the agent lives.
//!
//! The descriptors are close-on-exec: a lock must end with the agent, not with a child of its.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;

use crate::config::Service;
use crate::supervisor::vocabulary::Registration;

use super::Error;
use super::entries::{self, EntryFile, InstanceRecord, Liveness};
use super::files;
use super::name::escape;
use super::root::Opened;

/// Held files, by the names of their service and their own.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    held: BTreeMap<(String, String), HeldFile>,
}

#[derive(Debug)]
struct HeldFile {
    file: File,
    content: Vec<u8>,
}

/// What came of an attempt.
#[derive(Debug)]
pub(super) enum PublishOutcome {
    /// It is as it should be.
    Done,
    /// Somebody holds the file of this id: another agent, or only one that is just looking at a dead entry or
    /// removing it. Worth another attempt.
    Busy {
        /// What is registered there.
        there: String,
    },
}

impl Publisher {
    /// Makes the file at the instance's path ours and of this content.
    pub(super) fn publish(
        &mut self,
        root: &Opened,
        registration: &Registration,
        address: IpAddr,
    ) -> Result<PublishOutcome, Error> {
        let service = &registration.service;
        let key = key(service)?;
        self.leave_other_names(root, &key)?;
        let (folder, name) = (root.make_service(&key.0)?, key.1.as_str());
        let content = entries::content(&described(registration, address), &folder, name)?;

        if let Some(held) = self.held.get(&key)
            && folder.holds(name, &held.file)?
        {
            if held.content != content {
                let scratch = root.scratch()?;
                let staged = scratch.stage(&content, files::held())?;
                let file = scratch.put_over(staged, &folder, name)?;
                self.held.insert(key, HeldFile { file, content });
            }
            return Ok(PublishOutcome::Done);
        }
        // Deleted or replaced behind our back: what is held is in nobody's sight.
        self.held.remove(&key);

        let scratch = root.scratch()?;
        let file = match entries::look(&folder, name)? {
            Liveness::Alive(mut file) => {
                let there = entries::entry(&mut file, &folder, name)?;
                let there = there.map_or_else(
                    || "nothing readable is registered".to_owned(),
                    |e| format!("at {}:{}", e.instance.address, e.instance.port),
                );
                return Ok(PublishOutcome::Busy { there });
            }
            Liveness::None => {
                let staged = scratch.stage(&content, files::held())?;
                scratch.put_new(staged, &folder, name)?
            }
            Liveness::Dead(dead) => match folder.take_away(name, &dead)? {
                true => {
                    let staged = scratch.stage(&content, files::held())?;
                    scratch.put_new(staged, &folder, name)?
                }
                false => None,
            },
        };
        match file {
            Some(file) => {
                self.held.insert(key, HeldFile { file, content });
                Ok(PublishOutcome::Done)
            }
            None => Ok(PublishOutcome::Busy { there: "just starting".to_owned() }),
        }
    }

    /// Removes the instance's file, unless another agent holds it.
    pub(super) fn withdraw(&mut self, root: &Opened, service: &Service) -> Result<(), Error> {
        let key = key(service)?;
        self.leave_other_names(root, &key)?;
        if let Some(folder) = root.service(&key.0)? {
            match self.held.get(&key) {
                Some(held) if folder.holds(&key.1, &held.file)? => {
                    folder.remove(&key.1)?;
                }
                Some(_) | None => {
                    if let Liveness::Dead(file) = entries::look(&folder, &key.1)? {
                        folder.remove_dead(&key.1, file)?;
                    }
                }
            }
        }
        self.held.remove(&key);
        Ok(())
    }

    /// Removes what is held of this id under other names: a reload may have renamed its service.
    fn leave_other_names(&mut self, root: &Opened, key: &(String, String)) -> Result<(), Error> {
        let is_other = |other: &&(String, String)| other.1 == key.1 && other.0 != key.0;
        while let Some(other) = self.held.keys().find(is_other).cloned() {
            if let Some(folder) = root.service(&other.0)?
                && folder.holds(&other.1, &self.held[&other].file)?
            {
                folder.remove(&other.1)?;
            }
            self.held.remove(&other);
        }
        Ok(())
    }
}

fn key(service: &Service) -> Result<(String, String), Error> {
    Ok((escape("service name", &service.name)?, escape("service id", &service.id)?))
}

fn described(registration: &Registration, address: IpAddr) -> EntryFile {
    let service = &registration.service;
    let (status, note) = registration.in_short();
    EntryFile {
        instance: InstanceRecord {
            id: service.id.clone(),
            name: service.name.clone(),
            address: address.to_string(),
            port: i64::from(service.port),
            tags: service.tags.clone(),
            meta: service.meta.clone(),
        },
        status: status.to_owned(),
        note: note.to_owned(),
    }
}
