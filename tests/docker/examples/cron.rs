//! config-examples/cron: of three containers one runs the job.

use std::collections::BTreeMap;

use super::SOON;
use crate::support::compose::{Project, docker, within};

/// What the job wrote: the term and the container of each run, in order.
fn journal(project: &Project) -> Vec<(u64, String)> {
    let someone = project.container("job").lines().find_map(|container| {
        let journal = docker(&["exec", container, "cat", "/shared/journal"]);
        (!journal.is_empty()).then_some(journal)
    });
    let line = |line: &str| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.to_owned()))
    };
    someone.unwrap_or_default().lines().filter_map(line).collect()
}

/// Who has run the job twice since it was run so many times.
fn runs_it_after(project: &Project, runs: usize) -> String {
    within(project, SOON, "the job is run", || match &journal(project)[..].get(runs..)? {
        [.., (one, _), (two, container)] if one == two => Some(container.clone()),
        _ => None,
    })
}

#[test]
#[ignore = "needs a Docker engine: make e2e runs it"]
fn a_job_is_run_by_one_container_and_by_another_when_that_one_is_killed_or_stopped() {
    let project = Project::up("cron", None);
    let first = runs_it_after(&project, 0);
    docker(&["kill", &first]);
    let second = runs_it_after(&project, journal(&project).len());
    assert_ne!(second, first, "it is dead");
    docker(&["stop", &second]);
    let third = runs_it_after(&project, journal(&project).len());
    assert!(third != first && third != second, "both have ended");

    let mut newest = 0;
    let mut of: BTreeMap<u64, String> = BTreeMap::new();
    for (term, container) in journal(&project) {
        assert!(term >= newest, "the job of an old leader ran beside a new one's");
        newest = term;
        assert_eq!(of.entry(term).or_insert_with(|| container.clone()), &container, "two led in term {term}");
    }
    assert_eq!(of.into_values().collect::<Vec<_>>(), [first, second, third]);
}
