//! Which layers attend to a sliding window: `layer_types`, `sliding_window`, and the older keys
//! from which transformers derives the former.
//!
//! transformers fills `layer_types` in for families that know it and ignores it for the others.
//! Where it ignores a list that says something else than what it computes, Lopper refuses: other
//! programs may read the list.

use lopper_record::{Fault, Result};

use crate::config::LayerKind;
use crate::hf::{Fields, shorten};

use super::common::{MAX_LAYERS, MAX_POSITIONS};

/// What a layer attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attention {
    /// `full_attention`.
    Full,
    /// `sliding_attention`.
    Sliding,
}

/// `layer_types`, one entry for each of the `layers`, if the key is there.
pub(super) fn types(fields: Fields<'_>, layers: usize) -> Result<Option<Vec<Attention>>> {
    let Some(types) = fields.list("layer_types")? else { return Ok(None) };
    if types.len() != layers {
        return Err(Fault::new("`layer_types` and `num_hidden_layers` contradict each other")
            .file(fields.path())
            .expected(format!("{layers} layer types"))
            .got(types.len().to_string())
            .into());
    }
    let attention = types.iter().enumerate().map(|(layer, name)| match name.as_str() {
        // `attention` is the older name.
        Some("full_attention" | "attention") => Ok(Attention::Full),
        Some("sliding_attention") => Ok(Attention::Sliding),
        _ => Err(Fault::new("an attention pattern that is not supported")
            .file(fields.path())
            .expected("`layer_types` of \"full_attention\" and \"sliding_attention\" only")
            .got(format!("{} at layer {layer}", shorten(name)))
            .into()),
    });
    attention.collect::<Result<_>>().map(Some)
}

/// `sliding_window`: null says none, a missing key takes `default`.
pub(super) fn sliding_window(fields: Fields<'_>, default: Option<usize>) -> Result<Option<usize>> {
    match fields.has("sliding_window") {
        true => fields.size("sliding_window", MAX_POSITIONS),
        false => Ok(default),
    }
}

/// The window of a family that knows no switch for it. A switch that says otherwise is a
/// contradiction, which programs resolve differently.
pub(super) fn unswitched_window(fields: Fields<'_>, default: Option<usize>) -> Result<Option<usize>> {
    let window = sliding_window(fields, default)?;
    if let (Some(window), Some(false)) = (window, fields.flag("use_sliding_window")?) {
        return Err(fields
            .wrong("use_sliding_window", format!("no such key: this family has a sliding window of {window} tokens"))
            .hint("without a window, `sliding_window` is null")
            .into());
    }
    Ok(window)
}

/// All layers alike, in a family that does not read `layer_types`.
pub(super) fn alike(fields: Fields<'_>, layers: usize, window: Option<usize>) -> Result<Vec<LayerKind>> {
    let same = if window.is_some() { Attention::Sliding } else { Attention::Full };
    match types(fields, layers)?.and_then(|types| types.iter().position(|attention| *attention != same)) {
        None => Ok(vec![LayerKind { window, ..LayerKind::FULL }; layers]),
        Some(layer) => Err(Fault::new("`layer_types` is not read by this family and says something else")
            .file(fields.path())
            .expected(match window {
                Some(_) => "all \"sliding_attention\", because `sliding_window` is set",
                None => "all \"full_attention\", because no `sliding_window` is set",
            })
            .got(format!("another type at layer {layer}"))
            .hint("transformers gives all layers of this family the same attention")
            .into()),
    }
}

/// The layers of `types`, with `window` where they slide and `ropes` (full, sliding) as their
/// rotary embeddings.
pub(super) fn mixed(
    fields: Fields<'_>,
    types: &[Attention],
    window: Option<usize>,
    ropes: [usize; 2],
) -> Result<Vec<LayerKind>> {
    let kind = |(layer, attention): (usize, &Attention)| match (attention, window) {
        (Attention::Full, _) => Ok(LayerKind { window: None, rope: Some(ropes[0]) }),
        (Attention::Sliding, Some(window)) => Ok(LayerKind { window: Some(window), rope: Some(ropes[1]) }),
        (Attention::Sliding, None) => Err(Fault::new(format!("layer {layer} slides, and there is no window"))
            .file(fields.path())
            .expected("`sliding_window`, switched on where the family has `use_sliding_window`")
            .got(match fields.flag("use_sliding_window")? {
                Some(false) => "`use_sliding_window` = false",
                _ => "no `sliding_window`",
            })
            .into()),
    };
    types.iter().enumerate().map(kind).collect()
}

/// Qwen2 and Qwen3: a window from layer `max_window_layers` on, if it is switched on.
pub(super) fn qwen(fields: Fields<'_>, layers: usize) -> Result<Vec<LayerKind>> {
    let window = match fields.flag("use_sliding_window")? {
        Some(true) => sliding_window(fields, Some(4096))?,
        _ => None,
    };
    let first = fields.whole("max_window_layers", 0..=MAX_LAYERS)?.unwrap_or(28);
    let types = types(fields, layers)?.unwrap_or_else(|| {
        let slides = |layer| window.is_some() && layer >= first;
        (0..layers).map(|layer| if slides(layer) { Attention::Sliding } else { Attention::Full }).collect()
    });
    mixed(fields, &types, window, [0, 0])
}

/// Every `period`-th layer full, the others sliding, unless `layer_types` says otherwise.
pub(super) fn periodic(fields: Fields<'_>, layers: usize, period: usize) -> Result<Vec<Attention>> {
    Ok(types(fields, layers)?.unwrap_or_else(|| {
        let slides = |layer: usize| !(layer + 1).is_multiple_of(period);
        (0..layers).map(|layer| if slides(layer) { Attention::Sliding } else { Attention::Full }).collect()
    }))
}
