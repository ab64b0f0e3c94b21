//! Certificates of a throw-away authority, as files.

use std::path::{Path, PathBuf};

use pilotfish::config::backends::{ClientIdentity, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority with a server's and a client's certificate, as files.
pub struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    /// Fresh ones; the server's is for these names and addresses.
    pub fn new(server_names: &[&str]) -> Certificates {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).expect("a file");
        let mut authority = CertificateParams::new(Vec::new()).expect("no names are good names");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().expect("a key")).expect("an authority");
        write("ca.pem", issuer.pem());
        for (who, names) in [("server", server_names), ("client", &["agent"])] {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let key = KeyPair::generate().expect("a key");
            let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &issuer).expect("signed");
            write(&format!("{who}.pem"), certificate.pem());
            write(&format!("{who}-key.pem"), key.serialize_pem());
        }
        Certificates { dir }
    }

    /// Where `ca.pem`, `server.pem`, `server-key.pem`, `client.pem` or `client-key.pem` is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same as text.
    pub fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// What an agent that presents the client's certificate is configured with.
    pub fn tls(&self) -> Tls {
        tls_in(self.dir.path())
    }
}

/// The same, of certificates in a directory.
pub fn tls_in(dir: &Path) -> Tls {
    let identity = ClientIdentity { certificate: dir.join("client.pem"), key: dir.join("client-key.pem") };
    Tls { ca: Some(dir.join("ca.pem")), identity: Some(identity), server_name: None }
}
