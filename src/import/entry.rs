//! Entries in the catalog, and the names that they and others have.

use super::document::{Document, Note, Value};
use super::go::Span;
use super::read::{At, Notes, Time};
use super::text::{Piece, Template, Text};
use crate::config::AddressSpec;

/// An entry in the catalog.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) name: Text,
    /// The coprocess that it is of; main without one.
    pub(super) of: Option<Text>,
    pub(super) port: Value,
    pub(super) tags: Option<Vec<Text>>,
    pub(super) interfaces: Option<Vec<Text>>,
    pub(super) ttl: Option<Time>,
    pub(super) consul: Vec<(String, Value)>,
    pub(super) origin: usize,
    pub(super) notes: Vec<Note>,
}

/// `interfaces`, `tags`, `port` and `consul` of a service or job. `only_eth0`: version 2 looked nowhere else.
pub(super) fn entry(at: &At<'_>, name: Text, port: Value, ttl: Option<Time>) -> Entry {
    let mut notes = Notes::default();
    let interfaces = at.strings("interfaces", &mut notes).map(|specs| {
        let span = at.get("interfaces").map_or(&at.node.span, |entry| &entry.value.span);
        first_by_name(sound_specs(specs, span, &at.key("interfaces"), &mut notes))
    });
    let mut consul = Vec::new();
    if let Some(extras) = at.table("consul") {
        extras.only(&["enableTagOverride", "deregisterCriticalServiceAfter"], &mut notes);
        if let Some(tag_override) = extras.flag("enableTagOverride", &mut notes) {
            consul.push(("enable_tag_override".to_owned(), tag_override.value()));
        }
        if let Some(after) = extras.duration("deregisterCriticalServiceAfter", &mut notes) {
            consul.push(("deregister_critical_after".to_owned(), after.value()));
        }
    }
    let name = catalog_name(&name, at, &mut notes);
    Entry {
        name,
        of: None,
        port,
        tags: at.strings("tags", &mut notes).filter(|tags| !tags.is_empty()),
        interfaces: interfaces.filter(|specs| !specs.is_empty()),
        ttl,
        consul,
        origin: at.node.span.start,
        notes: notes.take(),
    }
}

/// Those that are interface specs; of the others it is said that they are left out.
pub(super) fn sound_specs(specs: Vec<Text>, span: &Span, key: &str, notes: &mut Notes) -> Vec<Text> {
    let is_sound = |spec: &Text| spec.is_template() || spec.sample().parse::<AddressSpec>().is_ok();
    for spec in specs.iter().filter(|spec| !is_sound(spec)) {
        let what = format!(
            "ContainerPilot can't read `{}` either, and refuses the file; left out",
            spec.sample().escape_debug()
        );
        notes.lose(span, key, what);
    }
    specs.into_iter().filter(is_sound).collect()
}

/// ContainerPilot went through interfaces by their names, so that `inet` was eth0's; here it is that of the default route.
pub(super) fn first_by_name(specs: Vec<Text>) -> Vec<Text> {
    let mut first: Vec<Text> = Vec::new();
    for spec in specs {
        let is = |family: &str| spec.as_plain() == Some(family);
        let named = first.iter().any(|before| before.sample().starts_with("eth0"));
        let eth0 = ["inet", "inet6"].into_iter().find(|family| is(family) && !named);
        first.extend(eth0.map(|family| Text::plain(format!("eth0:{family}"))));
        first.push(spec);
    }
    first
}

/// A name as the catalog takes it.
pub(super) fn catalog_name(name: &Text, at: &At<'_>, notes: &mut Notes) -> Text {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut changed = false;
    let mut fit = Text::default();
    for piece in &name.0 {
        fit.push(match piece {
            Piece::Plain(text) => {
                changed |= !text.chars().all(sound);
                Piece::Plain(text.chars().map(|c| if sound(c) { c } else { '-' }).collect())
            }
            template => template.clone(),
        });
    }
    if let Some(Piece::Plain(first)) = fit.0.first_mut()
        && first.starts_with('.')
    {
        first.replace_range(..1, "-");
        changed = true;
    }
    if changed && let Some(entry) = at.get("name") {
        let what =
            format!("no service can be called `{}`; it is `{}` here", name.sample().escape_debug(), fit.sample());
        notes.lose(&entry.value.span, at.key("name"), what);
    }
    fit
}

