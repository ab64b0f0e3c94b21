//! How an error is told: itself and whatever caused it, in one line. An error's own text doesn't repeat its cause, so this
//! is the only place where they meet; and where they are cut, for a parser's error repeats what it couldn't parse, and a
//! verifier's what stands in a certificate.

use std::error::Error;
use std::fmt::{self, Display, Write};

use crate::plain;

/// This much of somebody else's words is told, in characters.
const OTHERS_WORDS: usize = 300;

/// This much of one error: our own words, and those of somebody else in them.
const LONGEST: usize = 1000;

/// This much of all of them.
const LONGEST_CHAIN: usize = 2000;

/// An error and all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut told = Cut::at(LONGEST_CHAIN);
    told.part(error, LONGEST);
    let mut cause = error.source();
    while let Some(error) = cause {
        told.part(&": ", LONGEST);
        told.part(error, LONGEST);
        cause = error.source();
    }
    told.text
}

/// The beginning of somebody else's words, without anything that acts. However long they are, no more of them is written.
pub fn cut(words: &(impl Display + ?Sized)) -> String {
    let mut told = Cut::at(OTHERS_WORDS);
    told.part(&Fit(words), OTHERS_WORDS);
    told.text
}

/// A text that is written as far as there is room, and then no further.
struct Cut {
    text: String,
    /// In all.
    left: usize,
    /// Of the part that is written.
    of_part: usize,
}

impl Cut {
    fn at(most: usize) -> Cut {
        Cut { text: String::new(), left: most, of_part: 0 }
    }

    fn part(&mut self, part: &(impl Display + ?Sized), most: usize) {
        if self.left == 0 {
            return;
        }
        self.of_part = most;
        // An error here is the end of the room: whoever writes stops by it.
        if write!(self, "{part}").is_err() {
            self.text.push_str("...");
        }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            let room = self.left.min(self.of_part);
            if room == 0 {
                return Err(fmt::Error);
            }
            self.text.push(character);
            self.left -= 1;
            self.of_part -= 1;
        }
        Ok(())
    }
}

/// Somebody else's words, made fit for one line as they are written.
struct Fit<'a, T: ?Sized>(&'a T);

impl<T: Display + ?Sized> Display for Fit<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Through<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl Write for Through<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                // In pieces: a text of megabytes isn't made fit for its first line.
                let mut rest = text;
                while !rest.is_empty() {
                    let end = rest.char_indices().nth(OTHERS_WORDS).map_or(rest.len(), |(place, _)| place);
                    let (piece, others) = rest.split_at(end);
                    self.0.write_str(&plain::line(piece))?;
                    rest = others;
                }
                Ok(())
            }
        }
        write!(Through(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't read the token")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn an_error_is_told_with_all_its_causes() {
        let inner = std::io::Error::from_raw_os_error(2);
        let expected = format!("can't read the token: {inner}");
        assert_eq!(chain(&Outer(inner)), expected);
    }

    #[test]
    fn of_an_error_that_repeats_megabytes_a_line_is_told() {
        let long = std::io::Error::other("\u{7f}x".repeat(1 << 20));
        let told = chain(&Outer(long));
        assert!(told.starts_with("can't read the token: ") && told.ends_with("..."), "{told}");
        assert!(told.chars().count() <= LONGEST_CHAIN + 3, "{}", told.len());
        let told = cut(&"\u{7f}x\n\u{202e}".repeat(1 << 20));
        assert_eq!(told.chars().count(), OTHERS_WORDS + 3);
        assert!(!told.contains(plain::acts), "{told}");
        assert_eq!(cut("as it is"), "as it is");
    }

    #[test]
    fn what_is_not_told_is_not_even_written() {
        struct Endless(Cell<usize>);
        impl Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for _ in 0..1_000_000 {
                    self.0.set(self.0.get() + 1);
                    f.write_str("again and again, ")?;
                }
                Ok(())
            }
        }
        let endless = Endless(Cell::new(0));
        assert!(cut(&endless).starts_with("again and again, again"));
        assert!(endless.0.get() < 50, "{}", endless.0.get());
    }
}
