use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::*;

/// A user that isn't us; only root can give anything to it.
const OTHER: u32 = 65_534;

/// A directory that everybody may enter.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    directory
}

/// `None` where we aren't root; said, for then nothing is proved.
fn anothers(directory: &Path) -> Option<PathBuf> {
    let path = directory.join("app");
    fs::create_dir(&path).unwrap();
    match chown(&path, Some(OTHER), Some(OTHER)) {
        Ok(()) => Some(path),
        Err(error) => {
            eprintln!("not tried: only root has other users' directories ({error})");
            None
        }
    }
}

fn file(path: &Path, mode: u32) {
    fs::write(path, "text").unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn link_of_another(target: &Path, path: &Path) {
    symlink(target, path).unwrap();
    std::os::unix::fs::lchown(path, Some(OTHER), Some(OTHER)).unwrap();
}

#[test]
fn only_a_plain_file_up_to_a_bound_is_read_and_nothing_is_waited_for() {
    let directory = open_directory();
    let path = directory.path().join("file");
    file(&path, 0o600);
    assert_eq!(read(&path, 4).unwrap(), b"text");
    assert_eq!(read(&path, 3).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    for other in [pipe.as_path(), directory.path(), Path::new("/dev/zero"), Path::new("/")] {
        assert_eq!(read(other, 9).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", other.display());
    }
    assert_eq!(read(&directory.path().join("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn links_that_nobody_else_could_have_put_there_are_followed() {
    let directory = open_directory();
    fs::create_dir_all(directory.path().join("..data/1")).unwrap();
    file(&directory.path().join("..data/1/token"), 0o600);
    symlink("1/token", directory.path().join("..data/now")).unwrap();
    symlink("x/../..data/now", directory.path().join("token")).unwrap();
    fs::create_dir(directory.path().join("x")).unwrap();
    symlink(directory.path().join("token"), directory.path().join("x/token")).unwrap();
    assert_eq!(read(&directory.path().join("x/token"), 9).unwrap(), b"text");
    symlink("loop", directory.path().join("loop")).unwrap();
    assert_eq!(read(&directory.path().join("loop"), 9).unwrap_err().raw_os_error(), Some(libc::ELOOP));
}

#[test]
fn by_anothers_link_root_reads_nothing_that_they_could_not_read_themselves() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let (secret, public) = (directory.path().join("secret"), directory.path().join("public"));
    file(&secret, 0o600);
    file(&public, 0o644);
    link_of_another(&secret, &app.join("secret"));
    link_of_another(&public, &app.join("public"));
    let error = read(&app.join("secret"), 9).unwrap_err();
    assert!(error.to_string().contains("uid 65534"), "{error}");
    assert_eq!(read(&app.join("public"), 9).unwrap(), b"text");
    // As the kernel shows it to us, and not to them.
    link_of_another(Path::new("/proc/self/maps"), &app.join("maps"));
    assert!(read(&app.join("maps"), 1 << 20).is_err());
    // Of a directory they can't enter.
    fs::create_dir(directory.path().join("closed")).unwrap();
    fs::set_permissions(directory.path().join("closed"), Permissions::from_mode(0o700)).unwrap();
    file(&directory.path().join("closed/public"), 0o644);
    link_of_another(&directory.path().join("closed/public"), &app.join("closed"));
    assert!(read(&app.join("closed"), 9).is_err());
    // A second name of it.
    fs::hard_link(&secret, app.join("hard")).unwrap();
    assert!(read(&app.join("hard"), 9).is_err());
    // What is their own is theirs.
    file(&app.join("own"), 0o600);
    chown(app.join("own"), Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(read(&app.join("own"), 9).unwrap(), b"text");
}

#[test]
fn in_a_directory_for_all_a_link_may_be_anybodys() {
    let directory = open_directory();
    let Some(tmp) = anothers(directory.path()) else { return };
    chown(&tmp, Some(0), Some(0)).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    let secret = directory.path().join("secret");
    file(&secret, 0o600);
    link_of_another(&secret, &tmp.join("theirs"));
    symlink(&secret, tmp.join("ours")).unwrap();
    for mode in [0o1777, 0o777] {
        fs::set_permissions(&tmp, Permissions::from_mode(mode)).unwrap();
        assert!(read(&tmp.join("theirs"), 9).is_err(), "{mode:o}");
        assert!(read(&tmp.join("ours"), 9).is_err(), "{mode:o}");
    }
    fs::set_permissions(&tmp, Permissions::from_mode(0o755)).unwrap();
    assert_eq!(read(&tmp.join("ours"), 9).unwrap(), b"text");
}

/// The sticky bit keeps what is there; who may write where a file of root's is may rename it to a name that is free.
#[test]
#[allow(unsafe_code)]
fn what_another_user_moved_into_a_directory_for_all_leads_root_nowhere() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let (tmp, etc) = (directory.path().join("tmp"), directory.path().join("etc"));
    for (made, mode) in [(&tmp, 0o1777), (&etc, 0o755), (&tmp.join("own"), 0o755)] {
        fs::create_dir(made).unwrap();
        fs::set_permissions(made, Permissions::from_mode(mode)).unwrap();
    }
    file(&etc.join("passwd"), 0o644);
    file(&app.join("secret"), 0o600);
    file(&app.join("open"), 0o666);
    symlink(etc.join("passwd"), app.join("link")).unwrap();
    file(&tmp.join("own/secret"), 0o600);
    // SAFETY: a system call; past the C library, so for this thread alone.
    let become_user = |user: u32| assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) }, 0);
    become_user(OTHER);
    let moved = ["secret", "open", "link"].map(|name| fs::rename(app.join(name), tmp.join(name)));
    let kept = fs::rename(tmp.join("own"), tmp.join("moved"));
    become_user(0);
    assert!(moved.iter().all(Result::is_ok) && kept.is_err(), "{moved:?} {kept:?}");
    let why = read(&tmp.join("secret"), 9).unwrap_err().to_string();
    assert!(why.contains("may move any file into") && why.contains("of its own there, of mode 755"), "{why}");
    assert!(read_and_see_whose(&tmp.join("open"), 9).unwrap().1.is_some(), "what they may read is theirs, perhaps");
    assert!(append(&tmp.join("secret")).is_err());
    // A file there is replaced, whoever moved it, and nobody may do with the new one what they could with that one.
    assert!(Destination::find(&tmp.join("link"), false).is_err());
    let open = Destination::find(&tmp.join("open"), false).unwrap();
    assert!(open.is_new() && !open.is_ours());
    open.replace(b"new", Access::default()).unwrap();
    assert_eq!(fs::metadata(tmp.join("open")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::read(etc.join("passwd")).unwrap(), b"text");
    // A directory of root's that only root may write they can't move.
    assert_eq!(read_and_see_whose(&tmp.join("own/secret"), 9).unwrap(), (b"text".to_vec(), None));
}

/// As Kubernetes mounts a secret's volume.
#[test]
fn what_is_in_a_directory_for_all_that_is_mounted_read_only_was_moved_there_by_nobody() {
    with_mounts(|path| {
        use nix::mount::{MsFlags, mount};
        let (none, volume) = (None::<&str>, path.join("volume"));
        fs::create_dir(&volume).unwrap();
        mount(Some("tmpfs"), &volume, Some("tmpfs"), MsFlags::empty(), Some("mode=1777")).unwrap();
        file(&volume.join("secret"), 0o400);
        symlink("secret", volume.join("link")).unwrap();
        for name in ["secret", "link"] {
            assert!(read(&volume.join(name), 9).is_err(), "{name}");
        }
        mount(none, &volume, none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
        for name in ["secret", "link"] {
            assert_eq!(read_and_see_whose(&volume.join(name), 9).unwrap(), (b"text".to_vec(), None), "{name}");
        }
    });
}

/// A group may be kept from what everybody else may do.
#[test]
fn whoever_is_in_a_group_that_may_do_less_may_be_them() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let secret = directory.path().join("secret");
    file(&secret, 0o604);
    link_of_another(&secret, &app.join("link"));
    assert!(read(&app.join("link"), 9).is_err());
    fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(read(&app.join("link"), 9).unwrap(), b"text");
}

#[test]
fn by_anothers_link_root_writes_nothing_that_they_could_not_write_themselves() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let etc = directory.path().join("etc");
    fs::create_dir(&etc).unwrap();
    file(&etc.join("hook"), 0o4755);
    link_of_another(&etc.join("hook"), &app.join("app.conf"));
    assert!(Destination::find(&app.join("app.conf"), false).is_err());
    link_of_another(&etc.join("not-there"), &app.join("new.conf"));
    assert!(Destination::find(&app.join("new.conf"), true).is_err());
    link_of_another(&etc, &app.join("conf.d"));
    assert!(Destination::find(&app.join("conf.d/new"), true).is_err());
    // Their own link to their own place.
    link_of_another(Path::new("real.conf"), &app.join("link.conf"));
    let own = Destination::find(&app.join("link.conf"), false).unwrap();
    assert!(!own.is_ours());
    own.replace(b"new", Access::default()).unwrap();
    assert_eq!(fs::read_to_string(app.join("real.conf")).unwrap(), "new");
}

#[test]
fn a_directory_made_in_anothers_is_theirs_so_that_they_may_not_be_led_by_it() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    Destination::find(&app.join("a/b/c"), true).unwrap().replace(b"x", Access::default()).unwrap();
    assert_eq!(fs::metadata(app.join("a/b")).unwrap().uid(), OTHER);
    assert!(Destination::find(&app.join("a/b/c"), true).is_ok());
}

#[test]
fn a_file_that_others_have_another_name_of_is_not_written_in_place() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let secret = directory.path().join("secret");
    file(&secret, 0o600);
    fs::hard_link(&secret, app.join("app.conf")).unwrap();
    Destination::find(&app.join("app.conf"), false).unwrap().replace(b"new", Access::default()).unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "text");
    assert_eq!(fs::read_to_string(app.join("app.conf")).unwrap(), "new");
}

