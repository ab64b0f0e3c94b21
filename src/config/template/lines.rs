//! Which ends of lines a template keeps. The backend takes away the newline behind every block and comment, which is
//! right where a line holds nothing else, and joins any other line with the next. This reads a template as the backend
//! does and renders nothing.

use std::borrow::Cow;

/// The template with `+`, Jinja's word for "the newline stays", in each tag that ends a line which isn't its own. No
/// line moves.
pub(super) fn keep_ends(source: &str) -> Cow<'_, str> {
    let mut lines = LineEnds { source, at: 0, holds: false, outside: Vec::new(), kept: String::new(), copied: 0 };
    while lines.tag().is_some() {}
    if lines.copied == 0 {
        return Cow::Borrowed(source);
    }
    lines.kept.push_str(&source[lines.copied..]);
    Cow::Owned(lines.kept)
}

struct LineEnds<'s> {
    source: &'s str,
    /// So far it is read.
    at: usize,
    /// Whether the line holds anything but blocks and comments. Ends of lines within tags don't count.
    holds: bool,
    /// The same of each line that a `{% set a %}` is in: what follows up to its `{% endset %}` isn't output there.
    outside: Vec<bool>,
    kept: String,
    /// So far the source is in `kept`.
    copied: usize,
}

impl LineEnds<'_> {
    /// Reads on, past the next tag; none where there is none, or one without an end, of which the backend tells.
    fn tag(&mut self) -> Option<()> {
        let bytes = self.source.as_bytes();
        let (start, kind) = opening(bytes, self.at)?;
        self.text(start);
        let inside = start + 2 + usize::from(matches!(bytes.get(start + 2), Some(b'-' | b'+')));
        match kind {
            b'{' => {
                self.at = closing(bytes, inside, b'}')?.0 + 2;
                self.holds = true;
            }
            b'#' => self.ends(inside, inside + self.source[inside..].find("#}")?, " +"),
            _ => match basic(bytes, inside, b"raw") {
                Some(end) => {
                    self.ends(inside, end, "+");
                    let (begin, inside, end) = end_of_raw(self.source, self.at)?;
                    self.text(begin);
                    self.ends(inside, end, "+");
                }
                None => {
                    let (end, assigns) = closing(bytes, inside, b'%')?;
                    let words = self.source[inside..end].trim_start();
                    let name = &words[..words.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(words.len())];
                    match name {
                        "set" if !assigns => self.outside.push(std::mem::take(&mut self.holds)),
                        "endset" => self.holds = self.outside.pop().unwrap_or(self.holds),
                        _ => {}
                    }
                    self.ends(inside, end, "+");
                }
            },
        }
        Some(())
    }

    /// Text up to `end`.
    fn text(&mut self, end: usize) {
        let text = &self.source[self.at..end];
        let line = text.rfind(['\n', '\r']).map(|newline| &text[newline..]);
        self.holds = !line.unwrap_or(text).trim().is_empty() || self.holds && line.is_none();
        self.at = end;
    }

    /// A tag whose inside is over, and whose two marks follow: `%}`, `#}`. One that says what it does with the white
    /// space behind it is left as it is.
    fn ends(&mut self, inside: usize, end: usize, plus: &str) {
        let newline = self.source[end + 2..].starts_with(['\n', '\r']);
        if self.holds && newline && !self.source[inside..end].ends_with(['-', '+']) {
            self.kept.push_str(&self.source[self.copied..end]);
            self.kept.push_str(plus);
            self.copied = end;
        }
        self.at = end + 2;
    }
}

/// The next tag: where, and the second of its marks.
fn opening(bytes: &[u8], from: usize) -> Option<(usize, u8)> {
    let pairs = bytes.get(from..)?.windows(2).enumerate();
    pairs.into_iter().find_map(|(at, pair)| match *pair {
        [b'{', kind @ (b'{' | b'%' | b'#')] => Some((from + at, kind)),
        _ => None,
    })
}

/// Where the marks that end a tag are, and whether it assigns something. Brackets and strings may hold the same marks.
fn closing(bytes: &[u8], from: usize, mark: u8) -> Option<(usize, bool)> {
    let (mut at, mut depth, mut assigns) = (from, 0_isize, false);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' | b'"' => at = end_of_string(bytes, at)?,
            _ if depth == 0 && byte == mark && bytes.get(at + 1) == Some(&b'}') => return Some((at, assigns)),
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'=' if depth == 0 => assigns = true,
            _ => {}
        }
        at += 1;
    }
    None
}

fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match *bytes.get(at)? {
            b'\\' => at += 2,
            byte if byte == bytes[start] => return Some(at),
            _ => at += 1,
        }
    }
}

/// Where the end marks of a block are that holds this word alone.
fn basic(bytes: &[u8], from: usize, word: &[u8]) -> Option<usize> {
    let blanks = |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    let at = blanks(from);
    let at = blanks(at + bytes[at..].strip_prefix(word).map(|_| word.len())?);
    let at = at + usize::from(matches!(bytes.get(at), Some(b'-' | b'+')));
    bytes[at..].starts_with(b"%}").then_some(at)
}

/// Of the block that ends a raw text: where it begins, its inside, its end marks.
fn end_of_raw(source: &str, from: usize) -> Option<(usize, usize, usize)> {
    let bytes = source.as_bytes();
    source[from..].match_indices("{%").find_map(|(at, marks)| {
        let (begin, inside) = (from + at, from + at + marks.len());
        let inside = inside + usize::from(matches!(bytes.get(inside), Some(b'-' | b'+')));
        basic(bytes, inside, b"endraw").map(|end| (begin, inside, end))
    })
}

#[cfg(test)]
mod tests {
    use minijinja::machinery::{Token, Tokenizer};
    use proptest::prelude::*;

    use super::*;
    use crate::config::context::Variables;
    use crate::config::template::{render_file, syntax};

    fn rendered(source: &str) -> String {
        let context = serde_json::json!({ "yes": true, "no": false, "all": [1, 2] });
        render_file(source, "t.j2", context, &Variables::default()).unwrap_or_else(|error| panic!("{source}: {error}"))
    }

    /// Each with what it comes to.
    fn check(rows: &[(&str, &str)]) {
        for (source, expected) in rows {
            assert_eq!(rendered(source), *expected, "{source:?}");
            assert_eq!(keep_ends(source).lines().count(), source.lines().count(), "{source:?}");
            let crlf = |text: &str| text.replace('\n', "\r\n");
            assert_eq!(rendered(&crlf(source)), crlf(expected), "{source:?} with CRLF");
        }
    }

    #[test]
    fn a_line_that_ends_with_a_block_stays_a_line() {
        check(&[
            ("server a check{% if yes %} backup{% endif %}\nserver b\n", "server a check backup\nserver b\n"),
            ("server a check{% if no %} backup{% endif %}\nserver b\n", "server a check\nserver b\n"),
            (
                "{% for i in all %}\n  server s{{ i }}{% if i == 2 %} backup{% endif %}\n{% endfor %}\n.",
                "  server s1\n  server s2 backup\n.",
            ),
            ("of{% for i in all %} {{ i }}{% endfor %}\nb\n", "of 1 2\nb\n"),
            ("{% for i in all %}{{ i }}{% endfor %}\nb\n", "12\nb\n"),
            ("a{% for i in all %}\n  b{{ i }}\n{% endfor %}\nc\n", "a\n  b1\n\n  b2\nc\n"),
            ("a {% if yes\n  and yes %}\nb\n{% endif %}\n", "a \nb\n"),
            ("{{ 1\n}}{% if yes %}\nb\n{% endif %}\n", "1\nb\n"),
            ("{% if yes %}a{% else %}\nb{% endif %}\nc", "a\nc"),
            ("é{% if yes %}\n{% endif %}\nb", "é\nb"),
        ]);
    }

    #[test]
    fn a_line_of_blocks_alone_leaves_none_behind() {
        check(&[
            ("a\n  {% if yes %}\n  b\n  {% endif %}\nc\n", "a\n  b\nc\n"),
            ("a\n{% if yes %}{% if yes %}\nb\n{% endif %}{% endif %}\nc\n", "a\nb\nc\n"),
            ("a\n{% set x = 'b' %}\n{{ x }}\n", "a\nb\n"),
            ("{% if '%}' == \"%}\" or '\\'%}' %}\nb\n{% endif %}\n", "b\n"),
            ("{% if {'%}': [{}]} and\n  yes %}\nb\n{% endif %}\n", "b\n"),
            // The text of a `set` is output elsewhere.
            ("{% set x %}b{% endset %}\n{{ x }}\n", "b\n"),
            ("{% set x | replace('b', 'a') %}b{% endset %}\n{{ x }}\n", "a\n"),
            ("a{% set x %}\nb{% if yes %}c{% endif %}\nd{% endset %}\n[{{ x }}]\n", "a\n[bc\nd]\n"),
        ]);
    }

