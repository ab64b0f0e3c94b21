//! How far each candidate is: measured for the term that holds the lock, published, and counted by its winner.
//!
//! A rank counts for one term, and only if it was measured when whoever led before could act no more: replicas receive
//! from a dying leader to its last moment. Who holds the lock and knows too little isn't promoted; it keeps the lock and
//! waits, so that nobody flaps, and hands it to whoever is further ahead.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::supervisor::vocabulary::{Notice, Time, earliest};

use super::demotion::DemotionReason;
use super::event::{ElectionEffect, Id, RequestId, StoreRequest};
use super::record::{Answer, PeerRank, Rank, Term};
use super::rules::Rule;
use super::tenure::{Tenure, TenureStage};
use super::{CandidateState, Election, InFlight};

/// Between two measurements while nobody is known to act: what a person repairs is noticed.
const MEASURE_AGAIN: Duration = Duration::from_secs(5);
/// Between two tries to publish.
const PUBLISH_AGAIN: Duration = Duration::from_millis(500);
/// How long a living candidate takes at most to say that it measures: a watch tells it of the winner in milliseconds.
const HEARD_WITHIN: Duration = Duration::from_millis(300);
/// A winner that still waits reads the ranks less often from then on.
const HASTE: Duration = Duration::from_secs(1);
/// Names that are remembered, to say who is missing.
const MOST_NAMES: usize = 64;
/// Ranks that are kept of all that were read: more candidates than an election has. Whoever writes more into the store can
/// just as well write one that is higher than all.
const MOST_PEERS: usize = 128;
/// Candidates that a notice names.
const MOST_NAMED: usize = 16;

/// What ranks are to an election.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ranking {
    /// How long a winner waits for living peers.
    pub within: Duration,
    /// How many ranks it must know, its own included; `None`: as many as there are in that time.
    pub quorum: Option<usize>,
    /// Between two reads of the ranks, at first.
    pub every: Duration,
    /// What a winner waits for its predecessor at most.
    pub longest_hold_off: Duration,
}

/// What a candidate knows of ranks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Ranks {
    pub(super) wanted: Option<Wanted>,
    /// Measured for that term.
    pub(super) own: Option<Own>,
    pub(super) measuring: Option<(RequestId, Term)>,
    /// As the store has it.
    pub(super) published: Option<Published>,
    pub(super) publishing: Option<(InFlight, Published)>,
    /// Not before this.
    pub(super) publish_at: Time,
    /// When there is something to publish, or to give up, as of the last look.
    pub(super) publish_due: Option<Time>,
    /// This term is known to act: nobody counts any more.
    acts: Option<Term>,
    /// As last read for the tenure that counts them.
    pub(super) peers: Option<Vec<PeerRank>>,
    /// Whoever lives has had the time to say so.
    heard: bool,
    names: BTreeSet<Id>,
    pub(super) error: Option<String>,
}

/// For whom ranks are measured.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted {
    pub(super) term: Term,
    /// Before that, who led may still act.
    pub(super) from: Time,
}

/// Our own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Own {
    answer: Answer,
    pub(super) again_at: Option<Time>,
}

/// What the others are told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Published {
    term: Term,
    answer: Answer,
    stands: bool,
}

/// A winner that isn't promoted, as it knows too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Whose ranks are known, its own included.
    pub known: Vec<Id>,
    /// How many are needed.
    pub quorum: Option<usize>,
    /// Candidates known by name whose rank isn't.
    pub missing: Vec<Id>,
    /// One that is further ahead and can't lead now.
    pub ahead: Option<Id>,
    /// Its own data must never lead.
    pub never: bool,
    /// Its own rank is being measured: whether its data may lead isn't known yet.
    pub measuring: bool,
    /// Why its own rank isn't among those known, if it isn't.
    pub own_missing: Option<String>,
    /// Since when.
    pub since: Time,
}

/// What follows from the ranks that are known.
enum Verdict {
    Wait,
    Lead,
    Yield(Id),
}

