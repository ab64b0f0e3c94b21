//! Decides. [`Supervisor::handle`] takes what happened and when, and says what is to be done; it contains no clock, no
//! process, no socket, no file and no task, and never learns the time from the operating system.

pub mod event;
pub mod notice;
pub mod status;
pub mod time;

pub use event::{Effect, Event};
pub use notice::Notice;
pub use status::Status;
pub use time::Time;