/// Runs it where it may mount, in a thread with mounts of its own; not at all where only root may.
fn with_mounts(work: impl FnOnce(&Path) + Send + 'static) {
    let directory = open_directory();
    let path = directory.path().to_owned();
    let thread = std::thread::spawn(move || {
        use nix::mount::{MsFlags, mount};
        use nix::sched::{CloneFlags, unshare};
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNS) {
            return eprintln!("not tried: no mounts of its own ({error})");
        }
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        for (name, size) in [("closed", "size=1m"), ("disk", "size=64k")] {
            fs::create_dir(path.join(name)).unwrap();
            mount(Some("tmpfs"), &path.join(name), Some("tmpfs"), MsFlags::empty(), Some(size)).unwrap();
        }
        // `docker run --read-only -v disk/app.conf:closed/app.conf`.
        let (inside, outside) = (path.join("closed/app.conf"), path.join("disk/app.conf"));
        fs::write(&inside, "").unwrap();
        fs::write(&outside, "old").unwrap();
        mount(Some(&outside), &inside, none, MsFlags::MS_BIND, none).unwrap();
        let closed = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &path.join("closed"), none, closed, none).unwrap();
        work(&path);
    });
    thread.join().unwrap();
}

#[test]
fn a_file_mounted_by_itself_into_a_read_only_root_is_written_in_place() {
    with_mounts(|path| {
        let file = path.join("closed/app.conf");
        let before = fs::metadata(&file).unwrap().ino();
        let destination = Destination::find(&file, false).unwrap();
        destination.replace(b"new", Access { mode: Some(0o600), owner: None }).unwrap();
        assert_eq!(fs::read_to_string(path.join("disk/app.conf")).unwrap(), "new");
        assert_eq!(fs::metadata(&file).unwrap().ino(), before);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    });
}

/// Who isn't to read the new text any more mustn't for a moment, so access is taken before it is written.
#[test]
#[allow(unsafe_code)]
fn a_file_whose_mode_cant_be_changed_keeps_its_text_where_it_is_written_in_place() {
    with_mounts(|path| {
        let file = path.join("closed/app.conf");
        fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
        // SAFETY: a system call; past the C library, so for this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, OTHER, -1) }, 0);
        let destination = Destination::find(&file, false).unwrap();
        let error = destination.replace(b"new", Access { mode: Some(0o600), owner: None }).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    });
}

