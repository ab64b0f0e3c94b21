//! Several ways to one end, where the first may be a dead one that nobody says is dead: each way is begun when the one
//! before has failed or had its lead, and all that were begun go on until one gets there. What a way is, it doesn't know.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::sleep;

/// What the first way to succeed brings; the last failure when none does, `None` when there was no way.
pub async fn race<T, E, F>(ways: Vec<F>, lead: Duration) -> Result<T, Option<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut ways = ways.into_iter();
    let mut begun: Vec<Pin<Box<F>>> = Vec::new();
    let mut failure = None;
    loop {
        let next = ways.next();
        let leads = next.is_some();
        begun.extend(next.map(Box::pin));
        if begun.is_empty() {
            return Err(failure);
        }
        tokio::select! {
            ended = first_of(&mut begun) => match ended {
                Ok(brought) => return Ok(brought),
                Err(error) => failure = Some(error),
            },
            () = sleep(lead), if leads => {}
        }
    }
}

async fn first_of<F: Future>(begun: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|context| {
        for index in 0..begun.len() {
            if let Poll::Ready(ended) = begun[index].as_mut().poll(context) {
                drop(begun.remove(index));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    const LEAD: Duration = Duration::from_millis(200);

    /// Ways that end after so many milliseconds, well or not; which one won, and when.
    async fn winner(ways: &[(u64, bool)]) -> (Result<usize, Option<usize>>, u64) {
        let begun = Instant::now();
        let ways = ways.iter().enumerate().map(|(index, (after, well))| async move {
            sleep(Duration::from_millis(*after)).await;
            if *well { Ok(index) } else { Err(index) }
        });
        let won = race(ways.collect(), LEAD).await;
        (won, begun.elapsed().as_millis().try_into().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_fails_hands_over_at_once_and_a_silent_one_after_its_lead() {
        assert_eq!(winner(&[(10, true), (0, true)]).await, (Ok(0), 10));
        assert_eq!(winner(&[(10, false), (20, false), (30, true)]).await, (Ok(2), 60));
        assert_eq!(winner(&[(60_000, true), (60_000, true), (50, true)]).await, (Ok(2), 450));
        // The first is late, not lost.
        assert_eq!(winner(&[(300, true), (60_000, true)]).await, (Ok(0), 300));
        assert_eq!(winner(&[(300, true), (10, false)]).await, (Ok(0), 300));
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_way_leads_the_last_failure_tells() {
        assert_eq!(winner(&[(300, false), (10, false)]).await, (Err(Some(0)), 300));
        assert_eq!(winner(&[]).await, (Err(None), 0));
    }
}
