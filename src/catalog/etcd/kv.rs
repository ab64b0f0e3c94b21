//! Keys and values in etcd: one read, or written in a transaction that fails where the lock it hangs on isn't held.

use std::sync::atomic::{AtomicUsize, Ordering};

use etcd_client::{Client, Compare, CompareOp, KeyValue, Txn, TxnOp, TxnOpResponse};

use crate::catalog::Changed;
use crate::supervisor::vocabulary::KeyChange;

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
    let shown = answer.op_responses().into_iter().find_map(|response| match response {
        TxnOpResponse::Get(got) => got.kvs().first().map(KeyValue::create_revision),
        _ => None,
    });
    match &lock {
        Some((_, term)) if shown != Some(*term) => Ok(Changed::Fenced),
        // It may have been this call's own first try, whose answer was lost.
        _ if tries.into_inner() > 1 => Err(Error::Doubtful { key: key.to_owned() }),
        _ => Ok(Changed::Exists),
    }
}
