//! docs/migrate.md, step by step: what it says is what is run here.
#![allow(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::namespace::pilotfish;

const VERSION_2: &str = r#"{
  "consul": "{{ .CONSUL }}:1",
  "preStart": "cp {{ .HOME_OF_TEST }}/seed prepared",
  "services": [
    { "name": "app", "port": 8000, "interfaces": "static:192.0.2.7", "health": "true", "poll": 1, "ttl": 5 }
  ],
  "backends": [ { "name": "db", "poll": 1, "onChange": "true" } ]
}"#;

const VERSION_3: &str = r#"{
  consul: '{{ if .CONSUL_AGENT }}localhost{{ else }}{{ .CONSUL | default "consul" }}{{ end }}:8500',
  jobs: [
    { name: 'prepare', exec: 'true' },
    { name: 'app', exec: 'app --serve', port: 8000, when: { source: 'prepare', once: 'exitSuccess' },
      health: { exec: 'true', interval: 1, ttl: 5 } },
    {{ if .CONSUL_AGENT }}{ name: 'consul-agent', exec: 'consul agent', restarts: 'unlimited' },{{ end }}
  ],
}"#;

/// The block behind the comment `tested: NAME`.
fn tested(name: &str) -> &'static str {
    let mark = format!("<!-- tested: {name} -->\n```");
    let (_, rest) =
        include_str!("../../docs/migrate.md").split_once(&mark).expect("the comment stands before its block");
    let (_, block) = rest.split_once('\n').expect("its language stands in the first line");
    block.split_once("\n```").expect("the block ends").0
}

/// A directory with the program under both names, a main process, and a config.
fn stage(file: &str, text: &str) -> tempfile::TempDir {
    let stage = tempfile::tempdir().unwrap();
    let bin = stage.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for name in ["pilotfish", "containerpilot"] {
        symlink(pilotfish(), bin.join(name)).unwrap();
    }
    let main = "#!/bin/sh\ntest -e prepared || exit 1\necho \"$CONTAINERPILOT_APP_IP $1\" > said\nexit 7\n";
    fs::write(bin.join("app"), main).unwrap();
    Command::new("chmod").args(["+x", bin.join("app").to_str().unwrap()]).status().unwrap();
    fs::write(stage.path().join("seed"), "").unwrap();
    fs::write(stage.path().join(file), text).unwrap();
    stage
}

