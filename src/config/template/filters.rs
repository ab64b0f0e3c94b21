//! Filters that rendering needs to be right: quotes for what reads the file, and the forms values come in. Each takes
//! text (a number counts as its digits), and says what is wrong rather than write something else.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use minijinja::value::Serde;
use minijinja::{Environment, Error, ErrorKind, Value};
use regex_lite::RegexBuilder;

/// Of a text that a regular expression looks at: matching takes time in proportion to it.
const REGEX_TEXT_AT_MOST: usize = 256 << 10;
/// Of a compiled regular expression, in bytes: matching takes time in proportion to it too.
const REGEX_AT_MOST: usize = 32 << 10;
/// Of what stands in place of a match, which may itself hold the match many times.
const REPLACEMENT_AT_MOST: usize = 1 << 10;
/// Of what comes of replacing, in bytes: the longest file.
const REPLACED_AT_MOST: usize = super::FILE_LIMIT;

/// Base64 as it comes: its padding is often left out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Makes all of them known to a backend.
pub(super) fn add(engine: &mut Environment<'_>) {
    engine.add_filter("quote_sh", |value: &Value| text(value).and_then(|text| quote_sh(&text)));
    engine.add_filter("quote_nginx", |value: &Value| text(value).and_then(|text| quote_nginx(&text)));
    engine.add_filter("quote_haproxy", |value: &Value| text(value).and_then(|text| quote_haproxy(&text)));
    engine.add_filter("fromjson", |value: &Value| text(value).and_then(|text| from_json(&text)));
    engine.add_filter("tojson", to_json);
    engine.add_filter("b64encode", |value: &Value| text(value).map(|text| BASE64.encode(text.as_bytes())));
    engine.add_filter("b64decode", |value: &Value| text(value).and_then(|text| b64decode(&text)));
    engine.add_filter("sha256", |value: &Value| text(value).map(|text| sha256(text.as_bytes())));
    let replace = |value: &Value, pattern: &str, with: &str| regex_replace(&text(value)?, pattern, with);
    engine.add_filter("regex_replace", replace);
    engine.add_filter("regexReplaceAll", replace);
}

fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    match value.as_str() {
        Some(text) => Ok(Cow::Borrowed(text)),
        None if value.is_number() => Ok(Cow::Owned(value.to_string())),
        None => Err(wrong(format!("a text is wanted, not {}", value.kind()))),
    }
}

