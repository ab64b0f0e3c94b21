//! How often something is started again: `restarts`.

use super::document::Value;
use super::json::Value as Json;
use super::read::{At, Notes, as_text};
use super::text::Text;

/// As many restarts within a minute as nothing comes to.
const NO_LIMIT: i64 = 1_000_000;
/// ContainerPilot counted over the container's whole life.
const WITHIN: &str = "365d";
/// ContainerPilot restarts at once.
const BACKOFF: &str = "100ms";

const ACCEPTS: &str = "accepts positive integers, \"unlimited\", or \"never\" (so ContainerPilot refuses the file); it \
                       is \"never\" here";

/// How often something is started again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Restarts {
    Never,
    Unlimited,
    Times(i64),
}

/// The same, where it may be a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Restarting {
    /// What it is where nothing is set.
    pub(super) usual: Restarts,
    pub(super) template: Option<Text>,
    /// Whether it is said at all.
    pub(super) is_said: bool,
}

/// `restarts`: `"unlimited"`, `"never"`, or how many.
pub(super) fn restarts(at: &At<'_>, notes: &mut Notes) -> Restarting {
    let mut restarting = Restarting { usual: Restarts::Never, template: None, is_said: false };
    let Some(entry) = at.get("restarts") else { return restarting };
    restarting.is_said = true;
    let Some(text) = as_text(&entry.value) else {
        notes.lose(&entry.value.span, at.key("restarts"), "isn't a number of restarts; it is \"never\" here");
        return restarting;
    };
    // Go cuts a number's fraction off, and takes none in a text.
    let whole = |text: &str| match entry.value.value {
        Json::Number(_) => text.parse::<f64>().ok().filter(|times| *times >= 0.0).map(|times| times as i64),
        _ => text.parse().ok().filter(|times| *times >= 0),
    };
    let sample = text.sample();
    let times = whole(&sample);
    restarting.usual = match (sample.as_str(), times) {
        ("unlimited", _) => Restarts::Unlimited,
        (_, Some(times @ 1..)) => Restarts::Times(times),
        _ => Restarts::Never,
    };
    let is_sound = ["unlimited", "never"].contains(&sample.as_str()) || times.is_some();
    // A variable that must be set comes to nothing yet.
    let is_unknown = text.is_template() && sample.is_empty();
    if !is_sound && !is_unknown {
        notes.lose(&entry.value.span, at.key("restarts"), ACCEPTS);
    }
    restarting.template = text.is_template().then_some(text);
    restarting
}

impl Restarting {
    /// As `restart` says it.
    pub(super) fn value(&self) -> Value {
        let Some(text) = &self.template else { return self.usual.value() };
        let (policy, max, within) = match self.usual {
            Restarts::Never => ("never", 1, WITHIN),
            Restarts::Unlimited => ("always", NO_LIMIT, "1m"),
            Restarts::Times(times) => ("always", times, WITHIN),
        };
        let made = |made: &str, sample: String| Value::Text(Text::computed(&[("restarts", text)], made, sample));
        let max_of = format!("{{{{ {NO_LIMIT} if restarts in ['unlimited', 'never'] else restarts }}}}");
        let within_of = format!("{{{{ '1m' if restarts == 'unlimited' else '{WITHIN}' }}}}");
        Value::Inline(vec![
            pair("policy", made("{{ 'never' if restarts in ['never', '0'] else 'always' }}", policy.to_owned())),
            pair("max", made(&max_of, max.to_string())),
            pair("within", made(&within_of, within.to_owned())),
            pair("backoff", Value::text(BACKOFF)),
        ])
    }

    /// Whether something may be started again.
    pub(super) fn may_be(&self) -> bool {
        self.usual != Restarts::Never || self.template.is_some()
    }
}

impl Restarts {
    /// As `restart` says it, whatever the end was.
    pub(super) fn value(self) -> Value {
        Value::Inline(match self {
            Restarts::Never => vec![pair("policy", Value::text("never"))],
            Restarts::Unlimited => vec![
                pair("policy", Value::text("always")),
                pair("max", Value::Integer(NO_LIMIT)),
                pair("backoff", Value::text(BACKOFF)),
            ],
            Restarts::Times(times) => vec![
                pair("policy", Value::text("always")),
                pair("max", Value::Integer(times.min(i64::from(u32::MAX)))),
                pair("within", Value::text(WITHIN)),
                pair("backoff", Value::text(BACKOFF)),
            ],
        })
    }
}

fn pair(name: &str, value: Value) -> (String, Value) {
    (name.to_owned(), value)
}
