//! Stochastic rounding: what is trained is what a bf16 checkpoint holds, and small updates are not lost in it.

use lopper_heal::{Document, HealRecipe, Healed, LossSample, Method, Run, StateFile, WrittenLoss, heal};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, tiny_model, token_sequences};
use std::sync::Arc;
use std::time::Duration;

const TWO: Run<'static> = Run::with_workers(2);

/// A model as a bf16 checkpoint holds it.
fn model(directory: &std::path::Path) -> Model {
    let model = tiny_model(Tiny::default(), 5);
    written(&model, Dtype::BF16, directory)
}

fn written(model: &Model, dtype: Dtype, directory: &std::path::Path) -> Model {
    let directory = tempfile::tempdir_in(directory).unwrap().keep();
    model.save(&directory, &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
    Model::mapped(&Arc::new(Checkpoint::open(&directory).unwrap())).unwrap()
}

fn documents(seed: u64) -> Vec<Document> {
    let document = |tokens: Vec<u32>| Document { weights: vec![1.0; tokens.len()], tokens };
    token_sequences(&[12; 24], 37, seed).into_iter().map(document).collect()
}

/// Steps so small that rounding to nearest loses most of them.
fn recipe(stochastic_rounding: bool) -> HealRecipe {
    HealRecipe {
        learning_rate: 5e-6,
        warmup: 0.into(),
        decay: 0.0,
        batch: 8,
        epochs: 20,
        stochastic_rounding,
        ..HealRecipe::for_pocket(Method::Full)
    }
}

fn losses(healed: &Healed, model: &Model, run: &Run<'_>, dtype: Dtype, directory: &std::path::Path) -> WrittenLoss {
    let (train, layers) = (documents(9), LayerSet::all(model.num_layers()));
    let sample = LossSample::of(healed, model, &layers, &train, run, &NoProgress).unwrap();
    sample.of_written(written(&healed.model, dtype, directory), &dtype.to_string(), &NoProgress).unwrap()
}

#[test]
fn what_is_rounded_stochastically_is_written_as_it_was_trained() {
    let directory = tempfile::tempdir().unwrap();
    let model = model(directory.path());
    let train = |recipe: &HealRecipe, run: &Run<'_>| {
        heal(&model, &LayerSet::all(4), &documents(9), recipe, run, &NoProgress).unwrap()
    };
    let (nearest, stochastic) = (train(&recipe(false), &TWO), train(&recipe(true), &TWO));
    let representable = |healed: &Healed| {
        healed.model.parameters().iter().all(|(_, p)| p.data.iter().all(|v| v.to_bits() & 0xffff == 0))
    };
    assert!(representable(&stochastic) && !representable(&nearest));
    assert!(stochastic.recipe.summary(60).contains("stochastic rounding to bf16"));

    let lost = losses(&nearest, &model, &TWO, Dtype::BF16, directory.path());
    assert!(!lost.held_out && lost.documents == 24 && lost.trained < lost.start, "{lost:?}");
    assert!(lost.gain_lost.unwrap() > 0.3 && lost.warning(false).is_some(), "{lost:?}");
    let exact = losses(&nearest, &model, &TWO, Dtype::F32, directory.path());
    assert_eq!((exact.written, exact.gain_lost, exact.warning(false)), (exact.trained, Some(0.0), None));

    let rounded = losses(&stochastic, &model, &TWO, Dtype::BF16, directory.path());
    assert_eq!((rounded.written, rounded.gain_lost), (rounded.trained, Some(0.0)), "{rounded:?}");
    assert!(rounded.written < lost.written, "{} and {}", rounded.written, lost.written);

    // Held-out documents are what it is measured on, where there are some.
    let held_out = documents(9)[..3].to_vec();
    let run = Run { held_out: &held_out, ..TWO };
    let healed = train(&recipe(true), &run);
    let measured = losses(&healed, &model, &run, Dtype::BF16, directory.path());
    let loss = healed.stats.held_out.unwrap();
    assert_eq!((measured.held_out, measured.documents), (true, 3));
    assert_eq!((measured.start, measured.trained, measured.tokens), (loss.first, loss.last, loss.tokens));
}

#[test]
fn the_rounding_is_the_same_after_an_interruption_and_differs_by_seed() {
    let directory = tempfile::tempdir().unwrap();
    let model = model(directory.path());
    let path = directory.path().join("out.partial");
    let train = |seed, run: &Run<'_>, progress: &RecordedProgress| {
        let recipe = HealRecipe { seed, epochs: 3, ..recipe(true) };
        heal(&model, &LayerSet::all(4), &documents(9), &recipe, run, progress)
    };
    let weights = |healed: Healed| -> Vec<Vec<f32>> {
        healed.model.parameters().into_iter().map(|(_, p)| p.data.to_vec()).collect()
    };
    let whole = weights(train(1, &TWO, &RecordedProgress::default()).unwrap());
    let state = Some(StateFile { path: &path, model: "m", save_every: Duration::ZERO });
    let run = Run { state, ..TWO };
    train(1, &run, &RecordedProgress::interrupting_when(|step| step.reports == 4)).unwrap_err();
    assert_eq!(weights(train(1, &run, &RecordedProgress::default()).unwrap()), whole);
    assert_ne!(weights(train(2, &TWO, &RecordedProgress::default()).unwrap()), whole);
}
