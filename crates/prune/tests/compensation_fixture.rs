//! Compensation against transformers and numpy: `fixtures/compensation/make.py` fits the linear maps in f64 by another
//! solver, and folds magnitudes as Prune&Comp's script does, into the layers before each gap instead of those after.
//!
//! Lopper's forward pass is in f32, so that hidden states differ by about 1e-6 of their size; the fits magnify that by
//! the condition of the MLP outputs, which is some tens here. Hence 2e-4 for weights of about 1 and logits of about 10.

use lopper_model::Model;
use lopper_model::checkpoint::Checkpoint;
use lopper_prune::compensation::{FitInputs, TokenWeights};
use lopper_prune::{Calibration, Compensated, CompensationMethod, CompensationOptions, compensate};
use lopper_record::{LayerPosition, LayerSet, NoProgress};
use lopper_testkit::{assert_close, fixture, fixture_json, logits};
use serde::Deserialize;

const TOLERANCE: f32 = 2e-4;

#[derive(Deserialize)]
struct Fixture {
    kept: Vec<usize>,
    ridge: f64,
    sequences: Vec<Vec<u32>>,
    ids: Vec<u32>,
    uncut: Vec<f32>,
    cut: Vec<f32>,
    linear: Vec<Linear>,
    magnitude: Magnitude,
}

#[derive(Deserialize)]
struct Linear {
    relative: bool,
    compensated: bool,
    down: Vec<Vec<f32>>,
    logits: Vec<f32>,
}

#[derive(Deserialize)]
struct Magnitude {
    factors: Vec<f64>,
    logits: Vec<f32>,
}

impl Fixture {
    fn model() -> Model {
        Model::from_checkpoint(&Checkpoint::open(&fixture("compensation/llama")).unwrap()).unwrap()
    }

    fn kept(&self) -> LayerSet<LayerPosition> {
        self.kept.iter().copied().collect()
    }

    fn run(&self, options: CompensationOptions<'_>) -> Compensated {
        let calibration = Calibration::new(self.sequences.clone()).unwrap();
        let options = CompensationOptions { ridge: self.ridge, ..options };
        compensate(&Self::model(), &self.kept(), &calibration, &options, &NoProgress).unwrap()
    }
}

#[test]
fn folded_weights_are_those_of_numpy() {
    let fixture: Fixture = fixture_json("compensation/expected.json");
    let model = Fixture::model();
    assert_close(&logits(&model, &fixture.ids, &model.all_layers()), &fixture.uncut, TOLERANCE);
    assert_close(&logits(&model, &fixture.ids, &fixture.kept().slots()), &fixture.cut, TOLERANCE);
    assert_eq!(fixture.linear.len(), 4);
    for expected in &fixture.linear {
        let found = fixture.run(CompensationOptions {
            inputs: if expected.compensated { FitInputs::Compensated } else { FitInputs::Uncut },
            token_weights: if expected.relative { TokenWeights::Relative } else { TokenWeights::Equal },
            ..CompensationOptions::new(CompensationMethod::Linear)
        });
        assert_eq!(found.changed, ["model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.weight"]);
        for (layer, down) in expected.down.iter().enumerate() {
            assert_close(&found.model.layers[layer].down.weight.values(), down, TOLERANCE);
        }
        let found = logits(&found.model, &fixture.ids, &found.model.all_layers());
        assert_close(&found, &expected.logits, 10.0 * TOLERANCE);
    }
}

#[test]
fn magnitudes_folded_after_the_gap_are_those_folded_before_it() {
    let fixture: Fixture = fixture_json("compensation/expected.json");
    let found = fixture.run(CompensationOptions::new(CompensationMethod::Magnitude));
    assert_eq!(found.gaps.len(), fixture.magnitude.factors.len());
    for (gap, expected) in found.gaps.iter().zip(&fixture.magnitude.factors) {
        assert!((gap.factor.unwrap() - expected).abs() < 1e-5, "{gap:?}, not {expected}");
    }
    let changed = ["1.mlp.down_proj", "1.self_attn.o_proj", "2.mlp.down_proj", "2.self_attn.o_proj"];
    let mut names = found.changed.clone();
    names.sort();
    assert_eq!(names, changed.map(|name| format!("model.layers.{name}.weight")));
    let found = logits(&found.model, &fixture.ids, &found.model.all_layers());
    assert_close(&found, &fixture.magnitude.logits, TOLERANCE);
}
