//! Whole configs: good ones, every kind of mistake with the report it gets, and noise.

mod backends;
mod bad;
mod coprocess;
mod election;
mod good;
mod noise;
mod pages;
mod sensors;
mod tasks;

use std::path::Path;

use super::{Config, Context, Loaded, Report};

fn context() -> Context {
    let variables = [
        ("PORT", "8080"),
        ("WORD", "abc"),
        ("EMPTY", ""),
        ("DSN", "a=b c"),
        ("YES", "true"),
        ("TEN", "10"),
        ("NODE", "disk-1"),
    ];
    Context { variables: variables.into_iter().collect(), hostname: "web1".to_owned() }
}

fn load(text: &str, file: &str) -> Result<Loaded, Report> {
    Config::from_text(text, Path::new(file), None, &context())
}

fn good(text: &str) -> Config {
    match load(text, "t.toml") {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
            loaded.config
        }
        Err(report) => panic!("{report}"),
    }
}

/// The report on a bad config, as `check` prints it.
fn bad(text: &str, file: &str) -> String {
    match load(text, file) {
        Ok(loaded) => panic!("no mistake was found: {loaded:?}"),
        Err(report) => report.to_string(),
    }
}
