//! The token that whoever orders something over TCP brings along. It is read from its file at each request, so that a new
//! one counts at once; what can't be read lets nobody in.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use tokio::time::timeout;

use crate::files::{self, Reader};

/// A token is shorter than any head that could bring it.
const LONGEST: u64 = 4096;
/// Storage that holds secrets answers in milliseconds; whoever asks doesn't wait for one that hangs.
const READ_WITHIN: Duration = Duration::from_secs(5);

/// From one token to the next, whoever brings it: a thousand a second at most. Fewer would shut out who knows it while
/// somebody guesses.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// The file of a token.
#[derive(Debug, Clone)]
pub struct Token {
    file: PathBuf,
    reader: Arc<Reader>,
    /// Why it couldn't be read, as it was said last.
    said: Arc<Mutex<String>>,
    /// Held by whose token is looked at.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Token {
    /// That is in this file.
    pub fn of(file: PathBuf) -> Token {
        Token { file, reader: Arc::default(), said: Arc::default(), turn: Arc::default() }
    }

    /// Whether a request brings it (RFC 6750: `Authorization: Bearer TOKEN`).
    ///
    /// # Errors
    /// Why nobody can know.
    pub async fn is_brought(&self, headers: &HeaderMap) -> Result<bool, String> {
        let brought = headers.get(AUTHORIZATION).map(|value| value.as_bytes().to_owned());
        let Some(brought) = brought.as_deref().and_then(bearer) else { return Ok(false) };
        {
            // Whoever guesses doesn't wait for the answer that is late: they are all late, and one after the other.
            let _turn = self.turn.lock().await;
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let file = self.file.clone();
        let read = self.reader.read(move || files::read_and_see_whose(&file, LONGEST));
        let (token, not_ours) = match timeout(READ_WITHIN, read).await {
            Ok(Ok(Ok(read))) => read,
            Ok(Ok(Err(error)) | Err(error)) => return Err(self.unreadable(&error.to_string())),
            Err(_) => return Err(self.unreadable("its storage doesn't answer")),
        };
        if let Some(why) = not_ours {
            return Err(self.unreadable(&why));
        }
        match token.trim_ascii() {
            [] => Err(self.unreadable("it is empty")),
            token => Ok(same(token, brought)),
        }
    }

    /// Says why nobody is let in, unless that was said: strangers make no lines.
    pub fn say_once(&self, why: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != why {
            tracing::warn!(event = "degraded", "nobody is let in at [control] listen: {why}");
            why.clone_into(&mut said);
        }
    }

    fn unreadable(&self, why: &str) -> String {
        format!("the token in {} can't be had: {why}", self.file.display())
    }
}

/// The token of a header's value; the word before it is written as one likes.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Compared so that the time it takes doesn't tell how much of it is right.
fn same(one: &[u8], other: &[u8]) -> bool {
    let differ = one.iter().zip(other).fold(0, |differ, (one, other)| differ | (one ^ other));
    std::hint::black_box(differ) == 0 && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn only_the_token_of_now_lets_anybody_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token = Token::of(file.clone());
        assert!(token.is_brought(&with("Bearer one")).await.unwrap_err().contains("can't be had"));
        std::fs::write(&file, "one\n").unwrap();
        assert_eq!(token.is_brought(&HeaderMap::new()).await, Ok(false));
        for (value, is_it) in [
            ("Bearer one", true),
            ("bearer  one", true),
            ("Bearer on", false),
            ("Bearer onee", false),
            ("Bearer two", false),
            ("Bearer ", false),
            ("Basic one", false),
            ("one", false),
        ] {
            assert_eq!(token.is_brought(&with(value)).await, Ok(is_it), "{value}");
        }
        std::fs::write(&file, "two").unwrap();
        assert_eq!(token.is_brought(&with("Bearer one")).await, Ok(false));
        assert_eq!(token.is_brought(&with("Bearer two")).await, Ok(true));
        std::fs::write(&file, " \n").unwrap();
        assert!(token.is_brought(&with("Bearer ")).await.unwrap_err().contains("it is empty"));
        std::fs::write(&file, "x".repeat(5000)).unwrap();
        assert!(token.is_brought(&with("Bearer x")).await.is_err());
    }

    #[tokio::test]
    async fn a_token_that_others_may_have_put_there_lets_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "one").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = Token::of(file).is_brought(&with("Bearer one")).await.unwrap_err();
        assert!(error.contains("another user may have put it there"), "{error}");
    }
}
