//! What verifies a backend and proves us to it: certificates from files, made ready for rustls. It opens no
//! connection, and there is no way to turn verification off.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use crate::config::backends::Tls;
use crate::files;

use super::secret::FileError;

/// Where distributions keep the authorities they trust; `SSL_CERT_FILE` comes before.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// No file of certificates or keys is read further; Debian's bundle of authorities has 220 KB.
pub const LARGEST_FILE: u64 = 4 * 1024 * 1024;

/// Where the authorities that this system trusts may be, in the order to look.
pub fn system_bundles() -> impl Iterator<Item = PathBuf> {
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from))
}

/// Why https can't be made ready.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error(transparent)]
    File(FileError),
    /// The image has no authorities and the config names none.
    #[error("this image has no certificate authorities: set [catalog] tls.ca")]
    NoAuthority,
    /// A file holds no certificate or key.
    #[error("[catalog] {key}: {path} holds no usable PEM", path = path.display())]
    Pem {
        /// The key that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// Certificate and key can't be used.
    #[error("[catalog] tls.certificate and tls.key can't be used")]
    Identity(#[source] rustls::Error),
    /// rustls refuses.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// The files' contents.
#[derive(Debug, Clone)]
pub struct Pems {
    /// Authorities, and the file they are from.
    pub ca: (PathBuf, Vec<u8>),
    /// Certificate and key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Reads what the config names; without `tls.ca` the system's authorities.
///
/// # Errors
/// A file can't be read, or there is no authority at all.
pub fn read(tls: &Tls) -> Result<Pems, TlsError> {
    let file = |key, path: &Path| {
        files::read(path, LARGEST_FILE)
            .map_err(|source| TlsError::File(FileError { key, path: path.to_owned(), source }))
    };
    let ca = match &tls.ca {
        Some(path) => (path.clone(), file("tls.ca", path)?),
        None => system_bundle().ok_or(TlsError::NoAuthority)?,
    };
    let identity = match &tls.identity {
        Some(identity) => Some((file("tls.certificate", &identity.certificate)?, file("tls.key", &identity.key)?)),
        None => None,
    };
    Ok(Pems { ca, identity })
}

fn system_bundle() -> Option<(PathBuf, Vec<u8>)> {
    system_bundles().find_map(|path| {
        let bytes: io::Result<Vec<u8>> = files::read(&path, LARGEST_FILE);
        bytes.ok().map(|bytes| (path, bytes))
    })
}

/// A rustls client that verifies by `tls`.
///
/// # Errors
/// What [`read`] finds, or files that hold no certificate or key, or a key that doesn't fit.
pub fn client_config(tls: &Tls) -> Result<ClientConfig, TlsError> {
    client_config_of(&read(tls)?, tls)
}

/// The same of what was read.
///
/// # Errors
/// Files that hold no certificate or key, or a key that doesn't fit.
pub fn client_config_of(pems: &Pems, tls: &Tls) -> Result<ClientConfig, TlsError> {
    let (ca_path, ca) = &pems.ca;
    let broken = |key, path: &Path, source| TlsError::Pem { key, path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|source| broken("tls.ca", ca_path, source))?;
        // A system's bundle may hold one that rustls won't parse; what counts is that some authority is left.
        let _ = roots.add(certificate);
    }
    if roots.is_empty() {
        return Err(broken("tls.ca", ca_path, rustls::pki_types::pem::Error::NoItemsFound));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots);
    let (Some((certificate, key)), Some(paths)) = (&pems.identity, &tls.identity) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|source| broken("tls.certificate", &paths.certificate, source))?;
    if chain.is_empty() {
        return Err(broken("tls.certificate", &paths.certificate, rustls::pki_types::pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|source| broken("tls.key", &paths.key, source))?;
    builder.with_client_auth_cert(chain, key).map_err(TlsError::Identity)
}

/// A rustls client that trusts nobody, for connections without TLS: libraries that make one of their own fail, even
/// for plain http, where an image has no authorities.
///
/// # Errors
/// rustls has no protocol version left, which only a change of its features could bring about.
pub fn unused() -> Result<ClientConfig, TlsError> {
    Ok(ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth())
}

/// Which setting a cause points at. rustls' errors stand inside io errors, which show them by `get_ref` only.
pub fn hint(error: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    use rustls::{AlertDescription, CertificateError, Error as Tls};
    let mut error = error;
    while let Some(io) = error.downcast_ref::<std::io::Error>() {
        error = io.get_ref()?;
    }
    let tls = error.downcast_ref::<Tls>()?;
    match tls {
        Tls::InvalidCertificate(CertificateError::UnknownIssuer) => Some("; see [catalog] tls.ca"),
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("; see [catalog] tls.server_name"),
        Tls::InvalidCertificate(_) => {
            Some("; the server's certificate isn't valid, or [catalog] tls.ca isn't its authority")
        }
        Tls::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::HandshakeFailure,
        ) => Some("; see [catalog] tls.certificate and tls.key"),
        Tls::InvalidMessage(_) => Some("; see [catalog] address: it may want http://"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_an_error_that_names_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, "no pem").unwrap();
        let error = client_config(&Tls { ca: Some(ca), ..Tls::default() }).unwrap_err();
        assert!(error.to_string().contains("tls.ca"), "{error}");
    }

    #[test]
    fn a_missing_client_key_is_an_error_that_names_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("certificate.pem");
        std::fs::write(&there, "x").unwrap();
        let identity =
            crate::config::backends::ClientIdentity { certificate: there.clone(), key: dir.path().join("missing.pem") };
        let error = client_config(&Tls { ca: Some(there), identity: Some(identity), server_name: None }).unwrap_err();
        assert!(error.to_string().contains("tls.key"), "{error}");
    }
}
