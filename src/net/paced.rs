//! A connection that is read a little at a time. Whoever is at the other end may send without end, heads that only say
//! that more is to come, say: what parses them lets everybody else have a turn in between.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Parsed in a millisecond or so.
const BYTES_A_TURN: usize = 16 * 1024;

/// No answer needs so much for what isn't its body: 64 KiB of head, or of certificates.
const MOST_UNHEARD: usize = 256 * 1024;

/// How much has come since whoever asked last heard something of it: a head, or a piece of a body. What is only parsed (heads
/// that say that more is to come, a size that begins with zeros) is heard by nobody, and ends with an error.
#[derive(Debug, Clone, Default)]
pub struct Unheard(Arc<AtomicUsize>);

impl Unheard {
    /// Something was heard.
    pub fn heard(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn add(&self, bytes: usize) -> io::Result<()> {
        match self.0.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) > MOST_UNHEARD {
            true => {
                let words = format!("{} KiB came, and no answer in them", MOST_UNHEARD / 1024);
                Err(io::Error::new(io::ErrorKind::InvalidData, words))
            }
            false => Ok(()),
        }
    }
}

/// A connection, and what is left of its turn.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    left: usize,
    unheard: Option<Unheard>,
}

impl<S> Paced<S> {
    /// Its first turn begins.
    pub fn new(stream: S) -> Paced<S> {
        Paced { stream, left: BYTES_A_TURN, unheard: None }
    }

    /// The same of one that breaks when too much comes unheard.
    pub fn heard_by(stream: S, unheard: Unheard) -> Paced<S> {
        Paced { unheard: Some(unheard), ..Paced::new(stream) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            self.left = BYTES_A_TURN;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let came = buffer.filled().len() - before;
        self.left = self.left.saturating_sub(came);
        Poll::Ready(self.unheard.as_ref().map_or(Ok(()), |unheard| unheard.add(came)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn who_sends_without_end_lets_others_have_a_turn() {
        let turns = Cell::new(0);
        let read = async {
            let mut buffer = vec![0; 8 * 1024];
            let mut endless = Paced::new(tokio::io::repeat(7));
            for _ in 0..64 {
                endless.read_exact(&mut buffer).await.unwrap();
            }
        };
        let others = async {
            loop {
                turns.set(turns.get() + 1);
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = read => {}
            () = others => {}
        }
        assert!(turns.get() >= 30, "half a mebibyte, {} turns", turns.get());
    }

    #[tokio::test]
    async fn what_nobody_hears_of_breaks_the_connection_and_what_is_heard_never_does() {
        let unheard = Unheard::default();
        let mut endless = Paced::heard_by(tokio::io::repeat(7), unheard.clone());
        let mut buffer = vec![0; 8 * 1024];
        for _ in 0..64 {
            unheard.heard();
            endless.read_exact(&mut buffer).await.unwrap();
        }
        let mut more = 0;
        let error = loop {
            match endless.read_exact(&mut buffer).await {
                Ok(read) => more += read,
                Err(error) => break error,
            }
        };
        assert!((128 * 1024..=MOST_UNHEARD).contains(&more), "{more}");
        assert_eq!(error.to_string(), "256 KiB came, and no answer in them");
    }
}
