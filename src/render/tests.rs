use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;

fn template(directory: &Path, text: &str) -> Template {
    let source = directory.join("app.conf.j2");
    fs::write(&source, text).unwrap();
    Template {
        source,
        destination: directory.join("app.conf"),
        check: None,
        check_timeout: std::time::Duration::from_secs(1),
        check_as: Default::default(),
        mode: None,
        owner: None,
        parents: false,
        required: None,
    }
}

fn value(value: &str) -> Observation {
    Observation::Key(Some(value.to_owned()))
}

fn staged(template: &Template, value_seen: &str) -> Staged {
    match stage("w", template, &value(value_seen), false, &Variables::default()).unwrap() {
        Rendering::Staged(staged) => staged,
        other => panic!("{other:?}"),
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn a_new_file_is_live_only_once_installed_and_then_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "it is {{ value }}\n");
    let first = staged(&template, "1");
    assert!(!template.destination.exists());
    install(&first).unwrap();
    assert_eq!(fs::read_to_string(&template.destination).unwrap(), "it is 1\n");
    let again = stage("w", &template, &value("1"), false, &Variables::default()).unwrap();
    assert_eq!(again, Rendering::Unchanged);
    discard(&staged(&template, "2"));
    assert_eq!(fs::read_to_string(&template.destination).unwrap(), "it is 1\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

#[test]
fn owner_mode_and_a_symlink_at_the_destination_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ value }}");
    let real = directory.path().join("real.conf");
    fs::write(&real, "old").unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink(&real, &template.destination).unwrap();
    install(&staged(&template, "new")).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    assert_eq!(mode(&real), 0o640);
    assert!(fs::symlink_metadata(&template.destination).unwrap().is_symlink());
}

#[test]
fn a_link_to_what_is_not_there_yet_stays_one() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ value }}");
    let real = directory.path().join("real.conf");
    std::os::unix::fs::symlink("real.conf", &template.destination).unwrap();
    install(&staged(&template, "new")).unwrap();
    assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    assert!(fs::symlink_metadata(&template.destination).unwrap().is_symlink());
}

#[test]
fn new_content_never_runs_as_the_owner_of_the_old() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ value }}");
    fs::write(&template.destination, "old").unwrap();
    fs::set_permissions(&template.destination, fs::Permissions::from_mode(0o6755)).unwrap();
    install(&staged(&template, "new")).unwrap();
    assert_eq!(mode(&template.destination), 0o755);
}

/// Whoever could write into it while a check reads it would have root read that, and whoever reads its directory would read
/// what no check has let through.
#[test]
fn what_a_check_looks_at_is_for_nobody_else_to_write_and_lies_in_no_directory_that_others_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut template = template(directory.path(), "{{ value }}");
    let names = || {
        let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    fs::write(&template.destination, "old").unwrap();
    fs::set_permissions(&template.destination, fs::Permissions::from_mode(0o666)).unwrap();
    let before = names();
    // Who isn't shown the file needs none.
    for check in [None, Some(vec!["true".into()])] {
        template.check = check;
        let unseen = staged(&template, "0");
        assert_eq!((unseen.path.as_deref(), names()), (None, before.clone()));
        discard(&unseen);
    }
    template.check = Some(vec!["true".into(), "--config={}".into()]);
    let first = staged(&template, "1");
    let path = first.path.clone().unwrap();
    let about = fs::metadata(&path).unwrap();
    assert_eq!((about.mode() & 0o777, about.uid()), (0o400, nix::unistd::geteuid().as_raw()));
    assert_eq!(mode(path.parent().unwrap()), 0o700, "nobody else so much as lists it");
    assert_eq!((names(), path.file_name()), (before.clone(), template.destination.file_name()));
    // By a relative path it names the same from there.
    let neighbour = fs::read_to_string(path.with_file_name("app.conf.j2")).unwrap();
    assert_eq!((neighbour.as_str(), first.beside), ("{{ value }}", true));
    install(&first).unwrap();
    assert_eq!(
        (mode(&template.destination), fs::read_to_string(&template.destination).unwrap().as_str()),
        (0o666, "1")
    );
    assert_eq!((names(), path.parent().unwrap().exists()), (before, false));
}

#[test]
fn a_check_finds_beside_what_it_looks_at_nothing_that_somebody_else_has_put_there() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut template = template(directory.path(), "{{ value }}");
    let theirs = directory.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("mime.types"), "evil").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
    template.destination = theirs.join("app.conf");
    template.check = Some(vec!["true".into(), "{}".into()]);
    let staged = staged(&template, "1");
    let path = staged.path.as_deref().unwrap();
    assert_eq!((path.with_file_name("mime.types").exists(), staged.beside), (false, false));
    discard(&staged);
}

