//! Healing reduces the loss, trains only what it should, is reproducible and resumable, and does not depend on the
//! layers that were cut.

use lopper_heal::adapter::is_adapter;
use lopper_heal::{
    Document, Evaluation, HealRecipe, Healed, Keep, LoraConfig, Method, Rounds, Run, StateFile, TrainedLayers, Trainer,
    TrainerConfig, attach_lora, heal, load_adapter, merge,
};
use lopper_model::linear::Dropout;
use lopper_model::{Model, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_record::{LayerPosition, LayerSet, NoProgress, Progress};
use lopper_testkit::{RecordedProgress, Tiny, assert_close, tiny_model, token_sequences};
use std::path::Path;
use std::time::Duration;

const TWO: Run<'static> = Run::with_workers(2);

fn model() -> Model {
    tiny_model(Tiny { qk_norm: true, ..Tiny::default() }, 5)
}

/// Twenty texts; the second half of each is the answer.
fn documents() -> Vec<Document> {
    let lengths: Vec<usize> = (0..20).map(|i| 8 + i % 5).collect();
    let half = |tokens: Vec<u32>| {
        let weights = (0..tokens.len()).map(|i| if i * 2 < tokens.len() { 0.0 } else { 1.0 }).collect();
        Document { tokens, weights }
    };
    token_sequences(&lengths, 37, 9).into_iter().map(half).collect()
}

fn recipe(method: Method) -> HealRecipe {
    HealRecipe {
        lora: LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() },
        learning_rate: 1e-2,
        warmup: 2.into(),
        batch: 6,
        epochs: 6,
        max_length: 64,
        seed: 4,
        ..HealRecipe::for_pocket(method)
    }
}

fn run(model: &Model, kept: &LayerSet<LayerPosition>, recipe: &HealRecipe, run: &Run<'_>) -> Healed {
    heal(model, kept, &documents(), recipe, run, &NoProgress).unwrap()
}

/// Three of the four layers.
fn three() -> LayerSet<LayerPosition> {
    [0, 1, 3].into()
}

fn weights(model: &Model) -> Vec<(String, Vec<f32>)> {
    model.parameters().into_iter().map(|(name, p)| (name, p.data.to_vec())).collect()
}

#[test]
fn the_loss_falls_and_only_what_is_trained_changes() {
    let model = model();
    let before = weights(&model);
    for method in [Method::Lora, Method::Full] {
        let healed = run(&model, &three(), &recipe(method), &TWO);
        let stats = &healed.stats;
        assert!(stats.loss_last < 0.6 * stats.loss_first, "{method:?}: {} to {}", stats.loss_first, stats.loss_last);
        assert_eq!((stats.steps, stats.loss_curve.len(), stats.examples), (24, 24, 20));
        assert_eq!(stats.tokens, 6 * documents().iter().map(|d| d.tokens.len() as u64 - 1).sum::<u64>());
        assert_eq!(weights(&model), before, "the given model does not change");

        let kept = weights(&model.keep(&three()));
        let after = weights(&healed.model);
        for (name, values) in after.iter().filter(|(name, _)| !is_adapter(name)) {
            let was = &kept.iter().find(|(other, _)| other == name).unwrap().1;
            assert_eq!(values == was, method == Method::Lora, "{name}");
        }
        let adapters = after.iter().filter(|(name, _)| is_adapter(name)).collect::<Vec<_>>();
        assert_eq!(adapters.len(), if method == Method::Lora { 3 * 7 * 2 } else { 0 });
        assert!(adapters.iter().all(|(_, values)| values.iter().all(|v| *v != 0.0)), "every part of B was trained");
        let trained = if method == Method::Lora { adapters } else { after.iter().collect() };
        assert_eq!(stats.trained_parameters, trained.iter().map(|(_, v)| v.len()).sum::<usize>());
    }
}

