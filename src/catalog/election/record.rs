//! What stands in an election's keys, as JSON, the same on every store: the leader's record in the lock, and `last`.
//! Spans are in milliseconds, rounded up: a successor may wait longer than it must, never shorter. A term that isn't
//! written is the key's own: as which the store wrote it.

use std::sync::Arc;
use std::time::Duration;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::supervisor::machines::election::event::Id;
use crate::supervisor::machines::election::record::{
    Answer, Guarantee, Holder, Last, PeerRank, Rank, SessionId, Term, UNKNOWN, Witness,
};

use super::CandidateSettings;
use crate::catalog::border;

/// What one who can't be asked may have been promised: as much as Consul promises at most.
const UNKNOWN_PROMISE: Duration = Duration::from_secs(60);

/// Nobody's kill margin is longer.
const LONGEST_LINGER: Duration = Duration::from_secs(3600);

/// A greater term is nobody's, for none comes so far by counting: with ten thousand a second it takes 28,000 years.
pub(in crate::catalog) const GREATEST_TERM: u64 = 1 << 53;

/// A term that the store can't have given yet isn't one.
fn term(written: Option<u64>, own: Term) -> Term {
    match (written, own) {
        (None, own) => own,
        (Some(written), Term(0)) => Term(written),
        (Some(written), own) => Term(written).min(own),
    }
}

/// What stands in the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::catalog) struct Leader {
    /// The candidate.
    pub(in crate::catalog) id: Id,
    /// By which session.
    #[serde(with = "uuid")]
    pub(in crate::catalog) session: SessionId,
    /// Where it can be reached, `host:port`.
    #[serde(default)]
    pub(in crate::catalog) address: Option<Id>,
    /// For which term, where the key's own version doesn't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::catalog) term: Option<u64>,
    /// How long after it was won one who led before may still act; without it, nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owed_ms: Option<u64>,
    /// By what its end is known on its own host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::catalog) witness: Option<Witness>,
}

impl Leader {
    /// A candidate's, that holds the lock by this session.
    pub(in crate::catalog) fn new(candidate: &CandidateSettings, session: SessionId, term: Option<Term>) -> Leader {
        let address = candidate.address().map(Id::from);
        let (id, term) = (candidate.id.as_str().into(), term.map(|term| term.0));
        Leader { id, session, address, term, owed_ms: None, witness: candidate.witness() }
    }

    /// The same, to be reached there.
    pub(in crate::catalog) fn at(self, address: Option<Id>) -> Leader {
        Leader { address, ..self }
    }

    /// The same, to be reached where it was before if that can't be known now.
    pub(in crate::catalog) fn or_at(self, before: Option<Id>) -> Leader {
        let address = self.address.clone().or(before);
        self.at(address)
    }

    /// The same, when one who led before may still act for so long.
    pub(in crate::catalog) fn owing(self, hold_off_left: Duration) -> Leader {
        Leader { owed_ms: Some(milliseconds(hold_off_left)), ..self }
    }

    /// As it is written.
    pub(in crate::catalog) fn json(&self) -> String {
        json(self)
    }

    /// What was written; `None` when that is no record: a person's hand, or another program's.
    pub(in crate::catalog) fn read(value: &[u8]) -> Option<Leader> {
        let read: Leader = serde_json::from_slice(value).ok()?;
        let address = read.address.filter(|address| border::is_host_port(address));
        let witness = read.witness.filter(is_witness);
        Some(Leader { id: known(read.id), address, witness, ..read })
            .filter(|read| read.term.unwrap_or(0) <= GREATEST_TERM)
    }

    /// As the core knows it; `own` is the term that the key's version stands for.
    pub(in crate::catalog) fn holder(self, own: Term) -> Holder {
        Holder {
            id: self.id,
            session: self.session,
            term: term(self.term, own),
            address: self.address,
            owes: self.owed_ms.map(Duration::from_millis),
            witness: self.witness.map(Arc::new),
        }
    }

    /// Who holds a lock that says nothing readable.
    pub(in crate::catalog) fn unknown(session: SessionId, term: Term) -> Holder {
        Holder { id: UNKNOWN.into(), session, term, address: None, owes: None, witness: None }
    }
}

