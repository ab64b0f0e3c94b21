//! A command line where an array is wanted: its words, as a shell would find them, for the hint that says what to write.

/// The words of a line; `None` when it takes a shell to understand it.
pub(super) fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '$' | '`') => return None,
            (None, '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '~' | '#') => return None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().push(chars.next()?),
            (Some('"'), '\\') => {
                let next = chars.next()?;
                let word = word.get_or_insert_default();
                if !matches!(next, '"' | '\\' | '$' | '`') {
                    word.push('\\');
                }
                word.push(next);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_line_is_split_as_a_shell_splits_it() {
        for (line, expected) in [
            ("nginx -g 'daemon off;'", &["nginx", "-g", "daemon off;"][..]),
            ("a  \"b \\\" c\" d\\ e ''", &["a", "b \" c", "d e", ""]),
            ("echo '$HOME' a\"b c\"", &["echo", "$HOME", "ab c"]),
        ] {
            assert_eq!(words(line).unwrap(), expected, "{line}");
        }
        for line in ["a | b", "a; b", "echo $HOME", "echo \"$HOME\"", "a > b", "ls *", "a 'b", "a \\"] {
            assert_eq!(words(line), None, "{line}");
        }
    }
}
