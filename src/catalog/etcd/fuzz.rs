//! What the fuzz targets throw at what is followed in etcd: keys that come, change and go.

use crate::catalog::border::LeftOut;
use crate::catalog::border::assert_within;
use crate::config::Query;
use crate::supervisor::vocabulary::Observation;

use super::found::Found;
use super::layout::Layout;

/// The first byte says what is followed; then each line is a key that goes, or a key, a tab and its value.
pub(crate) fn keys(data: &[u8]) {
    let Some((kind, lines)) = data.split_first() else { return };
    let query = match kind % 3 {
        0 => Query::Service { name: "web".to_owned(), tag: (*kind > 127).then(|| "a".to_owned()), datacenter: None },
        1 => Query::Key { key: "app/a".to_owned() },
        _ => Query::KeyPrefix { prefix: "app/".to_owned() },
    };
    let layout = Layout::new("p");
    let (mut found, mut left_out) = (Found::of(&query, &layout), LeftOut::unannounced());
    for line in lines.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b'\t');
        match (parts.next().unwrap_or_default(), parts.next()) {
            (key, None) => found.gone(key),
            (key, Some(value)) => drop(found.put(key, value, &mut left_out)),
        }
    }
    let _ = found.observation(false);
    match found.observation(true) {
        Ok(Observation::Instances(instances)) => {
            instances.iter().for_each(assert_within);
            assert!(instances.is_sorted());
        }
        // Below one prefix their order is the keys' own; etcd tells of no others.
        Ok(Observation::Keys(keys)) => {
            let asked_for = lines.split(|byte| *byte == b'\n').all(|line| line.starts_with(b"p/keys/"));
            assert!(!asked_for || keys.is_sorted());
        }
        Ok(Observation::Key(_)) | Err(_) => {}
    }
}
