//! Whether ever two acted at once, from what they did.

use std::collections::BTreeMap;
use std::fmt;

use super::register::Act;

/// One leadership, as far as it acted.
#[derive(Debug, Clone)]
struct Leadership {
    who: String,
    first: u64,
    last: u64,
    /// A greater term had acted by the time of an act for this one. Said of the order of acts, not of clocks.
    overtaken: bool,
    /// Others that acted for the same term.
    doubles: Vec<String>,
}

/// Hears of each act in the order in which they were done.
#[derive(Debug, Default)]
pub struct Judge {
    terms: BTreeMap<u64, Leadership>,
}

/// Two leaderships of which one wasn't over when the other had begun.
#[derive(Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The one with the smaller term.
    pub elder: (String, u64),
    /// The one with the greater term, or another of the same.
    pub younger: (String, u64),
    /// For how long both acted, in nanoseconds.
    pub lasted: u64,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((elder, first), (younger, second)) = (&self.elder, &self.younger);
        let lasted = self.lasted as f64 / 1e6;
        write!(f, "{elder} acted for term {first} for {lasted:.1} ms beside {younger}, for term {second}")
    }
}

impl Judge {
    /// The next act.
    pub fn hear(&mut self, act: &Act) {
        let greatest = self.terms.last_key_value().map_or(0, |(term, _)| *term);
        let leadership = self.terms.entry(act.term).or_insert_with(|| Leadership {
            who: act.who.clone(),
            first: act.at,
            last: act.at,
            overtaken: false,
            doubles: Vec::new(),
        });
        leadership.overtaken |= act.term < greatest;
        if leadership.who != act.who && !leadership.doubles.contains(&act.who) {
            leadership.doubles.push(act.who.clone());
        }
        leadership.first = leadership.first.min(act.at);
        leadership.last = leadership.last.max(act.at);
    }

    /// How many leaderships acted.
    pub fn leaderships(&self) -> usize {
        self.terms.len()
    }

    /// When the first act for a term was.
    pub fn begun(&self, term: u64) -> Option<u64> {
        self.terms.get(&term).map(|leadership| leadership.first)
    }

    /// Who acted for the last time before another began, and when.
    pub fn losses(&self) -> Vec<(String, u64)> {
        let elders = self.terms.values().take(self.terms.len().saturating_sub(1));
        elders.map(|elder| (elder.who.clone(), elder.last)).collect()
    }

    /// The times without anyone acting, the longest first: from when and for how long, in nanoseconds.
    pub fn vacancies(&self) -> Vec<(u64, u64)> {
        let pairs = self.terms.values().zip(self.terms.values().skip(1));
        let vacancy =
            |(elder, younger): (&Leadership, &Leadership)| (elder.last, younger.first.saturating_sub(elder.last));
        let mut vacancies: Vec<(u64, u64)> = pairs.map(vacancy).collect();
        vacancies.sort_unstable_by_key(|(_, lasted)| std::cmp::Reverse(*lasted));
        vacancies
    }

    /// Every pair that acted at the same time, or in the wrong order. Terms grow and are given once, or this isn't empty.
    pub fn overlaps(&self) -> Vec<Overlap> {
        let mut overlaps = Vec::new();
        // The one that acted the longest of all before.
        let mut elder: Option<(u64, &Leadership)> = None;
        for (term, younger) in &self.terms {
            for double in &younger.doubles {
                let (one, other) = ((younger.who.clone(), *term), (double.clone(), *term));
                overlaps.push(Overlap { elder: one, younger: other, lasted: younger.last - younger.first });
            }
            if let Some((first, elder)) = elder
                && (elder.last >= younger.first || elder.overtaken)
            {
                overlaps.push(Overlap {
                    elder: (elder.who.clone(), first),
                    younger: (younger.who.clone(), *term),
                    lasted: (elder.last + 1).saturating_sub(younger.first),
                });
            }
            if elder.is_none_or(|(_, elder)| elder.last <= younger.last) {
                elder = Some((*term, younger));
            }
        }
        overlaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(acts: &[(&str, u64, u64)]) -> Judge {
        let mut judge = Judge::default();
        acts.iter().for_each(|(who, term, at)| judge.hear(&Act { who: (*who).to_owned(), term: *term, at: *at }));
        judge
    }

    type Pair = ((String, u64), (String, u64), u64);

    fn found(acts: &[(&str, u64, u64)]) -> Vec<Pair> {
        judged(acts).overlaps().into_iter().map(|o| (o.elder, o.younger, o.lasted)).collect()
    }

    fn pair(elder: (&str, u64), younger: (&str, u64), lasted: u64) -> Pair {
        ((elder.0.to_owned(), elder.1), (younger.0.to_owned(), younger.1), lasted)
    }

    #[test]
    fn one_after_the_other_is_as_it_should_be() {
        let acts = [("one", 3, 10), ("one", 3, 20), ("two", 5, 21), ("two", 5, 30), ("one", 9, 70)];
        let judge = judged(&acts);
        assert_eq!(judge.overlaps(), []);
        assert_eq!((judge.leaderships(), judge.vacancies()), (3, vec![(30, 40), (20, 1)]));
    }

    #[test]
    fn an_act_after_the_next_has_begun_is_an_overlap_however_short() {
        assert_eq!(found(&[("one", 3, 10), ("two", 5, 21), ("one", 3, 21)]), [pair(("one", 3), ("two", 5), 1)]);
        // The clocks say otherwise, but the register took the elder's act last: it read its clock and was held up.
        assert_eq!(found(&[("one", 3, 10), ("two", 5, 21), ("one", 3, 20)]), [pair(("one", 3), ("two", 5), 0)]);
        // The register's order is right, and the clocks say that both thought they led.
        assert_eq!(found(&[("one", 3, 30), ("two", 5, 21)]), [pair(("one", 3), ("two", 5), 10)]);
    }

    #[test]
    fn one_that_acts_on_through_several_others_overlaps_with_each() {
        let acts = [("one", 3, 10), ("two", 5, 20), ("two", 5, 25), ("three", 6, 30), ("one", 3, 40)];
        assert_eq!(found(&acts), [pair(("one", 3), ("two", 5), 21), pair(("one", 3), ("three", 6), 11)]);
    }

    #[test]
    fn a_term_is_given_once_and_never_a_smaller_one() {
        assert_eq!(found(&[("one", 3, 10), ("two", 3, 30)]), [pair(("one", 3), ("two", 3), 20)]);
        assert_eq!(found(&[("one", 5, 10), ("two", 3, 30)]), [pair(("two", 3), ("one", 5), 21)]);
    }
}
