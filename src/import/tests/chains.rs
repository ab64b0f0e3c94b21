//! What comes after what, and what ends with what.

use super::jobs::{AFTER_PRE, CHECK, a_job, beside_main, jobs_of};
use super::*;

const AGENT: &str = "{ name: 'consul-agent', exec: 'consul agent', restarts: 'unlimited', \
                     health: { exec: '/bin/true', interval: 1, ttl: 5 } }";

#[test]
fn what_waits_for_a_one_shot_to_stop_comes_after_it() {
    let db = "port: 80, restarts: 'unlimited', when: { source: 'pre', once: 'stopped' }";
    let imported = jobs_of(&format!("{},\n{},\n{AGENT}", a_job("pre", ""), a_job("db", &format!("{db}, {CHECK}"))));
    for part in ["\nexec = [\"/bin/db\"]\nrestart", "[hooks]", "pre_start = { exec = [\"/bin/pre\"]"] {
        assert!(imported.toml.contains(part), "{part}:\n{}", imported.toml);
    }
    let (what, lost) = said(&imported, "jobs[db].when");
    assert!(what.contains("whatever its code") && !lost, "{what}");
    // By way of another.
    let then = a_job("then", "when: { source: 'pre', once: 'stopped' }");
    let app = a_job("app", &format!("port: 80, {CHECK}, when: {{ source: 'then', once: 'exitSuccess' }}"));
    let imported = jobs_of(&[a_job("pre", ""), then, app].join(",\n"));
    assert_eq!(imported.toml.matches("[[hooks.pre_start]]").count(), 2, "{}", imported.toml);
    // What stays has a stop, and what comes after that is a hook of it.
    let bye = a_job("bye", "when: { source: 'app', once: 'stopped' }");
    assert!(beside_main(&bye).toml.contains("post_stop = { exec = [\"/bin/bye\"]"));
}

#[test]
fn an_agent_is_known_behind_what_runs_it_and_by_its_name() {
    for (name, exec) in [
        ("agent", "'su-exec consul:consul /bin/consul agent -config-dir=/etc'"),
        ("agent", "['gosu', 'consul', 'consul', 'agent']"),
        ("agent", "'chroot --userspec=consul / consul agent'"),
        ("agent", "['setpriv', '--reuid=consul', 'consul', 'agent']"),
        ("agent", "['sh', '-c', 'exec consul agent -server']"),
        ("consul", "'su-exec consul:consul /usr/local/bin/start_consul'"),
        ("consul", "'/bin/up'"),
        ("discovery", "'/usr/local/bin/start-consul.sh'"),
        ("my-consul-agent", "'/bin/up'"),
    ] {
        let agent = format!("{{ name: '{name}', exec: {exec}, restarts: 'unlimited', {CHECK} }}");
        let imported = jobs_of(&format!("{agent},\n{}", a_job("vault", CHECK)));
        assert!(imported.toml.contains("[process]\nexec = [\"/bin/vault\"]"), "{exec}:\n{}", imported.toml);
        assert!(imported.toml.contains("start = \"before-catalog\""), "{exec}:\n{}", imported.toml);
    }
    for (name, exec) in
        [("app", "'run-consul-template'"), ("app", "'wait-for-consul-agent.sh'"), ("app", "'/bin/app agent'")]
    {
        let imported = jobs_of(&format!(
            "{{ name: '{name}', exec: {exec}, restarts: 'unlimited', {CHECK} }},\n{}",
            a_job("side", "")
        ));
        assert!(!imported.toml.contains("before-catalog"), "{exec}:\n{}", imported.toml);
    }
    // An image of Consul itself, be it with something in the catalog beside it.
    let other = format!("{{ name: 'other', port: 9100, {CHECK} }}");
    let server = format!("{{ name: 'consul', port: 8500, exec: 'consul agent -server', {CHECK} }}");
    assert!(jobs_of(&format!("{server},\n{other}")).toml.contains("exec = [\"consul\", \"agent\", \"-server\"]\n\n"));
    let imported =
        jobs_of(&format!("{{ name: 'consul', port: 8500, exec: '/bin/up', restarts: 'unlimited', {CHECK} }}"));
    assert!(imported.toml.contains("[process]\nexec = [\"/bin/up\"]"), "{}", imported.toml);
}

#[test]
fn all_that_runs_before_a_coprocess_runs_in_its_order() {
    let agent = AGENT.replace("restarts", "when: { source: 'two', once: 'exitSuccess' }, restarts");
    let one = "{ name: 'one', exec: [\"/bin/one\", \"it's\"], timeout: '10s' }";
    let two = "{ name: 'two', exec: '/bin/two -x', timeout: '20s', when: { source: 'one', once: 'exitSuccess' } }";
    let app = a_job("app", &format!("port: 80, {CHECK}, when: {{ source: 'consul-agent', once: 'healthy' }}"));
    for order in [[one, two], [two, one]] {
        let imported = jobs_of(&format!("{},\n{agent},\n{app}", order.join(",\n")));
        let line = "pre_start = { exec = [\"sh\", \"-c\", '";
        let hook = imported.toml.lines().find(|line| line.starts_with("pre_start")).unwrap_or_default();
        assert!(hook.starts_with("pre_start = { exec = [\"sh\", \"-c\", "), "{line}:\n{}", imported.toml);
        assert!(
            hook.contains("/bin/one 'it'") && hook.contains(" && /bin/two -x") && hook.contains("timeout = \"30s\""),
            "{hook}"
        );
        assert!(!imported.is_lossy() && mistakes(&imported.toml, &[("X", "x")]).is_empty(), "{:#?}", imported.notes);
    }
}

