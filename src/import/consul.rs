//! Where Consul is. ContainerPilot took what Go's client takes; what that is here, or that it is nothing, is said.

use std::net::Ipv6Addr;

use super::document::{Document, Table, Value};
use super::go::Span;
use super::json::Value as Json;
use super::read::{At, Flag, Notes};
use super::text::{Piece, Text};
use crate::config::is_consul_address;

/// What is said where an address can't be taken at all.
const LEFT_OUT: &str = "left out, so that CONSUL_HTTP_ADDR counts, or the agent at 127.0.0.1:8500";

/// `consul`: a string, or in version 3 an object.
pub(super) fn consul(root: &At<'_>, document: &mut Document, notes: &mut Notes) {
    let Some(entry) = root.get("consul") else { return };
    let table = document.one("catalog");
    table.set("backend", Value::text("consul"));
    let at = At::new(&entry.value, "consul");
    if !matches!(entry.value.value, Json::Object(_)) {
        if root.text("consul", &mut Notes::default()).is_some_and(|address| address.as_plain() == Some("")) {
            notes.lose(&entry.value.span, "consul", format!("is empty: {LEFT_OUT}"));
            table.notes.extend(notes.take());
        }
        if let Some(address) = root.some_text("consul", notes) {
            let address = sound(with_a_host(address.trimmed()), &entry.value.span, "consul", notes);
            let secure = address.as_ref().is_some_and(|address| address.sample().starts_with("https://"));
            table.notes.extend(notes.take());
            table.maybe("address", address.map(Value::Text));
            if secure {
                unverified(&At::new(&entry.value, "consul"), table, &[], true);
            }
        }
        return;
    }
    object(&at, table, notes);
}

/// Version 3's object.
fn object(at: &At<'_>, table: &mut Table, notes: &mut Notes) {
    at.only(&["address", "scheme", "token", "tls"], notes);
    if let (Some(entry), Some(address)) = (at.get("address"), at.some_text("address", notes)) {
        let mut address = with_a_host(address.trimmed());
        // A scheme of its own counts before `scheme`.
        let bare = !address.sample().contains("://");
        if let Some(scheme) = at.some_text("scheme", notes).filter(|_| bare) {
            let mut whole = scheme.trimmed().and("://");
            address.0.drain(..).for_each(|piece| whole.push(piece));
            address = whole;
        }
        let address = sound(address, &entry.value.span, &at.key("address"), notes);
        table.maybe("address", address.map(Value::Text));
    }
    if let (Some(entry), Some(token)) = (at.get("token"), at.some_text("token", notes)) {
        let variable =
            matches!(token.0.as_slice(), [Piece::Template(template)] if template.needs == ["CONSUL_HTTP_TOKEN"]);
        let what = "a token doesn't stand in a config: set CONSUL_HTTP_TOKEN, or `token_file` to a file that holds it";
        match variable {
            true => notes.say(&entry.value.span, at.key("token"), "CONSUL_HTTP_TOKEN counts by itself"),
            false => notes.lose(&entry.value.span, at.key("token"), what),
        }
    }
    let tls = at.table("tls");
    let mut authorities = Vec::new();
    if let Some(tls) = &tls {
        tls.only(&["cafile", "capath", "clientcert", "clientkey", "servername", "verify"], notes);
        let mut keys = Vec::new();
        for (theirs, ours) in
            [("cafile", "ca"), ("clientcert", "certificate"), ("clientkey", "key"), ("servername", "server_name")]
        {
            if let Some(text) = tls.some_text(theirs, notes) {
                if ours == "ca" {
                    authorities.push(text.sample());
                }
                keys.push((ours.to_owned(), Value::Text(text)));
            }
        }
        if let Some(entry) = tls.get("capath") {
            notes.lose(
                &entry.key_span,
                tls.key("capath"),
                "a directory of authorities isn't read: put them into one file, `ca`",
            );
        }
        if !keys.is_empty() {
            table.set("tls", Value::Inline(keys));
        }
    }
    let verify = tls.as_ref().and_then(|tls| tls.flag("verify", &mut Notes::default()));
    let text = |key| at.text(key, &mut Notes::default());
    let scheme = text("scheme");
    let is_https = scheme.as_ref().is_some_and(|scheme| scheme.sample().eq_ignore_ascii_case("https"))
        || text("address").is_some_and(|address| address.sample().starts_with("https://"));
    let may_be_https = scheme.is_some_and(|scheme| scheme.is_template());
    if (is_https || may_be_https) && !matches!(verify, Some(Flag::Is(true))) {
        // Where nothing is set it is no loss.
        let counts = is_https && !verify.as_ref().is_some_and(Flag::usual);
        unverified(tls.as_ref().unwrap_or(at), table, &authorities, counts);
    }
    table.notes.extend(notes.take());
}

