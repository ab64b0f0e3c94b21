//! Leads every name of a request to one host: the name in the URL is the one the certificate must be for, and its addresses
//! are those of the host the config names.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tower::Service;

use crate::net::resolver::{self, ResolveError};

/// One host.
#[derive(Debug, Clone)]
pub(super) struct Names {
    host: String,
}

impl Names {
    /// Every name is this host.
    pub(super) fn leading_to(host: &str) -> Names {
        Names { host: host.to_owned() }
    }
}

impl Service<Name> for Names {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = ResolveError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ResolveError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), ResolveError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _name: Name) -> Self::Future {
        let host = self.host.clone();
        Box::pin(async move {
            let found = resolver::resolve(&host).await?;
            // Port 0 stands for the URL's.
            let addresses: Vec<_> = found.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}
