//! What names, tags and meta may be, in everybody's catalog: pilotfish writes nothing that it would leave out where
//! somebody else wrote it.

use crate::plain;

/// The longest id or name, in bytes: what a file's name and DNS allow.
pub const LONGEST_NAME: usize = 255;

/// All that one instance says of itself in tags and meta, in bytes.
pub const MOST_SAID: usize = 64 * 1024;

/// How much tags and meta say, in bytes.
pub fn said<'a>(tags: impl IntoIterator<Item = &'a str>, meta: impl IntoIterator<Item = (&'a str, &'a str)>) -> usize {
    let tags: usize = tags.into_iter().map(|tag| tag.len() + 1).sum();
    tags + meta.into_iter().map(|(key, value)| key.len() + value.len() + 2).sum::<usize>()
}

/// Whether it shows as it is, in one line, and makes no terminal do anything.
pub fn is_printable(text: &str) -> bool {
    !text.contains(plain::acts)
}

/// Consul's rules for meta, from its registration's own checks (1.8 and today's are alike).
pub mod consul {
    /// Pairs of one service.
    pub const MOST_PAIRS: usize = 64;
    /// The longest key, in bytes.
    pub const LONGEST_KEY: usize = 128;
    /// The longest value, in bytes.
    pub const LONGEST_VALUE: usize = 512;
    /// What keys that Consul keeps for itself begin with.
    pub const RESERVED: &str = "consul-";

    /// Whether a key has none but Consul's characters.
    pub fn is_key(key: &str) -> bool {
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    }

    /// Whether a service of this name is found by DNS.
    pub fn is_dns_label(name: &str) -> bool {
        (1..=63).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    }
}
