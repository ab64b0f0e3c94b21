//! What holds in a shared directory only.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use pilotfish::config::Service;

use super::bench::Bench;

/// A shared directory of one test.
pub struct SharedDirectory {
    directory: tempfile::TempDir,
}

impl SharedDirectory {
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("shared")
    }

    fn services(&self) -> PathBuf {
        self.path().join("services")
    }

    fn exchange(&self, service: &str) {
        let (there, aside) = (self.services().join(service), self.directory.path().join("aside"));
        renameat2(AT_FDCWD, &there, AT_FDCWD, &aside, RenameFlags::RENAME_EXCHANGE).expect("both are there");
    }
}

impl Bench for SharedDirectory {
    async fn start() -> SharedDirectory {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Other users take part.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("ours");
        SharedDirectory { directory }
    }

    fn address(&self) -> String {
        format!("local={}", self.path().display())
    }

    fn gone_within(&self) -> Duration {
        // A few milliseconds, and then as many again on a busy machine.
        Duration::from_millis(500)
    }

    async fn delete_entry(&self, service: &Service) {
        std::fs::remove_file(self.services().join(&service.name).join(&service.id)).expect("it is there");
    }

    /// A file where a directory should be.
    async fn cut(&self, service: &str) {
        std::fs::write(self.directory.path().join("aside"), "").expect("ours");
        self.exchange(service);
    }

    async fn mend(&self, service: &str) {
        self.exchange(service);
    }
}