impl Election {
    /// Ranks are wanted for whoever holds the lock, from when its predecessor can't act any more.
    pub(super) fn want_ranks(&mut self, now: Time) {
        let Some(ranking) = &self.settings.rank else { return };
        let (term, from) = match (&self.state, &self.view) {
            (CandidateState::Holding(tenure), _) => (tenure.term, tenure.act_from),
            (_, Some(view)) => match view.holder() {
                Some(holder) if holder.id != self.settings.id => {
                    let left = holder.owes.unwrap_or(Duration::MAX).min(ranking.longest_hold_off);
                    // The winner's clock may be slow, and ours fast.
                    (holder.term, now + left + left / 50)
                }
                Some(_) | None => return self.ranks.wanted = None,
            },
            (_, None) => return self.ranks.wanted = None,
        };
        let from = if self.rules.hold(Rule::RankAfterHoldOff) { from } else { now };
        match &mut self.ranks.wanted {
            Some(wanted) if wanted.term == term => wanted.from = wanted.from.min(from),
            wanted => {
                *wanted = Some(Wanted { term, from });
                (self.ranks.own, self.ranks.peers, self.ranks.publish_at) = (None, None, now);
            }
        }
    }

    /// Nobody is told our rank any more.
    pub(super) fn want_no_ranks(&mut self) {
        self.ranks.wanted = None;
    }

    /// Whoever holds the lock for this term acts.
    pub(super) fn acts(&mut self, term: Term) {
        self.ranks.acts = Some(term);
    }

    /// Terms go back: none of those that acted has yet.
    pub(super) fn nobody_acts(&mut self) {
        self.ranks.acts = None;
    }

    /// For which term ranks are still of use.
    fn ranks_wanted(&self) -> Option<&Wanted> {
        let counts = match &self.state {
            CandidateState::Follower { .. } | CandidateState::Campaigning(_) => true,
            CandidateState::Holding(tenure) => {
                matches!(tenure.stage, TenureStage::HoldingOff | TenureStage::Ranking { .. })
            }
        };
        self.ranks.wanted.as_ref().filter(|wanted| counts && self.ranks.acts != Some(wanted.term))
    }

    /// Measures and publishes what is due.
    pub(super) fn rank_tick(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let Some(wanted) = self.ranks_wanted().cloned() else { return };
        let due = self.ranks.own.as_ref().map_or(Some(wanted.from), |own| own.again_at);
        let measures = self.ranks.measuring.is_some_and(|(_, term)| term == wanted.term);
        if !measures && due.is_some_and(|at| at <= now) {
            let ask = self.ask(now).ask;
            self.ranks.measuring = Some((ask, wanted.term));
            out.push(ElectionEffect::MeasureRank { ask });
        }
        self.publish(now, wanted.term, out);
    }

    /// Tells the others, one request after another: of two, the older could come last.
    fn publish(&mut self, now: Time, term: Term, out: &mut Vec<ElectionEffect>) {
        if let Some((asked, _)) = self.ranks.publishing
            && self.overdue_at(asked) <= now
        {
            (self.ranks.publishing, self.ranks.publish_at) = (None, now + PUBLISH_AGAIN);
        }
        // Whoever counts knows its own.
        if matches!(self.state, CandidateState::Holding(_)) {
            self.ranks.publish_due = None;
            return;
        }
        let stands = self.eligibility.from(now, &self.settings) == Some(now);
        let answer = self.ranks.own.as_ref().map_or(Answer::Measuring, |own| own.answer.clone());
        let new = Published { term, answer, stands };
        let told = self.ranks.published.as_ref() == Some(&new);
        if self.ranks.publishing.is_none() && self.ranks.publish_at <= now && !told {
            let asked = self.ask(now);
            let (ask, answer) = (asked.ask, new.answer.clone());
            out.push(ElectionEffect::Store(StoreRequest::PublishRank { ask, term, answer, stands }));
            self.ranks.publishing = Some((asked, new));
        }
        let rests = !stands && self.eligibility.stands(&self.settings);
        self.ranks.publish_due = match &self.ranks.publishing {
            Some((asked, _)) => Some(self.overdue_at(*asked)),
            None if !told => Some(self.ranks.publish_at),
            None => rests.then_some(self.eligibility.rests_until()),
        };
    }

