//! Keys and values of a sequence: one slot per kept layer, to which tokens are appended.

use crate::kernels::attention_infer::{KvLayout, SPAN};
use std::sync::Arc;

/// Keys and values of one sequence in one layer, in blocks of some tokens. Copies have the same blocks until a token is
/// appended to one of them: that copies the last block, and no other.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    pub(crate) blocks: Vec<Arc<[u32]>>,
    pub(crate) tokens: usize,
}

impl LayerCache {
    /// Appends rows of keys and values, `[tokens, heads·dim]` each. A cache has one layout.
    pub fn append(&mut self, keys: &[f32], values: &[f32], layout: KvLayout) {
        let row = layout.heads * layout.dim;
        for (keys, values) in keys.chunks_exact(row).zip(values.chunks_exact(row)) {
            let at = self.tokens % SPAN;
            if at == 0 {
                self.blocks.push(std::iter::repeat_n(0, layout.block_words(SPAN)).collect());
            }
            let Some(block) = self.blocks.last_mut() else { return };
            let heads = Arc::make_mut(block).chunks_exact_mut(layout.head_words(SPAN));
            let rows = keys.chunks_exact(layout.dim).zip(values.chunks_exact(layout.dim));
            for (head, (key, value)) in heads.zip(rows) {
                layout.put(head, at, key, value);
            }
            self.tokens += 1;
        }
    }

    /// Gives back the blocks of which no token is among those from the token `first` on. They must not be read again.
    fn forget_before(&mut self, first: usize) {
        let unseen = (first / SPAN).min(self.blocks.len());
        // From the last: what is before an empty block was given back earlier.
        for block in self.blocks[..unseen].iter_mut().rev().take_while(|block| !block.is_empty()) {
            *block = Arc::default();
        }
    }

    /// Bytes of the blocks.
    fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| size_of_val(&block[..])).sum()
    }

    /// Forgets all tokens after the first `tokens`.
    fn truncate(&mut self, tokens: usize) {
        self.blocks.truncate(tokens.div_ceil(SPAN));
        self.tokens = self.tokens.min(tokens);
    }
}

/// Keys and values of one sequence for every kept layer of the candidate that is running.
///
/// Slots follow the order of the kept layers, so a cache belongs to one list of kept layers; a
/// removed layer has no slot and costs nothing.
#[derive(Debug, Clone, Default)]
pub struct SequenceCache {
    pub(crate) layers: Vec<LayerCache>,
    pub(crate) len: usize,
}

impl SequenceCache {
    /// An empty cache for `layers` kept layers.
    pub fn new(layers: usize) -> Self {
        Self { layers: vec![LayerCache::default(); layers], len: 0 }
    }

    /// The slots of the kept layers, in order.
    pub fn layers_mut(&mut self) -> &mut [LayerCache] {
        &mut self.layers
    }

    /// Says that `len` tokens have been appended to every slot.
    pub fn set_len(&mut self, len: usize) {
        self.len = len;
    }

    /// Forgets all tokens after the first `len`.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.layers.iter_mut().for_each(|layer| layer.truncate(len));
        self.len = len;
    }

    /// Gives back keys and values that no further token sees, where a layer has a window (`windows`, one for each
    /// slot). What is cached now can then not be truncated any more.
    pub fn forget_unseen(&mut self, windows: impl IntoIterator<Item = Option<usize>>) {
        for (layer, window) in self.layers.iter_mut().zip(windows) {
            // The next token is number `len`.
            layer.forget_before(window.map_or(0, |window| (self.len + 1).saturating_sub(window)));
        }
    }

    /// Bytes of keys and values, of blocks that copies have in common too.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// Tokens cached.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is cached yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
