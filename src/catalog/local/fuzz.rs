//! What the fuzz targets throw at `local`: files that anybody may have put there.

use crate::catalog::border::RawInstance;
use crate::catalog::border::assert_within;

use super::entries::EntryFile;
use super::name::{escape, unescape};

/// An instance's file, and a name of one.
pub(in crate::catalog) fn file(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = unescape(text) {
        assert_eq!(escape("name", &name).ok().as_deref(), Some(text));
    }
    if let Ok(file) = escape("name", text) {
        assert!(!file.contains('/') && !file.starts_with('.') && unescape(&file).as_deref() == Some(text), "{file:?}");
    }
    let Ok(entry) = serde_json::from_str::<EntryFile>(text) else { return };
    let written = serde_json::to_string(&entry).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<EntryFile>(&written).ok().as_ref(), Some(&entry));
    match RawInstance::from(entry.instance).instance() {
        Ok(instance) => assert_within(&instance),
        Err(flaw) => assert!(crate::config::words::is_printable(&flaw.to_string()), "{flaw}"),
    }
}
