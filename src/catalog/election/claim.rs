//! Who has a candidate's id in this network namespace: the name of an abstract socket, which the kernel gives to one
//! process at a time and takes back when that is gone (unix(7)). Two containers that share a network, and by default a host
//! name, so know of each other; whoever has a network of its own learns nothing by it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// Held for as long as this process lives.
#[derive(Debug, Default)]
pub(in crate::catalog) struct IdClaim(Mutex<Option<UnixDatagram>>);

impl IdClaim {
    /// Whether nobody else has the id here. Where the kernel has no such names nobody is known to.
    pub(in crate::catalog) fn hold(&self, store: &str, election: &str, id: &str) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return true;
        }
        match bind(store, election, id) {
            Ok(socket) => *held = Some(socket),
            Err(error) => return error.kind() != io::ErrorKind::AddrInUse,
        }
        true
    }
}

/// A hash, as a name has 107 bytes; of the store too, for one id may be in two. Versions that hash in other ways learn
/// nothing of each other.
fn bind(store: &str, election: &str, id: &str) -> io::Result<UnixDatagram> {
    let mut hash = DefaultHasher::new();
    (store, election, id).hash(&mut hash);
    let name = format!("pilotfish/candidate/{:016x}", hash.finish());
    UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_held_by_one_until_it_is_gone() {
        let store = format!("test of {}", std::process::id());
        let hold = |claim: &IdClaim, id| claim.hold(&store, "db", id);
        let [first, second, other] = [IdClaim::default(), IdClaim::default(), IdClaim::default()];
        assert!(hold(&first, "one") && hold(&first, "one"));
        assert!(!hold(&second, "one"));
        assert!(hold(&other, "two"));
        drop(first);
        assert!(hold(&second, "one"));
    }
}
