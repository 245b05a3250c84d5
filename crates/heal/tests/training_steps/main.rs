//! Training steps against PyTorch's and PEFT's.

mod peft;
mod torch;

use lopper_heal::AdamWConfig;
use serde::Deserialize;

/// Ten steps of AdamW, as a fixture has them.
#[derive(Deserialize)]
struct Steps {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    clip: f64,
    losses: Vec<f64>,
    gradient_norms: Vec<f64>,
}

impl Steps {
    fn optimizer(&self) -> AdamWConfig {
        let [beta1, beta2] = self.betas;
        AdamWConfig { beta1, beta2, eps: self.eps, weight_decay: self.weight_decay }
    }
}
