//! A key of the catalog read or written, and what is said of it.

use crate::catalog::{Backend, Changed, Error, report};
use crate::supervisor::vocabulary::{
    Answer, ElectionPast, Fence, KeyChange, KeyOperation, KeyRequest, LeaderMark, Value, acting_key, has_anybody_led,
};

/// Whether anybody has acted in the election. Who is to be the first must be able to say so: what that takes is tried.
pub async fn ask_who_acted(backend: &Backend, fence: &Fence, id: &str) -> Result<ElectionPast, Error> {
    let past = async {
        let value = backend.get(&acting_key(&fence.election)).await?;
        if has_anybody_led(value.as_deref()) {
            return Ok(ElectionPast::Led);
        }
        Ok(match tell_acting(backend, fence, id, LeaderMark::Prepares).await? {
            Ok(()) => ElectionPast::Unled,
            // It isn't this term's turn to know.
            Err(_) => ElectionPast::Led,
        })
    };
    match past.await {
        Err(error) if Error::is_denial(&error) => Ok(ElectionPast::Denied),
        past => past,
    }
}

/// Says beside the lock how far this term is, as long as it holds.
pub async fn tell_acting(
    backend: &Backend,
    fence: &Fence,
    id: &str,
    mark: LeaderMark,
) -> Result<Result<(), String>, Error> {
    let value = mark.value(id, fence.term).into_bytes();
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
