//! Hyperparameters of healing: all that determines its result, apart from the model and the examples.

mod distillation;
mod trained_layers;
mod warmup;

pub use distillation::{Distillation, OnPolicy};
pub use trained_layers::TrainedLayers;
pub use warmup::Warmup;

use crate::examples::ExampleLimits;
use crate::optimizer::AdamWConfig;
use crate::schedule::{DecayShape, Schedule};
use lopper_model::{Config, SMALL_MODEL_PARAMETERS};
use lopper_record::{Fault, Result};
use serde::{Deserialize, Serialize};

/// The projections that can have an adapter, by PEFT's names.
pub const PROJECTIONS: [&str; 9] =
    ["q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj"];
/// Those of most models; Phi-3 has `qkv_proj` and `gate_up_proj` instead of five of them.
const USUAL: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A low-rank adapter on the projections; the weights are frozen.
    Lora,
    /// The weights themselves.
    Full,
}

impl Method {
    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Method::Lora => "lora",
            Method::Full => "full",
        }
    }
}

/// Settings of a low-rank adapter (Hu et al., arXiv 2106.09685), as in PEFT's `LoraConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank.
    pub r: usize,
    /// The adapter's output is multiplied by alpha / r.
    pub alpha: f64,
    /// Dropout on the adapter's input while training.
    pub dropout: f64,
    /// Projections with an adapter: names among [`PROJECTIONS`].
    pub target_modules: Vec<String>,
    /// Multiply by alpha / √r instead (rsLoRA, Kalajdzievski, arXiv 2312.03732).
    pub rslora: bool,
    /// Also train the norm of each row of the adapted weight (DoRA, Liu et al., arXiv 2402.09353).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub dora: bool,
}

impl Default for LoraConfig {
    /// The paper's: r = 64, alpha = 16, dropout 0.05, all seven projections.
    fn default() -> Self {
        let target_modules = USUAL.iter().map(|name| (*name).to_owned()).collect();
        Self { r: 64, alpha: 16.0, dropout: 0.05, target_modules, rslora: false, dora: false }
    }
}

impl LoraConfig {
    /// The factor of the adapter's output.
    pub fn scale(&self) -> f32 {
        let rank = self.r as f64;
        (self.alpha / if self.rslora { rank.sqrt() } else { rank }) as f32
    }

    /// What its kind is called.
    pub fn kind(&self) -> &'static str {
        match (self.dora, self.rslora) {
            (false, false) => "LoRA",
            (false, true) => "rsLoRA",
            (true, false) => "DoRA",
            (true, true) => "DoRA with rsLoRA's scale",
        }
    }

    /// The same settings with the target names of this model: where query, key and value are one matrix, any of their
    /// names means that matrix, and likewise for gate and up.
    pub fn for_model(&self, config: &Config) -> Self {
        let mut target_modules: Vec<String> = Vec::new();
        for name in &self.target_modules {
            let own: &[&str] = match (name.as_str(), config.fused_projections) {
                ("q_proj" | "k_proj" | "v_proj", true) => &["qkv_proj"],
                ("gate_proj" | "up_proj", true) => &["gate_up_proj"],
                ("qkv_proj", false) => &["q_proj", "k_proj", "v_proj"],
                ("gate_up_proj", false) => &["gate_proj", "up_proj"],
                (name, _) => &[name],
            };
            for name in own {
                if !target_modules.iter().any(|other| other == name) {
                    target_modules.push((*name).to_owned());
                }
            }
        }
        Self { target_modules, ..self.clone() }
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// A [`Fault`] for the first one that is out of range.
    pub fn check(&self) -> Result<()> {
        if !(1..=1 << 16).contains(&self.r) {
            return out_of_range("the adapter's rank", "a whole number from 1 to 65536", self.r);
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return out_of_range("the adapter's alpha", "a number above 0", self.alpha);
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return out_of_range("the adapter's dropout", "from 0 up to, not including, 1", self.dropout);
        }
        let unknown = self.target_modules.iter().find(|name| !PROJECTIONS.contains(&name.as_str()));
        if self.target_modules.is_empty() || unknown.is_some() {
            return out_of_range(
                "the adapter's target",
                &format!("one or more of {}", PROJECTIONS.join(", ")),
                unknown.map_or("none", String::as_str),
            );
        }
        Ok(())
    }
}

