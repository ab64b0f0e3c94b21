//! Interface specs: how a config says which of the container's addresses is advertised. The specs are those
//! ContainerPilot's users know, plus interface names its pattern refused (`eth0.100`, `br-lan`). It reads text; looking
//! at interfaces is `net::address`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{AddressSpec, Family};

/// The longest interface name (`IFNAMSIZ` in net/if.h counts the final NUL).
const LONGEST_NAME: usize = 15;

/// The text isn't an interface spec.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressSpecError {
    /// What follows `static:` isn't an address.
    #[error("`{0}` isn't an IP address")]
    Static(String),
    /// Nobody can be sent there.
    #[error("`{0}` is no host's address")]
    NoHosts(IpAddr),
    /// It has a slash but isn't a network.
    #[error("`{0}` isn't a network")]
    Network(String),
    /// The prefix is longer than the address.
    #[error("a prefix of {prefix} bits is longer than the address")]
    Prefix {
        /// In bits.
        prefix: u8,
    },
    /// What stands in brackets isn't a number.
    #[error("`{0}` isn't an index")]
    Index(String),
    /// An address where a way to find one is wanted.
    #[error("`{0}` is an address, not a way to find one")]
    BareAddress(String),
    /// No interface can be called so (net/core/dev.c, `dev_valid_name`).
    #[error("no interface can be called `{0}`")]
    Name(String),
}

impl AddressSpecError {
    /// What to write instead.
    pub fn hint(&self) -> String {
        match self {
            AddressSpecError::Static(_) | AddressSpecError::NoHosts(_) => "write `static:192.0.2.7`".to_owned(),
            AddressSpecError::Network(_) | AddressSpecError::Prefix { .. } => {
                "write a network as `10.0.0.0/8` or `fd00::/8`".to_owned()
            }
            AddressSpecError::Index(_) => "write `eth0[1]` for its second address".to_owned(),
            AddressSpecError::BareAddress(address) => format!("write `static:{address}`"),
            AddressSpecError::Name(_) => {
                "one of `eth0`, `eth0:inet6`, `eth0[1]`, `inet`, `inet6`, `10.0.0.0/8`, `static:192.0.2.7`".to_owned()
            }
        }
    }
}

/// Neither all of a host's, nor a group's.
fn is_a_hosts(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !address.is_unspecified() && !address.is_multicast() && !is_broadcast
}

impl FromStr for AddressSpec {
    type Err = AddressSpecError;

    fn from_str(text: &str) -> Result<AddressSpec, AddressSpecError> {
        let text = text.trim();
        match text {
            "inet" => return Ok(AddressSpec::Any(Family::V4)),
            "inet6" => return Ok(AddressSpec::Any(Family::V6)),
            _ => {}
        }
        if let Some(address) = text.strip_prefix("static:") {
            let address = address.trim().trim_start_matches('[').trim_end_matches(']');
            let parsed: IpAddr = address.parse().map_err(|_| AddressSpecError::Static(address.to_owned()))?;
            return match is_a_hosts(parsed) {
                true => Ok(AddressSpec::Static(parsed)),
                false => Err(AddressSpecError::NoHosts(parsed)),
            };
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return network(text, address, prefix);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Err(AddressSpecError::BareAddress(address.to_string()));
        }
        if let Some((name, rest)) = text.split_once('[') {
            let index = rest
                .strip_suffix(']')
                .and_then(|digits| digits.parse().ok())
                .ok_or_else(|| AddressSpecError::Index(format!("[{rest}")))?;
            return Ok(AddressSpec::Indexed { name: interface(name)?, index });
        }
        // `ens3:1` is an alias label of old tools; only a family after the last colon is taken off.
        let (name, family) = match text.rsplit_once(':') {
            Some((name, "inet")) => (name, Family::V4),
            Some((name, "inet6")) => (name, Family::V6),
            _ => (text, Family::V4),
        };
        Ok(AddressSpec::Interface { name: interface(name)?, family })
    }
}

