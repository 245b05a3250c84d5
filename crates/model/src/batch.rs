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
    /// For each sequence, the earlier sequence of the batch that it continues, if any. Empty where
    /// none does.
    pub parents: Vec<Option<usize>>,
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

    /// Adds a sequence that continues `parent`, an earlier one of this batch; gives its number.
    ///
    /// A text that several others go on from is so computed once for all of them.
    pub fn branch(&mut self, tokens: &[u32], parent: Option<usize>) -> usize {
        let sequence = self.sequences();
        if self.bounds.is_empty() {
            self.bounds.push(0);
        }
        self.parents.resize(sequence, None);
        let past = parent.map_or(0, |parent| self.text_len(parent));
        self.tokens.extend_from_slice(tokens);
        self.positions.extend((past..past + tokens.len()).map(|p| p as u32));
        self.bounds.push(self.tokens.len());
        self.parents.push(parent);
        sequence
    }

    /// The sequence that `sequence` continues.
    pub fn parent(&self, sequence: usize) -> Option<usize> {
        self.parents.get(sequence).copied().flatten()
    }

    /// Tokens of a sequence and of all it continues.
    pub fn text_len(&self, sequence: usize) -> usize {
        let own = self.bounds[sequence + 1] - self.bounds[sequence];
        own + self.parent(sequence).map_or(0, |parent| self.text_len(parent))
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
