//! What images of ContainerPilot bring along: its flags, its variables, and a config of version 2 that runs as it is.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::config::{Config, Context, Exec, Report, Translated};
use crate::import;
use crate::net::address;

/// Names that an image calls it by.
const NAMES: [&str; 2] = ["containerpilot", "containerbuddy"];
/// Flags that it knows, and whether they take a value. One dash is enough, as in all of Go's programs.
const FLAGS: [(&str, bool); 10] = [
    ("config", true),
    ("version", false),
    ("template", false),
    ("out", true),
    ("reload", false),
    ("maintenance", true),
    ("putmetric", true),
    ("putenv", true),
    ("ping", false),
    ("h", false),
];

/// Set before the config is read.
const OWN_PID: &str = "CONTAINERPILOT_PID";

/// A command line of ContainerPilot's as one of pilotfish's; nothing for what isn't one.
///
/// # Errors
/// Something that can't be done here.
pub fn command_line(args: &[OsString]) -> Option<Result<Vec<OsString>, String>> {
    let name = Path::new(args.first()?).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let first = args.get(1).and_then(|arg| arg.to_str()).unwrap_or_default();
    // `--config` is pilotfish's own too, and means the same.
    let flagged = !first.starts_with("--") && flag(first).is_some_and(|(name, ..)| name != "h");
    (NAMES.contains(&name) || flagged).then(|| translate(args))
}

/// The name of a flag, whether it takes a value, and the value behind `=`.
fn flag(arg: &str) -> Option<(&'static str, bool, Option<&str>)> {
    let bare = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-'))?;
    let (name, value) = bare.split_once('=').map_or((bare, None), |(name, value)| (name, Some(value)));
    FLAGS.iter().find(|(known, _)| *known == name).map(|(known, takes)| (*known, *takes, value))
}

fn translate(args: &[OsString]) -> Result<Vec<OsString>, String> {
    let mut given: Vec<(&str, OsString)> = Vec::new();
    let mut rest = args.iter().skip(1).peekable();
    while let Some(arg) = rest.peek() {
        if arg.as_bytes() == b"--" {
            rest.next();
            break;
        }
        if !arg.as_bytes().starts_with(b"-") {
            break;
        }
        let Some((name, takes, value)) = arg.to_str().and_then(flag) else {
            return Err(format!("ContainerPilot has no flag `{}`", arg.to_string_lossy()));
        };
        let value = value.map(OsString::from);
        rest.next();
        let value = match (takes, value) {
            (true, None) => rest.next().cloned().ok_or_else(|| format!("-{name} wants a value"))?,
            (_, value) => value.unwrap_or_default(),
        };
        given.push((name, value));
    }
    let command: Vec<OsString> = rest.cloned().collect();
    let get = |name: &str| given.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let mut line: Vec<OsString> = vec!["pilotfish".into()];
    if let Some(config) = get("config") {
        let path = config.as_bytes().strip_prefix(b"file://").unwrap_or(config.as_bytes());
        line.extend(["-c".into(), OsStr::from_bytes(path).to_owned()]);
    }
    let end = |mut line: Vec<OsString>, words: &[&str]| {
        line.extend(words.iter().map(OsString::from));
        Ok(line)
    };
    if get("h").is_some() {
        return end(line, &["--help"]);
    }
    if get("version").is_some() {
        return end(line, &["--version"]);
    }
    if get("template").is_some() {
        if get("out").is_some_and(|out| out != "-") {
            return Err("-out names a file; send standard output there".to_owned());
        }
        return end(line, &["render"]);
    }
    if get("reload").is_some() {
        return end(line, &["reload"]);
    }
    if let Some(switch) = get("maintenance") {
        return match switch.to_str() {
            Some("enable") => end(line, &["maintenance", "on"]),
            Some("disable") => end(line, &["maintenance", "off"]),
            _ => Err("-maintenance is `enable` or `disable`".to_owned()),
        };
    }
    if get("putenv").is_some() {
        return Err("the environment of what runs can't be changed; change the config and reload it".to_owned());
    }
    let metrics: Vec<OsString> =
        given.iter().filter(|(name, _)| *name == "putmetric").map(|(_, value)| value.clone()).collect();
    if !metrics.is_empty() {
        line.push("metric".into());
        line.extend(metrics);
        return Ok(line);
    }
    if get("ping").is_some() {
        return end(line, &["status"]);
    }
    if !command.is_empty() {
        line.push("--".into());
        line.extend(command);
    }
    Ok(line)
}

