//! A lease kept alive over a stream that stays open. An answer on it says by whom it is, which the client doesn't tell of
//! the first one: so only the first renewal takes a question more.

use etcd_client::{Client, LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::Mutex;

/// The stream of the lease that was kept alive last.
#[derive(Debug, Default)]
pub(super) struct Keeper(Mutex<Option<OpenStream>>);

#[derive(Debug)]
struct OpenStream {
    keeper: LeaseKeeper,
    answers: LeaseKeepAliveStream,
    /// Questions whose answers nobody has read: whoever waited for them gave up.
    unanswered: u32,
}

impl Keeper {
    /// Opens the stream of a lease ahead of its first renewal.
    pub(super) async fn open(&self, client: &mut Client, lease: i64) -> Result<(), etcd_client::Error> {
        // Another member is being asked.
        let Ok(mut stream) = self.0.try_lock() else { return Ok(()) };
        *stream = OpenStream::open(client, lease).await?;
        Ok(())
    }

    /// Keeps a lease alive; `None` when there is no such lease.
    pub(super) async fn keep_alive(
        &self,
        client: &mut Client,
        lease: i64,
    ) -> Result<Option<LeaseKeepAliveResponse>, etcd_client::Error> {
        // Another member is being asked by it, and is silent.
        let Ok(mut stream) = self.0.try_lock() else {
            return match OpenStream::open(client, lease).await? {
                Some(mut own) => own.ask().await,
                None => Ok(None),
            };
        };
        if let Some(open) = stream.as_mut().filter(|open| open.keeper.id() == lease)
            && let Ok(Some(answer)) = open.ask().await
        {
            return Ok(Some(answer));
        }
        *stream = None;
        match OpenStream::open(client, lease).await? {
            Some(open) => stream.insert(open).ask().await,
            None => Ok(None),
        }
    }
}

impl OpenStream {
    async fn open(client: &mut Client, lease: i64) -> Result<Option<OpenStream>, etcd_client::Error> {
        match client.lease_client().keep_alive(lease).await {
            Ok((keeper, answers)) => Ok(Some(OpenStream { keeper, answers, unanswered: 0 })),
            // There is no such lease.
            Err(etcd_client::Error::LeaseKeepAliveError(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The answer to this question, after those to earlier ones.
    async fn ask(&mut self) -> Result<Option<LeaseKeepAliveResponse>, etcd_client::Error> {
        self.keeper.keep_alive().await?;
        self.unanswered += 1;
        loop {
            let answer = self.answers.message().await?;
            self.unanswered -= 1;
            if self.unanswered == 0 || answer.is_none() {
                return Ok(answer);
            }
        }
    }
}
