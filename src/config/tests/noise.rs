//! Whatever is thrown at the config, it answers with a config or a report.

use proptest::prelude::*;

use super::load;

const GOOD: &str = include_str!("../../../config-examples/primary.toml");
const WORDS: &[&str] = &[
    "[",
    "]",
    "[[",
    "{",
    "}",
    "=",
    "\"",
    "\"\"\"",
    "'",
    "\n",
    ",",
    ".",
    "#",
    "{{",
    "}}",
    "{%",
    "env.X",
    "|",
    "0",
    "-1",
    "99999999999999999999",
    "1979-05-27",
    "inf",
    "true",
    "null",
    "process",
    "exec",
    "health",
    "service",
    "\u{0}",
    "ä",
    "\u{feff}",
    "\r",
    "\\u",
    "\\",
    "5s",
    "..",
    "stop",
    "watch",
    "template",
];

fn survives(text: &str) {
    for file in ["t.toml", "t.json", "t"] {
        match load(text, file) {
            Ok(loaded) => drop(loaded),
            Err(report) => {
                assert!(!report.mistakes().is_empty());
                assert!(!report.to_string().is_empty());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        survives(&text);
    }

    #[test]
    fn no_pile_of_words_panics(words in prop::collection::vec(prop::sample::select(WORDS), 0..60)) {
        survives(&words.concat());
    }

    #[test]
    fn no_mutation_of_a_good_config_panics(
        edits in prop::collection::vec((0usize..GOOD.len(), 0usize..6, prop::sample::select(WORDS)), 1..8)
    ) {
        let mut text = GOOD.to_owned();
        for (at, length, word) in edits {
            let boundary = |mut at: usize| {
                at = at.min(text.len());
                while !text.is_char_boundary(at) {
                    at -= 1;
                }
                at
            };
            let range = boundary(at)..boundary(at + length);
            text.replace_range(range, word);
        }
        survives(&text);
    }
}

#[test]
fn no_report_steers_a_terminal() {
    for text in [
        "{\"process\": ge\u{feff}}",
        "{\"\\u001b[2J\": 1}",
        "\"a\\u009b\" = 1",
        "a\u{202e} = 1",
        "x = \"\u{200f}\" 2",
        "{\"a\\nb\": 1}",
    ] {
        let report = load(text, "t").unwrap_err();
        let words: Vec<String> = report.mistakes().iter().map(ToString::to_string).collect();
        assert!(!words.concat().contains(crate::plain::acts), "{words:?}");
        assert!(!report.to_string().contains(|c| crate::plain::acts(c) && c != '\n'), "{report}");
    }
}

#[test]
fn deep_nesting_is_an_error_and_not_the_end() {
    let opened: [fn(usize) -> String; 5] = [
        |n| "[".repeat(n),
        |n| format!("a = {}", "[".repeat(n)),
        |n| format!("a = {}1{}", "[".repeat(n), "]".repeat(n)),
        |n| "{\"a\":".repeat(n),
        |n| format!("a{} = 1", ".a".repeat(n)),
    ];
    for text in opened {
        survives(&text(300));
        survives(&text(100_000));
    }
}

#[test]
fn a_long_file_that_is_no_config_gets_a_short_report_soon() {
    for line in ["a\u{1}\n", "x = [\n", "y%d = 1\n", "[[z]]\n", "{\n", "k = \"{{ env.NONE }}\"\n", "exec = [\"a\"]\n"] {
        let text: String = (0..100_000 / line.len()).map(|n| line.replace("%d", &n.to_string())).collect();
        let report = load(&text, "t.toml").unwrap_err();
        assert!(report.mistakes().len() <= 100);
        assert!(report.to_string().len() < 200_000);
    }
    let pairs: Vec<String> = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let report = load(&format!("{{{}}}", pairs.join(",")), "t.json").unwrap_err();
    assert!(report.to_string().ends_with("5001 mistakes in t.json, of which the first 100 are shown"), "{report}");
}
