//! AdamW (Loshchilov & Hutter, arXiv 1711.05101) with the update order of PyTorch's
//! `torch.optim.AdamW`, and gradient clipping by global norm.

use crate::muon::Muon;
use lopper_model::Model;
use lopper_model::kernels::vectorised;
use lopper_model::param::Gradients;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Constants of AdamW; the learning rate comes with each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    /// The paper's recipe: betas 0.9 and 0.99, weight decay 1e-4.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 1e-4 }
    }
}

/// Optimiser state: moments per gradient slot, and the number of steps done.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// Constants.
    pub config: AdamWConfig,
    /// Steps done.
    pub step: u64,
    /// First moments, by slot.
    pub first: Vec<Vec<f32>>,
    /// Second moments, by slot; empty for a slot that Muon updates.
    pub second: Vec<Vec<f32>>,
    /// Muon, for the slots that it updates.
    pub muon: Option<Muon>,
}

impl AdamW {
    /// Fresh state for a set of gradients.
    pub fn new(config: AdamWConfig, gradients: &Gradients) -> Self {
        let zeros: Vec<Vec<f32>> = gradients.slots.iter().map(|s| vec![0.0; s.len()]).collect();
        Self { config, step: 0, first: zeros.clone(), second: zeros, muon: None }
    }

    /// Uses Muon for the slots it names.
    pub fn with_muon(mut self, muon: Muon) -> Self {
        for (slot, second) in self.second.iter_mut().enumerate() {
            if muon.shapes.contains_key(&slot) {
                *second = Vec::new();
            }
        }
        self.muon = Some(muon);
        self
    }

    /// Updates every trained parameter of `model` from `gradients`.
    pub fn update(&mut self, model: &mut Model, gradients: &Gradients, rate: f64) {
        self.step += 1;
        let c = self.config;
        let t = self.step.min(i32::MAX as u64) as i32;
        let scale1 = (rate / (1.0 - c.beta1.powi(t))) as f32;
        let scale2 = (1.0 / (1.0 - c.beta2.powi(t)).sqrt()) as f32;
        let decay = (1.0 - rate * c.weight_decay) as f32;
        let (b1, b2, eps) = (c.beta1 as f32, c.beta2 as f32, c.eps as f32);
        let mut trained = Vec::new();
        model.visit_mut(|_, param| {
            if let Some(slot) = param.slot {
                trained.push((slot, std::mem::take(&mut param.data)));
            }
        });
        trained.sort_by_key(|(slot, _)| *slot);
        let muon = self.muon.as_ref();
        trained.par_iter_mut().zip(self.first.par_iter_mut().zip(self.second.par_iter_mut())).for_each(
            |((slot, data), (first, second))| {
                let (data, gradient) = (Arc::make_mut(data), &gradients.slots[*slot]);
                if let Some(muon) = muon.filter(|m| m.shapes.contains_key(slot)) {
                    muon.update(*slot, data, gradient, first, rate);
                    return;
                }
                vectorised(
                    #[inline(always)]
                    || {
                        for (((p, g), m), v) in data.iter_mut().zip(gradient).zip(first).zip(second) {
                            *m = b1 * *m + (1.0 - b1) * g;
                            *v = b2 * *v + (1.0 - b2) * g * g;
                            *p = *p * decay - scale1 * *m / (v.sqrt() * scale2 + eps);
                        }
                    },
                );
            },
        );
        let mut trained = trained.into_iter();
        let mut by_slot: Vec<Option<Arc<Vec<f32>>>> = Vec::new();
        by_slot.resize_with(gradients.slots.len(), || None);
        for (slot, data) in trained.by_ref() {
            by_slot[slot] = Some(data);
        }
        model.visit_mut(|_, param| {
            if let Some(data) = param.slot.and_then(|slot| by_slot[slot].take()) {
                param.data = data;
            }
        });
    }
}

/// Scales `gradients` so that their global norm is at most `limit`; returns the norm before.
pub fn clip_norm(gradients: &mut Gradients, limit: f64) -> f64 {
    let norm = gradients.norm();
    if norm > limit {
        // The epsilon is torch.nn.utils.clip_grad_norm_'s.
        let factor = (limit / (norm + 1e-6)) as f32;
        gradients.slots.par_iter_mut().for_each(|slot| {
            vectorised(
                #[inline(always)]
                || slot.iter_mut().for_each(|g| *g *= factor),
            );
        });
    }
    norm
}
