//! What starts a job, or makes it wait, and has no counterpart, is told of.

use super::*;

/// A file of version 3 with main, a watched service and further jobs.
pub(super) fn beside_main(jobs: &str) -> Imported {
    let main = "{ name: 'app', port: 80, exec: '/bin/app', restarts: 'unlimited',\n\
                health: { exec: '/bin/true', interval: 1, ttl: 5 } }";
    jobs_of(&format!("{main},\n{jobs}"))
}

pub(super) fn jobs_of(jobs: &str) -> Imported {
    imported(&format!("{{ consul: 'c', jobs: [\n{jobs} ],\nwatches: [ {{ name: 'db', interval: 5 }} ] }}"))
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
fn main_waits_for_instances_and_for_what_their_first_change_runs() {
    for once in ["each", "once"] {
        let imported = app_after(&format!("source: 'watch.db', {once}: 'changed'"));
        for part in [
            "[[wait_for]]\nservice = \"db\"",
            "pre_start = { exec = [\"/bin/pre\"]",
            "on_change = { exec = [\"/bin/pre\"]",
        ] {
            assert!(imported.toml.contains(part), "{part}:\n{}", imported.toml);
        }
        assert!(!imported.is_lossy(), "{:#?}", imported.notes);
    }
}

#[test]
fn a_wait_for_the_end_of_what_is_no_process_is_told_of() {
    for pre in ["interval: '10s'", "source: 'agent', once: 'unhealthy'", "source: 'agent', once: 'stopped'"] {
        let imported = app_after(pre);
        let (what, lost) = said(&imported, "jobs[app].when");
        assert!(lost && what.contains("`pre`") && what.contains("starts without it"), "{pre}: {what}");
    }
}

#[test]
fn what_each_healthy_change_of_a_service_ran_runs_at_each_change() {
    let imported = beside_main("{ name: 'again', exec: '/bin/again', when: { source: 'watch.db', each: 'healthy' } }");
    assert!(imported.toml.contains("[[watch]]") && !imported.toml.contains("[[coprocess]]"), "{}", imported.toml);
    assert!(said(&imported, "jobs[again].when").1);
}

#[test]
fn a_coprocess_that_waited_for_a_service_says_that_it_does_so_no_longer() {
    let imported = beside_main("{ name: 'late', exec: '/bin/late', when: { source: 'watch.db', once: 'healthy' } }");
    let (what, lost) = said(&imported, "jobs[late].when");
    assert!(lost && what.contains("`watch.db`"), "{what}");
    assert_eq!(said(&imported, "watches[db]").0, "nothing runs on it or waits for it here; left out");
}

#[test]
fn an_alert_restarts_nothing() {
    let when = "when: { source: 'app', each: 'unhealthy' } }";
    let imported = beside_main(&format!("{{ name: 'alert', exec: '/bin/alert.sh', {when}"));
    assert!(!imported.toml.contains("on_failure"), "{}", imported.toml);
    assert!(said(&imported, "jobs[alert].when").1);
    let imported = beside_main(&format!("{{ name: 'again', exec: 'pkill app', {when}"));
    assert!(imported.toml.contains("on_failure = \"restart\""), "{}", imported.toml);
    assert!(!said(&imported, "jobs[again]").1);
}

#[test]
fn a_limit_that_nothing_keeps_to_is_told_of() {
    let side = a_job("side", "restarts: 'unlimited', when: { source: 'watch.db', once: 'healthy', timeout: '10s' }");
    assert!(said(&beside_main(&side), "jobs[side].when.timeout").1);
    let agent = "{ name: 'agent', exec: '/bin/agent', health: { exec: '/bin/true', interval: 1, ttl: 5 } }";
    let when = "when: { source: 'agent', once: 'healthy', timeout: '10s' }";
    let imported = jobs_of(&format!("{agent},\n{{ name: 'app', port: 80, exec: '/bin/app', {when} }}"));
    assert!(imported.toml.contains("timeout = \"10s\"") && !imported.is_lossy(), "{}", imported.toml);
}

#[test]
fn what_ran_at_each_healthy_check_says_that_it_runs_once() {
    let imported = beside_main("{ name: 'first', exec: '/bin/first', when: { source: 'app', each: 'healthy' } }");
    assert!(imported.toml.contains("post_start = { exec = [\"/bin/first\"]"), "{}", imported.toml);
    assert!(said(&imported, "jobs[first].when").1);
}

#[test]
fn a_coprocesss_stopping_hook_is_late_and_says_so() {
    let side = "{ name: 'side', exec: '/bin/side', restarts: 'unlimited' }";
    let hook = "{ name: 'bye', exec: '/bin/bye', when: { source: 'side', once: 'stopping' } }";
    let imported = beside_main(&format!("{side},\n{hook}"));
    assert!(imported.toml.contains("post_stop") && said(&imported, "jobs[bye]").1, "{}", imported.toml);
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

pub(super) fn a_job(name: &str, more: &str) -> String {
    format!("{{ name: '{name}', exec: '/bin/{name}', {more} }}")
}

pub(super) const CHECK: &str = "health: { exec: '/bin/true', interval: 1, ttl: 5 }";
pub(super) const AFTER_PRE: &str = "when: { source: 'pre', once: 'exitSuccess' }";

/// The table of a name, as it is written.
fn table<'t>(toml: &'t str, name: &str) -> &'t str {
    let (_, table) =
        toml.split_once(&format!("[[coprocess]]\nname = \"{name}\"\n")).unwrap_or_else(|| panic!("no {name}:\n{toml}"));
    table.split("\n\n").next().unwrap()
}

