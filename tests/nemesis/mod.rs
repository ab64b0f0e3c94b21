//! Whether two ever lead at once when everything fails that can: the real program in containers of their own, on hosts
//! of their own, and a nemesis that cuts, kills, stops and restarts at random.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

pub mod judge;
pub mod register;
