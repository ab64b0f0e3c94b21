//! Whether a candidate stands, and from when: health, maintenance, preference, what its predecessor asked for, and
//! the pause after a leadership that came to nothing.

use std::time::Duration;

use crate::config::Backoff;
use crate::supervisor::machines::jitter::{self, Jitter};
use crate::supervisor::vocabulary::Time;

use super::{Preference, Settings, Vacancy};

/// How long a low candidate, and one whose main isn't ready, leaves a lock to others that can be had.
const LOW_WAITS: Duration = Duration::from_secs(2);
/// How long who stepped down to be restarted leaves the lock to others: they see it free in milliseconds.
const OTHERS_FIRST: Duration = Duration::from_secs(1);
/// How long a free lock is left to the one it was handed to, and how long one that stepped down stays away from it.
pub(super) const HANDOVER: Duration = Duration::from_secs(5);
/// The pause after a leadership that came to nothing, doubled each time: a sick leader must not flap.
const AGAIN: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(30) };
/// A leadership this long was none that came to nothing.
pub(super) const PROVEN_AFTER: Duration = Duration::from_secs(60);

/// What keeps a candidate from standing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Eligibility {
    pub(super) healthy: bool,
    /// Main could be promoted at once, or runs only while it leads.
    pub(super) ready: bool,
    pub(super) maintenance: bool,
    pub(super) stopped: bool,
    /// The store's history went back, and nobody has said yet that this is right.
    pub(super) refuses: bool,
    /// It leaves a free lock to others until then, as it stepped down itself; a lock that is handed to it ends that.
    pub(super) aside_until: Time,
    /// Once it has stepped down it is to lead again, should nobody else.
    pub(super) again: bool,
    /// A pause after what failed, which nobody can end.
    pub(super) not_before: Time,
    pub(super) failures: u32,
}

impl Default for Eligibility {
    fn default() -> Eligibility {
        Eligibility {
            healthy: true,
            ready: true,
            maintenance: false,
            stopped: false,
            refuses: false,
            aside_until: Time::default(),
            again: false,
            not_before: Time::default(),
            failures: 0,
        }
    }
}

impl Eligibility {
    /// Whether it stands at all now.
    pub(super) fn stands(&self, settings: &Settings) -> bool {
        self.healthy && !self.maintenance && !self.stopped && !self.refuses && settings.prefer != Preference::Never
    }

    /// When a try meant for `at` may be made; `None`: not as things are.
    pub(super) fn from(&self, at: Time, settings: &Settings) -> Option<Time> {
        self.stands(settings).then(|| at.max(self.rests_until()))
    }

    /// The same for a lock that is free like this.
    pub(super) fn tries_from(&self, at: Time, vacancy: Option<&Vacancy>, settings: &Settings) -> Option<Time> {
        let Some(vacancy) = vacancy else { return self.from(at, settings) };
        let at = at.max(self.open_from(vacancy, settings));
        match vacancy.handed_to_us {
            true => self.stands(settings).then(|| at.max(self.not_before)),
            false => self.from(at, settings),
        }
    }

    /// Until when it tries for no lock but one that is handed to it.
    pub(super) fn rests_until(&self) -> Time {
        self.aside_until.max(self.not_before)
    }

    /// Until when a free lock is left to others. One that isn't ready leaves it to those who are for as long as a low one;
    /// before anybody has led nobody can be.
    pub(super) fn open_from(&self, vacancy: &Vacancy, settings: &Settings) -> Time {
        if vacancy.handed_to_us {
            return vacancy.since;
        }
        let low = settings.prefer == Preference::Low || (!self.ready && vacancy.led);
        if low { vacancy.contested_from + LOW_WAITS } else { vacancy.left_until }
    }

    /// A leadership ended as it should.
    pub(super) fn stepped_down(&mut self, now: Time) {
        self.aside_until = now + if std::mem::take(&mut self.again) { OTHERS_FIRST } else { HANDOVER };
    }

    /// Nothing keeps it aside any longer, or will once it has stepped down (`acting`), but that others go first.
    pub(super) fn stands_again(&mut self, now: Time, acting: bool) {
        self.again = acting;
        self.aside_until = self.aside_until.min(now + OTHERS_FIRST);
    }

    /// A leadership came to nothing.
    pub(super) fn failed(&mut self, now: Time, led: Duration, jitter: &mut Jitter) {
        self.failures = if led >= PROVEN_AFTER { 1 } else { self.failures + 1 };
        self.not_before = now + jitter.scatter(jitter::pause(AGAIN, self.failures));
    }

    /// Not before a pause.
    pub(super) fn rests(&mut self, until: Time) {
        self.not_before = until;
    }
}
