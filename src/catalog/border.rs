//! The border: what stands in a store are somebody's words, and not always ours. Here they become our own
//! types, or are left out, which is said once and costs only what is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::Query;
use crate::config::words::{self, LONGEST_NAME, MOST_SAID, is_printable};
use crate::supervisor::vocabulary::Instance;

use super::bounds;

/// Of so many different places it is said that something there is left out, of one query.
const MOST_PLACES: usize = 32;

/// This much of somebody else's words is shown, in characters.
const SHOWN: usize = 64;

/// What a store says of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct RawInstance {
    pub(super) id: String,
    pub(super) node: Option<String>,
    pub(super) name: String,
    pub(super) address: String,
    pub(super) port: i64,
    pub(super) tags: Vec<String>,
    pub(super) meta: BTreeMap<String, String>,
}

/// What is wrong with somebody else's words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    /// A name that no name can be.
    #[error("its {what} {} is empty, longer than {LONGEST_NAME} bytes, or has characters that can't be printed", Shown(.text))]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        text: String,
    },
    /// No address.
    #[error("its address {} is neither an IP address nor a host name", Shown(.0))]
    Address(String),
    /// No port.
    #[error("its port {0} isn't one from 0 (none) to 65535")]
    Port(i64),
    /// A tag, or the name of a pair, with control characters, or a value with NUL.
    #[error("its tags or meta have characters that can't be printed: {}", Shown(.0))]
    Unprintable(String),
    /// Tags and meta without measure.
    #[error("its tags and meta are longer than {} KiB", MOST_SAID / 1024)]
    TooLong,
    /// An entry that stands where another's should.
    #[error("it says that it is {}", Shown(.0))]
    Misplaced(String),
    /// Not what an entry looks like.
    #[error("it isn't an entry: {}", Shown(.0))]
    NoEntry(String),
    /// A value that isn't UTF-8.
    #[error("its value isn't UTF-8")]
    NotText,
    /// A file of another user's.
    #[error("it can't be read")]
    Unreadable,
    /// One value without measure.
    #[error("it is larger than {} KiB", bounds::LARGEST_ITEM / 1024)]
    TooLarge,
}

/// Somebody else's words for a log: cut, and without anything that a terminal would obey.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut: String = self.0.chars().take(SHOWN).collect();
        write!(f, "{cut:?}{}", if cut.len() < self.0.len() { "..." } else { "" })
    }
}

impl RawInstance {
    /// The instance, if these words are one's.
    pub(super) fn instance(self) -> Result<Instance, Flaw> {
        let RawInstance { id, node, name, address, port, tags, meta } = self;
        let id = named("id", id)?;
        let name = named("name", name)?;
        let node = node.map(|node| named("node", node)).transpose()?;
        let address = match is_host(&address) {
            true => address,
            false => return Err(Flaw::Address(address)),
        };
        let port = u16::try_from(port).map_err(|_| Flaw::Port(port))?;
        let pairs = meta.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        if words::said(tags.iter().map(String::as_str), pairs) > MOST_SAID {
            return Err(Flaw::TooLong);
        }
        let unprintable = tags.iter().chain(meta.keys()).find(|word| !is_printable(word));
        if let Some(word) = unprintable.or_else(|| meta.values().find(|value| value.contains('\0'))) {
            return Err(Flaw::Unprintable(word.clone()));
        }
        Ok(Instance { id, node, name, address, port, tags, meta })
    }
}

fn named(what: &'static str, text: String) -> Result<String, Flaw> {
    if is_name(&text) { Ok(text) } else { Err(Flaw::Name { what, text }) }
}

/// Whether this can be an id or a name: printable, and of a length that people, files and variables can bear.
pub(super) fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len()) && is_printable(text)
}

/// Whether this is an IP address or a host name.
pub(super) fn is_host(text: &str) -> bool {
    if text.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            // One that begins so would be an option to many a command.
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits is a piece of an address that is none.
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= LONGEST_NAME && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether this is `host:port`, an IPv6 address in brackets.
pub(super) fn is_host_port(text: &str) -> bool {
    match text.parse::<SocketAddr>() {
        Ok(address) => address.port() > 0,
        Err(_) => text.rsplit_once(':').is_some_and(|(host, port)| {
            !host.contains(':') && is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0)
        }),
    }
}

/// Says what of a query is left out, each place once for as long as the query is followed: whoever writes it mustn't fill
/// the log.
#[derive(Debug)]
pub(super) struct LeftOut {
    /// `None`: nobody is told.
    of: Option<String>,
    said: BTreeSet<String>,
}

impl LeftOut {
    /// Of a query.
    pub(super) fn of(query: &Query) -> LeftOut {
        let of = match query {
            Query::Service { name, .. } => format!("service {name}"),
            Query::Key { key } => format!("key {key}"),
            Query::KeyPrefix { prefix } => format!("key prefix {prefix}"),
            Query::Leader { election } => format!("the election {election}"),
        };
        LeftOut { of: Some(of), said: BTreeSet::new() }
    }

    /// Of what is read again and again, and concerns no user.
    pub(super) fn unannounced() -> LeftOut {
        LeftOut { of: None, said: BTreeSet::new() }
    }

    /// Says that what stands at this place (an id, a key) is left out, and why.
    pub(super) fn say(&mut self, place: &str, flaw: &Flaw) {
        let Some(last) = self.note(place) else { return };
        let Some(of) = &self.of else { return };
        let more = if last { "; others may be left out too, and aren't logged" } else { "" };
        tracing::warn!(event = "catalog.left_out", "{of}: {} is left out: {flaw}{more}", Shown(place));
    }

