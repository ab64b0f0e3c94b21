//! What backends and probes need of a network: addresses of one's own and of others, ways to them, what is proved on the
//! way, and how long to wait before the next try. It knows no backend and no check.
//!
//! - [`resolver`]: names to addresses without libc. `race`: several ways to one end. [`backoff`]: pauses between tries.
//! - `paced`: connections read a little at a time. `aside`: a thread for those that can't be.
//! - [`tls`]: whom to believe, and what proves us. [`secret`], `storage`, `last_good`: what files hold that may
//!   change, hang, or be of no use for a while.
//! - [`address`]: which of the container's addresses is advertised.

pub mod address;
pub(crate) mod aside;
pub mod backoff;
pub(crate) mod last_good;
pub(crate) mod paced;
pub(crate) mod race;
pub mod resolver;
pub mod secret;
pub(crate) mod storage;
pub mod tls;
