//! Reads a range in pages, all of one revision: an answer must be no longer than a client takes (4 MiB), and etcd keeps
//! values of up to 1.5 MiB by default. Where it was told to keep longer ones (`--max-request-bytes`), one that fits into no
//! answer is passed over by its key.

use etcd_client::{Client, GetOptions, KeyValue};

use super::error::Error;
use super::members::{Members, Reached};

/// Keys in the first page; fewer when they are too long together.
const PAGE: i64 = 512;

/// A query's keys.
pub(super) struct Range {
    /// The key, or what all of them begin with.
    pub(super) start: String,
    /// All that begin so, not the one.
    pub(super) prefix: bool,
}

impl Range {
    /// Behind the last key of it; `None`: there is one key.
    fn end(&self) -> Option<Vec<u8>> {
        if !self.prefix {
            return None;
        }
        let mut end = self.start.clone().into_bytes();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return Some(end);
            }
        }
        // To the end of the store.
        Some(vec![0])
    }
}

/// One key of a range.
pub(super) enum Page<'a> {
    /// With its value.
    Pair(&'a KeyValue),
    /// Its value is longer than a client takes.
    TooLong(&'a [u8]),
}

/// Gives each key of a range; the revision they are of, and which member told.
pub(super) async fn read<'a>(
    members: &'a Members,
    range: &Range,
    mut each: impl FnMut(Page<'_>) -> Result<(), Error> + Send,
) -> Result<(i64, Reached<'a>), Error> {
    let end = range.end();
    let (mut start, mut revision) = (range.start.clone().into_bytes(), 0);
    let mut limit = if end.is_some() { PAGE } else { 1 };
    // The next one is longer than an answer, alone: its key is asked for without it.
    let mut key_alone = false;
    loop {
        let read = members.call_at("read what is followed", |mut client: Client| {
            let mut options = GetOptions::new().with_limit(limit).with_revision(revision);
            if let Some(end) = &end {
                options = options.with_range(end.clone());
            }
            if key_alone {
                options = options.with_keys_only();
            }
            let start = start.clone();
            async move { client.get(start, Some(options)).await }
        });
        let (got, at) = match read.await {
            Err(error) if error.is_too_long() && limit > 1 => {
                limit /= 2;
                continue;
            }
            Err(error) if error.is_too_long() && !key_alone => {
                key_alone = true;
                continue;
            }
            read => read?,
        };
        if revision == 0 {
            revision = got.header().map_or(0, |header| header.revision());
            // It may have been written between the two questions: of this revision, both say the same.
            if std::mem::take(&mut key_alone) {
                continue;
            }
        }
        for pair in got.kvs() {
            each(if key_alone { Page::TooLong(pair.key()) } else { Page::Pair(pair) })?;
        }
        // Behind one that is too long there may be another, and behind those that were long together short ones.
        limit = if std::mem::take(&mut key_alone) { 1 } else { (limit * 2).min(PAGE) };
        match got.kvs().last() {
            Some(last) if got.more() && end.is_some() => {
                start = last.key().to_vec();
                start.push(0);
            }
            _ => return Ok((revision, at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_before_the_first_key_that_does_not_begin_with_it() {
        let end = |start: &str| Range { start: start.to_owned(), prefix: true }.end();
        assert_eq!(end("app/"), Some(b"app0".to_vec()));
        assert_eq!(end("\u{10ffff}"), Some(b"\xf4\x8f\xbf\xc0".to_vec()));
        assert_eq!(end(""), Some(vec![0]));
        assert_eq!(Range { start: "app".to_owned(), prefix: false }.end(), None);
    }
}
