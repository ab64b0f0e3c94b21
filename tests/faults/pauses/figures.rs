//! What many rounds took, in a line.

use std::fmt;

/// Nanoseconds, one for each round.
#[derive(Default)]
pub struct Figures(Vec<u64>);

impl Figures {
    /// One more.
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.push(nanoseconds);
        self.0.sort_unstable();
    }

    /// In milliseconds, the least value that so many per cent don't exceed.
    fn percentile(&self, percent: usize) -> f64 {
        let index = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(index).map_or(f64::NAN, |nanoseconds| *nanoseconds as f64 / 1e6)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, p99, most] = [0, 50, 99, 100].map(|percent| self.percentile(percent));
        let count = self.0.len();
        write!(f, "min {least:9.2}  median {median:9.2}  p99 {p99:9.2}  max {most:9.2} ms  ({count})")
    }
}

#[test]
fn figures_are_values_that_were_measured() {
    let mut figures = Figures::default();
    (1..=100).rev().for_each(|round| figures.add(round * 1_000_000));
    assert_eq!([0, 50, 99, 100].map(|percent| figures.percentile(percent)), [1.0, 50.0, 99.0, 100.0]);
    figures.add(500_000_000);
    assert_eq!([99, 100].map(|percent| figures.percentile(percent)), [100.0, 500.0]);
}