/// What stands in `last`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::catalog) struct LastLeader {
    /// The candidate.
    pub(in crate::catalog) id: Id,
    /// By which session.
    #[serde(with = "uuid")]
    pub(in crate::catalog) session: SessionId,
    /// For which term, where the key's own version doesn't tell.
    #[serde(default)]
    pub(in crate::catalog) term: Option<u64>,
    /// What it was promised.
    guarantee: Promise,
    /// It stepped down and said so.
    #[serde(default)]
    pub(in crate::catalog) released: bool,
    /// Whom it named to lead next.
    #[serde(default)]
    pub(in crate::catalog) to: Option<Id>,
    /// How long after that one who led before it may still act.
    #[serde(default)]
    owed_ms: u64,
    /// The lease it held the lock by (etcd).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::catalog) lease: Option<i64>,
    /// How long main may outlive the lock on the witness's file: it may have closed it. Without it, nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linger_ms: Option<u64>,
    /// Where the leader can be reached by now, where the lock can't be written again for that (Consul).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::catalog) address: Option<Id>,
    /// A person had it lead, though others may have had what it lacked: for people, who may look for what is lost.
    #[serde(default, skip_serializing_if = "is_false")]
    loss_accepted: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_false(value: &bool) -> bool {
    !value
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Promise {
    ForMs(u64),
    WhileAliveLingerMs(u64),
}

impl From<Guarantee> for Promise {
    fn from(guarantee: Guarantee) -> Promise {
        match guarantee {
            Guarantee::For(promised) => Promise::ForMs(milliseconds(promised)),
            Guarantee::WhileAlive { linger } => Promise::WhileAliveLingerMs(milliseconds(linger)),
        }
    }
}

impl LastLeader {
    /// Of a candidate that takes the lock now.
    pub(in crate::catalog) fn new(
        candidate: &CandidateSettings,
        session: SessionId,
        term: Option<Term>,
        guarantee: Guarantee,
        hold_off_left: Duration,
    ) -> LastLeader {
        LastLeader {
            id: candidate.id.as_str().into(),
            session,
            term: term.map(|term| term.0),
            guarantee: guarantee.into(),
            released: false,
            to: None,
            owed_ms: milliseconds(hold_off_left),
            lease: None,
            linger_ms: candidate.linger().map(milliseconds),
            address: None,
            loss_accepted: candidate.loss.by(session),
        }
    }

    /// The same, of one that gives the lock back.
    pub(in crate::catalog) fn released(self, to: Option<Id>) -> LastLeader {
        LastLeader { released: true, to, lease: None, linger_ms: None, address: None, ..self }
    }

    /// The same, of one that is promised something else by now.
    pub(in crate::catalog) fn promised(self, guarantee: Guarantee) -> LastLeader {
        LastLeader { guarantee: guarantee.into(), ..self }
    }

    /// The same, when one who led before may still act for so long.
    pub(in crate::catalog) fn owing(self, hold_off_left: Duration) -> LastLeader {
        LastLeader { owed_ms: milliseconds(hold_off_left), ..self }
    }

    /// The same, where the key's own version doesn't tell the term any more.
    pub(in crate::catalog) fn of(self, term: Term) -> LastLeader {
        LastLeader { term: Some(term.0), ..self }
    }

    /// The same, of one whose main has got the witness's file, or closed it, meanwhile.
    pub(in crate::catalog) fn lingering(self, linger: Option<Duration>) -> LastLeader {
        LastLeader { linger_ms: linger.map(milliseconds), ..self }
    }

    /// The same, of one that can be reached there by now.
    pub(in crate::catalog) fn at(self, address: Option<Id>) -> LastLeader {
        LastLeader { address, ..self }
    }

    /// The same, of one that a person has lead by now, whatever is lost by it.
    pub(in crate::catalog) fn accepting_loss(self, loss_accepted: bool) -> LastLeader {
        LastLeader { loss_accepted, ..self }
    }

    /// Whether a person has it lead, whatever is lost by it.
    pub(in crate::catalog) fn accepts_loss(&self) -> bool {
        self.loss_accepted
    }

    /// How long main may outlive the lock on the witness's file; `None`: nobody knows.
    pub(in crate::catalog) fn linger(&self) -> Option<Duration> {
        self.linger_ms.map(Duration::from_millis).filter(|linger| *linger <= LONGEST_LINGER)
    }

    /// As it is written.
    pub(in crate::catalog) fn json(&self) -> String {
        json(self)
    }

    /// What was written; `None` when that is no record.
    pub(in crate::catalog) fn read(value: &[u8]) -> Option<LastLeader> {
        let read: LastLeader = serde_json::from_slice(value).ok()?;
        let to = read.to.filter(|to| border::is_name(to));
        let address = read.address.filter(|address| border::is_host_port(address));
        Some(LastLeader { id: known(read.id), to, address, ..read })
            .filter(|read| read.term.unwrap_or(0) <= GREATEST_TERM)
    }

    /// As the core knows it; `own` is the term that the key's version stands for. Its lease, if any, is taken to live.
    pub(in crate::catalog) fn last(self, own: Term) -> Last {
        let guarantee = match self.guarantee {
            Promise::ForMs(span) => Guarantee::For(Duration::from_millis(span)),
            Promise::WhileAliveLingerMs(span) => Guarantee::WhileAlive { linger: Duration::from_millis(span) },
        };
        Last {
            id: self.id,
            session: self.session,
            term: term(self.term, own),
            guarantee,
            released: self.released,
            to: self.to,
            ended: false,
            hold_off_left: Duration::from_millis(self.owed_ms),
        }
    }

    /// Who led last when what stands there is no record: somebody, who may have been promised a lot.
    pub(in crate::catalog) fn unknown() -> Last {
        Last {
            id: UNKNOWN.into(),
            session: SessionId(0),
            term: Term(0),
            guarantee: Guarantee::For(UNKNOWN_PROMISE),
            released: false,
            to: None,
            ended: false,
            hold_off_left: Duration::ZERO,
        }
    }
}

/// A file's name and a boot's id that can be ones: the name is looked for in a directory.
fn is_witness(witness: &Witness) -> bool {
    let hex = |word: &Id| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex(&witness.file) && border::is_name(&witness.boot)
}

/// An id that can be one: whoever may write a record may write anything, and this reaches people's terminals, logs and
/// the environment of processes.
fn known(id: Id) -> Id {
    if border::is_name(&id) { id } else { UNKNOWN.into() }
}

/// What a candidate publishes of its rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::catalog) struct RankRecord {
    /// Who held the lock when it was measured.
    term: u64,
    /// How far the candidate is; `None`: that is being measured; empty: it couldn't be.
    #[serde(default)]
    rank: Option<String>,
    /// Whether the candidate would take the lock.
    #[serde(default)]
    stands: bool,
}

