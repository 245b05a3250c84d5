//! Tensors under other names than transformers gives them, and buffers that are no weights.
//!
//! - Wrappers of PyTorch put their own name into that of every tensor: `module.` (DistributedDataParallel, DeepSpeed),
//!   `_orig_mod.` (torch.compile), `_fsdp_wrapped_module.` and `_checkpoint_wrapped_module.`, outside or within the
//!   model. transformers 5.24 finds no tensor under such names and draws random weights with a warning.
//! - A model saved without its head's class lacks `model.`, which transformers adds.
//! - Multimodal checkpoints have the text model under `language_model.`; so has what was cut out of them.
//! - Buffers (tables of rotary frequencies, causal masks) follow from the configuration; transformers leaves them
//!   alone.
//!
//! A tensor is known by transformers' name everywhere else, so what is written loads there again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use lopper_record::{Fault, Result};

use super::Located;
use super::source::Source;

/// What wrappers put before or into names.
const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
const TEXT_MODEL: &str = "language_model";
/// What a model without its head's class is made of.
const INNER: [&str; 3] = ["layers", "embed_tokens", "norm"];
/// Ends of the names of buffers. `rotary_emb.inv_freq` is not among them: it is copied with the weights, and part of a
/// model's hash, since old versions of transformers saved it.
const BUFFERS: [&str; 8] = [
    ".rotary_emb.original_inv_freq",
    ".rotary_emb.cos_cached",
    ".rotary_emb.sin_cached",
    ".self_attn.bias",
    ".self_attn.masked_bias",
    ".attn.masked_bias",
    ".position_ids",
    ".causal_mask",
];

/// The tensors under transformers' names, without buffers, and what was done in sentences.
pub(super) fn undress(
    stored: BTreeMap<String, Located>,
    source: &Source,
) -> Result<(BTreeMap<String, Located>, Vec<String>)> {
    let (mut tensors, mut parts, mut buffers) = (BTreeMap::new(), BTreeSet::new(), 0);
    for (name, located) in stored {
        let plain = plain_name(&name, &mut parts);
        if BUFFERS.iter().any(|end| plain.ends_with(end)) {
            buffers += 1;
            continue;
        }
        let plain = plain.into_owned();
        if tensors.contains_key(&plain) {
            return Err(Fault::new(format!("two tensors of the weights are `{plain}`"))
                .file(source.path())
                .expected("every tensor once")
                .got(format!("`{name}` and another one"))
                .hint("the file holds a model twice, wrapped and not; save one of them")
                .into());
        }
        tensors.insert(plain, located);
    }
    let mut remarks = Vec::new();
    if !parts.is_empty() {
        let parts = parts.into_iter().collect::<Vec<_>>().join(", ");
        remarks.push(format!("the weights have other names than in transformers and are read as theirs: {parts}"));
    }
    if buffers > 0 {
        remarks.push(format!("{buffers} buffers among the weights are left out: they follow from config.json"));
    }
    Ok((tensors, remarks))
}

/// transformers' name of the tensor `name`; `parts` gets what differs.
fn plain_name<'a>(name: &'a str, parts: &mut BTreeSet<String>) -> Cow<'a, str> {
    let mut segments: Vec<&str> = name.split('.').collect();
    segments.retain(|segment| {
        let wraps = WRAPPERS.contains(segment);
        if wraps {
            parts.insert(format!("with `{segment}.`"));
        }
        !wraps
    });
    // `language_model.model.layers`, `language_model.lm_head`, `model.language_model.layers`.
    let is_model = segments.first() == Some(&"model");
    if let Some(TEXT_MODEL) = segments.get(usize::from(is_model)).copied() {
        segments.remove(usize::from(is_model));
        parts.insert(format!("with `{TEXT_MODEL}.`"));
    }
    if segments.len() > 1 && segments.first().is_some_and(|first| INNER.contains(first)) {
        segments.insert(0, "model");
        parts.insert("without `model.`".to_owned());
    }
    let plain = segments.join(".");
    if plain == name { Cow::Borrowed(name) } else { Cow::Owned(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_and_the_model_is_named() {
        for (stored, plain) in [
            ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("module.lm_head.weight", "lm_head.weight"),
            ("_orig_mod.module.model.norm.weight", "model.norm.weight"),
            (
                "model.layers.3._orig_mod.mlp._checkpoint_wrapped_module.up_proj.weight",
                "model.layers.3.mlp.up_proj.weight",
            ),
            ("layers.0.input_layernorm.weight", "model.layers.0.input_layernorm.weight"),
            ("norm.weight", "model.norm.weight"),
            ("language_model.model.embed_tokens.weight", "model.embed_tokens.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("model.language_model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
            ("vision_tower.layers.0.weight", "vision_tower.layers.0.weight"),
            ("", ""),
            ("norm", "norm"),
        ] {
            assert_eq!(plain_name(stored, &mut BTreeSet::new()), plain);
        }
    }
}
