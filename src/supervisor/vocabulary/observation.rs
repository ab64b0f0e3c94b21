//! What is seen in a catalog, and the files that are made of it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeStruct;

use super::ReplyId;
use crate::config::Template;

/// Who follows a query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Follow {
    /// The `[[watch]]` of this name.
    Watch(String),
    /// The `[[wait_for]]` of this index.
    WaitFor(usize),
    /// The candidate that wants to know whether the leader acts.
    Acting,
    /// Who waits for this answer at the control endpoint.
    Await(ReplyId),
}

/// What a query sees. It may be many megabytes: it is shared and never copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Observation {
    /// The passing instances of a service, sorted by id.
    Instances(Arc<[Instance]>),
    /// A key's value, or that there is no such key.
    Key(Option<String>),
    /// Every key below a prefix with its value, sorted by key.
    Keys(Arc<[(String, String)]>),
}

/// One passing instance of a service. Hooks and templates see its fields, and its [`host_port`](Self::host_port).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub struct Instance {
    /// Unique in the catalog, or on its node where there are nodes.
    pub id: String,
    /// Consul's node that it is registered on: several may have the same id.
    pub node: Option<String>,
    /// The service's name.
    pub name: String,
    /// Its advertised address.
    pub address: String,
    /// Its port; 0 where it has none, as Consul has it.
    pub port: u16,
    /// Its tags, as registered.
    pub tags: Vec<String>,
    /// Its free pairs of names and values, as registered.
    pub meta: std::collections::BTreeMap<String, String>,
}

impl Instance {
    /// What it is known by: two looks that see this see the same instance.
    pub fn identity(&self) -> (&str, Option<&str>) {
        (&self.id, self.node.as_deref())
    }

    /// Where it can be reached, as nearly everything writes it: `10.0.0.1:80`, `[2001:db8::5]:80`. Without a port, the
    /// host alone.
    pub fn host_port(&self) -> String {
        // Only an IPv6 address has a colon.
        let host = match self.address.contains(':') {
            true => format!("[{}]", self.address),
            false => self.address.clone(),
        };
        if self.port == 0 { host } else { format!("{host}:{}", self.port) }
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Instance { id, node, name, address, port, tags, meta } = self;
        let mut instance = serializer.serialize_struct("Instance", 7 + usize::from(node.is_some()))?;
        instance.serialize_field("id", id)?;
        if let Some(node) = node {
            instance.serialize_field("node", node)?;
        }
        instance.serialize_field("name", name)?;
        instance.serialize_field("address", address)?;
        instance.serialize_field("port", port)?;
        instance.serialize_field("host_port", &self.host_port())?;
        instance.serialize_field("tags", tags)?;
        instance.serialize_field("meta", meta)?;
        instance.end()
    }
}

/// A rendered file that isn't live yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Where its check sees it; `None` when it lies nowhere yet.
    pub path: Option<PathBuf>,
    /// Whether what lies beside its destination is found beside that, too.
    pub beside: bool,
    /// Its content.
    pub text: Text,
    /// What it was made from, and for where.
    pub template: std::sync::Arc<Template>,
}

impl Serialize for Staged {
    /// Where it lies; neither what is in it nor the config's part.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.path, self.beside).serialize(serializer)
    }
}

/// A file's content, which no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Text(pub std::sync::Arc<str>);

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What came of rendering a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(serde::Deserialize))]
pub enum Rendering {
    /// A new file is there, not live yet.
    Staged(Staged),
    /// The destination already has this content.
    Unchanged,
    /// Nothing was known to render, and there is a file: it stays.
    Kept,
    /// It couldn't be rendered or written.
    Failed(String),
}
