//! Which layers slide, and which have a rotary embedding.

use super::*;
use crate::config::LayerKind;

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// The window of each layer.
fn windows(config: &Map<String, Value>) -> Vec<Option<usize>> {
    parse(config).unwrap().layers.iter().map(|kind| kind.window).collect()
}

#[test]
fn a_missing_window_is_the_familys_and_null_is_none() {
    assert_eq!(windows(&of("mistral", json!({}))), [Some(4096); 3]);
    assert_eq!(windows(&of("mistral", json!({"sliding_window": null}))), [None; 3]);
    assert_eq!(windows(&of("mistral", json!({"sliding_window": 7}))), [Some(7); 3]);
    assert_eq!(windows(&of("phi3", json!({}))), [None; 3]);
    assert_eq!(windows(&of("phi3", json!({"sliding_window": 7}))), [Some(7); 3]);
    assert_eq!(windows(&of("gemma2", json!({}))), [Some(4096), None, Some(4096)]);
    assert!(fault(&of("gemma2", json!({"sliding_window": null}))).message.contains("layer 0 slides"));
}

#[test]
fn qwens_window_is_switched() {
    let qwen = |family: &str, switch: bool, more: Value| {
        let mut config = of(family, json!({"use_sliding_window": switch, "sliding_window": 5, "max_window_layers": 1}));
        config.extend(object(more));
        config
    };
    for family in ["qwen2", "qwen3"] {
        assert_eq!(windows(&qwen(family, true, json!({}))), [None, Some(5), Some(5)]);
        assert_eq!(windows(&qwen(family, true, json!({"max_window_layers": 0}))), [Some(5); 3]);
        assert_eq!(windows(&qwen(family, false, json!({}))), [None; 3]);
        // The list wins over the number, and needs a window.
        let types = json!({"layer_types": [SLIDING, FULL, "attention"]});
        assert_eq!(windows(&qwen(family, true, types.clone())), [Some(5), None, None]);
        let text = fault(&qwen(family, false, types)).to_string();
        assert!(text.contains("layer 0 slides") && text.contains("`use_sliding_window` = false"), "{text}");
    }
}

#[test]
fn periods_are_filled_in() {
    let slides = |config: Map<String, Value>| windows(&config).iter().map(Option::is_some).collect::<Vec<_>>();
    let layers = |family: &str, more: Value| {
        let mut config = of(family, json!({"num_hidden_layers": 7, "sliding_window": 4, "rope_theta": null}));
        config.extend(object(more));
        config
    };
    assert_eq!(slides(layers("gemma3_text", json!({}))), [true, true, true, true, true, false, true]);
    let three = json!({"sliding_window_pattern": 3});
    assert_eq!(slides(layers("gemma3_text", three)), [true, true, false, true, true, false, true]);
    assert_eq!(slides(layers("olmo3", json!({}))), [true, true, true, false, true, true, true]);
    // The embeddings follow the layers.
    let kinds = parse(&layers("olmo3", json!({}))).unwrap().layers;
    assert_eq!(kinds[0], LayerKind { window: Some(4), rope: Some(1) });
    assert_eq!(kinds[3], LayerKind { window: None, rope: Some(0) });
}

#[test]
fn smollm3s_layers_without_rotary_embedding() {
    let ropes = |more: Value| {
        let config = parse(&of("smollm3", more)).unwrap();
        config.layers.iter().map(|kind| (kind.rope.is_some(), kind.window.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(ropes(json!({"no_rope_layer_interval": 2})), [(true, false), (false, false), (true, false)]);
    // A list may be longer than the model; only what there is of layers counts.
    assert_eq!(ropes(json!({"no_rope_layers": [0, 1, 0, 1, 1]})), [(false, false), (true, false), (false, false)]);
    let window = json!({"no_rope_layers": [0, 1, 0], "use_sliding_window": true, "sliding_window": 4});
    assert_eq!(ropes(window), [(false, true), (true, false), (false, true)]);
    for list in [json!([1, 1]), json!([1, 2, 1]), json!([true, true, true]), json!({"0": 1})] {
        let text = fault(&of("smollm3", json!({"no_rope_layers": list}))).to_string();
        assert!(text.contains("no_rope_layers"), "{text}");
    }
}

#[test]
fn a_list_that_the_family_does_not_read_must_agree() {
    assert_eq!(windows(&of("llama", json!({"layer_types": [FULL, FULL, FULL]}))), [None; 3]);
    let text = fault(&of("llama", json!({"layer_types": [FULL, SLIDING, FULL], "num_hidden_layers": 3}))).to_string();
    assert!(text.contains("layer_types") && text.contains("layer 1"), "{text}");
    let mistral = of("mistral", json!({"sliding_window": 4, "layer_types": [FULL, SLIDING, FULL]}));
    assert!(fault(&mistral).to_string().contains("layer 0"));
}

#[test]
fn lists_have_one_known_type_per_layer() {
    for types in [json!([FULL, FULL]), json!([FULL, FULL, FULL, FULL]), json!([]), json!("full_attention")] {
        assert!(fault(&of("qwen3", json!({"layer_types": types}))).to_string().contains("layer"));
    }
    for kind in ["chunked_attention", "linear_attention", "mamba", "conv", "moe"] {
        let text = fault(&of("qwen3", json!({"layer_types": [FULL, kind, FULL]}))).to_string();
        assert!(text.contains(kind) && text.contains("layer 1") && text.contains(SLIDING), "{text}");
    }
}

#[test]
fn a_switch_against_an_unswitched_window_is_a_contradiction() {
    for family in ["mistral", "phi3", "gemma2", "gemma3_text", "olmo3"] {
        let config = of(family, json!({"use_sliding_window": false, "sliding_window": 4, "rope_theta": null}));
        assert!(fault(&config).to_string().contains("use_sliding_window"), "{family}");
    }
}
