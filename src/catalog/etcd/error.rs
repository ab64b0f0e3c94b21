//! Why etcd couldn't do what it was asked: what, of which member, and which setting to look at.

use std::time::Duration;

use tonic::Code;

use crate::catalog::Cause;
use crate::catalog::bounds::{LARGEST_ITEM, TooMuch};
use crate::errors::cut;
use crate::net::{secret, tls};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A member wasn't reached, or the connection broke.
    #[error("can't reach etcd to {what} ({member})")]
    Unreachable {
        /// What was wanted.
        what: &'static str,
        /// The last member that was tried.
        member: String,
        /// The end of the chain of causes, and the setting it points at.
        #[source]
        source: Cause,
    },
    /// No answer in time.
    #[error("etcd didn't answer within {} s to {what} ({member})", .after.as_secs_f64())]
    TimedOut {
        /// What was wanted.
        what: &'static str,
        /// The last member that was tried.
        member: String,
        /// How long each was waited for.
        after: Duration,
    },
    /// etcd says no.
    #[error("etcd refused to {what} ({member}): {message}{hint}")]
    Refused {
        /// What was wanted.
        what: &'static str,
        /// The member that said so.
        member: String,
        /// What it said.
        message: String,
        /// gRPC's word for it.
        code: Code,
        /// The setting to look at.
        hint: &'static str,
    },
    /// A member belongs to another cluster.
    #[error("nobody asks {member} to {what}: it belongs to another etcd cluster ({id:x}) than {known}")]
    Stray {
        /// What was wanted.
        what: &'static str,
        /// Which member.
        member: String,
        /// Its cluster.
        id: u64,
        /// The one that is believed.
        known: String,
    },
    /// Whether it is a stray's isn't known.
    #[error(
        "too few of etcd's {endpoints} endpoints have said which cluster they belong to, to {what}: one may be astray"
    )]
    Unsure {
        /// What was wanted.
        what: &'static str,
        /// How many there are.
        endpoints: usize,
    },
    /// An answer came from the cluster of before.
    #[error("the answer to {what} came from a cluster that has been replaced ({member})")]
    Replaced {
        /// What was wanted.
        what: &'static str,
        /// Which member.
        member: String,
    },
    /// An endpoint can't be used.
    #[error("[catalog] endpoints: {member} can't be used")]
    Endpoint {
        /// Which.
        member: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// A password can't be read.
    #[error(transparent)]
    Secret(secret::FileError),
    /// Certificates can't be used.
    #[error(transparent)]
    Tls(tls::TlsError),
    /// What a connection needs from files couldn't be read in time.
    #[error(
        "the files of [catalog] tls and password_file weren't read within {} s: their storage hangs",
        .after.as_secs_f64()
    )]
    Storage {
        /// How long they were waited for.
        after: Duration,
    },
    /// Nor could anybody be sent to read it.
    #[error("there is no thread to read the files of [catalog] tls and password_file")]
    NoThread(#[source] std::io::Error),
    /// What was registered is somebody else's now.
    #[error("another agent has registered {id} too: two containers have the same service id")]
    Taken {
        /// The service's id.
        id: String,
    },
    /// What came too late for its session.
    #[error("the session was closed meanwhile")]
    Closed,
    /// There is more than is followed.
    #[error(transparent)]
    TooMuch(TooMuch),
    /// A value that isn't text.
    #[error("the value of key {key} isn't UTF-8")]
    NotText {
        /// Which key.
        key: String,
    },
    /// A value longer than one that is taken in.
    #[error("the value of key {key} is larger than {} KiB", LARGEST_ITEM / 1024)]
    TooLarge {
        /// Which key.
        key: String,
    },
    /// A key that was to be created is there, perhaps by the first of two tries.
    #[error("the key {key} is there, and perhaps by this very call: an answer was lost")]
    Doubtful {
        /// Which key.
        key: String,
    },
    /// A key that is written by what stands there, and by others as fast.
    #[error("others keep writing the key {key}")]
    Contended {
        /// Which key.
        key: String,
    },
    /// etcd is one cluster.
    #[error("etcd knows no datacenters: remove datacenter = {name:?} from the query")]
    Datacenter {
        /// The one asked for.
        name: String,
    },
    /// A watch came to its end.
    #[error("etcd ended a watch ({member}): {reason}")]
    Watch {
        /// The member that said so.
        member: String,
        /// What it said.
        reason: String,
    },
}

