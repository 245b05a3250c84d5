//! How large a model is: parameters by what they are for, and bytes of keys and values.

use serde::Serialize;

use crate::config::Config;
use crate::tensors::layer_tensors;

/// Parameters of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ParameterCounts {
    /// All of them.
    pub total: u64,
    /// The token embedding.
    pub embedding: u64,
    /// The head; 0 where it is tied to the embedding.
    pub head: u64,
    /// The norm after the last layer.
    pub final_norm: u64,
    /// One decoder layer.
    pub per_layer: LayerParameters,
}

/// Parameters of one decoder layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct LayerParameters {
    /// All of them.
    pub total: u64,
    /// The projections of the attention.
    pub attention: u64,
    /// The projections of the MLP.
    pub mlp: u64,
    /// The norms, those of queries and keys among them.
    pub norms: u64,
}

impl Config {
    /// Parameters by what they are for.
    pub fn parameter_counts(&self) -> ParameterCounts {
        let mut layer = LayerParameters::default();
        for (name, shape) in layer_tensors(self) {
            let n: u64 = shape.iter().map(|d| *d as u64).product();
            layer.total += n;
            // Norms of queries and keys belong to the norms wherever their name puts them.
            *(if name.contains("norm") {
                &mut layer.norms
            } else if name.starts_with("mlp.") {
                &mut layer.mlp
            } else {
                &mut layer.attention
            }) += n;
        }
        let embedding = self.vocab_size as u64 * self.hidden_size as u64;
        let head = if self.tie_word_embeddings { 0 } else { embedding };
        let final_norm = self.hidden_size as u64;
        let total = embedding + head + final_norm + layer.total * self.num_hidden_layers as u64;
        ParameterCounts { total, embedding, head, final_norm, per_layer: layer }
    }

    /// Bytes of one token's keys and values in one layer, in f32.
    pub fn kv_bytes_per_layer(&self) -> u64 {
        2 * 4 * self.key_value_size() as u64
    }

    /// Bytes of each layer's keys and values when the context is full, in f32: a window keeps what it reaches.
    pub fn kv_bytes_at_context(&self) -> Vec<u64> {
        let context = self.max_position_embeddings;
        let tokens = self.layers.iter().map(|layer| layer.window.map_or(context, |window| window.min(context)));
        tokens.map(|tokens| self.kv_bytes_per_layer().saturating_mul(tokens as u64)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_bound_the_cache() {
        let mut config = Config { max_position_embeddings: 1000, ..Config::plain(3, 2, 8) };
        // 2 heads of 8, keys and values, 4 bytes.
        assert_eq!(config.kv_bytes_at_context(), [1000 * 128; 3]);
        config.layers[0].window = Some(10);
        config.layers[1].window = Some(5000);
        assert_eq!(config.kv_bytes_at_context(), [10 * 128, 1000 * 128, 1000 * 128]);
    }
}