#[test]
fn what_several_wait_for_runs_before_the_first_of_them() {
    let app = a_job("app", &format!("port: 80, {CHECK}, {AFTER_PRE}"));
    let pre = a_job("pre", "");
    // An agent starts before main's own hooks.
    let agent = a_job("consul-agent", &format!("restarts: 'unlimited', {CHECK}, {AFTER_PRE}"));
    for order in [[&pre, &agent, &app], [&app, &pre, &agent]] {
        let imported = jobs_of(&order.map(String::as_str).join(",\n"));
        assert!(
            table(&imported.toml, "consul-agent").contains("pre_start = { exec = [\"/bin/pre\"]"),
            "{}",
            imported.toml
        );
        assert_eq!(imported.toml.matches("/bin/pre").count(), 1, "{}", imported.toml);
        assert!(!imported.is_lossy(), "{:#?}", imported.notes);
    }
    // Coprocesses start with main, behind main's.
    let side = |name: &str| a_job(name, &format!("restarts: 'unlimited', {AFTER_PRE}"));
    let imported = beside_main(&[pre, side("b"), side("c")].join(",\n"));
    assert!(imported.toml.contains("[hooks]") && imported.toml.matches("/bin/pre").count() == 1, "{}", imported.toml);
    assert!(!table(&imported.toml, "b").contains("pre_start") && !table(&imported.toml, "c").contains("pre_start"));
}

#[test]
fn who_is_known_by_a_port_is_main_though_another_comes_after_it() {
    let app = a_job("app", &format!("port: 80, {CHECK}"));
    let imported = jobs_of(&format!("{app},\n{}", a_job("after", "when: { source: 'app', once: 'exitSuccess' }")));
    for part in ["[process]\nexec = [\"/bin/app\"]", "post_stop = { exec = [\"/bin/after\"]", "[[service]]"] {
        assert!(imported.toml.contains(part), "{part}:\n{}", imported.toml);
    }
}

#[test]
fn a_one_shot_is_not_main_beside_what_never_ends() {
    let imported = jobs_of(
        "{ name: 'pre', exec: '/bin/pre' },\n{ name: 'etcd', port: 2379, health: { exec: '/bin/true', interval: 1, ttl: 5 } },\n\
         { name: 'next', exec: '/bin/next', when: { source: 'pre', once: 'exitSuccess' } }",
    );
    // The one that comes after it may be what stays.
    assert!(imported.toml.contains("[process]\nexec = [\"/bin/next\"]"), "{}", imported.toml);
    assert!(said(&imported, "jobs[next]").0.contains("outlived"));
    let when = "when: { source: 'pre', once: 'exitSuccess' }";
    let imported =
        jobs_of(&format!("{{ name: 'pre', exec: '/bin/pre' }},\n{{ name: 'etcd', port: 2379, {when}, {CHECK} }}"));
    assert!(imported.toml.contains("exec = [\"sleep\", \"infinity\"]"), "{}", imported.toml);
    assert!(imported.toml.contains("pre_start = { exec = [\"/bin/pre\"]"), "{}", imported.toml);
}

