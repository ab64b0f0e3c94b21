//! Cuts a JSON array that comes in pieces into its elements, so that an answer of many megabytes is never in memory as a
//! whole, and one element that nobody can read costs only itself. It doesn't look into the elements.

use crate::catalog::bounds::LARGEST_ITEM;

/// The longest element, in bytes: the largest value in Base64, and what stands around it.
const LONGEST: usize = LARGEST_ITEM / 3 * 4 + 64 * 1024;

/// One element.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Element<'a> {
    /// Its JSON.
    Whole(&'a [u8]),
    /// It is longer than any that is read.
    TooLong,
}

/// What comes is no array.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoArray;

/// An array of which some has come.
#[derive(Debug, Default)]
pub(super) struct Elements {
    place: ElementPlace,
    /// Brackets that stand open within the element.
    depth: usize,
    string: String,
    element: Vec<u8>,
    too_long: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum ElementPlace {
    #[default]
    Before,
    Inside,
    Behind,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum String {
    #[default]
    None,
    Open,
    Escaped,
}

impl Elements {
    /// More has come: what is whole by now goes to `each`.
    pub(super) fn feed<E: From<NoArray>>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Element<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            match (&self.place, byte) {
                (_, b' ' | b'\t' | b'\r' | b'\n') if self.string == String::None => {}
                (ElementPlace::Before, b'[') => self.place = ElementPlace::Inside,
                (ElementPlace::Before | ElementPlace::Behind, _) => return Err(NoArray.into()),
                (ElementPlace::Inside, b',') if self.is_between() => self.end(&mut each)?,
                (ElementPlace::Inside, b']') if self.is_between() => {
                    self.end(&mut each)?;
                    self.place = ElementPlace::Behind;
                }
                (ElementPlace::Inside, _) => self.take(byte),
            }
        }
        Ok(())
    }

    /// Whether all of it has come.
    pub(super) fn is_whole(&self) -> bool {
        self.place == ElementPlace::Behind
    }

    fn is_between(&self) -> bool {
        self.depth == 0 && self.string == String::None
    }

    fn end<E>(&mut self, each: &mut impl FnMut(Element<'_>) -> Result<(), E>) -> Result<(), E> {
        let told = match (self.too_long, self.element.is_empty()) {
            (true, _) => each(Element::TooLong),
            (false, true) => Ok(()),
            (false, false) => each(Element::Whole(&self.element)),
        };
        self.element.clear();
        self.too_long = false;
        told
    }

    fn take(&mut self, byte: u8) {
        self.string = match (&self.string, byte) {
            (String::None, b'"') => String::Open,
            (String::None, b'{' | b'[') => {
                self.depth += 1;
                String::None
            }
            (String::None, b'}' | b']') => {
                self.depth = self.depth.saturating_sub(1);
                String::None
            }
            (String::None, _) => String::None,
            (String::Open, b'"') => String::None,
            (String::Open, b'\\') => String::Escaped,
            (String::Open | String::Escaped, _) => String::Open,
        };
        if self.element.len() >= LONGEST {
            self.too_long = true;
        }
        if self.too_long {
            self.element = Vec::new();
        } else {
            self.element.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl From<NoArray> for std::string::String {
        fn from(NoArray: NoArray) -> Self {
            "no array".to_owned()
        }
    }

    /// The elements of a text that comes in pieces of so many bytes.
    fn cut(text: &str, size: usize) -> Result<(Vec<std::string::String>, bool), std::string::String> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        for piece in text.as_bytes().chunks(size) {
            elements.feed(piece, |element| {
                found.push(match element {
                    Element::Whole(bytes) => std::string::String::from_utf8_lossy(bytes).into_owned(),
                    Element::TooLong => "too long".to_owned(),
                });
                Ok::<(), std::string::String>(())
            })?;
        }
        Ok((found, elements.is_whole()))
    }

    #[test]
    fn elements_come_whole_however_the_pieces_are_cut() {
        let text = r#" [ {"a": [1, {"b": "]},\"["}]} , "x,]", 7,{} ] "#;
        for size in 1..text.len() {
            let (found, whole) = cut(text, size).unwrap();
            assert_eq!(found, [r#"{"a":[1,{"b":"]},\"["}]}"#, r#""x,]""#, "7", "{}"], "{size}");
            assert!(whole);
        }
        assert_eq!(cut("[]", 1), Ok((vec![], true)));
    }

    #[test]
    fn what_is_no_array_or_ends_before_its_end_is_told() {
        for text in ["null", "{}", "Your IP is issuing too many calls", "[] x"] {
            assert!(cut(text, 3).is_err(), "{text}");
        }
        for text in ["", "[", "[1", "[{\"a\": 1}", "[\"]"] {
            assert!(!cut(text, 2).unwrap().1, "{text}");
        }
    }

    #[test]
    fn an_element_without_end_takes_no_memory_and_leaves_the_others() {
        let text = format!("[1,\"{}\",2]", "x".repeat(2 * LONGEST));
        assert_eq!(cut(&text, 8192).unwrap().0, ["1", "too long", "2"]);
    }
}