#[test]
fn gradients_reach_adapters_and_nothing_else() {
    let mut model = model();
    let kept = [0, 2];
    attach_lora(&mut model, &LoraConfig { r: 2, dropout: 0.0, ..LoraConfig::default() }, 1, &kept.into()).unwrap();
    let mut gradients = model.set_trainable(is_adapter);
    let slots: Vec<(String, usize)> =
        model.parameters().into_iter().filter_map(|(name, p)| Some((name, p.slot?))).collect();
    assert_eq!(slots.len(), kept.len() * 7 * 2);
    assert!(slots.iter().all(|(name, _)| is_adapter(name)));
    let documents = documents();
    let batch = TrainBatch::new(documents.iter().map(|d| (d.tokens.as_slice(), d.weights.as_slice())));
    let options = TrainOptions { dropout: Some(Dropout { seed: 1 }), ..TrainOptions::default() };
    model.loss_and_gradients(&batch, &kept.into(), options, &mut TrainWorkspace::default(), &mut gradients).unwrap();
    for (name, slot) in slots {
        let moves = gradients.slots[slot].iter().any(|g| *g != 0.0);
        // While B is zero nothing reaches A.
        assert_eq!(moves, name.ends_with("lora_B.weight"), "{name}");
    }
}

#[test]
fn the_same_run_gives_the_same_weights_and_another_seed_does_not() {
    for method in [Method::Lora, Method::Full] {
        let run = |seed| weights(&run(&model(), &three(), &HealRecipe { seed, ..recipe(method) }, &TWO).model);
        let first = run(4);
        assert_eq!(first, run(4));
        assert_ne!(first, run(5));
    }
}

#[test]
fn a_cut_heals_like_the_pruned_model() {
    let (model, kept) = (model(), LayerSet::<LayerPosition>::from([0, 2, 3]));
    for method in [Method::Lora, Method::Full] {
        let recipe = recipe(method);
        let cut = run(&model, &kept, &recipe, &TWO);
        let left = model.keep(&kept);
        let left = run(&left, &LayerSet::all(3), &recipe, &TWO);
        assert_eq!(weights(&cut.model), weights(&left.model));
        assert_eq!(cut.stats.loss_curve, left.stats.loss_curve);
    }
    // And like training the kept layers in place, within the uncut model.
    let recipe = HealRecipe { batch: 20, epochs: 5, mixed: false, ..recipe(Method::Lora) };
    let recipe = HealRecipe { lora: LoraConfig { dropout: 0.0, ..recipe.lora.clone() }, ..recipe };
    let healed = run(&model, &kept, &recipe, &TWO);
    let mut whole = model.clone();
    attach_lora(&mut whole, &recipe.lora, recipe.seed, &kept).unwrap();
    let mut trainer = Trainer::new(whole, kept.slots(), is_adapter, recipe.adamw, TrainerConfig::default());
    for (step, loss) in healed.stats.loss_curve.iter().enumerate() {
        let stats = trainer.step(&documents(), recipe.schedule(5).rate(step)).unwrap();
        assert!((stats.loss - loss).abs() < 1e-4, "step {step}: {} and {loss}", stats.loss);
    }
}

fn state(path: &Path) -> Run<'_> {
    Run { state: Some(StateFile { path, model: "m", save_every: Duration::ZERO }), ..TWO }
}

#[test]
fn an_interrupted_run_ends_like_one_that_was_not() {
    for method in [Method::Lora, Method::Full] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.partial");
        let recipe = recipe(method);
        let whole = run(&model(), &three(), &recipe, &TWO);
        // Interrupted in the middle of an epoch, twice.
        let mut done = 0;
        for steps in [7, 8] {
            let progress = RecordedProgress::interrupting_when(move |step| step.reports == steps);
            let error = heal(&model(), &three(), &documents(), &recipe, &state(&path), &progress).unwrap_err();
            assert!(error.is_interrupted(), "{error:#}");
            let step = progress.last("healing");
            assert_eq!((step.reports, step.found), (steps, done), "no step is repeated");
            assert!(step.messages.iter().all(|message| message.starts_with("loss ")));
            done = step.done;
        }
        let resumed = run(&model(), &three(), &recipe, &state(&path));
        assert_eq!(weights(&resumed.model), weights(&whole.model));
        assert_eq!(resumed.stats.loss_curve, whole.stats.loss_curve);
        assert_eq!((resumed.stats.tokens, resumed.stats.steps), (whole.stats.tokens, whole.stats.steps));

        // Another run does not continue it.
        let other = HealRecipe { learning_rate: 2e-2, ..recipe.clone() };
        for (kept, recipe) in [(three(), &other), ([0, 1, 2].into(), &recipe)] {
            let error = heal(&model(), &kept, &documents(), recipe, &state(&path), &NoProgress).unwrap_err();
            let fault = error.into_fault().unwrap();
            assert!(fault.message.contains("another recipe"), "{fault}");
            assert!(fault.got.unwrap().contains(" was "), "what differs is named");
        }
    }
}

