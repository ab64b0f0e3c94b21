//! Has the linker lay functions that are used together beside each other: `packaging/functions.order` lists those that a
//! plain init runs, then those of an agent at work and of a candidate (`make order` records it). The kernel maps files in
//! blocks of 64 KiB, so what is scattered over 7 MB of code costs thirty faults and 2 MB where half a megabyte is used.
//!
//! Only where the linker is known to be LLD, which takes such a list: the one that rustc brings and uses by itself on this
//! target. A name in the list that no function has is passed over.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=packaging/functions.order");
    for variable in LINKERS {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    println!("cargo::rerun-if-env-changed={KEEPS_NAMES}");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    if variable("PROFILE") != "release" {
        return;
    }
    if variable(KEEPS_NAMES).is_empty() {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
    if links_with_lld(variable) {
        let list = Path::new(&variable("CARGO_MANIFEST_DIR")).join("packaging/functions.order");
        println!("cargo::rustc-link-arg-bins=-Wl,--symbol-ordering-file={}", list.display());
        println!("cargo::rustc-link-arg-bins=-Wl,--no-warn-symbol-ordering");
    }
}

/// Set, functions keep their names in the binary, so that what runs can be recorded.
const KEEPS_NAMES: &str = "PILOTFISH_KEEP_NAMES";

/// Who says which linker is used, in place of rustc.
const LINKERS: [&str; 2] = ["RUSTC_LINKER", "CARGO_ENCODED_RUSTFLAGS"];

/// Since 1.90, on this target alone, and where the toolchain has it: a distribution's may come without.
fn links_with_lld(variable: impl Fn(&str) -> String) -> bool {
    let is_told_otherwise = LINKERS.iter().any(|name| {
        let told = variable(name);
        if *name == "RUSTC_LINKER" { !told.is_empty() } else { told.contains("linker") || told.contains("fuse-ld") }
    });
    let (target, rustc) = (variable("TARGET"), variable("RUSTC"));
    target == "x86_64-unknown-linux-gnu"
        && !is_told_otherwise
        && minor_version(&rustc) >= 90
        && has_lld(&rustc, &target)
}

fn has_lld(rustc: &str, target: &str) -> bool {
    let sysroot = ask(rustc, &["--print", "sysroot"]);
    Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("bin/gcc-ld/ld.lld").exists()
}

/// That of rustc; 0 when it can't be known.
fn minor_version(rustc: &str) -> u32 {
    let version = ask(rustc, &["--version"]);
    version.strip_prefix("rustc 1.").and_then(|rest| rest.split('.').next()?.parse().ok()).unwrap_or(0)
}

/// What rustc answers; nothing where it can't be asked, which is as if it were too old.
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "no agent is here whose children it would take")]
fn ask(rustc: &str, arguments: &[&str]) -> String {
    let output = std::process::Command::new(rustc).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
