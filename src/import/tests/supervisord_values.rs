//! Values of a supervisord.conf that are no texts, or that nobody can read.

use super::*;

fn of(text: &str) -> Imported {
    import(text, Path::new("supervisord.conf"), &BTreeMap::new()).unwrap_or_else(|report| panic!("{report}"))
}

/// What is said of a key, and whether that is lost.
fn said<'i>(imported: &'i Imported, key: &str) -> (&'i str, bool) {
    let note = imported.notes.iter().find(|note| note.key == key);
    let note = note.unwrap_or_else(|| panic!("nothing on {key}: {:#?}", imported.notes));
    (&note.what, note.lost)
}

#[test]
fn whether_a_variable_starts_a_program_or_starts_it_again_stays_its_own() {
    let upload = "[program:upload]\ncommand=/bin/upload\nautostart=%(ENV_UP)s\nautorestart=%(ENV_UP)s\n";
    let imported = of(&format!("{upload}[program:app]\ncommand=app\npriority=1\n"));
    assert!(imported.toml.contains("enabled = \"{{ env.UP }}\"") && !imported.is_lossy(), "{}", imported.toml);
    // Though it is the last: it may not be there.
    assert!(imported.toml.contains("[process]\n# ") || imported.toml.contains("exec = [\"app\"]"), "{}", imported.toml);
    for value in ["true", "false", "no", "1"] {
        let wrong = mistakes(&imported.toml, &[("UP", value)]);
        assert!(wrong.is_empty(), "{value}: {}\n{}", wrong.join("\n"), imported.toml);
    }
    let alone = of(upload);
    assert!(!alone.toml.contains("enabled") && said(&alone, "[program:upload] autostart").1, "{}", alone.toml);
    let known = of(&format!("[supervisord]\nenvironment=UP=false\n{upload}[program:app]\ncommand=app\n"));
    assert!(!known.toml.contains("upload\"]"), "{}", known.toml);
}

#[test]
fn what_cant_be_read_or_isnt_known_before_the_start_is_told_of() {
    for (key, value, what) in [
        ("stopwaitsecs", "1h", "isn't a whole number"),
        ("stopwaitsecs", "0", "can't be 0 here"),
        ("stopwaitsecs", "%(ENV_W)s", "isn't known here"),
        ("priority", "first", "isn't a whole number"),
        ("startsecs", "%(ENV_W)s", "isn't known here"),
        ("startretries", "many", "isn't a whole number"),
        ("numprocs", "two", "isn't a whole number"),
        ("autostart", "perhaps", "is neither yes nor no"),
        ("autorestart", "sometimes", "is neither yes nor no"),
        ("stopasgroup", "%(ENV_G)s", "isn't known here"),
        ("environment", "A=1,B", "no `NAME=value`"),
    ] {
        let imported = of(&format!("[program:app]\ncommand=app\n{key}={value}\n"));
        let (said, lost) = said(&imported, &format!("[program:app] {key}"));
        assert!(lost && said.contains(what), "{key}={value}: {said}");
    }
    let imported = of("[supervisord]\nnodaemon=maybe\nenvironment=A\n[program:app]\ncommand=app\n");
    assert!(said(&imported, "[supervisord] nodaemon").1 && said(&imported, "[supervisord] environment").1);
}

#[test]
fn a_command_is_no_shells_and_its_quotes_end() {
    let imported = of("[program:app]\ncommand=a \"b\n");
    assert!(said(&imported, "[program:app] command").1);
    let imported = of("[program:app]\ncommand=tail -F x | grep x > /dev/stdout && echo $HOME\n");
    let (what, lost) = said(&imported, "[program:app] command");
    for odd in ["`|`", "`>`", "`&&`", "`$HOME`"] {
        assert!(what.contains(odd) && !lost, "{what}");
    }
    for plain in ["sh -c \"a | b > $C\"", "nginx -g \"daemon off;\"", "a 'b $c' -d"] {
        assert!(of(&format!("[program:app]\ncommand={plain}\n")).notes.is_empty(), "{plain}");
    }
}

#[test]
fn a_program_that_leaves_a_daemon_behind_is_followed() {
    let app = "[program:app]\ncommand=app\npriority=1000\n";
    let nginx = "[program:nginx]\ncommand=service nginx start\nautorestart=false\n";
    let imported = of(&format!("{nginx}startsecs=0\n{app}"));
    assert!(imported.toml.contains("background = \"follow\""), "{}", imported.toml);
    assert!(mistakes(&imported.toml, &[]).is_empty() && !imported.is_lossy());
    assert!(!of(&format!("{nginx}{app}")).toml.contains("background"));
}

#[test]
fn names_of_options_count_in_any_letters() {
    let imported = of("[program:app]\nCommand=app\nAutoRestart=TRUE\nENVIRONMENT=Path=x\n");
    for part in ["exec = [\"app\"]", "policy = \"always\"", "Path = \"x\""] {
        assert!(imported.toml.contains(part), "{part}:\n{}", imported.toml);
    }
    assert!(!imported.is_lossy());
}

#[test]
fn texts_of_variables_are_templates_wherever_they_stand() {
    let imported = of("[program:app]\ncommand=app\numask=%(ENV_U)s\nstopsignal=%(ENV_S)s\n");
    assert!(
        imported.toml.contains("umask = \"{{ env.U }}\"") && imported.toml.contains("stop_signal = \"{{ env.S }}\"")
    );
    let wrong = mistakes(&imported.toml, &[("U", "022"), ("S", "QUIT")]);
    assert!(wrong.is_empty() && !imported.is_lossy(), "{}\n{}", wrong.join("\n"), imported.toml);
}

#[test]
fn a_file_that_starts_nothing_is_refused_where_that_is_seen() {
    for (text, line, what) in [
        ("[supervisord]\nnodaemon=true\n", 1, "there is no program in this file"),
        ("[supervisord]\n[include]\nfiles=x/*.conf\n", 2, "put those behind it that it includes"),
        ("[supervisord]\n[program:a]\npriority=1\n", 2, "has a command"),
        ("[program:a]\ncommand=a\nautostart=false\n", 1, "is started by itself"),
    ] {
        let report = import(text, Path::new("supervisord.conf"), &BTreeMap::new()).unwrap_err();
        let mistake = &report.mistakes()[0];
        assert!(mistake.line == line && mistake.message.contains(what), "{report}");
    }
}

#[test]
fn two_sections_of_one_name_are_one() {
    let imported = of("[program:a]\ncommand=first\nuser=me\n[program:b]\ncommand=b\n[program:a]\ncommand=second\n");
    assert!(
        imported.toml.contains("exec = [\"second\"]\nuser = \"me\"") && !imported.toml.contains("first"),
        "{}",
        imported.toml
    );
}
