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

/// One look: what at, and what is wrong there.
type Look<'a> = (String, Box<dyn FnOnce() -> Vec<String> + 'a>);

/// What a start by this config would miss here, a sentence each.
pub fn of(config: &Config) -> Vec<String> {
    looks(config).into_iter().flat_map(|(_, look)| look()).collect()
}

/// The same one by one, as it is found, and what is about to be looked at: its storage may hang.
pub fn one_by_one(config: &Config, mut at: impl FnMut(String), mut doubt: impl FnMut(String)) {
    for (what, look) in looks(config) {
        at(what);
        look().into_iter().for_each(&mut doubt);
    }
}

fn looks(config: &Config) -> Vec<Look<'_>> {
    let mut looks: Vec<Look<'_>> = vec![
        ("/etc/passwd".to_owned(), Box::new(|| strangers(config))),
        ("the programs it names".to_owned(), Box::new(|| programs(config))),
    ];
    looks.extend(directories(config));
    looks.extend(unreadable(config));
    looks.extend(socket(config));
    looks.extend(templates(config));
    looks.extend(destinations(config));
    looks
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

/// Which users and groups this root has no entry of.
fn strangers(config: &Config) -> Vec<String> {
    let unknown = |(user, who): (&str, Vec<String>)| {
        let error = users::look_up(user).err()?;
        Some(format!("{}, so {} can't start as {user:?}", report(&error), who.join(", ")))
    };
    config.users().into_iter().filter_map(unknown).collect()
}

fn one<'a>(what: String, look: impl FnOnce() -> Option<String> + 'a) -> Look<'a> {
    (what, Box::new(move || look().into_iter().collect()))
}

/// Which working directories aren't here.
fn directories(config: &Config) -> impl Iterator<Item = Look<'_>> {
    config.directories().into_iter().map(|(who, directory)| {
        let what = format!("{}, the directory of {who},", directory.display());
        let doubt = format!("{what} doesn't exist");
        one(what, move || is_missing(directory).then_some(doubt))
    })
}

/// Which files aren't here, or the agent would refuse to read as they are.
fn unreadable(config: &Config) -> impl Iterator<Item = Look<'_>> {
    let control = config.control.listen.as_ref().map(|listen| listen.token_file.as_path());
    config.files().into_iter().map(move |(path, who)| {
        let what = format!("{} of {}", path.display(), who.join(", "));
        one(what.clone(), move || {
            if is_missing(path) {
                return Some(format!("{what} doesn't exist"));
            }
            let why = files::survey(path, control == Some(path))?;
            Some(format!("{what} is of no use: {why}"))
        })
    })
}

fn templates_of(config: &Config) -> impl Iterator<Item = (&String, &Template)> {
    config.watches.iter().filter_map(|watch| Some((&watch.name, watch.template.as_ref()?)))
}

/// Whether others may listen at the socket where Consul is told a token: the agent says nothing there then, or main hears
/// it. One whose directory isn't here may come.
fn socket(config: &Config) -> Option<Look<'_>> {
    let Backend::Consul(consul) = &config.catalog.backend else { return None };
    if !consul.tells_a_secret() {
        return None;
    }
    let ConsulAddress::Unix(path) = &consul.address else { return None };
    let what = format!("unix://{}, the address of [catalog]", path.display());
    Some(one(what.clone(), move || {
        let doubt = match files::SocketPlace::find(path).and_then(|place| place.one_user()) {
            Ok(user) => {
                let main = config.process.user.as_deref().and_then(|main| users::look_up(main).ok());
                let is_mains = user.is_some() && user == main.map(|main| main.uid);
                is_mains.then(|| "its directory is main's user's, who may listen there and hear the token".to_owned())
            }
            Err(error) if error.raw_os_error().is_none() => Some(format!("it is of no use: {error}")),
            Err(_) => None,
        };
        doubt.map(|doubt| format!("{what}: {doubt}"))
    }))
}

/// Which templates aren't any.
fn templates(config: &Config) -> impl Iterator<Item = Look<'_>> {
    templates_of(config).map(|(watch, template)| {
        one(format!("{} of watch {watch}", template.source.display()), move || {
            if is_missing(&template.source) {
                return None;
            }
            let error = render::survey(template).err()?;
            Some(format!("the template of watch {watch} is of no use: {}", report(&error)))
        })
    })
}

/// Which directories aren't here that a template's file is to be put into.
fn destinations(config: &Config) -> impl Iterator<Item = Look<'_>> {
    templates_of(config).filter_map(|(watch, template)| {
        let directory = (!template.parents).then(|| files::directory_of(&template.destination))?;
        let what = format!("{}, for the file of watch {watch},", directory.display());
        let doubt = format!("{what} doesn't exist (`parents = true` makes it)");
        Some(one(what, move || is_missing(directory).then_some(doubt)))
    })
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
        std::fs::write(directory.path().join("token"), "it").unwrap();
        let told = |mode, token: &str| {
            let place = directory.path().join("run");
            let _ = std::fs::create_dir(&place);
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(mode)).unwrap();
            let address = format!("unix://{}/consul.sock", place.display());
            let token = token.replace("DIR", directory.path().to_str().unwrap());
            let text = format!(
                "process.exec = [\"true\"]\ncatalog = {{ backend = \"consul\", address = {address:?}{token} }}\n"
            );
            std::fs::write(&file, text).unwrap();
            of(&Config::load(&file, None, &Context::of_this_process()).unwrap().config)
        };
        let token = ", token_file = \"DIR/token\"";
        assert_eq!(told(0o755, token), <[String; 0]>::default());
        assert_eq!(told(0o777, ""), <[String; 0]>::default(), "nobody is told anything");
        let doubt = told(0o777, token).concat();
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
        let none_of_use = || templates(&config).flat_map(|(_, look)| look()).collect::<Vec<_>>();
        assert_eq!(none_of_use(), <[String; 0]>::default());
        std::fs::write(&source, "a\n{% for i in instances %}{{ i.port }}\n{% end %}\n").unwrap();
        let told = none_of_use().concat();
        assert!(told.contains("the template of watch db is of no use: ") && told.contains("a.j2:3: "), "{told}");
    }

    #[test]
    fn a_file_beside_where_pilotfish_works_has_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pilotfish.toml");
        let text = |destination: &str| {
            format!(
                "process.exec = [\"true\"]\n[catalog]\nbackend = \"local\"\ndirectory = \"/x\"\n[[watch]]\nkey = \"k\"\n\
                 template = {{ source = \"/nowhere/a.j2\", destination = {destination:?} }}\n"
            )
        };
        for (destination, doubted) in [("out.conf", 0), ("./out.conf", 0), ("nowhere/out.conf", 1), ("/out.conf", 0)] {
            std::fs::write(&file, text(destination)).unwrap();
            let config = Config::load(&file, None, &Context::of_this_process()).unwrap().config;
            let told: Vec<_> = destinations(&config).flat_map(|(_, look)| look()).collect();
            assert_eq!(told.len(), doubted, "{destination}: {told:?}");
        }
    }
}
