//! What the fuzz targets throw at the catalog: what stands in a store may be anybody's.

use crate::catalog::border;
use crate::supervisor::machines::election::record::{Guarantee, Lock, Revision, Term, View};

use super::election::record::{GREATEST_TERM, LastLeader, Leader, RankRecord};

pub(crate) use super::consul::fuzz::answer as consul;
pub(crate) use super::etcd::fuzz::keys as etcd;

/// A record of an election's, or an instance's file: whatever it is, it is within bounds, and what is written of it
/// says the same.
pub(crate) fn records(data: &[u8]) {
    super::local::fuzz::file(data);
    if let Some(rank) = RankRecord::read(data) {
        assert_eq!(RankRecord::read(rank.json().as_bytes()).as_ref(), Some(&rank));
        let peer = rank.of("peer".into());
        let written = RankRecord::new(peer.term, &peer.answer, peer.stands);
        assert_eq!(written.of("peer".into()), peer, "what is read is what is written of it");
    }
    if let Some(leader) = Leader::read(data) {
        assert_eq!(Leader::read(leader.json().as_bytes()).as_ref(), Some(&leader));
        let holder = leader.holder(Term(0));
        assert!(border::is_name(&holder.id) && holder.term <= Term(GREATEST_TERM), "{holder:?}");
        assert!(holder.address.is_none_or(|address| border::is_host_port(&address)));
    }
    if let Some(last) = LastLeader::read(data) {
        assert_eq!(LastLeader::read(last.json().as_bytes()).as_ref(), Some(&last));
        let last = last.last(Term(7));
        assert!(border::is_name(&last.id) && last.term <= Term(7), "{last:?}");
        assert!(last.to.as_ref().is_none_or(|to| border::is_name(to)));
        let lock = Lock::Free { version: Revision(3), taken_from: Some(last.session) };
        let view = View { at: 7, lock, last: Some(last), last_revision: Revision(7) };
        let minute = std::time::Duration::from_secs(60);
        assert!(view.withheld() <= minute && view.hold_off(Guarantee::For(minute), Default::default()) <= minute);
    }
}

#[cfg(test)]
mod tests {
    /// Each of these was told as a fault of the program's by a target, and was the target's.
    #[test]
    fn an_instance_without_a_port_is_within_bounds() {
        for address in ["10.0.0.1", "fd00::1", "web.example"] {
            let file = format!(
                r#"{{"id":"web-1","name":"web","address":"{address}","port":0,"tags":[],"meta":{{}},"status":"passing","note":""}}"#
            );
            super::records(file.as_bytes());
        }
    }
}