impl RankRecord {
    /// For this term.
    pub(in crate::catalog) fn new(term: Term, answer: &Answer, stands: bool) -> RankRecord {
        let rank = match answer {
            Answer::Measuring => None,
            Answer::Failed => Some(String::new()),
            Answer::Known(rank) => Some(rank.to_string()),
        };
        RankRecord { term: term.0, rank, stands }
    }

    /// As it is written.
    pub(in crate::catalog) fn json(&self) -> String {
        json(self)
    }

    /// What was written; `None` when that isn't a rank.
    pub(in crate::catalog) fn read(value: &[u8]) -> Option<RankRecord> {
        serde_json::from_slice(value).ok().filter(|read: &RankRecord| read.term <= GREATEST_TERM)
    }

    /// As the core knows it.
    pub(in crate::catalog) fn of(self, id: Id) -> PeerRank {
        let answer = match self.rank.as_deref() {
            None => Answer::Measuring,
            Some(text) => Rank::read(text).map_or(Answer::Failed, Answer::Known),
        };
        PeerRank { id, term: Term(self.term), answer, stands: self.stands }
    }
}

/// A session's id as a UUID: what it is on Consul.
pub(in crate::catalog) mod uuid {
    use super::*;

    /// As text.
    pub(in crate::catalog) fn text(session: SessionId) -> String {
        let hex = format!("{:032x}", session.0);
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// From text; `None` when that is no UUID.
    pub(in crate::catalog) fn read(text: &str) -> Option<SessionId> {
        let hex: String = text.split('-').collect();
        let whole = hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        whole.then(|| u128::from_str_radix(&hex, 16).ok().map(SessionId)).flatten()
    }

    pub(super) fn serialize<S: Serializer>(session: &SessionId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*session))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<SessionId, D::Error> {
        let text = String::deserialize(from)?;
        read(&text).ok_or_else(|| de::Error::custom("a session is a UUID"))
    }
}

