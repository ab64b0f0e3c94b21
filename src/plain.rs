//! Text that others wrote, made fit for a terminal and a log: nothing in it can steer the one, or pass for a line of
//! the other. It knows nothing of what the text means.

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character acts instead of being shown: controls (C0, DEL and C1), what ends a line or a paragraph, what
/// turns the direction of the text around it (the "Trojan Source" characters), and what can't be seen at all.
pub fn acts(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Text for one line: whatever acts is written as an escape, the newline too; a tab stays.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\t')
}

/// Text of several lines: as [`line()`], but its newlines stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| acts(c) && c != '\t' && c != '\n')
}

/// JSON for a terminal: the same in JSON's own escapes, so that it means what it meant. White space between its parts
/// stays.
pub fn json(text: &str) -> Cow<'_, str> {
    let unfit = |c: char| acts(c) && c != '\t' && c != '\n';
    if !text.contains(unfit) {
        return text.into();
    }
    let mut fit = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if unfit(character) {
            for half in character.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(fit, "\\u{half:04x}");
            }
        } else {
            fit.push(character);
        }
    }
    fit.into()
}

fn escaped(text: &str, unfit: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unfit) {
        return text.into();
    }
    let mut fit = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match unfit(character) {
            true => fit.extend(character.escape_default()),
            false => fit.push(character),
        }
    }
    fit.into()
}

/// One line of bytes that are perhaps no text: what isn't UTF-8 is written as escapes too.
pub fn bytes(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let mut text = String::with_capacity(line.len());
    for chunk in line.utf8_chunks() {
        text.push_str(&self::line(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_or_ends_a_line_is_left() {
        for acting in
            ["\u{1b}[2J", "\r", "\u{7f}", "\u{9b}31m", "\u{202e}gpj", "\u{2066}", "\u{2028}", "\u{200f}", "\u{e0041}"]
        {
            let text = format!("a{acting}b");
            for fit in
                [line(&text).into_owned(), lines(&text).into_owned(), json(&text).into_owned(), bytes(text.as_bytes())]
            {
                assert!(!fit.contains(acts), "{fit:?}");
            }
        }
        assert_eq!(line("one\ntwo\tä € 漢 👍🏽"), "one\\ntwo\tä € 漢 👍🏽");
        assert_eq!(lines("one\ntwo\u{85}"), "one\ntwo\\u{85}");
    }

    #[test]
    fn json_means_what_it_meant() {
        let text = serde_json::to_string("a\u{9b}b\u{202e}c\u{e0041}\u{1b}\n").unwrap();
        let fit = json(&text);
        assert!(!fit.contains(acts), "{fit}");
        assert_eq!(serde_json::from_str::<String>(&fit).unwrap(), "a\u{9b}b\u{202e}c\u{e0041}\u{1b}\n");
    }

    #[test]
    fn what_is_no_text_is_shown_by_its_bytes() {
        assert_eq!(
            bytes(b"\x1b[31mred\x07 \xff\xfe \xe2\x82\xac\ttab\x00\r"),
            "\\u{1b}[31mred\\u{7} \\xff\\xfe €\ttab\\u{0}"
        );
    }
}
