//! The decoder's configuration: what every supported family lowers its `config.json` to.
//!
//! One decoder is driven by these fields; a family (see [`crate::families`]) is a function from a
//! Hugging Face configuration to a [`Config`], and says loudly what it does not support.

use crate::kernels::attention::Heads;
use lopper_record::{LayerPosition, LayerSet};
use serde::{Deserialize, Serialize};

pub use crate::kernels::activation::Activation;
pub use crate::kernels::rope::{Rope, RopeScaling};

/// In what one decoder layer may differ from its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerKind {
    /// A token sees itself and the `window - 1` tokens before it; all of them where there is none.
    pub window: Option<usize>,
    /// Which of [`Config::ropes`] turns queries and keys; none in layers without position (NoPE).
    pub rope: Option<usize>,
}

impl LayerKind {
    /// Full attention with the first rotary embedding.
    pub const FULL: Self = Self { window: None, rope: Some(0) };
}

/// Which norms a layer has, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// Before attention and MLP: `x + f(norm(x))`.
    Before,
    /// After each, before it is added: `x + norm(f(x))` (OLMo 2 and 3).
    After,
    /// Both: `x + norm(f(norm(x)))` (Gemma 2 and 3).
    Around,
}

/// RMSNorm of queries and keys before the rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// There is none.
    None,
    /// Over each head (Qwen3, Gemma 3).
    Head,
    /// Over all heads together (OLMo 2 and 3).
    Projection,
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
    /// What is special about each layer: `num_hidden_layers` entries.
    pub layers: Vec<LayerKind>,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// The function of the MLP's gate.
    pub activation: Activation,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f64,
    /// Added to the weights of every RMSNorm: 1 in Gemma, whose checkpoints hold the difference.
    pub norm_offset: f32,
    /// Where the norms of a layer are.
    pub norm_placement: NormPlacement,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Rotary position embeddings; layers name theirs.
    pub ropes: Vec<Rope>,
    /// The head is the embedding, transposed.
    pub tie_word_embeddings: bool,
    /// Biases on the query, key and value projections.
    pub qkv_bias: bool,
    /// Bias on the output projection of the attention.
    pub o_bias: bool,
    /// Biases in the MLP.
    pub mlp_bias: bool,
    /// Query, key and value are one matrix (`qkv_proj`), gate and up another (`gate_up_proj`): Phi-3.
    pub fused_projections: bool,
    /// Multiplies query·key products; usually 1/√head_dim.
    pub attention_scale: f32,
    /// Scores s become c·tanh(s/c) before the softmax.
    pub attention_softcap: Option<f32>,
    /// Multiplies the embedded tokens; usually 1.
    pub embedding_scale: f32,
    /// Multiplies what attention and MLP add to the residual stream; usually 1.
    pub residual_scale: f32,
    /// Multiplies the logits; usually 1.
    pub logit_scale: f32,
    /// Logits l become c·tanh(l/c).
    pub logit_softcap: Option<f32>,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// Token that begins a text, where the configuration names one.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a text, from the model configuration (generation_config.json may add more).
    pub eos_token_ids: Vec<u32>,
}

impl Config {
    /// A Llama-like decoder of `layers` layers and `heads` heads of `head_dim`, everything optional
    /// left out: what families, tests and trained models begin with. Widths follow from the heads
    /// and are meant to be changed.
    pub fn plain(layers: usize, heads: usize, head_dim: usize) -> Self {
        Self {
            model_type: "llama".into(),
            vocab_size: 256,
            hidden_size: heads * head_dim,
            num_hidden_layers: layers,
            layers: vec![LayerKind::FULL; layers],
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim,
            intermediate_size: 4 * heads * head_dim,
            activation: Activation::Silu,
            rms_norm_eps: 1e-6,
            norm_offset: 0.0,
            norm_placement: NormPlacement::Before,
            qk_norm: QkNorm::None,
            ropes: vec![Rope::plain(10_000.0, head_dim)],
            tie_word_embeddings: false,
            qkv_bias: false,
            o_bias: false,
            mlp_bias: false,
            fused_projections: false,
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_softcap: None,
            embedding_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_softcap: None,
            max_position_embeddings: 2048,
            bos_token_id: None,
            eos_token_ids: Vec::new(),
        }
    }

    /// Width of all query heads together.
    pub fn query_size(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn key_value_size(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// The same model with only the layers at the positions `kept`.
    ///
    /// # Panics
    /// If the model does not have one of them.
    pub fn keep(&self, kept: &LayerSet<LayerPosition>) -> Self {
        let layers = kept.indices().map(|layer| self.layers[layer]).collect();
        Self { num_hidden_layers: kept.len(), layers, ..self.clone() }
    }

    /// Shapes and constants of the attention of a layer of this kind.
    pub fn heads(&self, kind: LayerKind) -> Heads {
        Heads {
            query: self.num_attention_heads,
            key_value: self.num_key_value_heads,
            dim: self.head_dim,
            scale: self.attention_scale,
            softcap: self.attention_softcap,
            window: kind.window,
        }
    }

    /// Widths of queries, keys and values.
    pub fn qkv_sizes(&self) -> [usize; 3] {
        [self.query_size(), self.key_value_size(), self.key_value_size()]
    }
}
