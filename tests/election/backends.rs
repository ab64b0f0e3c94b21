//! The engines, and what can be done to a lock in each behind its candidates' backs.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use pilotfish::supervisor::machines::election::record::SessionId;

use super::bench::{Bench, Engine};
pub use crate::backend::backends::{Etcd34, Etcd35, OneConsul, OneEtcd};
pub use crate::backend::local::SharedDirectory;

impl SharedDirectory {
    /// Where an election is.
    pub fn election(&self, name: &str) -> PathBuf {
        self.path().join("elections").join(name)
    }
}

impl Engine for SharedDirectory {
    /// There is none.
    fn lease() -> Duration {
        Duration::from_secs(2)
    }

    /// The kill margin, for a main that closed what it inherited.
    fn hold_off() -> Duration {
        Duration::from_millis(500)
    }

    /// The kernel takes nothing away. What comes nearest: another file in the lock's place, as an agent makes them.
    async fn take_away(&self, election: &str, _session: SessionId) {
        let other = self.path().join("tmp/other");
        std::fs::write(&other, "").expect("ours");
        std::fs::set_permissions(&other, std::fs::Permissions::from_mode(0o666)).expect("ours");
        std::fs::rename(other, self.election(election).join("lock")).expect("there is a lock");
    }

    async fn delete_lock(&self, election: &str) {
        std::fs::remove_file(self.election(election).join("lock")).expect("there is a lock");
    }

    async fn overwrite_lock(&self, election: &str) {
        std::fs::write(self.election(election).join("leader"), "me").expect("there is a leader");
    }

    async fn ranks(&self, election: &str) -> Vec<String> {
        let ranks = std::fs::read_dir(self.election(election).join("ranks")).expect("somebody ranked");
        ranks.map(|entry| entry.expect("read").file_name().into_string().expect("text")).collect()
    }

    async fn cut_election(&self, election: &str) {
        self.spoil(&self.election(election));
    }

    async fn mend_election(&self, election: &str) {
        self.restore(&self.election(election));
    }
}

impl Engine for OneConsul {
    /// The lock delay.
    fn lease() -> Duration {
        Duration::from_millis(1500)
    }

    /// What the holder was promised: nobody knows whether the lock delay has done the waiting.
    fn hold_off() -> Duration {
        Self::lease()
    }

    async fn take_away(&self, _election: &str, session: SessionId) {
        let hex = format!("{:032x}", session.0);
        let id = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let (status, body) = self.server().ask("PUT", &format!("/v1/session/destroy/{id}"), "");
        assert_eq!(status, 200, "{body}");
    }

    async fn delete_lock(&self, election: &str) {
        let (status, body) = self.server().ask("DELETE", &format!("/v1/kv/{election}/leader"), "");
        assert_eq!((status, body.trim()), (200, "true"));
    }

    async fn overwrite_lock(&self, election: &str) {
        let (status, body) = self.server().ask("PUT", &format!("/v1/kv/{election}/leader"), "me");
        assert_eq!((status, body.trim()), (200, "true"));
    }

    async fn ranks(&self, election: &str) -> Vec<String> {
        let (status, body) = self.server().ask("GET", &format!("/v1/kv/{election}/ranks/?keys"), "");
        match status {
            404 => Vec::new(),
            _ => serde_json::from_str(&body).expect("JSON"),
        }
    }

    async fn cut_election(&self, election: &str) {
        self.cut(election).await;
    }

    async fn mend_election(&self, election: &str) {
        self.mend(election).await;
    }
}

impl<const NEW: bool> Engine for OneEtcd<NEW> {
    fn lease() -> Duration {
        Duration::from_secs(10)
    }

    /// The lease is no more.
    fn hold_off() -> Duration {
        Duration::ZERO
    }

    async fn take_away(&self, election: &str, _session: SessionId) {
        let server = self.server();
        let key = format!("pilotfish/elections/{election}/leader");
        let found = server.ctl(&["get", &key, "-w", "json"]).expect("read");
        let found: serde_json::Value = serde_json::from_str(&found).expect("JSON");
        let lease = found["kvs"][0]["lease"].as_i64().expect("the lock is under a lease");
        server.ctl(&["lease", "revoke", &format!("{lease:x}")]).expect("revoked");
    }

    async fn delete_lock(&self, election: &str) {
        let deleted = self.server().ctl(&["del", &format!("pilotfish/elections/{election}/leader")]).expect("deleted");
        assert_eq!(deleted.trim(), "1");
    }

    async fn overwrite_lock(&self, election: &str) {
        self.server().ctl(&["put", &format!("pilotfish/elections/{election}/leader"), "me"]).expect("put");
    }

    async fn ranks(&self, election: &str) -> Vec<String> {
        let prefix = format!("pilotfish/elections/{election}/ranks/");
        let keys = self.server().ctl(&["get", "--prefix", "--keys-only", &prefix]).expect("read");
        keys.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    async fn cut_election(&self, election: &str) {
        self.cut(election).await;
    }

    async fn mend_election(&self, election: &str) {
        self.mend(election).await;
    }
}