#[test]
fn a_full_disk_leaves_a_file_that_can_only_be_written_in_place_as_it_was() {
    with_mounts(|path| {
        let file = path.join("closed/app.conf");
        fs::write(&file, "old\n".repeat(100)).unwrap();
        // Until nothing goes on it.
        let filled = fs::write(path.join("disk/fill"), vec![0; 1 << 20]);
        assert_eq!(filled.unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        let destination = Destination::find(&file, false).unwrap();
        let error = destination.replace("new\n".repeat(5_000).as_bytes(), Access::default()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(fs::read_to_string(&file).unwrap(), "old\n".repeat(100));
        // What fits where the old one was, is written.
        destination.replace(&b"new\n".repeat(50), Access::default()).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n".repeat(50));
    });
}

#[test]
fn a_file_that_a_stranger_put_there_first_lends_the_new_one_neither_its_owner_nor_its_mode() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let tmp = directory.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    let secret = Access { mode: Some(0o600), owner: None };
    for (access, mode) in [(secret, 0o600), (Access::default(), 0o644)] {
        let path = tmp.join("app.conf");
        file(&path, 0o666);
        chown(&path, Some(OTHER), Some(OTHER)).unwrap();
        let destination = Destination::find(&path, false).unwrap();
        assert!(!destination.has(b"text").unwrap(), "whatever is in it is theirs to change");
        destination.replace(b"text", access).unwrap();
        let about = fs::metadata(&path).unwrap();
        assert_eq!((about.uid(), about.mode() & 0o7777), (0, mode));
        fs::remove_file(&path).unwrap();
    }
    // Whose the directory is may have it.
    let path = app.join("app.conf");
    file(&path, 0o640);
    chown(&path, Some(OTHER), Some(OTHER)).unwrap();
    Destination::find(&path, false).unwrap().replace(b"new", Access::default()).unwrap();
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (OTHER, 0o640));
}

#[test]
fn a_secret_is_read_however_often_it_is_replaced_meanwhile() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let directory = open_directory();
    let (secret, new) = (directory.path().join("secret"), directory.path().join("new"));
    file(&secret, 0o600);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                file(&new, 0o600);
                fs::rename(&new, &secret).unwrap();
            }
        });
        let read: Vec<_> = (0..2_000).map(|_| read(&secret, 9)).filter(Result::is_err).collect();
        over.store(true, Ordering::Relaxed);
        assert!(read.is_empty(), "{read:?}");
    });
}

#[test]
#[allow(unsafe_code)]
fn an_ordinary_users_own_secret_is_read_from_where_all_may_write() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    fs::set_permissions(&app, Permissions::from_mode(0o777)).unwrap();
    let [own, second, roots] = ["own", "second", "roots"].map(|name| app.join(name));
    for path in [&own, &second, &roots] {
        file(path, 0o400);
    }
    fs::hard_link(&second, app.join("name")).unwrap();
    for path in [&own, &second] {
        chown(path, Some(OTHER + 1), None).unwrap();
    }
    symlink(&own, app.join("link")).unwrap();
    std::thread::scope(|scope| {
        let as_its_user = || {
            // SAFETY: a system call; past the C library, so for this thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, OTHER + 1, -1) }, 0);
            assert_eq!(read(&own, 9).unwrap(), b"text");
            for path in [&second, &roots, &app.join("link")] {
                assert!(read(path, 9).is_err(), "{}", path.display());
            }
        };
        scope.spawn(as_its_user).join().unwrap();
    });
    assert!(read(&own, 9).is_err(), "root reads nothing for others");
}

