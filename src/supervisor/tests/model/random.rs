//! Chance, the same for the same seed.

use std::time::Duration;

/// SplitMix64.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    /// Once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// How long a program, a disk or a network takes: mostly next to nothing, at times longer than any lease.
    pub fn span(&mut self) -> Duration {
        const SPANS: [u64; 12] = [0, 0, 0, 1, 20, 200, 200, 1_000, 3_000, 8_000, 20_000, 40_000];
        Duration::from_millis(SPANS[self.below(SPANS.len())])
    }
}