/// Hyperparameters of finetuning a pruned model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealRecipe {
    /// What is trained.
    pub method: Method,
    /// In which layers. Where these are not all of them, [`Method::Full`] also trains the last norm and the head, and
    /// the embedding only where it is the head's matrix.
    #[serde(skip_serializing_if = "TrainedLayers::is_all")]
    pub layers: TrainedLayers,
    /// The adapter's settings, for [`Method::Lora`].
    pub lora: LoraConfig,
    /// Train the adapter on projections in NF4 with double quantisation (QLoRA, Dettmers et al., arXiv 2305.14314), as
    /// on transformers' `BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
    /// bnb_4bit_use_double_quant=True)`; for [`Method::Lora`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub load_in_4bit: bool,
    /// Constants of AdamW. Weight decay acts on every trained parameter, as in `torch.optim.AdamW` with one parameter
    /// group; the Trainer of transformers excludes norms and biases.
    pub adamw: AdamWConfig,
    /// Learning rate after the warm-up.
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    pub warmup: Warmup,
    /// Fraction of the steps, at the end, over which the rate falls to zero; 0 keeps it constant.
    pub decay: f64,
    /// How it falls.
    #[serde(skip_serializing_if = "DecayShape::is_linear")]
    pub decay_shape: DecayShape,
    /// Limit of the gradient's norm.
    pub clip: f64,
    /// Examples per optimiser step. The size of micro-batches follows from the examples' lengths, so gradient
    /// accumulation is not a setting: the paper's batch of 4 with 2 accumulation steps is 8 here.
    pub batch: usize,
    /// Passes over the examples.
    pub epochs: usize,
    /// Longest example, in tokens.
    pub max_length: usize,
    /// Learn every token of an example, and not its answers alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub train_on_inputs: bool,
    /// Gradient checkpointing: recompute activations in the backward pass (less memory, slower, the same result).
    pub checkpointing: bool,
    /// Matrix products with operands rounded to bf16 and f32 sums, where the processor has instructions for them.
    pub mixed: bool,
    /// After each step, round every trained weight stochastically to bf16 ([`rounding`](crate::rounding)), so that a
    /// bf16 checkpoint holds exactly what was trained; for [`Method::Full`].
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stochastic_rounding: bool,
    /// Seeds the adapter's weights, the order of the examples, dropout and stochastic rounding.
    pub seed: u64,
    /// How the cut learns from the uncut model's distributions; without it, from the answers' tokens alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub distillation: Option<Distillation>,
}

impl Default for HealRecipe {
    /// [`HealRecipe::paper`] with an adapter.
    fn default() -> Self {
        Self::paper(Method::Lora)
    }
}

impl HealRecipe {
    /// The examples that it learns from, where the model's context has `context` tokens.
    pub fn limits(&self, context: usize) -> ExampleLimits {
        let learns_no_tokens = self.distillation.is_some_and(|distillation| distillation.answers == 0.0);
        ExampleLimits { max_length: self.max_length.min(context), cut_off: learns_no_tokens }
    }

    /// The recipe of arXiv 2602.01997, for models of billions of parameters. The paper's 4-bit base is
    /// [`HealRecipe::load_in_4bit`], which is off here.
    pub fn paper(method: Method) -> Self {
        Self {
            method,
            layers: TrainedLayers::All,
            lora: LoraConfig::default(),
            load_in_4bit: false,
            adamw: AdamWConfig::default(),
            learning_rate: 2e-4,
            warmup: Warmup::Auto,
            decay: 0.0,
            decay_shape: DecayShape::Linear,
            clip: 1.0,
            batch: 8,
            epochs: 1,
            max_length: 8192,
            train_on_inputs: false,
            checkpointing: true,
            mixed: false,
            stochastic_rounding: false,
            seed: 0,
            distillation: None,
        }
    }

