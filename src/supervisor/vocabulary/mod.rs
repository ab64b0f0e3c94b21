//! The words of the core: what it is told, what it orders, and what both speak of. No decision is made here.

mod answer;
pub mod bounds;
mod change;
mod effect;
mod event;
mod key;
mod notice;
mod observation;
mod reading;
mod run;
mod sentence;
mod service;
mod status;
mod step;
mod time;

pub use answer::{Answer, ReplyId};
pub use change::{Announcement, Change, Item};
pub use effect::{Effect, OuterWord};
pub use event::{Event, HEARD, Notification, Request};
pub use key::{
    ElectionPast, Fence, KeyChange, KeyOperation, KeyRequest, LeaderMark, Value, acting_key, acting_value,
    has_anybody_led, is_elections_own,
};
pub use notice::Notice;
pub use observation::{Follow, Instance, Observation, Rendering, Staged, Text};
pub use reading::{Labels, MOST_PRINTED, Reading, SensorStatus};
pub use run::{ExitStatus, Hope, Job, LastRun, Pid, ProcessId, RunId, Secrets, SpawnError, StartReason, Target};
pub use sentence::foreign_lock;
pub use service::{Advertised, Registration, ServiceStatus};
pub use status::{
    CheckStatus, CoprocessStatus, ElectionStatus, HookCount, LeaderStatus, MainStatus, MaintenanceStatus, Phase,
    RanksStatus, ServiceReport, Status, TaskEnd, TaskStatus, WatchStatus, WitnessStatus,
};
pub use step::Step;
pub use time::{Calendar, Time, earliest};
