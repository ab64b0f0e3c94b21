//! What hooks print, line by line into the log or kept to be asked for, and what they read. Bounded in every direction:
//! line length, lines and bytes a second, how much is read before the loop has its turn, and how long a pipe is
//! followed after its hook has ended. A hook never has to wait for the log.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::plain;

use super::periodic::Run;

/// Longer lines are cut here.
const MOST_OF_A_LINE: usize = 4096;
/// As many lines of one stream are logged within a window.
const MOST_LINES: u32 = 200;
/// And as many bytes of it.
const MOST_BYTES: usize = 128 * 1024;
/// So much of a stream is read in one turn: what a pipe holds.
const MOST_AT_ONCE: usize = 64 * 1024;
/// Then it rests, and whoever fills a pipe faster waits: some 50 MB/s is more than anybody prints for a log.
const PAUSE: Duration = Duration::from_millis(1);
/// The window of `MOST_LINES`.
const WINDOW: Duration = Duration::from_secs(1);
/// What a check left behind may hold the pipe open for ever; past this after its end, or once nothing is left of a hook,
/// nobody reads it any more.
const AFTERWARDS: Duration = Duration::from_millis(100);

/// A hook's streams while it runs.
#[derive(Debug)]
pub struct Alive {
    streams: Vec<Arc<Stream>>,
    /// What is gathered of it, and under which name it will be told.
    gathered: Option<(String, Arc<Mutex<Run>>)>,
    /// Its drop tells the tasks that the hook has ended.
    _told: watch::Sender<()>,
    ended: OutputEnd,
}

/// What notices that a hook has ended.
#[derive(Debug, Clone)]
pub struct OutputEnd(watch::Receiver<()>);

impl OutputEnd {
    async fn wait(&mut self) {
        // Nothing is ever sent, so this returns when the sender is gone.
        while self.0.changed().await.is_ok() {}
    }
}

impl Alive {
    /// A hook that is about to start.
    pub fn new() -> Alive {
        let (told, ended) = watch::channel(());
        Alive { streams: Vec::new(), gathered: None, _told: told, ended: OutputEnd(ended) }
    }

    /// What notices this hook's end.
    pub fn ended(&self) -> OutputEnd {
        self.ended.clone()
    }

    /// Logs what comes from a pipe until it is closed, or a moment after the hook has ended.
    ///
    /// # Errors
    /// The pipe can't be registered with the runtime.
    pub fn follow(&mut self, pipe: OwnedFd, hook: String, name: &'static str) -> io::Result<()> {
        let log: LogLine = Box::new(move |text| tracing::info!(target: "hook", hook = %hook, stream = name, "{text}"));
        self.take(pipe, Output::Logged(Lines::new(log)))
    }

    /// Gathers what comes from a pipe until the hook has ended, to be compared with its other runs.
    ///
    /// # Errors
    /// The pipe can't be registered with the runtime.
    pub fn gather(&mut self, pipe: OwnedFd, hook: String, name: &'static str) -> io::Result<()> {
        let (_, run) = self.gathered.get_or_insert_with(|| (hook, Arc::default()));
        let run = run.clone();
        let log: LogLine = Box::new(move |text| run.lock().unwrap_or_else(PoisonError::into_inner).take(name, text));
        self.take(pipe, Output::Logged(Lines::new(log)))
    }

    /// Keeps what comes from a pipe, at most so many bytes of it, until the hook has ended.
    ///
    /// # Errors
    /// The pipe can't be registered with the runtime.
    pub fn capture(&mut self, pipe: OwnedFd, most: usize) -> io::Result<()> {
        self.take(pipe, Output::Kept(Vec::new(), most))
    }

    fn take(&mut self, pipe: OwnedFd, output: Output) -> io::Result<()> {
        let stream = Arc::new(Stream { pipe: pipe::Receiver::from_owned_fd(pipe)?, output: Mutex::new(output) });
        self.streams.push(stream.clone());
        let ended = self.ended();
        tokio::spawn(async move { stream.follow(ended).await });
        Ok(())
    }

    /// The hook has ended, and what it left may print on: logs what was said until now, so that this stands before whatever
    /// follows from its end, and listens on. `false` where what is printed belongs to one run.
    pub fn goes_on(&self) -> bool {
        let is_logged = |stream: &Arc<Stream>| matches!(*stream.output(), Output::Logged(_));
        let goes_on = self.gathered.is_none() && self.streams.iter().all(is_logged);
        if goes_on {
            self.streams.iter().for_each(|stream| stream.drain());
        }
        goes_on
    }

