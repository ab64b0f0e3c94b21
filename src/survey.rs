//! What a config names that isn't here: programs, directories, files, users, templates that are none. `check` asks before a
//! container is made, and a reload before something is started by what was read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use crate::config::backends::ConsulAddress;
use crate::config::{Backend, Config, Template};
use crate::errors::chain as report;
use crate::process::{command, users};
use crate::{files, render};

/// What a start by this config would miss here, a sentence each.
pub fn of(config: &Config) -> Vec<String> {
    [strangers, programs, directories, unreadable, socket, templates, destinations]
        .iter()
        .flat_map(|survey| survey(config))
        .collect()
}

/// Which programs couldn't be run.
fn programs(config: &Config) -> Vec<String> {
    let mut told = BTreeMap::<String, Vec<String>>::new();
    for (who, exec, path) in config.programs() {
        if let Some(why) = command::survey(exec, path.map(OsStr::new)) {
            told.entry(why).or_default().push(who);
        }
    }
    told.into_iter().map(|(why, who)| format!("{}: {why}", who.join(", "))).collect()
}

/// Which working directories aren't here.
fn directories(config: &Config) -> Vec<String> {
    let missing = |(who, directory): (String, &Path)| {
        let doubt = format!("{}, the directory of {who}, doesn't exist", directory.display());
        is_missing(directory).then_some(doubt)
    };
    config.directories().into_iter().filter_map(missing).collect()
}

/// Which users and groups this root has no entry of.
fn strangers(config: &Config) -> Vec<String> {
    let unknown = |(user, who): (&str, Vec<String>)| {
        let error = users::look_up(user).err()?;
        Some(format!("{}, so {} can't start as {user:?}", report(&error), who.join(", ")))
    };
    config.users().into_iter().filter_map(unknown).collect()
}

/// Which files aren't here, or the agent would refuse to read as they are.
fn unreadable(config: &Config) -> Vec<String> {
    let control = config.control.listen.as_ref().map(|listen| listen.token_file.as_path());
    let refused = |(path, who): (&Path, Vec<String>)| {
        let who = who.join(", ");
        if is_missing(path) {
            return Some(format!("{} of {who} doesn't exist", path.display()));
        }
        let why = files::survey(path, control == Some(path))?;
        Some(format!("{} of {who} is of no use: {why}", path.display()))
    };
    config.files().into_iter().filter_map(refused).collect()
}

/// Whether others may listen at Consul's socket: the agent says nothing there then, or main hears the token. One whose
/// directory isn't here may come.
fn socket(config: &Config) -> Vec<String> {
    let Backend::Consul(consul) = &config.catalog.backend else { return Vec::new() };
    let ConsulAddress::Unix(path) = &consul.address else { return Vec::new() };
    let doubt = match files::SocketPlace::find(path).and_then(|place| place.one_user()) {
        Ok(user) => {
            let main = config.process.user.as_deref().and_then(|main| users::look_up(main).ok()).map(|main| main.uid);
            let is_mains = user.is_some() && user == main;
            is_mains.then(|| "its directory is main's user's, who may listen there and hear the token".to_owned())
        }
        Err(error) if error.raw_os_error().is_none() => Some(format!("it is of no use: {error}")),
        Err(_) => None,
    };
    let told = |doubt| format!("unix://{}, the address of [catalog]: {doubt}", path.display());
    doubt.map(told).into_iter().collect()
}

/// Which templates aren't any.
fn templates(config: &Config) -> Vec<String> {
    let templates = config.watches.iter().filter_map(|watch| Some((&watch.name, watch.template.as_ref()?)));
    let doubt = |(watch, template): (&String, &Template)| {
        if is_missing(&template.source) {
            return None;
        }
        let error = render::survey(template).err()?;
        Some(format!("the template of watch {watch} is of no use: {}", report(&error)))
    };
    templates.filter_map(doubt).collect()
}

/// Which directories aren't here that a template's file is to be put into.
fn destinations(config: &Config) -> Vec<String> {
    let templates = config.watches.iter().filter_map(|watch| Some((&watch.name, watch.template.as_ref()?)));
    let doubt = |(watch, template): (&String, &Template)| {
        let directory = template.destination.parent().filter(|parent| is_missing(parent) && !template.parents)?;
        Some(format!(
            "{}, for the file of watch {watch}, doesn't exist (`parents = true` makes it)",
            directory.display()
        ))
    };
    templates.filter_map(doubt).collect()
}

