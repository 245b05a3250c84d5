//! Names and shapes of a checkpoint's tensors, as transformers writes them for every supported
//! family. Weights of linear maps are `[out, in]`.

use crate::config::{Config, NormPlacement, QkNorm};

/// The token embedding, `[vocab_size, hidden_size]`.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The RMSNorm after the last layer, `[hidden_size]`.
pub const FINAL_NORM: &str = "model.norm.weight";
/// The head, `[vocab_size, hidden_size]`; absent (or ignored) where it is tied to the embedding.
pub const HEAD: &str = "lm_head.weight";
/// What the name of every tensor of a layer begins with; the layer's index follows.
pub const LAYER_PREFIX: &str = "model.layers.";

/// Every tensor that a checkpoint with this configuration must hold, with its shape.
pub fn expected_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let mut tensors = vec![(EMBEDDING.to_owned(), vec![config.vocab_size, config.hidden_size])];
    for layer in 0..config.num_hidden_layers {
        for (name, shape) in layer_tensors(config) {
            tensors.push((format!("{LAYER_PREFIX}{layer}.{name}"), shape));
        }
    }
    tensors.push((FINAL_NORM.to_owned(), vec![config.hidden_size]));
    if !config.tie_word_embeddings {
        tensors.push((HEAD.to_owned(), vec![config.vocab_size, config.hidden_size]));
    }
    tensors
}

impl Config {
    /// Parameters of one decoder layer.
    pub fn parameters_per_layer(&self) -> usize {
        layer_tensors(self).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Parameters outside the layers: embedding, final norm, and the head unless it is tied.
    pub fn parameters_outside_layers(&self) -> usize {
        let embedding = self.vocab_size * self.hidden_size;
        embedding + self.hidden_size + if self.tie_word_embeddings { 0 } else { embedding }
    }
}

/// The names, within a layer, of the norms around attention and MLP; `None` where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormNames {
    /// Before the attention.
    pub before_attention: Option<&'static str>,
    /// After the attention, before its result is added.
    pub after_attention: Option<&'static str>,
    /// Before the MLP.
    pub before_mlp: Option<&'static str>,
    /// After the MLP, before its result is added.
    pub after_mlp: Option<&'static str>,
}

impl NormNames {
    /// The names that transformers gives the norms of each placement. The same name means another
    /// norm in another placement.
    pub fn of(placement: NormPlacement) -> Self {
        let none = Self { before_attention: None, after_attention: None, before_mlp: None, after_mlp: None };
        match placement {
            NormPlacement::Before => {
                Self { before_attention: Some("input_layernorm"), before_mlp: Some("post_attention_layernorm"), ..none }
            }
            NormPlacement::After => Self {
                after_attention: Some("post_attention_layernorm"),
                after_mlp: Some("post_feedforward_layernorm"),
                ..none
            },
            NormPlacement::Around => Self {
                before_attention: Some("input_layernorm"),
                after_attention: Some("post_attention_layernorm"),
                before_mlp: Some("pre_feedforward_layernorm"),
                after_mlp: Some("post_feedforward_layernorm"),
            },
        }
    }

    /// Those that are there.
    pub fn present(self) -> impl Iterator<Item = &'static str> {
        [self.before_attention, self.after_attention, self.before_mlp, self.after_mlp].into_iter().flatten()
    }
}

/// The tensors of one layer, named within the layer (`self_attn.q_proj.weight`), with shapes.
pub fn layer_tensors(config: &Config) -> Vec<(String, Vec<usize>)> {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let mut tensors = Vec::new();
    for name in NormNames::of(config.norm_placement).present() {
        tensors.push((format!("{name}.weight"), vec![hidden]));
    }
    let mut linear = |name: &str, outputs: usize, inputs: usize, bias: bool| {
        tensors.push((format!("{name}.weight"), vec![outputs, inputs]));
        if bias {
            tensors.push((format!("{name}.bias"), vec![outputs]));
        }
    };
    if config.fused_projections {
        linear("self_attn.qkv_proj", query + 2 * key_value, hidden, config.qkv_bias);
        linear("mlp.gate_up_proj", 2 * mlp, hidden, config.mlp_bias);
    } else {
        linear("self_attn.q_proj", query, hidden, config.qkv_bias);
        linear("self_attn.k_proj", key_value, hidden, config.qkv_bias);
        linear("self_attn.v_proj", key_value, hidden, config.qkv_bias);
        linear("mlp.gate_proj", mlp, hidden, config.mlp_bias);
        linear("mlp.up_proj", mlp, hidden, config.mlp_bias);
    }
    linear("self_attn.o_proj", hidden, query, config.o_bias);
    linear("mlp.down_proj", hidden, mlp, config.mlp_bias);
    let widths = match config.qk_norm {
        QkNorm::None => None,
        QkNorm::Head => Some((config.head_dim, config.head_dim)),
        QkNorm::Projection => Some((query, key_value)),
    };
    if let Some((query, key)) = widths {
        tensors.push(("self_attn.q_norm.weight".to_owned(), vec![query]));
        tensors.push(("self_attn.k_norm.weight".to_owned(), vec![key]));
    }
    tensors
}

/// The layer a tensor belongs to and its name within the layer; `None` outside the layers.
pub fn layer_of(name: &str) -> Option<(usize, &str)> {
    let (index, rest) = name.strip_prefix(LAYER_PREFIX)?.split_once('.')?;
    // `parse` would also take `+3` and `03`, which no writer produces.
    if index.is_empty() || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    if index.len() > 1 && index.starts_with('0') {
        return None;
    }
    Some((index.parse().ok()?, rest))
}

/// The name of the same tensor in layer `layer`; `None` for tensors outside the layers.
pub fn rename_layer(name: &str, layer: usize) -> Option<String> {
    let (_, rest) = layer_of(name)?;
    Some(format!("{LAYER_PREFIX}{layer}.{rest}"))
}
