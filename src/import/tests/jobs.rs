//! What starts a job, or makes it wait, and has no counterpart, is told of.

use super::*;

/// A file of version 3 with main, a watched service and further jobs.
fn beside_main(jobs: &str) -> Imported {
    let main = "{ name: 'app', port: 80, exec: '/bin/app', restarts: 'unlimited',\n\
                health: { exec: '/bin/true', interval: 1, ttl: 5 } }";
    jobs_of(&format!("{main},\n{jobs}"))
}

fn jobs_of(jobs: &str) -> Imported {
    imported(&format!("{{ consul: 'c', jobs: [\n{jobs} ],\nwatches: [ {{ name: 'db', interval: 5 }} ] }}"))
}

/// What is said of a key, and whether that is lost.
fn said<'i>(imported: &'i Imported, key: &str) -> (&'i str, bool) {
    let note = imported.notes.iter().find(|note| note.key == key);
    let note = note.unwrap_or_else(|| panic!("nothing on {key}: {:#?}", imported.notes));
    (&note.what, note.lost)
}

fn app_after(pre: &str) -> Imported {
    jobs_of(&format!(
        "{{ name: 'pre', exec: '/bin/pre', when: {{ {pre} }} }},\n\
         {{ name: 'agent', exec: '/bin/agent', health: {{ exec: '/bin/true', interval: 1, ttl: 5 }} }},\n\
         {{ name: 'app', port: 80, exec: '/bin/app', restarts: 'unlimited', when: {{ source: 'pre', once: 'exitSuccess' }},\n\
         health: {{ exec: '/bin/true', interval: 1, ttl: 5 }} }}"
    ))
}

#[test]
fn a_job_is_known_by_the_template_of_its_name() {
    for name in ["{{env \"SVC\"}}", "{{ .SVC }}", "{{ .SVC | default \"app\" }}", "{{ .SVC }}-x"] {
        let imported = jobs_of(&format!(
            "{{ name: '{name}', exec: '/bin/app', port: 80, restarts: 'unlimited',\n\
             health: {{ exec: '/bin/true', interval: 1, ttl: 5 }} }},\n\
             {{ name: 'first', exec: '/bin/first', when: {{ source: '{name}', once: 'healthy' }} }}"
        ));
        assert!(imported.toml.contains("post_start = { exec = [\"/bin/first\"]"), "{name}:\n{}", imported.toml);
        assert!(!imported.notes.iter().any(|note| note.what.contains("there is no")), "{:#?}", imported.notes);
    }
    // Two that are empty where nothing is set aren't one.
    let imported = jobs_of(
        "{ name: '{{ .A }}', exec: '/bin/a' },\n{ name: 'b', exec: '/bin/b', when: { source: '{{ .B }}', once: 'healthy' } }",
    );
    assert!(said(&imported, "jobs[b].when").0.contains("there is no `{{ env.B"));
}

fn a_job(name: &str, more: &str) -> String {
    format!("{{ name: '{name}', exec: '/bin/{name}', {more} }}")
}

const CHECK: &str = "health: { exec: '/bin/true', interval: 1, ttl: 5 }";
const AFTER_PRE: &str = "when: { source: 'pre', once: 'exitSuccess' }";

/// The table of a name, as it is written.
fn table<'t>(toml: &'t str, name: &str) -> &'t str {
    let (_, table) =
        toml.split_once(&format!("[[coprocess]]\nname = \"{name}\"\n")).unwrap_or_else(|| panic!("no {name}:\n{toml}"));
    table.split("\n\n").next().unwrap()
}

/// ContainerPilot showed these names in its log alone, and took any.
#[test]
fn coprocesses_and_tasks_get_names_that_pilotfish_takes() {
    let imported = beside_main(
        "{ name: 'my side job', exec: '/bin/a', restarts: 'unlimited' },\n\
         { name: 'my cron: x', exec: '/bin/b', when: { interval: '10s' } },\n\
         { exec: '/usr/bin/nameless', restarts: 'unlimited' },\n\
         { name: 'agent (of {{ .X }})', exec: '/bin/c', restarts: 'unlimited',\n\
         health: { exec: '/bin/true', interval: 1, ttl: 5 } }",
    );
    for name in ["my-side-job", "my-cron--x", "nameless"] {
        assert!(imported.toml.contains(&format!("name = \"{name}\"")), "{name}:\n{}", imported.toml);
    }
    let wrong = mistakes(&imported.toml, &[("HOSTNAME", "h"), ("X", "a host:1")]);
    assert!(wrong.is_empty() && !imported.is_lossy(), "{}\n{}", wrong.join("\n"), imported.toml);
    assert!(said(&imported, "jobs[my side job].name").0.contains("is called `my-side-job` here"));
    let imported = self::imported(
        "{ \"consul\": \"c\", \"services\": [],\n\
         \"coprocesses\": [ { \"name\": \"consul-agent (host:{{ .CONSUL }})\", \"command\": \"consul agent\" } ],\n\
         \"tasks\": [ { \"name\": \".every day\", \"command\": \"/bin/b\", \"frequency\": \"24h\" } ] }",
    );
    let wrong = mistakes(&imported.toml, &[("CONSUL", "consul:8500")]);
    assert!(wrong.is_empty() && !imported.is_lossy(), "{}\n{}", wrong.join("\n"), imported.toml);
    assert!(imported.toml.contains("name = \"-every-day\""), "{}", imported.toml);
}
