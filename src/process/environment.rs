//! A child's environment, entry by entry as the kernel gave it to the agent: byte for byte, in order, with
//! duplicates, malformed entries and empty values, unless an entry is set or removed here. It is never logged.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// The entries of an environment.
#[derive(Clone)]
pub struct Environment(Vec<CString>);

/// The longest entry, in bytes, name and value together: execve(2) takes no longer string (MAX_ARG_STRLEN, with its NUL).
const LONGEST: usize = 128 * 1024 - 1;

/// Why a value can't be a variable's; none of it is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// No environment can hold it.
    #[error("the value of {0} holds a NUL byte")]
    NulByte(String),
    /// The kernel starts nothing with it.
    #[error("the value of {0} is longer than the 128 KiB that the kernel takes")]
    TooLong(String),
}

impl Environment {
    /// The agent's own, as it was given.
    #[allow(unsafe_code)]
    pub fn own() -> Environment {
        unsafe extern "C" {
            static environ: *const *const libc::c_char;
        }
        let mut entries = Vec::new();
        // SAFETY: `environ` is null or a null-terminated list of C strings; nothing in this program ever changes it
        // (.clippy.toml bans set_var), so it can be read at any time.
        unsafe {
            let mut entry = environ;
            while !entry.is_null() && !(*entry).is_null() {
                entries.push(CStr::from_ptr(*entry).to_owned());
                entry = entry.add(1);
            }
        }
        Environment(entries)
    }

    /// Sets a variable: its first entry is replaced and further ones go, or it is added at the end.
    ///
    /// # Errors
    /// The name or value has a NUL byte, or they are too long.
    pub fn set(&mut self, name: &str, value: &[u8]) -> Result<(), BadValue> {
        if name.len() + 1 + value.len() > LONGEST {
            return Err(BadValue::TooLong(name.to_owned()));
        }
        let mut entry = Vec::with_capacity(name.len() + 1 + value.len());
        entry.extend_from_slice(name.as_bytes());
        entry.push(b'=');
        entry.extend_from_slice(value);
        let entry = CString::new(entry).map_err(|_| BadValue::NulByte(name.to_owned()))?;
        match self.position(name) {
            Some(first) => {
                self.0[first] = entry;
                let mut index = 0;
                self.0.retain(|entry| {
                    index += 1;
                    index - 1 <= first || value_of(entry, name).is_none()
                });
            }
            None => self.0.push(entry),
        }
        Ok(())
    }

    /// Sets what the catalog and the core know. What no variable can hold is left out, and told: nobody's words may keep a
    /// command from starting.
    pub fn set_known(&mut self, known: &[(String, String)]) -> Vec<BadValue> {
        known.iter().filter_map(|(name, value)| self.set(name, value.as_bytes()).err()).collect()
    }

    /// Removes every entry of a variable.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|entry| value_of(entry, name).is_none());
    }

    /// The value of a variable, as getenv(3) finds it: its first entry's.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.iter().find_map(|entry| value_of(entry, name)).map(OsStr::from_bytes)
    }

    /// Where the first entry of a variable stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|entry| value_of(entry, name).is_some())
    }

    /// The entries, in order.
    pub fn entries(&self) -> &[CString] {
        &self.0
    }
}

fn value_of<'a>(entry: &'a CStr, name: &str) -> Option<&'a [u8]> {
    entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(entries: &[&[u8]]) -> Environment {
        Environment(entries.iter().map(|entry| CString::new(*entry).unwrap()).collect())
    }

    fn entries(environment: &Environment) -> Vec<&[u8]> {
        environment.entries().iter().map(|entry| entry.to_bytes()).collect()
    }

    #[test]
    fn setting_one_variable_leaves_every_other_entry_as_it_was() {
        let mut env = environment(&[b"A=1", b"junk", b"E=", b"A=2", b"\xff=\xfe", b"AB=3", b"=x", b"A=3"]);
        env.set("A", b"new").unwrap();
        assert_eq!(entries(&env), [&b"A=new"[..], b"junk", b"E=", b"\xff=\xfe", b"AB=3", b"=x"]);
        env.set("B", b"").unwrap();
        assert_eq!(entries(&env).last(), Some(&&b"B="[..]));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let env = environment(&[b"E="]);
        assert_eq!(env.get("E"), Some(OsStr::new("")));
        assert_eq!(env.get("F"), None);
    }

    #[test]
    fn removing_takes_all_entries_of_that_name_only() {
        let mut env = environment(&[b"A=1", b"AA=1", b"A=2", b"A"]);
        env.remove("A");
        assert_eq!(entries(&env), [&b"AA=1"[..], b"A"]);
    }

    #[test]
    fn a_nul_byte_is_refused_without_telling_the_value() {
        let error = environment(&[]).set("SECRET", b"ab\0c").unwrap_err();
        assert_eq!(error.to_string(), "the value of SECRET holds a NUL byte");
    }

    #[test]
    fn what_the_catalog_says_and_no_variable_can_hold_is_left_out_and_told() {
        let mut env = environment(&[b"A=1"]);
        let known = [("B", "a\0b".to_owned()), ("C", "x".repeat(LONGEST)), ("D", "1".to_owned())];
        let left_out = env.set_known(&known.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(left_out, [BadValue::NulByte("B".to_owned()), BadValue::TooLong("C".to_owned())]);
        assert_eq!(entries(&env), [&b"A=1"[..], b"D=1"]);
        env.set("E", "x".repeat(LONGEST - 2).as_bytes()).unwrap();
    }
}
