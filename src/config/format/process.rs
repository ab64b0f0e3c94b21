//! What belongs to a process: signals, users, masks and limits.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::{Format, Wrong};
use crate::config::ids;
use crate::config::signal::{Signal, UnknownSignal};
use crate::config::suggest::nearest;

fn unknown_signal(text: &str, error: UnknownSignal) -> Wrong {
    let upper = text.trim().to_ascii_uppercase();
    let near = nearest(upper.strip_prefix("SIG").unwrap_or(&upper), Signal::all().map(name_of));
    let hint = match near {
        Some(name) => format!("did you mean `\"{name}\"`?"),
        None => "write a name or a number of signal(7): `\"TERM\"`, `\"15\"`, `\"RTMIN+1\"`".to_owned(),
    };
    Wrong { what: format!("isn't a signal: {error}"), hint: Some(hint) }
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
            _ => Err(Wrong::new("isn't a umask", "write up to three octal digits: `\"022\"`")),
        }
    }

    fn write(&self) -> String {
        format!("{:03o}", self.0)
    }
}

/// A file's mode, written in octal. Without the bits that run a program as its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileMode(pub(crate) u32);

impl Format for FileMode {
    const NAME: &'static str = "file-mode";
    const WHAT: &'static str = "a file's mode in octal digits, such as `\"0640\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        match u32::from_str_radix(digits, 8) {
            Ok(mode) if mode <= 0o777 && digits.len() >= 3 && !digits.starts_with('+') => Ok(FileMode(mode)),
            Ok(mode) if mode > 0o777 && mode <= 0o7777 => Err(Wrong::new(
                "would let new content run as its owner, or be sticky",
                "leave the first digit 0: `\"0640\"`",
            )),
            _ => Err(Wrong::new("isn't a file mode", "write three or four octal digits: `\"0640\"`")),
        }
    }

    fn write(&self) -> String {
        format!("{:04o}", self.0)
    }
}

/// Who a process runs as, written as `[process] user` is, for a command line.
///
/// # Errors
/// It isn't a user, in words for people.
pub fn user(text: &str) -> Result<String, String> {
    User::read(text).map(|User(user)| user).map_err(|wrong| wrong.of(text))
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
        if text.split(':').any(|part| ids::number(part) == Some(ids::NOBODYS)) {
            let help = "write another number: the kernel takes this one for \"leave it as it is\"";
            return Err(Wrong::new("isn't a user", help));
        }
        if text.split(':').any(number_gone_wrong) {
            return Err(Wrong::new("isn't a user", "write a uid or gid as digits alone: `\"1000:1000\"`"));
        }
        if sound {
            return Ok(User(text.to_owned()));
        }
        Err(Wrong::new(
            "isn't a user",
            "write a name or a uid, and a group after a colon: `\"mysql\"`, `\"1000:1000\"`",
        ))
    }

    fn write(&self) -> String {
        self.0.clone()
    }
}

/// A sign or leading zeros, and digits: meant as a number, and no name that useradd(8) lets anyone have.
fn number_gone_wrong(part: &str) -> bool {
    let digits = part.trim_start_matches(['+', '-']);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) && ids::number(part).is_none()
}

/// Soft and hard limit of one resource; `None` is unlimited. Written `65536`, `"1024:4096"` or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(pub(crate) Option<u64>, pub(crate) Option<u64>);

impl Format for Limit {
    const NAME: &'static str = "limit";
    const WHAT: &'static str = "a number, `\"unlimited\"`, or soft and hard limit as `\"1024:4096\"`";

    fn read(text: &str) -> Result<Self, Wrong> {
        let wrong =
            || Wrong::new("isn't a limit", "write `65536`, `\"unlimited\"`, or soft and hard as `\"1024:4096\"`");
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
        struct ProcessVisitor;
        impl de::Visitor<'_> for ProcessVisitor {
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
        deserializer.deserialize_any(ProcessVisitor)
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

#[cfg(test)]
mod tests {
    use super::super::tests::reads;
    use super::*;

    #[test]
    fn a_files_mode_is_octal_and_lets_nothing_run_as_its_owner() {
        reads::<FileMode>(&["0640", "0600"], &["", "6", "rw-r--r--", "4755", "0888", "+640"]);
    }

    #[test]
    fn a_user_is_a_name_or_id_and_perhaps_a_group() {
        reads::<User>(&["mysql", "1000", "1000:1000", "a:b"], &["", ":", "a:", ":b", "a:b:c", "a b"]);
        // What would leave root as it is, or might be read otherwise by somebody else.
        reads::<User>(
            &["0:0", "a0", "4294967294"],
            &["4294967295", "a:4294967295", "4294967296", "+5", "-1", "007", "5:05"],
        );
    }

    #[test]
    fn a_limit_is_one_number_or_two() {
        reads::<Limit>(
            &["65536", "unlimited", "1024:4096", "1024:unlimited"],
            &["", "x", "-1", "4096:1024", "unlimited:5", "1:2:3"],
        );
        assert_eq!(Limit::read("").unwrap_err().what, "isn't a limit");
    }

    #[test]
    fn a_umask_is_octal() {
        reads::<Umask>(&["022", "077", "777"], &["", "8", "1000", "-1", "+7", "x"]);
    }

    #[test]
    fn a_misspelt_signal_gets_its_nearest_neighbour() {
        assert_eq!(Signal::read("SIGTREM").unwrap_err().hint.unwrap(), "did you mean `\"TERM\"`?");
        assert_eq!(Signal::read("USR3").unwrap_err().hint.unwrap(), "did you mean `\"USR1\"`?");
    }
}