/// Whoever may not look doesn't know.
fn is_missing(path: &Path) -> bool {
    matches!(path.try_exists(), Ok(false))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::config::Context;

    use super::*;

    #[test]
    fn programs_directories_and_files_that_are_not_here_are_told_with_who_needs_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pilotfish.toml");
        let text = r#"
            process = { exec = ["sleep 100"], directory = "/nowhere/work" }
            catalog = { backend = "consul", address = "https://consul:8501", token_file = "/nowhere/token", tls.ca = "/nowhere/ca" }
            hooks.pre_stop = { exec = ["/nowhere/drain", "now"], timeout = "1s" }
            hooks.post_stop = { exec = ["SCRIPT"] }
            [[health]]
            name = "ping"
            exec = ["./relative"]
            [[health]]
            name = "directory"
            exec = ["/etc"]
            [[task]]
            name = "dump"
            exec = ["true"]
            every = "1h"
            env_from_files = { KEY = "/nowhere/key" }
        "#;
        let script = directory.path().join("script");
        std::fs::write(&script, "#!/nowhere/bash -e\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let script = script.display().to_string();
        std::fs::write(&file, text.replace("SCRIPT", &script)).unwrap();
        let config = Config::load(&file, None, &Context::of_this_process()).unwrap().config;
        let told = of(&config);
        let words = r#"(each argument is a word of its own: ["sleep", "100"])"#;
        assert_eq!(
            told,
            [
                "check directory: can't run `/etc`: permission denied (is it executable?)",
                "pre_stop: can't run `/nowhere/drain`: no such file",
                &format!("post_stop: can't run `{script}`: its interpreter /nowhere/bash doesn't exist"),
                &format!("main: can't run `sleep 100`: not found in PATH {words}"),
                "/nowhere/work, the directory of main, doesn't exist",
                "/nowhere/ca of [catalog] tls doesn't exist",
                "/nowhere/key of task dump doesn't exist",
                "/nowhere/token of [catalog] token_file doesn't exist",
            ]
        );
    }

    #[test]
    fn a_socket_of_consuls_where_anybody_may_listen_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pilotfish.toml");
        let told = |mode| {
            let place = directory.path().join("run");
            let _ = std::fs::create_dir(&place);
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
            let address = format!("unix://{}/consul.sock", place.display());
            let text =
                format!("process.exec = [\"true\"]\ncatalog = {{ backend = \"consul\", address = {address:?} }}\n");
            std::fs::write(&file, text).unwrap();
            of(&Config::load(&file, None, &Context::of_this_process()).unwrap().config)
        };
        assert_eq!(told(0o755), <[String; 0]>::default());
        let doubt = told(0o777).concat();
        assert!(
            doubt.contains("run/consul.sock, the address of [catalog]: it is of no use: refused: anybody may"),
            "{doubt}"
        );
    }

    #[test]
    fn a_template_that_is_not_here_or_is_none_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("a.j2");
        let file = directory.path().join("pilotfish.toml");
        let text = format!(
            "process.exec = [\"true\"]\n[catalog]\nbackend = \"local\"\ndirectory = \"/x\"\n[[watch]]\nservice = \"db\"\n\
             template = {{ source = {source:?}, destination = \"/nowhere/a.conf\" }}\n"
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&file, None, &Context::of_this_process()).unwrap().config;
        let told = of(&config);
        assert!(told[0].contains("a.j2 of watch db doesn't exist"), "{told:?}");
        assert_eq!(told[1..], ["/nowhere, for the file of watch db, doesn't exist (`parents = true` makes it)"]);
        std::fs::write(&source, "").unwrap();
        assert_eq!(templates(&config), <[String; 0]>::default());
        std::fs::write(&source, "a\n{% for i in instances %}{{ i.port }}\n{% end %}\n").unwrap();
        let told = templates(&config).concat();
        assert!(told.contains("the template of watch db is of no use: ") && told.contains("a.j2:3: "), "{told}");
    }
}