#[test]
fn what_is_mounted_by_itself_into_anothers_directory_is_in_nobodys_hands() {
    with_mounts(|path| {
        let Some(app) = anothers(path) else { return };
        let (secret, mounted) = (path.join("disk/secret"), app.join("key"));
        file(&secret, 0o400);
        file(&mounted, 0o644);
        file(&app.join("plain"), 0o400);
        let none = None::<&str>;
        nix::mount::mount(Some(&secret), &mounted, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        assert_eq!(read(&mounted, 9).unwrap(), b"text");
        assert!(read(&app.join("plain"), 9).is_err());
        // On a volume another container can move the name: for that one nothing is mounted there.
        let volume = path.join("volume");
        fs::create_dir(&volume).unwrap();
        nix::mount::mount(Some("tmpfs"), &volume, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=64k"))
            .unwrap();
        let Some(app) = anothers(&volume) else { return };
        let mounted = app.join("key");
        file(&mounted, 0o644);
        nix::mount::mount(Some(&secret), &mounted, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        assert!(read(&mounted, 9).is_err());
    });
}

/// A name isn't moved while it is a mount's, but the directories above it are, with all that is mounted below.
#[test]
fn what_is_mounted_below_a_directory_that_others_may_rename_is_in_their_hands() {
    with_mounts(|path| {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("not tried: only root reads what others may not");
        }
        let none = None::<&str>;
        let bind = |from: &Path, to: &Path| {
            nix::mount::mount(Some(from), to, none, nix::mount::MsFlags::MS_BIND, none).unwrap();
        };
        // An emptyDir, and below it what Kubernetes mounts of a secret by `subPath`: a file, and a directory.
        let data = path.join("data");
        fs::create_dir(&data).unwrap();
        fs::create_dir(path.join("disk/secrets")).unwrap();
        file(&path.join("disk/secret"), 0o400);
        file(&path.join("disk/secrets/secret"), 0o400);
        for below in ["app", "app/all", "all"] {
            fs::create_dir(data.join(below)).unwrap();
            fs::set_permissions(data.join(below), Permissions::from_mode(0o755)).unwrap();
        }
        for below in ["secret", "app/secret"] {
            file(&data.join(below), 0o644);
            bind(&path.join("disk/secret"), &data.join(below));
        }
        for below in ["all", "app/all"] {
            bind(&path.join("disk/secrets"), &data.join(below));
        }
        let deep = [data.join("app/secret"), data.join("app/all/secret")];
        for (mode, readable) in [(0o777, false), (0o1777, true), (0o755, true)] {
            fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
            for secret in &deep {
                assert_eq!(read(secret, 9).is_ok(), readable, "{mode:o}: {}", secret.display());
                assert_eq!(survey(secret, true).is_none(), readable, "{mode:o}: {}", secret.display());
            }
            // Straight in it, their own names keep them where they are.
            for secret in [data.join("secret"), data.join("all/secret")] {
                assert_eq!(read_and_see_whose(&secret, 9).unwrap(), (b"text".to_vec(), None));
            }
        }
        fs::set_permissions(&data, Permissions::from_mode(0o777)).unwrap();
        let why = read(&deep[0], 9).unwrap_err().to_string();
        assert!(why.contains(&format!("`chmod +t {}`", data.display())), "{why}");
        // What they may read themselves is read all the same, as ever.
        fs::set_permissions(path.join("disk/secret"), Permissions::from_mode(0o444)).unwrap();
        assert_eq!(read(&deep[0], 9).unwrap(), b"text");
    });
}

#[test]
fn a_file_that_others_may_write_is_not_ours_wherever_it_is() {
    let directory = open_directory();
    let path = directory.path().join("token");
    file(&path, 0o600);
    let why = || read_and_see_whose(&path, 9).unwrap().1;
    // Whoever's own group that is, it is nobody else's as far as is known.
    for mode in [0o600, 0o644, 0o664, 0o755] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(why(), None, "{mode:o}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let told = format!("anybody may write to it (`chmod go-w {}`)", path.display());
    assert_eq!((why(), survey(&path, true), survey(&path, false)), (Some(told.clone()), Some(told), None));
    if chown(&path, None, Some(OTHER)).is_err() {
        return eprintln!("not tried: only root gives files to others' groups");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    assert_eq!(why(), None, "who may read it wrote nothing");
    // A volume's with fsGroup.
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    assert_eq!(why(), Some(format!("gid 65534 may write to it (`chmod go-w {}`)", path.display())));
}

#[test]
fn a_destination_may_have_the_longest_name_there_is() {
    let directory = open_directory();
    let path = directory.path().join("n".repeat(255));
    for text in [b"one", b"two"] {
        Destination::find(&path, false).unwrap().replace(text, Access::default()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
    }
    let place = find(&path).unwrap();
    assert!(place.beside().len() == 255 && place.is_beside(place.beside().as_encoded_bytes()));
}

/// Programs that read all that ends as theirs does, hidden or not, read nothing that isn't complete and live.
#[test]
fn what_lies_beside_a_file_for_a_moment_has_an_ending_of_its_own_and_is_removed_when_it_was_left() {
    let directory = open_directory();
    let path = directory.path().join("app.json");
    let beside = || find(&path).unwrap().beside().into_string().unwrap();
    let (old, new) = (beside(), beside());
    assert!(old.starts_with(".app.json.") && old.ends_with(".pilotfish") && old != new, "{old} {new}");
    let others = [".other.json.0123456789abcdef.pilotfish", ".app.json.pilotfish", ".app.json.0.pilotfish", &new];
    let long_ago =
        fs::FileTimes::new().set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(700));
    for name in [old.as_str()].into_iter().chain(others) {
        let file = fs::File::create(directory.path().join(name)).unwrap();
        if name != new {
            file.set_times(long_ago).unwrap();
        }
    }
    let names = || {
        let names =
            fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    Destination::find(&path, false).unwrap().sweep();
    assert_eq!(names(), others.map(str::to_owned).into());
    Destination::find(&path, false).unwrap().replace(b"text", Access::default()).unwrap();
    assert_eq!(names().len(), others.len() + 1);
}

#[test]
fn by_anothers_link_a_directory_is_opened_and_made_only_where_they_may_write() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let [ours, all] = ["ours", "all"].map(|name| directory.path().join(name));
    for (path, mode) in [(&ours, 0o755), (&all, 0o777)] {
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    link_of_another(&ours, &app.join("to-ours"));
    link_of_another(&all, &app.join("to-all"));
    assert!(super::directory(&ours).is_ok() && super::directory(&app).is_ok());
    assert!(super::directory(&app.join("to-all")).is_ok());
    let refused = super::directory(&app.join("to-ours")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
    // below their link too.
    assert!(make_directory(&app.join("to-ours/new/deep"), 0o777).is_err());
    assert!(make_directory(&app.join("to-all/new"), 0o777).unwrap());
    assert!(!make_directory(&app.join("to-all/new"), 0o777).unwrap());
    assert!(!ours.join("new").exists() && all.join("new").is_dir());
}

#[test]
fn by_anothers_link_nothing_is_added_to_a_file_that_they_could_not_write_to() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let ours = directory.path().join("ours");
    file(&ours, 0o644);
    link_of_another(&ours, &app.join("log"));
    assert_eq!(append(&app.join("log")).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(append(&ours).is_ok());
}

#[test]
fn a_socket_is_bound_where_it_was_found_whatever_becomes_of_the_path() {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, socket};
    use std::os::fd::AsRawFd;
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let ours = directory.path().join("ours");
    fs::create_dir(&ours).unwrap();
    link_of_another(&ours, &app.join("link"));
    assert_eq!(SocketPlace::find(&app.join("link/s")).unwrap_err().kind(), io::ErrorKind::PermissionDenied);

    fs::create_dir(app.join("run")).unwrap();
    chown(app.join("run"), Some(OTHER), Some(OTHER)).unwrap();
    let place = SocketPlace::find(&app.join("run/s")).unwrap();
    fs::rename(app.join("run"), app.join("moved")).unwrap();
    link_of_another(&ours, &app.join("run"));
    let bound = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(bound.as_raw_fd(), &place.address().unwrap()).unwrap();
    assert!(!ours.join("s").exists() && app.join("moved/s").exists());
    // What took its place meanwhile isn't removed for it.
    let place = SocketPlace::find(&app.join("moved/s")).unwrap();
    assert!(place.is_socket());
    fs::remove_file(app.join("moved/s")).unwrap();
    file(&app.join("moved/s"), 0o600);
    assert!(place.remove().is_err() && app.join("moved/s").exists());
}

#[test]
fn a_scratch_file_is_made_only_where_nobody_else_may_move_it() {
    let above = open_directory();
    let directory = above.path().join("tmp");
    fs::create_dir(&directory).unwrap();
    let name = std::ffi::OsStr::new("file");
    for (mode, made) in [(0o755, true), (0o1777, true), (0o777, false)] {
        fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        let path = super::scratch::make_in(&directory, name, b"text", &Look { mode: 0o400, ..Look::default() });
        assert_eq!(path.is_ok(), made, "{mode:o}: {path:?}");
        if let Ok(path) = path {
            Scratch::remove(&path);
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
    }
}

/// A directory that others may write in they may rename to any name.
#[test]
fn what_is_called_like_an_old_scratch_directory_and_others_may_write_in_stays() {
    let directory = open_directory();
    let old = |name: &str, mode: u32| {
        let made = directory.path().join(name);
        fs::create_dir_all(made.join("deep")).unwrap();
        fs::write(made.join("deep/kept"), "").unwrap();
        fs::write(made.join("file"), "").unwrap();
        fs::set_permissions(&made, Permissions::from_mode(mode)).unwrap();
        fs::File::open(&made).and_then(|file| file.set_modified(std::time::SystemTime::UNIX_EPOCH)).unwrap();
        made
    };
    let (closed, open) = (old(".pilotfish-0123456789abcdef", 0o711), old(".pilotfish-fedcba9876543210", 0o777));
    let name = std::ffi::OsStr::new("file");
    let path = super::scratch::make_in(directory.path(), name, b"text", &Look { mode: 0o400, ..Look::default() });
    Scratch::remove(&path.unwrap());
    assert!(!closed.exists() && open.join("file").exists() && open.join("deep/kept").exists());
}

/// What a config names by a relative path is found from where its check reads it, and what it is to replace isn't.
#[test]
fn what_lies_beside_a_destination_is_found_beside_a_scratch_file_and_outlives_it() {
    let (above, etc) = (open_directory(), open_directory());
    let tmp = above.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    let name = std::ffi::OsStr::new("app.json");
    for (name, text) in [("app.json", "old"), ("mime.types", "types"), (".hidden", "hidden")] {
        fs::write(etc.path().join(name), text).unwrap();
    }
    fs::create_dir(etc.path().join("conf.d")).unwrap();
    fs::write(etc.path().join("conf.d/a.json"), "a").unwrap();
    let us = Some(nix::unistd::geteuid().as_raw());
    for (mode, reader, listed) in
        [(0o755, us, 0o755), (0o750, us, 0o751), (0o700, us, 0o711), (0o755, None, 0o700), (0o700, None, 0o700)]
    {
        fs::set_permissions(etc.path(), Permissions::from_mode(mode)).unwrap();
        let look = Look { mode: 0o644, reader, neighbours: Some(etc.path()) };
        let path = super::scratch::make_in(&tmp, name, b"new", &look).unwrap();
        let here = path.parent().unwrap();
        let read = |name: &str| fs::read_to_string(here.join(name)).unwrap();
        let found = ["app.json", "mime.types", ".hidden", "conf.d/a.json"].map(read);
        assert_eq!(found, ["new", "types", "hidden", "a"]);
        let modes = [here, &path].map(|path| fs::metadata(path).unwrap().mode() & 0o7777);
        assert_eq!(modes, [listed, 0o400], "{mode:o} {reader:?}");
        assert!(Scratch::is_any());
        Scratch::remove(&path);
        assert!(!here.exists() && etc.path().join("conf.d/a.json").exists());
    }
    // One in that very directory doesn't lead into itself.
    let look = Look { mode: 0o400, neighbours: Some(etc.path()), ..Look::default() };
    let path = super::scratch::make_in(etc.path(), name, b"new", &look).unwrap();
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 4);
    Scratch::remove(&path);
    // What a crash has left is removed by the next one, and nobody else's.
    let left = [".pilotfish-0123456789abcdef", ".pilotfish-shared", ".pilotfish-fedcba9876543210"];
    let [old, others, new] = left.map(|name| tmp.join(name));
    let long_ago =
        fs::FileTimes::new().set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(700));
    for directory in [&old, &others, &new] {
        fs::create_dir(directory).unwrap();
        if directory != &new {
            symlink(etc.path().join("conf.d"), directory.join("conf.d")).unwrap();
            fs::File::open(directory).unwrap().set_times(long_ago).unwrap();
        }
    }
    let path = super::scratch::make_in(&tmp, name, b"new", &Look::default()).unwrap();
    assert_eq!([&old, &others, &new].map(|directory| directory.exists()), [false, true, true]);
    Scratch::remove_all();
    assert!(!path.parent().unwrap().exists() && etc.path().join("conf.d/a.json").exists());
}

#[test]
#[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
fn a_program_can_be_run_by_its_check_wherever_something_else_is_mounted_noexec() {
    with_mounts(|path| {
        use nix::mount::{MsFlags, mount};
        let none = None::<&str>;
        // Here /tmp, where this test's own directory is as a rule, is hidden soon.
        let there = Path::new("/run/there");
        let name = std::ffi::OsStr::new("run.sh");
        let look = |mode: u32, is_ours: bool| {
            let look = Look { mode, reader: None, neighbours: is_ours.then_some(there) };
            let path = Scratch::make(name, b"#!/bin/sh\nexit 7\n", &look).unwrap();
            let place = path.parent().and_then(Path::parent).unwrap().to_owned();
            let told = (fs::metadata(&path).unwrap().mode() & 0o7777, place);
            let code = std::process::Command::new(&path).status().ok().and_then(|status| status.code());
            Scratch::remove(&path);
            (told.0, code, told.1)
        };
        let mount_at = |place: &str| {
            let how = Some("size=64k,mode=755");
            mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::MS_NOEXEC, how).unwrap();
        };
        mount_at("/run");
        fs::create_dir(there).unwrap();
        mount(Some(&path.join("disk")), there, none, MsFlags::MS_BIND, none).unwrap();
        ["/dev/shm", "/tmp"].into_iter().for_each(mount_at);
        fs::set_permissions(there, Permissions::from_mode(0o755)).unwrap();
        let (run, var_tmp) = (PathBuf::from("/run"), PathBuf::from("/var/tmp"));
        for mode in [0o755, 0o050] {
            assert_eq!(look(mode, true), (0o500, Some(7), var_tmp.clone()), "{mode:o}");
        }
        mount_at("/var/tmp");
        assert_eq!(look(0o755, true), (0o500, Some(7), there.to_owned()), "the last resort");
        // What nobody is to run, and what can be run nowhere, isn't beside its destination for that.
        assert_eq!(look(0o644, true), (0o400, None, run.clone()));
        assert_eq!(look(0o755, false), (0o500, None, run.clone()));
    });
}

/// Root without CAP_CHOWN, say. What is for another user then lies where its own directory keeps it from the rest.
#[test]
#[allow(unsafe_code)]
fn what_can_not_be_given_to_who_checks_it_is_read_by_others_only_beside_its_destination() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let become_user = |user: u32| {
        // SAFETY: a system call; past the C library, so for this thread alone.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) }, 0);
    };
    let (above, etc) = (open_directory(), open_directory());
    let tmp = above.path().join("tmp");
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(etc.path(), Permissions::from_mode(0o700)).unwrap();
    chown(etc.path(), Some(OTHER), Some(OTHER)).unwrap();
    let name = std::ffi::OsStr::new("app.json");
    let look = Look { mode: 0o755, reader: Some(OTHER + 1), neighbours: Some(etc.path()) };
    become_user(OTHER);
    let made = [tmp.as_path(), etc.path()].map(|place| super::scratch::make_in(place, name, b"new", &look));
    let [elsewhere, beside] = made.map(|made| made.map(|path| (fs::metadata(&path).unwrap().mode() & 0o7777, path)));
    if let Ok((_, path)) = &beside {
        Scratch::remove(path);
    }
    become_user(0);
    let error = elsewhere.unwrap_err().to_string();
    assert!(error.starts_with("uid 65535 can't be given a file"), "{error}");
    assert_eq!(beside.unwrap().0, 0o555);
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
}

#[test]
fn whoever_may_rename_roots_files_gets_none_of_them_read_and_the_error_says_what_keeps_them_out() {
    let directory = open_directory();
    let shared = directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, Permissions::from_mode(0o777)).unwrap();
    let (token, public) = (shared.join("token"), shared.join("public"));
    file(&token, 0o600);
    file(&public, 0o644);
    if nix::unistd::geteuid().is_root() {
        let why = read(&token, 9).unwrap_err().to_string();
        assert!(why.contains(&format!("`chmod +t {}`", shared.display())), "{why}");
        assert_eq!(survey(&token, false), Some(why));
    }
    // What they may read is read, but may be theirs.
    let (_, why) = read_and_see_whose(&public, 9).unwrap();
    let why = why.unwrap();
    assert!(why.contains("another user may have put it there") && why.contains("chmod +t"), "{why}");
    assert_eq!((survey(&public, false), survey(&public, true)), (None, Some(why)));
    // As it says.
    fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
    let own = shared.join("own");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, Permissions::from_mode(0o755)).unwrap();
    fs::rename(&token, own.join("token")).unwrap();
    assert_eq!(read_and_see_whose(&own.join("token"), 9).unwrap(), (b"text".to_vec(), None));
    // Where the bit would change nothing, it isn't named.
    let Some(app) = anothers(directory.path()) else { return };
    file(&app.join("token"), 0o600);
    let why = read(&app.join("token"), 9).unwrap_err().to_string();
    assert!(why.contains(&app.display().to_string()) && !why.contains("chmod"), "{why}");
    assert_eq!(survey(&directory.path().join("none"), true), None);
}

