//! Values that are written as text but mean more: each says what it is called in the schema, how it is read, and what
//! to write instead when it can't be. It knows nothing of where in a file the text stands.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::duration;
use super::signal::{Signal, UnknownSignal};
use super::{AddressSpec, Backoff};

/// Why a text can't be read as what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// What is wrong, as the end of "`key` …:".
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) hint: Option<String>,
}

impl Wrong {
    fn new(what: impl fmt::Display, hint: impl Into<String>) -> Wrong {
        Wrong { what: what.to_string(), hint: Some(hint.into()) }
    }
}

/// A value written as text.
pub(crate) trait Format: Sized {
    /// Its `format` in the JSON schema.
    const NAME: &'static str;
    /// What is expected, for people.
    const WHAT: &'static str;
    /// Reads it.
    fn read(text: &str) -> Result<Self, Wrong>;
    /// Writes it as `read` takes it.
    fn write(&self) -> String;
}

/// What a format expects, and how it judges a text.
pub(crate) struct Judge {
    /// What is expected, for people.
    pub(crate) what: &'static str,
    /// What is wrong with a text, if anything is.
    pub(crate) judge: fn(&str) -> Result<(), Wrong>,
}

/// The judge of a `format` of the schema.
pub(crate) fn judge(format: &str) -> Option<Judge> {
    fn of<T: Format>() -> Judge {
        Judge { what: T::WHAT, judge: |text| T::read(text).map(drop) }
    }
    Some(match format {
        Duration::NAME => of::<Duration>(),
        Backoff::NAME => of::<Backoff>(),
        Signal::NAME => of::<Signal>(),
        Rewrite::NAME => of::<Rewrite>(),
        AddressSpec::NAME => of::<AddressSpec>(),
        SocketAddr::NAME => of::<SocketAddr>(),
        FilePath::NAME => of::<FilePath>(),
        SocketPath::NAME => of::<SocketPath>(),
        Umask::NAME => of::<Umask>(),
        User::NAME => of::<User>(),
        HttpUrl::NAME => of::<HttpUrl>(),
        HostPort::NAME => of::<HostPort>(),
        Limit::NAME => of::<Limit>(),
        Name::NAME => of::<Name>(),
        _ => return None,
    })
}

/// A [`Format`] as serde and schemars see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed<T>(pub(crate) T);

impl<'de, T: Format> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<T: Format> de::Visitor<'_> for Visitor<T> {
            type Value = Parsed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::read(text).map(Parsed).map_err(|wrong| E::custom(wrong.what))
            }
        }
        deserializer.deserialize_str(Visitor(PhantomData))
    }
}

impl<T: Format> Serialize for Parsed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<T: Format> JsonSchema for Parsed<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": T::NAME })
    }

    fn inline_schema() -> bool {
        true
    }
}

impl Format for Duration {
    const NAME: &'static str = "duration";
    const WHAT: &'static str = "a duration with its unit, such as `\"5s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse(text).map_err(|error| Wrong { what: format!("is no duration: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print(*self)
    }
}

impl Format for Backoff {
    const NAME: &'static str = "backoff";
    const WHAT: &'static str = "a range of durations, such as `\"200ms..30s\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        duration::parse_backoff(text)
            .map_err(|error| Wrong { what: format!("is no range of durations: {error}"), hint: error.hint() })
    }

    fn write(&self) -> String {
        duration::print_backoff(*self)
    }
}

fn unknown_signal(text: &str, error: UnknownSignal) -> Wrong {
    let upper = text.trim().to_ascii_uppercase();
    let near = super::near::nearest(upper.strip_prefix("SIG").unwrap_or(&upper), Signal::all().map(name_of));
    let hint = match near {
        Some(name) => format!("did you mean `\"{name}\"`?"),
        None => "write a name or a number of signal(7): `\"TERM\"`, `\"15\"`, `\"RTMIN+1\"`".to_owned(),
    };
    Wrong { what: format!("is no signal: {error}"), hint: Some(hint) }
}

/// A signal's name without `SIG`.
fn name_of(signal: Signal) -> String {
    signal.to_string().trim_start_matches("SIG").to_owned()
}