#[test]
fn a_limit_that_nobody_gave_is_told_of_wherever_there_is_one() {
    let first = a_job("first", "when: { source: 'app', once: 'healthy' }");
    assert!(said(&beside_main(&first), "jobs[first].timeout").0.contains("it has 1h here"));
    let agent = AGENT.replace("restarts", "when: { source: 'pre', once: 'exitSuccess' }, restarts");
    let imported = beside_main(&format!("{},\n{agent}", a_job("pre", "")));
    assert!(said(&imported, "jobs[pre].timeout").0.contains("it has 1h here"));
}

#[test]
fn a_wait_for_a_setup_limits_the_setup() {
    let app = |timeout: &str| {
        a_job(
            "app",
            &format!("port: 80, {CHECK}, when: {{ source: 'pre', once: 'exitSuccess', timeout: '{timeout}' }}"),
        )
    };
    let imported = jobs_of(&format!("{},\n{}", a_job("pre", ""), app("60s")));
    assert!(imported.toml.contains("pre_start = { exec = [\"/bin/pre\"], timeout = \"60s\" }"), "{}", imported.toml);
    let (what, lost) = said(&imported, "jobs[app].when.timeout");
    assert!(what.contains("limits `pre` itself") && !lost && !imported.is_lossy(), "{what}");
    let imported = jobs_of(&format!("{},\n{}", a_job("pre", "timeout: '90s'"), app("60s")));
    assert!(imported.toml.contains("timeout = \"60s\"") && !imported.is_lossy(), "{}", imported.toml);
    let imported = jobs_of(&format!("{},\n{}", a_job("pre", "timeout: '30s'"), app("60s")));
    assert!(imported.toml.contains("timeout = \"30s\"") && !imported.is_lossy(), "{}", imported.toml);
}

#[test]
fn who_may_have_outlived_main_is_told_of() {
    let main = a_job("web", &format!("port: 80, {CHECK}"));
    let (what, lost) = said(&jobs_of(&format!("{main},\n{}", a_job("sidecar", ""))), "jobs[web]");
    assert!(what.contains("may have outlived this one") && !lost, "{what}");
    let alone = jobs_of(&main);
    assert!(!alone.notes.iter().any(|note| note.key == "jobs[web]"), "{:#?}", alone.notes);
}

#[test]
fn a_task_that_ran_once_says_that_it_goes_on() {
    for restarts in ["'never'", "0"] {
        let imported = beside_main(&a_job("task", &format!("restarts: {restarts}, when: {{ interval: '10s' }}")));
        let (what, lost) = said(&imported, "jobs[task].restarts");
        assert!(what.contains("ran it once and no more") && lost, "{what}");
    }
    assert!(!beside_main(&a_job("task", "when: { interval: '10s' }")).is_lossy());
}

#[test]
fn a_restart_that_is_told_of_is_one() {
    let kill = |source: &str| {
        format!("{{ name: 'kill', exec: 'pkill app', when: {{ source: '{source}', each: 'unhealthy' }} }}")
    };
    // Of what is only in the catalog, for main.
    let web = format!("{{ name: 'web', port: 80, {CHECK} }}");
    let imported = jobs_of(&format!("{},\n{web},\n{}", a_job("app", "restarts: 'unlimited'"), kill("web")));
    assert!(said(&imported, "jobs[kill]").0.contains("app is restarted instead"));
    assert!(imported.toml.contains("on_failure = \"restart\""), "{}", imported.toml);
    assert!(mistakes(&imported.toml, &[("X", "x")]).is_empty());
    // What isn't started again ends, and the container with it.
    let imported = jobs_of(&format!("{},\n{}", a_job("app", &format!("port: 80, {CHECK}")), kill("app")));
    assert!(said(&imported, "jobs[kill]").0.contains("the container ends instead"));
    assert!(
        imported.toml.contains("on_failure = \"exit\"") && !imported.toml.contains("restart ="),
        "{}",
        imported.toml
    );
    // A coprocess.
    let side = a_job("side", &format!("port: 81, {CHECK}"));
    let imported = beside_main(&format!("{side},\n{}", kill("side")));
    assert!(imported.toml.contains("on_failure = \"restart\""), "{}", imported.toml);
    assert!(mistakes(&imported.toml, &[("X", "x")]).is_empty(), "{}", imported.toml);
    // Without a check nothing ever was unhealthy.
    let imported = jobs_of(&format!("{},\n{}", a_job("app", "port: 80, health: { interval: 1, ttl: 5 }"), kill("app")));
    assert!(said(&imported, "jobs[kill].when").0.contains("has no check") && !imported.toml.contains("on_failure"));
}