    /// The paper's recipe scaled to the pocket model.
    ///
    /// A model of a few million parameters tolerates and needs far larger learning rates: stable rates fall roughly
    /// with the width. Its examples are short, so a step takes more of them for an equally steady gradient, and its
    /// rate falls over the second half. Rank and alpha are the paper's alternative (16 and 32), because 64 would be
    /// half of the width.
    pub fn for_pocket(method: Method) -> Self {
        Self {
            lora: LoraConfig { r: 16, alpha: 32.0, ..LoraConfig::default() },
            learning_rate: match method {
                Method::Lora => 3e-3,
                Method::Full => 5e-4,
            },
            decay: 0.5,
            batch: 16,
            checkpointing: false,
            mixed: true,
            ..Self::paper(method)
        }
    }

    /// The recipe for a model of this many parameters: the pocket model's below [`SMALL_MODEL_PARAMETERS`].
    pub fn for_size(parameters: usize, method: Method) -> Self {
        if parameters < SMALL_MODEL_PARAMETERS { Self::for_pocket(method) } else { Self::paper(method) }
    }

    /// Optimiser steps for this number of examples.
    pub fn steps(&self, examples: usize) -> usize {
        examples.div_ceil(self.batch.max(1)) * self.epochs
    }

    /// The learning rate over `steps` steps.
    pub fn schedule(&self, steps: usize) -> Schedule {
        let warmup = self.warmup.of(steps);
        let shape = self.decay_shape;
        Schedule { decay: self.decay, shape, ..Schedule::constant(self.learning_rate, warmup, steps) }
    }

    /// The recipe of a run of `steps` steps in one line, for reports.
    pub fn summary(&self, steps: usize) -> String {
        let what = match self.method {
            Method::Full if self.layers.is_all() => "all weights".to_owned(),
            Method::Full => format!("the weights of {} and of the head", self.layers.summary()),
            Method::Lora => {
                let of = if self.layers.is_all() { String::new() } else { format!(" on {}", self.layers.summary()) };
                let base = if self.load_in_4bit { " on a base in 4 bits (NF4)" } else { "" };
                let LoraConfig { r, alpha, dropout, .. } = self.lora;
                format!("{}{of} r = {r}, alpha = {alpha}, dropout {dropout}{base}", self.lora.kind())
            }
        };
        let teacher =
            self.distillation.map_or_else(String::new, |of| format!("; learns from the uncut model, {}", of.summary()));
        let rate = if self.decay > 0.0 {
            let how = if self.decay_shape.is_linear() { "" } else { " in a cosine" };
            format!("falling{how} over the last {:.0} %", self.decay * 100.0)
        } else {
            "constant".to_owned()
        };
        let epochs = if self.epochs == 1 { "1 epoch".to_owned() } else { format!("{} epochs", self.epochs) };
        let rounding = if self.stochastic_rounding { "stochastic rounding to bf16, " } else { "" };
        format!(
            "{what}{teacher}; AdamW betas {}/{}, weight decay {}, learning rate {:e} {rate} after {} warm-up steps, clip {}; \
             {} examples per step, {epochs}, up to {} tokens, {rounding}seed {}",
            self.adamw.beta1,
            self.adamw.beta2,
            self.adamw.weight_decay,
            self.learning_rate,
            self.warmup.of(steps),
            self.clip,
            self.batch,
            self.max_length,
            self.seed
        )
    }

