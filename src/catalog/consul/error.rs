//! Why Consul couldn't do what it was asked: which endpoint, what it answered, and which setting to look at.

use std::time::Duration;

use crate::catalog::Cause;
use crate::catalog::bounds::TooMuch;
use crate::errors::cut;
use crate::net::{secret, tls};

use super::elements::NoArray;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody was reached, or the connection broke.
    #[error("can't reach consul ({endpoint})")]
    Unreachable {
        /// What was asked of whom.
        endpoint: String,
        /// The end of the chain of causes, and the setting it points at.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("consul didn't answer within {} s ({endpoint})", .after.as_secs())]
    TimedOut {
        /// What was asked of whom.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
    /// What a call is made with couldn't be read in time.
    #[error(
        "the files of [catalog] token_file, password_file and tls weren't read within {} s: their storage hangs",
        .after.as_secs_f64()
    )]
    Storage {
        /// How long they were waited for.
        after: Duration,
    },
    /// Nor could anybody be sent to read it.
    #[error("there is no thread to read the files of [catalog] token_file, password_file and tls")]
    NoThread(#[source] std::io::Error),
    /// Consul says no.
    #[error("consul answered {status} ({endpoint}): {body}{hint}")]
    Refused {
        /// What was asked of whom.
        endpoint: String,
        /// The HTTP status.
        status: u16,
        /// The beginning of what it said.
        body: String,
        /// The setting to look at.
        hint: &'static str,
    },
    /// The answer is no Consul's.
    #[error("no consul answers there ({endpoint})")]
    Garbage {
        /// What was asked of whom.
        endpoint: String,
        /// Where the answer stops to be one.
        #[source]
        source: Cause,
    },
    /// The agent takes no more connections from here.
    #[error("consul takes no more connections from here: see http_max_conns_per_client in its [limits] ({endpoint})")]
    Full {
        /// What was asked of whom.
        endpoint: String,
    },
    /// The answer to a question for a list is none.
    #[error("no consul answers there, or not all of its answer came ({endpoint})")]
    NoList {
        /// What was asked of whom.
        endpoint: String,
    },
    /// There is more than is followed.
    #[error(transparent)]
    TooMuch(TooMuch),
    /// The answer has no end.
    #[error("an answer longer than {most} bytes ({endpoint})")]
    TooLarge {
        /// What was asked of whom.
        endpoint: String,
        /// How much is read.
        most: usize,
    },
    /// The answer doesn't say what to wait for next.
    #[error("an answer without X-Consul-Index: this isn't consul, or a proxy drops its headers ({endpoint})")]
    NoIndex {
        /// What was asked of whom.
        endpoint: String,
    },
    /// A token or password can't be read.
    #[error(transparent)]
    Secret(secret::FileError),
    /// The token can't stand in a header.
    #[error("the consul token has bytes that no header can hold: see [catalog] token_file or CONSUL_HTTP_TOKEN")]
    TokenBytes,
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(tls::TlsError),
    /// The token sees nothing of a service: Consul answers with an empty list, not with an error.
    #[error(
        "the consul token may not read service {service}: see [catalog] token_file or CONSUL_HTTP_TOKEN (it needs service \"{service}\" {{ policy = \"read\" }})"
    )]
    BlindToService {
        /// The service's name.
        service: String,
    },
    /// The same of every service.
    #[error(
        "the consul token may read no node, so it sees no instance of service {service}: see [catalog] token_file or CONSUL_HTTP_TOKEN (it needs node_prefix \"\" {{ policy = \"read\" }})"
    )]
    BlindToNodes {
        /// The service's name.
        service: String,
    },
    /// The token doesn't see whether there are keys: Consul answers that there are none.
    #[error(
        "the consul token may not read every key that begins with {prefix}, so it can't tell that there is none: see [catalog] token_file or CONSUL_HTTP_TOKEN (it needs key_prefix \"{prefix}\" {{ policy = \"read\" }})"
    )]
    BlindToKeys {
        /// What they begin with.
        prefix: String,
    },
    /// An entry at an agent that can't be asked any more couldn't be removed from the catalog.
    #[error("{id} stays behind at consul agent {agent}")]
    LeftBehind {
        /// The service's id.
        id: String,
        /// The agent's node name.
        agent: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// What was registered is somebody else's now.
    #[error("another agent has registered {id} too: two containers have the same service id")]
    Taken {
        /// The service's id.
        id: String,
    },
    /// The agent has what it was told, and its servers don't.
    #[error("consul's agent has taken {id}, but {}", lacks(.lack, .leaderless))]
    NotInCatalog {
        /// The service's id.
        id: String,
        /// What they lack.
        lack: Lack,
        /// The server that was asked knows no leader.
        leaderless: bool,
    },
    /// The agent has what it was told, and whether its servers do can't be asked.
    #[error("consul's agent has taken {id}, but can't ask its servers whether they have it in the catalog")]
    Unasked {
        /// The service's id.
        id: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The agent has removed it, and its servers haven't.
    #[error("consul's agent has removed {id}, but its servers have it in the catalog still")]
    StillThere {
        /// The service's id.
        id: String,
    },
    /// The agent has removed it, and whether its servers have can't be asked.
    #[error("consul's agent has removed {id}, but can't ask its servers whether it is out of the catalog")]
    NotRemoved {
        /// The service's id.
        id: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A session that has only just been opened is gone, or is none.
    #[error("consul's session was gone as soon as it was opened")]
    Session,
    /// A session would end as soon as the agent tells its servers what it knows.
    #[error("consul's agent hasn't heard from {id} since it was started: a session would end with that")]
    Unfed {
        /// The service.
        id: String,
    },
    /// A transaction failed for a reason nobody reckoned with.
    #[error("consul refused a transaction: {}", cut(.why))]
    Transaction {
        /// What it said.
        why: String,
    },
    /// A value that isn't text.
    #[error("the value of key {key} isn't UTF-8")]
    NotText {
        /// Which key.
        key: String,
    },
}

/// What servers lack of an entry that their agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The entry.
    Entry,
    /// A part of it.
    Part(&'static str),
}

fn lacks(lack: &Lack, leaderless: &bool) -> String {
    let why = if *leaderless { ": they have no leader" } else { "" };
    match lack {
        Lack::Entry => format!("its servers don't have it in the catalog{why}"),
        Lack::Part(part) => format!("its servers don't have its {part} in the catalog yet{why}"),
    }
}

impl From<NoArray> for Error {
    fn from(NoArray: NoArray) -> Error {
        Error::NoList { endpoint: String::new() }
    }
}

impl Error {
    /// Whether the token isn't allowed it.
    pub(in crate::catalog) fn is_denial(&self) -> bool {
        match self {
            Error::Refused { status: 403, .. } | Error::BlindToKeys { .. } => true,
            // What a transaction may not do it is told with a 409, as of a condition that doesn't hold.
            Error::Transaction { why } => why.contains("Permission denied"),
            Error::Unasked { source, .. } => source.is_denial(),
            _ => false,
        }
    }

    pub(super) fn unreachable(endpoint: &str, error: &(dyn std::error::Error + 'static)) -> Error {
        Error::Unreachable { endpoint: endpoint.to_owned(), source: Cause::of(error) }
    }

    /// The same, of a TLS connection without a client's certificate.
    pub(super) fn without_identity(self) -> Error {
        match self {
            Error::Unreachable { endpoint, source } => {
                Error::Unreachable { endpoint, source: source.without_identity() }
            }
            other => other,
        }
    }

    /// Whether nobody was reached, or a connection broke.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Error::Unreachable { .. })
    }

    /// Whether somebody who was reached closed the connection without a word.
    pub(super) fn is_cut(&self) -> bool {
        let words = ["closed before message completed", "reset", "roken pipe"];
        let Error::Unreachable { source, .. } = self else { return false };
        let cause = source.to_string();
        words.iter().any(|words| cause.contains(words))
    }
}
