//! What another user puts on the way to a file: root's agent is led nowhere by it, and waits for nothing.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "tests")]

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::lab::{Lab, said};
use crate::support::namespace::{copy_program, eventually, pilotfish};

const TERM: i32 = 15;
/// Main's user.
const OTHER: u32 = 65_534;

/// A template of a key in a directory of main's user, as /var/lib/haproxy is one; root runs the agent.
const TEMPLATE: &str = r#"
[process]
exec = ["sleep", "1000"]
user = "65534:65534"
[catalog]
backend = "local"
directory = "DIR/catalog"
[[watch]]
key = "k"
settle = "1ms"
template = { source = "DIR/app/app.j2", destination = "DIR/app/app.conf" }
"#;

/// With the template, and what only root may read, beside.
fn lab(config: &str) -> Lab {
    let lab = Lab::new(config);
    fs::set_permissions(lab.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(lab.path("app")).unwrap();
    theirs("app/app.j2", "it is {{ value | default('nothing') }}", &lab);
    chown(lab.path("app"), Some(OTHER), Some(OTHER)).unwrap();
    fs::write(lab.path("secret"), "root's secret").unwrap();
    fs::set_permissions(lab.path("secret"), Permissions::from_mode(0o600)).unwrap();
    lab
}

fn theirs(name: &str, text: &str, lab: &Lab) {
    fs::write(lab.path(name), text).unwrap();
    chown(lab.path(name), Some(OTHER), Some(OTHER)).unwrap();
}

/// Main's user puts a link there.
fn link(lab: &Lab, name: &str, to: &str) {
    let _ = fs::remove_file(lab.path(name));
    symlink(lab.path(to), lab.path(name)).unwrap();
    lchown(lab.path(name), Some(OTHER), Some(OTHER)).unwrap();
}

fn put(lab: &Lab, key: &str, value: &str) {
    let staged = lab.path("catalog/pilotfish/tmp/by-hand");
    fs::write(&staged, value).unwrap();
    fs::rename(staged, lab.path("catalog/pilotfish/keys").join(key)).unwrap();
}

fn reads(path: PathBuf, text: &str) {
    let read = || fs::read_to_string(&path).ok();
    let told = eventually(text, || (read().as_deref() == Some(text)).then_some(()));
    told.unwrap_or_else(|error| panic!("{error}: {:?}", read()));
}

#[test]
fn a_link_in_a_templates_place_makes_root_write_nothing_that_its_owner_could_not() {
    let lab = lab(TEMPLATE);
    fs::write(lab.path("hook"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(lab.path("hook"), Permissions::from_mode(0o4755)).unwrap();
    let container = lab.run();
    reads(lab.path("app/app.conf"), "it is nothing");
    link(&lab, "app/app.conf", "hook");
    put(&lab, "k", "evil");
    eventually("the refusal", || container.stderr().contains("refused: uid 65534").then_some(())).unwrap();
    assert_eq!(fs::read_to_string(lab.path("hook")).unwrap(), "#!/bin/sh\n");
    assert_eq!(fs::metadata(lab.path("hook")).unwrap().mode() & 0o7777, 0o4755);
    // Shown as what keeps the watch from acting, and mended without anybody's help.
    assert!(lab.ask(&["status"]).1.contains("refused"), "{:?}", lab.ask(&["status"]));
    fs::remove_file(lab.path("app/app.conf")).unwrap();
    reads(lab.path("app/app.conf"), "it is evil");
}

#[test]
fn no_file_that_only_root_reads_is_copied_to_where_mains_user_reads_it() {
    let lab = lab(TEMPLATE);
    let container = lab.run();
    reads(lab.path("app/app.conf"), "it is nothing");
    for (by, put_it) in [
        ("a link", (|lab| link(lab, "app/app.j2", "secret")) as fn(&Lab)),
        ("a second name", |lab| {
            fs::remove_file(lab.path("app/app.j2")).unwrap();
            fs::hard_link(lab.path("secret"), lab.path("app/app.j2")).unwrap();
        }),
        ("a key's place", |lab| {
            fs::remove_file(lab.path("app/app.j2")).unwrap();
            theirs("app/app.j2", "it is {{ value | default('nothing') }}", lab);
            let key = lab.path("catalog/pilotfish/keys/k");
            let _ = fs::remove_file(&key);
            fs::hard_link(lab.path("secret"), key).unwrap();
        }),
    ] {
        put(&lab, "k", by);
        put_it(&lab);
        let (code, said, _) = lab.ask(&["reload"]);
        assert_eq!(code, 0, "{said}");
        std::thread::sleep(Duration::from_millis(300));
        assert!(!fs::read_to_string(lab.path("app/app.conf")).unwrap().contains("secret"), "by {by}");
    }
    assert!(container.stderr().contains("may not read it"), "{}", container.stderr());
}

#[test]
fn a_pipe_in_a_templates_place_holds_up_no_other_template_and_no_reload() {
    let lab = lab(&format!(
        "{TEMPLATE}[[watch]]\nkey = \"other\"\ntemplate = {{ source = \"DIR/app/app.j2\", destination = \"DIR/other\" }}\n"
    ));
    let mut container = lab.run();
    reads(lab.path("app/app.conf"), "it is nothing");
    fs::remove_file(lab.path("app/app.conf")).unwrap();
    nix::unistd::mkfifo(&lab.path("app/app.conf"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for round in 0..6 {
        put(&lab, "k", &format!("round {round}"));
        put(&lab, "other", &format!("round {round}"));
        reads(lab.path("other"), &format!("it is round {round}"));
        assert_eq!(lab.ask(&["reload"]).0, 0);
    }
    let began = Instant::now();
    container.signal(TERM);
    container.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_pipe_in_place_of_a_checks_authorities_wedges_nothing() {
    let lab =
        lab("[process]\nexec = [\"sleep\", \"1000\"]\n[[health]]\nname = \"tls\"\nhttp = \"https://127.0.0.1:1/\"\n\
         ca = \"DIR/app/ca.pem\"\ninterval = \"100ms\"\nstart_interval = \"100ms\"\n");
    nix::unistd::mkfifo(&lab.path("app/ca.pem"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    chown(lab.path("app/ca.pem"), Some(OTHER), Some(OTHER)).unwrap();
    let mut container = lab.run();
    eventually("the failure", || lab.ask(&["status"]).1.contains("isn't a plain file").then_some(())).unwrap();
    let began = Instant::now();
    container.signal(TERM);
    container.wait().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[test]
fn a_secret_has_the_mode_that_is_asked_for_from_its_check_on_and_setuid_bits_are_not_carried_over() {
    let config = TEMPLATE.replace(
        "DIR/app/app.conf\" }",
        "DIR/etc/app.conf\", mode = \"0600\", parents = true, \
         check = [\"sh\", \"-c\", \"stat -c %a {} >> DIR/story\"] }",
    );
    let lab = lab(&config);
    let _container = lab.run();
    reads(lab.path("etc/app.conf"), "it is nothing");
    assert_eq!(lab.story(), ["400"]);
    assert_eq!(fs::metadata(lab.path("etc/app.conf")).unwrap().mode() & 0o7777, 0o600);
}

/// Rootless, or with `userns-remap`, and `-v /etc/passwd:/etc/passwd:ro`: the host's root isn't anybody here.
#[test]
fn the_hosts_passwd_is_believed_in_a_user_namespace_where_it_is_mounted_read_only() {
    const MAPPED: u32 = 100_000;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let [root, host] = ["root", "host"].map(|name| directory.path().join(name));
    for name in ["etc", "tmp", "proc", "run"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::create_dir(&host).unwrap();
    copy_program(&pilotfish(), &root.join("pilotfish"));
    let config = "process = { exec = [\"/pilotfish\", \"--version\"], user = \"app\" }\n";
    for (path, text) in [
        (root.join("c.toml"), config),
        (root.join("etc/passwd"), ""),
        (root.join("etc/group"), ""),
        (host.join("passwd"), "app:x:1000:1000:app:/:\n"),
        (host.join("group"), "app:x:1000:\n"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    }
    for name in ["", "etc", "tmp", "proc", "run", "pilotfish", "c.toml", "etc/passwd", "etc/group"] {
        chown(root.join(name), Some(MAPPED), Some(MAPPED)).unwrap();
    }
    let run = |then: &str| {
        let mounts = format!(
            "cd {} && mount --bind root root && mount --rbind /proc root/proc && for f in passwd group; do \
             mount --bind host/$f root/etc/$f && {then} true || exit 99; done; exec \"$@\"",
            directory.path().display()
        );
        // Its user is known to the namespace once that is mapped; what it may do there is kept until then.
        let enter = "read go; exec setpriv --reuid=0 --regid=0 --clear-groups chroot root /pilotfish -c /c.toml";
        let mut namespace = Command::new("unshare")
            .args(["--mount", "sh", "-c", &mounts, "sh", "unshare", "--user", "--keep-caps", "sh", "-c", enter])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let of = |name: &str| PathBuf::from(format!("/proc/{}/{name}", namespace.id()));
        let own = fs::read_link("/proc/self/ns/user").unwrap();
        eventually("a namespace", || (fs::read_link(of("ns/user")).ok()? != own).then_some(())).unwrap();
        for map in ["uid_map", "gid_map"] {
            fs::write(of(map), format!("0 {MAPPED} 65536\n")).unwrap();
        }
        writeln!(namespace.stdin.take().unwrap(), "go").unwrap();
        said(namespace.wait_with_output().unwrap())
    };
    let (code, out, said) = run("mount -o remount,bind,ro root/etc/$f &&");
    assert!(code == 0 && out.contains("pilotfish"), "{code} {out}{said}");
    // Where it may be written, it may be anybody's of that number.
    let (code, _, said) = run("");
    assert!(code == 126 && said.contains("user `app` isn't taken from /etc/passwd"), "{code} {said}");
}

/// A numeric user without an entry in /etc/passwd keeps root's group, and an image made with umask 002 has directories that
/// this group may write.
#[test]
fn what_roots_group_may_write_is_in_the_hands_of_a_main_that_is_in_it() {
    for user in ["4242", "4242:0"] {
        let lab = lab(&TEMPLATE.replace("65534:65534", user).replace("DIR/app/app.j2", "DIR/app.j2"));
        fs::rename(lab.path("app/app.j2"), lab.path("app.j2")).unwrap();
        chown(lab.path("app"), Some(0), Some(0)).unwrap();
        fs::set_permissions(lab.path("app"), Permissions::from_mode(0o775)).unwrap();
        let container = lab.run();
        // Nothing was planted yet, and a group that may write there itself may have a file there.
        reads(lab.path("app/app.conf"), "it is nothing");
        link(&lab, "app/app.conf", "secret");
        put(&lab, "k", "new");
        eventually("a refusal", || container.stderr().contains("refused: gid 0").then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        assert_eq!(fs::read_to_string(lab.path("secret")).unwrap(), "root's secret", "{user}");
    }
}

/// Two containers of a pod share a volume at /run.
#[test]
fn where_another_containers_agent_has_the_socket_each_ones_clients_reach_their_own() {
    let lab = Lab::new("[process]\nexec = [\"sleep\", \"1000\"]\n[stop]\nwithin = \"2s\"\n");
    let mut first = lab.run();
    let mut second = lab.start().run().unwrap();
    let elsewhere = "another container's agent answers there";
    eventually(elsewhere, || second.stderr().contains(elsewhere).then_some(())).unwrap();
    let (of, program, config) = (second.pid.to_string(), pilotfish(), lab.path("pilotfish.toml"));
    let inside = ["-t", &of, "-p", "-m", program.to_str().unwrap(), "stop", "-c", config.to_str().unwrap()];
    // It may end with the container before it has its answer.
    Command::new("nsenter").args(inside).status().unwrap();
    assert_eq!(second.wait(), Ok(143), "{}", second.stderr());
    assert_eq!(first.ended(), None, "{}", first.stderr());
}

/// As an `emptyDir` at /run is: the agent binds its socket by the number of the directory that it found.
#[test]
fn a_container_whose_directory_of_sockets_anybody_may_write_finds_its_own_agent() {
    let lab = Lab::new("");
    let run = lab.path("run");
    fs::create_dir(&run).unwrap();
    fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let config = |socket: &str| {
        let socket = run.join(socket);
        lab.write(&format!("[process]\nexec = [\"sleep\", \"1000\"]\n[control]\nsocket = {socket:?}\n"));
    };
    config("control.sock");
    let mut container = lab.start().run().unwrap();
    eventually("the agent", || run.join("control.sock").exists().then_some(())).unwrap();
    let ask = |order: &str| {
        let (of, program, config) = (container.pid.to_string(), pilotfish(), lab.path("pilotfish.toml"));
        let inside = ["-t", &of, "-p", "-m", program.to_str().unwrap(), order, "-c", config.to_str().unwrap()];
        let output = Command::new("nsenter").args(inside).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(ask("health"), (Some(0), String::new()));
    // The file names another one by now, and the agent hasn't read it.
    config("other.sock");
    assert_eq!(ask("health").0, Some(0));
    ask("stop");
    assert_eq!(container.wait(), Ok(143), "{}", container.stderr());
}

/// What is said at a socket of another user's, who answers nothing.
fn heard_at(path: PathBuf) -> std::sync::mpsc::Receiver<String> {
    let listener = UnixListener::bind(&path).unwrap();
    chown(&path, Some(OTHER), Some(OTHER)).unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut said = [0; 4096];
            let length = stream.and_then(|mut stream| stream.read(&mut said)).unwrap_or(0);
            if tell.send(String::from_utf8_lossy(&said[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    heard
}

#[test]
fn consuls_token_is_said_at_no_socket_that_anybody_may_have_put_there_and_the_error_says_what_to_change() {
    let lab = lab("[process]\nexec = [\"sleep\", \"1000\"]\nuser = \"65534:65534\"\n\
         [catalog]\nbackend = \"consul\"\naddress = \"unix://DIR/run/consul.sock\"\ntoken_file = \"DIR/token\"\n\
         [[watch]]\nname = \"w\"\nkey = \"k\"\non_change = { exec = [\"true\"] }\n");
    fs::write(lab.path("token"), "root-s-token").unwrap();
    fs::set_permissions(lab.path("token"), Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(lab.path("run")).unwrap();
    for mode in [0o777, 0o1777] {
        fs::set_permissions(lab.path("run"), Permissions::from_mode(mode)).unwrap();
        let _ = fs::remove_file(lab.path("run/consul.sock"));
        let heard = heard_at(lab.path("run/consul.sock"));
        let checked = lab.ask(&["check"]);
        let refused =
            format!("anybody may put a socket of theirs in {} (uid 0's, mode {mode:o})", lab.path("run").display());
        assert!(checked.0 == 0 && checked.1.contains(&refused), "{checked:?}");
        let mut container = lab.run();
        eventually("the refusal", || container.stderr().contains(&refused).then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
        assert!(container.main().is_ok(), "main runs all the same");
        assert_eq!(heard.recv_timeout(Duration::from_secs(2)).ok(), None);
        container.signal(TERM);
        assert_eq!(container.wait(), Ok(143), "{}", container.stderr());
    }
    // As packages of Consul have it: a directory of its user's own. That it is main's as well is for `check` to say.
    fs::set_permissions(lab.path("run"), Permissions::from_mode(0o755)).unwrap();
    chown(lab.path("run"), Some(OTHER), Some(OTHER)).unwrap();
    let _ = fs::remove_file(lab.path("run/consul.sock"));
    let heard = heard_at(lab.path("run/consul.sock"));
    let checked = lab.ask(&["check"]);
    assert!(checked.1.contains("its directory is main's user's, who may listen there"), "{checked:?}");
    let _container = lab.run();
    let said = heard.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(said.to_lowercase().contains("x-consul-token: root-s-token"), "{said}");
}