/// A user that spins renameat2(2) needs a few tries; without the mark it wins one of these.
#[test]
fn what_is_moved_to_the_place_of_a_directory_just_made_is_not_given_away_for_it() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let (new, private) = (app.join("new"), app.join("private"));
    fs::create_dir(&private).unwrap();
    file(&private.join("secret"), 0o644);
    fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let _ = nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, &new, nix::fcntl::AT_FDCWD, &private, flags);
            }
        });
        for turn in 0..3_000 {
            let _ = match turn % 2 {
                0 => make_directory(&new, 0o777).map(drop),
                _ => Destination::find(&new.join("app.conf"), true).map(drop),
            };
            // Whichever it is that has nothing in it.
            let _ = fs::remove_dir(&new);
            let _ = fs::remove_dir(&private);
        }
        over.store(true, Ordering::Relaxed);
    });
    let kept = [new, private].into_iter().find(|path| path.join("secret").exists()).expect("it was moved only");
    let about = fs::metadata(kept).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (nix::unistd::geteuid().as_raw(), 0o700));
}

#[test]
fn a_directory_just_made_is_known_by_its_mode_and_gets_the_one_that_is_asked_for() {
    let directory = open_directory();
    let is_finished = |mode: u32| {
        let path = directory.path().join(format!("{mode:o}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let mut finished = false;
        let opened = File::open(&path).unwrap().into();
        super::fresh::finish_fresh(&opened, |_| {
            finished = true;
            Ok(())
        })
        .unwrap();
        finished
    };
    // By whatever umask, and in a directory with the group's bit.
    assert!([0o1555, 0o1550, 0o1500, 0o3555].into_iter().all(is_finished));
    assert!(![0o700, 0o755, 0o1700, 0o1755, 0o1777, 0o1733].into_iter().any(is_finished));
    // Where mkdir(2) doesn't keep the sticky bit, but not one with something in it.
    assert!(is_finished(0o555));
    let full = directory.path().join("500");
    fs::create_dir_all(full.join("something")).unwrap();
    fs::set_permissions(&full, Permissions::from_mode(0o500)).unwrap();
    let opened = File::open(&full).unwrap().into();
    super::fresh::finish_fresh(&opened, |_| panic!("it isn't ours to change")).unwrap();
    let path = directory.path().join("new");
    assert!(make_directory(&path, 0o777).unwrap() && !make_directory(&path, 0o700).unwrap());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o777);
}

#[test]
fn in_a_directory_that_is_not_its_owners_alone_whoever_may_write_there_may_have_led() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let home = directory.path().join("home");
    fs::create_dir(&home).unwrap();
    for name in ["secret", "conf"] {
        file(&home.join(name), 0o600);
        chown(home.join(name), Some(OTHER), Some(OTHER)).unwrap();
        link_of_another(&home.join(name), &app.join(name));
    }
    chown(&home, Some(OTHER), Some(OTHER)).unwrap();
    file(&app.join("group"), 0o640);
    chown(app.join("group"), Some(OTHER), Some(OTHER + 1)).unwrap();
    for (mode, group, alone) in [
        (0o755, OTHER, true),
        // A umask of 002, and a group that has the user's number.
        (0o775, OTHER, true),
        (0o777, OTHER, false),
        // A volume that two share by a group of theirs.
        (0o775, OTHER + 1, false),
        (0o755, OTHER + 1, true),
        // What is here may have been moved here.
        (0o1777, OTHER, false),
    ] {
        chown(&app, None, Some(group)).unwrap();
        fs::set_permissions(&app, Permissions::from_mode(mode)).unwrap();
        assert_eq!(read(&app.join("secret"), 9).is_ok(), alone, "{mode:o} {group}");
        assert_eq!(Destination::find(&app.join("conf"), false).is_ok(), alone, "{mode:o} {group}");
        // What all of them may do is done for any of them, and a directory made there is its owner's.
        assert_eq!(read(&app.join("group"), 9).is_ok(), mode & 0o777 != 0o777, "{mode:o} {group}");
        let parents = Destination::find(&app.join(format!("{mode:o}{group}/new.conf")), true).unwrap();
        parents.replace(b"new", Access::default()).unwrap();
        assert_eq!(fs::metadata(app.join(format!("{mode:o}{group}"))).unwrap().uid(), OTHER);
    }
    std::os::unix::fs::lchown(app.join("secret"), Some(OTHER + 1), None).unwrap();
    assert!(read(&app.join("secret"), 9).is_err(), "another's link in it");
}

