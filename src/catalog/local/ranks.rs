//! How far each candidate of an election is: a file that its candidate keeps locked as long as it lives, by the rules of
//! [`entries`], so that nobody waits for one that is gone, and whoever reads removes what such left.

use std::fs::File;
use std::sync::PoisonError;

use crate::catalog::election::CandidateSettings;
use crate::catalog::election::record::RankRecord;
use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::PeerRank;

use super::budget::ScanBudget;
use super::entries::{self, Liveness};
use super::files;
use super::name::{escape, of_election, unescape};
use super::{Error, Local};

const RANKS: &str = "ranks";
/// No agent's is half as long.
const LONGEST: u64 = 4096;

/// A candidate's own, while it has one.
pub(super) type Published = Option<File>;

impl Local {
    /// See [`LockClient::publish_rank`](crate::catalog::election::LockClient::publish_rank).
    pub(in crate::catalog) async fn publish_rank(
        &self,
        candidate: &CandidateSettings,
        rank: &RankRecord,
    ) -> Result<(), Error> {
        let root = self.root.open_to_write().await?;
        let ranks = root.make_election(&of_election(&candidate.name)?)?.make(RANKS)?;
        let name = escape("candidate", &candidate.id)?;
        if let Liveness::Dead(former) = entries::look(&ranks, &name)? {
            ranks.remove_dead(&name, former)?;
        }
        let scratch = root.scratch()?;
        let staged = scratch.stage(rank.json().as_bytes(), files::held())?;
        let published = scratch.put_over(staged, &ranks, &name)?;
        // One assignment: a panic can't have left it half done.
        *self.rank.lock().unwrap_or_else(PoisonError::into_inner) = Some(published);
        Ok(())
    }

    /// See [`LockClient::ranks`](crate::catalog::election::LockClient::ranks).
    pub async fn ranks(&self, election: &str) -> Result<Vec<PeerRank>, Error> {
        let root = self.root.open_to_write().await?;
        let Some(election) = root.election(&of_election(election)?)? else { return Ok(Vec::new()) };
        let Some(ranks) = election.sub(RANKS)? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        let mut budget = ScanBudget::default();
        for name in ranks.names()? {
            budget.next().await;
            let look = match entries::look(&ranks, &name) {
                // What is nobody's to read but its owner's costs itself only; who is missed is named as such.
                Err(error) if error.is_read_only() => {
                    tracing::debug!(
                        event = "catalog.left_out",
                        "a rank is left out: {}",
                        crate::catalog::report(&error)
                    );
                    continue;
                }
                look => look?,
            };
            match look {
                Liveness::None | Liveness::Leased => {}
                Liveness::Dead(left) => drop(ranks.remove_dead(&name, left)?),
                Liveness::Alive(open) => {
                    let rank = match files::up_to(LONGEST, &open, ranks.path_of(&name)) {
                        Err(Error::TooMuch { .. }) => None,
                        text => RankRecord::read(&text?),
                    };
                    if let (Some(id), Some(rank)) = (unescape(&name), rank) {
                        found.push(rank.of(Id::from(id)));
                    }
                }
            }
        }
        Ok(found)
    }
}
