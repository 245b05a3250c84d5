//! The token sequences over which layer criteria are measured.
//!
//! Scores depend on the text, so a cut records its hash. Block influence averages over tokens and angular distance over
//! the last tokens of sequences: how a text is divided into sequences matters, and is part of the hash.

use lopper_record::{Fault, Result};

use crate::plan::CalibrationId;

/// Token sequences, none of them empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calibration {
    sequences: Vec<Vec<u32>>,
    tokens: usize,
}

impl Calibration {
    /// Calibration over these sequences of token ids.
    ///
    /// # Errors
    /// A [`Fault`] when there is no sequence, or one without a token.
    pub fn new(sequences: Vec<Vec<u32>>) -> Result<Self> {
        if sequences.is_empty() {
            return Err(Fault::new("there is no calibration text")
                .expected("at least one sequence of tokens")
                .got("none")
                .hint("give a longer text")
                .into());
        }
        if let Some(empty) = sequences.iter().position(Vec::is_empty) {
            return Err(Fault::new(format!("calibration sequence {empty} holds no token"))
                .expected("at least one token in each sequence")
                .got("an empty sequence")
                .hint("leave empty sequences out")
                .into());
        }
        let tokens = sequences.iter().map(Vec::len).sum();
        Ok(Self { sequences, tokens })
    }

    /// The sequences.
    pub fn sequences(&self) -> &[Vec<u32>] {
        &self.sequences
    }

    /// Tokens of all sequences together.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// blake3 over the token ids and where the sequences end, in hexadecimal.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"lopper calibration 1");
        for sequence in &self.sequences {
            hasher.update(&(sequence.len() as u64).to_le_bytes());
            for token in sequence {
                hasher.update(&token.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// What a plan records of it.
    pub fn id(&self) -> CalibrationId {
        CalibrationId { hash: self.hash(), sequences: self.sequences.len(), tokens: self.tokens }
    }

    /// The sequences in groups of at most `most` tokens, in order. The grouping changes no result.
    pub(crate) fn groups(&self, most: usize) -> Vec<&[Vec<u32>]> {
        groups(&self.sequences, |sequence| sequence.len() as u64, most as u64)
    }
}

/// Divides `items` into consecutive groups whose sizes add up to at most `most`; a larger item is a group by itself.
pub(crate) fn groups<T>(items: &[T], size: impl Fn(&T) -> u64, most: u64) -> Vec<&[T]> {
    let mut groups = Vec::new();
    let (mut start, mut sum) = (0, 0u64);
    for (index, item) in items.iter().enumerate() {
        if index > start && sum.saturating_add(size(item)) > most {
            groups.push(&items[start..index]);
            (start, sum) = (index, 0);
        }
        sum = sum.saturating_add(size(item));
    }
    groups.push(&items[start..]);
    groups
}

/// Divides a sequence that is longer than `longest` tokens into pieces of `longest`; the last
/// piece is what is left.
pub fn windows(sequence: &[u32], longest: usize) -> Vec<Vec<u32>> {
    sequence.chunks(longest.max(1)).map(<[u32]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_sequence_once_and_in_order() {
        let lengths = [3usize, 9, 1, 1, 4, 2];
        let sequences: Vec<Vec<u32>> = lengths.iter().map(|n| vec![7; *n]).collect();
        let calibration = Calibration::new(sequences.clone()).unwrap();
        assert_eq!(calibration.tokens(), 20);
        let groups = calibration.groups(6);
        assert_eq!(groups.concat(), sequences);
        for group in &groups {
            let tokens: usize = group.iter().map(Vec::len).sum();
            assert!(!group.is_empty() && (tokens <= 6 || group.len() == 1), "{group:?}");
        }
        assert_eq!(groups.len(), 4);
    }

    #[test]
    fn the_hash_depends_on_where_sequences_end() {
        let hash = |s: Vec<Vec<u32>>| Calibration::new(s).unwrap().hash();
        assert_ne!(hash(vec![vec![1, 2], vec![3]]), hash(vec![vec![1], vec![2, 3]]));
        assert_eq!(hash(vec![vec![1, 2]]), hash(vec![vec![1, 2]]));
    }

    #[test]
    fn nothing_to_measure_is_the_users_fault() {
        for sequences in [vec![], vec![vec![1], vec![]]] {
            let error = Calibration::new(sequences).unwrap_err();
            assert!(error.fault().is_some());
        }
    }

    #[test]
    fn windows_cover_the_sequence() {
        let sequence: Vec<u32> = (0..10).collect();
        let pieces = windows(&sequence, 4);
        assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
        assert_eq!(pieces.concat(), sequence);
        assert_eq!(windows(&sequence, 10).len(), 1);
    }
}
