//! Files that are made from the source, and whether they are current. `make reference` writes them anew.

mod emitted;
mod plots;
mod records;
mod samples;

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::schema;
use crate::supervisor::tests::picture::picture;

/// A file of the repository.
fn of_the_repository(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Compares a file with what it should be, or writes it when `PILOTFISH_UPDATE` is set.
fn is_current(file: &Path, text: &str) {
    if std::env::var_os("PILOTFISH_UPDATE").is_some() {
        fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    let found = fs::read_to_string(file).unwrap_or_default();
    assert!(found == text, "{} isn't current: run `make reference`", file.display());
}

#[test]
fn the_reference_is_current() {
    is_current(&of_the_repository("config-examples/reference.toml"), &schema::toml());
}

#[test]
fn the_schema_for_editors_is_current() {
    is_current(&of_the_repository("pilotfish.schema.json"), &schema::json());
}

#[test]
fn the_book_of_keys_is_current() {
    is_current(&of_the_repository("docs/configuration.md"), &schema::markdown());
}

#[test]
fn the_reference_of_what_is_emitted_is_current() {
    is_current(&of_the_repository("docs/emitted.md"), &emitted::markdown());
}

#[test]
fn the_schema_of_the_status_is_current() {
    is_current(&of_the_repository("docs/status.schema.json"), &emitted::status_schema());
}

#[test]
fn the_picture_of_a_containers_life_is_current() {
    is_current(&of_the_repository("docs/life.svg"), &picture());
}

#[test]
fn the_plots_of_what_was_measured_are_current() {
    let figures = of_the_repository("tests/bench/growth.csv");
    let figures = fs::read_to_string(&figures).unwrap_or_else(|error| panic!("{}: {error}", figures.display()));
    for (axis, ..) in plots::AXES {
        is_current(&of_the_repository(&format!("docs/growth-{axis}.svg")), &plots::plot(&figures, axis));
    }
}
