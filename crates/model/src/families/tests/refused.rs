//! What is refused, by key and value.

use super::*;

/// Asserts that a family's configuration with `key` = `value` is refused by both.
fn refused(family: &str, key: &str, value: Value) {
    let fault = fault(&of(family, json!({key: value})));
    let text = fault.to_string();
    assert!(text.contains(&format!("`{key}`")), "{family}, {key}: {text}");
    assert!(fault.file.is_some() && fault.expected.is_some() && fault.got.is_some(), "{family}, {key}: {text}");
    assert!(text.contains(&crate::hf::shorten(&value)), "{family}, {key}: {text}");
}

#[test]
fn what_no_family_supports() {
    let cases = [
        ("quantization_config", json!({"quant_method": "gptq"})),
        ("num_experts", json!(8)),
        ("num_local_experts", json!(8)),
        ("n_routed_experts", json!(64)),
        ("n_shared_experts", json!(2)),
        ("num_experts_per_tok", json!(2)),
        ("moe_intermediate_size", json!(64)),
        ("moe_layer_freq", json!([0, 1, 1])),
        ("use_bidirectional_attention", json!(true)),
        ("is_causal", json!(false)),
        ("is_encoder_decoder", json!(true)),
        ("add_cross_attention", json!(true)),
        ("cross_attention_layers", json!([1])),
        ("num_kv_shared_layers", json!(2)),
        ("num_nextn_predict_layers", json!(1)),
        ("num_mtp_modules", json!(1)),
        ("mtp_num_hidden_layers", json!(1)),
        ("per_layer_config", json!({"0": {"num_key_value_heads": 1}})),
        ("attention_chunk_size", json!(8192)),
        ("add_swa_attention_sink_bias", json!(true)),
        ("mamba_d_state", json!(16)),
        ("linear_num_value_heads", json!(4)),
        ("kv_lora_rank", json!(512)),
        ("clip_qkv", json!(8.0)),
        ("position_embedding_type", json!("alibi")),
        ("rope_interleave", json!(true)),
        ("lm_head_bias", json!(true)),
        ("logit_scale", json!(0.0625)),
        ("full_attn_mod", json!(2)),
        ("hidden_act", json!("relu")),
        ("hidden_act", json!("gelu")),
    ];
    for family in FAMILIES {
        for (key, value) in &cases {
            refused(family.model_type, key, value.clone());
        }
    }
}

#[test]
fn what_is_switched_off_is_harmless() {
    let off = json!({
        "quantization_config": null, "num_experts": 0, "moe_layers": [], "is_causal": true, "is_encoder_decoder": false,
        "num_kv_shared_layers": 0, "num_nextn_predict_layers": 0, "per_layer_config": {}, "cross_attention_layers": [],
        "position_embedding_type": "rope", "logit_scale": 1.0, "use_mrope": false, "full_attn_mod": 1,
        "use_bidirectional_attention": false, "attention_chunk_size": null,
    });
    // Nothing that matters to inference.
    let idle = json!({
        "attention_dropout": 0.1, "initializer_range": 0.02, "use_cache": true, "pretraining_tp": 4,
        "transformers_version": "4.40.0", "resid_pdrop": 0.1, "_name_or_path": "x", "auto_map": {"AutoModel": "m.M"},
        "cache_implementation": "hybrid", "pad_token_id": -1, "output_attentions": true, "unsloth_version": "1",
    });
    for Family { model_type, .. } in FAMILIES {
        let plain = of(model_type, json!({"rope_theta": null}));
        for extra in [&off, &idle] {
            let mut config = plain.clone();
            config.extend(object(extra.clone()));
            assert_eq!(parse(&config).unwrap(), parse(&plain).unwrap(), "{model_type}");
        }
    }
}

#[test]
fn what_other_families_have() {
    let cases = [
        ("attention_bias", json!(true), vec!["mistral", "phi3"]),
        ("mlp_bias", json!(true), vec!["mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "olmo2", "olmo3", "phi3"]),
        ("sliding_window", json!(4), vec!["llama", "olmo2", "granite"]),
        ("use_sliding_window", json!(true), vec!["llama", "olmo2", "granite", "gemma2", "olmo3"]),
        ("sliding_window_pattern", json!(2), vec!["llama", "mistral", "qwen2", "gemma2", "olmo3"]),
        (
            "final_logit_softcapping",
            json!(30.0),
            vec!["llama", "mistral", "qwen2", "qwen3", "olmo2", "phi3", "granite"],
        ),
        ("attn_logit_softcapping", json!(50.0), vec!["llama", "qwen3", "gemma3_text", "olmo3", "smollm3"]),
        ("query_pre_attn_scalar", json!(64), vec!["llama", "mistral", "granite"]),
        ("rope_local_base_freq", json!(1e4), vec!["llama", "gemma2", "olmo3"]),
        ("no_rope_layers", json!([1, 1, 0]), vec!["llama", "qwen3", "olmo3"]),
        ("no_rope_layer_interval", json!(4), vec!["llama", "qwen3"]),
        ("embedding_multiplier", json!(12.0), vec!["llama", "gemma2", "smollm3"]),
        ("residual_multiplier", json!(0.22), vec!["llama", "olmo2"]),
        ("logits_scaling", json!(16.0), vec!["llama", "mistral"]),
        ("attention_multiplier", json!(0.01), vec!["llama", "phi3"]),
    ];
    for (key, value, families) in cases {
        for family in families {
            refused(family, key, value.clone());
        }
    }
}

#[test]
fn a_multimodal_checkpoint_says_so_before_the_family() {
    for key in ["text_config", "vision_config"] {
        let text = fault(&of("gemma3", json!({key: {"hidden_size": 8}}))).to_string();
        assert!(text.contains(key) && text.contains("multimodal"), "{text}");
    }
}

#[test]
fn heads_of_other_tasks_are_refused() {
    let fault = fault(&with("architectures", json!(["LlamaForSequenceClassification"])));
    assert!(fault.got.unwrap().contains("LlamaForSequenceClassification"));
    for known in [json!(["LlamaForCausalLM"]), json!(["LLaMAForCausalLM"]), json!([]), Value::Null] {
        assert!(parse(&with("architectures", known)).is_ok());
    }
}

#[test]
fn activations_of_both_keys_agree() {
    let gemma = |more: Value| of("gemma2", more);
    for more in [
        json!({}),
        json!({"hidden_act": "gelu_pytorch_tanh"}),
        json!({"hidden_act": "gelu_new", "hidden_activation": "gelu_pytorch_tanh"}),
    ] {
        assert_eq!(parse(&gemma(more)).unwrap().activation, crate::config::Activation::GeluTanh);
    }
    let silu = gemma(json!({"hidden_activation": "silu"}));
    assert_eq!(parse(&silu).unwrap().activation, crate::config::Activation::Silu);
    // transformers would compute tanh GELU: it does not read `hidden_act` here.
    refused("gemma2", "hidden_act", json!("silu"));
    refused("llama", "hidden_activation", json!("gelu_pytorch_tanh"));
}
