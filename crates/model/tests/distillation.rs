//! Learning from the whole model: losses and gradients as PyTorch has them (`fixtures/distillation/make.py`).

use std::path::{Path, PathBuf};

use lopper_model::{
    Checkpoint, Divergence, Model, Teacher, TrainBatch, TrainOptions, TrainWorkspace, param::Gradients,
};
use lopper_record::LayerSet;
use serde_json::Value;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

fn numbers<T>(value: &Value, of: impl Fn(f64) -> T) -> Vec<T> {
    value.as_array().unwrap().iter().map(|value| of(number(value))).collect()
}

#[test]
fn a_cut_that_learns_from_the_whole_model_has_the_losses_and_gradients_of_pytorch() {
    let text = std::fs::read_to_string(fixtures().join("distillation/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    let documents: Vec<(Vec<u32>, Vec<f32>)> = expected["documents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|document| (numbers(&document["tokens"], |n| n as u32), numbers(&document["weights"], |n| n as f32)))
        .collect();
    let data = TrainBatch::new(documents.iter().map(|(tokens, weights)| (tokens.as_slice(), weights.as_slice())));
    let mut compared = 0;
    for of_model in expected["models"].as_array().unwrap() {
        let name = of_model["name"].as_str().unwrap();
        let checkpoint = Checkpoint::open(&fixtures().join(name)).unwrap();
        let whole = Model::from_checkpoint(&checkpoint).unwrap();
        let mut student = Model::from_checkpoint(&checkpoint).unwrap();
        let all = LayerSet::all(whole.num_layers());
        let kept = numbers(&of_model["kept"], |n| n as usize).into_iter().collect();
        let zero = student.set_trainable(|_| true);
        for case in of_model["cases"].as_array().unwrap() {
            let setting = |key: &str| number(&case[key]) as f32;
            let (temperature, reverse, targets) = (setting("temperature"), setting("reverse"), setting("targets"));
            let divergence = Divergence { temperature, reverse, targets };
            let hidden_states = setting("hidden_states");
            let teacher = Some(Teacher { model: &whole, kept: &all, divergence, hidden_states });
            let mut gradients: Gradients = zero.clone();
            let (options, workspace) = (TrainOptions::default(), &mut TrainWorkspace::default());
            let loss = student.taught(&data, &kept, teacher, options, workspace, &mut gradients).unwrap();
            let near = |own: f64, wanted: f64, what: &str| {
                assert!((own - wanted).abs() <= 2e-5 * wanted.abs().max(1.0), "{name} {what}: {own}, not {wanted}");
            };
            near(loss.total, number(&case["total"]), "loss");
            near(loss.targets, number(&case["targets_loss"]), "loss of the targets");
            for (parameter, param) in student.parameters() {
                let Some(norm) = case["gradients"].get(&parameter) else { continue };
                let own =
                    gradients.slots[param.slot.unwrap()].iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
                near(own, number(norm), &parameter);
                compared += 1;
            }
        }
    }
    assert!(compared > 100, "{compared} gradients were compared");
}
