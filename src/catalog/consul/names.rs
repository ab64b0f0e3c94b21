//! Leads every name of a request to one host: reqwest asks for the name in the URL, which is the one the certificate
//! must be for, and gets the addresses of the host the config names. Never asks libc: a static binary can't.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// One host.
#[derive(Debug)]
pub(super) struct Names {
    host: String,
}

/// A host that can't be found.
#[derive(Debug, thiserror::Error)]
#[error("{host} is no IP address, and names can't be looked up yet")]
struct NoAddress {
    host: String,
}

impl Names {
    /// Every name is this host.
    pub(super) fn leading_to(host: &str) -> Names {
        Names { host: host.to_owned() }
    }

    fn addresses(&self) -> Result<Vec<IpAddr>, NoAddress> {
        if self.host == "localhost" {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        match self.host.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => Err(NoAddress { host: self.host.clone() }),
        }
    }
}

impl Resolve for Names {
    fn resolve(&self, _name: Name) -> Resolving {
        let found = self.addresses();
        Box::pin(async move {
            // Port 0 stands for the URL's.
            let addresses: Addrs = Box::new(found?.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}
