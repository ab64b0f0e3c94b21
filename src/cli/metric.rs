//! `pilotfish metric`: values that the application or a job measures itself, for the running agent's `/metrics`.

use std::path::{Path, PathBuf};

use super::ask::{encoded, order};

/// Encoded, they fit into the 8 KiB that the agent takes as a request's head, with all else in it.
const LONGEST: usize = 7 * 1024;

/// Has the agent take values: all or none.
pub fn push(socket: Option<PathBuf>, named: Option<&Path>, values: &[String]) -> u8 {
    let query: Vec<String> = values.iter().map(|value| format!("set={}", encoded(value))).collect();
    let query = query.join("&");
    match query.len() {
        ..=LONGEST => order(socket, named, &format!("/metric?{query}")),
        _ => super::ask::fail("that is too much for one order: push it in several"),
    }
}

/// `NAME=VALUE`, as the command line has it.
pub fn value(text: &str) -> Result<String, String> {
    match text.rsplit_once('=') {
        Some((of, value)) if !of.is_empty() && !value.is_empty() => Ok(text.to_owned()),
        Some(_) | None => Err("write NAME=VALUE, or NAME{LABEL=\"...\"}=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_has_a_name_before_it() {
        for good in ["a=1", "a{b=\"c=d\"}=1.5"] {
            assert_eq!(value(good).as_deref(), Ok(good));
        }
        for bad in ["", "a", "=1", "a="] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }
}
