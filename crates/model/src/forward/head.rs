//! Logits and log-probabilities after hidden states.
//!
//! Log-probabilities of given tokens go through the vocabulary in blocks, for all rows at a time:
//! the head's weights are read once, and logits of a large vocabulary are never held whole. The
//! normaliser is accumulated from block to block (Milakov and Gimelshein, arXiv 1805.02867).

use super::Forward;
use super::linear::Layouts;
use crate::kernels::loss::sum_exp;
use crate::kernels::{Threads, max, vectorised};
use crate::layer::norm_of;
use std::ops::Range;

/// Rows of the vocabulary in a block.
const BLOCK: usize = 4096;
/// Hidden rows whose logits of a block are held at a time.
const ROWS: usize = 256;

/// A token that was really there, after the hidden row of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Number of the row among those given.
    pub row: usize,
    /// The token.
    pub token: u32,
}

/// What the model says about one token that was really there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// Natural logarithm of the token's probability.
    pub logprob: f32,
    /// Whether it was the most probable token (the lowest id wins a tie).
    pub greedy: bool,
}

/// Sees the tokens and the rows of a block, and its logits.
type EachBlock<'a> = dyn FnMut(&Range<usize>, &Range<usize>, &[f32]) + 'a;

/// What has been seen of one row's logits.
#[derive(Clone, Copy)]
struct Seen {
    peak: f32,
    /// Σ exp(logit − peak).
    sum: f32,
    /// The most probable token so far, and its logit.
    best: (u32, f32),
}

impl Seen {
    const NOTHING: Self = Self { peak: f32::NEG_INFINITY, sum: 0.0, best: (0, f32::NEG_INFINITY) };

    /// Takes the logits of the tokens from `first` on.
    #[inline(always)]
    fn add(&mut self, logits: &[f32], first: usize) {
        let block = max(logits);
        let peak = if block > self.peak { block } else { self.peak };
        if self.sum != 0.0 {
            self.sum *= (self.peak - peak).exp();
        }
        self.sum += sum_exp(logits, peak);
        self.peak = peak;
        if block > self.best.1
            && let Some(at) = logits.iter().position(|v| *v == block)
        {
            self.best = ((first + at) as u32, block);
        }
    }

    fn normaliser(&self) -> f32 {
        self.peak + self.sum.ln()
    }
}

impl Forward {
    /// Applies the final norm to the given rows of hidden states, `[n, hidden]`.
    pub fn normed_rows(&self, hidden: &[f32], rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
        let width = self.config().hidden_size;
        let gathered: Vec<f32> = rows.into_iter().flat_map(|r| hidden[r * width..][..width].iter().copied()).collect();
        let mut normed = vec![0f32; gathered.len()];
        norm_of(self.config(), &self.model.norm).forward(&gathered, &mut normed);
        normed
    }

    /// Logits `[rows, vocab]` of hidden rows that went through [`Forward::normed_rows`].
    pub fn logits(&self, threads: Threads, normed: &[f32], logits: &mut Vec<f32>) {
        let (width, vocab) = (self.config().hidden_size, self.config().vocab_size);
        logits.resize(normed.len() / width * vocab, 0.0);
        let (mut rows, head) = (Layouts::default(), self.model.output_head());
        let x = self.head.prepare(normed, width, self.precision, &mut rows);
        self.head.columns(threads, &x, 0..vocab, head.scale, logits);
        head.cap(logits);
    }

    /// Log-probability of each target after its row of `normed`.
    pub fn token_logprobs(&self, threads: Threads, normed: &[f32], targets: &[Target]) -> Vec<TokenLogprob> {
        let mut values = vec![f32::NEG_INFINITY; targets.len()];
        // The targets by the vocabulary's order and by row, so that each block finds its own.
        let mut order: Vec<usize> = (0..targets.len()).collect();
        order.sort_by_key(|at| (targets[*at].token as usize / BLOCK, targets[*at].row));
        let mut waiting = order.into_iter().peekable();
        let seen = self.scan(threads, normed, &mut |block, rows, logits| {
            let here = |at: &usize| block.contains(&(targets[*at].token as usize)) && rows.contains(&targets[*at].row);
            while let Some(at) = waiting.next_if(here) {
                let Target { row, token } = targets[at];
                values[at] = logits[(row - rows.start) * block.len() + token as usize - block.start];
            }
        });
        let result = |(target, value): (&Target, f32)| {
            let seen = &seen[target.row];
            let greedy = seen.best.0 == target.token && value == seen.best.1;
            TokenLogprob { logprob: value - seen.normaliser(), greedy }
        };
        targets.iter().zip(values).map(result).collect()
    }

    /// The most probable token after each row of `normed` (the lowest id wins a tie), and its
    /// log-probability.
    pub fn greedy(&self, threads: Threads, normed: &[f32]) -> Vec<(u32, f32)> {
        let seen = self.scan(threads, normed, &mut |_, _, _| {});
        seen.iter().map(|seen| (seen.best.0, seen.best.1 - seen.normaliser())).collect()
    }

    /// Goes through the vocabulary in blocks, for all rows; `each` sees the tokens and the rows of a
    /// block, and its logits.
    fn scan(&self, threads: Threads, normed: &[f32], each: &mut EachBlock<'_>) -> Vec<Seen> {
        let (width, vocab) = (self.config().hidden_size, self.config().vocab_size);
        let head = self.model.output_head();
        let count = normed.len() / width;
        let mut seen = vec![Seen::NOTHING; count];
        let mut layouts: Vec<Layouts> = vec![Layouts::default(); count.div_ceil(ROWS)];
        let prepared: Vec<_> = normed
            .chunks(ROWS * width)
            .zip(&mut layouts)
            .map(|(x, rows)| self.head.prepare(x, width, self.precision, rows))
            .collect();
        let mut logits = Vec::new();
        for first in (0..vocab).step_by(BLOCK) {
            let block = first..(first + BLOCK).min(vocab);
            for (chunk, x) in prepared.iter().enumerate() {
                let rows = chunk * ROWS..((chunk + 1) * ROWS).min(count);
                logits.resize(rows.len() * block.len(), 0.0);
                self.head.columns(threads, x, block.clone(), head.scale, &mut logits);
                head.cap(&mut logits);
                each(&block, &rows, &logits);
                let take = |(seen, logits): (&mut Seen, &[f32])| vectorised(|| seen.add(logits, first));
                threads.for_each_of(seen[rows].iter_mut().zip(logits.chunks_exact(block.len())).collect(), take);
            }
        }
        self.head.release();
        seen
    }
}