#[test]
fn a_socket_is_of_one_user_only_where_nobody_else_could_put_another() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let made = |name: &str, mode| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let (roots, open, sticky) = (made("roots", 0o755), made("open", 0o777), made("1777", 0o1777));
    let looked = |path: &Path| {
        let looked = SocketPlace::find(path).and_then(|place| place.one_user());
        looked.map_err(|error| error.to_string())
    };
    let by = |path: &Path, user| {
        drop(UnixListener::bind(path).unwrap());
        chown(path, Some(user), Some(user)).unwrap();
        looked(path)
    };
    assert_eq!(by(&roots.join("s"), 0), Ok(None));
    assert_eq!(by(&roots.join("theirs"), OTHER), Ok(None), "root put it there");
    assert_eq!(looked(&roots.join("none")), Ok(None), "nobody else can");
    assert_eq!(by(&app.join("s"), OTHER), Ok(Some(OTHER)), "in a directory of its own");
    for (all, mode) in [(&open, "777"), (&sticky, "1777")] {
        let told = |name: &str, user| by(&all.join(name), user).unwrap_err();
        let (path, roots) = (all.display(), told("s", 0));
        assert!(
            roots.contains(&format!("anybody may put a socket of theirs in {path} (uid 0's, mode {mode})")),
            "{roots}"
        );
        assert_eq!(told("theirs", OTHER), roots);
        assert_eq!(looked(&all.join("none")).unwrap_err(), roots, "whoever comes first");
    }
    // A directory of theirs is no better where they may have made it in a daemon's place; root's is, for it stays.
    for (name, user, theirs) in [("run", OTHER, true), ("roots", 0, false)] {
        fs::create_dir(sticky.join(name)).unwrap();
        chown(sticky.join(name), Some(user), Some(user)).unwrap();
        assert_eq!(by(&sticky.join(name).join("s"), user).is_err(), theirs, "{name}");
    }
    // Two users on one way.
    fs::create_dir(app.join("another")).unwrap();
    chown(app.join("another"), Some(4242), Some(4242)).unwrap();
    let told = by(&app.join("another/s"), 4242).unwrap_err();
    assert!(told.contains(&format!("uid {OTHER} may put a socket of theirs in {}", app.display())), "{told}");
    // By a link of theirs into what is root's.
    link_of_another(&roots, &app.join("link"));
    assert!(looked(&app.join("link/s")).unwrap_err().contains("may put nothing there"));
    // By one of root's.
    symlink(&app, roots.join("link")).unwrap();
    assert_eq!(looked(&roots.join("link/s")), Ok(Some(OTHER)));
    // A group of others.
    chown(&roots, None, Some(4242)).unwrap();
    fs::set_permissions(&roots, Permissions::from_mode(0o775)).unwrap();
    assert!(looked(&roots.join("s")).unwrap_err().contains("gid 4242 may put"));
}

