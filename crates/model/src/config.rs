//! The decoder's configuration: what every supported family lowers its `config.json` to.
//!
//! One decoder is driven by these fields; a family (see [`crate::families`]) is a function from a
//! Hugging Face configuration to a [`Config`], and says loudly what it does not support.

use serde::{Deserialize, Serialize};

/// Rotary position embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the geometric progression of wavelengths (`rope_theta`).
    pub theta: f64,
}

/// Everything the decoder needs to know about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// `model_type` of the checkpoint, such as `llama` or `qwen3`.
    pub model_type: String,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Decoder layers in the checkpoint.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Rotary position embedding.
    pub rope: Rope,
    /// The head is the embedding, transposed.
    pub tie_word_embeddings: bool,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the output projection of the attention.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// RMSNorm over each query and key head before the rotation (Qwen3).
    pub qk_norm: bool,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Token that begins a text, where the configuration names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text, from the model configuration (generation_config.json may add more).
    pub eos_token_ids: Vec<u32>,
}

impl Config {
    /// Multiplies query·key products: 1/√head_dim.
    pub fn attention_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Parameters of one decoder layer.
    pub fn parameters_per_layer(&self) -> usize {
        let (h, q, kv, m) = (self.hidden_size, self.query_size(), self.key_value_size(), self.intermediate_size);
        let mut n = h * q + 2 * h * kv + q * h + 3 * h * m + 2 * h;
        if self.qkv_bias {
            n += q + 2 * kv;
        }
        if self.o_bias {
            n += h;
        }
        if self.mlp_bias {
            n += 2 * m + h;
        }
        if self.qk_norm {
            n += 2 * self.head_dim;
        }
        n
    }

    /// Parameters outside the layers: embedding, final norm, and the head unless it is tied.
    pub fn parameters_outside_layers(&self) -> usize {
        let embedding = self.vocab_size * self.hidden_size;
        embedding + self.hidden_size + if self.tie_word_embeddings { 0 } else { embedding }
    }
}
