//! Keys and values that are designed but not in this version: a config that uses them is told so, and not that they
//! are unknown. Whoever builds one takes it off this list.

/// Keys, by the section they stand in (`""` is the top).
const KEYS: &[(&str, &[&str])] = &[("watch", &["at_once"])];

/// Values, by section and key; none at the moment.
const VALUES: &[(&str, &str, &[&str])] = &[];

/// Whether a key comes in a later version.
pub(crate) fn key(section: &str, key: &str) -> bool {
    KEYS.iter().any(|(in_section, keys)| *in_section == section && keys.contains(&key))
}

/// Whether a value of a key comes in a later version.
pub(crate) fn value(section: &str, key: &str, value: &str) -> bool {
    VALUES
        .iter()
        .any(|(in_section, of_key, values)| (*in_section, *of_key) == (section, key) && values.contains(&value))
}