/// The environment as ContainerPilot's templates see it; of what isn't text, what can be shown.
fn environment(context: &Context) -> BTreeMap<String, String> {
    let text = |value: &OsStr| value.to_string_lossy().into_owned();
    let names = context.variables.names();
    let own = [(OWN_PID.to_owned(), std::process::id().to_string())];
    names.filter_map(|name| Some((text(name), text(context.variables.get(name)?)))).chain(own).collect()
}

/// A config of ContainerPilot 2 as one of pilotfish's; nothing for one that isn't its. One that only the import takes is
/// sent there.
pub fn config(text: &str, file: &Path, context: &Context) -> Option<Result<Translated, Report>> {
    if import::is_supervisords(text) {
        let hint = format!("make it one of pilotfish's: pilotfish import {}", file.display());
        return Some(Err(Report::about(file, "is a config of supervisord", hint)));
    }
    let rendered = rendered(text, file, context)?;
    match (&rendered, rendered.as_ref().ok().and_then(|rendered| import::recognise(rendered))) {
        (Ok(_), Some(3)) => {
            let what = "is a config of ContainerPilot 3, whose jobs pilotfish doesn't run as they are";
            let hint = format!("make it one of pilotfish's: pilotfish import {}", file.display());
            Some(Err(Report::about(file, what, hint)))
        }
        (Ok(rendered), Some(_)) => Some(run(rendered, file)),
        // A broken one is told apart from a broken one of pilotfish's by keys that only one of them has.
        _ if text.contains("\"services\"")
            && !["\"catalog\"", "\"process\"", "\"service\""].iter().any(|own| text.contains(own)) =>
        {
            Some(rendered.and_then(|rendered| run(&rendered, file)))
        }
        _ => None,
    }
}

/// The file as ContainerPilot rendered it; nothing for what can be none of its.
fn rendered(text: &str, file: &Path, context: &Context) -> Option<Result<String, Report>> {
    let start = text.trim_start_matches('\u{feff}').trim_start();
    let may_be = ["{", "//", "/*"].iter().any(|sign| start.starts_with(sign)) && text.len() <= import::LONGEST;
    may_be.then(|| import::render(text.trim_start_matches('\u{feff}'), file, &environment(context)))
}

/// The whole file rendered, for `-template`; nothing for what isn't ContainerPilot's.
pub fn template(text: &str, file: &Path, context: &Context) -> Option<Result<String, Report>> {
    let rendered = rendered(text, file, context)?;
    match &rendered {
        Ok(text) if import::recognise(text).is_some() => Some(rendered),
        _ => None,
    }
}

fn run(rendered: &str, file: &Path) -> Result<Translated, Report> {
    let plain = import::as_it_runs(rendered, file, &BTreeMap::new())?;
    let variables = variables(&plain.toml);
    let imported = import::as_it_runs(rendered, file, &variables)?;
    let mut remarks = vec![format!("{} is a config of ContainerPilot 2, and runs as it is", file.display())];
    remarks.extend(imported.notes.iter().filter(|note| note.lost).map(ToString::to_string));
    Ok(Translated { toml: imported.toml, command, remarks })
}

/// Variables that ContainerPilot set for what it ran: its pid, and the address of each service.
fn variables(toml: &str) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::from([(OWN_PID.to_owned(), std::process::id().to_string())]);
    let nothing = Context::default();
    let Ok(loaded) = Config::from_text(toml, Path::new("imported.toml"), Some(vec!["main".into()]), &nothing) else {
        return variables;
    };
    for service in &loaded.config.services {
        if let Ok(chosen) = address::advertised(&service.address) {
            let name = service.name.to_uppercase().replace('-', "_");
            variables.insert(format!("CONTAINERPILOT_{name}_IP"), chosen.address.to_string());
        }
    }
    variables
}

