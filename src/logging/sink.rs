//! Writing to a stderr that belongs to others too. O_NONBLOCK is a property of the open file description, which main
//! shares: setting it would make main's own writes fail. So each kind of file gets its own way of not blocking, and
//! what there is no room for is dropped and counted. (SIGPIPE and SIGTTOU are blocked in the whole agent: no write
//! raises either.)

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::tcgetsid;
use nix::unistd::{getsid, isatty};

/// A pipe takes this much whole or not at all (pipe(7), PIPE_BUF).
const ATOMIC: usize = 4096;

/// One log's way out.
pub struct Writer {
    sink: Sink,
    /// The rest of a record whose beginning is out: must go before any other.
    tail: Vec<u8>,
    dropped: u64,
    /// The last write failed for another reason than a lack of room: nobody will ever read it.
    broken: bool,
}

enum Sink {
    /// Looked at when there is something to write: most plain inits never say a word.
    Unopened(RawFd),
    /// A regular file: a write doesn't wait for a reader.
    File(RawFd),
    Socket(RawFd),
    /// A pipe or terminal, in an open file description of our own, where O_NONBLOCK harms nobody.
    Own(File),
    /// A pipe or device that couldn't be opened again (no /proc, another user's).
    Shared(RawFd),
    /// Closed from the beginning, or nothing that can be written to.
    Nowhere,
}

impl Writer {
    /// Writes to this descriptor, which must stay open.
    pub const fn new(fd: RawFd) -> Writer {
        Writer { sink: Sink::Unopened(fd), tail: Vec::new(), dropped: 0, broken: false }
    }

    /// Writes a record if there is room; `lost` makes the record that tells how many there was no room for.
    pub fn write(&mut self, record: &str, lost: impl Fn(u64) -> String) {
        if !self.flush() {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let note = lost(self.dropped);
            if !self.push(note.as_bytes()) {
                self.dropped += 1;
                return;
            }
            self.dropped = 0;
        }
        if !self.tail.is_empty() || !self.push(record.as_bytes()) {
            self.dropped += 1;
        }
    }

    /// Writes text, waiting for room no longer than `patience` in all.
    pub fn write_within(&mut self, text: &str, patience: Duration) {
        let step = Duration::from_millis(10);
        let mut left = patience;
        self.tail.extend_from_slice(text.as_bytes());
        while !self.flush() && !self.broken && !left.is_zero() {
            let pause = left.min(step);
            std::thread::sleep(pause);
            left -= pause;
        }
        self.tail.clear();
    }

    /// Writes as much of a record as there is room for and keeps the rest; false if there was none at all.
    fn push(&mut self, record: &[u8]) -> bool {
        let (written, error) = self.sink.write_some(record);
        self.broken = error.is_some_and(|error| error != Errno::EAGAIN);
        if written > 0 {
            self.tail = record[written..].to_vec();
        }
        written > 0
    }

    fn flush(&mut self) -> bool {
        let tail = std::mem::take(&mut self.tail);
        if !tail.is_empty() && !self.push(&tail) {
            self.tail = tail;
        }
        self.tail.is_empty()
    }
}

