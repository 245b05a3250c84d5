//! The criteria against transformers and numpy: `fixtures/criteria/make.py` catches the hidden states
//! of the same tiny checkpoints by hooks and computes the criteria in f64.
//!
//! Both forward passes are in f32 and differ in the order of sums, by about 1e-6 relative at the
//! hidden states. Averages of cosines differ by no more; angles near 0 magnify it, and there are
//! none below 0.01 here. Hence 1e-5 for all.

use lopper_infer::Engine;
use lopper_model::Model;
use lopper_model::checkpoint::Checkpoint;
use lopper_prune::Calibration;
use lopper_prune::criteria::{BlockScores, LayerScores, Measures, measure};
use lopper_testkit::{fixture, fixture_json};
use serde::Deserialize;

const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    model: String,
    sequences: Vec<Vec<u32>>,
    block_influence: Vec<f64>,
    relative_magnitude: Vec<f64>,
    angular: BlockScores,
    angular_mean: BlockScores,
}

fn assert_close(what: &str, got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < TOLERANCE, "{what}[{index}]: {got}, not {expected}");
    }
}

fn assert_blocks_close(what: &str, got: &BlockScores, expected: &BlockScores) {
    assert_eq!(got.sizes().count(), expected.sizes().count(), "{what}");
    for ((size, got), (_, expected)) in got.sizes().zip(expected.sizes()) {
        assert_close(&format!("{what} of {size}"), got, expected);
    }
}

#[test]
fn criteria_equal_those_of_transformers() {
    let Fixture { cases } = fixture_json("criteria/expected.json");
    assert_eq!(cases.len(), 2);
    for case in cases {
        let model = Model::from_checkpoint(&Checkpoint::open(&fixture(&case.model)).unwrap()).unwrap();
        let calibration = Calibration::new(case.sequences).unwrap();
        let scores: LayerScores =
            measure(&Engine::new(model, 2).unwrap(), &calibration, Measures::default(), &lopper_record::NoProgress)
                .unwrap();
        assert_close(&case.model, &scores.block_influence, &case.block_influence);
        assert_close(&case.model, &scores.relative_magnitude, &case.relative_magnitude);
        assert_blocks_close(&case.model, &scores.angular, &case.angular);
        assert_blocks_close(&case.model, &scores.angular_mean, &case.angular_mean);
    }
}
