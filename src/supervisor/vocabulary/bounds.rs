//! How much of one query is taken in, and kept: the same on every store, so that what works on one works on another, and no
//! store takes the container's memory. Over it the follower is told, and keeps what it saw last.

use super::Instance;

/// Instances or keys of one query.
pub const MOST_ITEMS: usize = 20_000;

/// Their words together, in bytes as JSON writes them: names, addresses, tags, meta, keys and values. What is seen is kept
/// once, and up to four times while it changes and `on_change` fails; which gets up to four times as much on its standard
/// input: all that left, of what its last run was told and of what others were that failed, all that came, and all there is.
pub const MOST_BYTES: usize = 16 * 1024 * 1024;

/// There is more than is taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is more than pilotfish takes in ({MOST_ITEMS} instances or keys, {} MiB of JSON together): what was seen before stays",
    MOST_BYTES / 1024 / 1024
)]
pub struct TooMuch;

/// What is left of a query's bound.
#[derive(Debug, Default)]
pub struct Allowance {
    items: usize,
    bytes: usize,
}

impl Allowance {
    /// Takes one more in.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn take(&mut self, bytes: usize) -> Result<(), TooMuch> {
        self.items += 1;
        self.bytes += bytes;
        if self.items > MOST_ITEMS || self.bytes > MOST_BYTES { Err(TooMuch) } else { Ok(()) }
    }

    /// One that was taken in is gone.
    pub fn give(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// What an instance takes of a bound.
pub fn size(instance: &Instance) -> usize {
    let Instance { id, node, name, address, port: _, tags, meta } = instance;
    // The address stands in `host_port` too.
    let own = [id, name, address, address].into_iter().chain(node).chain(tags);
    own.chain(meta.keys()).chain(meta.values()).map(|word| in_json(word)).sum()
}

/// What a text takes of a bound: its JSON, in which a control character has six bytes. An empty one takes room, too.
pub fn in_json(text: &str) -> usize {
    let written = |byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    };
    let quoted = text.bytes().map(written).sum::<usize>() + 2;
    quoted.max(size_of::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_the_number_and_the_bytes_are_bounded() {
        let mut allowance = Allowance::default();
        for _ in 0..MOST_ITEMS {
            allowance.take(1).unwrap();
        }
        assert_eq!(allowance.take(0), Err(TooMuch));
        let mut allowance = Allowance::default();
        allowance.take(MOST_BYTES).unwrap();
        assert_eq!(allowance.take(1), Err(TooMuch));
        allowance.give(1);
        allowance.give(MOST_BYTES);
        allowance.take(MOST_BYTES).unwrap();
    }

    #[test]
    fn what_json_writes_longer_takes_as_much_of_the_bound() {
        let every: String = (1..=u8::MAX).map(char::from).collect();
        for text in [every.repeat(3), "\u{1}".repeat(1000), "\"\\".repeat(1000), "plain ".repeat(1000)] {
            assert_eq!(in_json(&text), serde_json::to_string(&text).unwrap().len(), "{text:?}");
        }
        let instance = |tags: &[&str], meta: &[(&str, &str)]| Instance {
            id: "web-1".to_owned(),
            node: Some("node-1".to_owned()),
            name: "web".to_owned(),
            address: "2001:db8::5".to_owned(),
            port: 65_535,
            tags: tags.iter().copied().map(str::to_owned).collect(),
            meta: meta.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        };
        let fixed = serde_json::to_string(&instance(&[], &[])).unwrap().len();
        let control = "\u{1}".repeat(60_000);
        for instance in [instance(&[""; 60_000], &[]), instance(&[], &[("key", &control)])] {
            let json = serde_json::to_string(&instance).unwrap().len();
            assert!(json <= size(&instance) + fixed, "{json} {}", size(&instance));
        }
        assert!(size(&instance(&[""; 60_000], &[])) >= 60_000 * size_of::<String>());
    }
}
