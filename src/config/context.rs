//! What a config may refer to beyond its own text: environment variables and the host's name. They are handed in, so
//! that reading a config depends on nothing but its arguments; only [`Context::of_this_process`] looks around.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

/// Environment variables, byte-exact; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(Arc<BTreeMap<OsString, OsString>>);

impl Variables {
    /// The value of a variable; an empty one is a value too.
    pub fn get(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.0.get(name.as_ref()).map(OsString::as_os_str)
    }

    /// Every name, in order.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.0.keys().map(OsString::as_os_str)
    }
}

impl Variables {
    /// The same without these.
    pub fn without(&self, names: &[&str]) -> Variables {
        let kept = self.0.iter().filter(|(name, _)| !names.iter().any(|without| name.as_os_str() == *without));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Variables {
        Variables(Arc::new(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()))
    }
}

/// What a config may refer to beyond its own text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// What `{{ env.NAME }}` sees.
    pub variables: Variables,
    /// The host's name, part of default service ids; empty when it has none.
    pub hostname: String,
}

impl Context {
    /// This process's environment and host name.
    pub fn of_this_process() -> Context {
        Context {
            variables: std::env::vars_os().collect(),
            hostname: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }
}
