//! Work on files in threads beside the agent's only one: where they are kept may hang. They are none of the runtime's: that
//! panics when the kernel has no thread for it, as in a container at its limit of processes.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore, oneshot};
use tokio::time::timeout;

/// So much at once of each. Storage that hangs must not cost a thread for each try, nor keep other storage waiting at once.
static BESIDE: Semaphore = Semaphore::const_new(4);
static TEMPLATES: Semaphore = Semaphore::const_new(4);
/// A template that takes longer (its text runs away, or storage hangs) leaves its room to others.
const SLOW: Duration = Duration::from_secs(1);

/// One template's turn. However often it is asked for, one thread works on it.
#[derive(Debug, Clone, Default)]
pub struct Turn(Arc<Mutex<()>>);

impl Turn {
    /// Whether nobody works by it or waits for it.
    pub fn is_idle(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

/// Works in a thread of its own, when others leave room for it. Dropped while it lasts, the work goes on by itself; it has
/// no deadline.
///
/// # Errors
/// No thread can be had, or the work panicked.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    // It is never closed.
    let room = BESIDE.acquire().await.map_err(io::Error::other)?;
    in_a_thread(move || {
        let done = work();
        drop(room);
        done
    })
    .await
}

/// The same for templates, which may be slow and somebody else's: main's start and a reload wait for none of them, and other
/// templates a second at most. `slow` hears of one that takes longer.
///
/// # Errors
/// As [`beside`].
pub async fn beside_as_template<T: Send + 'static>(
    turn: Turn,
    work: impl FnOnce() -> T + Send + 'static,
    slow: impl FnOnce(Duration),
) -> io::Result<T> {
    let turn = turn.0.lock_owned().await;
    let room = TEMPLATES.acquire().await.map_err(io::Error::other)?;
    let mut done = pin!(in_a_thread(move || {
        let done = work();
        drop(turn);
        done
    }));
    if let Ok(done) = timeout(SLOW, &mut done).await {
        return done;
    }
    drop(room);
    slow(SLOW);
    done.await
}

/// The same at once, for work that has a bound of its own.
pub async fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (tell, done) = oneshot::channel();
    let work = move || {
        // Who waited may have given up.
        let _ = tell.send(work());
    };
    thread::Builder::new().name("files".to_owned()).spawn(work).map_err(no_thread)?;
    done.await.map_err(|_| io::Error::other("the thread panicked"))
}

/// Why a thread can't be had, in words that name what to look at.
pub fn no_thread(error: io::Error) -> io::Error {
    let why = match error.kind() {
        // Docker before 20.10.10, and a libseccomp before 2.4.4, refuse clone3 so that nobody tries clone.
        io::ErrorKind::PermissionDenied => {
            "the engine's seccomp profile refuses clone3: Docker has allowed it since 20.10.10"
        }
        _ => "the container's limit of processes?",
    };
    io::Error::new(error.kind(), format!("no thread can be had: {error} ({why})"))
}

/// Works where the kernel refuses to make a thread, as it does at a container's limit of processes.
#[cfg(test)]
#[allow(unsafe_code)]
pub(crate) fn where_no_thread_can_be_had<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    use libc::{BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, sock_filter};
    let step = |code: u32, jt, jf, k: u32| sock_filter { code: code as u16, jt, jf, k };
    let limited = move || {
        let mut filter = [
            step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
            step(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, libc::SYS_clone as u32),
            step(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, libc::SYS_clone3 as u32),
            step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32),
            step(BPF_RET | BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: a filter that outlives the call, for this thread alone (seccomp(2)).
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
        }
        work()
    };
    thread::spawn(limited).join().unwrap()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn where_no_thread_can_be_had_work_is_an_error_and_no_panic() {
        let error = where_no_thread_can_be_had(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(beside(|| 7)).unwrap_err()
        });
        assert!(error.to_string().contains("no thread can be had"), "{error}");
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_leaves_its_room_to_others() {
        for _ in 0..10 {
            let error = beside(|| panic!("a fault in the work")).await.unwrap_err();
            assert!(error.to_string().contains("panicked"), "{error}");
        }
        assert_eq!(timeout(Duration::from_secs(5), beside(|| 7)).await.unwrap().unwrap(), 7);
    }

    #[tokio::test]
    async fn templates_that_hang_keep_another_waiting_for_a_second_and_one_thread_each() {
        // One that panics or is given up leaves its turn.
        let turn = Turn::default();
        let panics = beside_as_template(turn.clone(), || panic!("a fault in a template"), |_| {});
        assert!(panics.await.unwrap_err().to_string().contains("panicked"));
        let (end, hangs) = mpsc::channel::<()>();
        let given_up = beside_as_template(turn.clone(), move || hangs.recv(), |_| {});
        timeout(Duration::from_millis(20), given_up).await.unwrap_err();
        end.send(()).unwrap();
        assert_eq!(beside_as_template(turn.clone(), || 7, |_| {}).await.unwrap(), 7);
        let idle = async {
            while !turn.is_idle() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(5), idle).await.unwrap();
        let begun = Arc::new(AtomicUsize::new(0));
        let slow = Arc::new(AtomicUsize::new(0));
        let mut ends = Vec::new();
        for _ in 0..4 {
            let (end, hangs) = mpsc::channel::<()>();
            let (turn, hangs) = (Turn::default(), Arc::new(std::sync::Mutex::new(hangs)));
            for _ in 0..3 {
                let (begun, slow, hangs) = (begun.clone(), slow.clone(), hangs.clone());
                let work = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    hangs.lock().unwrap().recv()
                };
                let slow = move |_| {
                    slow.fetch_add(1, Ordering::Relaxed);
                };
                tokio::spawn(beside_as_template(turn.clone(), work, slow));
            }
            assert!(!turn.is_idle());
            ends.push(end);
        }
        tokio::task::yield_now().await;
        let another = beside_as_template(Turn::default(), || 7, |_| panic!("it isn't slow"));
        assert_eq!(timeout(8 * SLOW, another).await.unwrap().unwrap(), 7);
        // Each of them was told of, before it is or just after.
        tokio::time::sleep(SLOW / 2).await;
        assert_eq!((begun.load(Ordering::Relaxed), slow.load(Ordering::Relaxed)), (4, 4));
    }
}