#[test]
fn what_a_hook_or_a_coprocess_has_no_counterpart_for_is_told_of() {
    let pre = a_job("pre", &format!("port: 81, {CHECK}, restarts: 'unlimited'"));
    let app = a_job("app", &format!("port: 80, {CHECK}, restarts: 'unlimited', {AFTER_PRE}"));
    let imported = jobs_of(&format!("{pre},\n{app}"));
    assert!(said(&imported, "jobs[pre].port").1 && said(&imported, "jobs[pre].restarts").1);
    let imported = beside_main(&a_job("side", "timeout: '5s', restarts: 'unlimited'"));
    let (what, lost) = said(&imported, "jobs[side].timeout");
    assert!(lost && what.contains("5s"), "{what}");
    let a = a_job("a", "restarts: 'unlimited'");
    let imported = beside_main(&format!("{a},\n{}", a_job("b", "when: { source: 'a', each: 'exitSuccess' }")));
    assert!(said(&imported, "jobs[b].when").0.contains("it runs once here") && said(&imported, "jobs[a].restarts").1);
    let bye = a_job("bye", "when: { source: 'app', once: 'stopping' }");
    let imported = beside_main(&bye);
    assert!(said(&imported, "jobs[bye].timeout").0.contains("`[stop] within`") && !imported.is_lossy());
}

#[test]
fn no_command_and_no_key_of_a_job_is_gone_without_a_word() {
    let of = |when: &str, more: &str| beside_main(&a_job("side", &format!("when: {{ {when} }}, {more}")));
    for (when, more, key) in [
        ("interval: '5s'", CHECK, "health"),
        ("interval: '5s'", "port: 81", "port"),
        ("source: 'watch.db', each: 'changed'", "restarts: 3", "restarts"),
        ("source: 'watch.db', each: 'changed'", CHECK, "health"),
        ("source: 'app', once: 'stopping'", "restarts: 3", "restarts"),
    ] {
        assert!(said(&of(when, more), &format!("jobs[side].{key}")).1, "{when} {more}");
    }
    let side = a_job("other", "restarts: 'unlimited'");
    let bye = a_job("bye", &format!("{CHECK}, when: {{ source: 'other', once: 'stopped' }}"));
    assert!(said(&beside_main(&format!("{side},\n{bye}")), "jobs[bye].health").1);
    let a = a_job("a", "when: { source: 'b', once: 'exitSuccess' }");
    let b = a_job("b", "when: { source: 'a', once: 'exitSuccess' }");
    for gone in [format!("{a},\n{b}"), a_job("a", "when: { source: 'a', once: 'exitSuccess' }")] {
        let imported = beside_main(&gone);
        let told = imported.notes.iter().any(|note| note.key.starts_with("jobs[a]") && note.lost);
        assert!(told || imported.toml.contains("\"/bin/a\""), "{}", imported.toml);
    }
}

#[test]
fn a_container_that_ends_with_its_failed_setup_still_does() {
    let pre = a_job("pre", "");
    let app = a_job("app", &format!("port: 80, {CHECK}, {AFTER_PRE}"));
    let on_failure = |exec: &str| {
        jobs_of(&format!(
            "{pre},\n{app},\n{{ name: 'end', exec: {exec}, when: {{ source: 'pre', once: 'exitFailed' }} }}"
        ))
    };
    for exec in ["'kill 1'", "['kill', '-TERM', '1']"] {
        let imported = on_failure(exec);
        assert!(said(&imported, "jobs[end].when").0.contains("ends the container here") && !imported.is_lossy());
    }
    assert!(on_failure("'/bin/alert'").is_lossy());
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
