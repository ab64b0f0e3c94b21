//! Somebody wants a coprocess to be started again: it ends as it does for good, starts, and whoever waits is answered.

use crate::supervisor::vocabulary::{Answer, Effect, ReplyId, Step, Time};

use super::super::restarts::Restarts;
use super::{Coprocess, Stage};

/// Somebody wants it to be started again.
#[derive(Debug)]
pub(super) struct RestartOrder {
    /// Whoever wants the same meanwhile is answered with the first.
    replies: Vec<ReplyId>,
    /// What is there of it is yet to end, and is told to then.
    due: Option<Time>,
}

impl Coprocess {
    /// Somebody wants it to be started again: what is there of it ends as it does for good, and then it starts as it did
    /// at first. That counts against nothing; one that had ended for good has a budget anew. It is told to stop `at` that time.
    pub fn order(&mut self, reply: ReplyId, at: Time) {
        self.order = Some(RestartOrder { replies: vec![reply], due: Some(at) });
        if self.stage == Stage::Idle {
            self.begin_anew();
        }
    }

    /// Whether somebody waits for it to run again.
    pub fn is_ordered(&self) -> bool {
        self.order.is_some()
    }

    /// Those who wait for it to run again, if anybody does.
    pub fn ordered_by(&mut self) -> Option<&mut Vec<ReplyId>> {
        self.order.as_mut().map(|order| &mut order.replies)
    }

    pub(super) fn is_to_end_for_order(&self) -> bool {
        self.order_due().is_some()
    }

    pub(super) fn order_due(&self) -> Option<Time> {
        self.order.as_ref().and_then(|order| order.due)
    }

    /// Whether it is about to be told to stop, to be started again, or ends for that.
    pub fn is_draining(&self) -> bool {
        self.is_to_end_for_order() && matches!(self.stage, Stage::Running { .. } | Stage::Ending { .. })
    }

    pub(super) fn begin_anew(&mut self) {
        if let Some(order) = &mut self.order {
            order.due = None;
            if self.life.ended.take().is_some() {
                self.restarts = Restarts::default();
            }
            self.life.judged = false;
            self.readiness.has_time_anew();
        }
    }

    /// Who wants it to be started again is answered.
    pub fn answer_order(&mut self, step: &mut Step<'_>, answer: Answer) {
        for reply in self.order.take().into_iter().flat_map(|order| order.replies) {
            step.out.push(Effect::Reply { reply, answer: answer.clone() });
        }
    }

    /// What was ordered has failed, unless it is yet to end.
    pub(super) fn order_failed(&mut self, step: &mut Step<'_>, why: &str) {
        if !self.is_to_end_for_order() {
            self.answer_order(step, Answer::Refused(why.to_owned()));
        }
    }
}