/// An address that pilotfish takes, if this can be one.
fn sound(address: Text, span: &Span, key: &str, notes: &mut Notes) -> Option<Text> {
    let Some(plain) = address.as_plain() else {
        if may_be_an_address(&address) {
            return Some(address);
        }
        let what = format!("`{}` can't be where a Consul agent listens: {LEFT_OUT}", address.write(true));
        notes.lose(span, key, what);
        return None;
    };
    let (scheme, rest) = plain.split_once("://").unwrap_or(("", plain));
    let lower = scheme.to_lowercase();
    if lower == "unix" && is_consul_address(plain) {
        return Some(address);
    }
    if lower != scheme || !["", "http", "https"].contains(&lower.as_str()) {
        let what = match lower.as_str() {
            "http" | "https" => format!("ContainerPilot refuses `{scheme}://`; it is `{lower}://` here"),
            _ => format!("ContainerPilot refuses `{scheme}://`; it is asked by http here"),
        };
        notes.say(span, key, what);
    }
    let mut rest = rest;
    if let Some((login, behind)) = rest.rsplit_once('@') {
        let user = login.split(':').next().unwrap_or_default();
        let what = format!(
            "who logs in doesn't stand in an address: set CONSUL_HTTP_AUTH, or `username = \"{user}\"` and `password_file`"
        );
        notes.lose(span, key, what);
        rest = behind;
    }
    if let Some((host, path)) = rest.split_once('/') {
        if !path.is_empty() {
            notes.lose(span, key, format!("Consul is asked at its root here, and not below `/{path}`"));
        }
        rest = host;
    }
    if let Some((first, _)) = rest.split_once(',') {
        notes.lose(span, key, format!("one agent is asked here; the first of these is: `{first}`"));
        rest = first.trim();
    }
    let host = match rest.parse::<Ipv6Addr>() {
        Ok(_) => {
            notes.say(span, key, format!("is taken for an IPv6 address, at the usual port: `[{rest}]`"));
            format!("[{rest}]")
        }
        // Go takes the usual port where none stands behind the colon.
        Err(_) => rest.strip_suffix(':').unwrap_or(rest).to_owned(),
    };
    let scheme = match lower.as_str() {
        scheme @ ("http" | "https") => format!("{scheme}://"),
        _ => String::new(),
    };
    let whole = format!("{scheme}{host}");
    if is_consul_address(&whole) {
        return Some(Text::plain(whole));
    }
    let inside = host.strip_prefix('[').and_then(|host| host.split_once(']')).map(|(name, _)| name);
    let what = match inside {
        Some(name) => {
            format!("brackets hold an IPv6 address, and `{name}` isn't one; is it what a script puts there? {LEFT_OUT}")
        }
        None => format!("`{host}` isn't a host with a port from 1 to 65535: {LEFT_OUT}"),
    };
    notes.lose(span, key, what);
    None
}

/// Whether templates can come to something that makes it one.
fn may_be_an_address(address: &Text) -> bool {
    const TRIES: [&str; 5] = ["consul", "8500", "http", "http://consul", "consul:8500"];
    let several = address.templates().count();
    if several > 3 {
        return true;
    }
    (0..TRIES.len().pow(several as u32)).any(|choice| {
        let mut nth = 0;
        let tried: String = address
            .0
            .iter()
            .map(|piece| match piece {
                Piece::Plain(text) => text.as_str(),
                Piece::Template(_) => {
                    nth += 1;
                    TRIES[choice / TRIES.len().pow(nth - 1) % TRIES.len()]
                }
            })
            .collect();
        is_consul_address(&tried)
    })
}

/// Go takes an address without a host for this one's own, be it that its variable is empty.
fn with_a_host(mut address: Text) -> Text {
    let begins_a_port = |piece: &Piece| matches!(piece, Piece::Plain(text) if text.starts_with(':'));
    if let Some(Piece::Plain(text)) = address.0.first_mut()
        && text.starts_with(':')
        && text.parse::<Ipv6Addr>().is_err()
    {
        text.insert_str(0, "localhost");
    } else if address.0.get(1).is_some_and(begins_a_port)
        && let Some(Piece::Template(host)) = address.0.first_mut()
        && let [name] = host.needs.as_slice()
        && host.strict == format!("{{{{ env.{name} }}}}")
    {
        host.strict = format!("{{{{ env.{name} or 'localhost' }}}}");
        host.lenient = format!("{{{{ env.{name} | default('localhost', true) }}}}");
        host.sample = "localhost".to_owned();
    }
    address
}

/// ContainerPilot's https is left unverified unless it is told otherwise. `counts`: it is where nothing is set.
fn unverified(at: &At<'_>, table: &mut Table, authorities: &[String], counts: bool) {
    let mut notes = Notes::default();
    let span = at.get("verify").map_or(&at.node.span, |entry| &entry.key_span);
    let key = if at.path.ends_with("tls") { at.key("verify") } else { at.path.clone() };
    match authorities.is_empty() && counts {
        false if !counts => notes.say(span, key, "https is verified here in any case"),
        false => notes.say(span, key, "the certificate was taken unverified there; it is verified here"),
        true => notes.lose(
            span,
            key,
            "the certificate was taken unverified there; it is verified here: name the authority, `tls = { ca = \"...\" }`",
        ),
    }
    table.notes.extend(notes.take());
}
