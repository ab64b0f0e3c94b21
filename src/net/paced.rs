//! A connection that is read a little at a time. Whoever is at the other end may send without end, heads that only say
//! that more is to come, say: what parses them lets everybody else have a turn in between.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Parsed in a millisecond or so.
const BYTES_A_TURN: usize = 16 * 1024;

/// A connection, and what is left of its turn.
#[derive(Debug)]
pub struct Paced<S> {
    stream: S,
    left: usize,
}

impl<S> Paced<S> {
    /// Its first turn begins.
    pub fn new(stream: S) -> Paced<S> {
        Paced { stream, left: BYTES_A_TURN }
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
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
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
}