#[test]
fn the_user_of_a_check_reads_what_they_are_to_look_at_and_nobody_else_does() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut template = template(directory.path(), "{{ value }}");
    (template.check, template.mode) = (Some(vec!["true".into(), "{}".into()]), Some(0o600));
    template.check_as.user = Some("65534:65534".to_owned());
    let looked_at = |template: &Template, value: &str| {
        let staged = staged(template, value);
        let path = staged.path.as_deref().unwrap();
        let about = fs::metadata(path).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), value);
        let how = (about.uid(), about.gid(), about.mode() & 0o7777);
        install(&staged).unwrap();
        how
    };
    // In a directory that is root's alone, and in one that is open.
    assert_eq!(looked_at(&template, "1"), (65_534, 0, 0o400));
    let about = fs::metadata(&template.destination).unwrap();
    assert_eq!((about.uid(), about.mode() & 0o7777), (0, 0o600), "it is live as it was asked for");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    (template.mode, template.owner) = (Some(0o640), Some("65534:65534".to_owned()));
    assert_eq!(looked_at(&template, "2"), (65_534, 0, 0o400));
    // Root reads all.
    template.check_as.user = Some("root".to_owned());
    assert_eq!(looked_at(&template, "3"), (0, 0, 0o400));
}

#[test]
fn a_mode_that_is_asked_for_holds_before_and_after_and_parents_are_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut template = template(directory.path(), "{{ value }}");
    template.destination = directory.path().join("a/b/app.conf");
    assert!(stage("w", &template, &value("1"), false, &Variables::default()).is_err());
    template.parents = true;
    template.mode = Some(0o600);
    template.check = Some(vec!["true".into(), "{}".into()]);
    let first = staged(&template, "1");
    assert_eq!(mode(first.path.as_deref().unwrap()), 0o400);
    install(&first).unwrap();
    assert_eq!(mode(&template.destination), 0o600);
    // The mode alone is a reason to make it anew.
    template.mode = Some(0o640);
    install(&staged(&template, "1")).unwrap();
    assert_eq!(mode(&template.destination), 0o640);
}

#[test]
fn without_an_answer_a_file_that_is_there_stays_and_a_missing_one_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ value | default('nobody') }}");
    let nothing = Observation::Key(None);
    let variables = Variables::default();
    let Rendering::Staged(first) = stage("w", &template, &nothing, true, &variables).unwrap() else { panic!() };
    install(&first).unwrap();
    assert_eq!(fs::read_to_string(&template.destination).unwrap(), "nobody");
    fs::write(&template.destination, "backends that live").unwrap();
    assert_eq!(stage("w", &template, &nothing, true, &variables).unwrap(), Rendering::Kept);
    assert_eq!(fs::read_to_string(&template.destination).unwrap(), "backends that live");
}

#[test]
fn a_pipe_in_the_files_place_is_refused_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ value }}");
    nix::unistd::mkfifo(&template.destination, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = stage("w", &template, &value("1"), false, &Variables::default()).unwrap_err();
    assert!(crate::catalog::report(&error).contains("isn't a plain file"), "{error}");
}

#[test]
fn an_error_in_the_template_names_it_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ nobody.knows.this }}");
    let error = stage("w", &template, &value("1"), false, &Variables::default()).unwrap_err();
    assert!(crate::catalog::report(&error).contains("app.conf.j2"), "{error}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_template_that_another_user_may_write_sees_no_token_of_consuls() {
    let directory = tempfile::tempdir().unwrap();
    let template = template(directory.path(), "{{ env.CONSUL_HTTP_TOKEN }} {{ env.OWN }}");
    let variables: Variables = [("CONSUL_HTTP_TOKEN", "secret"), ("OWN", "own")].into_iter().collect();
    let rendered = || stage("w", &template, &value(""), false, &variables);
    assert!(matches!(rendered().unwrap(), Rendering::Staged(staged) if &*staged.text.0 == "secret own"));
    if std::os::unix::fs::chown(&template.source, Some(65_534), None).is_err() {
        eprintln!("not tried: only root can give files away");
        return;
    }
    let error = rendered().unwrap_err().to_string();
    assert!(error.contains("`CONSUL_HTTP_TOKEN` is not set") && !error.contains("secret"), "{error}");
}
