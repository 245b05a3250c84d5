//! Rotary embeddings: both spellings, what they may leave out, and contradictions.

use super::*;
use crate::config::RopeScaling;

fn ropes(config: &Map<String, Value>) -> Vec<Rope> {
    parse(config).unwrap().ropes
}

/// A Llama with this `rope_scaling` and 64 positions.
fn scaled(scaling: Value) -> Map<String, Value> {
    of("llama", json!({"rope_scaling": scaling, "max_position_embeddings": 64}))
}

/// Asserts that the configuration is refused with each of `parts` in the message.
fn refused(config: &Map<String, Value>, parts: &[&str]) {
    let text = fault(config).to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

#[test]
fn the_older_key_of_the_type_means_the_same() {
    for scaling in [json!({"type": "linear", "factor": 2}), json!({"rope_type": "linear", "factor": 2.0})] {
        assert_eq!(ropes(&scaled(scaling))[0].scaling, RopeScaling::Linear { factor: 2.0 });
    }
    refused(&scaled(json!({"type": "yarn", "rope_type": "linear", "factor": 2})), &["contradict", "yarn", "linear"]);
}

#[test]
fn missing_keys_of_a_type_are_named() {
    let cases = [
        ("linear", json!({}), "factor"),
        ("dynamic", json!({}), "factor"),
        ("llama3", json!({"factor": 8, "high_freq_factor": 4}), "low_freq_factor"),
        ("llama3", json!({"factor": 8, "low_freq_factor": 1}), "high_freq_factor"),
        ("llama3", json!({"low_freq_factor": 1, "high_freq_factor": 4}), "factor"),
        ("yarn", json!({}), "factor"),
        ("longrope", json!({"long_factor": [1, 1, 1, 1]}), "short_factor"),
        ("longrope", json!({"short_factor": [1, 1, 1, 1]}), "long_factor"),
    ];
    for (kind, mut scaling, key) in cases {
        scaling["rope_type"] = json!(kind);
        refused(&scaled(scaling), &[&format!("`rope_scaling.{key}` is missing")]);
    }
}

#[test]
fn values_that_no_formula_takes_are_refused() {
    let short = json!([1, 1, 1, 1]);
    let cases = [
        (json!({"rope_type": "linear", "factor": 0}), "factor"),
        (json!({"rope_type": "linear", "factor": "8"}), "factor"),
        (json!({"rope_type": "linear", "factor": [8]}), "factor"),
        (json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}), "high_freq_factor"),
        (json!({"rope_type": "yarn", "factor": 8, "beta_fast": -1}), "beta_fast"),
        (json!({"rope_type": "yarn", "factor": 8, "attention_factor": 0}), "attention_factor"),
        (json!({"rope_type": "yarn", "factor": 8, "original_max_position_embeddings": 0}), "original_max"),
        (json!({"rope_type": "yarn", "factor": 8, "truncate": 1}), "truncate"),
        (json!({"rope_type": "yarn", "factor": 8, "rope_theta": 1}), "rope_theta"),
        (json!({"rope_type": "longrope", "short_factor": [1, 1, 1], "long_factor": short}), "4 numbers"),
        (json!({"rope_type": "longrope", "short_factor": [1, 1, 1, 0], "long_factor": short}), "greater than 0"),
        (json!({"rope_type": "longrope", "short_factor": 1, "long_factor": short}), "a list"),
        (json!({"rope_type": 3}), "a string"),
    ];
    for (scaling, part) in cases {
        let mut config = scaled(scaling.clone());
        if scaling.get("rope_theta").is_some() {
            config.shift_remove("rope_theta");
        }
        refused(&config, &[part]);
    }
    let narrow = of("llama", json!({"head_dim": 2, "rope_scaling": {"type": "dynamic", "factor": 2}}));
    refused(&narrow, &["wider"]);
}

#[test]
fn unknown_types_name_the_known() {
    for kind in ["proportional", "mrope", "ntk", "su"] {
        refused(&scaled(json!({"rope_type": kind, "factor": 2})), &[kind, "rope_scaling", "`llama3`", "`longrope`"]);
    }
    let phi3 = of("phi3", json!({"rope_scaling": {"type": "linear", "factor": 2}}));
    refused(&phi3, &["linear", "`default` or `longrope`"]);
    refused(&scaled(json!({"type": "default", "mrope_section": [2, 1, 1]})), &["mrope_section"]);
}

#[test]
fn both_spellings_at_once_must_agree() {
    let rope = json!({"rope_type": "linear", "factor": 2.0});
    let mut config = scaled(rope.clone());
    config.insert("rope_parameters".into(), rope);
    assert_eq!(ropes(&config)[0].scaling, RopeScaling::Linear { factor: 2.0 });
    config.insert("rope_parameters".into(), json!({"rope_type": "default", "rope_theta": 50000.0}));
    refused(&config, &["rope_scaling", "rope_parameters", "contradict"]);
    // An empty object says nothing.
    config.insert("rope_parameters".into(), json!({}));
    assert_eq!(ropes(&config)[0].scaling, RopeScaling::Linear { factor: 2.0 });

    let twice = of("llama", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}));
    refused(&twice, &["rope_theta", "50000 at the top, 1000000 inside"]);
}

