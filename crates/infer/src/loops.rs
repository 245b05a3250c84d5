//! Answers that go round in circles: a greedy answer that has said the same thing word for word
//! several times over will go on so until its length ends it, which costs more than all others.

use serde::{Deserialize, Serialize};

/// When a generation counts as a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoopStop {
    /// How often the same tokens must have come one after another.
    pub periods: usize,
    /// How many tokens these repetitions must make up at least.
    pub tokens: usize,
    /// The longest unit that is looked for, in tokens.
    pub longest: usize,
}

impl Default for LoopStop {
    /// Four times the same, and at least 48 tokens of it; units of up to 96 tokens.
    fn default() -> Self {
        Self { periods: 4, tokens: 48, longest: 96 }
    }
}

/// Watches one generation.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoopWatch {
    /// `runs[p − 1]`: how many of the newest tokens equal the token `p` places before.
    runs: Vec<u32>,
}

impl LoopWatch {
    /// Takes the newest token of `tokens`; whether a loop is complete with it.
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
