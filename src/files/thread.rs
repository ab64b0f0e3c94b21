//! Work on files in threads beside the agent's only one: where they are kept may hang. They are none of the runtime's: that
//! panics when the kernel has no thread for it, as in a container at its limit of processes.

use std::io;
use std::thread;

use tokio::sync::{Semaphore, oneshot};

/// So much at once of each. Storage that hangs must not cost a thread for each try, nor keep other storage waiting at once.
static BESIDE: Semaphore = Semaphore::const_new(4);
static TEMPLATES: Semaphore = Semaphore::const_new(4);

/// Works in a thread of its own, when others leave room for it. Dropped while it lasts, the work goes on by itself; it has
/// no deadline.
///
/// # Errors
/// No thread can be had, or the work panicked.
pub async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    in_turn(&BESIDE, work).await
}

/// The same for templates, which may be slow and somebody else's: main's start and a reload wait for none of them.
///
/// # Errors
/// As [`beside`].
pub async fn beside_as_template<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    in_turn(&TEMPLATES, work).await
}

async fn in_turn<T: Send + 'static>(
    turns: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    // It is never closed.
    let room = turns.acquire().await.map_err(io::Error::other)?;
    in_a_thread(move || {
        let done = work();
        drop(room);
        done
    })
    .await
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

fn no_thread(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("no thread can be had: {error} (the container's limit of processes?)"))
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
    use std::time::Duration;

    use tokio::time::timeout;

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
}
