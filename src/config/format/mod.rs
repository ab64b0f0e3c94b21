//! Values that are written as text but mean more: each says what it is called in the schema, how it is read, and what
//! to write instead when it can't be. It knows nothing of where in a file the text stands.

mod backends;
mod network;
mod paths;
mod process;
mod time;

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::backends::{ConsulAddress, Endpoint};
use super::{AddressSpec, Backoff, Cron, Listen, Required, Signal};

pub(crate) use backends::is_consul_address;
pub(crate) use network::{ElectionName, GrpcUrl, HostPort, HttpUrl, Name};
pub(crate) use paths::{FilePath, SocketPath};
pub use process::user;
pub(crate) use process::{FileMode, Limit, LimitValue, Rewrite, Umask, User};

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

    /// Of this text, in one line, for a command line.
    pub(crate) fn of(&self, text: &str) -> String {
        let hint = self.hint.as_ref().map(|hint| format!("; {}", hint.replace(['"', '`'], ""))).unwrap_or_default();
        format!("`{text}` {}{hint}", self.what)
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
pub(crate) struct FormatCheck {
    /// What is expected, for people.
    pub(crate) what: &'static str,
    /// What is wrong with a text, if anything is.
    pub(crate) check: fn(&str) -> Result<(), Wrong>,
}

/// The judge of a `format` of the schema.
pub(crate) fn check(format: &str) -> Option<FormatCheck> {
    fn of<T: Format>() -> FormatCheck {
        FormatCheck { what: T::WHAT, check: |text| T::read(text).map(drop) }
    }
    Some(match format {
        Duration::NAME => of::<Duration>(),
        Backoff::NAME => of::<Backoff>(),
        Required::NAME => of::<Required>(),
        Cron::NAME => of::<Cron>(),
        FileMode::NAME => of::<FileMode>(),
        Signal::NAME => of::<Signal>(),
        Rewrite::NAME => of::<Rewrite>(),
        AddressSpec::NAME => of::<AddressSpec>(),
        SocketAddr::NAME => of::<SocketAddr>(),
        Listen::NAME => of::<Listen>(),
        FilePath::NAME => of::<FilePath>(),
        SocketPath::NAME => of::<SocketPath>(),
        Umask::NAME => of::<Umask>(),
        User::NAME => of::<User>(),
        HttpUrl::NAME => of::<HttpUrl>(),
        GrpcUrl::NAME => of::<GrpcUrl>(),
        HostPort::NAME => of::<HostPort>(),
        Limit::NAME => of::<Limit>(),
        Name::NAME => of::<Name>(),
        ElectionName::NAME => of::<ElectionName>(),
        ConsulAddress::NAME => of::<ConsulAddress>(),
        Endpoint::NAME => of::<Endpoint>(),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that good texts are read and written back, and bad ones refused.
    pub(super) fn reads<T: Format>(good: &[&str], bad: &[&str]) {
        for text in good {
            let value = T::read(text).unwrap_or_else(|wrong| panic!("{text}: {}", wrong.what));
            assert_eq!(value.write(), *text);
        }
        for text in bad {
            assert!(T::read(text).is_err(), "{text} was taken for {}", T::WHAT);
        }
    }
}
