//! Building a [`Model`]: from a checkpoint's tensors, or from random weights.

use crate::block::Layer;
use crate::config::Config;
use crate::linear::Linear;
use crate::model::Model;
use crate::param::Param;
use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Where parameters come from: given a name and a shape (`[cols]` or `[rows, cols]`), the values.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>> + 'a;

impl Model {
    /// Builds a model, asking `source` for every tensor by its checkpoint name.
    pub fn build(config: Config, source: &mut Source<'_>) -> Result<Self> {
        let c = &config;
        let qk_norm = c.qk_norm == crate::config::QkNorm::Head;
        let mut get = |name: &str, shape: &[usize]| -> Result<Param> {
            let data = source(name, shape)?;
            let (rows, cols) = if let [rows, cols] = shape { (*rows, *cols) } else { (1, shape[0]) };
            ensure!(data.len() == rows * cols, "{name}: {} values for shape {shape:?}", data.len());
            Ok(Param::matrix(data, rows, cols))
        };
        let embedding = get("model.embed_tokens.weight", &[c.vocab_size, c.hidden_size])?;
        let mut layers = Vec::with_capacity(c.num_hidden_layers);
        for index in 0..c.num_hidden_layers {
            let prefix = format!("model.layers.{index}.");
            let mut linear = |name: &str, outputs: usize, inputs: usize, bias: bool| -> Result<Linear> {
                let mut linear = Linear::new(get(&format!("{prefix}{name}.weight"), &[outputs, inputs])?);
                if bias {
                    linear.bias = Some(get(&format!("{prefix}{name}.bias"), &[outputs])?);
                }
                Ok(linear)
            };
            let (h, m) = (c.hidden_size, c.intermediate_size);
            let q = linear("self_attn.q_proj", c.query_size(), h, c.qkv_bias)?;
            let k = linear("self_attn.k_proj", c.key_value_size(), h, c.qkv_bias)?;
            let v = linear("self_attn.v_proj", c.key_value_size(), h, c.qkv_bias)?;
            let o = linear("self_attn.o_proj", h, c.query_size(), c.o_bias)?;
            let gate = linear("mlp.gate_proj", m, h, c.mlp_bias)?;
            let up = linear("mlp.up_proj", m, h, c.mlp_bias)?;
            let down = linear("mlp.down_proj", h, m, c.mlp_bias)?;
            let mut norm = |name: &str, width: usize| get(&format!("{prefix}{name}.weight"), &[width]);
            layers.push(Layer {
                input_norm: norm("input_layernorm", h)?,
                post_norm: norm("post_attention_layernorm", h)?,
                q_norm: if qk_norm { Some(norm("self_attn.q_norm", c.head_dim)?) } else { None },
                k_norm: if qk_norm { Some(norm("self_attn.k_norm", c.head_dim)?) } else { None },
                q,
                k,
                v,
                o,
                gate,
                up,
                down,
            });
        }
        let norm = get("model.norm.weight", &[c.hidden_size])?;
        let head =
            if c.tie_word_embeddings { None } else { Some(get("lm_head.weight", &[c.vocab_size, c.hidden_size])?) };
        Ok(Self::assemble(config, embedding, layers, norm, head))
    }

    /// A model with random weights: normal with the given standard deviation, norms at one, and the
    /// projections that write into the residual stream scaled down by √(2·layers) (GPT-2's rule).
    pub fn random(config: Config, std: f32, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f32).sqrt();
        Self::build(config, &mut |name, shape| {
            let len = shape.iter().product();
            if name.ends_with("norm.weight") {
                return Ok(vec![1.0; len]);
            }
            if name.ends_with(".bias") {
                return Ok(vec![0.0; len]);
            }
            let scale = if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                std * residual
            } else {
                std
            };
            Ok((0..len).map(|_| normal(&mut rng) * scale).collect())
        })
    }
}

/// A standard normal draw (Box–Muller).
pub fn normal(rng: &mut impl Rng) -> f32 {
    let unit = |rng: &mut dyn FnMut() -> u32| (f64::from(rng()) + 0.5) / 4_294_967_296.0;
    let (u, v) = (unit(&mut || rng.next_u32()), unit(&mut || rng.next_u32()));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