impl Sink {
    /// How many bytes went out, and why no more.
    fn write_some(&mut self, bytes: &[u8]) -> (usize, Option<Errno>) {
        if let Sink::Unopened(fd) = *self {
            *self = Sink::open(fd);
        }
        let mut written = 0;
        while written < bytes.len() {
            let rest = &bytes[written..];
            match self.write(chunk(rest)) {
                Ok(n) if n > 0 => written += n,
                Err(Errno::EINTR) => {}
                Ok(_) => return (written, Some(Errno::EIO)),
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }

    fn open(fd: RawFd) -> Sink {
        // SAFETY: the descriptor is only looked at, here and below; whether it is open is what is being asked.
        #[allow(unsafe_code)]
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        let Ok(stat) = fstat(borrowed) else { return Sink::Nowhere };
        match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG | SFlag::S_IFBLK => Sink::File(fd),
            SFlag::S_IFSOCK => Sink::Socket(fd),
            SFlag::S_IFIFO | SFlag::S_IFCHR => {
                let terminal = isatty(borrowed).unwrap_or(false);
                let open = |path: &str| {
                    OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)
                };
                // Anyone may open the terminal that controls their session, whoever owns its device.
                let ours = || terminal && tcgetsid(borrowed).is_ok_and(|session| getsid(None) == Ok(session));
                match open(&format!("/proc/self/fd/{fd}")).or_else(|e| if ours() { open("/dev/tty") } else { Err(e) }) {
                    Ok(own) => Sink::Own(own),
                    // A terminal says "there is room" for one byte and then waits for the rest of the line: no safe
                    // way is left.
                    Err(_) if terminal => Sink::Nowhere,
                    Err(_) => Sink::Shared(fd),
                }
            }
            // What stands in for a closed stderr (an eventfd, say) is none of these.
            _ => Sink::Nowhere,
        }
    }

    fn write(&self, bytes: &[u8]) -> nix::Result<usize> {
        match self {
            Sink::Unopened(_) | Sink::Nowhere => Err(Errno::EBADF),
            Sink::File(fd) => plain_write(*fd, bytes),
            Sink::Socket(fd) => send(*fd, bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL),
            Sink::Own(file) => plain_write(file.as_raw_fd(), bytes),
            Sink::Shared(fd) => write_if_room(*fd, bytes),
        }
    }
}

/// As much as goes out in one piece: whole lines where they fit.
fn chunk(bytes: &[u8]) -> &[u8] {
    if bytes.len() <= ATOMIC {
        return bytes;
    }
    match bytes[..ATOMIC].iter().rposition(|b| *b == b'\n') {
        Some(end) => &bytes[..=end],
        None => &bytes[..ATOMIC],
    }
}

fn plain_write(fd: RawFd, bytes: &[u8]) -> nix::Result<usize> {
    // SAFETY: as in `Sink::open`; a descriptor that isn't open answers EBADF.
    #[allow(unsafe_code)]
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    nix::unistd::write(fd, bytes)
}

