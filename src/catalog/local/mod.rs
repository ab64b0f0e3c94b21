//! The catalog in a directory on a volume shared by the containers of one host: an instance is a file held by a kernel
//! lock, so a crash is seen by the kernel and not by a clock. It needs no server, and knows no other host.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::{Query, Service};
use crate::supervisor::event::Registration;

use super::Sightings;

/// A shared directory.
#[derive(Debug)]
pub struct Local {
    directory: PathBuf,
}

/// Why the directory couldn't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in this version.
    #[error("the local catalog in {} isn't there yet", .directory.display())]
    Absent {
        /// The directory.
        directory: PathBuf,
    },
}

impl Local {
    /// Looks at nothing yet.
    pub fn new(directory: &Path) -> Local {
        Local { directory: directory.to_owned() }
    }

    fn absent<T>(&self) -> Result<T, Error> {
        Err(Error::Absent { directory: self.directory.clone() })
    }

    /// See [`Backend::publish`](super::Backend::publish).
    pub async fn publish(&self, _registration: &Registration, _address: IpAddr) -> Result<(), Error> {
        self.absent()
    }

    /// See [`Backend::withdraw`](super::Backend::withdraw).
    pub async fn withdraw(&self, _service: &Service) -> Result<(), Error> {
        self.absent()
    }

    /// See [`Backend::follow`](super::Backend::follow).
    pub async fn follow(&self, _query: &Query, seen: &mut Sightings) {
        seen.failed(&Error::Absent { directory: self.directory.clone() }).await;
        std::future::pending().await
    }

    /// See [`Backend::get`](super::Backend::get).
    pub async fn get(&self, _key: &str) -> Result<Option<String>, Error> {
        self.absent()
    }

    /// See [`Backend::put`](super::Backend::put).
    pub async fn put(&self, _key: &str, _value: &str) -> Result<(), Error> {
        self.absent()
    }

    /// See [`Backend::delete`](super::Backend::delete).
    pub async fn delete(&self, _key: &str) -> Result<(), Error> {
        self.absent()
    }
}
