//! Judges what `[catalog]` says of Consul and etcd, and hears the variables of Consul's own command line.

use std::net::IpAddr;
use std::path::PathBuf;

use super::Validator;
use crate::config::backends::{
    ClientIdentity, Consul, ConsulAddress, Endpoint, Etcd, Login, Secret, SecretSource, Tls,
};
use crate::config::format::{FilePath, Format, Parsed};
use crate::config::raw;
use crate::config::tree::Place;

/// Consul's variable for `tls.server_name`.
const SERVER_NAME: &str = "CONSUL_TLS_SERVER_NAME";

/// One Consul agent: what the file says, and what the variables say where it says nothing.
pub(super) fn consul(raw: raw::Catalog, place: Place<'_>, validator: &mut Validator<'_>) -> Consul {
    let address = match raw.address {
        Some(address) => address.0,
        None => address_of_variables(place, validator),
    };
    let https = matches!(&address, ConsulAddress::Tcp(endpoint) if endpoint.https);
    let token =
        match (raw.token_file, validator.variable("CONSUL_HTTP_TOKEN_FILE"), validator.variable("CONSUL_HTTP_TOKEN")) {
            (Some(file), ..) => Some(SecretSource::File(file.0.0)),
            (None, Some(file), _) => Some(SecretSource::File(file.into())),
            (None, None, Some(token)) => Some(SecretSource::Given(Secret::new(token))),
            (None, None, None) => None,
        };
    let basic = login(raw.username, raw.password_file, place, validator).or_else(|| {
        let auth = validator.variable("CONSUL_HTTP_AUTH")?;
        let (username, password) = auth.split_once(':').unwrap_or((&auth, ""));
        let password = (!password.is_empty()).then(|| SecretSource::Given(Secret::new(password)));
        Some(Login { username: username.to_owned(), password })
    });
    let mut tls = tls(raw.tls, https, place, validator);
    if https {
        let file = |name| validator.variable(name).map(PathBuf::from);
        tls.ca = tls.ca.or_else(|| file("CONSUL_CACERT"));
        tls.identity = tls.identity.or_else(|| {
            Some(ClientIdentity { certificate: file("CONSUL_CLIENT_CERT")?, key: file("CONSUL_CLIENT_KEY")? })
        });
        tls.server_name = tls.server_name.or_else(|| {
            let name = validator.variable(SERVER_NAME)?;
            host_name(&name, SERVER_NAME, place.key("backend"), validator);
            Some(name)
        });
        if validator.variable("CONSUL_HTTP_SSL_VERIFY").is_some_and(|value| is_false(&value)) {
            validator.warn(
                place.key("backend").span(),
                "`CONSUL_HTTP_SSL_VERIFY` turns verification off, and pilotfish always verifies",
                "name the authority in `tls.ca`, and the certificate's name in `tls.server_name`",
            );
        }
    }
    Consul { address, token, basic, tls }
}

fn address_of_variables(place: Place<'_>, validator: &mut Validator<'_>) -> ConsulAddress {
    let fallback = Endpoint { https: false, host: "127.0.0.1".to_owned(), port: crate::config::backends::CONSUL_PORT };
    let text = validator.variable("CONSUL_HTTP_ADDR").unwrap_or_else(|| fallback.to_string());
    let ssl = validator.variable("CONSUL_HTTP_SSL").is_some_and(|value| is_true(&value));
    let bare = !text.contains("://");
    match ConsulAddress::read(&text) {
        // As on Consul's command line: the variable decides where the address has no scheme.
        Ok(ConsulAddress::Tcp(endpoint)) if ssl && (bare || validator.variable("CONSUL_HTTP_ADDR").is_none()) => {
            ConsulAddress::Tcp(Endpoint { https: true, ..endpoint })
        }
        Ok(address) => address,
        Err(wrong) => {
            validator.error(
                place.key("backend").span(),
                format!("the variable `CONSUL_HTTP_ADDR` {}", wrong.what),
                wrong.hint.unwrap_or_default(),
            );
            ConsulAddress::Tcp(fallback)
        }
    }
}

