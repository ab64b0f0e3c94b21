//! hosts(5) and resolv.conf(5), read as glibc reads them. It asks no server.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use nix::net::if_::if_nametoindex;

use super::text_of;

/// The addresses a hosts file has for a name, in its order.
pub fn addresses_in(hosts: &Path, name: &str) -> Vec<IpAddr> {
    listed(&text_of(hosts), name)
}

/// The same of its text.
pub fn listed(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let address = words.next()?.parse().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
        })
        .collect()
}

/// A server, and by which interface a link-local one is reached: what router advertisements name is of that kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameServer {
    address: IpAddr,
    /// The interface's index; 0: none is named, or none is there of that name.
    scope: u32,
}

impl NameServer {
    /// As `10.0.0.1`, `::1`, `fe80::1%eth0` or `fe80::1%2`.
    fn read(word: &str) -> Option<NameServer> {
        let (address, zone) = word.split_once('%').map_or((word, None), |(address, zone)| (address, Some(zone)));
        let address: IpAddr = address.parse().ok()?;
        let index = |zone: &str| zone.parse().ok().or_else(|| if_nametoindex(zone).ok());
        match zone {
            Some(_) if address.is_ipv4() => None,
            zone => Some(NameServer { address, scope: zone.and_then(index).unwrap_or(0) }),
        }
    }

    /// Where it is asked.
    pub fn at(self, port: u16) -> SocketAddr {
        match self.address {
            IpAddr::V4(address) => (address, port).into(),
            IpAddr::V6(address) => SocketAddrV6::new(address, port, 0, self.scope).into(),
        }
    }
}

impl From<Ipv4Addr> for NameServer {
    fn from(address: Ipv4Addr) -> NameServer {
        NameServer { address: address.into(), scope: 0 }
    }
}

/// Whom to ask, and how (resolv.conf(5), with its limits).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// At most three, in order of preference.
    pub servers: Vec<NameServer>,
    /// What is appended to short names.
    pub search: Vec<String>,
    /// Names with this many dots are tried as they are first.
    pub ndots: usize,
    /// How long one server has for one answer.
    pub timeout: Duration,
    /// How often all servers are asked.
    pub attempts: u32,
    /// `use-vc`: TCP only.
    pub tcp: bool,
}

impl ResolvConf {
    /// What a file says; without one, the server on this host, as glibc has it.
    pub fn read(path: &Path) -> ResolvConf {
        ResolvConf::parse(&text_of(path))
    }

    pub fn parse(text: &str) -> ResolvConf {
        let mut conf = ResolvConf {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            tcp: false,
        };
        for line in text.lines().filter(|line| !line.starts_with(['#', ';'])) {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if conf.servers.len() < 3 => {
                    conf.servers.extend(words.next().and_then(NameServer::read));
                }
                // The last of either wins.
                Some("domain") => conf.search = words.next().map(str::to_owned).into_iter().collect(),
                Some("search") => conf.search = words.take(32).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| conf.option(word)),
                _ => {}
            }
        }
        if conf.servers.is_empty() {
            conf.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        conf
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(value)) => self.ndots = value.min(15) as usize,
            ("timeout", Ok(value)) => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            ("attempts", Ok(value)) => self.attempts = value.clamp(1, 5),
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// The full names to ask for, in order.
    pub fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(full) = host.strip_suffix('.') {
            return vec![full.to_owned()];
        }
        let appended = self.search.iter().map(|domain| format!("{host}.{domain}"));
        let appended = appended.map(|name| name.trim_end_matches('.').to_owned());
        let mut names: Vec<String> = appended.collect();
        let dotted = host.matches('.').count() >= self.ndots;
        names.insert(if dotted { 0 } else { names.len() }, host.to_owned());
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_within_its_limits() {
        let conf = ResolvConf::parse(
            "# made by hand\n; or not\ndomain old.example\nsearch a.example b.example\nnameserver 10.0.0.1\n\
             nameserver 10.0.0.9%lo\nnameserver fe80::1%lo\nnameserver ::1\nnameserver 10.0.0.4\n\
             options ndots:5 timeout:99 attempts:0 edns0 nonsense:\noptions use-vc\nnonsense\nnameserver\n",
        );
        assert_eq!(
            conf,
            ResolvConf {
                servers: ["10.0.0.1", "fe80::1%1", "::1"].map(|a| NameServer::read(a).unwrap()).to_vec(),
                search: vec!["a.example".into(), "b.example".into()],
                ndots: 5,
                timeout: Duration::from_secs(30),
                attempts: 1,
                tcp: true,
            }
        );
        assert_eq!(ResolvConf::parse("").servers, [Ipv4Addr::LOCALHOST.into()]);
    }

    #[test]
    fn a_link_local_server_is_asked_by_its_interface() {
        let at = |word: &str| NameServer::read(word).unwrap().at(53);
        for word in ["fe80::1%lo", "fe80::1%1"] {
            assert_eq!(at(word), SocketAddrV6::new("fe80::1".parse().unwrap(), 53, 0, 1).into(), "{word}");
        }
        assert_eq!(at("fe80::1%nowhere"), "[fe80::1]:53".parse().unwrap());
        assert_eq!(at("10.0.0.1"), "10.0.0.1:53".parse().unwrap());
    }

    #[test]
    fn a_name_is_tried_as_it_is_before_or_after_the_search_list_by_its_dots() {
        let conf = ResolvConf::parse("search svc.example .\noptions ndots:2");
        assert_eq!(conf.candidates("db"), ["db.svc.example", "db", "db"]);
        assert_eq!(conf.candidates("a.b"), ["a.b.svc.example", "a.b", "a.b"]);
        assert_eq!(conf.candidates("a.b.c"), ["a.b.c", "a.b.c.svc.example", "a.b.c"]);
        assert_eq!(conf.candidates("db."), ["db"]);
    }

    #[test]
    fn a_hosts_file_knows_aliases_comments_and_both_families() {
        let dir = tempfile::tempdir().unwrap();
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 localhost\n::1\tlocalhost ip6 # db\nbroken db\n10.0.0.7  web DB \n").unwrap();
        assert_eq!(addresses_in(&hosts, "db"), ["10.0.0.7".parse::<IpAddr>().unwrap()]);
        assert_eq!(addresses_in(&hosts, "LOCALHOST").len(), 2);
        assert_eq!(addresses_in(&hosts, "broken"), Vec::<IpAddr>::new());
        assert_eq!(addresses_in(&dir.path().join("missing"), "localhost"), Vec::<IpAddr>::new());
    }
}