#[test]
fn a_socket_that_was_found_is_the_one_that_is_spoken_to_whatever_its_name_leads_to_by_then() {
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let (theirs, roots) = (app.join("control.sock"), directory.path().join("roots.sock"));
    let listens = UnixListener::bind(&theirs).unwrap();
    let other = UnixListener::bind(&roots).unwrap();
    other.set_nonblocking(true).unwrap();
    let (found, late) = (SocketPlace::find(&theirs).unwrap(), SocketPlace::find(&theirs).unwrap());
    let held = found.held().unwrap().expect("others may change where it leads");
    fs::rename(&theirs, app.join("aside")).unwrap();
    symlink(&roots, &theirs).unwrap();
    let _spoken = UnixStream::connect(held.path()).unwrap();
    listens.accept().unwrap();
    assert!(other.accept().is_err(), "nobody came");
    assert!(late.held().is_err());
}

#[test]
#[allow(clippy::disallowed_types, reason = "a child of the test's own, which nobody else reaps")]
fn what_the_kernel_itself_answers_is_neither_read_nor_written_where_others_led_though_they_may() {
    use std::os::unix::process::CommandExt;
    let directory = open_directory();
    let Some(app) = anothers(directory.path()) else { return };
    let mut child = std::process::Command::new("sleep").arg("100").uid(OTHER).gid(OTHER).spawn().unwrap();
    let mut targets = vec![PathBuf::from(format!("/proc/{}/oom_score_adj", child.id()))];
    // A cgroup that is theirs, where one can be made: no file can be beside its own, so they are written in place.
    let name = format!("pilotfish-test-{}", std::process::id());
    let cgroups = ["/sys/fs/cgroup", "/sys/fs/cgroup/pids"].map(|root| Path::new(root).join(&name));
    let made: Vec<_> = cgroups.into_iter().filter(|cgroup| fs::create_dir(cgroup).is_ok()).collect();
    for cgroup in &made {
        let processes = cgroup.join("cgroup.procs");
        if chown(cgroup, Some(OTHER), None).and_then(|()| chown(&processes, Some(OTHER), None)).is_ok() {
            targets.push(processes);
        }
    }
    if made.is_empty() {
        eprintln!("not tried: no cgroup of their own");
    }
    let mut led_to = Vec::new();
    for (number, target) in targets.iter().enumerate() {
        let link = app.join(number.to_string());
        link_of_another(target, &link);
        for path in [link, target.clone()] {
            let to = Destination::find(&path, false).map(drop).map_err(|error| error.kind());
            led_to.push((path.clone(), to, read(&path, 1 << 20).is_ok(), append(&path).is_ok()));
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    made.iter().for_each(|cgroup| fs::remove_dir(cgroup).unwrap());
    for (path, to, is_read, is_added_to) in led_to {
        let refused = Err(io::ErrorKind::PermissionDenied);
        assert_eq!((to, is_read, is_added_to), (refused, false, false), "{}", path.display());
    }
    // What root names itself is its own to order.
    assert!(Destination::find(Path::new("/proc/self/oom_score_adj"), false).is_ok());
}

#[test]
fn a_second_name_of_a_link_or_a_socket_in_a_directory_for_all_is_anybodys_work() {
    let directory = open_directory();
    let [tmp, file_of_ours, link, socket] = ["tmp", "file", "link", "socket"].map(|name| directory.path().join(name));
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    file(&file_of_ours, 0o600);
    symlink(&file_of_ours, &link).unwrap();
    let _listens = UnixListener::bind(&socket).unwrap();
    for name in ["link", "socket"] {
        fs::hard_link(directory.path().join(name), tmp.join(name)).unwrap();
    }
    assert!(read(&tmp.join("link"), 9).is_err());
    assert!(Destination::find(&tmp.join("link"), false).is_err());
    assert!(SocketPlace::find(&tmp.join("socket")).unwrap().hold().unwrap().is_in_others_hands());
    // Where nobody else makes names, a second one is nobody else's.
    assert_eq!(read(&link, 9).unwrap(), b"text");
    assert!(!SocketPlace::find(&socket).unwrap().hold().unwrap().is_in_others_hands());
}

#[test]
fn a_file_written_in_place_runs_as_its_owner_no_more_unless_that_is_asked_for() {
    with_mounts(|path| {
        let file = path.join("closed/app.conf");
        let write = |before: u32, mode: Option<u32>| {
            fs::set_permissions(&file, Permissions::from_mode(before)).unwrap();
            Destination::find(&file, false).unwrap().replace(b"new", Access { mode, owner: None }).unwrap();
            fs::metadata(&file).unwrap().mode() & 0o7777
        };
        assert_eq!(write(0o6755, None), 0o755);
        assert_eq!(write(0o644, None), 0o644);
        assert_eq!(write(0o4755, Some(0o700)), 0o700);
        assert_eq!(write(0o644, Some(0o4755)), 0o4755);
        assert_eq!(write(0o4755, Some(0o4755)), 0o4755);
    });
}

/// As in a shared tree on which somebody ran `chmod -R g+s`: only its owner may change its mode.
#[test]
#[allow(unsafe_code)]
fn a_file_written_in_place_by_who_may_not_change_its_mode_runs_as_nobody_by_then() {
    with_mounts(|path| {
        let file = path.join("closed/app.conf");
        let set = |mode: u32| {
            fs::write(&file, "old").unwrap();
            chown(&file, Some(0), Some(OTHER)).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        };
        let become_user = |user: u32| {
            // SAFETY: a system call; past the C library, so for this thread alone.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, -1, user, -1) }, 0);
        };
        let become_group = |group: u32| {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::syscall(libc::SYS_setresgid, -1, group, -1) }, 0);
        };
        for (before, asked, after) in [
            (0o2664, None, Ok(0o2664)),
            (0o2674, None, Ok(0o674)),
            (0o6774, None, Ok(0o774)),
            (0o4664, Some(0o664), Ok(0o664)),
            (0o2674, Some(0o674), Ok(0o674)),
            // What it is asked to be it can't be given: as it was.
            (0o2664, Some(0o664), Err(libc::EPERM)),
            (0o2674, Some(0o640), Err(libc::EPERM)),
            (0o664, Some(0o4664), Err(libc::EPERM)),
        ] {
            set(before);
            become_group(OTHER);
            become_user(OTHER);
            let access = Access { mode: asked, owner: None };
            let written = Destination::find(&file, false).unwrap().replace(b"new", access);
            become_user(0);
            become_group(0);
            let mode = fs::metadata(&file).unwrap().mode() & 0o7777;
            let written = written.map(|()| mode).map_err(|error| error.raw_os_error().unwrap());
            assert_eq!(written, after, "{before:o} {asked:?}");
            assert_eq!(fs::read_to_string(&file).unwrap(), if after.is_ok() { "new" } else { "old" });
        }
    });
}

