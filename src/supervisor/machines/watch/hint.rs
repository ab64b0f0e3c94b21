//! A signal that main is still to get: one that it would die of waits until it wouldn't, or until the role comes that it
//! is for.

use std::time::Duration;

use crate::supervisor::vocabulary::Time;

/// A main that would die of the signal is looked at again after this...
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// ...for so long: a start that takes longer is told nothing, having read its files late enough.
const WITHIN: Duration = Duration::from_secs(30);

/// A signal that main is to get, if there is one.
#[derive(Debug, Default)]
pub struct Hint(Option<Called>);

#[derive(Debug)]
struct Called {
    /// When the last change called for it.
    since: Time,
    stage: HintStage,
}

#[derive(Debug)]
enum HintStage {
    /// Whether main withstands it is being asked.
    Asked,
    /// To be asked again then.
    Due(Time),
    /// It waits for the role that it is for.
    Aside,
}

impl Hint {
    /// A change calls for it.
    pub fn call(&mut self, now: Time) {
        self.0 = Some(Called { since: now, stage: HintStage::Aside });
    }

    /// Whether there is one.
    pub fn is_called(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it waits for the role that it is for.
    pub fn is_aside(&self) -> bool {
        matches!(self.0, Some(Called { stage: HintStage::Aside, .. }))
    }

    /// When main is to be asked again.
    pub fn due(&self) -> Option<Time> {
        match self.0 {
            Some(Called { stage: HintStage::Due(at), .. }) => Some(at),
            Some(Called { stage: HintStage::Asked | HintStage::Aside, .. }) | None => None,
        }
    }

    /// Main is being asked.
    pub fn asks(&mut self) {
        self.goes_on(HintStage::Asked);
    }

    /// It waits for its role.
    pub fn waits(&mut self) {
        self.goes_on(HintStage::Aside);
    }

    /// A main that went away meanwhile reads its files when it comes again.
    pub fn forget(&mut self) {
        self.0 = None;
    }

    /// Main was signalled, or would still die of it; whether that is given up.
    pub fn answered(&mut self, now: Time, sent: bool) -> bool {
        let Some(called) = &mut self.0 else { return false };
        if !sent && now.since(called.since) < WITHIN {
            called.stage = HintStage::Due(now + AGAIN_AFTER);
            return false;
        }
        self.0 = None;
        !sent
    }

    fn goes_on(&mut self, stage: HintStage) {
        if let Some(called) = &mut self.0 {
            called.stage = stage;
        }
    }
}
