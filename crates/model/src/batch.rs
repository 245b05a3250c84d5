//! Packed batches: the tokens of all sequences one after another, without padding.

/// Token ids of several sequences, packed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Token ids of all sequences, one after another.
    pub tokens: Vec<u32>,
    /// Position of each token in its sequence.
    pub positions: Vec<u32>,
    /// Where each sequence begins in `tokens`, and the end: `[0, …, tokens.len()]`.
    pub bounds: Vec<usize>,
}

impl Batch {
    /// Packs whole sequences.
    pub fn new<S: AsRef<[u32]>>(sequences: &[S]) -> Self {
        Self::continued(sequences.iter().map(|s| (s.as_ref(), 0)))
    }

    /// Packs the next tokens of sequences of which some tokens (the number) are already cached.
    pub fn continued<'a>(sequences: impl IntoIterator<Item = (&'a [u32], usize)>) -> Self {
        let mut batch = Self { bounds: vec![0], ..Self::default() };
        for (tokens, past) in sequences {
            batch.tokens.extend_from_slice(tokens);
            batch.positions.extend((past..past + tokens.len()).map(|p| p as u32));
            batch.bounds.push(batch.tokens.len());
        }
        batch
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.bounds.len().saturating_sub(1)
    }

    /// Tokens of all sequences together.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no token at all.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }
}