fn network(text: &str, address: &str, prefix: &str) -> Result<AddressSpec, AddressSpecError> {
    let wrong = || AddressSpecError::Network(text.to_owned());
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(AddressSpecError::Prefix { prefix });
    }
    Ok(AddressSpec::Network { address, prefix })
}

fn interface(name: &str) -> Result<String, AddressSpecError> {
    let impossible = name.is_empty()
        || name.len() > LONGEST_NAME
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == '[' || c == ']' || c.is_whitespace() || c.is_control());
    if impossible { Err(AddressSpecError::Name(name.to_owned())) } else { Ok(name.to_owned()) }
}

impl fmt::Display for AddressSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |family: &Family| match family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        match self {
            AddressSpec::Interface { name, family: which } => write!(f, "{name}:{}", family(which)),
            AddressSpec::Indexed { name, index } => write!(f, "{name}[{index}]"),
            AddressSpec::Any(which) => f.write_str(family(which)),
            AddressSpec::Network { address, prefix } => write!(f, "{address}/{prefix}"),
            AddressSpec::Static(address) => write!(f, "static:{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> AddressSpec {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn each_form_of_interface_spec_is_read() {
        let named = |name: &str, family| AddressSpec::Interface { name: name.to_owned(), family };
        assert_eq!(spec("eth0"), named("eth0", Family::V4));
        assert_eq!(spec("eth0:inet"), named("eth0", Family::V4));
        assert_eq!(spec("eth0:inet6"), named("eth0", Family::V6));
        assert_eq!(spec("eth0[1]"), AddressSpec::Indexed { name: "eth0".to_owned(), index: 1 });
        assert_eq!(spec("inet"), AddressSpec::Any(Family::V4));
        assert_eq!(spec("inet6"), AddressSpec::Any(Family::V6));
        assert_eq!(spec("10.0.0.0/8"), AddressSpec::Network { address: [10, 0, 0, 0].into(), prefix: 8 });
        assert_eq!(spec("fd00::/8").to_string(), "fd00::/8");
        assert_eq!(spec("static:192.0.2.7"), AddressSpec::Static([192, 0, 2, 7].into()));
        assert_eq!(spec("static:[2001:db8::1]").to_string(), "static:2001:db8::1");
    }

    #[test]
    fn interface_names_may_hold_whatever_the_kernel_takes() {
        for name in ["eth0.100", "br-lan", "wlp3s0", "ens3:1", "veth_a", "tun-01.5"] {
            assert_eq!(spec(name), AddressSpec::Interface { name: name.to_owned(), family: Family::V4 });
            assert_eq!(
                spec(&format!("{name}:inet6")),
                AddressSpec::Interface { name: name.to_owned(), family: Family::V6 }
            );
        }
    }

    #[test]
    fn what_is_no_interface_spec_is_refused_with_a_hint() {
        for text in [
            "",
            " ",
            ":inet",
            "eth0[",
            "eth0[x]",
            "eth0[-1]",
            "eth0[1",
            "[0]",
            "10.0.0.0/33",
            "10.0.0/8",
            "fd00::/129",
            "/8",
            "static:",
            "static:host",
            "static:0.0.0.0",
            "static:::",
            "static:224.0.0.1",
            "static:255.255.255.255",
            "10.0.0.1",
            "::1",
            "an-interface-name-too-long",
            "eth 0",
            "a/b",
            "..",
        ] {
            let error = text.parse::<AddressSpec>().expect_err(text);
            assert!(!error.hint().is_empty());
        }
        assert_eq!("10.0.0.1".parse::<AddressSpec>().unwrap_err().hint(), "write `static:10.0.0.1`");
    }

    #[test]
    fn each_spec_reads_back_what_it_prints() {
        for text in ["eth0:inet", "eth0:inet6", "eth0[1]", "inet", "inet6", "10.0.0.0/8", "static:192.0.2.7"] {
            assert_eq!(spec(text).to_string(), text);
        }
    }
}
