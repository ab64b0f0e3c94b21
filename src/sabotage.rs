//! Rules broken on purpose, by name, for the laboratory's negative controls: a test that never fails proves nothing, so
//! the nemesis must show two leaders where the guard is off or a lease is counted wrongly. Only a build with the feature
//! `sabotage` can break any; everywhere else each question here is a constant "no", and a release has no such feature.
//!
//! `PILOTFISH_SABOTAGE` holds the names, separated by commas: `guard` (it never strikes), `heartbeat` (nobody sees that it
//! is stopped, nor resumes it), `leftovers` (what a hook left is taken for gone), `ttl` and `check-index` (a lease is
//! counted by its session's time, an acquire names nothing), `hold-off` (Consul is taken to have waited for it), `freeze`
//! (see [`freeze`]).

/// Whether this rule is to be broken.
#[cfg(feature = "sabotage")]
pub fn is_on(name: &str) -> bool {
    std::env::var("PILOTFISH_SABOTAGE").is_ok_and(|names| names.split(',').any(|broken| broken.trim() == name))
}

/// Whether this rule is to be broken: never.
#[cfg(not(feature = "sabotage"))]
pub const fn is_on(_name: &str) -> bool {
    false
}

/// With the sabotage `freeze`: once the file named by `PILOTFISH_FREEZE_FILE` is there, the caller never comes back, as a
/// loop that spins by a fault would not.
pub fn freeze() {
    let file = || std::env::var_os("PILOTFISH_FREEZE_FILE");
    if is_on("freeze") && file().is_some_and(|file| std::fs::exists(file).unwrap_or(false)) {
        loop {
            std::hint::spin_loop();
        }
    }
}
