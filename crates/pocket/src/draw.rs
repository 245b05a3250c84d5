//! Seeded random numbers: the only randomness in this crate.
//!
//! Based on the raw output of ChaCha8 with a range reduction of its own, so that items do not change when the `rand`
//! crate changes how it samples ranges.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A random number generator, determined by domain, seed and index.
pub struct Draw(ChaCha8Rng);

impl Draw {
    /// The generator of `index` within `domain`; those of different arguments are independent.
    pub fn new(domain: &str, seed: u64, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lopper-pocket/1\0");
        hasher.update(domain.as_bytes());
        hasher.update(&[0]);
        hasher.update(&seed.to_le_bytes());
        hasher.update(&index.to_le_bytes());
        Self(ChaCha8Rng::from_seed(*hasher.finalize().as_bytes()))
    }

    /// The numbered `stream` of `seed`, for generated items that are not the pocket model's.
    pub fn of_stream(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// A number in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number in `low..=high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        debug_assert!(low <= high);
        low + self.below((high - low + 1) as usize) as i64
    }

    /// True with a probability of `percent` %.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// `n` different positions out of `0..len`, in random order (all of them where `n > len`).
    pub fn positions(&mut self, len: usize, n: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..len).collect();
        self.shuffle(&mut all);
        all.truncate(n);
        all
    }

    /// `n` different items, in random order.
    pub fn distinct<'a, T>(&mut self, items: &'a [T], n: usize) -> Vec<&'a T> {
        self.positions(items.len(), n).into_iter().map(|i| &items[i]).collect()
    }

    /// Puts the items in random order (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }

    /// A position with a probability in proportion to its weight; weights are not negative and not all 0.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let unit = (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let mut left = unit * weights.iter().sum::<f64>();
        for (i, w) in weights.iter().enumerate() {
            left -= w;
            if left < 0.0 {
                return i;
            }
        }
        weights.iter().rposition(|w| *w > 0.0).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_every_argument_and_on_nothing_else() {
        let words = |d: &str, s, i| {
            let mut draw = Draw::new(d, s, i);
            (0..8).map(|_| draw.below(1 << 30)).collect::<Vec<_>>()
        };
        assert_eq!(words("a", 1, 2), words("a", 1, 2));
        for other in [words("b", 1, 2), words("a", 2, 2), words("a", 1, 3)] {
            assert_ne!(words("a", 1, 2), other);
        }
    }

    #[test]
    fn ranges_are_covered_evenly_and_weights_are_kept() {
        let mut draw = Draw::new("test", 0, 0);
        let mut counts = [0usize; 5];
        let mut heavy = 0;
        for _ in 0..10_000 {
            counts[(draw.int(-2, 2) + 2) as usize] += 1;
            heavy += usize::from(draw.weighted(&[1.0, 0.0, 3.0]) == 2);
        }
        assert!(counts.iter().all(|c| (1800..2200).contains(c)), "{counts:?}");
        assert!((7200..7800).contains(&heavy), "{heavy}");
        let mut seen = draw.positions(9, 9);
        seen.sort_unstable();
        assert_eq!(seen, (0..9).collect::<Vec<_>>());
    }
}
