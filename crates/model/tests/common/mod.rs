//! Reading fixtures that hold what PyTorch made of a checkpoint, and comparing the decoder with them.

pub mod frequencies;

use lopper_model::config::{Config, RopeScaling};
use lopper_model::param::Gradients;
use lopper_model::{Batch, Checkpoint, Model, SequenceCache, Threads, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_record::{LayerSet, LayerSlot};
use lopper_testkit::{fixture, fixture_json};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::PathBuf;

/// Largest difference of a logit; logits reach about ±12.
pub const LOGITS: f32 = 1e-4;
/// Largest difference of a gradient, relative to the parameter's largest gradient.
const GRADIENTS: f32 = 1e-4;
/// Difference of the mean loss, in nats.
const LOSS: f64 = 1e-5;

/// What `expected.json` holds, as far as every fixture has it.
#[derive(Deserialize)]
pub struct Expected {
    pub sequences: Vec<Vec<u32>>,
    pub responses: Vec<Vec<f32>>,
    /// The whole model first, then models with layers removed.
    pub runs: Vec<Run>,
}

#[derive(Deserialize)]
pub struct Run {
    pub kept: LayerSet<LayerSlot>,
    pub loss: f64,
    /// `[sequence][token][vocabulary]`
    pub logits: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
pub struct Greedy {
    pub prompt: Vec<u32>,
    pub tokens: Vec<u32>,
    pub smallest_lead: f32,
}

pub struct Fixture {
    pub name: String,
    pub model: Model,
    pub expected: Expected,
}

impl Fixture {
    pub fn read(name: String) -> Self {
        let model = Model::from_checkpoint(&Checkpoint::open(&fixture(&name)).unwrap()).unwrap();
        let expected = fixture_json(&format!("{name}/expected.json"));
        Self { name, model, expected }
    }

    pub fn directory(&self) -> PathBuf {
        fixture(&self.name)
    }

    /// The whole of `expected.json`, for what only some fixtures have in it.
    pub fn json(&self) -> serde_json::Value {
        fixture_json(&format!("{}/expected.json", self.name))
    }

    /// The logits of every run, with the layers skipped and in a model that holds only the kept
    /// ones; returns the largest differences, of the whole model and of the cut ones.
    pub fn check_logits(&self) -> [f32; 2] {
        let Self { name, model, expected, .. } = self;
        assert_eq!(expected.runs[0].kept, model.all_layers(), "{name}: the first run is the whole model");
        let batch = Batch::new(&expected.sequences);
        let mut largest = [0f32; 2];
        for (index, run) in expected.runs.iter().enumerate() {
            let theirs: Vec<f32> = run.logits.iter().flatten().flatten().copied().collect();
            let mut compare = |context: String, ours: &[f32]| {
                let difference = close(&format!("{name}, {context}"), ours, &theirs, LOGITS);
                largest[index.min(1)] = largest[index.min(1)].max(difference);
            };
            for threads in [Threads::One, Threads::Pool] {
                compare(format!("layers {:?}, {threads:?}", run.kept), &logits(model, &batch, &run.kept, threads));
            }
            // A model that holds only the kept layers is the same candidate.
            let pruned = model.keep(&run.kept.indices().collect());
            let ours = logits(&pruned, &batch, &pruned.all_layers(), Threads::One);
            compare(format!("only {:?}", run.kept), &ours);
        }
        largest
    }

    /// The loss of every run, and the gradient of the whole model's loss for every parameter.
    pub fn check_loss_and_gradients(&mut self) {
        let documents = self.expected.sequences.iter().zip(&self.expected.responses);
        let data = TrainBatch::new(documents.map(|(tokens, weights)| (tokens.as_slice(), weights.as_slice())));
        let bytes = std::fs::read(self.directory().join("gradients.safetensors")).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        let mut gradients = self.model.set_trainable(|_| true);
        let options = TrainOptions { scale: (1.0 / data.total_weight()) as f32, ..TrainOptions::default() };
        for run in &self.expected.runs {
            let mut unused = Gradients { slots: gradients.slots.clone() };
            let grads = if run.kept.len() == self.model.num_layers() { &mut gradients } else { &mut unused };
            let mut workspace = TrainWorkspace::default();
            let loss = self.model.loss_and_gradients(&data, &run.kept, options, &mut workspace, grads).unwrap();
            assert!((loss - run.loss).abs() < LOSS, "{}: loss {loss}, expected {}", self.name, run.loss);
        }
        let parameters = self.model.parameters();
        assert_eq!(parameters.len(), theirs.names().len(), "{}: parameters", self.name);
        for (name, param) in parameters {
            let view = theirs.tensor(&name).unwrap();
            let theirs: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3, "{}: {name} has next to no gradient, {largest}", self.name);
            let tolerance = GRADIENTS * largest;
            let ours = gradients.of(&param).unwrap();
            close(&format!("{}: gradient of {name}", self.name), ours, &theirs, tolerance);
        }
    }

    /// The most probable continuation, token by token through the cache.
    pub fn check_continuation(&self, Greedy { prompt, tokens, smallest_lead }: Greedy) {
        let Self { name, model, .. } = self;
        assert!(smallest_lead > 10.0 * LOGITS, "{name}: rounding could change a token");
        let kept = model.all_layers();
        let mut text = prompt.clone();
        let mut cache = SequenceCache::new(kept.len());
        while text.len() < prompt.len() + tokens.len() {
            if needs_recompute(&model.config, cache.len(), text.len()) {
                cache = SequenceCache::new(kept.len());
            }
            let batch = Batch::continued([(&text[cache.len()..], cache.len())]);
            let hidden = model.hidden_states(&batch, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
            let logits = model.logits(&model.normed_rows(&hidden, [batch.len() - 1]), Threads::One);
            text.push((0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32);
        }
        assert_eq!(text[prompt.len()..], tokens, "{name}: continuing {prompt:?}");
    }

    /// The older spelling of the configuration lowers to the same.
    pub fn check_spellings(&self) {
        let path = self.directory().join("config_v4.json");
        let old = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let old = lopper_model::families::parse_config(&old, &path).unwrap();
        assert_eq!(old, self.model.config, "{}", self.name);
    }
}

pub fn logits(model: &Model, batch: &Batch, kept: &LayerSet<LayerSlot>, threads: Threads) -> Vec<f32> {
    let hidden = model.hidden_states(batch, kept, threads, None, None).unwrap();
    model.logits(&model.normed_rows(&hidden, 0..batch.len()), threads)
}

/// Asserts that no two values differ by more than `tolerance`; returns the largest difference.
pub fn close(context: &str, ours: &[f32], theirs: &[f32], tolerance: f32) -> f32 {
    assert_eq!(ours.len(), theirs.len(), "{context}: lengths");
    let mut largest = 0f32;
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let difference = (a - b).abs();
        assert!(difference <= tolerance, "{context}: value {i} is {a}, expected {b}; allowed {tolerance}");
        largest = largest.max(difference);
    }
    largest
}

/// Whether a text that grows from `shorter` to `longer` tokens is to be read again from its
/// beginning, as transformers does for Phi-3: from here on other frequencies turn all its keys.
fn needs_recompute(config: &Config, shorter: usize, longer: usize) -> bool {
    config.ropes.iter().any(|rope| match rope.scaling {
        RopeScaling::LongRope { original_max_positions, .. } => {
            shorter <= original_max_positions && original_max_positions < longer
        }
        _ => false,
    })
}