#[test]
fn merged_is_unmerged_and_checkpointing_changes_nothing() {
    let recipe = recipe(Method::Lora);
    let healed = run(&model(), &three(), &recipe, &TWO);
    let mut merged = healed.model.clone();
    merge(&mut merged);
    let tokens = &documents()[0].tokens;
    let logprobs = |model: &Model| lopper_testkit::logits(model, tokens, &model.all_layers());
    assert_close(&logprobs(&merged), &logprobs(&healed.model), 1e-4);
    assert_eq!(merged.parameter_count(), model().keep(&three()).parameter_count());

    let again = run(&model(), &three(), &HealRecipe { checkpointing: true, ..recipe }, &TWO);
    assert_eq!(again.stats.loss_curve.len(), healed.stats.loss_curve.len());
    for (a, b) in again.stats.loss_curve.iter().zip(&healed.stats.loss_curve) {
        assert!((a - b).abs() < 1e-4, "{a} and {b}");
    }
}

#[test]
fn dora_trains_norms_too_and_all_else_holds_of_it() {
    let recipe = recipe(Method::Lora);
    let recipe = HealRecipe { lora: LoraConfig { dora: true, ..recipe.lora.clone() }, ..recipe };
    let held_out = documents();
    let healed = run(&model(), &three(), &recipe, &Run { held_out: &held_out, ..TWO });
    let stats = &healed.stats;
    assert!(stats.loss_last < 0.6 * stats.loss_first, "{} to {}", stats.loss_first, stats.loss_last);
    let loss = stats.held_out.unwrap();
    assert!(loss.last < 0.8 * loss.first, "{loss:?}");
    let trained: Vec<_> = weights(&healed.model).into_iter().filter(|(name, _)| is_adapter(name)).collect();
    assert_eq!(trained.len(), 3 * 7 * 3);
    let mut fresh = model().keep(&three());
    attach_lora(&mut fresh, &recipe.lora, recipe.seed, &LayerSet::all(3)).unwrap();
    for ((name, before), (_, after)) in weights(&fresh).iter().filter(|(name, _)| is_adapter(name)).zip(&trained) {
        assert!(before.iter().zip(after).all(|(before, after)| before != after), "{name} was trained");
    }

    let mut merged = healed.model.clone();
    merge(&mut merged);
    assert_eq!(merged.parameter_count(), model().keep(&three()).parameter_count());
    let logits = |model: &Model| lopper_testkit::logits(model, &documents()[0].tokens, &model.all_layers());
    assert_close(&logits(&merged), &logits(&healed.model), 1e-4);

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    let progress = RecordedProgress::interrupting_when(|step| step.reports == 7);
    let error = heal(&model(), &three(), &documents(), &recipe, &state(&path), &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error:#}");
    assert_eq!(weights(&run(&model(), &three(), &recipe, &state(&path)).model), weights(&healed.model));

    // Written and read, it is the same adapter.
    healed.save_adapter(directory.path(), None).unwrap();
    let mut read = model().keep(&three());
    assert_eq!(load_adapter(directory.path(), &mut read, &LayerSet::all(3)).unwrap(), recipe.lora);
    assert_eq!(weights(&read), weights(&healed.model));
}

#[test]
fn unusable_inputs_are_refused() {
    let recipe = recipe(Method::Lora);
    let heal = |kept: &[usize], documents: &[Document], recipe: &HealRecipe| {
        heal(&model(), &kept.to_vec().into(), documents, recipe, &TWO, &NoProgress).unwrap_err()
    };
    assert!(heal(&[0, 1], &[], &recipe).fault().is_some());
    assert!(heal(&[0, 1], &documents(), &HealRecipe { max_length: 9, ..recipe.clone() }).fault().is_some());
    assert!(heal(&[0, 1], &documents(), &HealRecipe { epochs: 0, ..recipe.clone() }).fault().is_some());
    heal(&[], &documents(), &recipe);
    heal(&[0, 9], &documents(), &recipe);
    heal(&[0], &[Document { tokens: vec![1, 99], weights: vec![0.0, 1.0] }], &recipe);
    heal(&[0], &[Document { tokens: vec![1, 2], weights: vec![1.0, 0.0] }], &recipe);
}

#[test]
fn held_out_documents_show_what_was_learned_and_change_nothing() {
    let (model, documents) = (model(), documents());
    let recipe = HealRecipe { batch: 20, mixed: false, ..recipe(Method::Lora) };
    let train = |held_out: &[Document]| {
        let how = Run { held_out, ..TWO };
        heal(&model, &three(), &documents, &recipe, &how, &NoProgress).unwrap()
    };
    let (plain, checked) = (train(&[]), train(&documents));
    assert_eq!(weights(&plain.model), weights(&checked.model));
    assert_eq!(plain.stats.held_out, None);

    // Held out, by way of exception, is what was trained on: before the first step its loss is that of the first step,
    // which takes all of it.
    let loss = checked.stats.held_out.unwrap();
    let answers: u64 = documents.iter().map(|d| d.weights[1..].iter().filter(|w| **w > 0.0).count() as u64).sum();
    assert_eq!((loss.documents, loss.tokens), (20, answers));
    assert!((loss.first - checked.stats.loss_first).abs() < 1e-4, "{loss:?} and {}", checked.stats.loss_first);
    assert!(loss.last < 0.8 * loss.first, "{loss:?}");

    let info = checked.stats.info(&recipe);
    assert_eq!((info.steps, info.warmup, info.seed, info.held_out), (6, 2, 4, 20));
    assert_eq!((info.held_out_loss_first, info.held_out_loss_last), (Some(loss.first), Some(loss.last)));
    assert!(info.doubts().iter().any(|doubt| doubt.contains("6 steps on 20 answers")), "{:?}", info.doubts());

    let long = vec![Document { tokens: vec![1; 65], weights: vec![1.0; 65] }];
    let how = Run { held_out: &long, ..TWO };
    let error = heal(&model, &three(), &documents, &recipe, &how, &NoProgress).unwrap_err();
    assert!(error.fault().unwrap().message.contains("too long"));
}

/// Names of the parameters whose values differ.
fn changed(before: &[(String, Vec<f32>)], after: &Model) -> Vec<String> {
    let after = weights(after);
    assert_eq!(before.len(), after.len());
    let differs = |i: &usize| before[*i] != after[*i];
    (0..after.len()).filter(differs).map(|i| after[i].0.clone()).collect()
}

#[test]
fn the_last_layers_and_the_head_are_trained_alone() {
    for tied in [false, true] {
        let model = tiny_model(Tiny { qk_norm: true, tied, ..Tiny::default() }, 5);
        let before = weights(&model.keep(&three()));
        let recipe = HealRecipe { layers: TrainedLayers::Last(1), ..recipe(Method::Full) };
        let healed = run(&model, &three(), &recipe, &TWO);
        let changed = changed(&before, &healed.model);
        let head = if tied { "model.embed_tokens.weight" } else { "lm_head.weight" };
        assert!(changed.iter().any(|name| name == head) && changed.iter().any(|name| name == "model.norm.weight"));
        let others: Vec<&String> = changed.iter().filter(|name| !name.starts_with("model.layers.2.")).collect();
        assert_eq!(others.len(), 2, "{others:?}");
        assert_eq!(changed.len(), 2 + 11, "seven projections and four norms: {changed:?}");
        assert!(healed.stats.loss_last < healed.stats.loss_first);
    }
}

#[test]
fn an_adapter_of_the_layers_from_the_cut_on_is_read_back() {
    let model = model();
    let kept = three();
    let recipe = HealRecipe { layers: TrainedLayers::FromCut, ..recipe(Method::Lora) };
    let healed = run(&model, &kept, &recipe, &TWO);
    assert!(healed.stats.loss_last < healed.stats.loss_first);
    let adapted: Vec<String> =
        healed.model.parameters().into_iter().map(|(name, _)| name).filter(|name| is_adapter(name)).collect();
    assert_eq!(adapted.len(), 2 * 7 * 2);
    assert!(adapted.iter().all(|name| !name.starts_with("model.layers.0.")), "{adapted:?}");

    let directory = tempfile::tempdir().unwrap();
    healed.save_adapter(directory.path(), None).unwrap();
    let config = std::fs::read_to_string(directory.path().join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["layers_to_transform"], serde_json::json!([1, 2]));
    let mut read = model.keep(&kept);
    load_adapter(directory.path(), &mut read, &LayerSet::all(3)).unwrap();
    assert_eq!(weights(&read), weights(&healed.model));
}

/// Removes the last layer but one, however many there are.
fn last_but_one(model: &Model, count: usize, _: &dyn Progress) -> lopper_record::Result<LayerSet<LayerPosition>> {
    Ok((model.num_layers() - 1 - count..model.num_layers() - 1).collect())
}

#[test]
fn layers_are_removed_in_rounds() {
    let (model, all) = (model(), LayerSet::all(4));
    let rounds = |remove, at_once| Run {
        rounds: Some(Rounds { remove, at_once, criterion: "last but one", choose: &last_but_one }),
        ..TWO
    };
    // Removed before the first step, a layer makes no difference to the others.
    let full = recipe(Method::Full);
    let removed = run(&model, &all, &full, &rounds(1, 1));
    let cut = run(&model, &three(), &full, &TWO);
    assert_eq!((removed.kept.clone(), removed.stats.loss_curve), (three(), cut.stats.loss_curve));
    assert_eq!(weights(&removed.model), weights(&cut.model));

    let held_out = &documents()[..4];
    let two = Run { held_out, ..rounds(2, 1) };
    let lora = recipe(Method::Lora);
    let whole = run(&model, &all, &lora, &two);
    assert_eq!((&whole.kept, whole.model.num_layers()), (&[0, 3].into(), 2));
    let removals = &whole.stats.removals;
    let steps = lora.steps(20);
    assert_eq!(removals.iter().map(|r| r.step).collect::<Vec<_>>(), [0, steps / 2]);
    assert_eq!(removals.iter().map(|r| r.layers.clone()).collect::<Vec<_>>(), [[2].into(), [1].into()]);
    let loss = whole.stats.held_out.unwrap();
    let [uncut, first] = removals[0].held_out_loss.unwrap();
    let [healed, second] = removals[1].held_out_loss.unwrap();
    assert_eq!(loss.first, second, "of the same layers as the last loss");
    assert!(healed < first && loss.last < second, "{removals:?}, {loss:?}, {uncut}");

    // Interrupted in the second round it ends the same.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let state = StateFile { path: &path, model: "hash", save_every: Duration::MAX };
    let how = Run { state: Some(state), ..two };
    let progress = RecordedProgress::interrupting_when(|step| step.name == "healing" && step.reports == 15);
    let error = heal(&model, &all, &documents(), &lora, &how, &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error:#}");
    let resumed = run(&model, &all, &lora, &how);
    assert_eq!(resumed.stats.loss_curve, whole.stats.loss_curve);
    assert_eq!((&resumed.stats.removals, resumed.stats.held_out), (removals, whole.stats.held_out));
    assert_eq!(weights(&resumed.model), weights(&whole.model));

    // The best of several depths is not chosen, and not all layers go.
    let best = Evaluation { every: 2, keep: Keep::Best, patience: 0 };
    // Losses on other examples would not compare with those in the state.
    heal(&model, &all, &documents(), &lora, &Run { held_out: &documents()[4..8], ..how }, &NoProgress).unwrap_err();
    for refused in [Run { evaluation: best, ..two }, rounds(4, 1), rounds(2, 3)] {
        assert!(heal(&model, &all, &documents(), &lora, &refused, &NoProgress).unwrap_err().into_fault().is_ok());
    }
}
