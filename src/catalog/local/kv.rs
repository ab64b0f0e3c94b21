//! Keys and values as files: one directory, a file a key, replaced whole.

use crate::catalog::Changed;
use crate::catalog::border::LeftOut;
use crate::catalog::bounds::{self, Allowance};
use crate::supervisor::vocabulary::KeyChange;

use super::Error;
use super::budget::ScanBudget;
use super::files::{self, Folder, LARGEST};
use super::name::{escape, unescape};
use super::root::Opened;

/// A key's value.
pub(super) fn get(root: &Opened, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let file = escape("key", key)?;
    let Some(keys) = root.keys()? else { return Ok(None) };
    let Some(open) = keys.file(&file)? else { return Ok(None) };
    files::bytes(&open, keys.path_of(&file)).map(Some)
}

/// The same, of a key that is followed.
pub(super) fn text(root: &Opened, key: &str) -> Result<Option<String>, Error> {
    let file = escape("key", key)?;
    match root.keys()? {
        Some(keys) => value(&keys, &file, key),
        None => Ok(None),
    }
}

/// Every key that starts with a prefix, with its value, sorted by key. What isn't text is left out.
pub(super) async fn below(root: &Opened, prefix: &str, left_out: &mut LeftOut) -> Result<Vec<(String, String)>, Error> {
    let Some(keys) = root.keys()? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    let (mut allowance, mut budget) = (Allowance::default(), ScanBudget::default());
    // Other keys are none of this query's: they take from nothing but the number that is read at most.
    let key_of = |file: &str| unescape(file).filter(|key| key.starts_with(prefix));
    for file in keys.names_of(|file| key_of(file).is_some())? {
        budget.next().await;
        let Some(key) = key_of(&file) else { continue };
        let value = match value(&keys, &file, &key) {
            Ok(Some(value)) => value,
            // One that is gone by now is no key.
            Ok(None) => continue,
            Err(error) => match error.is_the_values() {
                Some(flaw) => {
                    left_out.say(&key, &flaw);
                    continue;
                }
                None => return Err(error),
            },
        };
        let taken = bounds::in_json(&key) + bounds::in_json(&value);
        allowance.take(taken).map_err(Error::TooMuchToFollow)?;
        found.push((key, value));
    }
    found.sort();
    Ok(found)
}

/// Writes a key. It is on the disk when this returns: a key, unlike an instance, outlives the host's reboot.
pub(super) fn change(root: &Opened, key: &str, change: &KeyChange) -> Result<Changed, Error> {
    let name = escape("key", key)?;
    let (KeyChange::Put(value) | KeyChange::Create(value)) = change else {
        if let Some(keys) = root.keys()? {
            keys.remove(&name)?;
        }
        return Ok(Changed::Done);
    };
    if value.0.len() as u64 > LARGEST {
        let what = format!("the value of key {key:?}");
        return Err(Error::TooMuch { what, limit: format!("{LARGEST} bytes") });
    }
    let (keys, scratch) = (root.make_keys()?, root.scratch()?);
    let staged = scratch.stage(&value.0, files::readable())?;
    files::sync(&staged.file, &keys.path_of(&name))?;
    let placed = match change {
        KeyChange::Create(_) => scratch.put_new(staged, &keys, &name)?,
        KeyChange::Put(_) | KeyChange::Delete => Some(scratch.put_over(staged, &keys, &name)?),
    };
    if placed.is_none() {
        return Ok(Changed::Exists);
    }
    keys.sync()?;
    Ok(Changed::Done)
}

fn value(keys: &Folder, file: &str, key: &str) -> Result<Option<String>, Error> {
    let Some(open) = keys.file(file)? else { return Ok(None) };
    match files::text(&open, keys.path_of(file))? {
        Some(value) => Ok(Some(value)),
        None => Err(Error::NotText { key: key.to_owned() }),
    }
}
