//! Leads every name of a request to one host: reqwest asks for the name in the URL, which is the one the certificate
//! must be for, and gets the addresses of the host the config names.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::net::resolver;

/// One host.
#[derive(Debug)]
pub(super) struct Names {
    host: String,
}

impl Names {
    /// Every name is this host.
    pub(super) fn leading_to(host: &str) -> Names {
        Names { host: host.to_owned() }
    }
}

impl Resolve for Names {
    fn resolve(&self, _name: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let found = resolver::resolve(&host).await?;
            // Port 0 stands for the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
