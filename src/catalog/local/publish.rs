//! The instances this agent holds: their files, locked as long as the agent lives.
//!
//! The descriptors are close-on-exec: a lock must end with the agent, not with a child of its.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;

use crate::config::Service;
use crate::supervisor::vocabulary::{Registration, ServiceStatus};

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
    entry: EntryFile,
}

impl HeldFile {
    /// Whether who reads it sends to an instance that isn't to be sent to, or isn't there.
    fn misleads(&self, entry: &EntryFile) -> bool {
        let passing = ServiceStatus::Passing.as_str();
        self.entry.status == passing && (entry.status != passing || self.entry.instance != entry.instance)
    }
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
    /// Makes the file at the instance's path ours and of this content. What can't be replaced doesn't stay if it misleads:
    /// to remove it takes no room, and often makes enough.
    pub(super) fn publish(
        &mut self,
        root: &Opened,
        registration: &Registration,
        address: IpAddr,
    ) -> Result<PublishOutcome, Error> {
        let key = key(&registration.service)?;
        let entry = described(registration, address);
        match self.put(root, &key, &entry) {
            Err(_) if self.held.get(&key).is_some_and(|held| held.misleads(&entry)) => {
                self.take_back(root, &key)?;
                self.put(root, &key, &entry)
            }
            put => put,
        }
    }

    /// The directory can't be used: what misleads is nobody's at least, as if its agent were dead.
    pub(super) fn cant_publish(&mut self, registration: &Registration, address: IpAddr) {
        if let Ok(key) = key(&registration.service)
            && self.held.get(&key).is_some_and(|held| held.misleads(&described(registration, address)))
        {
            self.held.remove(&key);
        }
    }

    /// The directory can't be used: the entry is nobody's at least.
    pub(super) fn cant_withdraw(&mut self, service: &Service) {
        if let Ok(key) = key(service) {
            self.held.remove(&key);
        }
    }

    fn put(&mut self, root: &Opened, key: &(String, String), entry: &EntryFile) -> Result<PublishOutcome, Error> {
        self.leave_other_names(root, key)?;
        let (folder, name) = (root.make_service(&key.0)?, key.1.as_str());
        let content = entries::content(entry, &folder, name)?;

        if let Some(held) = self.held.get(key)
            && folder.holds(name, &held.file)?
        {
            if held.entry != *entry {
                let scratch = root.scratch()?;
                let staged = scratch.stage(&content, files::held())?;
                let file = scratch.put_over(staged, &folder, name)?;
                self.held.insert(key.clone(), HeldFile { file, entry: entry.clone() });
            }
            return Ok(PublishOutcome::Done);
        }
        // Deleted or replaced behind our back: what is held is in nobody's sight.
        self.held.remove(key);

        let scratch = root.scratch()?;
        let file = match entries::look(&folder, name)? {
            Liveness::Alive(file) => {
                let there = entries::entry(&file, &folder, name)?;
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
            // As where no name can be put down but over another: the heartbeat of one that started just now tells.
            Liveness::Leased => {
                let staged = scratch.stage(&content, files::held())?;
                Some(scratch.put_over(staged, &folder, name)?)
            }
            Liveness::Dead(dead) => match folder.take_away(name, &dead)? {
                true => {
                    drop(dead);
                    let staged = scratch.stage(&content, files::held())?;
                    scratch.put_new(staged, &folder, name)?
                }
                false => None,
            },
        };
        match file {
            Some(file) => {
                self.held.insert(key.clone(), HeldFile { file, entry: entry.clone() });
                Ok(PublishOutcome::Done)
            }
            None => Ok(PublishOutcome::Busy { there: "just starting".to_owned() }),
        }
    }

    /// Removes the instance's file, unless another agent holds it.
    pub(super) fn withdraw(&mut self, root: &Opened, service: &Service) -> Result<(), Error> {
        let key = key(service)?;
        let left = self.leave_other_names(root, &key);
        self.take_back(root, &key)?;
        if let Some(folder) = root.service(&key.0)?
            && let Liveness::Dead(file) = entries::look(&folder, &key.1)?
        {
            folder.remove_dead(&key.1, file)?;
        }
        left
    }

    /// Removes what is held of this id under other names: a reload may have renamed its service.
    fn leave_other_names(&mut self, root: &Opened, key: &(String, String)) -> Result<(), Error> {
        let is_other = |other: &&(String, String)| other.1 == key.1 && other.0 != key.0;
        while let Some(other) = self.held.keys().find(is_other).cloned() {
            self.take_back(root, &other)?;
        }
        Ok(())
    }

    /// Removes a file that is held. Where it can't be removed it is nobody's at least, so that none reads it.
    fn take_back(&mut self, root: &Opened, key: &(String, String)) -> Result<(), Error> {
        if let Some(held) = self.held.remove(key)
            && let Some(folder) = root.service(&key.0)?
            && folder.holds(&key.1, &held.file)?
        {
            folder.remove(&key.1)?;
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