impl Error {
    /// Whether the user isn't allowed it.
    pub(in crate::catalog) fn is_denial(&self) -> bool {
        matches!(self, Error::Refused { code: Code::PermissionDenied, .. })
    }

    /// The same, of a TLS connection without a client's certificate.
    pub(super) fn without_identity(self) -> Error {
        match self {
            Error::Unreachable { what, member, source } => {
                Error::Unreachable { what, member, source: source.without_identity() }
            }
            other => other,
        }
    }

    /// What a client's error means.
    pub(super) fn of(what: &'static str, member: &str, error: etcd_client::Error) -> Error {
        let member = member.to_owned();
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                use std::error::Error as _;
                match status.source() {
                    // A status of the transport's own: nobody answered.
                    Some(source) => Error::Unreachable { what, member, source: Cause::of(source) },
                    None => {
                        let (code, message) = (status.code(), cut(status.message()));
                        Error::Refused { what, member, hint: hint(code, &message), code, message }
                    }
                }
            }
            etcd_client::Error::TransportError(source) => {
                Error::Unreachable { what, member, source: Cause::of(&source) }
            }
            other => {
                let source = Cause::of(&other);
                Error::Unreachable { what, member, source }
            }
        }
    }

    /// Whether an answer was longer than a client takes.
    pub(super) fn is_too_long(&self) -> bool {
        matches!(self, Error::Refused { code: Code::OutOfRange, message, .. } if message.contains("message length"))
    }

    /// Whether another member may do better.
    pub(super) fn is_the_members(&self) -> bool {
        match self {
            Error::Unreachable { .. }
            | Error::TimedOut { .. }
            | Error::Stray { .. }
            | Error::Replaced { .. }
            | Error::Endpoint { .. } => true,
            // "no leader", "server stopped", "request timed out", "too many requests": what a member cut off says.
            Error::Refused { code, .. } => matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Unknown),
            _ => false,
        }
    }

    /// Whether etcd has said no, and not that it can't say.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Error::Refused { .. }) && !self.is_the_members()
    }

    /// Whether there is no such lease.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Error::Refused { code: Code::NotFound, .. })
    }

    /// Whether the members are about to agree on a leader.
    pub(super) fn is_an_election(&self) -> bool {
        let words = ["no leader", "leader changed"];
        matches!(self, Error::Refused { message, .. } if words.iter().any(|words| message.contains(words)))
    }

    /// Whether etcd has its authentication turned off.
    pub(super) fn is_without_users(&self) -> bool {
        matches!(self, Error::Refused { message, .. } if message.contains("authentication is not enabled"))
    }

    /// Whether etcd no longer takes the token that the user and password were exchanged for, or the password itself:
    /// both are known by their words only, their code being that of any bad request.
    pub(super) fn is_about_login(&self) -> bool {
        let words =
            ["invalid auth token", "authentication failed", "revision of auth store is old", "user name is empty"];
        match self {
            Error::Refused { code: Code::Unauthenticated, .. } => true,
            Error::Refused { message, .. } => words.iter().any(|words| message.contains(words)),
            _ => false,
        }
    }
}

fn hint(code: Code, message: &str) -> &'static str {
    if message.contains("user name is empty") || message.contains("authentication failed") {
        return "; see [catalog] username and password_file";
    }
    match code {
        Code::PermissionDenied => {
            "; see [catalog] username, and the user's roles (they need read and write below [catalog] prefix)"
        }
        Code::Unauthenticated => "; see [catalog] username and password_file",
        _ => "",
    }
}
