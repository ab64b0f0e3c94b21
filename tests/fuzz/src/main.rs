//! libFuzzer around one target of the product, named by the environment: all of them are one program, which is linked
//! once.

#![no_main]

mod bounded;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use pilotfish::fuzzing::{TARGETS, Target};

#[global_allocator]
static MEMORY: bounded::Bounded = bounded::Bounded;

fuzz_target!(|data: &[u8]| {
    static TARGET: OnceLock<Target> = OnceLock::new();
    let target = TARGET.get_or_init(named);
    bounded::within(target.memory, || (target.run)(data));
});

fn named() -> Target {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let known = || TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(" ");
    *TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("FUZZ_TARGET is none of: {}", known()))
}
