//! Looks at JSON before it is parsed as a whole: a parser's error repeats the text it couldn't use, six times as long where
//! that acts on a terminal, and a list of empty texts takes eight times the memory of its JSON. It doesn't look whether it is
//! JSON at all.

use crate::catalog::bounds::LARGEST_ITEM;

/// The longest text that isn't a value, in bytes as it is written: a check's output has 4 KiB by default, and an agent may be
/// told of tags as long as anybody likes.
pub(super) const WORD: usize = 128 * 1024;

/// The longest value, in Base64.
pub(super) const VALUE: usize = LARGEST_ITEM / 3 * 4 + 4;

/// No answer of Consul's that is parsed as a whole says more things.
const MOST_THINGS: usize = 100_000;

/// What is without measure in this JSON, if anything is.
pub(super) fn flaw(json: &[u8], longest: usize) -> Option<&'static str> {
    let (mut things, mut text, mut escaped) = (0, None, false);
    for byte in json {
        match (&mut text, byte) {
            (None, b'"') => text = Some(0),
            (None, b',') => {
                things += 1;
                if things > MOST_THINGS {
                    return Some("its answer is a list without measure");
                }
            }
            (None, _) => {}
            (Some(_), b'"') if !escaped => text = None,
            (Some(length), byte) => {
                escaped = *byte == b'\\' && !escaped;
                *length += 1;
                if *length > longest {
                    return Some("its answer has a text without measure");
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_or_a_list_without_measure_is_found_and_an_honest_answer_is_none() {
        let text = |bytes| format!(r#"{{"a": [1, "{}"], "b": "\"{{,"}}"#, "x".repeat(bytes));
        assert_eq!(flaw(text(WORD).as_bytes(), WORD), None);
        assert!(flaw(text(WORD + 1).as_bytes(), WORD).is_some());
        let quotes = format!(r#"["{}", "x"]"#, "\\\"\\\\".repeat(20));
        assert_eq!(flaw(quotes.as_bytes(), 80), None, "{quotes}");
        assert!(flaw(quotes.as_bytes(), 79).is_some());
        let list = |things: usize| format!("[\"\"{}]", ",\"\"".repeat(things - 1));
        assert_eq!(flaw(list(MOST_THINGS).as_bytes(), WORD), None);
        assert!(flaw(list(MOST_THINGS + 2).as_bytes(), WORD).is_some());
        assert_eq!(flaw(format!("[\"{}\"]", ",".repeat(1_000)).as_bytes(), 1_000), None);
    }
}
