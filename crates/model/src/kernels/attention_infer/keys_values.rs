//! How keys and values are stored: in blocks of [`SPAN`] tokens, in each block one key head after another, in the order
//! in which the products read them.
//!
//! In `f32`, keys come in groups of [`KEY_GROUP`] tokens, `[group][channel][16 tokens]`, and values as rows,
//! `[token][channel]`. For the instructions of [`bf16`](crate::kernels::bf16), both are rounded to bf16 and packed as
//! columns of a product are: keys `[32 tokens][pair of channels][token]`, values
//! `[32 channels][pair of tokens][channel]`, a lane of 32 bits holding a pair, filled up with zeros.
//!
//! Blocks begin at the same tokens of every text, so that texts which agree in all tokens of a block can have the same
//! block.

use super::SPAN;
use crate::kernels::bf16::{Instructions, NR, lane};

/// Tokens whose keys are interleaved in `f32`; a multiple of every vector width.
pub(super) const KEY_GROUP: usize = 16;

/// The keys and values of a layer: how many, and how they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayout {
    /// Key and value heads.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// What multiplies them in bf16; none: they are `f32`.
    pub instructions: Option<Instructions>,
}

impl KvLayout {
    /// Tokens that a block for `tokens` has to hold.
    pub(crate) fn capacity(tokens: usize) -> usize {
        tokens.next_multiple_of(NR)
    }

    /// Bytes of the whole blocks that keys and values of `tokens` tokens take.
    pub fn bytes(self, tokens: usize) -> usize {
        self.block_words(SPAN) * tokens.div_ceil(SPAN) * size_of::<u32>()
    }

    /// Words of a token's key, and of its value, in one head.
    fn token_words(self) -> (usize, usize) {
        match self.instructions {
            None => (self.dim, self.dim),
            Some(instructions) => (instructions.depth(self.dim.div_ceil(2)), self.dim.next_multiple_of(NR) / 2),
        }
    }

    /// Words of a block of one head for `capacity` tokens.
    pub(crate) fn head_words(self, capacity: usize) -> usize {
        let (key, value) = self.token_words();
        capacity * (key + value)
    }

    /// Words of a block of all heads.
    pub(crate) fn block_words(self, capacity: usize) -> usize {
        self.heads * self.head_words(capacity)
    }

    /// Keys and values of one head of a block.
    pub(super) fn head(self, block: &[u32], head: usize) -> (&[u32], &[u32]) {
        let words = block.len() / self.heads;
        let (key, value) = self.token_words();
        block[head * words..][..words].split_at(words / (key + value) * key)
    }

    /// Writes the key and the value of one token, `dim` channels each, to place `at` of the block of one head.
    pub(crate) fn put(self, head: &mut [u32], at: usize, key: &[f32], value: &[f32]) {
        let (key_words, value_words) = self.token_words();
        let capacity = head.len() / (key_words + value_words);
        let (keys, values) = head.split_at_mut(capacity * key_words);
        assert!(at < capacity && key.len() == self.dim && value.len() == self.dim, "keys and values: shapes disagree");
        if self.instructions.is_none() {
            let group = &mut keys[at / KEY_GROUP * KEY_GROUP * self.dim..][..KEY_GROUP * self.dim];
            for (lanes, key) in group.chunks_exact_mut(KEY_GROUP).zip(key) {
                lanes[at % KEY_GROUP] = key.to_bits();
            }
            for (word, value) in values[at * self.dim..][..self.dim].iter_mut().zip(value) {
                *word = value.to_bits();
            }
            return;
        }
        let columns = &mut keys[at / NR * NR * key_words..][..NR * key_words];
        for (lanes, pair) in columns.chunks_exact_mut(NR).zip(key.chunks(2)) {
            lanes[at % NR] = lane(pair[0], pair.get(1).copied().unwrap_or(0.0));
        }
        let kept = if at.is_multiple_of(2) { 0xffff_0000 } else { 0xffff };
        for (columns, value) in values.chunks_exact_mut(capacity / 2 * NR).zip(value.chunks(NR)) {
            for (lanes, value) in columns[at / 2 * NR..].iter_mut().zip(value) {
                let both = lane(*value, *value);
                *lanes = (*lanes & kept) | (both & !kept);
            }
        }
    }
}

/// Keys and values of one key head of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeysValues<'a> {
    pub layout: KvLayout,
    /// Tokens of the text.
    pub tokens: usize,
    /// The head.
    pub head: usize,
    pub spans: Spans<'a>,
}

/// The blocks of a text.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spans<'a> {
    /// Of a cache.
    Blocks(&'a [std::sync::Arc<[u32]>]),
    /// Those of `list` among all blocks, which begin in `words` at the places of `starts` (and end at the next one's).
    Listed { words: &'a [u32], starts: &'a [usize], list: &'a [usize] },
}

impl<'a> KeysValues<'a> {
    /// Keys and values of the block in which the token `span` is the first.
    pub(super) fn span(&self, span: usize) -> (&'a [u32], &'a [u32]) {
        let number = span / SPAN;
        let block = match self.spans {
            Spans::Blocks(blocks) => &blocks[number][..],
            Spans::Listed { words, starts, list } => &words[starts[list[number]]..starts[list[number] + 1]],
        };
        self.layout.head(block, self.head)
    }
}
