//! The weights of one decoder layer: attention and gated MLP, each with an RMSNorm before it, after it, or both,
//! and added to the residual stream.

use crate::config::{Config, LayerKind};
use crate::kernels::norm::RmsNorm;
use crate::linear::Linear;
use crate::param::Param;
use crate::projections::Projections;
use crate::tensors::NormNames;

/// Weights of one decoder layer. Cloning shares the values.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its window and its rotary embedding.
    pub kind: LayerKind,
    /// Norms before and after attention and MLP, where the family has them.
    pub norms: LayerNorms,
    /// Query, key and value projections.
    pub qkv: Projections<3>,
    /// Output projection of the attention.
    pub o: Linear,
    /// Norm of the queries: over each head, or over all of them.
    pub q_norm: Option<Param>,
    /// Norm of the keys.
    pub k_norm: Option<Param>,
    /// Gate and up projections.
    pub gate_up: Projections<2>,
    /// Down projection.
    pub down: Linear,
}

/// The norms around attention and MLP.
#[derive(Debug, Clone)]
pub struct LayerNorms {
    /// Of the attention's input.
    pub before_attention: Option<Param>,
    /// Of the attention's result.
    pub after_attention: Option<Param>,
    /// Of the MLP's input.
    pub before_mlp: Option<Param>,
    /// Of the MLP's result.
    pub after_mlp: Option<Param>,
}

/// The norm with this weight as the model's configuration has it.
pub(crate) fn norm_of<'a>(config: &Config, weight: &'a Param) -> RmsNorm<'a> {
    RmsNorm { weight: &weight.data, offset: config.norm_offset, eps: config.rms_norm_eps as f32 }
}

impl Layer {
    /// The projections in a fixed order with the last part of their names.
    pub fn linears_mut(&mut self) -> Vec<(&'static str, &mut Linear)> {
        let mut list = Vec::with_capacity(7);
        let names: &[&str] = match self.qkv {
            Projections::Separate(_) => &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            Projections::Fused(_) => &["self_attn.qkv_proj"],
        };
        list.extend(names.iter().copied().zip(self.qkv.linears_mut()));
        list.push(("self_attn.o_proj", &mut self.o));
        let names: &[&str] = match self.gate_up {
            Projections::Separate(_) => &["mlp.gate_proj", "mlp.up_proj"],
            Projections::Fused(_) => &["mlp.gate_up_proj"],
        };
        list.extend(names.iter().copied().zip(self.gate_up.linears_mut()));
        list.push(("mlp.down_proj", &mut self.down));
        list
    }

    /// The norms around attention and MLP that are there, each with its name.
    pub(crate) fn norms_mut(&mut self, config: &Config) -> impl Iterator<Item = (&'static str, &mut Param)> {
        let names = NormNames::of(config.norm_placement);
        let LayerNorms { before_attention, after_attention, before_mlp, after_mlp } = &mut self.norms;
        [
            (names.before_attention, before_attention),
            (names.after_attention, after_attention),
            (names.before_mlp, before_mlp),
            (names.after_mlp, after_mlp),
        ]
        .into_iter()
        .filter_map(|(name, norm)| name.zip(norm.as_mut()))
    }
}
