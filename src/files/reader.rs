//! Reads files that the config names in a thread beside the agent's only one: where they are kept may hang. It has no
//! deadline; whoever asks has one.

use std::io;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::thread::in_a_thread;

/// One reader of files. Of storage that hangs, one thread waits, however often it is asked.
#[derive(Debug, Default)]
pub struct Reader(Arc<Mutex<()>>);

impl Reader {
    /// What a read finds; an error when no thread can be had for it. Dropped while it lasts, it goes on by itself, and
    /// others wait for it. The thread is none of [`super::beside`]'s few, which other storage may hold.
    pub async fn read<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let turn = Arc::clone(&self.0).lock_owned().await;
        in_a_thread(move || {
            let found = read();
            drop(turn);
            found
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn storage_that_hangs_stops_one_thread_and_works_again_when_it_is_over() {
        let reader = Reader::default();
        let (ends, hangs) = mpsc::channel::<()>();
        let begun = Arc::new(AtomicU32::new(0));
        let first = reader.read(move || hangs.recv());
        timeout(Duration::from_millis(20), first).await.unwrap_err();
        for _ in 0..10 {
            let begun = Arc::clone(&begun);
            let another = reader.read(move || begun.fetch_add(1, Ordering::Relaxed));
            timeout(Duration::from_millis(5), another).await.unwrap_err();
        }
        assert_eq!(begun.load(Ordering::Relaxed), 0);
        ends.send(()).unwrap();
        assert_eq!(reader.read(|| 7).await.unwrap(), 7);
    }
}
