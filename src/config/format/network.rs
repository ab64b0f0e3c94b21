//! Addresses, URLs and names in a catalog.

use std::net::SocketAddr;

use super::{Format, Wrong};
use crate::config::address::AddressSpecError;
use crate::config::{AddressSpec, Listen};

impl Format for AddressSpec {
    const NAME: &'static str = "interface-spec";
    const WHAT: &'static str = "an interface spec, such as `\"eth0:inet\"` or `\"10.0.0.0/8\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error: AddressSpecError| {
            Wrong::new(format_args!("isn't an interface spec: {error}"), error.hint())
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Format for SocketAddr {
    const NAME: &'static str = "listen";
    const WHAT: &'static str = "an address and a port, such as `\"0.0.0.0:9090\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        text.parse().map_err(|_| {
            let hint = match text.trim_start_matches(':').parse::<u16>() {
                Ok(port) => {
                    format!("write `\"0.0.0.0:{port}\"` for every IPv4 address, `\"[::]:{port}\"` for IPv6 too")
                }
                Err(_) => "an IP address and a port, such as `\"0.0.0.0:9090\"` or `\"[::]:9090\"`; \
                           names aren't looked up here"
                    .to_owned(),
            };
            Wrong::new("isn't an address to listen on", hint)
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Format for Listen {
    const NAME: &'static str = "listen-on";
    const WHAT: &'static str = "an address and a port, such as `\"0.0.0.0:9090\"` or `\"eth0:9090\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let text = text.trim();
        if let Ok(at) = text.parse() {
            return Ok(Listen::At(at));
        }
        let (specs, port) = text.rsplit_once(':').unwrap_or((text, ""));
        let Ok(port) = port.parse::<u16>() else { return SocketAddr::read(text).map(Listen::At) };
        // What looks like an address, and none at all, is told what an address looks like.
        let is_no_interface =
            |spec: &str| spec.is_empty() || spec.starts_with(':') || spec.contains("::") || spec == "localhost";
        if specs.split(',').any(|spec| is_no_interface(spec.trim()) && !spec.contains('/')) {
            return SocketAddr::read(text).map(Listen::At);
        }
        let addresses = specs.split(',').map(AddressSpec::read).collect::<Result<_, _>>()?;
        Ok(Listen::On { addresses, port })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// An http or https URL with a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl(pub(crate) String);

impl Format for HttpUrl {
    const NAME: &'static str = "http-url";
    const WHAT: &'static str = "a URL, such as `\"http://127.0.0.1:8080/health\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let hint = "write `\"http://127.0.0.1:8080/health\"`; what runs in the same container answers on 127.0.0.1";
        if !text.contains("://") {
            return Err(Wrong::new("isn't a URL: it has no scheme", hint));
        }
        let uri: hyper::Uri = text.parse().map_err(|error| Wrong::new(format_args!("isn't a URL: {error}"), hint))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(Wrong::new(format_args!("isn't an http URL: its scheme is `{other}`"), hint)),
            None => return Err(Wrong::new("isn't a URL", hint)),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.host().is_none_or(str::is_empty) {
            return Err(Wrong::new("isn't a URL: it has no host", hint));
        }
        if authority.contains('@') {
            return Err(Wrong::new("has a user and password in it", "send them in `headers`, as `Authorization`"));
        }
        // What follows the last colon, unless that is inside an IPv6 address.
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
            return Err(Wrong::new("has no port from 1 to 65535", hint));
        }
        Ok(HttpUrl(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// `host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostPort(pub(crate) String);

impl Format for HostPort {
    const NAME: &'static str = "host-port";
    const WHAT: &'static str = "a host and a port, such as `\"127.0.0.1:3306\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let hint = || match text.trim_start_matches(':').parse::<u16>() {
            Ok(port) => format!("write `\"127.0.0.1:{port}\"`"),
            Err(_) => "write `\"127.0.0.1:3306\"` or `\"[::1]:3306\"`".to_owned(),
        };
        let wrong = |what: &str| Wrong::new(what, hint());
        if let Some((_, address)) = text.split_once("://") {
            let address = address.split('/').next().unwrap_or_default();
            return Err(Wrong::new("has a scheme, which it doesn't take", format!("write `\"{address}\"`")));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("has no port"))?;
        if !matches!(port.parse::<u16>(), Ok(1..)) || port.starts_with('+') {
            return Err(wrong("has no port from 1 to 65535"));
        }
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or_else(|| wrong("has an open bracket"))?;
            inner.parse::<std::net::Ipv6Addr>().map_err(|_| wrong("has no IPv6 address in its brackets"))?;
        } else if host.contains(':') {
            return Err(Wrong::new("has an IPv6 address without brackets", format!("write `\"[{host}]:{port}\"`")));
        } else if host.is_empty() || host.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control()) {
            return Err(wrong("has no host"));
        }
        Ok(HostPort(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// A gRPC server, and one of its services: `host:port`, `host:port/service`, with `grpcs://` before it for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrpcUrl {
    pub(crate) address: String,
    pub(crate) service: String,
    /// Whether it is asked over TLS.
    pub(crate) tls: bool,
}

/// No service of anybody's has a longer name.
const LONGEST_GRPC_SERVICE: usize = 512;

impl Format for GrpcUrl {
    const NAME: &'static str = "grpc-url";
    const WHAT: &'static str =
        "a host and a port, such as `\"127.0.0.1:50051\"` or `\"grpcs://localhost:50051/my.Service\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let hint =
            "write `\"127.0.0.1:50051\"`, `\"127.0.0.1:50051/my.Service\"`, or `\"grpcs://localhost:50051\"` for TLS";
        let (scheme, rest) = text.split_once("://").unwrap_or(("grpc", text));
        if !matches!(scheme, "grpc" | "grpcs") {
            return Err(Wrong::new(format_args!("isn't a gRPC address: its scheme is `{scheme}`"), hint));
        }
        let (address, service) = rest.split_once('/').unwrap_or((rest, ""));
        let HostPort(address) = HostPort::read(address).map_err(|wrong| Wrong::new(wrong.what, hint))?;
        if service.len() > LONGEST_GRPC_SERVICE || service.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(Wrong::new("has no name of a service behind its port", hint));
        }
        Ok(GrpcUrl { address, service: service.to_owned(), tls: scheme == "grpcs" })
    }

    fn write(&self) -> String {
        let scheme = if self.tls { "grpcs://" } else { "" };
        let slash = if self.service.is_empty() { "" } else { "/" };
        format!("{scheme}{}{slash}{}", self.address, self.service)
    }
}

/// A name in a catalog: what is safe as a path part, in a DNS label list and in an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

/// The longest name: Consul's own limit for what it serves by DNS is 63 a label; ids join name, host and port, and a
/// file name ends at 255.
const LONGEST_CATALOG_NAME: usize = 128;

impl Format for Name {
    const NAME: &'static str = "name";
    const WHAT: &'static str = "a name of letters, digits, `-`, `_` and `.`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let sound = !text.is_empty()
            && text.len() <= LONGEST_CATALOG_NAME
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !text.starts_with('.');
        if sound {
            return Ok(Name(text.to_owned()));
        }
        Err(Wrong::new(
            "isn't a name",
            format!(
                "letters, digits, `-`, `_` and `.`, not starting with `.`, at most {LONGEST_CATALOG_NAME} characters"
            ),
        ))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// An election's name: words as a [`Name`] has them, with `/` between them; keys stand below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ElectionName(pub(crate) String);

/// What stands below an election's name: an election called `a/ranks/b` would be read among the ranks of `a`.
const BELOW_ELECTIONS: [&str; 3] = ["leader", "last", "ranks"];

impl Format for ElectionName {
    const NAME: &'static str = "election-name";
    const WHAT: &'static str = "a name such as `\"mysql\"` or `\"prod/mysql\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST_CATALOG_NAME || text.split('/').any(|part| Name::read(part).is_err()) {
            return Err(Wrong::new(
                "isn't a name of an election",
                format!(
                    "words of letters, digits, `-`, `_` and `.` with `/` between them, none starting with `.`, at most \
                     {LONGEST_CATALOG_NAME} characters"
                ),
            ));
        }
        if let Some(taken) = text.split('/').skip(1).find(|part| BELOW_ELECTIONS.contains(part)) {
            return Err(Wrong::new(
                format_args!("has `{taken}` in it, a key of elections"),
                "use another name: `leader`, `last` and `ranks` stand below an election's name",
            ));
        }
        Ok(ElectionName(text.to_owned()))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::reads;
    use super::*;

    #[test]
    fn a_listening_address_has_an_ip_and_a_port() {
        reads::<SocketAddr>(&["0.0.0.0:9090", "[::]:9090"], &["9090", ":9090", "localhost:9090", "0.0.0.0", "", "::1"]);
        assert!(SocketAddr::read(":9090").unwrap_err().hint.unwrap().contains("0.0.0.0:9090"));
    }

    #[test]
    fn an_endpoint_may_listen_at_an_interfaces_address() {
        reads::<Listen>(
            &[
                "0.0.0.0:9090",
                "[::1]:9090",
                "eth0:inet:9090",
                "eth0:inet6:9090",
                "eth0[1]:9090",
                "inet:9090",
                "net1:inet,eth0:inet,inet:9090",
                "10.0.0.0/8:9090",
                "fd00::/8:9090",
                "static:192.0.2.7:9090",
            ],
            &[
                "9090",
                ":9090",
                "localhost:9090",
                "eth0",
                "eth0:",
                "eth0:99999",
                "::1",
                "eth0,:9090",
                "10.0.0:9090/8",
                "",
            ],
        );
        let specs = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        for (text, names) in [("eth0:9090", &["eth0"] as &[&str]), ("net1, eth0:inet6:9090", &["net1", "eth0:inet6"])] {
            assert_eq!(Listen::read(text).unwrap(), Listen::On { addresses: specs(names), port: 9090 });
        }
        assert!(Listen::read(":9090").unwrap_err().hint.unwrap().contains("0.0.0.0:9090"));
    }

    #[test]
    fn a_host_and_port_may_be_a_name_or_an_address() {
        reads::<HostPort>(
            &["127.0.0.1:80", "localhost:80", "[::1]:80"],
            &["80", ":80", "a:0", "a:65536", "a", "::1:80", "[::1:80", "[x]:80", "a b:80", "http://a:80", "a:+8"],
        );
    }

    #[test]
    fn a_grpc_server_has_a_port_perhaps_a_service_and_perhaps_tls() {
        reads::<GrpcUrl>(
            &["127.0.0.1:50051", "[::1]:1/my.Service", "grpcs://localhost:1", "grpcs://localhost:1/a/b"],
            &["", "50051", "localhost", "http://a:1", "grpc://a", "grpc://a:0", "a:1/b c", "::1:1", "grpc:///x"],
        );
        assert_eq!(GrpcUrl::read("grpc://a:1/x"), GrpcUrl::read("a:1/x"));
    }

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_sound_port() {
        reads::<HttpUrl>(
            &["http://127.0.0.1:8080/health", "https://localhost/", "http://[::1]:80/a?b=c"],
            &[
                "",
                "127.0.0.1:80/health",
                "ftp://a/",
                "/health",
                "http://",
                "http://u:p@a/",
                "http://a:0/",
                "http://a:/",
                "http://a:99999/",
                "http://a b/",
            ],
        );
    }

    #[test]
    fn an_election_is_called_by_words_with_slashes_between_and_never_as_its_own_keys() {
        let (longest, longer) = (format!("{}b", "a/".repeat(63)), format!("{}b", "a/".repeat(64)));
        reads::<ElectionName>(
            &["mysql", "prod/mysql", "a/b/c", "leader", &longest],
            &["", "/", "/a", "a/", "a//b", "a/../b", "a/.", "a b", "a/leader", "a/ranks/b", "a/last", &longer],
        );
    }

    #[test]
    fn a_name_is_safe_in_paths_and_ids() {
        reads::<Name>(&["web", "my-app_2.x"], &["", "a/b", "..", ".a", "a b", "ä", &"a".repeat(129)]);
    }
}
