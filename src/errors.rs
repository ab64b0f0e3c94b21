//! How an error is told: itself and whatever caused it, in one line. An error's own text doesn't repeat its cause, so this
//! is the only place where they meet.

use std::error::Error;

/// An error and all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
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
}