/// An etcd cluster.
pub(super) fn etcd(raw: raw::Catalog, place: Place<'_>, validator: &mut Validator<'_>) -> Etcd {
    validator.required(place, "the etcd catalog", "endpoints", "[\"http://127.0.0.1:2379\"]");
    if place.has("endpoints") && raw.endpoints.is_empty() && !place.key("endpoints").is_broken() {
        validator.error(
            place.key("endpoints").span(),
            "`endpoints` is empty",
            "name at least one member of the cluster",
        );
    }
    let endpoints: Vec<Endpoint> = raw.endpoints.into_iter().map(|Parsed(endpoint)| endpoint).collect();
    for (index, endpoint) in endpoints.iter().enumerate() {
        if endpoints[..index].iter().any(|other| (&other.host, other.port) == (&endpoint.host, endpoint.port)) {
            validator.error(
                place.key("endpoints").index(index).span(),
                format!("{endpoint} stands here twice"),
                "each counts for one member of the cluster, where they are counted: keep one of the two",
            );
        }
    }
    let https = endpoints.iter().any(|endpoint| endpoint.https);
    let login = login(raw.username, raw.password_file, place, validator);
    Etcd { login, tls: tls(raw.tls, https, place, validator), endpoints }
}

/// Says which keys belong to another backend than the one there is.
pub(super) fn strangers(backend: raw::Backend, place: Place<'_>, validator: &mut Validator<'_>) {
    use raw::Backend::{Consul, Etcd, Local};
    const KEYS: [(&str, &[raw::Backend], &str); 8] = [
        ("directory", &[Local], "`backend = \"local\"`"),
        ("shared", &[Local], "`backend = \"local\"`"),
        ("address", &[Consul], "`backend = \"consul\"`"),
        ("token_file", &[Consul], "`backend = \"consul\"`"),
        ("endpoints", &[Etcd], "`backend = \"etcd\"`"),
        ("tls", &[Consul, Etcd], "`backend = \"consul\"` or `\"etcd\"`"),
        ("username", &[Consul, Etcd], "`backend = \"consul\"` or `\"etcd\"`"),
        ("password_file", &[Consul, Etcd], "`backend = \"consul\"` or `\"etcd\"`"),
    ];
    if place.key("backend").is_broken() {
        return;
    }
    for (key, backends, named) in KEYS {
        let said = if key == "tls" { says_tls(place) } else { place.has(key) };
        if said && !backends.contains(&backend) {
            validator.warn(
                place.key(key).key_span(),
                format!("`{key}` without {named} does nothing"),
                format!("set {named}, or leave it out"),
            );
        }
    }
}

fn login(
    username: Option<String>,
    password_file: Option<Parsed<FilePath>>,
    place: Place<'_>,
    validator: &mut Validator<'_>,
) -> Option<Login> {
    let password = password_file.map(|file| SecretSource::File(file.0.0));
    match username {
        Some(username) if username.is_empty() => {
            validator.error(place.key("username").span(), "`username` is empty", "leave it out, or say which");
            None
        }
        Some(username) => Some(Login { username, password }),
        None => {
            if password.is_some() {
                validator.error(
                    place.key("password_file").key_span(),
                    "`password_file` without `username`",
                    "say whose password it is",
                );
            }
            None
        }
    }
}

fn tls(raw: raw::Tls, https: bool, place: Place<'_>, validator: &mut Validator<'_>) -> Tls {
    let here = place.key("tls");
    if says_tls(place) && !https && !here.is_broken() {
        validator.warn(
            here.key_span(),
            "`tls` without an https address does nothing",
            "write `https://` in the address",
        );
    }
    let identity = match (raw.certificate, raw.key) {
        (Some(certificate), Some(key)) => Some(ClientIdentity { certificate: certificate.0.0, key: key.0.0 }),
        (None, None) => None,
        (Some(_), None) => {
            validator.error(
                here.key("certificate").key_span(),
                "`certificate` without `key`",
                "name the certificate's key",
            );
            None
        }
        (None, Some(_)) => {
            validator.error(here.key("key").key_span(), "`key` without `certificate`", "name the key's certificate");
            None
        }
    };
    if let Some(name) = &raw.server_name {
        host_name(name, "server_name", here.key("server_name"), validator);
    }
    Tls { ca: raw.ca.map(|ca| ca.0.0), identity, server_name: raw.server_name }
}

/// Says that what should be the name in a certificate is none. It becomes the host of a URL.
fn host_name(name: &str, what: &str, place: Place<'_>, validator: &mut Validator<'_>) {
    if name.is_empty() || name.parse::<IpAddr>().is_ok() || name.contains(['/', ':', ' ']) {
        validator.error(
            place.span(),
            format!("`{what}` isn't a host name"),
            "the name in the backend's certificate, such as `\"server.dc1.consul\"`",
        );
    }
}

/// Whether `tls` is more than an empty table.
fn says_tls(place: Place<'_>) -> bool {
    ["ca", "certificate", "key", "server_name"].iter().any(|key| place.key("tls").has(key))
}

/// What Consul's command line takes for yes (Go's `strconv.ParseBool`).
fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

/// The same for no.
fn is_false(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}
