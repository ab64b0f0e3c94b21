//! A main process that means harm (tests/fixtures/hostile.rs) in a small root of its own: whatever it does to the places
//! that it may write to, the agent does nothing for it that it couldn't do itself.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::namespace::{Container, Start, copy_program, example, pilotfish, within};

/// Main's user.
const OTHER: u32 = 65_534;
/// Each kind of thing at each path for each target, on two cores beside other tests.
const LASTS: Duration = Duration::from_secs(120);

const CONFIG: &str = r#"
[process]
exec = ["/hostile", "1"]
USER
env_from_files = { VARIABLE = "/app/variable" }
restart = { policy = "always", backoff = "100ms" }
[[service]]
name = "app"
port = 80
address = ["static:10.0.0.9"]
[[health]]
name = "said"
notify = true
[[health]]
name = "tls"
http = "https://127.0.0.1:1/"
ca = "/app/ca.pem"
interval = "50ms"
start_interval = "50ms"
[[watch]]
key = "k"
settle = "1ms"
template = { source = "/app/app.j2", destination = "/app/app.conf", check = ["/hostile-check", "{}"] }
[[watch]]
name = "deep"
service = "app"
settle = "1ms"
template = { source = "/etc/own.j2", destination = "/app/new/deep.conf", parents = true }
[election]
name = "db"
without_catalog = "replica"
[catalog]
backend = "local"
directory = "/shared/agents"
[control]
socket = "/app/run/control.sock"
[stop]
within = "5s"
"#;

struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    fn new(user: &str) -> Root {
        let root = Root { directory: tempfile::tempdir().unwrap() };
        for (name, mode) in
            [("", 0o755), ("etc", 0o755), ("private", 0o700), ("private/tmp", 0o700), ("proc", 0o555), ("run", 0o755)]
        {
            root.make(name, mode);
        }
        for (name, mode) in [("tmp", 0o1777), ("shared", 0o777), ("app", 0o755), ("app/run", 0o755)] {
            root.make(name, mode);
        }
        for name in ["app", "app/run"] {
            chown(root.path(name), Some(OTHER), Some(OTHER)).unwrap();
        }
        root.file("etc/secret", "TOP-SECRET of root", 0o600);
        root.file("etc/root-hook", "#!/bin/sh\n", 0o4755);
        root.file("etc/own.j2", "{% for i in instances %}{{ i.address }}\n{% endfor %}", 0o644);
        root.file("private/tmp/0123456789abcdef", "TOP-SECRET and old", 0o644);
        let old = std::time::SystemTime::now() - Duration::from_secs(7200);
        fs::File::open(root.path("private/tmp/0123456789abcdef")).unwrap().set_modified(old).unwrap();
        root.file("private/boot", "00000000-0000-0000-0000-000000000000", 0o644);
        root.file("pilotfish.toml", &CONFIG.replace("USER", user), 0o644);
        root.file("app/app.j2", "{{ value | default('nothing') }}", 0o644);
        root.file("app/variable", "v", 0o644);
        for (program, name) in
            [(pilotfish(), "pilotfish"), (example("hostile"), "hostile"), (example("hostile"), "hostile-check")]
        {
            copy_program(&program, &root.path(name));
        }
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn make(&self, name: &str, mode: u32) {
        let _ = fs::create_dir(self.path(name));
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// The agent, as PID 1 of a container of this root; `before` is a shell's commands.
    fn run(&self, before: &str, with: &str, user: &str) -> Container {
        let root = self.directory.path().display();
        let script = format!(
            "set -e; mount --rbind /proc {root}/proc; {before}\n\
             exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin {with} chroot {user} {root} /pilotfish -c /pilotfish.toml"
        );
        Start::new(["/bin/sh", "-c", &script]).run().unwrap()
    }

    /// All that main's user may not change.
    fn shown(&self) -> BTreeMap<PathBuf, String> {
        let mut shown = BTreeMap::new();
        let own = ["app", "shared", "tmp", "proc"].map(|name| self.path(name));
        look(self.directory.path(), &own, &mut shown);
        shown
    }
}

/// Mode, owner, names and content of everything, but for what is below these.
fn look(directory: &Path, own: &[PathBuf], shown: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let about = path.symlink_metadata().unwrap();
        let mut hasher = DefaultHasher::new();
        if about.is_file() {
            fs::read(&path).unwrap().hash(&mut hasher);
        }
        // How many directories are in its own is its own business.
        let names = if own.contains(&path) { 0 } else { about.nlink() as u32 };
        let facts = [about.mode(), about.uid(), about.gid(), names];
        let about_it = format!("{facts:?} {:x} {:?}", hasher.finish(), fs::read_link(&path).ok());
        if about.is_dir() && !own.contains(&path) {
            look(&path, own, shown);
        }
        // Sockets and directories in its own places come and go.
        if !about.file_type().is_socket() {
            shown.insert(path, about_it);
        }
    }
}

/// Runs it until it has tried everything, and looks what came of it.
fn tried(root: &Root, before: &str, user: &str) {
    let was = root.shown();
    let mut container = root.run(before, if user.is_empty() { "CONSUL_HTTP_TOKEN=TOP-SECRET-token" } else { "" }, user);
    let over = within(LASTS, "the end of its tries", || {
        assert_eq!(container.ended(), None, "{}", container.stderr());
        root.path("app/over").exists().then_some(())
    });
    over.unwrap_or_else(|error| panic!("{error}: {}", container.stderr()));
    assert_eq!(fs::read_to_string(root.path("app/loot")).unwrap_or_default(), "", "{}", container.stderr());
    container.signal(libc::SIGTERM);
    let code = container.wait_for(Duration::from_secs(15));
    assert!(code.is_ok(), "{code:?}: {}", container.stderr());
    let log = container.stderr();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{9b}') && !log.contains("TOP-SECRET"), "{log}");
    assert_eq!(root.shown(), was);
}

#[test]
fn another_users_main_gets_nothing_through_the_agent_with_the_shared_volume_writable() {
    tried(&Root::new("user = \"65534:65534\""), "", "");
}

#[test]
fn another_users_main_gets_nothing_through_the_agent_with_the_shared_volume_read_only() {
    let root = Root::new("user = \"65534:65534\"");
    let shared = root.path("shared").display().to_string();
    let read_only = format!("mount --bind {shared} {shared}; mount -o remount,bind,ro {shared}");
    tried(&root, &read_only, "");
}

#[test]
fn a_main_of_the_agents_own_user_gets_nothing_that_this_user_may_not() {
    let root = Root::new("");
    // By the socket it would stop its own agent, as it may, and try nothing more.
    let without_socket = CONFIG.replace("USER", "").replace("/app/run/control.sock", "");
    root.file("pilotfish.toml", &without_socket, 0o644);
    tried(&root, "", "--userspec=65534:65534");
}