    /// Whether it is to be said, and whether it is the last that is.
    fn note(&mut self, place: &str) -> Option<bool> {
        let place: String = place.chars().take(4 * SHOWN).collect();
        if self.said.len() >= MOST_PLACES || !self.said.insert(place) {
            return None;
        }
        Some(self.said.len() == MOST_PLACES)
    }
}

/// What everybody who sees an instance relies on. One without a port is its host alone.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn assert_within(instance: &Instance) {
    assert!(is_name(&instance.id) && is_name(&instance.name), "{instance:?}");
    assert!(is_host(&instance.address), "{instance:?}");
    let with_port = match instance.port {
        0 => format!("{}:1", instance.host_port()),
        _ => instance.host_port(),
    };
    assert!(is_host_port(&with_port), "{instance:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> RawInstance {
        RawInstance {
            id: "web-1".to_owned(),
            name: "web".to_owned(),
            address: "10.0.0.1".to_owned(),
            port: 80,
            tags: vec!["urlprefix-/foo".to_owned(), "Host(`größe`)".to_owned()],
            meta: BTreeMap::from([("note".to_owned(), "two\nlines".to_owned())]),
            ..RawInstance::default()
        }
    }

    #[test]
    fn an_address_is_an_ip_address_or_a_host_name() {
        for host in ["10.0.0.1", "::1", "2001:db8::5", "db", "db.example.com", "a_b.c-d.", "1a.2b"] {
            assert!(is_host(host), "{host}");
        }
        let long = "a".repeat(64);
        for no_host in
            ["", ".", "a..b", "a b", "-o", "a-", "10.0.0.256", "1.2", "10.0.0.1:1; } server {", "a\0", "ä", &long]
        {
            assert!(!is_host(no_host), "{no_host:?}");
            assert!(RawInstance { address: no_host.to_owned(), ..words() }.instance().is_err());
        }
    }

    #[test]
    fn a_leaders_address_has_a_host_and_a_port() {
        for right in ["10.0.0.1:80", "[::1]:80", "db.example:3306"] {
            assert!(is_host_port(right), "{right}");
        }
        for wrong in ["", "10.0.0.1", "10.0.0.1:0", "::1:80", "10.0.0.1\0:80", "10.0.0.1:80\nx", "a b:80", "a:70000"] {
            assert!(!is_host_port(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_port_is_one_from_0_which_is_none_to_65535() {
        for port in [0, 1, 65535] {
            assert_eq!(i64::from(RawInstance { port, ..words() }.instance().unwrap().port), port);
        }
        for port in [-1, 65536, 70000, i64::MAX, i64::MIN] {
            assert_eq!(RawInstance { port, ..words() }.instance(), Err(Flaw::Port(port)));
        }
    }

    #[test]
    fn a_name_is_printable_and_short() {
        for name in ["web-1", "größe", "a b", &"x".repeat(255)] {
            assert!(is_name(name), "{name}");
        }
        for no_name in ["", "a\0b", "a\nb", "\x1b]0;owned\x07", "\u{9b}31m", "a\u{202e}b", &"x".repeat(256)] {
            assert!(!is_name(no_name), "{no_name:?}");
            for wrong in [
                RawInstance { id: no_name.to_owned(), ..words() },
                RawInstance { name: no_name.to_owned(), ..words() },
                RawInstance { node: Some(no_name.to_owned()), ..words() },
            ] {
                assert!(matches!(wrong.instance(), Err(Flaw::Name { .. })));
            }
        }
    }

    #[test]
    fn tags_and_meta_are_bounded_and_have_no_control_characters() {
        assert!(words().instance().is_ok());
        let tags = RawInstance { tags: vec!["x".repeat(MOST_SAID)], ..words() };
        assert_eq!(tags.instance(), Err(Flaw::TooLong));
        let many = RawInstance { tags: vec![String::new(); MOST_SAID + 1], ..words() };
        assert_eq!(many.instance(), Err(Flaw::TooLong));
        let tags = RawInstance { tags: vec!["a\x1b[31m".to_owned()], ..words() };
        assert!(matches!(tags.instance(), Err(Flaw::Unprintable(_))));
        let meta = BTreeMap::from([("k".to_owned(), "a\0b".to_owned())]);
        assert!(matches!(RawInstance { meta, ..words() }.instance(), Err(Flaw::Unprintable(_))));
    }

    #[test]
    fn what_is_left_out_is_said_once_for_each_place_and_not_without_end() {
        let mut left_out = LeftOut::of(&Query::Key { key: "k".to_owned() });
        assert_eq!((left_out.note("a"), left_out.note("a"), left_out.note("b")), (Some(false), None, Some(false)));
        let said = (0..1000).filter_map(|n| left_out.note(&n.to_string())).collect::<Vec<_>>();
        assert_eq!((said.len(), said.last()), (MOST_PLACES - 2, Some(&true)));
    }

    #[test]
    fn no_word_of_a_flaw_makes_a_terminal_do_anything() {
        let flaw = Flaw::Address(format!("\x1b]0;owned\x07\u{202e}{}", "x".repeat(100_000)));
        let told = flaw.to_string();
        assert!(is_printable(&told) && told.len() < 200, "{told:?}");
    }
}