/// Pipes know a write that doesn't wait since Linux 6.5; before, there is only asking first, which main's writes in
/// between can make wrong by one line.
fn write_if_room(fd: RawFd, bytes: &[u8]) -> nix::Result<usize> {
    let piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads `bytes`, which outlives the call, and nothing is written through the pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::pwritev2(fd, &piece, 1, -1, libc::RWF_NOWAIT) };
    match Errno::result(result) {
        Ok(written) => return Ok(written.unsigned_abs()),
        // EPERM: an engine older than the call forbids what it doesn't know (seccomp).
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EINVAL | Errno::EPERM) => {}
        Err(error) => return Err(error),
    }
    // SAFETY: as in `plain_write`.
    #[allow(unsafe_code)]
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let mut ready = [PollFd::new(borrowed, PollFlags::POLLOUT)];
    poll(&mut ready, PollTimeout::ZERO)?;
    if ready[0].revents().is_some_and(|events| events.contains(PollFlags::POLLOUT)) {
        plain_write(fd, bytes)
    } else {
        Err(Errno::EAGAIN)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::net::UnixStream;
    use std::time::SystemTime;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::pty::openpty;
    use nix::sys::eventfd::EventFd;
    use nix::unistd::pipe;

    use super::*;

    fn lost(count: u64) -> String {
        format!("{} {count} lost\n", "z".repeat(200))
    }

    /// Writes numbered lines until one is dropped; answers how many went out.
    fn fill(writer: &mut Writer) -> usize {
        for n in 0..1_000_000 {
            writer.write(&format!("line {n} {}\n", "x".repeat(100)), lost);
            if writer.dropped > 0 {
                return n;
            }
        }
        panic!("there was always room");
    }

    /// What lies in a pipe, socket or terminal now.
    fn drain(mut from: File) -> String {
        fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let (mut all, mut buffer) = (Vec::new(), [0; 65536]);
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            all.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8(all).unwrap()
    }

    fn no_room_loses_lines_and_says_how_many(mut writer: Writer, shared: &OwnedFd, reader: File) {
        let out = fill(&mut writer);
        writer.write(&format!("lost too {}\n", "x".repeat(200)), lost);
        let flags = OFlag::from_bits_truncate(fcntl(shared, FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK), "main's own writes would fail");
        let text = drain(reader.try_clone().unwrap());
        // What a stream took half of is finished first, and the next line tells of those that are gone.
        writer.write("there is room\n", lost);
        let text = text + &drain(reader);
        assert_eq!(text.lines().filter(|line| line.starts_with("line ")).count(), out, "each whole");
        assert!(text.ends_with(" 2 lost\nthere is room\n"), "{}", &text[text.len() - 200..]);
    }

    #[test]
    fn a_full_pipe_loses_lines_and_the_next_reader_is_told_how_many() {
        let (read, write) = pipe().unwrap();
        no_room_loses_lines_and_says_how_many(Writer::new(write.as_raw_fd()), &write, read.into());
    }

    #[test]
    fn a_full_pipe_that_cannot_be_opened_again_does_not_block() {
        let (read, write) = pipe().unwrap();
        let writer = Writer { sink: Sink::Shared(write.as_raw_fd()), ..Writer::new(2) };
        no_room_loses_lines_and_says_how_many(writer, &write, read.into());
    }

    #[test]
    fn a_full_socket_does_not_block() {
        let (here, there) = UnixStream::pair().unwrap();
        let here = OwnedFd::from(here);
        no_room_loses_lines_and_says_how_many(Writer::new(here.as_raw_fd()), &here, OwnedFd::from(there).into());
    }

    #[test]
    fn a_terminal_nobody_reads_does_not_block() {
        let pty = openpty(None, None).unwrap();
        let mut writer = Writer::new(pty.slave.as_raw_fd());
        assert!(fill(&mut writer) > 0);
        assert!(drain(pty.master.into()).starts_with("line 0 x"));
    }

    #[test]
    fn a_record_longer_than_the_room_is_finished_before_the_next() {
        let (read, write) = pipe().unwrap();
        let mut writer = Writer::new(write.as_raw_fd());
        let long = format!("{}\n", "y".repeat(100_000));
        writer.write(&long, lost);
        let mut text = drain(read.try_clone().unwrap().into());
        assert!(text.len() < long.len());
        writer.write("next\n", lost);
        text += &drain(read.into());
        assert_eq!(text, long + "next\n");
    }

    #[test]
    fn a_file_gets_every_line() {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(file.as_raw_fd());
        for _ in 0..3 {
            writer.write("line\n", lost);
        }
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "line\nline\nline\n");
    }

    #[test]
    fn a_closed_stderr_or_what_stands_in_for_it_is_left_alone() {
        let event = EventFd::new().unwrap();
        let mut writer = Writer::new(event.as_fd().as_raw_fd());
        writer.write("12345678\n", lost);
        assert!(matches!(writer.sink, Sink::Nowhere));
        let mut writer = Writer::new(1_000_000);
        writer.write("line\n", lost);
        assert_eq!(writer.dropped, 1);
    }

    #[test]
    fn last_words_wait_for_a_slow_reader_but_not_for_ever() {
        let (read, write) = pipe().unwrap();
        let mut writer = Writer::new(write.as_raw_fd());
        fill(&mut writer);
        let begun = SystemTime::now();
        let (gone, closed) = pipe().unwrap();
        drop(gone);
        for fd in [closed.as_raw_fd(), 1_000_000] {
            Writer::new(fd).write_within("nobody will\n", Duration::from_secs(60));
        }
        assert!(begun.elapsed().unwrap() < Duration::from_secs(30), "nobody to wait for");
        writer.write_within(&format!("never read {}\n", "x".repeat(200)), Duration::from_millis(30));
        assert!(!drain(read.try_clone().unwrap().into()).contains("never read"));
        writer.write_within("read\n", Duration::from_millis(30));
        assert!(drain(read.into()).ends_with("read\n"));
    }
}
