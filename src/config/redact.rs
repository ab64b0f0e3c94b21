//! What must not be read where mistakes are told: passwords in URLs, values of keys that are called tokens, passwords or
//! secrets, and those of variables and headers, whatever they are called. It looks at text, not at a document: what it hides
//! may stand where nothing can be parsed.

use std::ops::Range;

/// A key that ends so has a value to be hidden, however its letters are written.
const KEYS: [&str; 5] = ["token", "password", "passwd", "secret", "authorization"];
/// Tables all of whose values are hidden.
const TABLES: [&str; 2] = ["env", "headers"];
/// What a word ends at that may stand before an `@`.
const EDGES: [char; 10] = ['"', '\'', '`', ' ', '\t', '\n', ',', '=', '[', '{'];

/// The same text with stars for what is secret, byte for byte, so that every place in it stays where it is.
pub(super) fn redact(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut hidden = 0;
    // Where a user may begin: after the last scheme, or else the word itself if a colon is in it.
    let (mut scheme, mut word, mut colon) = (None, 0, false);
    // Whether all is hidden in what was opened by each brace, and in the table that a line in brackets began.
    let (mut opened, mut headed) = (Vec::new(), is_headed(text));
    for (at, sign) in text.char_indices() {
        match sign {
            '{' if at >= hidden => opened.push(opened.last() == Some(&true) || names_a_table(&text[..at])),
            '}' if at >= hidden => drop(opened.pop()),
            '\n' if text[at + 1..].starts_with('[') => (opened, headed) = (Vec::new(), is_headed(&text[at + 1..])),
            _ => {}
        }
        let all = opened.last().copied().unwrap_or(headed);
        let secret = match sign {
            '@' => scheme.or(colon.then_some(word)).map(|user| user..at),
            '=' | ':' if at >= hidden && names_a_secret(&text[..at]) => Some(value(text, at, &['\n'])),
            '=' | ':' if at >= hidden && all && !opens(&text[at + 1..]) => Some(value(text, at, &[',', '}', '\n'])),
            _ => None,
        };
        if let Some(Range { start, end }) = secret {
            let secret = &mut bytes[start.max(hidden).min(end)..end];
            secret.iter_mut().filter(|byte| !matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b'*');
            hidden = hidden.max(end);
        }
        if sign == ':' {
            colon = true;
            scheme = text[at..].starts_with("://").then_some(at + "://".len()).or(scheme);
        }
        if matches!(sign, '"' | '\n') {
            scheme = None;
        }
        if EDGES.contains(&sign) {
            (word, colon) = (at + sign.len_utf8(), false);
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

/// Whether what stands before `=` or `:` ends in such a key, quoted or not.
fn names_a_secret(before: &str) -> bool {
    let key = before.trim_end_matches([' ', '\t']);
    let key = key.strip_suffix(['"', '\'']).unwrap_or(key).as_bytes();
    KEYS.iter()
        .any(|name| key.len() >= name.len() && key[key.len() - name.len()..].eq_ignore_ascii_case(name.as_bytes()))
}

/// Whether the brace behind this is that of such a table.
fn names_a_table(before: &str) -> bool {
    let key = before.trim_end_matches([' ', '\t', '=', ':', '\n']);
    let key = key.strip_suffix(['"', '\'']).unwrap_or(key);
    TABLES.iter().any(|table| {
        key.strip_suffix(table).is_some_and(|rest| !rest.ends_with(|c: char| c == '_' || c.is_alphanumeric()))
    })
}

/// Whether this begins with the line that begins such a table.
fn is_headed(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches('[').split_once(']').is_some_and(|(name, _)| line.starts_with('[') && names_a_table(name))
}

/// Whether a table or a list follows, and no value.
fn opens(after: &str) -> bool {
    after.trim_start().starts_with(['{', '['])
}

/// Where the value behind a `=` or `:` is, without its quotes; one that has none goes as far as one of the `ends`.
fn value(text: &str, sign: usize, ends: &[char]) -> Range<usize> {
    let rest = &text[sign + 1..];
    // JSON may have it on the next line; TOML has the next key there.
    let bare = match text[sign..].starts_with(':') {
        true => rest.trim_start(),
        false => rest.trim_start_matches([' ', '\t']),
    };
    let start = text.len() - bare.len();
    for quote in ["\"\"\"", "'''"] {
        if let Some(inside) = bare.strip_prefix(quote) {
            let start = start + quote.len();
            return start..start + inside.find(quote).unwrap_or(inside.len());
        }
    }
    // Without quotes nobody knows where it ends.
    let Some(quote) = bare.chars().next().filter(|quote| matches!(quote, '"' | '\'')) else {
        return start..start + bare.find(ends).unwrap_or(bare.len());
    };
    let mut escaped = false;
    let inside = &bare[1..];
    let end = inside.find(|c| {
        let ends = c == '\n' || c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    start + 1..start + 1 + end.unwrap_or(inside.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_a_scheme_and_its_host_is_hidden_and_nothing_moves() {
        for (text, masked) in [
            ("address = \"https://me:s3cret@consul:8501\"", "address = \"https://*********@consul:8501\""),
            ("address = \"https://me:s3:c@r et@consul\"", "address = \"https://************@consul\""),
            ("address = 'https://me:it's@consul'", "address = 'https://*******@consul'"),
            ("address = \"me:s3cret@consul:8501\"", "address = \"*********@consul:8501\""),
            ("address = https://me:s3cret@consul", "address = https://*********@consul"),
            ("[\"https://a\", \"https://b:c@d\"]", "[\"https://a\", \"https://***@d\"]"),
            ("mail = \"me@example.com\" # http://x", "mail = \"me@example.com\" # http://x"),
            ("url = \"http://a:80\"\nmail = \"me@b\"", "url = \"http://a:80\"\nmail = \"me@b\""),
        ] {
            assert_eq!(redact(text), masked);
        }
    }

    #[test]
    fn a_text_of_nothing_but_signs_takes_no_time() {
        for text in
            ["@".repeat(1 << 20), "x://a@".repeat(1 << 18), "token=\"\"".repeat(1 << 17), "token:".repeat(1 << 17)]
        {
            assert_eq!(redact(&text).len(), text.len());
        }
    }

    #[test]
    fn the_values_of_keys_called_secrets_are_hidden_in_toml_and_in_json() {
        for (text, masked) in [
            ("token = \"s3cret\" # why", "token = \"******\" # why"),
            ("catalog.token='s3cret'", "catalog.token='******'"),
            ("env = { DB_PASSWORD = \"a\\\"b\", TZ = \"UTC\" }", "env = { DB_PASSWORD = \"****\", TZ = \"***\" }"),
            ("{\"Token\" : \"s3cret\", \"a\": 1}", "{\"Token\" : \"******\", \"a\": 1}"),
            ("env = { DB_PASS = \"hunter2\", A = 1 }\nport = 8", "env = { DB_PASS = \"*******\", A = **}\nport = 8"),
            ("env = { DB = \"a\", A = \"b\" }\nname = \"c\"", "env = { DB = \"*\", A = \"*\" }\nname = \"c\""),
            ("{\"env\": {\"A\": \"x\"}, \"name\": \"y\"}", "{\"env\": {\"A\": \"*\"}, \"name\": \"y\"}"),
            ("[process.env]\nA = \"x\"\n[stop]\nwithin = \"9s\"", "[process.env]\nA = \"*\"\n[stop]\nwithin = \"9s\""),
            ("env_from_files = { A = \"/run/a\" }", "env_from_files = { A = \"/run/a\" }"),
            ("consul: { token: 's3cret' }", "consul: { token: '******' }"),
            ("\"token\":\n  \"s3cret\"", "\"token\":\n  \"******\""),
            ("\"X-Vault-Token\" = \"s3cret\"", "\"X-Vault-Token\" = \"******\""),
            ("token = s3cret, or so", "token = *************"),
            ("token = \"s3cret\nport = 80", "token = \"******\nport = 80"),
            ("secret = \"\"\"\ns3cret\n\"\"\"\nport = 80", "secret = \"\"\"\n******\n\"\"\"\nport = 80"),
            ("token =\nport = 80", "token =\nport = 80"),
            ("password = \"äö\"", "password = \"****\""),
            ("token_file = \"/run/token\"", "token_file = \"/run/token\""),
            ("password_file = \"/run/p\"\nkey = \"/k\"", "password_file = \"/run/p\"\nkey = \"/k\""),
        ] {
            assert_eq!(redact(text), masked);
        }
    }
}
