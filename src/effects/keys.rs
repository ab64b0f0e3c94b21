//! A key of the catalog read or written, and what is said of it.

use crate::catalog::{Backend, Changed, Error, report};
use crate::supervisor::vocabulary::{
    Answer, Fence, KeyChange, KeyOperation, KeyRequest, Value, acting_key, acting_value,
};

/// Says beside the lock that this term acts, as long as it holds.
pub async fn tell_acting(backend: &Backend, fence: &Fence, id: &str) -> Result<Result<(), String>, Error> {
    let value = acting_value(id, fence.term).into_bytes();
    let put = KeyChange::Put(Value(value.into()));
    Ok(match backend.change(&acting_key(&fence.election), &put, Some(fence)).await? {
        Changed::Done => Ok(()),
        Changed::Fenced | Changed::Exists => Err("this container doesn't lead any more".to_owned()),
    })
}

/// Carries out what is asked for.
pub async fn carry_out(backend: &Backend, request: KeyRequest, fence: Option<Fence>) -> Answer {
    let KeyRequest { key, operation } = request;
    match operation {
        KeyOperation::Get => match backend.get(&key).await {
            Ok(Some(value)) => Answer::Found(Value(value.into())),
            Ok(None) => Answer::Unmet(format!("there is no key {key}")),
            Err(error) => Answer::Unavailable(report(&error)),
        },
        KeyOperation::Change(change) => match backend.change(&key, &change, fence.as_ref()).await {
            Ok(Changed::Done) => Answer::Done(match change {
                KeyChange::Put(_) | KeyChange::Create(_) => format!("{key} is set"),
                KeyChange::Delete => format!("{key} is removed"),
            }),
            Ok(Changed::Exists) => Answer::Unmet(format!("there is a key {key}")),
            Ok(Changed::Fenced) => Answer::Unmet("this container doesn't lead any more".to_owned()),
            Err(error) => Answer::Unavailable(report(&error)),
        },
    }
}
