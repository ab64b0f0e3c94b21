//! Where an answer's bytes go as they come: all of them into one place, or a list's elements to who reads them one by one;
//! each with a bound.

use std::future::Future;

use super::elements::{Element, Elements};
use super::error::Error;

/// No answer that is read as a whole is read further than this.
pub(super) const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// Nor one that is read in pieces and comes to no more than [`bounds`](crate::catalog::bounds) allow: an instance is 3 KB
/// of Consul's JSON, and a value a third more in Base64.
const LONGEST_LIST: usize = 128 * 1024 * 1024;

/// So much of a list is read before others have their turn.
const LIST_A_TURN: usize = 256 * 1024;

/// Where an answer's bytes go.
pub(super) trait Sink: Send {
    /// Some more of them.
    fn take(&mut self, bytes: &[u8], endpoint: &str) -> impl Future<Output = Result<(), Error>> + Send;
}

/// All of them.
pub(super) struct Whole<'a> {
    pub(super) body: &'a mut Vec<u8>,
    pub(super) most: usize,
}

impl Sink for Whole<'_> {
    async fn take(&mut self, bytes: &[u8], endpoint: &str) -> Result<(), Error> {
        if self.body.len() + bytes.len() > self.most {
            return Err(Error::TooLarge { endpoint: endpoint.to_owned(), most: self.most });
        }
        self.body.extend_from_slice(bytes);
        Ok(())
    }
}

/// A list's elements.
pub(super) struct List<F> {
    pub(super) elements: Elements,
    pub(super) each: F,
    pub(super) read: usize,
}

impl<F: FnMut(Element<'_>) -> Result<(), Error> + Send> Sink for List<F> {
    async fn take(&mut self, bytes: &[u8], endpoint: &str) -> Result<(), Error> {
        let before = self.read / LIST_A_TURN;
        self.read += bytes.len();
        if self.read > LONGEST_LIST {
            return Err(Error::TooLarge { endpoint: endpoint.to_owned(), most: LONGEST_LIST });
        }
        self.elements.feed(bytes, &mut self.each).map_err(|error| match error {
            Error::NoList { .. } => Error::NoList { endpoint: endpoint.to_owned() },
            other => other,
        })?;
        if self.read / LIST_A_TURN > before {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
}
