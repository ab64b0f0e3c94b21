//! The agent's own log: one vocabulary of events, one line each, on stderr. It never blocks, whatever becomes of the
//! reader, and never touches what main writes.
//!
//! [`say`] is the interface for notices, tracing (`tracing::warn!`) elsewhere; its subscriber is our own because the
//! agent has no spans to keep: it costs a few hundred bytes at rest and nothing at start. Values of environment
//! variables, tokens and the content of secret files are never given to it.

pub(crate) mod fields;
mod line;
mod sink;
mod termination;

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber, span};

use crate::config::{Level, Log, LogFormat};
use crate::supervisor::Notice;

pub use termination::termination_log;

static OUT: Mutex<sink::Writer> = Mutex::new(sink::Writer::new(2));
static LEVEL: AtomicU8 = AtomicU8::new(rank(Level::Warn));
static JSON: AtomicBool = AtomicBool::new(false);

/// How long the last words of a process that is about to end may wait for a slow reader.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts logging, and sends panics to the log too: the standard hook writes to stderr as long as it takes, which a
/// reader that has stopped reading would make for ever. A second call is [`configure`].
pub fn init(log: &Log) {
    set(log);
    if tracing::subscriber::set_global_default(Stderr).is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
            match panic.location() {
                Some(place) => tracing::error!(event = "panic", "{text} ({}:{})", place.file(), place.line()),
                None => tracing::error!(event = "panic", "{text}"),
            }
        }));
    }
}

/// Logs in another form or from another level on.
pub fn configure(log: &Log) {
    set(log);
    tracing::callsite::rebuild_interest_cache();
}

fn set(log: &Log) {
    LEVEL.store(rank(log.level), Ordering::Relaxed);
    JSON.store(log.format == LogFormat::Json, Ordering::Relaxed);
}

/// Logs a notice under its own name and level.
pub fn say(notice: &Notice) {
    let level = notice.level();
    // Not by way of tracing, whose fields are those of a line of code; but where it isn't heard, this isn't either.
    if rank(level) <= LEVEL.load(Ordering::Relaxed) && tracing::dispatcher::has_been_set() {
        write(|json| line::of_notice(notice, level.word(), json));
    }
}

fn write(line: impl FnOnce(bool) -> String) {
    let json = JSON.load(Ordering::Relaxed);
    let line = line(json);
    let mut out = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    out.write(&line, |count| line::dropped(count, json));
}

/// Writes text as it is to stderr, for a process that is about to end (a config report, a usage message): waits for a
/// slow reader, but at most a second.
pub fn last_words(text: &str) {
    let mut out = OUT.lock().unwrap_or_else(PoisonError::into_inner);
    out.write_within(text, LAST_WORDS);
}

const fn rank(level: Level) -> u8 {
    match level {
        Level::Error => 1,
        Level::Warn => 2,
        Level::Info => 3,
        Level::Debug => 4,
        Level::Trace => 5,
    }
}

fn rank_of(level: &tracing::Level) -> u8 {
    match *level {
        tracing::Level::ERROR => 1,
        tracing::Level::WARN => 2,
        tracing::Level::INFO => 3,
        tracing::Level::DEBUG => 4,
        tracing::Level::TRACE => 5,
    }
}

/// Whether an event of this origin is one of the agent's own (`hook` carries the output of hooks).
fn is_ours(target: &str) -> bool {
    target.starts_with("pilotfish") || target == "hook"
}

struct Stderr;

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries tell about headers and tokens below `warn`.
        let most = if is_ours(metadata.target()) { u8::MAX } else { rank(Level::Warn) };
        metadata.is_event() && rank_of(metadata.level()) <= LEVEL.load(Ordering::Relaxed).min(most)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match LEVEL.load(Ordering::Relaxed) {
            1 => LevelFilter::ERROR,
            2 => LevelFilter::WARN,
            3 => LevelFilter::INFO,
            4 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn event(&self, event: &tracing::Event<'_>) {
        write(|json| line::format(event, json));
    }

    // No spans are kept: `enabled` refuses them, so these are called by nobody but must be there.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}