/// What stands after `--`, of which ContainerPilot 2 rendered each word.
pub fn command(words: Exec, context: &Context) -> Exec {
    let environment = environment(context);
    let render = |word: &OsString| {
        let text = word.to_str().filter(|text| text.contains("{{"))?;
        import::render(text, Path::new("--"), &environment).ok().map(OsString::from)
    };
    words.into_iter().map(|word| render(&word).unwrap_or(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(args: &[&str]) -> Option<Result<Vec<String>, String>> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let text = |line: Vec<OsString>| line.into_iter().map(|arg| arg.into_string().unwrap()).collect();
        command_line(&args).map(|line| line.map(text))
    }

    #[test]
    fn the_command_lines_of_containerpilots_images_are_understood() {
        for (theirs, ours) in [
            ("containerpilot nginx -g x", "pilotfish -- nginx -g x"),
            (
                "/bin/containerpilot -config file:///etc/cp.json mysqld --console",
                "pilotfish -c /etc/cp.json -- mysqld --console",
            ),
            ("containerbuddy -config=/etc/cb.json -- app -v", "pilotfish -c /etc/cb.json -- app -v"),
            ("pilotfish -config /etc/cp.json app", "pilotfish -c /etc/cp.json -- app"),
            ("pilotfish -version", "pilotfish --version"),
            ("pilotfish -reload", "pilotfish reload"),
            ("containerpilot --config x -maintenance enable", "pilotfish -c x maintenance on"),
            ("pilotfish -maintenance=disable", "pilotfish maintenance off"),
            ("pilotfish -putmetric a=1 -putmetric b=2", "pilotfish metric a=1 b=2"),
            ("pilotfish -config x -template", "pilotfish -c x render"),
            ("containerpilot", "pilotfish"),
        ] {
            let words: Vec<&str> = theirs.split(' ').collect();
            assert_eq!(line(&words).unwrap().map(|line| line.join(" ")).as_deref(), Ok(ours), "{theirs}");
        }
    }

    #[test]
    fn pilotfishs_own_command_lines_stay_its_own() {
        for ours in [
            "pilotfish -- nginx",
            "pilotfish -c x",
            "pilotfish --config x",
            "pilotfish -h",
            "pilotfish check x",
            "pilotfish",
        ] {
            assert_eq!(line(&ours.split(' ').collect::<Vec<_>>()), None, "{ours}");
        }
    }

    #[test]
    fn what_containerpilot_had_and_pilotfish_has_not_is_told() {
        for theirs in
            ["pilotfish -putenv A=1", "pilotfish -maintenance maybe", "containerpilot -nonsense", "pilotfish -config"]
        {
            assert!(line(&theirs.split(' ').collect::<Vec<_>>()).unwrap().is_err(), "{theirs}");
        }
    }

    #[test]
    fn a_config_of_version_2_is_recognised_rendered_and_run() {
        let context = Context {
            variables: [("PORT", "81"), ("X", "a {{ b }}")].into_iter().collect(),
            hostname: "host".to_owned(),
        };
        let text = r#"{ "consul": "{{ .CONSUL }}:8500", "preStart": "echo {{ .X }}", "stopTimeout": 3,
            "services": [ { "name": "my-app", "port": {{ .PORT }}, "interfaces": "static:192.0.2.7", "poll": 1, "ttl": 5 } ] }"#;
        let translated = config(text, Path::new("cp.json"), &context).unwrap().unwrap();
        let command = Some(vec!["main".into()]);
        let loaded = Config::from_text(&translated.toml, Path::new("t.toml"), command, &context).unwrap();
        assert_eq!(loaded.config.services[0].port, 81);
        assert_eq!(loaded.config.process.env["CONTAINERPILOT_MY_APP_IP"], "192.0.2.7");
        assert_eq!(loaded.config.process.env["CONTAINERPILOT_PID"], std::process::id().to_string());
        let pre_start = &loaded.config.hooks.pre_start[0].hook;
        assert_eq!(pre_start.exec, ["echo", "a", "{{", "b", "}}"]);
        assert_eq!(pre_start.run_as.env["CONTAINERPILOT_MY_APP_IP"], "192.0.2.7");
        assert!(translated.remarks[0].contains("is a config of ContainerPilot 2"));
    }

    #[test]
    fn a_config_of_version_2_runs_whatever_its_variables_say() {
        let context = |variables: &[(&str, &str)]| Context {
            variables: variables.iter().copied().collect(),
            hostname: "host".to_owned(),
        };
        let text = r#"{ "consul": "c:8500", "logging": { "level": "{{ .LEVEL }}" },
            "services": [ { "name": "{{ .NAME }}", "port": 80, "poll": 1, "ttl": 5 } ],
            "coprocesses": [ { "name": "agent (host:{{ .NAME }})", "command": "/bin/agent {{ .CONTAINERPILOT_PID }}" } ] }"#;
        let set = context(&[("NAME", "web"), ("LEVEL", "WARNING")]);
        let translated = config(text, Path::new("cp.json"), &set).unwrap().unwrap();
        // Without a command it stays, as ContainerPilot did.
        let loaded = Config::from_text(&translated.toml, Path::new("t.toml"), None, &set).unwrap();
        assert_eq!(loaded.config.process.exec, ["sleep", "infinity"]);
        let command = Some(vec!["main".into()]);
        let loaded = Config::from_text(&translated.toml, Path::new("t.toml"), command, &set).unwrap();
        assert_eq!(loaded.config.process.exec, ["main"]);
        let agent = &loaded.config.coprocesses[0];
        assert_eq!(agent.exec, ["/bin/agent", &std::process::id().to_string()]);
        // ContainerPilot refused a service without a name.
        let refused = config(text, Path::new("cp.json"), &context(&[])).unwrap().unwrap_err().to_string();
        assert!(refused.contains("is empty") && refused.contains("cp.json:2"), "{refused}");
    }

    #[test]
    fn other_configs_are_left_alone_and_version_3_is_sent_to_the_import() {
        let nothing = Context::default();
        let ask = |text: &str| config(text, Path::new("/etc/cp.json"), &nothing);
        for own in [
            "process.exec = [\"{{ env.X }}\"]",
            "{ \"process\": { \"exec\": [\"a\"] }, \"health\": [ { \"services\": [\"web\"] } ] }",
            "{ \"service\": [] }",
            "{}",
        ] {
            assert!(ask(own).is_none(), "{own}");
        }
        let refused = ask("{ jobs: [ { name: 'a', exec: 'b' } ] }").unwrap().unwrap_err().to_string();
        assert!(refused.contains("ContainerPilot 3") && refused.contains("pilotfish import /etc/cp.json"), "{refused}");
        let supervisords =
            ask("[supervisord]\nnodaemon=true\n[program:a]\ncommand=a\n").unwrap().unwrap_err().to_string();
        assert!(supervisords.contains("of supervisord") && supervisords.contains("pilotfish import /etc/cp.json"));
        assert!(ask("[process]\nexec = [\"a\"]\n").is_none());
        let broken = ask("{ \"services\": [ { \"name\": \"a\", \"port\": {{ .PORT }} } ] }").unwrap();
        assert!(broken.unwrap_err().to_string().contains("this isn't JSON"));
    }

    #[test]
    fn words_of_the_command_are_rendered_as_containerpilot_2_did() {
        let context = Context { variables: [("P", "80")].into_iter().collect(), hostname: String::new() };
        let words: Exec = ["app", "-p={{ .P }}", "{{ nonsense }}"].map(OsString::from).to_vec();
        assert_eq!(command(words, &context), ["app", "-p=80", "{{ nonsense }}"]);
    }
}
