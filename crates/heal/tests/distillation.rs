//! Healing by the uncut model's distributions: the cut comes nearer to it, by full training and by an adapter, and an
//! interrupted run ends like one that was not.

use std::path::Path;
use std::time::Duration;

use lopper_heal::{Distillation, Document, HealRecipe, Healed, LoraConfig, Method, OnPolicy, Run, StateFile, heal};
use lopper_infer::{Engine, GenerateOptions, Request};
use lopper_model::{BatchLoss, Divergence, Model, Teacher, TrainBatch, TrainOptions, TrainWorkspace};
use lopper_record::{LayerPosition, LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, tiny_model, token_sequences};

const TWO: Run<'static> = Run::with_workers(2);

fn model() -> Model {
    tiny_model(Tiny { qk_norm: true, ..Tiny::default() }, 5)
}

fn kept() -> LayerSet<LayerPosition> {
    [0, 1, 3].into()
}

fn documents() -> Vec<Document> {
    let lengths: Vec<usize> = (0..24).map(|i| 8 + i % 5).collect();
    let half = |tokens: Vec<u32>| {
        let weights = (0..tokens.len()).map(|i| if i * 2 < tokens.len() { 0.0 } else { 1.0 }).collect();
        Document { tokens, weights }
    };
    token_sequences(&lengths, 37, 9).into_iter().map(half).collect()
}

fn recipe(method: Method, distillation: Distillation) -> HealRecipe {
    HealRecipe {
        lora: LoraConfig { r: 8, alpha: 16.0, dropout: 0.0, ..LoraConfig::default() },
        learning_rate: 1e-2,
        warmup: 2.into(),
        batch: 8,
        epochs: 20,
        max_length: 64,
        seed: 4,
        // The same on every processor.
        mixed: false,
        distillation: Some(distillation),
        ..HealRecipe::for_pocket(method)
    }
}

fn run(recipe: &HealRecipe, how: &Run<'_>) -> Healed {
    heal(&model(), &kept(), &documents(), recipe, how, &NoProgress).unwrap()
}

/// Mean loss of a model of the kept layers by a divergence from the uncut one.
fn loss(student: &Model, divergence: Divergence) -> BatchLoss {
    let documents = documents();
    let data = TrainBatch::new(documents.iter().map(|d| (d.tokens.as_slice(), d.weights.as_slice())));
    let (teacher, all) = (model(), LayerSet::all(4));
    let mut student = student.clone();
    let mut gradients = student.set_trainable(|_| false);
    let teacher = Teacher { model: &teacher, kept: &all, divergence, hidden_states: 0.0 };
    let options = TrainOptions { scale: (1.0 / data.total_weight()) as f32, ..TrainOptions::default() };
    let layers = LayerSet::all(student.num_layers());
    let mut workspace = TrainWorkspace::default();
    student.taught(&data, &layers, Some(teacher), options, &mut workspace, &mut gradients).unwrap()
}

const FORWARD: Divergence = Divergence { temperature: 1.0, reverse: 0.0, targets: 0.0 };

#[test]
fn a_cut_comes_nearer_to_the_uncut_model() {
    let before = loss(&model().keep(&kept()), FORWARD).total;
    for method in [Method::Lora, Method::Full] {
        for reverse in [0.0, 0.5, 1.0] {
            let healed = run(&recipe(method, Distillation { reverse, ..Distillation::default() }), &TWO);
            let after = loss(&healed.model, FORWARD).total;
            assert!(after < 0.6 * before, "{method:?}, {reverse}: {before} → {after}");
            let curve = &healed.stats.objective_curve;
            assert_eq!(curve.len(), healed.stats.steps);
            assert!(curve[curve.len() - 1] < 0.6 * curve[0], "{curve:?}");
            assert_ne!(curve, &healed.stats.loss_curve);
        }
    }
}

#[test]
fn the_first_objective_is_the_divergence_of_the_cut() {
    let distillation = Distillation { temperature: 2.0, reverse: 0.3, answers: 0.2, ..Distillation::default() };
    // One step over everything.
    let recipe = HealRecipe { batch: 24, epochs: 1, ..recipe(Method::Lora, distillation) };
    let healed = run(&recipe, &TWO);
    let divergence = Divergence { temperature: 2.0, reverse: 0.3, targets: 0.2 };
    let expected = loss(&model().keep(&kept()), divergence);
    assert!((healed.stats.objective_curve[0] - expected.total).abs() < 1e-5);
    assert!((healed.stats.loss_first - expected.targets).abs() < 1e-5);
}