#[test]
fn an_agent_is_main_in_no_way_beside_what_is_only_in_the_catalog() {
    let etcd = format!("{{ name: 'etcd', port: 4001, {CHECK} }}");
    let imported = jobs_of(&format!(
        "{{{{ if .CONSUL_AGENT }}}}{{ name: 'consul-agent', exec: 'consul agent', restarts: 'unlimited' }},{{{{ end }}}}\n{etcd}"
    ));
    assert!(
        imported.toml.contains("[process]\n# jobs") && imported.toml.contains("exec = [\"sleep\", \"infinity\"]"),
        "{}",
        imported.toml
    );
    assert!(imported.toml.contains("[[coprocess]]\nenabled") && !imported.is_lossy(), "{:#?}", imported.notes);
}

#[test]
fn each_way_to_end_the_container_after_a_failed_setup_is_known() {
    let app = a_job("app", &format!("port: 80, {CHECK}, {AFTER_PRE}"));
    for exec in [
        "'pkill containerpilot'",
        "'killall -TERM containerpilot'",
        "['sh', '-c', 'kill 1']",
        "['/bin/sh', '-ec', 'kill -TERM 1;']",
        "'kill -s TERM 1'",
        "'/usr/bin/kill --signal TERM 1'",
    ] {
        let end = format!("{{ name: 'end', exec: {exec}, when: {{ source: 'pre', once: 'exitFailed' }} }}");
        let imported = jobs_of(&format!("{},\n{app},\n{end}", a_job("pre", "")));
        assert!(
            said(&imported, "jobs[end].when").0.contains("ends the container here") && !imported.is_lossy(),
            "{exec}"
        );
    }
    let end = "{ name: 'end', exec: 'kill 1', when: { source: 'app', once: 'exitFailed' } }";
    let imported = jobs_of(&format!("{},\n{end}", a_job("app", &format!("port: 80, {CHECK}"))));
    assert!(said(&imported, "jobs[end].when").0.contains("ends with main") && !imported.is_lossy());
    assert!(beside_main(end).is_lossy(), "main is started again");
    let other = "{ name: 'end', exec: 'pkill nginx', when: { source: 'app', once: 'exitFailed' } }";
    assert!(beside_main(other).is_lossy());
}

#[test]
fn what_waits_for_itself_never_started() {
    let waits = |name: &str, of: &str, more: &str| {
        a_job(name, &format!("{more} when: {{ source: '{of}', once: 'exitSuccess' }}"))
    };
    let port = format!("port: 80, {CHECK},");
    let circle = jobs_of(&[waits("a", "c", ""), waits("b", "a", ""), waits("c", "b", &port)].join(",\n"));
    for name in ["a", "b", "c"] {
        let notes: Vec<_> = circle.notes.iter().filter(|note| note.key == format!("jobs[{name}].when")).collect();
        assert!(notes.iter().any(|note| note.what.contains("waits for itself, by way of")), "{name}: {notes:#?}");
    }
    let healthy = format!("{CHECK}, when: {{ source: 'app', once: 'healthy' }}");
    let own = jobs_of(&a_job("app", &format!("port: 80, {healthy}")));
    assert!(own.notes.iter().any(|note| note.what.starts_with("waits for itself, so ContainerPilot never started it")));
    let behind =
        beside_main(&[waits("a", "b", ""), waits("b", "a", ""), waits("d", "a", "restarts: 'unlimited',")].join(",\n"));
    assert!(behind.notes.iter().any(|note| note.key == "jobs[d].when" && note.what.contains("what waits for itself")));
    let fine = jobs_of(&[a_job("pre", ""), a_job("app", &format!("{port} {AFTER_PRE}"))].join(",\n"));
    assert!(!fine.notes.iter().any(|note| note.what.contains("waits for itself")));
}

#[test]
fn what_is_so_in_one_way_only_says_in_which() {
    let imported = jobs_of(&format!(
        "{},\n{{ name: 'consul', exec: ['consul', 'agent'{{{{ if .SERVER }}}}, '-server', '-ui'{{{{ end }}}}], restarts: 'unlimited' }},\n\
         {{ name: 'leave', exec: 'consul leave', when: {{ source: 'consul', once: 'stopping' }} }}",
        a_job("app", &format!("port: 80, {CHECK}"))
    ));
    let said: Vec<(bool, &str)> = imported
        .notes
        .iter()
        .filter(|note| note.key == "jobs[leave]")
        .map(|note| (note.lost, note.what.rsplit(" (").next().unwrap_or_default()))
        .collect();
    assert_eq!(said, [(false, "where SERVER is not set)"), (true, "where SERVER is set)")], "{:#?}", imported.notes);
}