#[test]
fn where_nothing_was_found_nothing_is_spoken_to_whatever_is_there_by_then() {
    let directory = open_directory();
    let (tmp, roots) = (directory.path().join("tmp"), directory.path().join("roots.sock"));
    let _listens = UnixListener::bind(&roots).unwrap();
    fs::create_dir(&tmp).unwrap();
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).unwrap();
    let place = SocketPlace::find(&tmp.join("s")).unwrap();
    symlink(&roots, tmp.join("s")).unwrap();
    assert_eq!(place.hold().unwrap_err().kind(), io::ErrorKind::NotFound);
    // What is found is held, and nobody else may have had it found.
    let held = SocketPlace::find(&roots).unwrap().hold().unwrap();
    assert!(!held.is_in_others_hands() && UnixStream::connect(held.path()).is_ok());
}

/// A user who is in no other entry may read, and the owning group may not: by its mode alone it could.
fn acl(group: u8) -> Vec<u8> {
    let entry =
        |tag: u16, right: u16, id: u32| [&tag.to_le_bytes()[..], &right.to_le_bytes(), &id.to_le_bytes()].concat();
    let nobody = u32::MAX;
    let entries = [
        entry(0x01, 6, nobody),
        entry(0x02, 4, OTHER),
        entry(0x04, group.into(), nobody),
        entry(0x10, 4, nobody),
        entry(0x20, 0, nobody),
    ];
    [&2u32.to_le_bytes()[..], &entries.concat()].concat()
}

#[test]
fn the_acl_of_a_file_that_is_replaced_stays_and_where_it_can_not_nobody_may_do_more_without_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let acl_of = |path: &Path| super::acl::Acl::of(fs::File::open(path).unwrap());
    let replaced = |access| {
        let _ = fs::remove_file(&path);
        file(&path, 0o600);
        let given = super::acl::Acl::from(acl(0)).give(fs::File::open(&path).unwrap());
        assert!(given.is_ok(), "{given:?}");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640, "the mask is in the group's place");
        Destination::find(&path, false).unwrap().replace(b"new", access).unwrap();
        (acl_of(&path).is_some(), fs::metadata(&path).unwrap().mode() & 0o777)
    };
    assert_eq!(replaced(Access::default()), (true, 0o640));
    assert_eq!(acl_of(&path), Some(super::acl::Acl::from(acl(0))));
    // Another mode is asked for: it says all.
    assert_eq!(replaced(Access { mode: Some(0o640), owner: None }), (false, 0o640));
    if nix::unistd::geteuid().is_root() {
        // Those it named are another owner's to name.
        assert_eq!(replaced(Access { mode: None, owner: Some((OTHER, Some(OTHER))) }), (false, 0o600));
        assert_eq!(replaced(Access { mode: None, owner: Some((0, Some(0))) }), (true, 0o640));
    }
}

#[test]
fn what_a_group_may_is_what_its_entry_and_the_mask_let_it() {
    for (entry, may) in [(0, 0), (4, 4), (7, 4), (2, 0)] {
        assert_eq!(super::acl::Acl::from(acl(entry)).group(), may);
    }
    for none in [&b""[..], b"\x02", &[0; 12]] {
        assert_eq!(super::acl::Acl::from(none.to_vec()).group(), 0);
    }
}
