//! What an election means for the container, as scripts: a store that a test plays, and what main and hooks are told.

mod acting;
mod announcing;
mod coprocesses;
mod demotion;
mod ends;
mod maintenance;
mod orders;
mod parts;
mod post_start;
mod promotion;
mod start;
mod stop;
mod tasks;
mod watches;

use std::time::Duration;

use super::script::*;
use super::watch::templated;
use crate::config::election::{Fence, Mode, Pace, Preference, RoleTags, WithoutCatalog};
use crate::config::{Config, Election, Hook, Hooks, OnFailure, Query, Signal, WaitFor, When};
use crate::supervisor::Event;
use crate::supervisor::machines::election::event::{Acquisition, ElectionEvent, Renewal};
use crate::supervisor::machines::election::record::{Guarantee, Holder, Last, Lock, Revision, SessionId, Term, View};
use crate::supervisor::vocabulary::*;

const LEASE: Guarantee = Guarantee::For(Duration::from_secs(15));

pub fn election() -> Election {
    Election {
        name: "db".to_owned(),
        id: "me".to_owned(),
        service: None,
        mode: Mode::Role,
        lease: Duration::from_secs(15),
        alive_ttl: Duration::from_secs(3),
        pace: Pace {
            renew: Duration::from_secs(1),
            request: Duration::from_secs(2),
            patience: Duration::from_secs(2),
            demote: Duration::from_secs(5),
            kill_margin: Duration::from_secs(1),
        },
        require_health: true,
        prefer: Preference::Normal,
        rank: None,
        quorum: None,
        without_catalog: WithoutCatalog::Wait,
        role_tags: None,
        fence: Fence::Namespace,
        witness: None,
    }
}

fn candidate() -> Config {
    Config { election: Some(election()), ..config() }
}

fn standby() -> Config {
    Config { election: Some(Election { mode: Mode::Standby, ..election() }), ..config() }
}

fn hooks() -> Hooks {
    Hooks {
        on_promote: Some(hook("promote")),
        on_demote: Some(hook("demote")),
        on_leader_change: Some(hook("follow")),
        ..Hooks::default()
    }
}

fn free() -> View {
    View { at: 1, lock: Lock::Free { version: Revision(0), taken_from: None }, last: None, last_revision: Revision(0) }
}

pub fn held(id: &str, session: u128, term: u64) -> View {
    let holder = Holder {
        id: id.into(),
        session: SessionId(session),
        term: Term(term),
        address: Some(format!("{id}:3306").into()),
        owes: Some(Duration::ZERO),
        witness: None,
    };
    View { at: term, lock: Lock::Held(holder), last: None, last_revision: Revision(0) }
}

impl Script {
    fn candidate(config: Config) -> Script {
        let mut script = Script::start(config);
        script.send(Event::Guard { stands: true });
        script
    }

    /// Sees the lock; another one that holds it acts.
    fn sees_lock(&mut self, view: View) {
        self.acting = view.holder().map(|holder| acting_value(&holder.id, holder.term)).or(self.acting.take());
        self.sees_holder(view);
    }

    /// Sees the lock, and not yet whether who holds it acts.
    fn sees_holder(&mut self, view: View) {
        self.event(ElectionEvent::Saw(Ok(view)));
    }

    fn sees_acting(&mut self, value: Option<&str>) {
        let seen = Ok(Observation::Key(value.map(str::to_owned)));
        self.send(Event::Observed { follow: Follow::Acting, seen });
    }

    /// Sees the lock free and takes it, for this term.
    fn wins(&mut self, term: u64) {
        self.sees_lock(free());
        self.takes(term);
    }

    fn takes(&mut self, term: u64) {
        let session = SessionId(u128::from(term));
        self.event(ElectionEvent::Opened { ask: self.asked("open"), result: Ok((session, LEASE, Revision(0))) });
        self.event(ElectionEvent::Acquired { ask: self.asked("acquire"), result: Acquisition::Won(Term(term)) });
        self.sees_lock(held("me", u128::from(term), term));
    }

    fn released(&mut self) {
        self.event(ElectionEvent::Released { ask: self.asked("release"), result: Ok(()) });
    }

    /// What was heard but for what comes all the time.
    fn told(&mut self) -> Vec<String> {
        let noise = ["renew", "look", "guard", "endpoints", "follow Acting", "unfollow Acting"];
        let noise = |heard: &String| noise.contains(&heard.as_str()) || heard.starts_with("tell that term");
        self.heard().into_iter().filter(|heard| !noise(heard)).collect()
    }

    #[track_caller]
    fn tells(&mut self, orders: &[&str]) {
        assert_eq!(self.told(), orders);
    }

    fn variable(&self, of: &str, name: &str) -> Option<&str> {
        self.env.get(of)?.get(name).map(String::as_str)
    }

    /// Having led, it sees the lock free for long and takes it again.
    fn leads_again(&mut self) {
        self.sees_lock(View { at: 9, last_revision: Revision(9), ..free() });
        self.until(self.now() + 20_000);
        self.takes(10);
    }

    /// A leader with a main that runs, promoted if there is a hook for that.
    fn leading(config: Config) -> Script {
        let has_hook = config.hooks.on_promote.is_some();
        let mut script = Script::candidate(config);
        script.wins(7);
        if has_hook {
            script.ends("on_promote", 0);
        }
        script.told();
        script
    }
}

/// A replica whose `on_leader_change` runs as it comes to lead.
fn leading_while_it_follows(more: Config) -> Script {
    let mut script = Script::candidate(more);
    script.sees_lock(held("other", 9, 3));
    script.sees_lock(held("third", 10, 4));
    assert_eq!(script.told().last().unwrap(), "spawn on_leader_change");
    script.sees_lock(View { at: 5, last_revision: Revision(5), ..free() });
    script.until(20_000);
    script.told();
    script.takes(7);
    script
}

fn step_down(script: &mut Script) {
    script.send(Event::Control { reply: ReplyId(1), request: Request::StepDown { to: None } });
}

const TERMINATED: ExitStatus = ExitStatus::Killed(Signal::TERM);

fn for_leaders(watch: crate::config::Watch) -> Config {
    let watches = vec![crate::config::Watch { when: When::Leader, ..watch }];
    Config { watches, hooks: hooks(), ..candidate() }
}
