//! The texts of a batch as blocks of tokens. Texts that agree in all tokens of a block have it in common.

use crate::batch::Batch;
use crate::kernels::Threads;
use crate::kernels::attention_infer::{KvLayout, SPAN};
use std::ops::Range;

/// Blocks of tokens, and which of them make up the text of each sequence.
pub(super) struct Texts {
    blocks: Vec<Block>,
    /// Block numbers, of one sequence after another.
    lists: Vec<usize>,
    /// Where each sequence's begin in `lists`, and the end.
    bounds: Vec<usize>,
}

/// Up to [`SPAN`] tokens.
#[derive(Clone, Default)]
struct Block {
    /// Their rows in the batch.
    rows: Vec<Range<usize>>,
    tokens: usize,
}

impl Texts {
    pub fn of(batch: &Batch) -> Self {
        let mut texts = Self { blocks: vec![], lists: vec![], bounds: vec![0] };
        for sequence in 0..batch.sequences() {
            let mut rows = batch.bounds[sequence]..batch.bounds[sequence + 1];
            let mut last = Block::default();
            if let Some(parent) = batch.parent(sequence) {
                let mut begun = texts.bounds[parent]..texts.bounds[parent + 1];
                // What the parent leaves unfinished is continued in a block of its own.
                if !rows.is_empty()
                    && let Some(unfinished) = begun.clone().last().map(|at| &texts.blocks[texts.lists[at]])
                    && unfinished.tokens < SPAN
                {
                    last = unfinished.clone();
                    begun.end -= 1;
                }
                texts.lists.extend_from_within(begun);
            }
            while !rows.is_empty() {
                let taken = rows.start..rows.end.min(rows.start + SPAN - last.tokens);
                rows.start = taken.end;
                last.tokens += taken.len();
                last.rows.push(taken);
                texts.lists.push(texts.blocks.len());
                texts.blocks.push(std::mem::take(&mut last));
            }
            texts.bounds.push(texts.lists.len());
        }
        texts
    }

    /// The numbers of the blocks of a sequence's text.
    pub fn blocks_of(&self, sequence: usize) -> &[usize] {
        &self.lists[self.bounds[sequence]..self.bounds[sequence + 1]]
    }

    /// Where each block begins among the words of all, and the end.
    pub fn starts(&self, layout: KvLayout) -> Vec<usize> {
        let mut at = 0;
        let ends = self.blocks.iter().map(|block| {
            at += layout.block_words(KvLayout::capacity(block.tokens));
            at
        });
        std::iter::once(0).chain(ends).collect()
    }

    /// Writes the blocks' keys and values, of rows `[heads·dim]` of the batch, into `words`.
    pub fn write(&self, threads: Threads, layout: KvLayout, keys: &[f32], values: &[f32], words: &mut Vec<u32>) {
        let row = layout.heads * layout.dim;
        words.resize(self.starts(layout).last().copied().unwrap_or(0), 0);
        let mut heads = Vec::with_capacity(self.blocks.len() * layout.heads);
        let mut rest = words.as_mut_slice();
        for block in &self.blocks {
            for head in 0..layout.heads {
                let (words, later) = rest.split_at_mut(layout.head_words(KvLayout::capacity(block.tokens)));
                heads.push((block, head, words));
                rest = later;
            }
        }
        let write = |(block, head, words): (&Block, usize, &mut [u32])| {
            // Places without a token are read, and weigh nothing.
            if block.tokens < KvLayout::capacity(block.tokens) {
                words.fill(0);
            }
            for (at, token) in block.rows.iter().cloned().flatten().enumerate() {
                let own = token * row + head * layout.dim..token * row + (head + 1) * layout.dim;
                layout.put(words, at, &keys[own.clone()], &values[own]);
            }
        };
        threads.for_each_of(heads, write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of the batch that a sequence's text reads, in order.
    fn rows(texts: &Texts, sequence: usize) -> Vec<usize> {
        let blocks = texts.blocks_of(sequence).iter().map(|block| &texts.blocks[*block]);
        blocks.flat_map(|block| block.rows.iter().cloned().flatten()).collect()
    }

    #[test]
    fn texts_have_whole_blocks_in_common() {
        let tokens = [0u32; 300];
        let mut batch = Batch::default();
        let stem = batch.branch(&tokens[..200], None);
        let short = batch.branch(&tokens[..1], Some(stem));
        let long = batch.branch(&tokens[..150], Some(stem));
        let end = batch.branch(&tokens[..3], Some(long));
        let other = batch.branch(&tokens[..128], None);
        let after = batch.branch(&tokens[..2], Some(other));
        let empty = batch.branch(&[], Some(stem));
        let texts = Texts::of(&batch);
        let text =
            |parts: &[usize]| parts.iter().flat_map(|s| batch.bounds[*s]..batch.bounds[s + 1]).collect::<Vec<_>>();
        assert_eq!(rows(&texts, stem), text(&[stem]));
        assert_eq!(rows(&texts, short), text(&[stem, short]));
        assert_eq!(rows(&texts, long), text(&[stem, long]));
        assert_eq!(rows(&texts, end), text(&[stem, long, end]));
        assert_eq!(rows(&texts, after), text(&[other, after]));
        assert_eq!(rows(&texts, empty), text(&[stem]));
        for sequence in [short, long, end, empty] {
            assert_eq!(texts.blocks_of(sequence)[0], texts.blocks_of(stem)[0]);
        }
        assert_eq!(texts.blocks_of(after)[0], texts.blocks_of(other)[0]);
        assert_eq!(texts.blocks.len(), 2 + 1 + 2 + 1 + 1 + 1);
        assert!(texts.blocks.iter().all(|block| block.tokens <= SPAN));
    }
}