    /// Checks the ranges of all settings.
    ///
    /// # Errors
    /// A [`Fault`] for the first one that is out of range.
    pub fn check(&self) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.adamw;
        if self.method == Method::Lora {
            self.lora.check()?;
            if self.stochastic_rounding {
                return Err(Fault::new(
                    "stochastic rounding is of the model's own weights, which an adapter leaves alone",
                )
                .expected("method \"full\"")
                .got("method \"lora\"")
                .hint("leave it out: an adapter is trained and written in float32")
                .into());
            }
        } else if self.load_in_4bit {
            return Err(Fault::new("weights in 4 bits cannot be trained")
                .expected("method \"lora\": an adapter on frozen weights in 4 bits")
                .got("method \"full\"")
                .hint("leave load_in_4bit out, or train an adapter")
                .into());
        }
        if self.layers == TrainedLayers::Last(0) {
            return out_of_range("the number of last layers to train", "at least 1", 0);
        }
        if let Some(distillation) = &self.distillation {
            distillation.check()?;
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return out_of_range("the learning rate", "a number above 0, such as 2e-4", self.learning_rate);
        }
        if !(self.clip.is_finite() && self.clip > 0.0) {
            return out_of_range("the gradient-norm limit", "a number above 0", self.clip);
        }
        if !(0.0..=1.0).contains(&self.decay) {
            return out_of_range("the fraction of steps with a falling rate", "from 0 to 1", self.decay);
        }
        for (name, beta) in [("AdamW's first beta", beta1), ("AdamW's second beta", beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return out_of_range(name, "from 0 up to, not including, 1", beta);
            }
        }
        if !(eps > 0.0 && weight_decay.is_finite() && weight_decay >= 0.0) {
            return out_of_range("AdamW's epsilon or weight decay", "numbers above 0, and from 0", weight_decay);
        }
        if self.batch == 0 || self.epochs == 0 || self.max_length < 2 {
            return out_of_range(
                "the batch, the number of epochs or the length",
                "at least 1, 1 and 2",
                format!("{}, {} and {}", self.batch, self.epochs, self.max_length),
            );
        }
        Ok(())
    }
}

fn out_of_range(what: &str, expected: &str, got: impl ToString) -> Result<()> {
    Err(Fault::new(format!("{what} is out of range"))
        .expected(expected)
        .got(got.to_string())
        .hint("leave it out to use the recipe's value")
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_papers_recipe() {
        let recipe = HealRecipe::default();
        assert_eq!((recipe.lora.r, recipe.lora.alpha, recipe.lora.dropout), (64, 16.0, 0.05));
        assert_eq!((recipe.adamw.beta1, recipe.adamw.beta2, recipe.adamw.weight_decay), (0.9, 0.99, 1e-4));
        let schedule = recipe.schedule(recipe.steps(1000));
        assert_eq!((schedule.steps, schedule.rate(11), schedule.rate(124)), (125, 2e-4, 2e-4));
        assert!(schedule.rate(10) < 2e-4, "a warm-up of 12 steps");
        assert!(recipe.summary(125).contains("constant after 12 warm-up steps"), "{}", recipe.summary(125));
        assert_eq!(recipe.lora.scale(), 0.25);
        assert_eq!(LoraConfig { rslora: true, ..recipe.lora.clone() }.scale(), 2.0);
        let json = serde_json::to_string(&recipe).unwrap();
        assert_eq!(serde_json::from_str::<HealRecipe>(&json).unwrap(), recipe);
        assert!(serde_json::from_str::<HealRecipe>("{\"learning_rat\": 1}").is_err());
    }

    #[test]
    fn settings_out_of_range_are_faults() {
        let bad = |change: fn(&mut HealRecipe)| {
            let mut recipe = HealRecipe::for_pocket(Method::Lora);
            recipe.check().unwrap();
            change(&mut recipe);
            recipe.check().unwrap_err().into_fault().unwrap()
        };
        bad(|r| r.learning_rate = f64::NAN);
        bad(|r| r.lora.r = 0);
        bad(|r| r.lora.dropout = 1.0);
        bad(|r| r.lora.target_modules = vec!["lm_head".into()]);
        bad(|r| r.batch = 0);
        bad(|r| r.epochs = 0);
        bad(|r| r.clip = 0.0);
        bad(|r| r.decay = 1.5);
        bad(|r| r.adamw.beta2 = 1.0);
        bad(|r| r.stochastic_rounding = true);
        bad(|r| r.layers = TrainedLayers::Last(0));
        bad(|r| (r.method, r.load_in_4bit) = (Method::Full, true));
        // Full finetuning does not use the adapter's settings.
        let mut full = HealRecipe::paper(Method::Full);
        full.lora.r = 0;
        full.check().unwrap();
    }
}