    #[test]
    fn a_comment_ends_a_line_as_a_block_does() {
        check(&[
            ("a\n  {# one %} {{ #}\nb\n", "a\nb\n"),
            ("a\n{# one\n two #}\nb\n", "a\nb\n"),
            ("a {# one #}\nb\n", "a \nb\n"),
            ("a {##}\nb\n", "a \nb\n"),
            ("a {#-#}\nb\n", "a\nb\n"),
            ("a{#- one -#}\nb\n", "ab\n"),
        ]);
    }

    #[test]
    fn a_raw_text_is_text() {
        check(&[
            ("{% raw %}{% if x %}\n{{ y {% endraw %}\nb\n", "{% if x %}\n{{ y \nb\n"),
            ("{% raw %}\na{% if x %}\n{% endraw %}\nb\n", "a{% if x %}\nb\n"),
            ("a {% raw %}\n{%x\n  {%- endraw %}\nb\n", "a \n{%xb\n"),
        ]);
    }

    #[test]
    fn who_says_what_becomes_of_white_space_is_heard() {
        check(&[
            ("a{% if yes -%}\n  b{% endif -%}\nc\n", "abc\n"),
            ("a\n{% if yes +%}\nb\n{%- endif %}\nc\n", "a\n\nbc\n"),
            ("a {%- if yes %}\nb\n{% endif %}\n", "a\nb\n"),
        ]);
    }

    #[test]
    fn what_has_no_end_is_left_to_the_backend() {
        for source in
            ["a{% if '", "a{% if (%}\n", "a{{ x", "a{# x", "a{% raw %}\nb", "a{% raw %}b{% endraw", "{%-", "{{"]
        {
            let error = render_file(source, "t.j2", (), &Variables::default()).expect_err(source).to_string();
            assert!(error.contains("syntax error"), "{source}: {error}");
        }
        let long = "{% raw %}{% ".repeat(200_000) + &"{% if '".repeat(200_000);
        assert!(matches!(keep_ends(&long), Cow::Borrowed(_)));
    }

    #[test]
    fn the_shipped_templates_render_as_they_always_did() {
        for source in [
            include_str!("../../../config-examples/haproxy.cfg.j2"),
            include_str!("../../../config-examples/haproxy/haproxy.cfg.j2"),
            include_str!("../../../config-examples/logs/ship.conf.j2"),
            include_str!("../../../config-examples/nginx.conf.j2"),
            include_str!("../../../config-examples/nginx/nginx.conf.j2"),
            include_str!("../../../docker/demo/nginx.conf.j2"),
            include_str!("../../../docker/nginx/nginx.conf.j2"),
        ] {
            assert!(matches!(keep_ends(source), Cow::Borrowed(_)), "{source}");
        }
    }

    /// A template as the backend reads it: its tags, and its texts without white space.
    fn read(source: &str) -> Option<Vec<String>> {
        let mut tokens = Tokenizer::new(source, "t.j2", false, syntax());
        let (mut read, mut text) = (Vec::new(), String::new());
        loop {
            match tokens.next_token().ok()? {
                Some((Token::TemplateData(data), _)) => text.extend(data.split_whitespace()),
                Some((token, _)) => read.extend([std::mem::take(&mut text), format!("{token:?}")]),
                None => break,
            }
        }
        read.push(text);
        Some(read)
    }

    proptest! {
        /// Nothing is put where the backend would read it as text, or as anything else.
        #[test]
        fn nothing_but_white_space_becomes_different(pieces in prop::collection::vec(prop::sample::select(vec![
            "{%", "{%-", "{%+", "%}", "-%}", "+%}", "{{", "{{-", "}}", "-}}", "{#", "#}", "-#}", "{% raw %}", "{% raw -%}",
            "{% endraw %}", "{%- endraw +%}", "{% if x %}", "{% endif %}\n", "{% set a %}", "{% set a = 1 %}\n",
            "{% endset %}\n", "{# a #}\n", "\n", "\r\n", "\r", " ", "a", "x = 1", "'", "\"", "\\", "(", ")", "{", "}", "[",
            "]", "+", "-", "%", "#", "1e", "é",
        ]), 0..24)) {
            let source = pieces.concat();
            prop_assert_eq!(read(&source), read(&keep_ends(&source)));
        }
    }
}
