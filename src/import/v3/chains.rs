//! Chains of `when` before anything is made of them: those that nothing ever starts, and those that wait for the end of
//! what runs once.

use std::collections::BTreeMap;

use super::Watched;
use super::job::{Code, Job, When};
use crate::import::common::Restarts;
use crate::import::read::{Notes, settled};
use crate::import::text::Text;

/// The job that starts each by something that happens to it.
pub(super) fn sources(jobs: &[Job]) -> Vec<Option<(usize, Code)>> {
    // Of two that are called the same the first counts.
    let mut called = BTreeMap::new();
    for (index, job) in jobs.iter().enumerate() {
        called.entry(job.label.as_str()).or_insert(index);
    }
    let of = |job: &Job| {
        let (source, code) = job.waits_for()?;
        Some((*called.get(source)?, code))
    };
    jobs.iter().map(of).collect()
}

/// Says which jobs ContainerPilot never started, since they wait for themselves, be it by way of others.
pub(super) fn circles(jobs: &[Job], notes: &mut Notes) {
    let sources = sources(jobs);
    let is_one = |of: usize| !jobs[of + 1..].iter().any(|job| job.label == jobs[of].label);
    // One of two that are called the same is started by the other.
    let next = |index: usize| sources[index].map(|(of, _)| of).filter(|of| is_one(*of));
    let next: Vec<Option<usize>> = (0..jobs.len()).map(next).collect();
    for (index, job) in jobs.iter().enumerate().filter(|(_, job)| job.exec.is_some()) {
        // Whoever goes further than there are jobs goes in a circle.
        let mut steps = std::iter::successors(next[index], |at| next[*at]).take(jobs.len());
        let is_in_one = steps.by_ref().any(|at| at == index);
        let leads_to_one = std::iter::successors(next[index], |at| next[*at]).nth(jobs.len()).is_some();
        let by = next[index]
            .filter(|by| *by != index)
            .map_or(String::new(), |by| format!(", by way of `{}`", jobs[by].label));
        let what = match (is_in_one, leads_to_one) {
            (true, _) => format!("waits for itself{by}, so ContainerPilot never started it"),
            (false, true) => format!("waits for what waits for itself{by}, so ContainerPilot never started it"),
            (false, false) => continue,
        };
        // What would only run at its own end is left out, and that is said.
        let at_its_end = matches!(sources[index], Some((of, Code::Stopping | Code::Stopped)) if of == index);
        if !at_its_end {
            notes.say(&job.when_span, format!("{}.when", job.path), what);
        }
    }
}

/// Takes `stopped` of what runs once for its `exitSuccess`, where something that stays comes after it: ContainerPilot told
/// of it whenever a job had ended.
pub(super) fn ends_of_one_shots(jobs: &mut [Job]) {
    let sources = sources(jobs);
    let stays = |job: &Job| job.entry.is_some() || job.check.is_some() || job.restarts == Restarts::Unlimited;
    // What something that stays comes after, be it by way of others.
    let mut leads_on: Vec<bool> = jobs.iter().map(stays).collect();
    for index in (0..jobs.len()).filter(|index| stays(&jobs[*index])) {
        let mut at = index;
        while let Some((of, Code::ExitSuccess | Code::Stopped)) = sources[at]
            && !leads_on[of]
        {
            leads_on[of] = true;
            at = of;
        }
    }
    for (index, source) in sources.iter().enumerate() {
        let Some((of, Code::Stopped)) = *source else { continue };
        if of == index || !leads_on[index] || !jobs[of].is_a_one_shot() {
            continue;
        }
        let job = &mut jobs[index];
        let When::Event { source, code, .. } = &mut job.when else { continue };
        *code = Code::ExitSuccess;
        let what = format!("ran once `{source}` had ended, whatever its code; it has to succeed here");
        let mut notes = Notes::default();
        notes.say(&job.when_span, format!("{}.when", job.path), what);
        job.notes.extend(notes.take());
    }
}

/// Says of templates that name a job or watch under a name it has only where nothing is set.
pub(super) fn settled_sources(jobs: &[Job], watches: &[Watched], notes: &mut Notes) {
    let of_watch = |watch: &Watched| {
        let mut whole = Text::plain("watch.");
        watch.written.0.iter().for_each(|piece| whole.push(piece.clone()));
        whole
    };
    for job in jobs {
        let Some(written) = job.source.as_ref().filter(|source| source.is_template()) else { continue };
        let Some((source, _)) = job.waits_for() else { continue };
        let found = jobs.iter().any(|other| other.label == source)
            || watches.iter().any(|watch| watch.label == source.strip_prefix("watch.").unwrap_or(source));
        let is_named_so = jobs.iter().any(|other| other.written == *written)
            || watches.iter().any(|watch| of_watch(watch) == *written || watch.written == *written);
        if found && !is_named_so {
            notes.lose(&job.when_span, format!("{}.when.source", job.path), settled(written));
        }
    }
}
