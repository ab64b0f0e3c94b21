//! What `%(NAME)s` stands for in a supervisord.conf: Python's formatting by name, as far as supervisord has names.

use crate::import::text::{Piece, Template, Text};

/// What the expressions of a section's values stand for.
#[derive(Clone)]
pub(super) struct Expressions<'e> {
    /// The program.
    pub(super) program: &'e str,
    /// Its group, by default called as it is.
    pub(super) group: &'e str,
    /// The number of its first process, and how many there were.
    pub(super) processes: (i64, i64),
    /// Where the file was, if that is known.
    pub(super) here: Option<&'e str>,
    /// Variables whose values stand in the file itself; of two of a name the later one counts.
    pub(super) environment: Vec<(String, Text)>,
}

/// Something to know about an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    pub(super) what: String,
    /// It stands for nothing here.
    pub(super) lost: bool,
}

/// An expression: `%(NAME)`, a format, and what is behind it.
struct Expression<'t> {
    written: &'t str,
    name: &'t str,
    zeros: bool,
    width: usize,
    kind: char,
    behind: &'t str,
}

impl Expressions<'_> {
    /// The text, with what each of its expressions stands for. What can't be known stays as it is, and is told of.
    pub(super) fn expand(&self, text: &str, remarks: &mut Vec<Remark>) -> Text {
        let mut output = Text::default();
        let mut rest = text;
        while let Some(at) = rest.find('%') {
            output.push(Piece::Plain(rest[..at].to_owned()));
            rest = &rest[at..];
            let Some(expression) = Expression::first(rest) else {
                output.push(Piece::Plain("%".to_owned()));
                rest = rest.strip_prefix("%%").unwrap_or(&rest[1..]);
                continue;
            };
            let meaning = self.meaning(&expression, remarks).unwrap_or_else(|| Text::plain(expression.written));
            meaning.0.into_iter().for_each(|piece| output.push(piece));
            rest = expression.behind;
        }
        output.push(Piece::Plain(rest.to_owned()));
        output
    }

    fn meaning(&self, expression: &Expression<'_>, remarks: &mut Vec<Remark>) -> Option<Text> {
        let Expression { written, name, .. } = expression;
        let mut remark = |what: String, lost: bool| {
            let remark = Remark { what, lost };
            if !remarks.contains(&remark) {
                remarks.push(remark);
            }
        };
        let meaning = match *name {
            "program_name" => expression.text(self.program),
            "group_name" => expression.text(self.group),
            "process_num" => expression.number(self.processes.0),
            "numprocs" => expression.number(self.processes.1),
            "here" => match self.here {
                Some(here) => {
                    remark(format!("`{name}` is {here}, where the file was when it was imported"), false);
                    expression.text(here)
                }
                None => {
                    remark(format!("where the file is to be isn't known: write the directory for `{written}`"), true);
                    return None;
                }
            },
            "host_node_name" if expression.is_plain() => {
                remark(format!("`{name}` is the variable HOSTNAME here, which container engines set"), false);
                Some(template("HOSTNAME"))
            }
            _ => match name.strip_prefix("ENV_").filter(|name| expression.is_plain() && is_variable(name)) {
                Some(variable) => {
                    let own = self.environment.iter().rev().find(|(name, _)| name == variable);
                    Some(own.map_or_else(|| template(variable), |(_, value)| value.clone()))
                }
                None => None,
            },
        };
        if meaning.is_none() {
            remark(format!("what `{written}` stands for isn't known: write it out"), true);
        }
        meaning
    }
}

impl<'t> Expression<'t> {
    /// The one that a text begins with.
    fn first(text: &'t str) -> Option<Expression<'t>> {
        let (name, format) = text.strip_prefix("%(")?.split_once(')')?;
        let flags = format.len() - format.trim_start_matches(['0', '-', '+', ' ', '#']).len();
        let width = format[flags..].len() - format[flags..].trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let kind = format[flags + width..].chars().next()?;
        let behind = &format[flags + width + kind.len_utf8()..];
        Some(Expression {
            written: &text[..text.len() - behind.len()],
            name,
            zeros: format[..flags].contains('0'),
            // Wider than any terminal is no width.
            width: format[flags..flags + width].parse().unwrap_or(0).min(100),
            kind,
            behind,
        })
    }

    /// `%(NAME)s`.
    fn is_plain(&self) -> bool {
        self.kind == 's' && self.width == 0
    }

    fn text(&self, text: &str) -> Option<Text> {
        (self.kind == 's').then(|| Text::plain(format!("{text:>0$}", self.width)))
    }

    fn number(&self, number: i64) -> Option<Text> {
        let (width, zeros) = (self.width, self.zeros && self.kind != 's');
        let text = if zeros { format!("{number:0width$}") } else { format!("{number:width$}") };
        matches!(self.kind, 'd' | 'i' | 'u' | 's').then(|| Text::plain(text))
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn template(variable: &str) -> Text {
    let strict = format!("{{{{ env.{variable} }}}}");
    let lenient = format!("{{{{ env.{variable} | default('') }}}}");
    Text(vec![Piece::Template(Template { span: 0..0, strict, lenient, sample: String::new(), needs: Vec::new() })])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expressions() -> Expressions<'static> {
        let environment = ["first", "second"].map(|value| ("OWN".to_owned(), Text::plain(value))).into();
        Expressions { program: "app", group: "all", processes: (3, 4), here: Some("/etc"), environment }
    }

    fn expanded(expressions: &Expressions<'_>, text: &str) -> (String, Vec<Remark>) {
        let mut remarks = Vec::new();
        let expanded = expressions.expand(text, &mut remarks);
        (expanded.write(false), remarks)
    }

    #[test]
    fn each_name_stands_for_what_it_stood_for() {
        for (text, becomes) in [
            ("%(program_name)s-%(process_num)d", "app-3"),
            ("%(group_name)s %(process_num)02d/%(numprocs)3d|", "all 03/  4|"),
            ("%(process_num)s", "3"),
            ("%(ENV_HOST)s:%(ENV_OWN)s", "{{ env.HOST }}:second"),
            ("100%% of 5%", "100% of 5%"),
            ("%(here)s/x %(host_node_name)s", "/etc/x {{ env.HOSTNAME }}"),
            ("%", "%"),
            ("%(", "%("),
            ("%(here)", "%(here)"),
        ] {
            let (expanded, remarks) = expanded(&expressions(), text);
            assert_eq!(expanded, becomes, "{text}");
            assert!(remarks.iter().all(|remark| !remark.lost), "{text}: {remarks:?}");
        }
    }

    #[test]
    fn what_stands_for_nothing_here_stays_and_is_told_of_once() {
        let nowhere = Expressions { here: None, ..expressions() };
        for text in ["%(here)s", "%(odd)s", "%(ENV_A-B)s", "%(program_name)d", "%(ENV_HOST)d", "%(process_num)x"] {
            let (expanded, remarks) = expanded(&nowhere, &format!("{text} {text}"));
            assert_eq!(expanded, format!("{text} {text}"));
            assert!(remarks.len() == 1 && remarks[0].lost && remarks[0].what.contains(text), "{remarks:?}");
        }
    }
}
