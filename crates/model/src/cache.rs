//! Keys and values of a sequence: one slot per kept layer, rows appended token by token.

use crate::kernels::attention_infer::{append_keys, key_len};

/// Keys and values of one sequence in one layer: values `[tokens, key_value_heads·head_dim]`, keys
/// the same in transposed blocks of tokens, as [`crate::kernels::attention_infer`] reads them.
#[derive(Debug, Clone, Default)]
pub struct LayerCache {
    pub(crate) keys: Vec<f32>,
    pub(crate) values: Vec<f32>,
}

impl LayerCache {
    /// Appends rows of keys and values, each `kv_row` wide.
    pub fn append(&mut self, keys: &[f32], values: &[f32], kv_row: usize) {
        append_keys(&mut self.keys, self.values.len() / kv_row, keys.chunks_exact(kv_row), kv_row);
        self.values.extend_from_slice(values);
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
        for layer in &mut self.layers {
            let row = layer.values.len().checked_div(self.len).unwrap_or(0);
            layer.keys.truncate(key_len(len, row));
            layer.values.truncate(len * row);
        }
        self.len = len;
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
