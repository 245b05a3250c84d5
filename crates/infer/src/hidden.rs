//! Hidden states at every layer boundary, for the criteria that compare what goes into a layer
//! with what comes out.

use crate::engine::{Engine, runs};
use anyhow::Result;
use lopper_model::Batch;

/// Bytes of hidden states held for one pass.
const PASS_BYTES: usize = 128 << 20;

/// Hidden states of one batch of sequences.
#[derive(Debug)]
pub struct HiddenStates<'a> {
    /// Number of the batch's first sequence in the list that was given.
    pub first_sequence: usize,
    /// The sequences, packed.
    pub batch: &'a Batch,
    /// Values in a row.
    pub width: usize,
    /// `boundaries[i]`: the residual stream after `i` of the kept layers (0: the embedding), before
    /// the final norm; `[batch.len(), width]`.
    pub boundaries: &'a [Vec<f32>],
}

impl HiddenStates<'_> {
    /// The hidden state of a token (by its number in the packed batch) at a boundary.
    pub fn row(&self, boundary: usize, token: usize) -> &[f32] {
        &self.boundaries[boundary][token * self.width..][..self.width]
    }
}

impl Engine {
    /// Calls `visitor` with the hidden states of all sequences, batch by batch in order. What the
    /// batches are depends on the sequences and the model alone, so sums over them repeat exactly.
    pub fn visit_hidden(
        &self,
        kept: &[usize],
        sequences: &[Vec<u32>],
        mut visitor: impl FnMut(&HiddenStates<'_>) -> Result<()>,
    ) -> Result<()> {
        for sequence in sequences {
            self.model().check(sequence, kept)?;
        }
        let width = self.model().config.hidden_size;
        let row_bytes = (kept.len() + 1) * width * size_of::<f32>();
        let budget = (PASS_BYTES / row_bytes).clamp(64, crate::depths::CHUNK_TOKENS);
        let jobs = runs(sequences.iter().map(Vec::len), budget);
        // As many batches at a time as there are lanes, so that memory stays bounded.
        for jobs in jobs.chunks(self.lanes(jobs.len())) {
            let states = self.each(jobs.to_vec(), |range, par| {
                let batch = Batch::new(&sequences[range.clone()]);
                let mut boundaries = Vec::with_capacity(kept.len() + 1);
                let mut tap = |_: usize, hidden: &[f32]| boundaries.push(hidden.to_vec());
                self.forward().hidden_states(&batch, kept, par, None, Some(&mut tap))?;
                Ok((range.start, batch, boundaries))
            })?;
            for (first_sequence, batch, boundaries) in &states {
                visitor(&HiddenStates { first_sequence: *first_sequence, batch, width, boundaries })?;
            }
        }
        Ok(())
    }
}
