//! A thread beside the loop, with a runtime of its own, for connections whose far end may keep busy whoever parses what
//! comes: heads that only say that more is to come, a chunk's size of zeros without end. A library that is handed such a
//! connection reads on for seconds, and there is no place to stop it; here it holds up nobody but those who ask there too.
//! It knows no deadline: who asks has one, on the loop.
//!
//! Where no thread can be had the loop does it, which is said. A container must not fail for want of one.

use std::future::Future;
use std::io;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use nix::sys::signal::SigSet;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::files::no_thread;

/// As the kernel shows it (/proc/PID/task/TID/comm).
const NAME: &str = "stores";

/// Of which what is touched is memory in use. A TLS handshake in a debug build is the deepest.
const STACK: usize = 512 * 1024;

/// Such a thread, for as long as this is kept; `None` where none can be had.
#[derive(Debug)]
pub(crate) struct Aside(Option<There>);

#[derive(Debug)]
struct There {
    runtime: Handle,
    /// Ends it by being dropped.
    _end: oneshot::Sender<()>,
}

impl Aside {
    /// Has it started. Best before main is, which may take every process that may be had.
    pub(crate) fn start() -> Aside {
        let said = |error: io::Error| {
            tracing::warn!(
                event = "degraded",
                "the catalog is asked without a thread of its own, so who floods its connection may delay signals: {error}"
            );
        };
        Aside(begin().map_err(said).ok())
    }

    /// Works there. The work ends with what is returned: a request that nobody waits for any more is given up, and one that
    /// hasn't begun by then never does.
    pub(crate) fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Work<T> {
        Work(match &self.0 {
            Some(there) => there.runtime.spawn(work),
            None => tokio::spawn(work),
        })
    }
}

fn begin() -> io::Result<There> {
    one_heap();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (end, ended) = oneshot::channel();
    let there = Unbegun(Some(runtime));
    let live = move || {
        // What comes to this process is the loop's to hear: a signal is for any thread that doesn't block it.
        let _ = SigSet::all().thread_block();
        there.live(ended);
    };
    thread::Builder::new().name(NAME.to_owned()).stack_size(STACK).spawn(live).map_err(no_thread)?;
    Ok(There { runtime: handle, _end: end })
}

/// A second thread has the C library open a second heap. One is enough for two threads of which one mostly waits, and it is
/// the one that keepers let go of.
fn one_heap() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: it sets a number that is read when a thread first allocates (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// A runtime whose thread couldn't be started is given up without waiting: tokio panics where the loop would have to.
struct Unbegun(Option<Runtime>);

impl Unbegun {
    fn live(mut self, ended: oneshot::Receiver<()>) {
        if let Some(runtime) = self.0.take() {
            // It is never sent, only dropped.
            let _ = runtime.block_on(ended);
        }
    }
}

impl Drop for Unbegun {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Work that goes on there for as long as this is kept, and panics here when it panics there.
pub(crate) struct Work<T>(JoinHandle<T>);

impl<T> Future for Work<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(done)) => Poll::Ready(done),
            Poll::Ready(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            // Nobody but this aborts it; else it is the runtime that ends, and who waits with it.
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Work<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use tokio::time::{Instant, sleep, timeout};

    use super::*;

    #[tokio::test]
    async fn who_never_lets_go_there_holds_up_nobody_here() {
        let aside = Aside::start();
        let (end, hangs) = mpsc::channel::<()>();
        let work = aside.spawn(async move { hangs.recv() });
        let began = Instant::now();
        timeout(Duration::from_millis(50), work).await.expect_err("it hangs");
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        drop(end);
        assert_eq!(aside.spawn(async { 7 }).await, 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_given_up_and_what_has_not_begun_never_begins() {
        struct Flag(Arc<AtomicBool>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let aside = Aside::start();
        let (given_up, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flag = Flag(Arc::clone(&given_up));
        let work = aside.spawn(async move {
            let _flag = flag;
            std::future::pending::<()>().await;
        });
        timeout(Duration::from_millis(20), work).await.unwrap_err();
        let patience = async {
            while !given_up.load(Ordering::SeqCst) {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), patience).await.expect("it is given up");
        // Behind one that is stuck, as a request behind a flood.
        let (end, hangs) = mpsc::channel::<()>();
        let stuck = aside.spawn(async move { hangs.recv().is_ok() });
        let late = Arc::clone(&begun);
        drop(aside.spawn(async move { late.store(true, Ordering::SeqCst) }));
        end.send(()).unwrap();
        assert!(stuck.await);
        assert_eq!(aside.spawn(async { 7 }).await, 7);
        assert!(!begun.load(Ordering::SeqCst), "a request that was given up has begun");
    }

    #[tokio::test]
    async fn a_panic_there_is_one_here_and_the_thread_goes_on() {
        let aside = Arc::new(Aside::start());
        let there = Arc::clone(&aside);
        let failed = tokio::spawn(async move { there.spawn(async { panic!("a fault in a client") }).await });
        assert!(failed.await.unwrap_err().to_string().contains("a fault in a client"));
        assert_eq!(aside.spawn(async { 7 }).await, 7);
    }

    #[test]
    fn where_no_thread_can_be_had_the_loop_does_it() {
        let done = crate::files::where_no_thread_can_be_had(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let aside = Aside::start();
                let here = thread::current().id();
                let there = aside.spawn(async move { thread::current().id() == here }).await;
                (there, aside.0.is_none())
            })
        });
        assert_eq!(done, (true, true));
    }

    #[tokio::test]
    async fn it_hears_no_signal() {
        let aside = Aside::start();
        let blocked = aside.spawn(async { SigSet::thread_get_mask().unwrap() }).await;
        for signal in nix::sys::signal::Signal::iterator() {
            let never = [nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGSTOP].contains(&signal);
            assert_eq!(blocked.contains(signal), !never, "{signal}");
        }
    }
}