/// A span in milliseconds, rounded up.
fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

fn json(record: &impl Serialize) -> String {
    serde_json::to_string(record).expect("strings and numbers are JSON")
}

#[cfg(test)]
mod tests {
    use crate::catalog::election::AcceptedLoss;

    use super::*;

    fn candidate() -> CandidateSettings {
        CandidateSettings {
            name: "mysql".to_owned(),
            id: "mysql-1".to_owned(),
            lease: Duration::from_secs(15),
            kill_margin: Duration::from_secs(1),
            service: None,
            witness: None,
            loss: AcceptedLoss::default(),
        }
    }

    const SESSION: SessionId = SessionId(0x0001_2345_6789_abcd_ef01_2345_6789_abcd);

    #[test]
    fn the_lock_says_who_leads_by_which_session() {
        let leader = Leader::new(&candidate(), SESSION, None);
        let json = leader.json();
        assert_eq!(json, r#"{"id":"mysql-1","session":"00012345-6789-abcd-ef01-23456789abcd","address":null}"#);
        let holder = Leader::read(json.as_bytes()).unwrap().holder(Term(7));
        assert_eq!((holder.session, holder.term, holder.owes), (SESSION, Term(7), None));
        let won = Leader::new(&candidate(), SESSION, None).owing(Duration::from_micros(4_001));
        assert_eq!(won.holder(Term(7)).owes, Some(Duration::from_millis(5)), "never less");
        let holder = Leader::new(&candidate(), SESSION, Some(Term(3))).holder(Term(7));
        assert_eq!(holder.term, Term(3));
    }

    #[test]
    fn a_leader_whose_address_is_not_to_be_found_stays_where_it_was() {
        let before = || Some(Id::from("192.0.2.1:80"));
        let leader = Leader::new(&candidate(), SESSION, None).or_at(before());
        assert_eq!(leader.address, before());
        let moved = leader.at(Some("192.0.2.2:80".into())).or_at(before());
        assert_eq!(moved.address.as_deref(), Some("192.0.2.2:80"));
    }

    #[test]
    fn last_says_what_was_promised_and_never_less() {
        let promised = Guarantee::For(Duration::from_micros(14_999_001));
        let last = LastLeader::new(&candidate(), SESSION, None, promised, Duration::from_micros(1));
        let json = last.json();
        assert_eq!(
            json,
            r#"{"id":"mysql-1","session":"00012345-6789-abcd-ef01-23456789abcd","term":null,"guarantee":{"for_ms":15000},"released":false,"to":null,"owed_ms":1}"#
        );
        let read = LastLeader::read(json.as_bytes()).unwrap().last(Term(9));
        assert_eq!((read.term, read.guarantee), (Term(9), Guarantee::For(Duration::from_secs(15))));
        assert_eq!(read.hold_off_left, Duration::from_millis(1));
        assert!(!read.released && !read.ended);

        // For people alone.
        let one = candidate();
        one.loss.accept(SESSION);
        let released = LastLeader::new(&one, SESSION, None, promised, Duration::ZERO).released(None);
        assert!(
            released.json().ends_with(r#""owed_ms":0,"loss_accepted":true}"#)
                && LastLeader::read(released.json().as_bytes()) == Some(released)
        );
        let another = LastLeader::new(&one, SessionId(7), None, promised, Duration::ZERO);
        assert!(!another.accepts_loss());

        let linger = Guarantee::WhileAlive { linger: Duration::from_secs(1) };
        let last = LastLeader::new(&candidate(), SESSION, Some(Term(4)), linger, Duration::ZERO);
        let read = last.released(Some("mysql-2".into())).last(Term(9));
        assert_eq!((read.term, read.guarantee), (Term(4), linger));
        assert!(read.released && read.to == Some("mysql-2".into()));
    }

    #[test]
    fn words_that_no_candidate_writes_are_not_passed_on() {
        let hostile = |id: &str, address: Option<&str>| {
            let new = Leader::new(&candidate(), SESSION, None);
            let leader = Leader { id: id.into(), address: address.map(Id::from), ..new };
            Leader::read(leader.json().as_bytes()).unwrap()
        };
        let sound = hostile("mysql-1", Some("10.0.0.1:3306")).holder(Term(7));
        assert_eq!((&*sound.id, sound.address.as_deref()), ("mysql-1", Some("10.0.0.1:3306")));
        let long = "x".repeat(200_000);
        for words in ["a\0b", "a\nb", "\x1b]0;owned\x07", &long] {
            let holder = hostile(words, Some(words)).holder(Term(7));
            assert_eq!((&*holder.id, holder.address.as_deref()), (UNKNOWN, None), "{words:.20}");
            // Who holds it is known by its session all the same.
            assert_eq!((holder.session, holder.term), (SESSION, Term(7)));
            let last = LastLeader::new(&candidate(), SESSION, None, Guarantee::For(Duration::ZERO), Duration::ZERO);
            let last = LastLeader { id: words.into(), ..last }.released(Some(words.into()));
            let last = LastLeader::read(last.json().as_bytes()).unwrap().last(Term(7));
            assert_eq!((&*last.id, last.to), (UNKNOWN, None));
        }
    }

    #[test]
    fn what_is_no_record_is_not_read() {
        for value in [
            "",
            "x",
            "{}",
            r#"{"id":"a","session":"7"}"#,
            r#"{"id":"a","session":"+0012345-6789-abcd-ef01-23456789abcd"}"#,
        ] {
            assert_eq!(Leader::read(value.as_bytes()), None, "{value}");
            assert_eq!(LastLeader::read(value.as_bytes()), None, "{value}");
        }
        let last = |term: u64| {
            let session = uuid::text(SESSION);
            format!(r#"{{"id":"a","session":"{session}","term":{term},"guarantee":{{"for_ms":1}}}}"#)
        };
        assert_eq!(LastLeader::read(last(u64::MAX).as_bytes()), None);
        // Those who come later may say more.
        let more = r#"{"id":"a","session":"00012345-6789-abcd-ef01-23456789abcd","address":null,"color":"red"}"#;
        assert!(Leader::read(more.as_bytes()).is_some());
        assert_eq!(uuid::read(&uuid::text(SessionId(0))), Some(SessionId(0)));
    }
    #[test]
    fn a_term_that_the_engine_cannot_have_given_is_none() {
        let session = uuid::text(SESSION);
        let json =
            format!(r#"{{"id":"a","session":"{session}","term":90,"guarantee":{{"for_ms":1}},"released":true}}"#);
        let read = || LastLeader::read(json.as_bytes()).unwrap();
        assert_eq!(read().last(Term(7)).term, Term(7));
        assert_eq!(read().last(Term(100)).term, Term(90));
        // A counter of our own, where the store has none.
        assert_eq!(read().last(Term(0)).term, Term(90));
    }

    #[test]
    fn words_that_are_no_name_and_no_address_go_no_further() {
        let long = "x".repeat(200_000);
        for (id, address) in
            [("a\0b", "10.0.0.1:80"), ("e\u{1b}]0;x\u{7}", "10.0.0.1:80\nx"), (&*long, &*long), ("", "a b")]
        {
            let word = |word: &str| serde_json::to_string(word).unwrap();
            let session = uuid::text(SESSION);
            let json = format!(r#"{{"id":{},"session":"{session}","address":{}}}"#, word(id), word(address));
            let holder = Leader::read(json.as_bytes()).unwrap().holder(Term(7));
            assert_eq!((&*holder.id, holder.session), (UNKNOWN, SESSION));
            assert!(holder.address.is_none_or(|address| &*address == "10.0.0.1:80"));
            let json = format!(
                r#"{{"id":{},"session":"{session}","guarantee":{{"for_ms":1}},"released":true,"to":{}}}"#,
                word(id),
                word(id)
            );
            let last = LastLeader::read(json.as_bytes()).unwrap().last(Term(7));
            assert_eq!((&*last.id, last.to), (UNKNOWN, None));
        }
    }
}
