//! The order in which documents are trained on.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The order of the first epoch of `documents`.
pub(crate) fn first_epoch(documents: usize, seed: u64) -> Vec<usize> {
    Order::new(documents, 1, seed).epoch(0).to_vec()
}

/// The batches of a run: every epoch is another permutation of the documents, a function of the seed.
pub(super) struct Order {
    documents: usize,
    batch: usize,
    seed: u64,
    epoch: usize,
    indices: Vec<usize>,
}

impl Order {
    pub(super) fn new(documents: usize, batch: usize, seed: u64) -> Self {
        Self { documents, batch, seed, epoch: usize::MAX, indices: Vec::new() }
    }

    /// The documents of step `step` (from 0), by their index.
    pub(super) fn batch(&mut self, step: usize) -> &[usize] {
        let (size, per_epoch) = (self.batch, self.documents.div_ceil(self.batch));
        let from = step % per_epoch * size;
        let indices = &self.epoch(step / per_epoch)[from..];
        &indices[..size.min(indices.len())]
    }

    fn epoch(&mut self, epoch: usize) -> &[usize] {
        if self.epoch != epoch {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            rng.set_stream(epoch as u64 + 1);
            self.indices = (0..self.documents).collect();
            // Fisher–Yates; the bias of the remainder of 64 bits is negligible.
            for i in (1..self.documents).rev() {
                self.indices.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
            }
            self.epoch = epoch;
        }
        &self.indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_has_each_document_once_in_another_order() {
        let of = |epoch, seed| Order::new(20, 6, seed).epoch(epoch).to_vec();
        let (first, second) = (of(0, 3), of(1, 3));
        assert_ne!(first, second);
        assert_ne!(first, of(0, 4));
        for mut epoch in [first, second] {
            epoch.sort_unstable();
            assert_eq!(epoch, (0..20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn batches_are_parts_of_an_epoch() {
        let mut order = Order::new(20, 6, 3);
        let second = order.epoch(1).to_vec();
        // Four batches an epoch, the last one smaller.
        let batches: Vec<Vec<usize>> = (4..8).map(|step| order.batch(step).to_vec()).collect();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6, 2]);
        assert_eq!(batches.concat(), second);
    }
}
