//! The decoder against PyTorch and transformers: logits over whole and cut models, the loss and
//! every parameter's gradient, greedy continuation through the cache.
//!
//! Numbers come from `fixtures/make_models.py` (its versions stand in each `expected.json`), in
//! f32 with eager attention. Both sides round every sum differently: the largest differences seen
//! are 7e-6 on logits of up to ±12 and 3e-6 of a parameter's largest gradient. The tolerances below
//! leave a factor of ten or more over that and lie far under what any change of formula would do.

use lopper_model::param::Gradients;
use lopper_model::{Batch, Checkpoint, Model, Par, SequenceCache, TrainBatch, TrainOptions, TrainWorkspace};
use safetensors::SafeTensors;
use serde::Deserialize;
use std::path::PathBuf;

/// Largest difference of a logit; logits reach about ±12.
const LOGITS: f32 = 1e-4;
/// Largest difference of a gradient, relative to the parameter's largest gradient.
const GRADIENTS: f32 = 1e-4;
/// Difference of the mean loss, in nats.
const LOSS: f64 = 1e-5;

const FIXTURES: [&str; 4] = ["llama/untied", "llama/tied_bias", "qwen3/tied", "qwen3/untied"];

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    responses: Vec<Vec<f32>>,
    runs: Vec<Run>,
    greedy: Greedy,
}

#[derive(Deserialize)]
struct Run {
    kept: Vec<usize>,
    loss: f64,
    /// `[sequence][token][vocabulary]`
    logits: Vec<Vec<Vec<f32>>>,
}

#[derive(Deserialize)]
struct Greedy {
    prompt: Vec<u32>,
    tokens: Vec<u32>,
    smallest_lead: f32,
}

struct Fixture {
    name: &'static str,
    directory: PathBuf,
    model: Model,
    expected: Expected,
}

fn fixtures() -> Vec<Fixture> {
    FIXTURES
        .into_iter()
        .map(|name| {
            let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
            let model = Checkpoint::open(&directory).unwrap().load_model().unwrap();
            let expected = serde_json::from_slice(&std::fs::read(directory.join("expected.json")).unwrap()).unwrap();
            Fixture { name, directory, model, expected }
        })
        .collect()
}

impl Fixture {
    fn train_batch(&self) -> TrainBatch {
        let documents = self.expected.sequences.iter().zip(&self.expected.responses);
        TrainBatch::new(documents.map(|(tokens, weights)| (tokens.as_slice(), weights.as_slice())))
    }
}

fn logits(model: &Model, batch: &Batch, kept: &[usize], par: Par) -> Vec<f32> {
    let hidden = model.hidden_states(batch, kept, par, None, None).unwrap();
    model.logits(&model.normed_rows(&hidden, 0..batch.len()), par)
}

fn close(context: &str, ours: &[f32], theirs: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), theirs.len(), "{context}: lengths");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        let difference = (a - b).abs();
        assert!(difference <= tolerance, "{context}: value {i} is {a}, expected {b}; allowed {tolerance}");
    }
}

#[test]
fn logits_whole_and_cut() {
    for Fixture { name, model, expected, .. } in fixtures() {
        assert_eq!(expected.runs[0].kept, model.all_layers(), "{name}: the first run is the whole model");
        let batch = Batch::new(&expected.sequences);
        for run in &expected.runs {
            let theirs: Vec<f32> = run.logits.iter().flatten().flatten().copied().collect();
            for par in [Par::Sequential, Par::Pool] {
                let ours = logits(&model, &batch, &run.kept, par);
                close(&format!("{name}, layers {:?}, {par:?}", run.kept), &ours, &theirs, LOGITS);
            }
            // A model that holds only the kept layers is the same candidate.
            let pruned = model.keep(&run.kept);
            let ours = logits(&pruned, &batch, &pruned.all_layers(), Par::Sequential);
            close(&format!("{name}, only {:?}", run.kept), &ours, &theirs, LOGITS);
        }
    }
}

#[test]
fn loss_and_every_gradient() {
    for mut fixture in fixtures() {
        let data = fixture.train_batch();
        let bytes = std::fs::read(fixture.directory.join("gradients.safetensors")).unwrap();
        let theirs = SafeTensors::deserialize(&bytes).unwrap();
        let mut gradients = fixture.model.set_trainable(|_| true);
        let options = TrainOptions {
            par: Par::Sequential,
            scale: (1.0 / data.total_weight()) as f32,
            dropout: None,
            checkpointing: false,
        };
        for run in &fixture.expected.runs {
            let mut unused = Gradients { slots: gradients.slots.clone() };
            let grads = if run.kept.len() == fixture.model.num_layers() { &mut gradients } else { &mut unused };
            let mut workspace = TrainWorkspace::default();
            let loss = fixture.model.loss_and_gradients(&data, &run.kept, options, &mut workspace, grads).unwrap();
            assert!((loss - run.loss).abs() < LOSS, "{}: loss {loss}, expected {}", fixture.name, run.loss);
        }
        let parameters = fixture.model.parameters();
        assert_eq!(parameters.len(), theirs.names().len(), "{}: parameters", fixture.name);
        for (name, param) in parameters {
            let view = theirs.tensor(&name).unwrap();
            let theirs: Vec<f32> = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let largest = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(largest > 1e-3, "{}: {name} has next to no gradient, {largest}", fixture.name);
            let tolerance = GRADIENTS * largest;
            let ours = gradients.of(&param).unwrap();
            close(&format!("{}: gradient of {name}", fixture.name), ours, &theirs, tolerance);
        }
    }
}

#[test]
fn greedy_continuation_through_the_cache() {
    for Fixture { name, model, expected, .. } in fixtures() {
        let Greedy { prompt, tokens, smallest_lead } = expected.greedy;
        assert!(smallest_lead > 10.0 * LOGITS, "{name}: rounding could change a token");
        let kept = model.all_layers();
        let mut cache = SequenceCache::new(kept.len());
        let mut next = prompt.clone();
        let mut ours = Vec::new();
        while ours.len() < tokens.len() {
            let batch = Batch::continued([(next.as_slice(), cache.len())]);
            let hidden = model.hidden_states(&batch, &kept, Par::Sequential, Some(&mut [&mut cache]), None).unwrap();
            let logits = model.logits(&model.normed_rows(&hidden, [batch.len() - 1]), Par::Sequential);
            let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32;
            ours.push(best);
            next = vec![best];
        }
        assert_eq!(ours, tokens, "{name}");
    }
}

#[test]
fn both_spellings_of_the_configuration_mean_the_same() {
    for Fixture { name, directory, model, .. } in fixtures() {
        let path = directory.join("config_v4.json");
        let old = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(lopper_model::families::parse_config(&old, &path).unwrap(), model.config, "{name}");
    }
}