fn shell(stage: &Path, script: &str) -> Output {
    let path = format!("{}:{}", stage.join("bin").display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-ec", script])
        .current_dir(stage)
        .env("PATH", path)
        .env("CONSUL", "127.0.0.1")
        .env("HOME_OF_TEST", stage)
        .env_remove("PILOTFISH_CONFIG")
        .env_remove("CONTAINERPILOT")
        .env_remove("CONSUL_AGENT")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_config_of_version_2_runs_as_it_is_under_containerpilots_name() {
    let stage = stage("containerpilot.json", VERSION_2);
    let config = stage.path().join("containerpilot.json");
    let step = tested("as-it-is").replace("/etc/containerpilot.json", config.to_str().unwrap());
    for script in [
        step,
        format!("CONTAINERPILOT={} containerpilot app --serve", config.display()),
        format!("CONTAINERPILOT=file://{} pilotfish -- app --serve", config.display()),
        "CONTAINERPILOT=\"$(cat containerpilot.json)\" containerpilot app --serve".to_owned(),
    ] {
        let _ = fs::remove_file(stage.path().join("said"));
        let output = shell(stage.path(), &script);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(7), "{script}: {log}");
        assert!(log.contains("is a config of ContainerPilot 2, and runs as it is"), "{log}");
        assert_eq!(fs::read_to_string(stage.path().join("said")).unwrap(), "192.0.2.7 --serve\n");
    }
}

#[test]
fn a_config_of_version_2_becomes_pilotfishs_and_runs() {
    let stage = stage("containerpilot.json", VERSION_2);
    let output = shell(stage.path(), tested("import-2"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("containerpilot.json:1:1: note: main: "), "{}", text(&output.stderr));
    let output = shell(stage.path(), "pilotfish -c pilotfish.toml -- app --serve");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
}

#[test]
fn a_config_of_version_3_becomes_pilotfishs() {
    let stage = stage("containerpilot.json5", VERSION_3);
    let output = shell(stage.path(), tested("import-3"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let toml = fs::read_to_string(stage.path().join("pilotfish.toml")).unwrap();
    for line in ["exec = [\"app\", \"--serve\"]", "[[service]]", "pre_start = ", "[[coprocess]]\nenabled = "] {
        assert!(toml.contains(line), "{line}: {toml}");
    }
    let output = shell(stage.path(), tested("set"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let toml = fs::read_to_string(stage.path().join("pilotfish.toml")).unwrap();
    assert!(!toml.contains("enabled") && toml.contains("address = \"localhost:8500\""), "{toml}");
    let output = shell(stage.path(), "pilotfish -c containerpilot.json5");
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("pilotfish import containerpilot.json5"), "{}", text(&output.stderr));
}

#[test]
fn a_config_of_supervisord_becomes_pilotfishs() {
    let conf = "[supervisord]\nnodaemon=true\n[program:app]\ncommand=app --serve\nautorestart=false\n";
    let stage = stage("supervisord.conf", conf);
    let output = shell(stage.path(), tested("supervisord"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = shell(stage.path(), "touch prepared; pilotfish -c pilotfish.toml");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
}

/// Scripts below `etc` of a stage.
fn scripts(stage: &Path, scripts: &[(&str, &str)]) {
    for (name, script) in scripts {
        let file = stage.join("etc").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        Command::new("chmod").arg("+x").arg(&file).status().unwrap();
    }
}

#[test]
fn an_image_of_s6_overlay_runs_by_a_config_with_its_scripts_as_they_are() {
    let stage = stage("pilotfish.toml", "");
    let here = stage.path().display().to_string();
    let config = tested("s6-overlay").replace("/etc/", &format!("{here}/etc/"));
    fs::write(stage.path().join("pilotfish.toml"), format!("{config}\n[control]\nsocket = \"\"\n")).unwrap();
    scripts(
        stage.path(),
        &[
            ("cont-init.d/10-prepare", "echo prepared >> story"),
            ("services.d/queue/run", "echo queue >> story; touch open; exec sleep 1000"),
            ("services.d/queue/data/check", "test -e open"),
            ("services.d/queue/finish", "echo finished >> story"),
            ("services.d/worker/run", "echo worker >> story; touch worked; exec sleep 1000"),
            ("services.d/app/run", "until test -e worked; do sleep 0.05; done; echo app >> story; exit 7"),
        ],
    );
    let output = shell(stage.path(), "pilotfish -c pilotfish.toml");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let story = fs::read_to_string(stage.path().join("story")).unwrap();
    let mut story: Vec<&str> = story.lines().collect();
    // The queue starts before the catalog is asked, and so before what prepares main.
    assert_eq!(story[..2], ["queue", "prepared"], "{story:?}");
    assert_eq!(story.split_off(2), ["worker", "app", "finished"]);
}

#[test]
fn a_template_of_consul_template_is_a_watchs_and_its_program_is_main() {
    let stage = stage("pilotfish.toml", "");
    let here = stage.path().display().to_string();
    let config = ["/bin/app", "/etc/app.conf.j2", "/run/app.conf"]
        .iter()
        .fold(tested("consul-template").to_owned(), |config, file| config.replace(file, &format!("{here}{file}")));
    let more = "[catalog]\nbackend = \"local\"\ndirectory = \"HERE/catalog\"\n[control]\nsocket = \"HERE/socket\"\n";
    fs::write(stage.path().join("pilotfish.toml"), format!("{config}\n{}", more.replace("HERE", &here))).unwrap();
    for directory in ["etc", "run", "catalog"] {
        fs::create_dir(stage.path().join(directory)).unwrap();
    }
    fs::write(stage.path().join("etc/app.conf.j2"), tested("its-template")).unwrap();
    let app = "#!/bin/sh\ntrap 'cp run/app.conf changed' HUP\ncp run/app.conf first\n\
               pilotfish kv put app/limits 20 -c pilotfish.toml || exit 1\n\
               until grep -q 20 changed 2>/dev/null; do sleep 0.05; done\nexit 7\n";
    fs::write(stage.path().join("bin/app"), app).unwrap();
    let output = shell(stage.path(), "export APP_NAME=mail; timeout 60 pilotfish -c pilotfish.toml");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let read = |file: &str| fs::read_to_string(stage.path().join(file)).unwrap();
    assert_eq!(read("first"), "connections = 100\nname = mail");
    assert_eq!(read("changed"), "connections = 20\nname = mail");
}

#[test]
fn an_import_says_by_its_exit_code_what_became_of_it() {
    let stage = stage("containerpilot.json5", VERSION_3);
    let import = |text: &str| {
        fs::write(stage.path().join("x.json5"), text).unwrap();
        shell(stage.path(), "pilotfish import x.json5 -o x.toml")
    };
    assert_eq!(import("{ consul: 'c', jobs: [ { name: 'a', exec: 'a' } ] }").status.code(), Some(0));
    let lossy = import("{ consul: 'c', jobs: [ { name: 'a', exec: 'a', odd: 1 } ] }");
    assert_eq!(lossy.status.code(), Some(3), "{}", text(&lossy.stderr));
    assert!(text(&lossy.stderr).contains("x.json5:1:48: not carried over: jobs[a].odd: "), "{}", text(&lossy.stderr));
    assert!(stage.path().join("x.toml").exists());
    let broken = import("{ consul: 'c',\n jobs: [ {{ ] }");
    assert_eq!(broken.status.code(), Some(78));
    assert!(text(&broken.stderr).contains("x.json5:2:"), "{}", text(&broken.stderr));
    assert_eq!(shell(stage.path(), "pilotfish import x.json5 --set X").status.code(), Some(64));
    let unwritable = shell(stage.path(), "pilotfish import containerpilot.json5 -o /nowhere/x.toml");
    assert_eq!(unwritable.status.code(), Some(1), "{}", text(&unwritable.stderr));
}

#[test]
fn an_import_writes_over_other_files_but_never_over_its_own_input() {
    let config = "{ consul: 'c', jobs: [ { name: 'a', exec: 'a' } ] }";
    let stage = stage("x.json5", config);
    let input = || fs::read_to_string(stage.path().join("x.json5")).unwrap();
    symlink("x.json5", stage.path().join("link")).unwrap();
    for script in [
        "pilotfish import x.json5 -o x.json5",
        "pilotfish import x.json5 -o ./link",
        "ln x.json5 hard; pilotfish import x.json5 -o hard",
        "pilotfish import - -o x.json5 < x.json5",
    ] {
        let refused = shell(stage.path(), script);
        assert_eq!(refused.status.code(), Some(64), "{script}: {}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("is the file that is imported"), "{}", text(&refused.stderr));
        assert_eq!(input(), config);
    }
    let written = shell(stage.path(), "echo old > x.toml; pilotfish import x.json5 -o x.toml; cat x.toml");
    assert!(written.status.success() && text(&written.stdout).contains("exec = [\"a\"]"), "{}", text(&written.stderr));
}
