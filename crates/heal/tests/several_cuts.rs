//! Cuts that are healed together are those that are healed alone, to the bit: with every method, where one ends earlier
//! or diverges, and after interruptions.

use std::path::Path;
use std::time::Duration;

use lopper_heal::{
    Cut, Distillation, Document, Evaluation, HealRecipe, Healed, Keep, LoraConfig, Method, OnPolicy, Run, StateFile,
    Stopped, TrainedLayers, heal, heal_cuts,
};
use lopper_model::Model;
use lopper_record::{LayerPosition, LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, tiny_model, token_sequences};

const TWO: Run<'static> = Run::with_workers(2);

fn model() -> Model {
    tiny_model(Tiny { layers: 6, qk_norm: true, tied: false, ..Tiny::default() }, 5)
}

/// Of these, the first two have the layers 0 and 1 in common, and all have layer 0.
fn cuts() -> Vec<LayerSet<LayerPosition>> {
    vec![[0, 1, 2, 5].into(), [0, 1, 4, 5].into(), [0, 2, 5].into()]
}

fn texts(count: usize, seed: u64) -> Vec<Document> {
    let lengths: Vec<usize> = (0..count).map(|i| 8 + i % 5).collect();
    let half = |tokens: Vec<u32>| {
        let weights = (0..tokens.len()).map(|i| if i * 2 < tokens.len() { 0.0 } else { 1.0 }).collect();
        Document { tokens, weights }
    };
    token_sequences(&lengths, 37, seed).into_iter().map(half).collect()
}

fn recipe(method: Method) -> HealRecipe {
    HealRecipe {
        lora: LoraConfig { r: 4, alpha: 8.0, dropout: 0.1, ..LoraConfig::default() },
        learning_rate: 1e-2,
        warmup: 2.into(),
        batch: 6,
        epochs: 3,
        max_length: 64,
        seed: 4,
        // The same on every processor.
        mixed: false,
        ..HealRecipe::for_pocket(method)
    }
}

fn weights(healed: &Healed) -> Vec<(String, Vec<f32>)> {
    healed.trained().parameters().into_iter().map(|(name, p)| (name, p.values().into_owned())).collect()
}

fn assert_same(together: &Healed, alone: &Healed, what: &str) {
    assert_eq!(weights(together), weights(alone), "{what}");
    assert_eq!((&together.kept, &together.recipe), (&alone.kept, &alone.recipe));
    let [mut together, mut alone] = [together, alone].map(|healed| healed.stats.clone());
    (together.seconds, alone.seconds) = (0.0, 0.0);
    assert_eq!(together, alone, "{what}");
}

fn together(model: &Model, recipe: &HealRecipe, run: &Run<'_>) -> Vec<lopper_record::Result<Healed>> {
    let kept = cuts();
    let cuts: Vec<Cut<'_>> = kept.iter().map(|kept| Cut { kept, state: None, logs: &[] }).collect();
    heal_cuts(model, &cuts, &texts(20, 9), recipe, run, &NoProgress).unwrap()
}

fn alone(model: &Model, recipe: &HealRecipe, run: &Run<'_>) -> Vec<lopper_record::Result<Healed>> {
    cuts().iter().map(|kept| heal(model, kept, &texts(20, 9), recipe, run, &NoProgress)).collect()
}

#[test]
fn every_method_gives_each_cut_what_it_has_alone() {
    let held_out = texts(5, 77);
    let evaluation = Evaluation { every: 3, keep: Keep::Best, patience: 0 };
    let run = Run { held_out: &held_out, evaluation, ..TWO };
    let lora = recipe(Method::Lora);
    let distillation = Some(Distillation { reverse: 0.5, hidden_states: 0.1, answers: 0.2, ..Distillation::default() });
    let forward = Some(Distillation::default());
    let own = OnPolicy { part: 0.5, every: 2, max_new_tokens: 5, temperature: 1.0 };
    let own = Some(Distillation { on_policy: Some(own), ..Distillation::default() });
    let (from_cut, last) = (TrainedLayers::FromCut, TrainedLayers::Last(2));
    let recipes = [
        lora.clone(),
        HealRecipe { checkpointing: true, ..lora.clone() },
        HealRecipe { layers: from_cut, ..lora.clone() },
        HealRecipe { layers: from_cut, checkpointing: true, load_in_4bit: true, ..lora.clone() },
        HealRecipe { distillation: forward, ..lora.clone() },
        HealRecipe { distillation, layers: from_cut, ..lora.clone() },
        HealRecipe { distillation, load_in_4bit: true, ..lora.clone() },
        HealRecipe { distillation: own, ..lora },
        recipe(Method::Full),
        HealRecipe { layers: last, ..recipe(Method::Full) },
        HealRecipe { layers: last, distillation, checkpointing: true, ..recipe(Method::Full) },
        HealRecipe { distillation: forward, stochastic_rounding: true, ..recipe(Method::Full) },
    ];
    for recipe in recipes {
        let what = format!("{recipe:?}");
        for (together, alone) in together(&model(), &recipe, &run).iter().zip(alone(&model(), &recipe, &run)) {
            assert_same(together.as_ref().unwrap(), &alone.unwrap(), &what);
        }
    }
}