impl Format for Signal {
    const NAME: &'static str = "signal";
    const WHAT: &'static str = "a signal, such as `\"TERM\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error| unknown_signal(text, error))
    }

    fn write(&self) -> String {
        name_of(*self)
    }
}

/// What main gets in place of a signal; `None` (written `""`) is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite(pub(crate) Option<Signal>);

impl Format for Rewrite {
    const NAME: &'static str = "signal-or-nothing";
    const WHAT: &'static str = "a signal, such as `\"USR1\"`, or `\"\"` to drop it";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() { Ok(Rewrite(None)) } else { Signal::read(text).map(|signal| Rewrite(Some(signal))) }
    }

    fn write(&self) -> String {
        self.0.map(name_of).unwrap_or_default()
    }
}

impl Format for AddressSpec {
    const NAME: &'static str = "interface-spec";
    const WHAT: &'static str = "an interface spec, such as `\"eth0:inet\"` or `\"10.0.0.0/8\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        text.parse().map_err(|error: super::address::AddressSpecError| {
            Wrong::new(format_args!("is no interface spec: {error}"), error.hint())
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
            Wrong::new("is no address to listen on", hint)
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// A path the kernel can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(pub(crate) PathBuf);

impl Format for FilePath {
    const NAME: &'static str = "path";
    const WHAT: &'static str = "a path";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.is_empty() {
            return Err(Wrong { what: "is an empty path".to_owned(), hint: None });
        }
        Ok(FilePath(PathBuf::from(text)))
    }

    fn write(&self) -> String {
        self.0.display().to_string()
    }
}

/// Where a unix socket is made; `None` (written `""`) is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SocketPath(pub(crate) Option<PathBuf>);

/// The longest path of a unix socket, without its final NUL (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

impl Format for SocketPath {
    const NAME: &'static str = "socket";
    const WHAT: &'static str = "a path of a unix socket, or `\"\"` for none";

