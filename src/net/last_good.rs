//! What was last of use, of a file that is of none for a while: whoever replaces one may remove it first, or empty it. A
//! leader mustn't lose its lease by that. It reads nothing.

use std::sync::{Mutex, PoisonError};

/// What was read last and was of use.
pub(crate) struct LastGood<T>(Mutex<LastRead<T>>);

struct LastRead<T> {
    good: Option<T>,
    /// That it is used in a later one's place was said.
    announced: bool,
}

impl<T> std::fmt::Debug for LastGood<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it keeps may be secret.
        f.write_str("LastGood")
    }
}

impl<T> Default for LastGood<T> {
    fn default() -> LastGood<T> {
        LastGood(Mutex::new(LastRead { good: None, announced: false }))
    }
}

impl<T: Clone> LastGood<T> {
    /// What was read now, or what was last of use; why the one now is of none is said once, until one is again.
    ///
    /// # Errors
    /// None was of any use yet.
    pub(crate) fn or<E>(&self, read: Result<T, E>, say: impl FnOnce(E)) -> Result<T, E> {
        let (last, is_news) = {
            // Each change is an assignment: a panic can't have left it half done.
            let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match (&read, &kept.good) {
                (Ok(good), _) => {
                    *kept = LastRead { good: Some(good.clone()), announced: false };
                    return read;
                }
                (Err(_), None) => return read,
                (Err(_), Some(good)) => (good.clone(), !std::mem::replace(&mut kept.announced, true)),
            }
        };
        if let Err(error) = read
            && is_news
        {
            say(error);
        }
        Ok(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_last_of_use_is_used_and_said_once_until_another_one_is() {
        let (last, mut said) = (LastGood::default(), Vec::new());
        assert_eq!(last.or(Err("never"), |why| said.push(why)), Err("never"));
        assert_eq!(last.or(Ok(1), |why| said.push(why)), Ok(1));
        assert_eq!(last.or(Err("gone"), |why| said.push(why)), Ok(1));
        assert_eq!(last.or(Err("still gone"), |why| said.push(why)), Ok(1));
        assert_eq!(last.or(Ok(2), |why| said.push(why)), Ok(2));
        assert_eq!(last.or(Err("gone again"), |why| said.push(why)), Ok(2));
        assert_eq!(said, ["gone", "gone again"]);
    }
}
