//! Judges the words a service is registered with by the rules of the catalog that takes them: what it would refuse at
//! each heartbeat, and what others would leave out.

use super::Validator;
use crate::config::tree::Place;
use crate::config::words::{self, consul};
use crate::config::{Backend, Service};

pub(super) fn services(services: &[Service], place: Place<'_>, backend: &Backend, validator: &mut Validator<'_>) {
    for (index, service) in services.iter().enumerate() {
        of_service(service, place.index(index), backend, validator);
    }
}

/// The same of one.
pub(super) fn of_service(service: &Service, at: Place<'_>, backend: &Backend, validator: &mut Validator<'_>) {
    for_all(service, at, validator);
    if let Backend::Consul(_) = backend {
        for_consul(service, at, validator);
    }
}

fn for_all(service: &Service, at: Place<'_>, validator: &mut Validator<'_>) {
    const PLAIN: &str = "control characters and line ends are for nobody who reads a catalog; leave them out";
    for (index, tag) in service.tags.iter().enumerate() {
        if !words::is_printable(tag) {
            let message = format!("tag `{}` has characters that can't be printed", tag.escape_debug());
            validator.error(at.key("tags").index(index).span(), message, PLAIN);
        }
    }
    for (key, value) in &service.meta {
        if !words::is_printable(key) {
            let message = format!("`{}` has characters that can't be printed", key.escape_debug());
            validator.error(at.key("meta").key(key).key_span(), message, PLAIN);
        }
        if value.contains('\0') {
            validator.error(at.key("meta").key(key).span(), format!("`{key}` has a NUL in it"), "leave it out");
        }
    }
    let meta = service.meta.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    if words::said(service.tags.iter().map(String::as_str), meta) > words::MOST_SAID {
        validator.error(
            at.key_span(),
            format!("`tags` and `meta` are longer than {} KiB together", words::MOST_SAID / 1024),
            "others would leave the service out; a key of the catalog's holds more",
        );
    }
}

fn for_consul(service: &Service, at: Place<'_>, validator: &mut Validator<'_>) {
    let meta = at.key("meta");
    if service.meta.len() > consul::MOST_PAIRS {
        validator.error(
            meta.key_span(),
            format!("`meta` has {} pairs, and Consul takes {}", service.meta.len(), consul::MOST_PAIRS),
            "it would refuse the service; a key of the catalog's holds more",
        );
    }
    for (key, value) in &service.meta {
        let pair = meta.key(key);
        let wrong = if !consul::is_key(key) {
            Some("has characters that Consul refuses in `meta`: it takes letters, digits, `-` and `_`".to_owned())
        } else if key.len() > consul::LONGEST_KEY {
            Some(format!("is longer than the {} characters that Consul takes", consul::LONGEST_KEY))
        } else if key.starts_with(consul::RESERVED) {
            Some(format!("begins with `{}`, which Consul keeps for itself", consul::RESERVED))
        } else {
            None
        };
        if let Some(wrong) = wrong {
            let shown: String = key.chars().take(40).collect();
            validator.error(pair.key_span(), format!("`{}` {wrong}", shown.escape_debug()), "use another name");
        }
        if value.len() > consul::LONGEST_VALUE {
            validator.error(
                pair.span(),
                format!("this is {} bytes, and Consul takes {} in `meta`", value.len(), consul::LONGEST_VALUE),
                "it would refuse the service; a key of the catalog's holds more",
            );
        }
    }
    if !service.name.is_empty() && !consul::is_dns_label(&service.name) {
        validator.warn(
            at.key("name").span(),
            format!("Consul's DNS doesn't answer for `{}`", service.name),
            "a name there has letters, digits and `-`, at most 63; whoever asks by HTTP finds it",
        );
    }
}