#[test]
fn a_cut_that_ends_early_or_diverges_leaves_the_others_alone() {
    let held_out = texts(5, 77);
    // At this rate trainings end at different steps.
    let recipe = HealRecipe { learning_rate: 3e-2, epochs: 30, ..recipe(Method::Full) };
    let evaluation = Evaluation { every: 2, keep: Keep::Best, patience: 3 };
    let run = Run { held_out: &held_out, evaluation, ..TWO };
    let all = together(&model(), &recipe, &run);
    let mut steps = Vec::new();
    for (together, alone) in all.iter().zip(alone(&model(), &recipe, &run)) {
        let together = together.as_ref().unwrap();
        assert_eq!(together.stats.stopped, Some(Stopped::Patience));
        assert_same(together, &alone.unwrap(), "patience");
        steps.push(together.stats.steps);
    }
    assert!(steps.iter().any(|other| *other != steps[0]), "{steps:?}");

    // One cut has a layer whose weights are no numbers: its loss is none from the first step on.
    let mut broken = model();
    let down = &mut broken.layers[4].linears_mut().pop().unwrap().1.weight;
    *down = lopper_model::param::Param::matrix(vec![f32::NAN; down.len()], down.rows, down.cols);
    let all = together(&broken, &recipe, &TWO);
    assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    let message = |healed: &lopper_record::Result<Healed>| healed.as_ref().unwrap_err().to_string();
    let apart = alone(&broken, &recipe, &TWO);
    assert_eq!(message(&all[1]), message(&apart[1]));
    for index in [0, 2] {
        assert_same(all[index].as_ref().unwrap(), apart[index].as_ref().unwrap(), "next to one that diverged");
    }
}

fn state(path: &Path) -> Option<StateFile<'_>> {
    Some(StateFile { path, model: "hash", save_every: Duration::MAX })
}

#[test]
fn an_interrupted_run_ends_like_one_that_was_not() {
    let held_out = texts(5, 77);
    let distillation = Some(Distillation::default());
    for recipe in [recipe(Method::Lora), HealRecipe { distillation, ..recipe(Method::Lora) }] {
        let run = Run { held_out: &held_out, ..TWO };
        let whole = together(&model(), &recipe, &run);
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..3).map(|index| dir.path().join(index.to_string())).collect();
        let kept = cuts();
        let with_states = |progress: &dyn lopper_record::Progress| {
            let cuts: Vec<Cut<'_>> =
                kept.iter().zip(&paths).map(|(kept, path)| Cut { kept, state: state(path), logs: &[] }).collect();
            heal_cuts(&model(), &cuts, &texts(20, 9), &recipe, &run, progress)
        };
        // The second cut was begun alone, and is further than the others will be.
        let interrupt = |reports| {
            RecordedProgress::interrupting_when(move |step| step.name == "healing" && step.reports == reports)
        };
        let path: &Path = &paths[1];
        let first = Run { state: state(path), ..run };
        let error = heal(&model(), &kept[1], &texts(20, 9), &recipe, &first, &interrupt(6)).unwrap_err();
        assert!(error.is_interrupted(), "{error:#}");
        for reports in [2, 3] {
            assert!(with_states(&interrupt(reports)).unwrap_err().is_interrupted());
        }
        let resumed = with_states(&NoProgress).unwrap();
        for (resumed, whole) in resumed.iter().zip(&whole) {
            assert_same(resumed.as_ref().unwrap(), whole.as_ref().unwrap(), "resumed");
        }
        // Finished states cost nothing.
        let again = with_states(&NoProgress).unwrap();
        assert_eq!(again[0].as_ref().unwrap().stats, resumed[0].as_ref().unwrap().stats);
    }
}

#[test]
fn fewer_steps_are_the_first_of_a_constant_rate() {
    let constant = HealRecipe { decay: 0.0, ..recipe(Method::Lora) };
    let whole = heal(&model(), &cuts()[0], &texts(20, 9), &constant, &TWO, &NoProgress).unwrap();
    let run = Run { most_steps: Some(5), ..TWO };
    let first = heal(&model(), &cuts()[0], &texts(20, 9), &constant, &run, &NoProgress).unwrap();
    assert_eq!((first.stats.steps, first.stats.stopped), (5, None));
    assert_eq!(first.stats.loss_curve, whole.stats.loss_curve[..5]);
    let more = Run { most_steps: Some(500), ..TWO };
    let all = heal(&model(), &cuts()[0], &texts(20, 9), &constant, &more, &NoProgress).unwrap();
    assert_eq!(all.stats.loss_curve, whole.stats.loss_curve, "at most the recipe's");
    // The rate falls within these steps.
    let falling = HealRecipe { decay: 1.0, ..constant };
    let falls = heal(&model(), &cuts()[0], &texts(20, 9), &falling, &run, &NoProgress).unwrap();
    assert_ne!(falls.stats.loss_curve, first.stats.loss_curve);
}