/// A name of what isn't in the catalog: ContainerPilot took any, and showed it in its log alone.
pub(super) fn own_name(name: &Text, at: &At<'_>, notes: &mut Notes) -> Text {
    let mut lost = Notes::default();
    let fit = catalog_name(name, at, &mut lost);
    if lost.take().is_empty() {
        return fit;
    }
    // Whoever writes a sentence doesn't keep a variable to letters.
    let fit = fit.filtered("regex_replace('[^-A-Za-z0-9_.]', '-')");
    if let Some(entry) = at.get("name") {
        let what = format!("`{}` is called `{}` here", name.sample().escape_debug(), fit.sample());
        notes.say(&entry.value.span, at.key("name"), what);
    }
    fit
}

/// Writes entries; what each is called where a check speaks for it. Several of one name get ids of their own.
pub(super) fn services(entries: Vec<Entry>, document: &mut Document) -> Vec<Text> {
    let names: Vec<(Text, Value)> = entries.iter().map(|entry| (entry.name.clone(), entry.port.clone())).collect();
    let mut called = Vec::new();
    for (index, entry) in entries.into_iter().enumerate() {
        let Entry { name, of, port, tags, interfaces, ttl, consul, origin, notes } = entry;
        let table = document.another("service", origin);
        table.notes.extend(notes);
        table.set("name", Value::Text(name.clone()));
        let before = names[..index].iter().filter(|(other, _)| *other == name).count();
        let shared = names.iter().filter(|(other, _)| *other == name).count() > 1;
        called.push(name.clone());
        if shared {
            let id = own_id(&name, before, origin);
            called[index] = id.clone();
            let id = table.set("id", Value::Text(id));
            if names[..index].contains(&(name.clone(), port.clone())) {
                id.notes.push(Note {
                    span: origin..origin + 1,
                    key: format!("{}.name", name.sample()),
                    what: "a second entry of this name and port: ContainerPilot put it in the first one's place; \
                           it has an id of its own here"
                        .to_owned(),
                    lost: false,
                });
            }
        }
        table.maybe("of", of.map(Value::Text));
        table.set("port", port);
        table.maybe("tags", tags.map(|tags| Value::words(&tags)));
        table.maybe("address", interfaces.map(|specs| Value::words(&specs)));
        table.maybe("ttl", ttl.as_ref().map(Time::value));
        if !consul.is_empty() {
            table.set("consul", Value::Inline(consul));
        }
    }
    called
}

/// `<name>-<hostname>`, as ContainerPilot called it, and for further ones a number between.
fn own_id(name: &Text, before: usize, origin: usize) -> Text {
    let host = "{{ env.HOSTNAME | default('here') }}";
    let between = if before == 0 { "-".to_owned() } else { format!("-{}-", before + 1) };
    let mut id = name.clone().and(&between);
    id.push(Piece::Template(Template {
        span: origin..origin,
        strict: host.to_owned(),
        lenient: host.to_owned(),
        sample: "here".to_owned(),
        needs: Vec::new(),
    }));
    id
}

/// Checks, tasks and coprocesses have names of their own.
pub(super) fn unique_names(document: &mut Document) {
    for path in ["health", "task", "coprocess"] {
        let mut seen: Vec<Value> = Vec::new();
        for table in document.tables.iter_mut().filter(|table| table.path == path) {
            let Some(key) = table.keys.iter_mut().find(|key| key.name == "name") else { continue };
            let before = seen.iter().filter(|known| **known == key.value).count();
            seen.push(key.value.clone());
            if before > 0
                && let Value::Text(name) = &key.value
            {
                key.value = Value::Text(name.clone().and(&format!("-{}", before + 1)));
            }
        }
    }
}
