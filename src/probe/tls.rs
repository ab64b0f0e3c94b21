//! What verifies a check's answer over TLS. Made at the first such check and kept while its files stay as they are:
//! reading a system's authorities takes milliseconds, which http checks never spend.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::plain;
use crate::config::Trust;
use crate::files::{self, Reader};
use crate::net::tls::{LARGEST_FILE, system_bundles};

/// So many kinds of checks share what was made; more of them make it anew each time.
const MOST_KEPT: usize = 8;

/// What a connector was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// Nothing: anything is taken.
    Anybody,
    /// A file of authorities, as it was (device, inode, size, time of change).
    Authorities { path: PathBuf, stamp: (u64, u64, u64, i64, i64) },
}

/// What is spoken inside, which both sides agree on (ALPN).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.1, which needs no word.
    Http1,
    /// HTTP/2.
    Http2,
}

type Kept = (Source, Speaks, Arc<ClientConfig>);

static KEPT: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// What verifies this check's server; its files are read beside the agent's only thread.
pub async fn connector(trust: &Trust, speaks: Speaks) -> Result<TlsConnector, String> {
    /// One reader for all checks: storage that hangs makes checks fail, and nothing else.
    static READER: LazyLock<Reader> = LazyLock::new(Reader::default);
    let trust = trust.clone();
    READER.read(move || connector_of(&trust, speaks)).await.map_err(|error| format!("ca: {}", plain(&error)))?
}

fn connector_of(trust: &Trust, speaks: Speaks) -> Result<TlsConnector, String> {
    let source = if trust.insecure { Source::Anybody } else { authorities(trust.ca.as_deref())? };
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., config)) = kept.iter().find(|(known, spoken, _)| (known, *spoken) == (&source, speaks)) {
        return Ok(TlsConnector::from(config.clone()));
    }
    let config = Arc::new(client(&source, speaks)?);
    // One made from an older version of the same file is never asked for again.
    kept.retain(|(known, spoken, _)| match (known, &source) {
        (Source::Authorities { path: a, .. }, Source::Authorities { path: b, .. }) => a != b || *spoken != speaks,
        _ => true,
    });
    if kept.len() < MOST_KEPT {
        kept.push((source, speaks, config.clone()));
    }
    Ok(TlsConnector::from(config))
}

/// Shakes hands with a server of this name or address.
pub async fn handshake(connector: &TlsConnector, host: &str, tcp: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| format!("{host} can't be in a certificate"))?;
    connector.connect(name, tcp).await.map_err(|error| format!("tls: {}", said(&error)))
}

/// What went wrong. A certificate that `openssl req -x509` makes without more words is an authority's own, and the commonest
/// of all that aren't taken.
fn said(error: &io::Error) -> String {
    let text = plain(error);
    match text.contains("CaUsedAsEndEntity") {
        true => "the server shows an authority's own certificate (CA:TRUE), not a server's: make one with \
                 `-addext basicConstraints=CA:FALSE`"
            .to_owned(),
        false => text,
    }
}

fn authorities(named: Option<&Path>) -> Result<Source, String> {
    let look = |path: PathBuf| {
        fs::metadata(&path).map(|m| {
            let stamp = (m.dev(), m.ino(), m.size(), m.ctime(), m.ctime_nsec());
            Source::Authorities { path, stamp }
        })
    };
    if let Some(path) = named {
        return look(path.to_owned()).map_err(|error| format!("ca {}: {}", path.display(), plain(&error)));
    }
    system_bundles().find_map(|path| look(path).ok()).ok_or_else(|| {
        "this image has no certificate authorities: name a file (`ca`, --ca), or turn verification off (`insecure`, --insecure)"
            .to_owned()
    })
}

fn client(source: &Source, speaks: Speaks) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("tls can't be set up: {error}"))?;
    let mut config = match source {
        Source::Anybody => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth()
        }
        Source::Authorities { path, .. } => {
            let roots = Arc::new(read(path)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| format!("{} can't be used: {error}", path.display()))?;
            builder.with_webpki_verifier(verifier).with_no_client_auth()
        }
    };
    // A resumed session isn't verified again: an expired certificate would go unnoticed for days.
    config.resumption = Resumption::disabled();
    if speaks == Speaks::Http2 {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    Ok(config)
}

fn read(path: &Path) -> Result<RootCertStore, String> {
    let failed = |error| format!("ca {}: {}", path.display(), plain(&error));
    let pem = files::read(path, LARGEST_FILE).map_err(failed)?;
    let mut roots = RootCertStore::empty();
    // A bundle may hold one that is broken or too old for webpki; the others still count.
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if roots.is_empty() { Err(format!("{} holds no usable certificate", path.display())) } else { Ok(roots) }
}

/// `insecure = true`: any certificate will do, but the server must still own its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
