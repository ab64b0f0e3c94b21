//! What the fuzz targets throw bytes at (tests/fuzz): each takes what somebody else may have written or sent, and panics
//! where a promise is broken. Nothing of it is in a release; `cargo test` plays every input that is kept once more.

use std::path::Path;

use crate::catalog::fuzz as catalog;
use crate::config::template::render_file;
use crate::config::{Config, Context};
use crate::supervisor::{Event, Supervisor, Time};
use crate::{endpoints, import, net, plain, probe, process, supervisor};

/// One target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As `make fuzz TARGET=` names it, and its directory of inputs.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// As many bytes may be allocated at one time for one input.
    pub memory: usize,
}

const MIB: usize = 1 << 20;

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config, memory: 64 * MIB },
    Target { name: "consul", run: catalog::consul, memory: 16 * MIB },
    Target { name: "core", run: supervisor::fuzz::core, memory: 64 * MIB },
    Target { name: "dns", run: net::resolver::fuzz::answer, memory: 16 * MIB },
    Target { name: "etcd", run: catalog::etcd, memory: 16 * MIB },
    Target { name: "http", run: endpoints::fuzz::request, memory: 16 * MIB },
    Target { name: "import", run: import::fuzz::file, memory: 256 * MIB },
    Target { name: "notify", run: process::fuzz::notify, memory: 16 * MIB },
    Target { name: "probe", run: probe::fuzz::answer, memory: 16 * MIB },
    Target { name: "proc", run: process::fuzz::proc, memory: 16 * MIB },
    Target { name: "records", run: catalog::records, memory: 16 * MIB },
    Target { name: "template", run: template, memory: 256 * MIB },
];

/// A config file: it is a config, with which a container can begin, or a report that can be read.
fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let variables = [("PORT", "8080"), ("EMPTY", ""), ("WORD", "a \"b\" {{ c }}")].into_iter().collect();
    let context = Context { variables, hostname: "web1".to_owned() };
    match Config::from_text(text, Path::new("pilotfish"), None, &context) {
        Ok(loaded) => {
            let mut core = Supervisor::new(loaded.config, 1);
            assert!(!core.handle(Time::default(), Event::Started).is_empty(), "nothing is done at the start");
        }
        Err(report) => {
            assert!((1..=100).contains(&report.mistakes().len()), "{} mistakes", report.mistakes().len());
            let shown = report.to_string();
            assert!(!shown.contains(|c| plain::acts(c) && c != '\n'), "a report that steers a terminal: {shown:?}");
        }
    }
}

/// A template and, behind a NUL byte, what a key holds that it shows.
fn template(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == 0);
    let [Some(source), value] = [parts.next(), parts.next()].map(|part| part.map(String::from_utf8_lossy)) else {
        return;
    };
    let instance = |port: u16| {
        serde_json::json!({
            "id": format!("web-{port}"), "name": "web", "address": "::1", "port": port,
            "host_port": format!("[::1]:{port}"), "tags": ["a", "b c"], "meta": {"weight": "3"},
        })
    };
    let value = value.unwrap_or_default();
    let context = serde_json::json!({
        "watch": "app", "instances": [instance(80), instance(81)], "value": value, "keys": {"app/a": "1", "app/b": value},
    });
    let variables = [("PORT", "80"), ("HOSTS", "a,b,c")].into_iter().collect();
    if let Err(error) = render_file(&source, "t.j2", context, &variables) {
        assert!(!error.to_string().is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_input_that_is_kept_is_survived_once_more() {
        for target in TARGETS {
            let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target.name);
            let entries = fs::read_dir(&kept).unwrap_or_else(|error| panic!("{}: {error}", kept.display()));
            let files: Vec<_> = entries.map(|entry| entry.expect("a directory's entry").path()).collect();
            assert!(!files.is_empty(), "{} has nothing to begin with", target.name);
            for file in files {
                println!("{}", file.display());
                (target.run)(&fs::read(&file).expect("a file that can be read"));
            }
        }
    }

    #[test]
    fn what_is_fuzzed_is_what_is_shipped() {
        let versions = |file: &str| {
            let lock = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a lock file");
            let packages = lock.split("[[package]]").skip(1);
            packages.map(|package| package.lines().skip(1).take(2).collect::<String>()).collect::<Vec<_>>()
        };
        let (shipped, own) = (versions("Cargo.lock"), ["pilotfish-fuzz", "libfuzzer-sys", "arbitrary", "jobserver"]);
        let strange = versions("tests/fuzz/Cargo.lock").into_iter().filter(|package| {
            !shipped.contains(package) && !own.iter().any(|own| package.contains(&format!("\"{own}\"")))
        });
        assert_eq!(strange.collect::<Vec<_>>(), Vec::<String>::new(), "see tests/fuzz/README.md");
    }

    #[test]
    fn no_directory_of_inputs_is_without_its_target() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for entry in fs::read_dir(corpus).expect("the inputs that are kept") {
            let name = entry.expect("a directory's entry").file_name();
            assert!(TARGETS.iter().any(|target| *target.name == name), "{name:?}");
        }
    }
}
