//! How a member is reached: by a connection of its own, with the certificates and the login of now; and which cluster it
//! names.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etcd_client::{Channel, Client, ResponseHeader};
use hyper_util::rt::TokioIo;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::catalog::{Cause, report};
use crate::config::backends::{Endpoint, Etcd as Settings, Secret};
use crate::net::last_good::LastGood;
use crate::net::paced::Paced;
use crate::net::secret;
use crate::net::storage::Storage;
use crate::net::tls::{self, Pems};

use super::clusters::ClusterId;
use super::error::Error;
use super::reach::reach;

/// Reaching one member, authentication included (61 ms of its processor each).
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The server drops clients that ask more often than each 5 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The endpoints, and what is needed to reach them.
#[derive(Debug)]
pub(super) struct Dialer {
    settings: Settings,
    storage: Storage<MemberCredentials>,
    last_files: Arc<LastFiles>,
}

impl Dialer {
    /// Reaches nobody yet.
    pub(super) fn new(settings: &Settings) -> Dialer {
        Dialer { settings: settings.clone(), storage: Storage::default(), last_files: Arc::default() }
    }

    /// All endpoints, in the config's order.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.settings.endpoints
    }

    /// Where it is, for people and for requests.
    fn place(&self, index: usize) -> String {
        self.endpoints()[index].to_string()
    }

    /// Whether one reached by TLS knows who asks.
    pub(super) fn has_identity(&self) -> bool {
        self.settings.tls.identity.is_some()
    }

    /// What is needed to reach any of them.
    pub(super) async fn credentials(&self) -> Result<MemberCredentials, Error> {
        let https = self.endpoints().iter().any(|endpoint| endpoint.https);
        if !https && self.settings.login.is_none() {
            return Ok(MemberCredentials::default());
        }
        let (settings, last) = (self.settings.clone(), Arc::clone(&self.last_files));
        self.storage.read(move || MemberCredentials::read(&settings, https, &last)).await.map_err(Error::NoThread)?
    }

    /// One connection to a member. Once it has ended the channel makes no other: behind that may be another server.
    pub(super) fn channel(&self, index: usize, pems: Option<&Pems>) -> Result<Channel, Error> {
        let place = self.place(index);
        let unusable =
            |source: tonic::transport::Error| Error::Endpoint { member: place.clone(), source: Cause::of(&source) };
        let Endpoint { host, port, https } = self.endpoints()[index].clone();
        let mut endpoint = tonic::transport::Endpoint::from_shared(place.clone())
            .map_err(unusable)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        if let Some(pems) = pems.filter(|_| https) {
            let name = self.settings.tls.server_name.as_deref().unwrap_or(&host);
            let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&pems.ca.1)).domain_name(name);
            if let Some((certificate, key)) = &pems.identity {
                tls = tls.identity(Identity::from_pem(certificate, key));
            }
            endpoint = endpoint.tls_config(tls).map_err(unusable)?;
        }
        let is_used = AtomicBool::default();
        // Not tonic's own connector: that one asks libc for names.
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let host = (!is_used.swap(true, Ordering::Relaxed)).then(|| host.clone());
            async move {
                let Some(host) = host else { return Err(io::Error::from(io::ErrorKind::NotConnected)) };
                reach(&host, port).await.map(|stream| TokioIo::new(Paced::new(stream)))
            }
        });
        Ok(Channel::Tonic(endpoint.connect_with_connector_lazy(connector)))
    }

    /// The cluster that a member names, to everybody and whether it has a leader or not; `None`: it doesn't say.
    pub(super) async fn named(&self, index: usize, channel: &Channel) -> Result<Option<ClusterId>, Error> {
        let status = async { Client::from_channel(channel.clone(), None).await?.status().await };
        match status.await.map_err(|error| Error::of("ask for its cluster", &self.place(index), error)) {
            Ok(status) => Ok(status.header().map(ResponseHeader::cluster_id)),
            Err(error) if error.is_final() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What was last of use of them.
#[derive(Debug, Default)]
struct LastFiles {
    pems: LastGood<Pems>,
    password: LastGood<Secret>,
}

/// What a connection needs from files, as they are now.
#[derive(Clone, Default)]
pub(super) struct MemberCredentials {
    /// With https.
    pub(super) pems: Option<Pems>,
    /// User and password.
    pub(super) login: Option<(String, String)>,
}

impl MemberCredentials {
    fn read(settings: &Settings, https: bool, last: &LastFiles) -> Result<MemberCredentials, Error> {
        let mut credentials = MemberCredentials::default();
        if https {
            let pems = tls::read(&settings.tls).and_then(|pems| {
                // Made for what it finds: tonic takes an authority's file without a certificate, and names no file at all.
                tls::client_config_of(&pems, &settings.tls).map(|_| pems)
            });
            // A certificate is replaced before its key is, or the key is gone for a moment: the ones before still serve.
            let pems = last.pems.or(pems, |error| {
                let error = report(&error);
                tracing::warn!(event = "catalog.tls", "etcd is still asked with the old certificates: {error}");
            });
            credentials.pems = Some(pems.map_err(Error::Tls)?);
        }
        if let Some(login) = &settings.login {
            let password = match &login.password {
                Some(password) => {
                    let password = secret::read_or_last("password_file", password, &last.password);
                    password.map_err(Error::Secret)?.reveal().to_owned()
                }
                None => String::new(),
            };
            credentials.login = Some((login.username.clone(), password));
        }
        Ok(credentials)
    }
}
