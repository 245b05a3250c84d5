//! n-grams as dense numbers: each level numbers pairs of (n-gram before, next word), so that counting
//! n-grams of any length is counting integers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::tokens::Tokens;

/// The n-grams of a response for n = 1, 2, 3, 4; `levels[n - 1][i]` numbers the one that begins at
/// word `i`.
pub struct Grams {
    levels: [Vec<u32>; 4],
    kinds: [usize; 4],
}

impl Grams {
    /// Numbers the n-grams of `tokens`, across sentences.
    pub fn new(tokens: &Tokens) -> Self {
        let mut levels = [tokens.ids.clone(), vec![], vec![], vec![]];
        let mut kinds = [tokens.kinds, 0, 0, 0];
        for n in 1..4 {
            let mut numbers: HashMap<u64, u32, BuildHasherDefault<Fold>> = HashMap::default();
            let count = tokens.ids.len().saturating_sub(n);
            let level: Vec<u32> = (0..count)
                .map(|i| {
                    let pair = u64::from(levels[n - 1][i]) << 32 | u64::from(tokens.ids[i + n]);
                    let next = numbers.len() as u32;
                    *numbers.entry(pair).or_insert(next)
                })
                .collect();
            kinds[n] = numbers.len();
            levels[n] = level;
        }
        Self { levels, kinds }
    }

    /// The numbers of the n-grams by where they begin.
    pub fn of(&self, n: usize) -> &[u32] {
        &self.levels[n - 1]
    }

    /// How many different ones there are.
    pub fn kinds(&self, n: usize) -> usize {
        self.kinds[n - 1]
    }

    /// How many are repetitions of an earlier one.
    pub fn repeated(&self, n: usize) -> usize {
        self.of(n).len() - self.kinds(n)
    }
}

/// Hashes one `u64` by a folded multiplication. The keys are numbers that we gave out ourselves, so
/// nobody can aim at collisions.
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
