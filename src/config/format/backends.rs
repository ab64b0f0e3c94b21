//! Where Consul and etcd listen.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use super::{Format, Wrong};
use crate::config::backends::{CONSUL_PORT, CONSUL_TLS_PORT, ConsulAddress, ETCD_PORT, Endpoint};

impl Format for ConsulAddress {
    const NAME: &'static str = "consul-address";
    const WHAT: &'static str =
        "where Consul listens, such as `\"https://consul:8501\"` or `\"unix:///run/consul.sock\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let hint = "write `\"http://127.0.0.1:8500\"`, `\"https://consul:8501\"` or `\"unix:///run/consul.sock\"`";
        if let Some(path) = text.strip_prefix("unix://") {
            return match path.starts_with('/') {
                true => Ok(ConsulAddress::Unix(PathBuf::from(path))),
                false => Err(Wrong::new("has no path from `/` after `unix://`", hint)),
            };
        }
        endpoint(text, CONSUL_PORT, CONSUL_TLS_PORT, hint).map(ConsulAddress::Tcp)
    }

    fn write(&self) -> String {
        match self {
            ConsulAddress::Unix(path) => format!("unix://{}", path.display()),
            ConsulAddress::Tcp(endpoint) => endpoint.to_string(),
        }
    }
}

/// Whether a text is where a Consul agent can listen.
pub(crate) fn is_consul_address(text: &str) -> bool {
    ConsulAddress::read(text).is_ok()
}

impl Format for Endpoint {
    const NAME: &'static str = "endpoint";
    const WHAT: &'static str = "where an etcd member listens, such as `\"https://etcd1:2379\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        endpoint(text, ETCD_PORT, ETCD_PORT, "write `\"http://127.0.0.1:2379\"` or `\"https://etcd1:2379\"`")
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// Reads `http://host:port`, `https://host:port` or `host:port`; the port may be left out.
fn endpoint(text: &str, port: u16, tls_port: u16, hint: &str) -> Result<Endpoint, Wrong> {
    let wrong = |what: &str| Wrong::new(what, hint);
    let (https, rest) = match text.split_once("://") {
        Some(("http", rest)) => (false, rest),
        Some(("https", rest)) => (true, rest),
        Some((scheme, _)) => {
            return Err(Wrong::new(format_args!("has a scheme that isn't http or https: `{scheme}`"), hint));
        }
        None => (false, text),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err(wrong("has a user in it: that goes to `username` and `password_file`"));
    }
    if rest.contains(['/', '?', '#']) || rest.contains(char::is_whitespace) {
        return Err(wrong("has more than a host and a port"));
    }
    let (host, digits) = match rest.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']').ok_or_else(|| wrong("has an open bracket"))?;
            host.parse::<Ipv6Addr>().map_err(|_| wrong("has no IPv6 address in its brackets"))?;
            match after.strip_prefix(':') {
                Some(digits) => (host, Some(digits)),
                None if after.is_empty() => (host, None),
                None => return Err(wrong("has something between its bracket and its port")),
            }
        }
        None => match rest.split_once(':') {
            Some((_, digits)) if digits.contains(':') => return Err(wrong("has an IPv6 address without brackets")),
            Some((host, digits)) => (host, Some(digits)),
            None => (rest, None),
        },
    };
    if host.is_empty() {
        return Err(wrong("has no host"));
    }
    let port = match digits {
        None if https => tls_port,
        None => port,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port @ 1..) if !digits.starts_with('+') => port,
            _ => return Err(wrong("has no port from 1 to 65535")),
        },
    };
    Ok(Endpoint { https, host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::super::tests::reads;
    use super::*;

    #[test]
    fn an_engine_listens_at_a_host_and_port_or_a_socket() {
        reads::<ConsulAddress>(
            &["http://127.0.0.1:8500", "https://consul:8501", "https://[::1]:8501", "unix:///run/consul.sock"],
            &[
                "",
                "ftp://consul",
                "http://",
                "http://a:0",
                "http://a:+1",
                "http://a/consul",
                "unix://a",
                "unix://",
                "http://me:secret@a",
                "http://::1:8500",
                "http://[::1]x",
                "http://[a]:1",
                "http://[::1",
                "a b",
            ],
        );
        reads::<Endpoint>(&["http://127.0.0.1:2379", "https://etcd1:2379"], &["unix:///etcd", "", ":2379"]);
    }

    #[test]
    fn scheme_and_port_may_be_left_out() {
        let read = |text| ConsulAddress::read(text).unwrap().write();
        assert_eq!(read("consul"), "http://consul:8500");
        assert_eq!(read("127.0.0.1:18500"), "http://127.0.0.1:18500");
        assert_eq!(read("https://consul/"), "https://consul:8501");
        assert_eq!(Endpoint::read("etcd1").unwrap().write(), "http://etcd1:2379");
    }
}