#[test]
fn the_original_length_must_be_unambiguous() {
    let yarn = |inner: Value, outer: Value| {
        of(
            "llama",
            json!({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": inner},
            "original_max_position_embeddings": outer, "max_position_embeddings": 64}),
        )
    };
    let original = |config| match ropes(&config)[0].scaling {
        RopeScaling::Yarn { original_max_positions, .. } => original_max_positions,
        ref other => panic!("{other:?}"),
    };
    assert_eq!(original(yarn(json!(16), Value::Null)), 16);
    assert_eq!(original(yarn(Value::Null, json!(16))), 16);
    assert_eq!(original(yarn(json!(16), json!(16))), 16);
    assert_eq!(original(yarn(Value::Null, Value::Null)), 64);
    refused(&yarn(json!(16), json!(32)), &["original_max_position_embeddings", "ambiguous"]);

    // Phi-3 has a default of its own at the top, which wins in transformers.
    let factors = json!([1, 1, 1, 1]);
    let phi3 = |inner: Value| {
        of(
            "phi3",
            json!({"rope_scaling": {"type": "longrope", "short_factor": factors, "long_factor": factors,
            "original_max_position_embeddings": inner}}),
        )
    };
    assert!(parse(&phi3(Value::Null)).is_ok() && parse(&phi3(json!(4096))).is_ok());
    refused(&phi3(json!(16)), &["original_max_position_embeddings", "4096"]);
}

#[test]
fn older_names_of_longrope_are_phi3s_alone() {
    let factors = json!([1, 2, 3, 4]);
    let scaling = |kind: &str| json!({"type": kind, "short_factor": factors, "long_factor": factors});
    let phi3 = |kind: &str| ropes(&of("phi3", json!({"rope_scaling": scaling(kind)})));
    assert_eq!(phi3("su"), phi3("longrope"));
    assert_eq!(phi3("yarn"), phi3("longrope"));
    assert!(matches!(phi3("su")[0].scaling, RopeScaling::LongRope { .. }));
}

#[test]
fn a_part_of_each_head_is_rotated_in_phi3_alone() {
    let part = |family: &str, part: f64| of(family, json!({"partial_rotary_factor": part, "head_dim": 16}));
    assert_eq!(ropes(&part("phi3", 0.75))[0].rotary_dim, 12);
    assert_eq!(ropes(&part("llama", 1.0))[0].rotary_dim, 16);
    refused(&part("llama", 0.75), &["partial_rotary_factor", "0.75"]);
    // An odd part, none, and more than there is.
    for factor in [0.2, 0.01, 1.5] {
        refused(&part("phi3", factor), &["partial_rotary_factor", "even"]);
    }
    let newer = of("qwen3", json!({"rope_parameters": {"rope_theta": 50000.0, "partial_rotary_factor": 0.5}}));
    refused(&newer, &["partial_rotary_factor"]);
}

#[test]
fn embeddings_per_layer_type_are_for_the_families_that_have_them() {
    let nested = json!({"full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 9e5},
        "sliding_attention": {"rope_theta": 7e3}});
    let config = of("gemma3_text", json!({"rope_parameters": nested, "rope_theta": null}));
    let [full, sliding] = &ropes(&config)[..] else { panic!() };
    assert_eq!((full.theta, &full.scaling), (9e5, &RopeScaling::Linear { factor: 8.0 }));
    assert_eq!((sliding.theta, &sliding.scaling), (7e3, &RopeScaling::Default));

    refused(&of("llama", json!({"rope_parameters": nested})), &["full_attention", "one rotary embedding"]);
    let flat = of("gemma3_text", json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}));
    refused(&flat, &["rope_parameters.rope_type", "full_attention"]);
    let both = of("gemma3_text", json!({"rope_parameters": nested, "rope_scaling": {"type": "linear", "factor": 2}}));
    refused(&both, &["contradict"]);
    let mut unrounded = nested.clone();
    unrounded["full_attention"] = json!({"rope_type": "yarn", "factor": 8, "truncate": false});
    refused(&of("gemma3_text", json!({"rope_parameters": unrounded, "rope_theta": null})), &["truncate"]);
}

#[test]
fn olmo3s_theta_is_refused_where_versions_disagree() {
    let olmo3 = |theta: f64, more: Value| {
        let mut config = of("olmo3", json!({"rope_theta": theta, "sliding_window": 4}));
        config.extend(object(more));
        config
    };
    assert_eq!(ropes(&olmo3(500_000.0, json!({})))[1].theta, 500_000.0);
    refused(&olmo3(1e4, json!({})), &["rope_theta", "sliding layers"]);
    // Where no layer slides, or where its theta is given, nothing is in doubt.
    assert_eq!(
        ropes(&olmo3(1e4, json!({"layer_types": ["full_attention", "full_attention", "full_attention"]})))[0].theta,
        1e4
    );
    let given =
        json!({"rope_parameters": {"full_attention": {"rope_theta": 1e4}, "sliding_attention": {"rope_theta": 2e4}}});
    assert_eq!(ropes(&olmo3(1e4, given)).iter().map(|rope| rope.theta).collect::<Vec<_>>(), [1e4, 2e4]);
}
