//! A key of the catalog read or written, and what is said of it.

use crate::catalog::{Backend, Changed, report};
use crate::supervisor::vocabulary::{Answer, Fence, KeyChange, KeyOperation, KeyRequest, Value};

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
