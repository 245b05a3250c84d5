//! Configurations in both spellings, defaults, and what is refused. What configurations are
//! lowered to is compared with transformers in `tests/configs.rs` and `tests/families.rs`.

mod layers;
mod refused;
mod ropes;

use std::path::Path;

use lopper_record::Fault;
use serde_json::{Map, Value, json};

use super::*;
use crate::checkpoint::Dtype;
use crate::config::{QkNorm, Rope};
use crate::tensors::{expected_tensors, layer_of, rename_layer};

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

fn llama() -> Map<String, Value> {
    object(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": 256,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_theta": 50000.0,
        "rope_scaling": null,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-5,
        "bos_token_id": 3,
        "eos_token_id": [4, 5],
    }))
}

fn parse(config: &Map<String, Value>) -> Result<Config> {
    parse_config(config, Path::new("config.json"))
}

fn fault(config: &Map<String, Value>) -> Fault {
    parse(config).unwrap_err().into_fault().expect("a fault of the user's")
}

fn with(key: &str, value: Value) -> Map<String, Value> {
    of("llama", json!({key: value}))
}

/// A small configuration of this family with `more` keys, which replace what is there.
fn of(family: &str, more: Value) -> Map<String, Value> {
    let mut config = llama();
    config.insert("model_type".into(), json!(family));
    let architecture = Family::from_model_type(family).map_or("Unknown", |family| family.architecture);
    config.insert("architectures".into(), json!([architecture]));
    for (key, value) in object(more) {
        config.insert(key, value);
    }
    config
}

#[test]
fn llama_is_read() {
    let config = parse(&llama()).unwrap();
    assert_eq!(config.head_dim, 8);
    assert_eq!(config.ropes[0].theta, 50000.0);
    assert_eq!(config.eos_token_ids, [4, 5]);
    assert_eq!(config.bos_token_id, Some(3));
    assert_eq!(config.max_position_embeddings, 2048);
    assert!(config.qk_norm == QkNorm::None && !config.qkv_bias && !config.tie_word_embeddings);
}

#[test]
fn newer_spelling_means_the_same() {
    let mut newer = llama();
    newer.shift_remove("rope_theta");
    newer.shift_remove("rope_scaling");
    newer.shift_remove("torch_dtype");
    newer.insert("dtype".into(), json!("bfloat16"));
    newer.insert("rope_parameters".into(), json!({"rope_type": "default", "rope_theta": 50000.0}));
    assert_eq!(parse(&newer).unwrap(), parse(&llama()).unwrap());
}

#[test]
fn absent_keys_take_the_defaults_of_transformers() {
    let minimal = object(json!({
        "model_type": "llama", "vocab_size": 10, "hidden_size": 32, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": null,
    }));
    let config = parse(&minimal).unwrap();
    assert_eq!(config.num_key_value_heads, 4);
    assert_eq!(config.ropes[0].theta, 10_000.0);
    assert_eq!(config.rms_norm_eps, 1e-6);
    assert_eq!((config.bos_token_id, config.eos_token_ids), (Some(1), vec![2]));

    let mut qwen3 = minimal;
    qwen3.insert("model_type".into(), json!("qwen3"));
    let config = parse(&qwen3).unwrap();
    assert_eq!(config.head_dim, 128);
    assert_eq!(config.qk_norm, QkNorm::Head);
    assert_eq!((config.bos_token_id, config.eos_token_ids.len()), (None, 0));
}

#[test]
fn unknown_family_lists_the_known() {
    let fault = fault(&with("model_type", json!("mamba")));
    assert!(fault.message.contains("mamba"));
    let expected = fault.expected.unwrap();
    assert!(expected.contains("llama") && expected.contains("qwen3"), "{expected}");
}

#[test]
fn impossible_sizes_are_refused() {
    let refused = [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(-1)),
        ("hidden_size", json!(1u64 << 60)),
        ("hidden_size", json!(33)),
        ("hidden_size", json!("32")),
        ("num_hidden_layers", json!(1_000_000)),
        ("num_key_value_heads", json!(3)),
        ("head_dim", json!(7)),
        ("vocab_size", Value::Null),
        ("rms_norm_eps", json!(0)),
        ("layer_types", json!(["full_attention"])),
        ("eos_token_id", json!("</s>")),
        ("model_type", json!(7)),
    ];
    for (key, value) in refused {
        fault(&with(key, value));
    }
}

#[test]
fn written_configurations_read_back() {
    let llama = parse(&llama()).unwrap();
    let qwen3 = Config {
        model_type: "qwen3".into(),
        qk_norm: QkNorm::Head,
        head_dim: 16,
        attention_scale: 0.25,
        ropes: vec![Rope::plain(50000.0, 16)],
        ..llama.clone()
    };
    let biased = Config { mlp_bias: true, qkv_bias: true, o_bias: true, ..llama.clone() };
    let endless = Config { bos_token_id: None, eos_token_ids: vec![], ..llama.clone() };
    for config in [llama, qwen3, biased, endless] {
        assert_eq!(parse(&config_json(&config, Dtype::BF16).unwrap()).unwrap(), config);
    }
}

#[test]
fn layers_are_told_from_tensor_names() {
    assert_eq!(layer_of("model.layers.12.mlp.up_proj.weight"), Some((12, "mlp.up_proj.weight")));
    for name in ["model.norm.weight", "model.layers.x.w", "model.layers.+1.w", "model.layers.01.w"] {
        assert_eq!(layer_of(name), None, "{name}");
    }
    assert_eq!(rename_layer("model.layers.12.mlp.up_proj.weight", 3).unwrap(), "model.layers.3.mlp.up_proj.weight");
}

#[test]
fn expected_tensors_hold_the_counted_parameters() {
    for config in [
        parse(&llama()).unwrap(),
        parse(&with("attention_bias", json!(true))).unwrap(),
        parse(&with("mlp_bias", json!(true))).unwrap(),
        parse(&of("qwen3", json!({}))).unwrap(),
        parse(&with("tie_word_embeddings", json!(true))).unwrap(),
    ] {
        let shapes = expected_tensors(&config);
        let elements: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        let layers = config.num_hidden_layers * config.parameters_per_layer();
        assert_eq!(elements, layers + config.parameters_outside_layers());
    }
}