#[test]
fn prompts_are_learned_where_that_is_wanted() {
    let of_answers = recipe(Method::Lora, Distillation::default());
    let of_all = HealRecipe { train_on_inputs: true, ..of_answers.clone() };
    let whole: Vec<Document> =
        documents().into_iter().map(|d| Document { weights: vec![1.0; d.tokens.len()], ..d }).collect();
    let healed = run(&of_all, &TWO);
    let other = heal(&model(), &kept(), &whole, &of_answers, &TWO, &NoProgress).unwrap();
    assert_eq!(healed.stats.objective_curve, other.stats.objective_curve);
    assert_eq!(healed.stats.response_tokens, healed.stats.tokens);
    assert_ne!(healed.stats.objective_curve, run(&of_answers, &TWO).stats.objective_curve);
}

#[test]
fn other_tokens_than_the_written_ones_are_no_divergence() {
    // Texts that the cut itself finds most probable: whoever learns the uncut model's distributions gives them less.
    let engine = Engine::new(model().keep(&kept()), 2).unwrap();
    let requests: Vec<Request> = documents().iter().map(|d| Request::greedy(&d.tokens[..4], 6)).collect();
    let answers = engine.generate(&engine.all_layers(), &requests, &GenerateOptions::default(), &NoProgress).unwrap();
    let documents: Vec<Document> = documents()
        .iter()
        .zip(answers)
        .map(|(d, answer)| {
            let tokens = [&d.tokens[..4], &answer.tokens[..]].concat();
            Document { weights: (0..tokens.len()).map(|i| if i < 4 { 0.0 } else { 1.0 }).collect(), tokens }
        })
        .collect();
    let recipe = recipe(Method::Full, Distillation::default());
    let healed =
        heal(&model(), &kept(), &documents, &recipe, &Run { divergence_steps: 5, ..TWO }, &NoProgress).unwrap();
    assert_eq!((healed.stats.steps, healed.stats.stopped), (60, None));
    let (loss, objective) = (&healed.stats.loss_curve, &healed.stats.objective_curve);
    assert!(loss[20..].iter().all(|later| *later > loss[0]), "{loss:?}");
    assert!(objective[59] < objective[0], "{objective:?}");
}

/// Answers of the cut's own, for three steps at once.
const OWN: OnPolicy = OnPolicy { part: 1.0, every: 3, max_new_tokens: 6, temperature: 1.0 };

#[test]
fn a_cut_learns_on_answers_of_its_own() {
    let before = loss(&model().keep(&kept()), FORWARD).total;
    let own =
        |part| Distillation { reverse: 1.0, on_policy: Some(OnPolicy { part, ..OWN }), ..Distillation::default() };
    let with_end = Run { stop_tokens: &[3, 4], ..TWO };
    for method in [Method::Lora, Method::Full] {
        let healed = run(&recipe(method, own(1.0)), &with_end);
        let after = loss(&healed.model, FORWARD).total;
        assert!(after < before, "{method:?}: {before} → {after}");
        let curve = &healed.stats.objective_curve;
        let [first, last] = [&curve[..20], &curve[40..]].map(|steps| steps.iter().sum::<f64>());
        assert!(last < 0.85 * first, "{method:?}: {curve:?}");
        let stats = healed.stats;
        // 24 answers in each of 20 epochs, of six tokens unless they ended.
        assert!((1000..=24 * 20 * 6).contains(&stats.generated_tokens), "{}", stats.generated_tokens);
        assert_eq!(stats.response_tokens, stats.generated_tokens);
    }
    let half = run(&recipe(Method::Lora, own(0.5)), &with_end).stats;
    let whole = run(&recipe(Method::Lora, own(1.0)), &with_end).stats;
    let part = half.generated_tokens as f64 / whole.generated_tokens as f64;
    assert!((0.4..0.6).contains(&part), "{part}");
    assert!(half.response_tokens > half.generated_tokens);
}

#[test]
fn an_interrupted_run_ends_like_one_that_was_not() {
    for on_policy in [None, Some(OWN)] {
        interrupted(Distillation { reverse: 0.5, hidden_states: 0.1, on_policy, ..Distillation::default() });
    }
}

fn interrupted(distillation: Distillation) {
    let recipe = recipe(Method::Lora, distillation);
    let whole = run(&recipe, &TWO);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let how =
        |path: &'static Path| Run { state: Some(StateFile { path, model: "hash", save_every: Duration::MAX }), ..TWO };
    // Tests end with the program.
    let path: &'static Path = Box::leak(path.into_boxed_path());
    let progress = RecordedProgress::interrupting_when(|step| step.name == "healing" && step.reports == 7);
    let error = heal(&model(), &kept(), &documents(), &recipe, &how(path), &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error:#}");
    let resumed = run(&recipe, &how(path));
    assert_eq!(resumed.stats.objective_curve, whole.stats.objective_curve);
    assert_eq!(resumed.stats.loss_curve, whole.stats.loss_curve);
    assert_eq!(resumed.stats.generated_tokens, whole.stats.generated_tokens);
    let weights = |healed: &Healed| -> Vec<Vec<f32>> {
        healed.model.parameters().into_iter().map(|(_, param)| param.data.to_vec()).collect()
    };
    assert_eq!(weights(&resumed), weights(&whole));
}