    fn read(text: &str) -> Result<Self, Wrong> {
        if text.len() > LONGEST_SOCKET_PATH {
            return Err(Wrong::new(
                format_args!("is too long for a unix socket: {} bytes", text.len()),
                format!("the kernel takes {LONGEST_SOCKET_PATH} bytes; use a shorter directory"),
            ));
        }
        Ok(SocketPath((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn write(&self) -> String {
        self.0.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}

/// A file mode creation mask, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Umask(pub(crate) u32);

impl Format for Umask {
    const NAME: &'static str = "umask";
    const WHAT: &'static str = "a mask in octal digits, such as `\"022\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mask) if mask <= 0o777 && !digits.starts_with('+') => Ok(Umask(mask)),
            _ => Err(Wrong::new("is no umask", "write up to three octal digits: `\"022\"`")),
        }
    }

    fn write(&self) -> String {
        format!("{:03o}", self.0)
    }
}

/// `name`, `uid`, `name:group` or `uid:gid`; whether they exist is seen when a process starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User(pub(crate) String);

impl Format for User {
    const NAME: &'static str = "user";
    const WHAT: &'static str = "a user, such as `\"mysql\"` or `\"1000:1000\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let mut parts = text.split(':');
        let sound = parts.clone().count() <= 2
            && parts.all(|part| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control()));
        if sound {
            return Ok(User(text.to_owned()));
        }
        Err(Wrong::new("is no user", "write a name or a uid, and a group after a colon: `\"mysql\"`, `\"1000:1000\"`"))
    }

    fn write(&self) -> String {
        self.0.clone()
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
            return Err(Wrong::new("is no URL: it has no scheme", hint));
        }
        let uri: hyper::Uri = text.parse().map_err(|error| Wrong::new(format_args!("is no URL: {error}"), hint))?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(other) => return Err(Wrong::new(format_args!("is no http URL: its scheme is `{other}`"), hint)),
            None => return Err(Wrong::new("is no URL", hint)),
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.host().is_none_or(str::is_empty) {
            return Err(Wrong::new("is no URL: it has no host", hint));
        }
        if authority.contains('@') {
            return Err(Wrong::new(
                "has a user and password in it",
                "send them in `headers = { Authorization = \"Basic ...\" }`",
            ));
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

/// Soft and hard limit of one resource; `None` is unlimited. Written `65536`, `"1024:4096"` or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>, pub(crate) Option<u64>);

impl Format for Limit {
    const NAME: &'static str = "limit";
    const WHAT: &'static str = "a number, `\"unlimited\"`, or soft and hard limit as `\"1024:4096\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let wrong = || Wrong::new("is no limit", "write `65536`, `\"unlimited\"`, or soft and hard as `\"1024:4096\"`");
        let one = |text: &str| match text.trim() {
            "unlimited" => Ok(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().map(Some).map_err(|_| wrong()),
            _ => Err(wrong()),
        };
        let (soft, hard) = match text.split_once(':') {
            Some((soft, hard)) => (one(soft)?, one(hard)?),
            None => (one(text)?, one(text)?),
        };
        if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
            return Err(Wrong::new("has a soft limit above the hard one", "the soft limit comes first"));
        }
        Ok(Limit(soft, hard))
    }

    fn write(&self) -> String {
        let one = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
        if self.0 == self.1 { one(self.0) } else { format!("{}:{}", one(self.0), one(self.1)) }
    }
}

/// A limit as a config writes it: a number or text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitValue(pub(crate) Limit);

impl<'de> Deserialize<'de> for LimitValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = LimitValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(Limit::WHAT)
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LimitValue, E> {
                let number = u64::try_from(number).map_err(|_| E::custom("a limit is never negative"))?;
                Ok(LimitValue(Limit(Some(number), Some(number))))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LimitValue, E> {
                Limit::read(text).map(LimitValue).map_err(|wrong| E::custom(wrong.what))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for LimitValue {
    fn schema_name() -> Cow<'static, str> {
        Limit::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "format": Limit::NAME, "minimum": 0 })
    }

    fn inline_schema() -> bool {
        true
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
            "is no name",
            format!(
                "letters, digits, `-`, `_` and `.`, not starting with `.`, at most {LONGEST_CATALOG_NAME} characters"
            ),
        ))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads<T: Format>(good: &[&str], bad: &[&str]) {
        for text in good {
            let value = T::read(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.what));
            assert_eq!(value.write(), *text);
        }
        for text in bad {
            assert!(T::read(text).is_err(), "{text} was taken for {}", T::WHAT);
        }
    }

    #[test]
    fn a_listening_address_has_an_ip_and_a_port() {
        reads::<SocketAddr>(&["0.0.0.0:9090", "[::]:9090"], &["9090", ":9090", "localhost:9090", "0.0.0.0", "", "::1"]);
        assert!(SocketAddr::read(":9090").unwrap_err().hint.unwrap().contains("0.0.0.0:9090"));
    }

    #[test]
    fn a_host_and_port_may_be_a_name_or_an_address() {
        reads::<HostPort>(
            &["127.0.0.1:80", "localhost:80", "[::1]:80"],
            &["80", ":80", "a:0", "a:65536", "a", "::1:80", "[::1:80", "[x]:80", "a b:80", "http://a:80", "a:+8"],
        );
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
    fn a_user_is_a_name_or_id_and_perhaps_a_group() {
        reads::<User>(&["mysql", "1000", "1000:1000", "a:b"], &["", ":", "a:", ":b", "a:b:c", "a b"]);
    }

    #[test]
    fn a_limit_is_one_number_or_two() {
        reads::<Limit>(
            &["65536", "unlimited", "1024:4096", "1024:unlimited"],
            &["", "x", "-1", "4096:1024", "unlimited:5", "1:2:3"],
        );
        assert_eq!(Limit::read("").unwrap_err().what, "is no limit");
    }

    #[test]
    fn a_umask_is_octal() {
        reads::<Umask>(&["022", "077", "777"], &["", "8", "1000", "-1", "+7", "x"]);
    }

    #[test]
    fn a_name_is_safe_in_paths_and_ids() {
        reads::<Name>(&["web", "my-app_2.x"], &["", "a/b", "..", ".a", "a b", "ä", &"a".repeat(129)]);
    }

    #[test]
    fn a_misspelt_signal_gets_its_nearest_neighbour() {
        assert_eq!(Signal::read("SIGTREM").unwrap_err().hint.unwrap(), "did you mean `\"TERM\"`?");
        assert_eq!(Signal::read("USR3").unwrap_err().hint.unwrap(), "did you mean `\"USR1\"`?");
    }
}