fn wrong(what: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// Whether every reader of words takes it as one word as it stands. Brackets belong to IPv6 addresses.
fn is_plain(text: &str, brackets: bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/@%+=,".contains(c) || brackets && "[]".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// One word of a POSIX shell (2.2.2: in single quotes every character stands for itself).
fn quote_sh(text: &str) -> Result<String, Error> {
    if text.contains('\0') {
        return Err(wrong("a shell's word can't hold a NUL byte"));
    }
    Ok(if is_plain(text, false) { text.to_owned() } else { in_single_quotes(text) })
}

/// One word of haproxy.cfg, whose strong quotes are a shell's (configuration manual, 2.2); but a line ends where it
/// ends.
fn quote_haproxy(text: &str) -> Result<String, Error> {
    if let Some(control) = text.chars().find(|c| c.is_control()) {
        return Err(wrong(format!("haproxy.cfg can't hold {}", control.escape_unicode())));
    }
    Ok(if is_plain(text, true) { text.to_owned() } else { in_single_quotes(text) })
}

fn in_single_quotes(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// One word of nginx.conf (ngx_conf_read_token): in double quotes a backslash stands before quotes, itself and the
/// letters of control characters. There is nothing to stand before `$`, which begins a variable where a directive takes
/// any.
fn quote_nginx(text: &str) -> Result<String, Error> {
    if text.contains(['$', '\0']) {
        return Err(wrong("nginx.conf can't hold `$` or a NUL byte as such"));
    }
    if is_plain(text, true) {
        return Ok(text.to_owned());
    }
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(quoted)
}

fn from_json(text: &str) -> Result<Value, Error> {
    let json: serde_json::Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("it isn't JSON: {error}")))?;
    Ok(Value::from(Serde(json)))
}

fn to_json(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let mut json = Bounded(Vec::new());
    serde_json::to_writer(&mut json, value).map_err(|error| wrong(format!("JSON can't hold it: {error}")))?;
    String::from_utf8(json.0).map_err(|error| wrong(error.to_string()))
}

/// JSON up to the longest file: a list may hold another many times.
struct Bounded(Vec<u8>);

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > super::FILE_LIMIT {
            return Err(std::io::Error::other("it is too long"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What was wrapped into lines is unwrapped.
fn b64decode(text: &str) -> Result<String, Error> {
    let whole: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    let bytes = BASE64.decode(whole).map_err(|error| wrong(format!("it isn't base64: {error}")))?;
    String::from_utf8(bytes).map_err(|_| wrong("what it stands for isn't UTF-8"))
}

fn sha256(bytes: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every match replaced; `$1` and `${name}` in the replacement stand for groups, `$$` for a dollar.
fn regex_replace(text: &str, pattern: &str, with: &str) -> Result<String, Error> {
    if text.len() > REGEX_TEXT_AT_MOST || with.len() > REPLACEMENT_AT_MOST {
        return Err(wrong("it is too long for a regular expression: 256 KiB of text and 1 KiB in place of a match"));
    }
    let regex = RegexBuilder::new(pattern).size_limit(REGEX_AT_MOST).build();
    let regex = regex.map_err(|error| wrong(format!("`{pattern}` isn't a regular expression: {error}")))?;
    let (mut replaced, mut from) = (String::new(), 0);
    for groups in regex.captures_iter(text) {
        let Some(found) = groups.get(0) else { continue };
        replaced.push_str(&text[from..found.start()]);
        groups.expand(with, &mut replaced);
        from = found.end();
        if replaced.len() > REPLACED_AT_MOST {
            return Err(wrong("what comes of replacing is too long"));
        }
    }
    replaced.push_str(&text[from..]);
    Ok(replaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, value: &str) -> Result<String, String> {
        let variables = [("PORT", "80")].into_iter().collect();
        super::super::render_file(source, "t.j2", serde_json::json!({ "value": value }), &variables)
            .map_err(|error| error.to_string())
    }

    fn filtered(filter: &str, value: &str) -> String {
        render(&format!("{{{{ value | {filter} }}}}"), value).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(filter: &str, value: &str) -> String {
        render(&format!("{{{{ value | {filter} }}}}"), value).expect_err(value)
    }

    #[test]
    fn a_shell_reads_what_was_quoted_as_the_one_word_it_was() {
        for word in
            ["", "a b", "it's", "$(reboot)", "`reboot`", "a\nb", "*", "\\", "\"", "~", "#", "[::1]:80", "-n", "ä"]
        {
            let script = format!("printf %s. {}", filtered("quote_sh", word));
            let output = shell(&script);
            assert_eq!(output, format!("{word}."), "{script}");
        }
        assert_eq!(filtered("quote_sh", "10.0.0.1:80"), "10.0.0.1:80");
        assert!(refused("quote_sh", "a\0b").contains("NUL"));
    }

    #[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "a test")]
    fn shell(script: &str) -> String {
        let output = std::process::Command::new("sh").args(["-c", script]).output().expect("a shell");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    #[test]
    fn nginx_reads_what_was_quoted_as_one_word() {
        assert_eq!(filtered("quote_nginx", "[2001:db8::5]:80"), "[2001:db8::5]:80");
        assert_eq!(filtered("quote_nginx", "a; } http {"), "\"a; } http {\"");
        assert_eq!(filtered("quote_nginx", "say \"x\\\"\n"), r#""say \"x\\\"\n""#);
        assert_eq!(filtered("quote_nginx", ""), "\"\"");
        assert!(refused("quote_nginx", "$host").contains("can't hold `$`"));
    }

    #[test]
    fn haproxy_reads_what_was_quoted_as_one_word() {
        assert_eq!(filtered("quote_haproxy", "[2001:db8::5]:80"), "[2001:db8::5]:80");
        assert_eq!(filtered("quote_haproxy", "it's # \"$x\" {"), r#"'it'\''s # "$x" {'"#);
        assert!(refused("quote_haproxy", "a\nserver evil 6.6.6.6:80").contains("can't hold \\u{a}"));
    }

    #[test]
    fn json_is_read_and_written() {
        let source = r#"{% set config = value | fromjson %}{{ config.ports[1] }} {{ "on" if config.tls }} {{ config | tojson }}"#;
        let json = r#"{"ports":[80,443],"tls":true}"#;
        assert_eq!(render(source, json).unwrap(), format!("443 on {json}"));
        assert!(refused("fromjson", "{").contains("it isn't JSON: EOF"));
        assert!(!refused("fromjson", &"[".repeat(100_000)).is_empty());
    }

    #[test]
    fn base64_and_sha256_are_what_other_tools_make() {
        assert_eq!(filtered("b64encode", "secret?>"), "c2VjcmV0Pz4=");
        assert_eq!(filtered("b64decode", "c2Vjc\nmV0Pz4"), "secret?>");
        assert!(refused("b64decode", "c2V*").contains("it isn't base64"));
        assert!(refused("b64decode", "/w==").contains("isn't UTF-8"));
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(filtered("sha256", "abc"), digest);
    }

    #[test]
    fn a_regular_expression_replaces_with_its_groups() {
        assert_eq!(filtered(r#"regex_replace("[^a-z0-9]+", "_")"#, "web 1/eu"), "web_1_eu");
        assert_eq!(filtered(r#"regex_replace("^v(\\d+)\\..*", "$1")"#, "v12.3"), "12");
        assert_eq!(filtered(r#"regexReplaceAll("a", "$$")"#, "banana"), "b$n$n$");
        assert!(refused(r#"regex_replace("(", "")"#, "x").contains("`(` isn't a regular expression"));
    }

    #[test]
    fn a_regular_expression_that_would_take_for_ever_or_all_memory_is_refused() {
        assert!(refused(r#"regex_replace("(\\w{500}){500}", "")"#, "x").contains("isn't a regular expression"));
        assert!(refused(r#"regex_replace("x", "")"#, &"x".repeat(REGEX_TEXT_AT_MOST + 1)).contains("too long"));
        let doubling = format!("regex_replace(\"x+\", \"{}\")", "$0".repeat(500));
        assert!(refused(&doubling, &"x".repeat(200_000)).contains("too long"));
    }

    #[test]
    fn what_is_not_there_is_named_and_what_is_no_text_is_refused() {
        assert_eq!(render("{{ env.NONE | quote_sh }}", "").unwrap_err(), "t.j2:1: `NONE` is not set");
        assert!(render("{{ [1] | sha256 }}", "").unwrap_err().contains("a text is wanted, not sequence"));
        assert_eq!(render("{{ 80 | quote_nginx }}", "").unwrap(), "80");
        assert_eq!(render("{{ env.PORT | quote_nginx }}", "").unwrap(), "80");
    }
}
