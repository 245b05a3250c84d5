//! n-grams as dense ids: each level numbers pairs of (shorter n-gram, next word), so that counting n-grams of any
//! length is counting integers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::words::Words;

/// The n-grams of a response for n = 1, 2, 3, 4; `levels[n - 1][i]` is the id of the one that begins at word `i`.
pub struct NGrams {
    levels: [Vec<u32>; 4],
    distinct: [usize; 4],
}

impl NGrams {
    /// Numbers the n-grams of a response, across sentences.
    pub fn new(words: &Words) -> Self {
        let mut levels = [words.ids.clone(), vec![], vec![], vec![]];
        let mut distinct = [words.distinct, 0, 0, 0];
        for n in 1..4 {
            let mut numbers: HashMap<u64, u32, BuildHasherDefault<Fold>> = HashMap::default();
            let count = words.ids.len().saturating_sub(n);
            let level: Vec<u32> = (0..count)
                .map(|i| {
                    let pair = u64::from(levels[n - 1][i]) << 32 | u64::from(words.ids[i + n]);
                    let next = numbers.len() as u32;
                    *numbers.entry(pair).or_insert(next)
                })
                .collect();
            distinct[n] = numbers.len();
            levels[n] = level;
        }
        Self { levels, distinct }
    }

    /// The ids of the n-grams in the order of their first words.
    pub fn ids(&self, n: usize) -> &[u32] {
        &self.levels[n - 1]
    }

    /// Number of different n-grams.
    pub fn distinct(&self, n: usize) -> usize {
        self.distinct[n - 1]
    }

    /// Number of n-grams that repeat an earlier one.
    pub fn repeated(&self, n: usize) -> usize {
        self.ids(n).len() - self.distinct(n)
    }
}

/// Hashes one `u64` by a folded multiplication. The keys are ids assigned here, so that no input can aim at collisions.
#[derive(Default)]
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (wide as u64) ^ (wide >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
