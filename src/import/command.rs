//! Commands: what ContainerPilot split at single spaces, and what a template in one can come to.

use super::go::Span;
use super::json::Value;
use super::read::{At, Notes};
use super::text::{Piece, Template, Text};

/// A shell that becomes the command behind it, split at blanks and at nothing else: quotes, `$` and `*` in it mean
/// nothing, as they meant nothing to ContainerPilot, and an empty one is an error.
pub(super) const SPLIT: &str = "set -f; exec ${0:?}";

/// What variables are called that hold words of a command.
const OF_WORDS: [&str; 8] = ["ARGS", "OPTS", "OPTIONS", "FLAGS", "PARAMS", "CMD", "COMMAND", "EXEC"];

impl At<'_> {
    /// A command: an array, or a string split at single spaces, as ContainerPilot did.
    pub(super) fn command(&self, key: &str, notes: &mut Notes) -> Option<Vec<Text>> {
        let entry = self.get(key)?;
        let path = self.key(key);
        let words = match &entry.value.value {
            Value::Text(line) => self.line(line.clone(), &entry.value.span, &path, notes),
            Value::List(_) => self.strings(key, notes).unwrap_or_default(),
            _ => {
                notes.lose(
                    &entry.value.span,
                    path.clone(),
                    format!("is {}, not a command; left out", entry.value.kind()),
                );
                return None;
            }
        };
        if words.iter().any(|word| word.as_plain().is_some_and(|word| word.contains('\0'))) {
            notes.lose(&entry.value.span, path.clone(), "holds a NUL character, and the kernel takes none");
        }
        match words.first() {
            Some(program) if program.as_plain() != Some("") => Some(words),
            _ => {
                let what = "is empty: ContainerPilot refuses the file (received zero-length argument); left out";
                notes.lose(&entry.value.span, path, what);
                None
            }
        }
    }

    fn line(&self, line: Text, span: &Span, path: &str, notes: &mut Notes) -> Vec<Text> {
        let line = line.trimmed();
        // A template stands for something, so that the blanks on both sides of it are two.
        let plain: String = line
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.as_str(),
                Piece::Template(_) => "x",
            })
            .collect();
        let odd: Vec<&str> = ["\"", "'", "&&", "||", ";", "|", ">", "<", "*", "$", "`", "  "]
            .into_iter()
            .filter(|odd| plain.contains(odd))
            .collect();
        if !odd.is_empty() {
            let shown: Vec<String> =
                odd.iter().map(|odd| if *odd == "  " { "two spaces".to_owned() } else { format!("`{odd}`") }).collect();
            let what = format!(
                "is split at single spaces, as ContainerPilot did, and {} reached the program as it is written; \
                 if a shell was meant: [\"sh\", \"-c\", \"...\"]",
                shown.join(", ")
            );
            notes.say(span, path, what);
        }
        let Some(template) = needs_a_shell(&line) else { return line.words() };
        let what = format!(
            "an `sh` splits what `{}` comes to at its spaces, as ContainerPilot did: the image needs one",
            template.lenient
        );
        notes.say(&template.span, path, what);
        ["sh", "-c", SPLIT].into_iter().map(Text::plain).chain([line]).collect()
    }
}

/// A template that is several words, or may well be: the program itself, one with a default of several, and one whose
/// variable is called so.
fn needs_a_shell(line: &Text) -> Option<&Template> {
    let spaced = line.templates().find(|template| template.sample.trim().contains(' '));
    let alone = |word: &Text| matches!(word.0.as_slice(), [Piece::Template(_)]);
    let words = line.words();
    let program = words.first().is_some_and(alone).then(|| line.templates().next()).flatten();
    let of_words = || {
        let named = |template: &&Template| {
            let word = |name: &str| template.lenient.to_uppercase().contains(name);
            words.iter().any(|word| matches!(word.0.as_slice(), [Piece::Template(of)] if of == *template))
                && OF_WORDS.iter().any(|name| word(name))
        };
        line.templates().find(named)
    };
    spaced.or(program).or_else(of_words)
}

/// A command as a shell's line.
pub(super) fn shell_line(words: &[Text]) -> Text {
    let mut line = Text::default();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            line.push(Piece::Plain(" ".to_owned()));
        }
        let quoted: Vec<Piece> = word
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => Piece::Plain(shell_word(text)),
                Piece::Template(template) => {
                    let quote = |text: &str| format!("{{% filter quote_sh %}}{text}{{% endfilter %}}");
                    let mut template = template.clone();
                    template.strict = quote(&template.strict);
                    template.lenient = quote(&template.lenient);
                    Piece::Template(template)
                }
            })
            .collect();
        if quoted.is_empty() {
            line.push(Piece::Plain("''".to_owned()));
        }
        quoted.into_iter().for_each(|piece| line.push(piece));
    }
    line
}

fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@%+=,".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
