//! A key of the catalog read or written, and what is said of it.

use crate::catalog::{Amended, Backend, Changed, Error, report};
use crate::supervisor::vocabulary::{
    Answer, ElectionPast, Fence, KeyChange, KeyOperation, KeyRequest, LeaderMark, Value, acting_key, has_anybody_led,
};

/// Whether anybody has acted in the election. Who is to be the first must be able to say so: what that takes is tried.
pub async fn ask_who_acted(backend: &Backend, fence: &Fence, id: &str) -> Result<ElectionPast, Error> {
    match mark(backend, fence, id, LeaderMark::Prepares).await {
        Ok(Amended::Written) => Ok(ElectionPast::Unled),
        // Somebody has; or it isn't this term's turn to know.
        Ok(Amended::Left | Amended::Fenced) => Ok(ElectionPast::Led),
        Err(error) if Error::is_denial(&error) => Ok(ElectionPast::Denied),
        Err(error) => Err(error),
    }
}

/// Whether anybody has ever begun to act in the election. Who may not know is never called the first either.
pub async fn ask_whether_led(backend: &Backend, election: &str) -> Result<bool, Error> {
    match backend.get(&acting_key(election)).await {
        Ok(value) => Ok(has_anybody_led(value.as_deref())),
        Err(error) if Error::is_denial(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Says beside the lock how far this term is, as long as it holds.
pub async fn tell_acting(
    backend: &Backend,
    fence: &Fence,
    id: &str,
    mark: LeaderMark,
) -> Result<Result<(), String>, Error> {
    Ok(match self::mark(backend, fence, id, mark).await? {
        // What is left says as much.
        Amended::Written | Amended::Left => Ok(()),
        Amended::Fenced => Err("this container doesn't lead any more".to_owned()),
    })
}

async fn mark(backend: &Backend, fence: &Fence, id: &str, mark: LeaderMark) -> Result<Amended, Error> {
    let (id, term) = (id.to_owned(), fence.term);
    let next = move |stands: Option<&[u8]>| mark.over(&id, term, stands).map(|value| Value(value.into_bytes().into()));
    backend.amend(&acting_key(&fence.election), fence, next).await
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