    pub(super) fn published(&mut self, now: Time, ask: RequestId, result: Result<(), String>) {
        let Some((_, published)) = self.ranks.publishing.take_if(|(asked, _)| asked.ask == ask) else { return };
        match result {
            Ok(()) => self.ranks.published = Some(published),
            Err(_) => self.ranks.publish_at = now + PUBLISH_AGAIN,
        }
    }

    pub(super) fn rank_deadline(&self) -> Option<Time> {
        let wanted = self.ranks_wanted()?;
        let measures = self.ranks.measuring.is_some_and(|(_, term)| term == wanted.term);
        let measure = self.ranks.own.as_ref().map_or(Some(wanted.from), |own| own.again_at).filter(|_| !measures);
        earliest(measure, self.ranks.publish_due)
    }

    pub(super) fn measured(
        &mut self,
        now: Time,
        ask: RequestId,
        result: Result<Rank, String>,
        out: &mut Vec<ElectionEffect>,
    ) {
        let Some((_, term)) = self.ranks.measuring.take_if(|(asked, _)| *asked == ask) else { return };
        if self.ranks.wanted.as_ref().is_none_or(|wanted| wanted.term != term) {
            return;
        }
        let answer = match result {
            Ok(rank) => {
                self.ranks.error = None;
                Answer::Known(rank)
            }
            Err(error) => {
                // Said once, however often it is tried.
                if self.ranks.error.as_ref() != Some(&error) {
                    let what = "measuring the rank".to_owned();
                    out.push(ElectionEffect::Say(Notice::ElectionFailed { what, error: error.clone() }));
                }
                self.ranks.error = Some(error);
                Answer::Failed
            }
        };
        let again = self.settings.rank.as_ref().is_some_and(|ranking| ranking.quorum.is_some());
        self.ranks.own = Some(Own { answer, again_at: again.then_some(now + MEASURE_AGAIN) });
        if again {
            // What was published before may be forgotten by its time, however long a winner waits.
            self.ranks.published = None;
        }
    }

    /// The peers' ranks.
    pub(super) fn ranked(
        &mut self,
        now: Time,
        ask: RequestId,
        result: Result<Vec<PeerRank>, String>,
        out: &mut Vec<ElectionEffect>,
    ) {
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        let TenureStage::Ranking { since, read_at, asked, .. } = &mut tenure.stage else { return };
        if asked.take_if(|asked| asked.ask == ask).is_none() {
            return;
        }
        let every = self.settings.rank.as_ref().map_or(HASTE, |ranking| ranking.every);
        *read_at = now + if now.since(*since) < HASTE { every } else { HASTE.max(every) };
        match result {
            Ok(mut peers) => {
                let quorum = self.settings.rank.as_ref().and_then(|ranking| ranking.quorum);
                keep_what_counts(&mut peers, tenure.term, quorum.unwrap_or(0).max(MOST_PEERS));
                self.trouble.reads();
                let others = peers.iter().map(|peer| &peer.id).filter(|id| **id != self.settings.id);
                self.ranks.names.extend(others.cloned());
                while self.ranks.names.len() > MOST_NAMES {
                    self.ranks.names.pop_first();
                }
                self.ranks.peers = Some(peers);
            }
            Err(error) => self.cant_read("reading the ranks", error, out),
        }
    }

