//! What a sensor's command prints, and what is pushed: a number, or lines as Prometheus' text form has them.

use crate::supervisor::vocabulary::Labels;

/// More tell nothing apart that a reader could still look at.
const MOST_LABELS: usize = 16;
/// Of a label's name and of its value, in bytes.
const LONGEST_NAME: usize = 128;
const LONGEST_VALUE: usize = 256;
/// Of what is shown of a line that can't be read, in characters.
const SHOWN: usize = 60;

/// One value, and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric, if it was named.
    pub name: Option<String>,
    /// What tells it from the metric's other values.
    pub labels: Labels,
    /// The value; finite.
    pub value: f64,
}

/// Reads one line; `None`: there is nothing on it, or a comment.
///
/// # Errors
/// What is wrong with it.
pub fn read(line: &str) -> Result<Option<Sample>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    if let Some(value) = number(line) {
        return Ok(Some(Sample { name: None, labels: Labels::new(), value }));
    }
    let (name, labels, rest) = series(line)?;
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(number).ok_or_else(|| format!("`{}` has no number", shown(line)))?;
    // Prometheus' form allows for a time, which is the reader's own here.
    let is_time = |word: &str| word.parse::<f64>().is_ok();
    if !words.next().is_none_or(is_time) || words.next().is_some() {
        return Err(format!("`{}` has more than a number behind its name", shown(line)));
    }
    Ok(Some(Sample { name: (!name.is_empty()).then(|| name.to_owned()), labels, value }))
}

/// Reads a value that is pushed: what it is of, and the number.
///
/// # Errors
/// What is wrong with it.
pub fn pushed(of: &str, value: &str) -> Result<Sample, String> {
    let (name, labels, rest) = series(of)?;
    if name.is_empty() || !rest.is_empty() {
        return Err(format!("`{}` isn't a metric's name", shown(of)));
    }
    let value = number(value.trim()).ok_or_else(|| format!("`{}` isn't a number", shown(value)))?;
    Ok(Sample { name: Some(name.to_owned()), labels, value })
}

/// A finite one, as Rust and most others print it.
fn number(text: &str) -> Option<f64> {
    let begins = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    text.parse().ok().filter(|value: &f64| begins && value.is_finite())
}

/// `name{label="value",...}`, and what follows it.
fn series(line: &str) -> Result<(&str, Labels, &str), String> {
    let end = line.find(|c: char| !is_of_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let Some(mut rest) = rest.strip_prefix('{') else {
        return Ok((name, Labels::new(), rest.trim_start()));
    };
    let broken = |what: &str| format!("`{}` {what}", shown(line));
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            labels.sort();
            return match labels.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                Some(pair) => Err(broken(&format!("has the label `{}` twice", pair[0].0))),
                None => Ok((name, labels, after.trim_start())),
            };
        }
        let end = rest.find(|c: char| !is_of_name(c) || c == ':').unwrap_or(rest.len());
        let (label, after) = rest.split_at(end);
        if label.is_empty() || label.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(broken("has a label without a name"));
        }
        if label.len() > LONGEST_NAME {
            return Err(broken(&format!("has a label whose name has more than {LONGEST_NAME} bytes")));
        }
        if label.starts_with("__") || label == "le" || label == "quantile" {
            return Err(broken(&format!("has the label `{label}`, which is Prometheus' own")));
        }
        let quoted = after.trim_start().strip_prefix('=').and_then(|after| after.trim_start().strip_prefix('"'));
        let (value, after) = quoted.and_then(unquote).ok_or_else(|| broken("has a label without a quoted value"))?;
        if value.len() > LONGEST_VALUE {
            return Err(broken(&format!("has a label of more than {LONGEST_VALUE} bytes")));
        }
        labels.push((label.to_owned(), value));
        if labels.len() > MOST_LABELS {
            return Err(broken(&format!("has more than {MOST_LABELS} labels")));
        }
        rest = after.trim_start();
        rest = match (rest.strip_prefix(','), rest.starts_with('}')) {
            (Some(after), _) => after,
            (None, true) => rest,
            (None, false) => return Err(broken("has labels that don't end")),
        };
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The text up to its closing quote, and what follows that.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('"' | '\\') => escaped,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(line: &str) -> (Option<String>, Vec<(String, String)>, f64) {
        let Sample { name, labels, value } = read(line).unwrap().unwrap();
        (name, labels, value)
    }

    fn labels(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_number_alone_is_a_value() {
        for (line, value) in [("5", 5.0), (" -0.5 \n", -0.5), ("1e3", 1e3), ("+7", 7.0), (".5", 0.5)] {
            assert_eq!(sample(line), (None, Vec::new(), value), "{line}");
        }
    }

    #[test]
    fn prometheus_lines_are_values_with_labels() {
        let name = Some("connections".to_owned());
        assert_eq!(sample("connections 5"), (name.clone(), Vec::new(), 5.0));
        assert_eq!(sample("connections{} 5 1764264000"), (name.clone(), Vec::new(), 5.0));
        let idle = labels(&[("pool", "a b"), ("state", "idle")]);
        assert_eq!(sample(r#"connections{state="idle", pool = "a b",} 5"#), (name, idle.clone(), 5.0));
        assert_eq!(sample(r#"{state="idle",pool="a b"} 5"#), (None, idle, 5.0));
        let odd = labels(&[("path", "a\"b\\c\nd}=,")]);
        assert_eq!(sample(r#"x{path="a\"b\\c\nd}=,"}1"#), (Some("x".to_owned()), odd, 1.0));
        for nothing in ["", "  ", "# HELP connections Open connections", "#"] {
            assert_eq!(read(nothing), Ok(None), "{nothing}");
        }
    }

    #[test]
    fn what_is_pushed_names_its_metric() {
        let pushed = |of: &str, value: &str| super::pushed(of, value).map(|sample| (sample.name, sample.value));
        assert_eq!(pushed("jobs", "3"), Ok((Some("jobs".to_owned()), 3.0)));
        assert_eq!(pushed(r#"jobs{kind="a=b"}"#, "3"), Ok((Some("jobs".to_owned()), 3.0)));
        for (of, value) in [("", "3"), ("jobs", "x"), ("jobs", ""), ("jobs 3", "4"), ("{a=\"b\"}", "3"), ("jöbs", "3")]
        {
            assert!(pushed(of, value).is_err(), "{of}={value}");
        }
    }

    #[test]
    fn garbage_is_refused_and_shown_in_one_line() {
        for garbage in [
            "hello",
            "NaN",
            "inf",
            "1e999",
            "1,5",
            "5 apples",
            "x 1 2 3",
            "x y",
            "x{a} 1",
            "x{a=b} 1",
            "x{a=\"b\" 1",
            "x{a=\"b",
            "x{a=\"b\"c=\"d\"} 1",
            "x{a=\"\\q\"} 1",
            "x{1a=\"b\"} 1",
            "x{a=\"b\",a=\"c\"} 1",
            "x{le=\"1\"} 1",
            "x{__a=\"1\"} 1",
            "\u{1b}[31m\n",
        ] {
            let error = read(garbage).unwrap_err();
            assert!(!error.contains(['\n', '\u{1b}']) && error.len() < 300, "{garbage}: {error}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("l{n}=\"\"")).collect();
        assert!(read(&format!("x{{{}}} 1", many.join(","))).unwrap_err().contains("more than 16 labels"));
        assert!(read(&format!("x{{a=\"{}\"}} 1", "b".repeat(257))).unwrap_err().contains("256 bytes"));
    }
}
