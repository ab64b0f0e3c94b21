//! Rules broken on purpose, by name, for the laboratory's negative controls: a test that never fails proves nothing, so
//! the nemesis must show two leaders where the guard is off or a lease is counted wrongly. Only a build with the feature
//! `misrule` can break any; everywhere else each question here is a constant "no", and a release has no such feature.
//!
//! `PILOTFISH_MISRULE` holds the names, separated by commas: `guard` (it never strikes), `wedge` (see [`wedge`]).

/// Whether this rule is to be broken.
#[cfg(feature = "misrule")]
pub fn misrule(name: &str) -> bool {
    std::env::var("PILOTFISH_MISRULE").is_ok_and(|names| names.split(',').any(|broken| broken.trim() == name))
}

/// Whether this rule is to be broken: never.
#[cfg(not(feature = "misrule"))]
pub const fn misrule(_name: &str) -> bool {
    false
}

/// With the misrule `wedge`: once the file named by `PILOTFISH_WEDGE_FILE` is there, the caller never comes back, as a
/// loop that spins by a fault would not.
pub fn wedge() {
    let file = || std::env::var_os("PILOTFISH_WEDGE_FILE");
    if misrule("wedge") && file().is_some_and(|file| std::fs::exists(file).unwrap_or(false)) {
        loop {
            std::hint::spin_loop();
        }
    }
}