    /// A winner counts, and leads, yields or waits.
    pub(super) fn count_ranks(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let CandidateState::Holding(tenure) = &self.state else { return };
        let TenureStage::Ranking { since, said, .. } = &tenure.stage else { return };
        let (since, said) = (*since, *said);
        let verdict = self.verdict(now, tenure, since);
        self.ranks.heard = since + HEARD_WITHIN <= now;
        let late = self.settings.rank.as_ref().is_some_and(|ranking| since + ranking.within <= now);
        let waiting = self.waits_for_ranks();
        let CandidateState::Holding(tenure) = &mut self.state else { return };
        match verdict {
            Verdict::Lead => {
                if let Some(waiting) = waiting.filter(|_| said) {
                    out.push(ElectionEffect::Say(Notice::RanksKnown { known: names(&waiting.known) }));
                }
                tenure.stage = TenureStage::Ready;
            }
            Verdict::Yield(peer) => {
                out.push(ElectionEffect::Say(Notice::Demoting { why: DemotionReason::Outranked(peer.clone()) }));
                tenure.give_back(now, Some(peer));
                self.eligibility.stepped_down(now);
            }
            Verdict::Wait => {
                if let (Some(waiting), TenureStage::Ranking { said: said @ false, .. }) =
                    (waiting.filter(|_| late), &mut tenure.stage)
                {
                    *said = true;
                    out.push(ElectionEffect::Say(Notice::RanksMissing {
                        known: names(&waiting.known),
                        quorum: waiting.quorum,
                        missing: names(&waiting.missing),
                        ahead: waiting.ahead.map(|id| id.to_string()),
                        never: waiting.never,
                    }));
                }
            }
        }
    }

    /// When a winner that waits counts again, whoever answers.
    pub(super) fn count_deadline(&self, since: Time, said: bool) -> Option<Time> {
        let ranking = self.settings.rank.as_ref()?;
        let late = (!said).then_some(since + ranking.within);
        earliest(late, (ranking.quorum.is_none() && !self.ranks.heard).then_some(since + HEARD_WITHIN))
    }

    fn verdict(&self, now: Time, tenure: &Tenure, since: Time) -> Verdict {
        let Some(ranking) = &self.settings.rank else { return Verdict::Lead };
        let peers: Vec<&PeerRank> = self.peers_of(tenure.term).collect();
        let heard = ranking.quorum.is_some() || since + HEARD_WITHIN <= now;
        let measured = self.own_answer(tenure.term).is_some();
        // Who is named is as good, unless it must know what the others have, or its own data must never lead.
        if tenure.handed_to_us && ranking.quorum.is_none() {
            match self.own_answer(tenure.term) {
                Some(Answer::Known(Rank::Never)) => {}
                Some(_) => return Verdict::Lead,
                None => return Verdict::Wait,
            }
        }
        let answered =
            measured && self.ranks.peers.is_some() && peers.iter().all(|peer| peer.answer != Answer::Measuring);
        if !(heard && answered) && now < since + ranking.within {
            return Verdict::Wait;
        }
        let own = match self.own_answer(tenure.term) {
            Some(Answer::Known(rank)) => Some(rank),
            Some(Answer::Measuring | Answer::Failed) | None => None,
        };
        // Data that must never lead are behind all others.
        let ours = own.filter(|rank| **rank != Rank::Never);
        let known = || peers.iter().filter_map(|peer| peer.answer.counts().map(|rank| (rank, *peer)));
        let higher = || known().filter(|(rank, _)| ours.is_none_or(|ours| *rank > ours));
        let best = higher().map(|(rank, _)| rank).max();
        let next = match ranking.quorum {
            // Whoever is furthest has what was acknowledged last; who is only further may not.
            Some(_) => higher().find(|(rank, peer)| Some(*rank) == best && peer.stands),
            None => higher().filter(|(_, peer)| peer.stands).max_by_key(|(rank, _)| *rank),
        };
        let enough = match ranking.quorum {
            Some(quorum) if self.rules.hold(Rule::KnowEnough) => {
                best.is_none() && ours.is_some() && known().count() + 1 >= quorum
            }
            Some(_) | None => true,
        };
        match next {
            Some((_, next)) => Verdict::Yield(next.id.clone()),
            // A command that fails has no rank to tell; one that can't be begun yet may have to say "never".
            None if enough && measured && own != Some(&Rank::Never) => Verdict::Lead,
            None => Verdict::Wait,
        }
    }

