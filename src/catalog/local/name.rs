//! Names of services, ids and keys as names of files: one to one, and none can leave its directory.

use super::Error;

/// The longest file name, in bytes: NAME_MAX of every file system that is accepted.
const LONGEST: usize = 255;

/// A name as a file's name. What is not a letter, a digit, one of `-_.~:@+=,` or beyond ASCII becomes `%XX`, and so
/// does a leading dot; so `/`, `.` and `..` can't be written, and no two names share a file.
///
/// # Errors
/// The name is empty, or longer than a file's name may be.
pub(super) fn escape(what: &'static str, name: &str) -> Result<String, Error> {
    let mut escaped = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let plain = match c {
            '.' => at > 0,
            '-' | '_' | '~' | ':' | '@' | '+' | '=' | ',' => true,
            c => c.is_ascii_alphanumeric() || !c.is_ascii(),
        };
        if plain {
            escaped.push(c);
        } else {
            escaped.push_str(&format!("%{:02X}", u32::from(c)));
        }
    }
    let problem = match escaped.len() {
        0 => "is empty",
        1..=LONGEST => return Ok(escaped),
        _ => "is too long for a file's name (255 bytes, an escaped character counts three)",
    };
    Err(Error::Name { what, name: name.to_owned(), problem })
}

/// The name of an election's directory.
pub(super) fn of_election(election: &str) -> Result<String, Error> {
    escape("election name", election)
}

/// The name a file's name was made from; `None` when [`escape`] didn't make it.
pub(super) fn unescape(file: &str) -> Option<String> {
    let mut name = String::with_capacity(file.len());
    let mut rest = file;
    while let Some(c) = rest.chars().next() {
        if c == '%' {
            let code = u8::from_str_radix(rest.get(1..3)?, 16).ok()?;
            name.push(char::from(code));
            rest = &rest[3..];
        } else {
            name.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    // `%61`, `%+1` and the like have another, canonical spelling: a file of that name is somebody else's.
    (escape("name", &name).ok()? == file).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_names_stay_readable() {
        for name in ["mysql", "mysql-web1-3306", "web.v2", "größe", "a:b@c+d=e,f~g_h"] {
            assert_eq!(escape("id", name).expect("fits"), name);
        }
    }

    #[test]
    fn no_name_leaves_its_directory() {
        assert_eq!(escape("key", "..").expect("fits"), "%2E.");
        assert_eq!(escape("key", ".").expect("fits"), "%2E");
        assert_eq!(escape("key", "../../etc/passwd").expect("fits"), "%2E.%2F..%2Fetc%2Fpasswd");
        assert_eq!(escape("key", "a\0b\n%").expect("fits"), "a%00b%0A%25");
    }

    #[test]
    fn empty_and_overlong_names_are_refused() {
        assert!(escape("key", "").is_err());
        assert!(escape("key", &"a".repeat(255)).is_ok());
        assert!(escape("key", &"a".repeat(256)).is_err());
        assert!(escape("key", &"/".repeat(86)).is_err());
    }

    #[test]
    fn what_another_program_put_there_is_no_name() {
        for file in ["%", "%2", "%zz", "%61", "%+1", ".hidden", "a b", "%2f", "%é1"] {
            assert_eq!(unescape(file), None, "{file}");
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<String>().prop_filter("fits", |n| escape("name", n).is_ok())) {
            let file = escape("name", &name).expect("filtered");
            prop_assert!(!file.contains('/') && !file.starts_with('.') && !file.contains('\0'));
            prop_assert_eq!(unescape(&file), Some(name));
        }
    }
}
