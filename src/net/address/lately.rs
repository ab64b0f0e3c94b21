//! What led out of here a moment ago and is gone. A network manager that starts again, or a lease that ran out, takes a
//! host's address away for a while; what is left then isn't where others are.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::network::Address;
use super::{anywhere, has_way_out, is};
use crate::config::Family;

/// How long it is waited for. After that it isn't coming back: a container may have been moved to a network that leads
/// nowhere.
const WAITED_FOR: Duration = Duration::from_secs(300);

/// Of each family the address that was last seen to lead out, and when.
#[derive(Debug)]
pub struct WaysOut([Option<(Address, Instant)>; 2]);

impl WaysOut {
    /// Nothing was seen yet.
    pub const fn new() -> WaysOut {
        WaysOut([None, None])
    }

    /// Notes what leads out now; of the families of which nothing does, what did lately and isn't there any more.
    pub fn note(&mut self, all: &[Address], now: Instant) -> Vec<Address> {
        let mut gone = Vec::new();
        for (family, last) in [Family::V4, Family::V6].into_iter().zip(&mut self.0) {
            let out = all.iter().filter(|a| is(a.address, family) && has_way_out(a)).min_by_key(|a| anywhere(a, all));
            if let Some(out) = out {
                *last = Some((out.clone(), now));
            } else if let Some((was, at)) = last
                && now.saturating_duration_since(*at) < WAITED_FOR
                && !is_there(was.address, all)
            {
                gone.push(was.clone());
            }
        }
        gone
    }
}

fn is_there(address: IpAddr, all: &[Address]) -> bool {
    all.iter().any(|a| a.address == address)
}
