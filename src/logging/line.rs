//! An event as one record: text for people or JSON for machines. It writes nothing.

use std::fmt::{self, Write};
use std::time::SystemTime;

use tracing::field::{Field, Visit};

use super::fields::{self, Value};
use crate::plain;
use crate::supervisor::Notice;

/// No record is longer; what is beyond is cut, and said so.
const LONGEST: usize = 64 * 1024;

/// The record of an event, with its newline.
pub fn format(event: &tracing::Event<'_>, json: bool) -> String {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let level = metadata.level().as_str().to_ascii_lowercase();
    record(&level, fields.event.as_deref().unwrap_or(metadata.target()), &fields.message, &fields.others, json)
}

/// The record of a notice. Text says all of it in words; JSON has its fields too.
pub fn of_notice(notice: &Notice, level: &str, json: bool) -> String {
    let fields = if json { fields::of(notice) } else { Vec::new() };
    record(level, notice.name(), &notice.to_string(), &fields, json)
}

/// The record that says how many were lost.
pub fn dropped(count: u64, json: bool) -> String {
    let others = [("lines", Value::Bare(count.to_string()))];
    record("warn", "log.dropped", &format!("{count} log lines dropped: nobody read them"), &others, json)
}

#[derive(Default)]
struct Fields {
    event: Option<String>,
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let text = match &value {
            Value::Bare(text) | Value::Text(text) => text,
        };
        match field.name() {
            "event" => self.event = Some(text.clone()),
            "message" => self.message = text.clone(),
            name => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bare(value.to_string()));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, Value::Text(value.to_string()));
    }
}

fn record(level: &str, event: &str, message: &str, others: &[(&str, Value)], json: bool) -> String {
    let time = humantime::format_rfc3339_millis(SystemTime::now());
    let message = cut(message);
    let mut line = String::with_capacity(message.len() + 80);
    // Writing to a String can't fail.
    let _ = if json {
        write!(line, "{{\"time\":\"{time}\",\"level\":\"{level}\",\"event\":{},\"message\":", quoted(event))
            .map(|()| line.push_str(&quoted(&message)))
    } else {
        write!(line, "{time} {level} {event}: ").map(|()| push_plain(&mut line, &message))
    };
    for (name, value) in others {
        let _ = match (json, value) {
            // A list that is cut isn't JSON any more.
            (true, Value::Bare(text)) if text.len() <= LONGEST => write!(line, ",{}:{text}", quoted(name)),
            (true, Value::Bare(text) | Value::Text(text)) => write!(line, ",{}:{}", quoted(name), quoted(&cut(text))),
            (false, Value::Bare(text)) => write!(line, " {name}={}", cut(text)),
            (false, Value::Text(text)) => {
                let _ = write!(line, " {name}=");
                push_plain(&mut line, &cut(text));
                Ok(())
            }
        };
    }
    line.push_str(if json { "}\n" } else { "\n" });
    line
}

fn quoted(text: &str) -> String {
    let quoted = serde_json::to_string(text).expect("a string is always valid JSON");
    // serde leaves everything from DEL on as it is, which a terminal might obey.
    plain::json(&quoted).into_owned()
}

/// A text of several lines (a config report) stays readable, but its further lines are set in, so that none can pass
/// for a record of its own.
fn push_plain(line: &mut String, text: &str) {
    for (index, part) in text.trim_end().split('\n').enumerate() {
        if index > 0 {
            line.push_str("\n    ");
        }
        line.push_str(&plain::line(part));
    }
}

fn cut(text: &str) -> std::borrow::Cow<'_, str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    let end = (0..=LONGEST).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    format!("{}... ({} bytes more)", &text[..end], text.len() - end).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_record_is_time_level_event_and_text() {
        let line = record("info", "main.started", "main runs as process 7", &[("pid", Value::Bare("7".into()))], false);
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        assert_eq!(rest, "info main.started: main runs as process 7 pid=7\n");
    }

    #[test]
    fn a_json_record_is_one_line_whatever_it_says() {
        let others = [("hook", Value::Text("a \"b\"".into())), ("lines", Value::Bare("3".into()))];
        let line = record("warn", "degraded", "two\nlines \u{1b}[31m", &others, true);
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["message"], "two\nlines \u{1b}[31m");
        assert_eq!((&value["hook"], &value["lines"]), (&"a \"b\"".into(), &3.into()));
    }

    #[test]
    fn text_from_outside_can_neither_fake_a_record_nor_steer_a_terminal() {
        let line = record("info", "x", "one\n2026-01-01T00:00:00Z info y: fake\r\u{1b}[2J", &[], false);
        assert!(line.contains("\n    2026"), "{line}");
        assert!(!line.contains('\r') && !line.contains('\u{1b}'), "{line}");
        for json in [false, true] {
            let others = [("path", Value::Text("x\u{2066}".into()))];
            let line = record("info", "x", "c1 \u{9b}2J and bidi \u{202e}gpj", &others, json);
            assert!(!line.trim_end().contains(plain::acts), "{line}");
        }
    }

    #[test]
    fn an_endless_list_is_cut_and_the_record_stays_json() {
        let list = serde_json::Value::from(vec!["x".repeat(255); 11_000]).to_string();
        for json in [false, true] {
            let line = record("info", "x", "", &[("known", Value::Bare(list.clone()))], json);
            assert!(line.len() < LONGEST + 2000 + LONGEST / 100, "{}", line.len());
            assert!(!json || serde_json::from_str::<serde_json::Value>(&line).is_ok());
        }
    }

    #[test]
    fn an_endless_message_is_cut_and_says_so() {
        let line = record("info", "x", &"ä".repeat(LONGEST), &[], false);
        assert!(line.len() < LONGEST + 200 && line.ends_with("bytes more)\n"), "{}", line.len());
    }
}
