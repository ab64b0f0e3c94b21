//! Reads files that the config names, and keeps what was found: where they are kept may hang, so once they were read they
//! are waited for no longer than a moment. A leader must not lose its lease because the file with its token can't be read
//! for a while. Who asks for the first time has a deadline of its own.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::files::Reader;

/// After this what was read last is used. Of the two seconds that an election's request has, this must leave enough.
const MOMENT: Duration = Duration::from_millis(200);

/// One reader of files. Of storage that hangs, one thread waits, however often it is asked.
pub struct Storage<T> {
    reader: Reader,
    kept: Arc<Mutex<Kept<T>>>,
}

struct Kept<T> {
    /// What was read last, if it was any good.
    found: Option<T>,
    /// A read has taken too long or had no thread, and none has come to its end since.
    hangs: bool,
}

impl<T> std::fmt::Debug for Storage<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it keeps may be secret.
        f.write_str("Storage")
    }
}

impl<T> Default for Storage<T> {
    fn default() -> Storage<T> {
        Storage { reader: Reader::default(), kept: Arc::new(Mutex::new(Kept { found: None, hangs: false })) }
    }
}

impl<T: Clone + Send + 'static> Storage<T> {
    /// What a read finds, or what the one before found when it takes too long or has no thread. Dropped while it lasts,
    /// it goes on by itself, and others wait for it.
    ///
    /// # Errors
    /// No thread can be had for the first; what it says itself is inside.
    pub async fn read<E: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> io::Result<Result<T, E>> {
        let (last, hangs) = {
            let kept = lock(&self.kept);
            (kept.found.clone(), kept.hangs)
        };
        let Some(last) = last else { return self.read_now(read).await };
        let patience = if hangs { Duration::ZERO } else { MOMENT };
        let why = match timeout(patience, self.read_now(read)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} ms", MOMENT.as_millis()),
        };
        if !std::mem::replace(&mut lock(&self.kept).hangs, true) {
            tracing::warn!(
                event = "catalog.files",
                "the files that [catalog] names can't be read, so what was last read is used: {why}"
            );
        }
        Ok(Ok(last))
    }

    async fn read_now<E: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> io::Result<Result<T, E>> {
        let kept = Arc::clone(&self.kept);
        let read = move || {
            let found = read();
            let mut kept = lock(&kept);
            kept.hangs = false;
            if let Ok(found) = &found {
                kept.found = Some(found.clone());
            }
            found
        };
        self.reader.read(read).await
    }
}

fn lock<T>(kept: &Mutex<Kept<T>>) -> MutexGuard<'_, Kept<T>> {
    // Each change is an assignment: a panic can't have left it half done.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc::{self, RecvError};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn storage_that_hangs_stops_one_thread_and_works_again_when_it_is_over() {
        let storage = Storage::default();
        let (ends, hangs) = mpsc::channel::<()>();
        let begun = Arc::new(AtomicU32::new(0));
        let first = storage.read(move || hangs.recv().map(|()| 0));
        timeout(Duration::from_millis(20), first).await.unwrap_err();
        for _ in 0..10 {
            let begun = Arc::clone(&begun);
            let another = storage.read(move || Ok::<_, RecvError>(begun.fetch_add(1, Ordering::Relaxed)));
            timeout(Duration::from_millis(5), another).await.unwrap_err();
        }
        assert_eq!(begun.load(Ordering::Relaxed), 0);
        ends.send(()).unwrap();
        assert_eq!(storage.read(|| Ok::<_, RecvError>(7)).await.unwrap(), Ok(7));
    }

    #[tokio::test]
    async fn what_was_read_last_is_used_while_storage_hangs() {
        let storage = Storage::default();
        assert_eq!(storage.read(|| Ok::<_, RecvError>("first")).await.unwrap(), Ok("first"));
        let (ends, hangs) = mpsc::channel::<()>();
        let begun = Instant::now();
        assert_eq!(storage.read(move || hangs.recv().map(|()| "second")).await.unwrap(), Ok("first"));
        assert!(begun.elapsed() >= MOMENT);
        // It is known to hang: a hundred reads don't wait a moment each.
        let begun = Instant::now();
        for _ in 0..100 {
            assert_eq!(storage.read(|| Ok::<_, RecvError>("third")).await.unwrap(), Ok("first"));
        }
        assert!(begun.elapsed() < MOMENT * 50, "{:?}", begun.elapsed());
        ends.send(()).unwrap();
        let read_again = async {
            while storage.read(|| Ok::<_, RecvError>("third")).await.unwrap() != Ok("third") {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), read_again).await.unwrap();
    }

    #[test]
    fn what_was_read_last_is_used_while_no_thread_can_be_had() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let storage = Arc::new(Storage::default());
        let first = runtime().block_on(storage.read(|| Ok::<_, RecvError>("first"))).unwrap();
        assert_eq!(first, Ok("first"));
        let limited = Arc::clone(&storage);
        crate::files::where_no_thread_can_be_had(move || {
            let again = runtime().block_on(limited.read(|| Ok::<_, RecvError>("second"))).unwrap();
            assert_eq!(again, Ok("first"));
            runtime().block_on(Storage::default().read(|| Ok::<_, RecvError>("new"))).unwrap_err();
        });
        let after = || runtime().block_on(storage.read(|| Ok::<_, RecvError>("second"))).unwrap();
        assert!((0..1000).any(|_| after() == Ok("second")));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_any_more_is_an_error_and_not_what_it_was() {
        let storage = Storage::default();
        assert_eq!(storage.read(|| Ok::<_, &str>(1)).await.unwrap(), Ok(1));
        assert_eq!(storage.read(|| Err("it is gone")).await.unwrap(), Err("it is gone"));
    }
}
