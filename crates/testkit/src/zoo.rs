//! Tiny configurations that together use everything that any family asks of the decoder: each
//! resembles one family, and mixes kinds of layers so that a wrong layer shows.

use lopper_model::{Activation, Config, LayerKind, NormPlacement, QkNorm, Rope, RopeScaling};

/// Configurations of `layers` layers over `vocab` tokens, each with a name.
pub fn zoo(layers: usize, vocab: usize) -> Vec<(&'static str, Config)> {
    let plain = Config {
        vocab_size: vocab,
        hidden_size: 24,
        num_key_value_heads: 2,
        intermediate_size: 40,
        rms_norm_eps: 1e-5,
        max_position_embeddings: 64,
        ..Config::plain(layers, 4, 10)
    };
    let kinds = |each: fn(usize) -> LayerKind| (0..layers).map(each).collect::<Vec<_>>();
    let alternating = kinds(|l| LayerKind { window: (l % 2 == 0).then_some(5), rope: Some(0) });
    let two_ropes = kinds(|l| LayerKind { window: (l % 3 != 2).then_some(4), rope: Some(usize::from(l % 3 != 2)) });
    let no_rope = kinds(|l| LayerKind { window: None, rope: (l % 2 == 0).then_some(0) });
    let scaled = |scaling: RopeScaling| Rope { scaling, ..Rope::plain(500.0, 10) };
    let yarn = scaled(RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 3.0,
        beta_slow: 0.5,
        original_max_positions: 16,
        attention_factor: 1.2,
        truncate: false,
    });
    let llama3 = scaled(RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_positions: 32,
    });
    let long = Rope {
        theta: 500.0,
        rotary_dim: 6,
        scaling: RopeScaling::LongRope {
            short_factor: vec![1.0, 1.1, 1.3],
            long_factor: vec![1.5, 2.5, 4.0],
            original_max_positions: 8,
            attention_factor: 1.1,
        },
    };
    vec![
        (
            "gemma2",
            Config {
                activation: Activation::GeluTanh,
                norm_offset: 1.0,
                norm_placement: NormPlacement::Around,
                layers: alternating.clone(),
                attention_scale: 0.4,
                attention_softcap: Some(2.0),
                logit_softcap: Some(3.0),
                embedding_scale: 24f32.sqrt(),
                tie_word_embeddings: true,
                ..plain.clone()
            },
        ),
        (
            "gemma3",
            Config {
                activation: Activation::GeluTanh,
                norm_offset: 1.0,
                norm_placement: NormPlacement::Around,
                qk_norm: QkNorm::Head,
                layers: two_ropes,
                ropes: vec![scaled(RopeScaling::Linear { factor: 8.0 }), Rope::plain(100.0, 10)],
                embedding_scale: 2.0,
                tie_word_embeddings: true,
                ..plain.clone()
            },
        ),
        (
            "olmo3",
            Config {
                norm_placement: NormPlacement::After,
                qk_norm: QkNorm::Projection,
                layers: kinds(|l| LayerKind { window: (l % 2 == 0).then_some(6), rope: Some(l % 2) }),
                ropes: vec![Rope::plain(500.0, 10), yarn],
                ..plain.clone()
            },
        ),
        (
            "phi3",
            Config {
                fused_projections: true,
                ropes: vec![long],
                layers: vec![LayerKind { window: Some(7), rope: Some(0) }; layers],
                ..plain.clone()
            },
        ),
        (
            "granite",
            Config {
                attention_scale: 0.2,
                embedding_scale: 3.0,
                residual_scale: 0.6,
                logit_scale: 0.5,
                ropes: vec![llama3],
                qkv_bias: true,
                o_bias: true,
                mlp_bias: true,
                tie_word_embeddings: true,
                ..plain.clone()
            },
        ),
        ("smollm3", Config { layers: no_rope, ..plain.clone() }),
        (
            "everything",
            Config {
                activation: Activation::GeluTanh,
                norm_offset: 1.0,
                norm_placement: NormPlacement::Around,
                qk_norm: QkNorm::Head,
                fused_projections: true,
                qkv_bias: true,
                mlp_bias: true,
                layers: alternating,
                attention_softcap: Some(4.0),
                logit_softcap: Some(5.0),
                logit_scale: 0.7,
                embedding_scale: 1.5,
                residual_scale: 0.8,
                ropes: vec![scaled(RopeScaling::Dynamic { factor: 2.0, max_positions: 64 })],
                ..plain
            },
        ),
    ]
}
