//! Configurations of every family before and after a cut, each also proved: the written file means the source without
//! the removed layers.

use lopper_model::config::LayerKind;
use lopper_model::families::FAMILIES;
use lopper_record::Fault;

use super::*;

fn object(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

/// A configuration of `family` with `layers` layers and everything that families need.
pub(super) fn source(family: &str, layers: usize, extra: Value) -> Map<String, Value> {
    let mut json = object(json!({
        "model_type": family, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
    }));
    if family.starts_with("gemma") {
        json.extend(object(json!({
            "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 8, "sliding_window": 16,
        })));
    }
    if family == "olmo3" {
        json.insert("sliding_window".into(), json!(16));
    }
    json.extend(object(extra));
    json
}

fn rewritten(json: &Map<String, Value>, kinds: &[LayerKind], kept: &[usize], keep_pattern: bool) -> Result<Value> {
    let config = Config { layers: kinds.to_vec(), ..Config::plain(kinds.len(), 4, 8) };
    let originals: Vec<usize> = (0..kinds.len()).collect();
    let cut = Cut { config: &config, kept, originals: &originals, path: Path::new("config.json") };
    Ok(Value::Object(rewrite(json, &cut, keep_pattern)?))
}

fn cut(json: &Map<String, Value>, kept: &[usize]) -> Result<Value> {
    let layers = json["num_hidden_layers"].as_u64().unwrap() as usize;
    rewritten(json, &vec![LayerKind::FULL; layers], kept, false)
}

fn fault(result: Result<Value>) -> Fault {
    result.unwrap_err().into_fault().expect("a fault of the user's")
}

const F: &str = "full_attention";
const S: &str = "sliding_attention";

/// Family and layers, the configuration besides the sizes, the kept layers, and the keys that must then differ (null:
/// the key is removed). `F` and `S` are layers of full and of sliding attention.
const CASES: &str = r#"
llama 4 | | 0,3 |
llama 4 | "layer_types": ["F", "F", "F", "F"] | 1-3 | "layer_types": ["F", "F", "F"]
mistral 4 | "sliding_window": 16 | 0,2 |
mistral 4 | "sliding_window": null | 3 |
granite 3 | "residual_multiplier": 0.2 | 0,2 |
olmo2 3 | | 0,2 |
phi3 3 | "head_dim": null, "sliding_window": 16 | 0,1 |
# Qwen: the last layers have windows.
qwen3 4 | "max_window_layers": 4, "use_sliding_window": false | 0,1 | "max_window_layers": 2
qwen2 6 | "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 3 | 0,2,4,5 | "max_window_layers": 2
qwen2 6 | "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 3 | 3,4 | "max_window_layers": 0
qwen3 4 | "use_sliding_window": true, "sliding_window": 16, "max_window_layers": 2, \
    "layer_types": ["F", "F", "S", "S"] | 1-3 | "max_window_layers": 1, "layer_types": ["F", "S", "S"]
# The default of 28 is a layer too.
qwen2 30 | "use_sliding_window": true, "sliding_window": 16 | 1-29 | "max_window_layers": 27
qwen2 30 | "use_sliding_window": true, "sliding_window": 16 | 0-28 |
qwen2 30 | "use_sliding_window": true, "sliding_window": 16 | 0-19 |
qwen2 30 | "use_sliding_window": false | 1-29 |
# Gemma 2: every second layer has full attention, with or without a list.
gemma2 6 | | 0,1,4,5 |
gemma2 6 | | 0,2,3,5 | "layer_types": ["S", "S", "F", "F"]
gemma2 4 | "layer_types": ["S", "F", "S", "F"] | 1,2 | "layer_types": ["F", "S"]
gemma2 4 | "layer_types": null | 1,2 | "layer_types": ["F", "S"]
# Gemma 3: a period that is adjusted, or removed where none fits.
gemma3_text 12 | "sliding_window_pattern": 6 | 0-5 |
gemma3_text 12 | "sliding_window_pattern": 6 | 0,5,6,11 \
    | "sliding_window_pattern": 2, "layer_types": ["S", "F", "S", "F"]
gemma3_text 12 | "sliding_window_pattern": 6 | 0,5-7 \
    | "sliding_window_pattern": null, "layer_types": ["S", "F", "S", "S"]
gemma3_text 6 | | 0,5 | "layer_types": ["S", "F"]
gemma3_text 6 | | 5 | "layer_types": ["F"]
gemma3_text 6 | | 0,1 |
gemma3_text 4 | "sliding_window_pattern": 2, "_sliding_window_pattern": 2, "layer_types": ["S", "F", "S", "F"] \
    | 0,2,3 | "layer_types": ["S", "S", "F"], "sliding_window_pattern": 3, "_sliding_window_pattern": 3
gemma3_text 4 | "sliding_window_pattern": 2 | 1,3 | "layer_types": ["F", "F"], "sliding_window_pattern": 1
# OLMo 3 has no key for its period of four.
olmo3 8 | | 0-3 |
olmo3 8 | | 0,3,4,7 | "layer_types": ["S", "F", "S", "F"]
olmo3 4 | "layer_types": ["S", "S", "S", "F"] | 2,3 | "layer_types": ["S", "F"]
# SmolLM3: layers without positions.
smollm3 8 | | 4-7 |
smollm3 8 | | 0,3,4 | "no_rope_layers": [1, 0, 1]
smollm3 8 | "no_rope_layer_interval": 4 | 2,3,6,7 | "no_rope_layers": [1, 0, 1, 0], "no_rope_layer_interval": 2
smollm3 5 | "no_rope_layers": [1, 1, 1, 0, 1], "no_rope_layer_interval": 4, "layer_types": ["F", "F", "F", "F", "F"] \
    | 3,4 | "no_rope_layers": [0, 1], "layer_types": ["F", "F"], "no_rope_layer_interval": null
# A list longer than the model, of which transformers reads the first entries.
smollm3 3 | "no_rope_layers": [0, 1, 1, 0] | 0,2 | "no_rope_layers": [0, 1]
# Any list with an entry per layer, and those that only look like one.
llama 3 | "house_scales": [0.1, 0.2, 0.3], "eos_token_id": [1, 2, 3], "rope_scaling": null, "two": [1, 2], \
    "suppress_tokens": [7, 8, 9] | 0,2 | "house_scales": [0.1, 0.3]
llama 3 | "window_per_layer": [1, null, 3], "num_layers": 3, "n_layers": 12 \
    | 1 | "window_per_layer": [null], "num_layers": 1
llama 3 | "num_kv_shared_layers": 0, "num_nextn_predict_layers": null, "mlp_only_layers": [] | 1 |
"#;

fn cases() -> Vec<(String, usize, Value, Vec<usize>, Value)> {
    let quoted = |kind: &str| format!("\"{kind}\"");
    let text = CASES.replace("\\\n", "").replace("\"F\"", &quoted(F)).replace("\"S\"", &quoted(S));
    let case = |line: &str| {
        let [model, config, kept, changed] = line.split('|').collect::<Vec<_>>().try_into().expect(line);
        let (family, layers) = model.trim().split_once(' ').expect(line);
        let layers = layers.parse().expect(line);
        let keys = |text: &str| serde_json::from_str(&format!("{{{text}}}")).expect(line);
        let kept = LayerSet::parse(kept.trim(), layers).expect(line);
        (family.to_owned(), layers, keys(config), kept.indices().collect(), keys(changed))
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(case).collect()
}

#[test]
fn every_family_keeps_its_meaning() {
    let cases = cases();
    assert!(FAMILIES.iter().all(|family| cases.iter().any(|(name, ..)| name == family.model_type)));
    for (family, layers, extra, kept, expected) in cases {
        let json = source(&family, layers, extra);
        let result = cut(&json, &kept).unwrap();
        let mut wanted = json.clone();
        wanted.insert("num_hidden_layers".into(), json!(kept.len()));
        for (key, value) in expected.as_object().unwrap() {
            match value {
                Value::Null => wanted.shift_remove(key),
                value => wanted.insert(key.clone(), value.clone()),
            };
        }
        // As text, because equality of objects ignores the order of keys.
        assert_eq!(result.to_string(), Value::Object(wanted).to_string(), "{family} {kept:?}");

        let path = Path::new("config.json");
        let config = parse_config(&json, path).unwrap_or_else(|error| panic!("{family}: {error}"));
        let originals: Vec<usize> = (0..layers).collect();
        let cut = Cut { config: &config, kept: &kept, originals: &originals, path };
        edit(&json, &cut, false).unwrap_or_else(|error| panic!("{family} {kept:?}: {error}"));
    }
}

#[test]
fn lists_of_another_length_and_layers_that_depend_on_others_are_faults() {
    for (extra, part) in [
        (json!({"layer_types": [F]}), "layer_types"),
        (json!({"no_rope_layers": []}), "no_rope_layers"),
        (json!({"scale_per_layer": [1.0, 2.0]}), "scale_per_layer"),
        (json!({"num_kv_shared_layers": 2}), "share keys and values"),
        (json!({"num_nextn_predict_layers": 1}), "multi-token"),
        (json!({"num_mtp_modules": "two"}), "multi-token"),
        (json!({"global_layer_indices": [1, 2]}), "by number"),
        (json!({"mlp_only_layers": [0]}), "by number"),
    ] {
        let fault = fault(cut(&source("llama", 4, extra), &[0, 1]));
        assert!(fault.message.contains(part), "{fault}");
        assert!(fault.expected.is_some() && fault.hint.is_some(), "{fault}");
    }
}

#[test]
fn a_period_that_nobody_is_known_to_list_must_stay_true() {
    let json = source("llama", 8, json!({"full_attention_interval": 4}));
    let result = cut(&json, &[0, 1, 2, 3]).unwrap();
    assert_eq!(result["full_attention_interval"], 4);
    cut(&json, &[4, 5, 6, 7]).unwrap();
    let wrong = fault(cut(&json, &[0, 1, 3, 4]));
    assert!(wrong.message.contains("full_attention_interval"), "{wrong}");
    assert!(wrong.hint.unwrap().contains("--drop"));
    let spelt = source("llama", 8, json!({"sliding_window_pattern": "LLLG"}));
    cut(&spelt, &[0, 1, 2, 7]).unwrap();
    assert!(fault(cut(&spelt, &[0, 1, 2, 4])).got.unwrap().contains("layer 4 would be at position 3"));
}

#[test]
fn keep_pattern_refuses_and_suggests() {
    let window = LayerKind { window: Some(16), rope: Some(0) };
    let kinds = [window, window, LayerKind::FULL, window, window, LayerKind::FULL];
    let json = source("gemma3_text", 6, json!({"sliding_window_pattern": 3}));
    let whole = rewritten(&json, &kinds, &[3, 4, 5], true).unwrap();
    assert_eq!(whole["sliding_window_pattern"], 3);
    assert!(whole.get("layer_types").is_none());
    let wrong = fault(rewritten(&json, &kinds, &[0, 2, 3, 4, 5], true));
    assert!(wrong.message.contains("pattern"), "{wrong}");
    assert_eq!(wrong.got.unwrap(), "layer 2, which has full attention");
    assert!(wrong.expected.unwrap().contains("a window of 16 at place 1"));
    let hint = wrong.hint.unwrap();
    assert!(hint.contains("`--drop 5`"), "{hint}");
    // What it suggests is accepted.
    rewritten(&json, &kinds, &[0, 1, 2, 3, 4], true).unwrap();
    // Layers that are all alike have no pattern to break.
    rewritten(&source("llama", 6, json!({})), &[LayerKind::FULL; 6], &[0, 2, 5], true).unwrap();
}

#[test]
fn warnings_name_the_programs_that_would_compute_something_else() {
    let warned = |family: &str, extra: Value, layers: usize| {
        let json = source(family, layers, extra);
        let config = Config { model_type: family.into(), ..Config::plain(layers, 4, 8) };
        readers::warnings(&json, &config)
    };
    assert_eq!(warned("gemma2", json!({"layer_types": [S, F]}), 2), Vec::<String>::new());
    assert_eq!(warned("gemma2", json!({}), 4), Vec::<String>::new());
    let uneven = warned("gemma2", json!({"layer_types": [S, S]}), 2);
    assert!(uneven.len() == 1 && uneven[0].contains("llama.cpp") && uneven[0].contains("period of 2"), "{uneven:?}");
    // A period that its own key gives is one that llama.cpp does not read.
    let shorter = warned("gemma3_text", json!({"sliding_window_pattern": 2}), 4);
    assert!(shorter.len() == 1 && shorter[0].contains("period of 6"), "{shorter:?}");
    let smol = warned("smollm3", json!({"no_rope_layers": [1, 0]}), 2);
    assert!(smol.len() == 1 && !smol[0].contains("vLLM") && smol[0].contains("no_rope_layers"), "{smol:?}");
    // llama.cpp's converter carries OLMo 3's list over.
    assert!(warned("olmo3", json!({"layer_types": [F, F]}), 2).is_empty());
    // The 27B model's scale, without its 46 layers.
    let large = |layers| {
        let config = Config {
            model_type: "gemma2".into(),
            hidden_size: 4608,
            num_attention_heads: 32,
            head_dim: 128,
            attention_scale: 1.0 / 12.0,
            ..Config::plain(layers, 4, 8)
        };
        readers::warnings(&source("gemma2", layers, json!({})), &config)
    };
    assert!(large(46).is_empty());
    assert!(large(44)[0].contains("46"), "{:?}", large(44));
}
