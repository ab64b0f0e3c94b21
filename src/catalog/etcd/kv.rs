//! Keys and values in etcd: one read, or written in a transaction that fails where the lock it hangs on isn't held.

use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse};

use crate::catalog::{AMENDED_AT_MOST, Amended, Changed};
use crate::supervisor::vocabulary::{KeyChange, Value};

use super::error::Error;
use super::layout::Layout;
use super::members::Members;

/// A key's value.
pub(super) async fn get(members: &Members, layout: &Layout, key: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = layout.key(key);
    let got = members.call("read a key", |mut client: Client| {
        let path = path.clone();
        async move { client.get(path, None).await }
    });
    Ok(got.await?.kvs().first().map(|found| found.value().to_vec()))
}

/// Changes a key, and where a lock is named, only while that is the one created as this.
pub(super) async fn change(
    members: &Members,
    layout: &Layout,
    key: &str,
    change: &KeyChange,
    lock: Option<(String, i64)>,
) -> Result<Changed, Error> {
    let path = layout.key(key);
    let created = |key: &str, revision| Compare::create_revision(key, CompareOp::Equal, revision);
    let held = lock.as_ref().map(|(lock, term)| created(lock, *term));
    let absent = matches!(change, KeyChange::Create(_)).then(|| created(&path, 0));
    let write = match change {
        KeyChange::Put(value) | KeyChange::Create(value) => TxnOp::put(path.as_str(), &*value.0, None),
        KeyChange::Delete => TxnOp::delete(path.as_str(), None),
    };
    let tries = AtomicUsize::new(0);
    let written = members.call("write a key", |mut client: Client| {
        tries.fetch_add(1, Ordering::Relaxed);
        let conditions: Vec<Compare> = held.iter().chain(&absent).cloned().collect();
        let reads: Vec<TxnOp> = lock.iter().map(|(lock, _)| TxnOp::get(lock.as_str(), None)).collect();
        let txn = Txn::new().when(conditions).and_then([write.clone()]).or_else(reads);
        async move { client.txn(txn).await }
    });
    let answer = written.await?;
    if answer.succeeded() {
        return Ok(Changed::Done);
    }
    match &lock {
        Some((_, term)) if first_created(&answer) != Some(*term) => Ok(Changed::Fenced),
        // It may have been this call's own first try, whose answer was lost.
        _ if tries.into_inner() > 1 => Err(Error::Doubtful { key: key.to_owned() }),
        _ => Ok(Changed::Exists),
    }
}

/// Writes a key by what stands there, while the lock is the one created as this.
pub(super) async fn amend(
    members: &Members,
    layout: &Layout,
    key: &str,
    (lock, term): (String, i64),
    next: impl Fn(Option<&[u8]>) -> Option<Value> + Sync,
) -> Result<Amended, Error> {
    let path = layout.key(key);
    for _ in 0..AMENDED_AT_MOST {
        let got = members.call_briefly("read a key", |mut client: Client| {
            let path = path.clone();
            async move { client.get(path, None).await }
        });
        let got = got.await?;
        let stands = got.kvs().first();
        let Some(value) = next(stands.map(KeyValue::value)) else { return Ok(Amended::Left) };
        let as_seen = [
            Compare::create_revision(lock.as_str(), CompareOp::Equal, term),
            Compare::mod_revision(path.as_str(), CompareOp::Equal, stands.map_or(0, KeyValue::mod_revision)),
        ];
        // Should it be repeated at another member, the second one finds what the first has written.
        let written = members.call_briefly("write a key", |mut client: Client| {
            let put = TxnOp::put(path.as_str(), &*value.0, None);
            let txn = Txn::new().when(as_seen.clone()).and_then([put]).or_else([TxnOp::get(lock.as_str(), None)]);
            async move { client.txn(txn).await }
        });
        let answer = written.await?;
        match answer.succeeded() {
            true => return Ok(Amended::Written),
            false if first_created(&answer) != Some(term) => return Ok(Amended::Fenced),
            false => {}
        }
    }
    Err(Error::Contended { key: key.to_owned() })
}

/// As which the first key that was read is created.
fn first_created(answer: &TxnResponse) -> Option<i64> {
    answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(got) => got.kvs().first().map(KeyValue::create_revision),
        _ => None,
    })
}
