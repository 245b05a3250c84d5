//! Building a [`Model`]: from a checkpoint's tensors, or from random weights.

use super::Model;
use crate::checkpoint::Checkpoint;
use crate::config::{Config, QkNorm};
use crate::layer::{Layer, LayerNorms};
use crate::linear::Linear;
use crate::mapped::{MappedWeight, Release};
use crate::param::Param;
use crate::projections::Projections;
use crate::tensors::NormNames;
use lopper_record::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Where parameters come from: given a name and a shape (`[cols]` or `[rows, cols]`), the values.
pub type Source<'a> = dyn FnMut(&str, &[usize]) -> Result<Vec<f32>> + 'a;
/// As [`Source`], but giving the parameter itself.
type ParamSource<'a> = dyn FnMut(&str, usize, usize) -> Result<Param> + 'a;

impl Model {
    /// Builds a model, asking `source` for every tensor by its checkpoint name.
    pub fn build(config: Config, source: &mut Source<'_>) -> Result<Self> {
        Self::build_from(config, &mut |name, rows, cols| {
            let shape = if rows == 1 && is_vector(name) { vec![cols] } else { vec![rows, cols] };
            let data = source(name, &shape)?;
            ensure!(data.len() == rows * cols, "{name}: {} values for shape {shape:?}", data.len());
            Ok(Param::matrix(data, rows, cols))
        })
    }

    /// The model of `checkpoint`, with every weight brought into memory as `f32`.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        checkpoint.check_tied_head()?;
        Self::build(checkpoint.config().clone(), &mut |name, _| checkpoint.values(name))
    }

    /// The model of `checkpoint` with its matrices used as they are stored, from the file's memory
    /// map; for running forward only.
    pub fn mapped(checkpoint: &Arc<Checkpoint>) -> Result<Self> {
        Self::in_place(checkpoint, Release::Never)
    }

    /// As [`Model::mapped`], with pages given back after use, so that the model need not fit into
    /// memory.
    pub fn streamed(checkpoint: &Arc<Checkpoint>) -> Result<Self> {
        Self::in_place(checkpoint, Release::Layer)
    }

    /// As [`Model::mapped`], with pages given back when `release` says.
    pub fn in_place(checkpoint: &Arc<Checkpoint>, release: Release) -> Result<Self> {
        checkpoint.check_tied_head()?;
        Self::build_from(checkpoint.config().clone(), &mut |name, rows, cols| {
            if is_vector(name) {
                return Ok(Param::matrix(checkpoint.values(name)?, rows, cols));
            }
            Ok(Param::mapped(MappedWeight::new(checkpoint.clone(), name, cols, release), rows, cols))
        })
    }

    fn build_from(config: Config, source: &mut ParamSource<'_>) -> Result<Self> {
        let c = &config;
        ensure!(c.layers.len() == c.num_hidden_layers, "one layer kind per layer");
        ensure!(
            c.layers.iter().all(|l| l.rope.is_none_or(|r| r < c.ropes.len())),
            "a layer without its rotary embedding"
        );
        let mut get = |name: &str, shape: &[usize]| -> Result<Param> {
            let (rows, cols) = if let [rows, cols] = shape { (*rows, *cols) } else { (1, shape[0]) };
            source(name, rows, cols)
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
            let (h, m, query, key_value) = (c.hidden_size, c.intermediate_size, c.query_size(), c.key_value_size());
            let qkv = if c.fused_projections {
                Projections::Fused(linear("self_attn.qkv_proj", query + 2 * key_value, h, c.qkv_bias)?)
            } else {
                Projections::Separate([
                    linear("self_attn.q_proj", query, h, c.qkv_bias)?,
                    linear("self_attn.k_proj", key_value, h, c.qkv_bias)?,
                    linear("self_attn.v_proj", key_value, h, c.qkv_bias)?,
                ])
            };
            let o = linear("self_attn.o_proj", h, query, c.o_bias)?;
            let gate_up = if c.fused_projections {
                Projections::Fused(linear("mlp.gate_up_proj", 2 * m, h, c.mlp_bias)?)
            } else {
                Projections::Separate([
                    linear("mlp.gate_proj", m, h, c.mlp_bias)?,
                    linear("mlp.up_proj", m, h, c.mlp_bias)?,
                ])
            };
            let down = linear("mlp.down_proj", h, m, c.mlp_bias)?;
            let mut norm = |name: Option<&str>, width: usize| -> Result<Option<Param>> {
                name.map(|name| get(&format!("{prefix}{name}.weight"), &[width])).transpose()
            };
            let names = NormNames::of(c.norm_placement);
            let norms = LayerNorms {
                before_attention: norm(names.before_attention, h)?,
                after_attention: norm(names.after_attention, h)?,
                before_mlp: norm(names.before_mlp, h)?,
                after_mlp: norm(names.after_mlp, h)?,
            };
            let (q_norm, k_norm) = match c.qk_norm {
                QkNorm::None => (None, None),
                QkNorm::Head => {
                    (norm(Some("self_attn.q_norm"), c.head_dim)?, norm(Some("self_attn.k_norm"), c.head_dim)?)
                }
                QkNorm::Projection => {
                    (norm(Some("self_attn.q_norm"), query)?, norm(Some("self_attn.k_norm"), key_value)?)
                }
            };
            layers.push(Layer { kind: c.layers[index], norms, qkv, o, q_norm, k_norm, gate_up, down });
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
        let offset = config.norm_offset;
        let residual = 1.0 / (2.0 * config.num_hidden_layers as f32).sqrt();
        Self::build(config, &mut |name, shape| {
            let len = shape.iter().product();
            if name.ends_with("norm.weight") {
                return Ok(vec![1.0 - offset; len]);
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

/// Whether the parameter of this name is a vector: a norm's weight or a bias.
fn is_vector(name: &str) -> bool {
    name.ends_with("norm.weight") || name.ends_with(".bias")
}

/// A standard normal draw (Box–Muller).
pub fn normal(rng: &mut impl Rng) -> f32 {
    let unit = |rng: &mut dyn FnMut() -> u32| (f64::from(rng()) + 0.5) / 4_294_967_296.0;
    let (u, v) = (unit(&mut || rng.next_u32()), unit(&mut || rng.next_u32()));
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}
