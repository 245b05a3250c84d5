//! Names and shapes of a checkpoint's tensors, as transformers writes them for every supported
//! family. Weights of linear maps are `[out, in]`.

use crate::config::Config;

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

/// The tensors of one layer, named within the layer (`self_attn.q_proj.weight`), with shapes.
pub fn layer_tensors(config: &Config) -> Vec<(&'static str, Vec<usize>)> {
    let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
    let (query, key_value) = (config.query_size(), config.key_value_size());
    let mut tensors = vec![
        ("input_layernorm.weight", vec![hidden]),
        ("self_attn.q_proj.weight", vec![query, hidden]),
        ("self_attn.k_proj.weight", vec![key_value, hidden]),
        ("self_attn.v_proj.weight", vec![key_value, hidden]),
        ("self_attn.o_proj.weight", vec![hidden, query]),
        ("post_attention_layernorm.weight", vec![hidden]),
        ("mlp.gate_proj.weight", vec![mlp, hidden]),
        ("mlp.up_proj.weight", vec![mlp, hidden]),
        ("mlp.down_proj.weight", vec![hidden, mlp]),
    ];
    if config.qkv_bias {
        tensors.push(("self_attn.q_proj.bias", vec![query]));
        tensors.push(("self_attn.k_proj.bias", vec![key_value]));
        tensors.push(("self_attn.v_proj.bias", vec![key_value]));
    }
    if config.o_bias {
        tensors.push(("self_attn.o_proj.bias", vec![hidden]));
    }
    if config.qk_norm {
        tensors.push(("self_attn.q_norm.weight", vec![config.head_dim]));
        tensors.push(("self_attn.k_norm.weight", vec![config.head_dim]));
    }
    if config.mlp_bias {
        tensors.push(("mlp.gate_proj.bias", vec![mlp]));
        tensors.push(("mlp.up_proj.bias", vec![mlp]));
        tensors.push(("mlp.down_proj.bias", vec![hidden]));
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
