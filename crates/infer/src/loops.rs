//! Repetitive answers: a greedy answer that has repeated the same tokens several times repeats them until the length
//! limit, which costs more than all other answers.

use serde::{Deserialize, Serialize};

/// When a generation counts as a loop and is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopStop {
    /// Least number of consecutive repetitions of the same tokens.
    pub periods: usize,
    /// Least number of tokens in these repetitions together.
    pub tokens: usize,
    /// Most tokens in the repeated unit.
    pub longest: usize,
}

impl Default for LoopStop {
    /// Four repetitions of at least 48 tokens together; units of up to 96 tokens.
    fn default() -> Self {
        Self { periods: 4, tokens: 48, longest: 96 }
    }
}

/// Watches one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoopWatch {
    /// `runs[p − 1]`: how many of the newest tokens in a row equal the token `p` tokens before them.
    runs: Vec<u32>,
}

impl LoopWatch {
    /// Whether the newest token of `tokens` completes a loop. Called once for each token.
    pub fn push(&mut self, tokens: &[u32], stop: LoopStop) -> bool {
        let Some((newest, before)) = tokens.split_last() else { return false };
        self.runs.resize(stop.longest, 0);
        let mut found = false;
        for (period, run) in (1..).zip(&mut self.runs) {
            let same = before.len() >= period && before[before.len() - period] == *newest;
            *run = if same { *run + 1 } else { 0 };
            // A run of r tokens that repeat is r + period tokens of the loop.
            let span = *run as usize + period;
            found |= same && span >= stop.periods * period && span >= stop.tokens;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_at(tokens: &[u32], stop: LoopStop) -> Option<usize> {
        let mut watch = LoopWatch::default();
        (1..=tokens.len()).find(|len| watch.push(&tokens[..*len], stop))
    }

    #[test]
    fn loops_of_any_unit_are_found_when_complete() {
        let stop = LoopStop { periods: 3, tokens: 6, longest: 8 };
        let cycle = |unit: &[u32]| unit.iter().copied().cycle().take(40).collect::<Vec<_>>();
        assert_eq!(ends_at(&cycle(&[7]), stop), Some(6));
        assert_eq!(ends_at(&cycle(&[7, 8]), stop), Some(6));
        assert_eq!(ends_at(&cycle(&[1, 2, 3, 4, 5]), stop), Some(15));
        assert_eq!(ends_at(&cycle(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), stop), None);
        let late: Vec<u32> = (100..120).chain(cycle(&[1, 2, 3])).collect();
        assert_eq!(ends_at(&late, stop), Some(29));
        // Twice the same is no loop, nor is what changes each time.
        assert_eq!(ends_at(&[1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8], stop), None);
        assert_eq!(ends_at(&(0..50).flat_map(|i| [1, 2, i]).collect::<Vec<_>>(), stop), None);
    }
}
