//! Seeds of finetuning: one, or several to see how much a seed changes.

use serde::{Deserialize, Serialize};

/// Most seeds of a study: each is a finetuning of every healed depth.
pub const MOST_SEEDS: usize = 32;

/// Seeds of finetuning. In files, a number or a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum HealSeeds {
    /// So many, counted up from the recipe's seed.
    Number(usize),
    /// These; the recipe's own is not used.
    List(Vec<u64>),
}

impl Default for HealSeeds {
    fn default() -> Self {
        Self::Number(1)
    }
}

impl HealSeeds {
    /// The seeds, of which the first is that of the healing that the budget is about; `first` is the recipe's.
    pub fn of(&self, first: u64) -> Vec<u64> {
        match self {
            Self::Number(number) => (0..*number as u64).map(|n| first.wrapping_add(n)).collect(),
            Self::List(seeds) => seeds.clone(),
        }
    }

    /// Whether there is at least one seed, and none twice.
    pub fn is_valid(&self) -> bool {
        match self {
            Self::Number(number) => (1..=MOST_SEEDS).contains(number),
            Self::List(seeds) => {
                let different = seeds.iter().enumerate().all(|(at, seed)| !seeds[..at].contains(seed));
                different && (1..=MOST_SEEDS).contains(&seeds.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_number_or_a_list() {
        assert_eq!(HealSeeds::default().of(4), [4]);
        assert_eq!(HealSeeds::Number(3).of(u64::MAX), [u64::MAX, 0, 1]);
        assert_eq!(HealSeeds::List(vec![9, 2]).of(4), [9, 2]);
        let read = |text: &str| serde_json::from_str::<HealSeeds>(text);
        assert_eq!((read("2").unwrap(), read("[2]").unwrap()), (HealSeeds::Number(2), HealSeeds::List(vec![2])));
        assert!(read("\"two\"").is_err() && read("-1").is_err());
        for (text, valid) in [("0", false), ("33", false), ("[]", false), ("[1, 2, 1]", false), ("[1, 2]", true)] {
            assert_eq!(read(text).unwrap().is_valid(), valid, "{text}");
        }
    }
}
