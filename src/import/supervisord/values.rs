//! Values that aren't texts: yes or no, and numbers. What can't be read, or isn't known before it starts, is told of.

use super::expressions::Expressions;
use super::{Section, Shared, group_of, note};
use crate::import::document::Note;
use crate::import::text::{Piece, Text};

/// Keys that are yes or no; `autorestart` may be `unexpected`, too.
const SWITCHES: [&str; 4] = ["autostart", "autorestart", "stopasgroup", "nodaemon"];
/// Keys that are numbers, with the least that each may be.
const NUMBERS: [(&str, i64); 8] = [
    ("priority", i64::MIN),
    ("numprocs", 1),
    ("numprocs_start", 0),
    ("startsecs", 0),
    ("startretries", 0),
    ("stopwaitsecs", 1),
    ("minfds", 0),
    ("minprocs", 0),
];

/// Writes out what is known of these values.
pub(super) fn expand(sections: &mut [Section<'_>], here: Option<&str>, shared: &Shared) {
    let mut known = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let Some((_, program)) = section.name.split_once(':') else { continue };
        let group = group_of(section, sections).unwrap_or(program);
        let environment = shared.environment.clone();
        let names = Expressions { program, group, processes: (0, 1), here, environment };
        for (at, (key, value, _)) in section.keys.iter().enumerate() {
            let is_typed = SWITCHES.contains(&key.as_str()) || NUMBERS.iter().any(|(number, _)| number == key);
            if is_typed && let Some(plain) = names.expand(value, &mut Vec::new()).as_plain() {
                known.push((index, at, plain.to_owned()));
            }
        }
    }
    for (index, at, value) in known {
        sections[index].keys[at].1 = value;
    }
}

/// Those of a section for which a default stands here.
pub(super) fn unreadable(section: &Section<'_>) -> Vec<Note> {
    let kind = section.name.split_once(':').map_or(section.name, |(kind, _)| kind);
    if !["program", "supervisord"].contains(&kind) {
        return Vec::new();
    }
    let mut notes = Vec::new();
    let mut tell = |key: &str, what: String| {
        notes.push(note(section.span(key), format!("[{}] {key}", section.name), &what, true));
    };
    for key in SWITCHES {
        let Some(value) = section.get(key) else { continue };
        let is_word = section.is_on(key).is_some() || key == "autorestart" && value == "unexpected";
        let is_a_template = ["autostart", "autorestart"].contains(&key) && variable(section, key).is_some();
        if !is_word && !is_a_template {
            tell(key, why(value, "is neither yes nor no"));
        }
    }
    for (key, least) in NUMBERS {
        let Some(value) = section.get(key) else { continue };
        match value.parse::<i64>() {
            Ok(number) if number >= least => {}
            Ok(number) => tell(key, format!("can't be {number} here; its default counts")),
            Err(_) => tell(key, why(value, "isn't a whole number")),
        }
    }
    notes
}

fn why(value: &str, is: &str) -> String {
    match value.contains("%(") {
        true => format!("what `{value}` comes to isn't known here; its default counts: write it out"),
        false => format!("`{value}` {is}, so that supervisord refuses the file; its default counts here"),
    }
}

/// A value that one variable of the environment decides, as it is written.
pub(super) fn variable<'s>(section: &'s Section<'_>, key: &str) -> Option<&'s str> {
    let value = section.get(key)?;
    let name = value.strip_prefix("%(ENV_")?.strip_suffix(")s")?;
    (!name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')).then_some(value)
}

/// `autorestart`, which a variable decides, as the policy of a restart.
pub(super) fn policy(autorestart: &Text) -> Option<Text> {
    let [Piece::Template(template)] = autorestart.0.as_slice() else { return None };
    let policy = |text: &str| {
        let asked = format!("{} | lower", text.strip_prefix("{{ ")?.strip_suffix(" }}")?);
        Some(format!(
            "{{% if {asked} in ['true', 'yes', 'on', '1'] %}}always{{% elif {asked} == 'unexpected' %}}on-failure\
             {{% else %}}never{{% endif %}}"
        ))
    };
    let mut template = template.clone();
    template.strict = policy(&template.strict)?;
    template.lenient = policy(&template.lenient)?;
    Some(Text(vec![Piece::Template(template)]))
}

/// What of a command only a shell would have understood.
pub(super) fn of_a_shell(words: &[Text]) -> Option<String> {
    let program = words.first().map(Text::sample).unwrap_or_default();
    if ["sh", "bash", "ash", "dash", "zsh"].contains(&program.rsplit('/').next().unwrap_or_default()) {
        return None;
    }
    let is_odd = |word: &String| {
        let alone = ["|", "||", "&", "&&", ";", "<"].contains(&word.as_str());
        let sends = word.trim_start_matches(['1', '2', '&']).starts_with('>');
        // What is in quotes, and has blanks, is for whoever gets it.
        let replaced = (word.contains('$') || word.contains('`')) && !word.contains(' ');
        alone || sends || replaced
    };
    let odd: Vec<String> = words.iter().map(Text::sample).filter(is_odd).map(|word| format!("`{word}`")).collect();
    (!odd.is_empty()).then(|| {
        let what = "reach the program as they are written, as there: no shell reads them; if one was meant: [\"sh\", \"-c\", \
                    \"...\"]";
        format!("{} {what}", odd.join(", "))
    })
}