    /// Of other candidates, for this term.
    fn peers_of(&self, term: Term) -> impl Iterator<Item = &PeerRank> {
        let this_term = self.rules.hold(Rule::RanksOfThisTerm);
        let peers = self.ranks.peers.iter().flatten();
        peers.filter(move |peer| (peer.term == term || !this_term) && peer.id != self.settings.id)
    }

    fn own_answer(&self, term: Term) -> Option<&Answer> {
        let own = self.ranks.wanted.as_ref().filter(|wanted| wanted.term == term).and(self.ranks.own.as_ref());
        own.map(|own| &own.answer)
    }

    /// What keeps a winner from being promoted, if ranks do.
    pub fn waits_for_ranks(&self) -> Option<Waiting> {
        let CandidateState::Holding(tenure) = &self.state else { return None };
        let TenureStage::Ranking { since, .. } = &tenure.stage else { return None };
        let quorum = self.settings.rank.as_ref().and_then(|ranking| ranking.quorum);
        let own = self.own_answer(tenure.term);
        let ours = own.and_then(Answer::counts);
        let counted = || self.peers_of(tenure.term).filter_map(|peer| peer.answer.counts().map(|rank| (rank, peer)));
        let mut known: Vec<Id> = counted().map(|(_, peer)| peer.id.clone()).collect();
        if ours.is_some() {
            known.insert(0, self.settings.id.clone());
        }
        let led = self.former.iter().chain(&self.ranks.names).chain([&self.settings.id]);
        let missing: BTreeSet<Id> = led.filter(|id| !known.contains(id)).cloned().collect();
        let ahead = counted().filter(|(rank, _)| ours.is_none_or(|ours| *rank > ours)).max_by_key(|(rank, _)| *rank);
        Some(Waiting {
            quorum,
            missing: missing.into_iter().collect(),
            ahead: ahead.map(|(_, peer)| peer.id.clone()),
            never: own == Some(&Answer::Known(Rank::Never)),
            measuring: matches!(own, Some(Answer::Measuring) | None),
            own_missing: match own {
                Some(Answer::Known(Rank::Never)) => Some("by its rank its data must never lead".to_owned()),
                Some(Answer::Known(_)) => None,
                Some(Answer::Failed) => Some(self.ranks.error.clone().unwrap_or_else(|| "it failed".to_owned())),
                Some(Answer::Measuring) | None => Some("it is being measured".to_owned()),
            },
            since: *since,
            known,
        })
    }

    /// A person says that the winner shall lead, whatever the others may have. The store hears of it with a renewal at once;
    /// nobody waits for that, as nothing hangs on it but what people find afterwards.
    pub(super) fn accept_loss(&mut self, now: Time, out: &mut Vec<ElectionEffect>) {
        let Some(waiting) = self.waits_for_ranks().filter(|waiting| !(waiting.never || waiting.measuring)) else {
            return;
        };
        if let CandidateState::Holding(tenure) = &mut self.state {
            out.push(ElectionEffect::Say(Notice::AcceptsLoss { term: tenure.term, known: names(&waiting.known) }));
            out.push(ElectionEffect::Store(StoreRequest::AcceptLoss { session: tenure.session }));
            tenure.accepts_loss = true;
            tenure.renew_at = now;
            tenure.stage = TenureStage::Ready;
        }
    }
}

/// Of more than are kept the highest of this term stay, for they decide.
fn keep_what_counts(peers: &mut Vec<PeerRank>, term: Term, most: usize) {
    if peers.len() > most {
        peers.sort_by_cached_key(|peer| {
            let counts = peer.answer.counts().cloned().filter(|_| peer.term == term);
            Reverse((counts, peer.term == term, peer.stands))
        });
        peers.truncate(most);
    }
}

fn names(ids: &[Id]) -> Vec<String> {
    let more = ids.len().saturating_sub(MOST_NAMED);
    let named = ids.iter().take(MOST_NAMED).map(ToString::to_string);
    named.chain((more > 0).then(|| format!("{more} more"))).collect()
}
