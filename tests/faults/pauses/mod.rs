//! What two candidates' mains do when the agent of the leader is stopped, wedged, frozen with all its container, robbed
//! of its guard or killed: the real program, real engines, and the shortest lease they take. The short forms are of a
//! few rounds; `make pauses` runs the long ones and shows how long what took.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

mod figures;
mod freezer;
mod frozen;
mod guardless;
mod killed;
mod pair;
mod play;
mod resource;
mod stopped;
#[cfg(feature = "sabotage")]
mod wedged;