    /// The hook has ended: logs what it said last, so that this stands before whatever follows from its end.
    pub fn end(self) -> Printed {
        self.streams.iter().for_each(|stream| stream.drain());
        let captured = self.streams.iter().find_map(|stream| stream.output().kept());
        let taken = |run: &Mutex<Run>| std::mem::take(&mut *run.lock().unwrap_or_else(PoisonError::into_inner));
        Printed { captured, gathered: self.gathered.map(|(hook, run)| (hook, taken(&run))) }
    }
}

/// What a hook printed that isn't logged yet.
#[derive(Debug)]
pub struct Printed {
    /// What was captured.
    pub captured: Option<String>,
    /// What was gathered, and of which hook.
    pub gathered: Option<(String, Run)>,
}

type LogLine = Box<dyn FnMut(&str) + Send>;

/// How a turn of reading ended.
enum Read {
    AllThereIs,
    More,
    Closed,
}

/// One of a hook's output pipes.
struct Stream {
    pipe: pipe::Receiver,
    output: Mutex<Output>,
}

/// What becomes of what a hook prints.
enum Output {
    Logged(Lines<LogLine>),
    /// At most so many bytes.
    Kept(Vec<u8>, usize),
}

impl Output {
    fn take(&mut self, bytes: &[u8], now: Instant) {
        match self {
            Output::Logged(lines) => lines.take(bytes, now),
            Output::Kept(kept, most) => kept.extend_from_slice(&bytes[..bytes.len().min(*most - kept.len())]),
        }
    }

    fn lines(&mut self) -> Option<&mut Lines<LogLine>> {
        match self {
            Output::Logged(lines) => Some(lines),
            Output::Kept(..) => None,
        }
    }

