//! What the fuzz targets throw at the resolver: a server's answer, and the files it reads.

use simple_dns::{Name, Packet};

use super::exchange::{Kind, LONGEST_CHAIN, addresses};
use super::files::{ResolvConf, listed};
use super::sorted;

/// A message with addresses for `web.service.consul`; or, after a byte that no message for us begins with, a file.
pub(crate) fn answer(data: &[u8]) {
    if let Some(text) = data.strip_prefix(b"#") {
        return files(&String::from_utf8_lossy(text));
    }
    let Ok(message) = Packet::parse(data) else { return };
    let name = Name::new("web.service.consul").expect("a name");
    for kind in [Kind::A, Kind::Aaaa] {
        let Some(found) = addresses(&message, &name, kind) else { continue };
        assert!(found.iter().all(|address| address.is_ipv4() == (kind == Kind::A)), "{found:?}");
        assert!(found.len() <= message.answers.len().max(LONGEST_CHAIN));
        assert!(sorted(found).is_sorted_by_key(std::net::IpAddr::is_ipv6));
    }
}

fn files(text: &str) {
    let conf = ResolvConf::parse(text);
    assert!((1..=3).contains(&conf.servers.len()) && (1..=5).contains(&conf.attempts), "{conf:?}");
    assert!((1..=30).contains(&conf.timeout.as_secs()), "{conf:?}");
    for host in ["db", "db.example.", "a.b.c"] {
        assert!((1..=33).contains(&conf.candidates(host).len()), "{conf:?}");
    }
    listed(text, "db");
}
