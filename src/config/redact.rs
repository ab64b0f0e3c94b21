//! What must not be read where mistakes are told: passwords in URLs, and values of keys that are called tokens,
//! passwords or secrets. It looks at text, not at a document: what it hides may stand where nothing can be parsed.

use std::ops::Range;

/// A key that ends so has a value to be hidden, however its letters are written.
const KEYS: [&str; 5] = ["token", "password", "passwd", "secret", "authorization"];
/// What a word ends at that may stand before an `@`.
const EDGES: [char; 10] = ['"', '\'', '`', ' ', '\t', '\n', ',', '=', '[', '{'];

/// The same text with stars for what is secret, byte for byte, so that every place in it stays where it is.
pub(super) fn redact(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut hidden = 0;
    // Where a user may begin: after the last scheme, or else the word itself if a colon is in it.
    let (mut scheme, mut word, mut colon) = (None, 0, false);
    for (at, sign) in text.char_indices() {
        let secret = match sign {
            '@' => scheme.or(colon.then_some(word)).map(|user| user..at),
            '=' | ':' if at >= hidden && names_a_secret(&text[..at]) => Some(value(text, at)),
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

/// Where the value behind a `=` or `:` is, without its quotes.
fn value(text: &str, sign: usize) -> Range<usize> {
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
        return start..start + bare.find('\n').unwrap_or(bare.len());
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
            ("env = { DB_PASSWORD = \"a\\\"b\", TZ = \"UTC\" }", "env = { DB_PASSWORD = \"****\", TZ = \"UTC\" }"),
            ("{\"Token\" : \"s3cret\", \"a\": 1}", "{\"Token\" : \"******\", \"a\": 1}"),
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