    fn kept(&self) -> Option<String> {
        match self {
            Output::Logged(_) => None,
            Output::Kept(kept, _) => Some(String::from_utf8_lossy(kept).into_owned()),
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl Stream {
    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_the_rest(&self) {
        if let Some(lines) = self.output().lines() {
            lines.end(Instant::now());
        }
    }

    async fn follow(&self, mut ended: OutputEnd) {
        let mut buffer = vec![0; 8192];
        let mut until = None;
        loop {
            // While lines are being dropped the end of the window matters too: that is when their number is told.
            let wake = [until, self.output().lines().and_then(|lines| lines.window_end())].into_iter().flatten().min();
            let readable = async {
                match wake {
                    Some(at) => timeout_at(at, self.pipe.readable()).await.is_ok(),
                    None => self.pipe.readable().await.is_ok(),
                }
            };
            let ready = tokio::select! {
                ready = readable => ready,
                () = ended.wait(), if until.is_none() => {
                    until = Some(Instant::now() + AFTERWARDS);
                    continue;
                }
            };
            if ready {
                match self.read(&mut buffer) {
                    Ok(Read::AllThereIs) => {}
                    Ok(Read::More) => sleep(PAUSE).await,
                    Ok(Read::Closed) | Err(_) => break,
                }
            } else if let Some(lines) = self.output().lines() {
                lines.tell_dropped(Instant::now());
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        self.tell_the_rest();
    }

    /// One turn's worth of what is in the pipe.
    fn read(&self, buffer: &mut [u8]) -> io::Result<Read> {
        let mut taken = 0;
        while taken < MOST_AT_ONCE {
            match self.pipe.try_read(buffer) {
                Ok(0) => return Ok(Read::Closed),
                Ok(count) => {
                    taken += count;
                    self.output().take(&buffer[..count], Instant::now());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Read::AllThereIs),
                Err(error) => return Err(error),
            }
        }
        Ok(Read::More)
    }

    /// Takes what is in the pipe now, past the runtime, which may not know of it yet.
    fn drain(&self) {
        /// More than a pipe holds; what a leftover goes on writing is the task's.
        const MOST: usize = 256 * 1024;
        let mut buffer = [0; 8192];
        let mut taken = 0;
        while taken < MOST {
            match nix::unistd::read(&self.pipe, &mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(count) => {
                    taken += count;
                    self.output().take(&buffer[..count], Instant::now());
                }
            }
        }
        self.tell_the_rest();
    }
}

/// Cuts a stream into lines fit for a log.
struct Lines<F> {
    log: F,
    line: Vec<u8>,
    /// The rest of a line that was cut is skipped.
    skipping: bool,
    window: Option<Instant>,
    logged: u32,
    logged_bytes: usize,
    dropped: u64,
}

impl<F: FnMut(&str)> Lines<F> {
    fn new(log: F) -> Lines<F> {
        Lines { log, line: Vec::new(), skipping: false, window: None, logged: 0, logged_bytes: 0, dropped: 0 }
    }

    fn take(&mut self, mut bytes: &[u8], now: Instant) {
        while !bytes.is_empty() {
            if self.is_full(now)
                && let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n')
            {
                // None of these lines will be logged: they are only counted, which is quick.
                let ended = bytes[..=last].iter().filter(|byte| **byte == b'\n').count() as u64;
                self.dropped += ended - u64::from(std::mem::take(&mut self.skipping));
                self.line.clear();
                bytes = &bytes[last + 1..];
                continue;
            }
            let newline = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..newline.unwrap_or(bytes.len())];
            if !self.skipping {
                let room = MOST_OF_A_LINE - self.line.len();
                self.line.extend_from_slice(&part[..part.len().min(room)]);
                if part.len() > room {
                    self.skipping = true;
                    self.emit(" (line cut here)", now);
                }
            }
            let Some(newline) = newline else { return };
            if !std::mem::take(&mut self.skipping) {
                self.emit("", now);
            }
            bytes = &bytes[newline + 1..];
        }
    }

    fn emit(&mut self, mark: &str, now: Instant) {
        let line = std::mem::take(&mut self.line);
        if self.window.is_none_or(|start| now >= start + WINDOW) {
            self.tell_dropped(now);
            self.window = Some(now);
            (self.logged, self.logged_bytes) = (0, 0);
        }
        if self.is_full(now) {
            self.dropped += 1;
        } else {
            let text = plain::bytes(&line) + mark;
            self.logged += 1;
            // As it is logged: escapes are longer than what they stand for.
            self.logged_bytes += text.len();
            (self.log)(&text);
        }
        self.line = line;
        self.line.clear();
    }

    /// Whether no more lines are logged before the window ends.
    fn is_full(&self, now: Instant) -> bool {
        (self.logged >= MOST_LINES || self.logged_bytes >= MOST_BYTES)
            && self.window.is_some_and(|start| now < start + WINDOW)
    }

    /// When the number of dropped lines is to be told, if any was.
    fn window_end(&self) -> Option<Instant> {
        self.window.filter(|_| self.dropped > 0).map(|start| start + WINDOW)
    }

    fn tell_dropped(&mut self, now: Instant) {
        if self.dropped > 0 && self.window.is_none_or(|start| now >= start + WINDOW) {
            let dropped = std::mem::take(&mut self.dropped);
            (self.log)(&format!(
                "{dropped} lines dropped (more than {MOST_LINES} or {} KiB a second)",
                MOST_BYTES / 1024
            ));
        }
    }

    /// The stream has ended, or its hook has: what is left is logged too. More may follow nevertheless.
    fn end(&mut self, now: Instant) {
        if !self.line.is_empty() {
            self.emit("", now);
        }
        self.skipping = false;
        self.window = None;
        self.tell_dropped(now);
    }
}

/// Writes a hook's input into its pipe and closes it; beside everything else if the pipe doesn't take it at once. A
/// hook that ends without reading is no error: the input was there.
///
/// # Errors
/// The pipe can't be registered with the runtime.
pub fn feed(pipe: OwnedFd, input: String, mut ended: OutputEnd) -> io::Result<()> {
    /// Longest a hook's leftover that holds the pipe is waited for, once more input than a pipe holds was given.
    const PATIENCE: Duration = AFTERWARDS;
    let mut pipe = pipe::Sender::from_owned_fd(pipe)?;
    // Past the runtime, which doesn't know yet that there is room: most inputs fit, and need no task.
    let written = nix::unistd::write(&pipe, input.as_bytes()).unwrap_or(0);
    if written < input.len() {
        tokio::spawn(async move {
            let rest = pipe.write_all(&input.as_bytes()[written..]);
            tokio::select! {
                _ = rest => {}
                () = async { ended.wait().await; tokio::time::sleep(PATIENCE).await } => {}
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(chunks: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line: &str| seen.push(line.to_owned()));
        let now = Instant::now();
        for chunk in chunks {
            lines.take(chunk, now);
        }
        lines.end(now);
        drop(lines);
        seen
    }

    #[test]
    fn lines_are_put_together_from_pieces() {
        assert_eq!(logged(&[b"a", b"b\nc\n\nd", b"\r\n", b"last"]), ["ab", "c", "", "d", "last"]);
    }

    #[test]
    fn a_line_too_long_is_cut_and_marked_and_the_next_one_is_whole() {
        let long = vec![b'x'; 3 * MOST_OF_A_LINE];
        let seen = logged(&[&long, &long, b"\nnext\n"]);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].len(), MOST_OF_A_LINE + " (line cut here)".len());
        assert_eq!(seen[1], "next");
        let exact = vec![b'x'; MOST_OF_A_LINE];
        assert_eq!(logged(&[&exact, b"\n"]), [String::from_utf8(exact).unwrap()]);
    }

    #[test]
    fn nothing_a_hook_prints_can_act_on_a_terminal() {
        assert_eq!(
            logged(&[b"\x1b[31mred\x07 \xff\xfe \xe2\x82\xac\ttab\x00\n"]),
            ["\\u{1b}[31mred\\u{7} \\xff\\xfe €\ttab\\u{0}"]
        );
    }

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let flood = b"y\n".repeat(10_000);
        let seen = logged(&[&flood]);
        assert_eq!(seen.len(), MOST_LINES as usize + 1);
        assert_eq!(seen.last().unwrap(), "9800 lines dropped (more than 200 or 128 KiB a second)");
    }

    #[test]
    fn after_a_flood_lines_are_logged_again() {
        let mut seen = Vec::new();
        let mut lines = Lines::new(|line: &str| seen.push(line.to_owned()));
        let now = Instant::now();
        lines.take(&b"y\n".repeat(201), now);
        lines.take(b"quiet\n", now + WINDOW);
        drop(lines);
        assert_eq!(seen[200..], ["1 lines dropped (more than 200 or 128 KiB a second)", "quiet"]);
    }

    #[test]
    fn long_lines_are_bounded_by_their_bytes() {
        let line = [vec![b'x'; MOST_OF_A_LINE - 1], b"\n".to_vec()].concat();
        let seen = logged(&[&line.repeat(150)]);
        assert_eq!(seen.len(), 34, "33 are 128 KiB and a little more");
        assert_eq!(seen.last().unwrap(), "117 lines dropped (more than 200 or 128 KiB a second)");
    }

    #[test]
    fn a_line_that_was_cut_is_no_dropped_line_too() {
        let long = vec![b'x'; 2 * MOST_OF_A_LINE];
        let seen = logged(&[&b"y\n".repeat(199), &long, b"\nz\nz\n"]);
        assert_eq!(seen.last().unwrap(), "2 lines dropped (more than 200 or 128 KiB a second)");
    }

    #[test]
    fn a_stream_that_never_ends_lets_everybody_else_run() {
        runtime().block_on(async {
            let (reader, writer) = a_pipe();
            let writing = std::thread::spawn(move || {
                let zeros = vec![b'\n'; 1 << 16];
                while nix::unistd::write(&writer, &zeros).is_ok() {}
            });
            let mut alive = Alive::new();
            alive.follow(reader, "test".to_owned(), "stdout").unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            // Dropping it is the hook's end; its pipe is followed a moment longer, and then nobody reads it.
            drop(alive);
            let metrics = tokio::runtime::Handle::current().metrics();
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
            writing.join().unwrap();
        });
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn a_pipe() -> (OwnedFd, OwnedFd) {
        super::super::descriptors::pipe().unwrap()
    }

    #[test]
    fn input_larger_than_a_pipe_is_fed_whole() {
        runtime().block_on(async {
            let (reader, writer) = a_pipe();
            let alive = Alive::new();
            feed(writer, "x".repeat(1_000_000), alive.ended()).unwrap();
            let mut read = Vec::new();
            let mut reader = pipe::Receiver::from_owned_fd(reader).unwrap();
            tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut read).await.unwrap();
            assert_eq!(read.len(), 1_000_000);
        });
    }

    #[test]
    fn a_hook_that_ends_before_reading_its_input_leaves_no_task_behind() {
        runtime().block_on(async {
            let (reader, writer) = a_pipe();
            let alive = Alive::new();
            feed(writer, "x".repeat(1_000_000), alive.ended()).unwrap();
            alive.end();
            // Somebody it left behind still holds the reading end.
            let metrics = tokio::runtime::Handle::current().metrics();
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
            drop(reader);
        });
    }

    #[test]
    fn a_leftover_that_holds_a_hooks_pipe_is_not_followed_for_ever() {
        runtime().block_on(async {
            let (reader, _writer) = a_pipe();
            let mut alive = Alive::new();
            alive.follow(reader, "test".to_owned(), "stdout").unwrap();
            alive.end();
            let metrics = tokio::runtime::Handle::current().metrics();
            while metrics.num_alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        });
    }
}
