//! Evaluations during a training: the best weights are kept, patience and divergence end it, logs have every step once,
//! and an interrupted run ends like one that was not.

use lopper_heal::{
    Document, Evaluation, HealRecipe, Healed, JsonLog, Keep, LogEntry, LoraConfig, Method, Run, StateFile, Stopped,
    TrainingLog, heal,
};
use lopper_model::Model;
use lopper_record::{LayerPosition, LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, tiny_model, token_sequences};
use std::path::Path;
use std::time::Duration;

const TWO: Run<'static> = Run::with_workers(2);
/// Steps of an epoch of [`documents`] by [`recipe`].
const EPOCH: usize = 4;

fn model() -> Model {
    tiny_model(Tiny { qk_norm: true, ..Tiny::default() }, 5)
}

fn kept() -> LayerSet<LayerPosition> {
    [0, 1, 3].into()
}

fn texts(count: usize, seed: u64) -> Vec<Document> {
    let lengths: Vec<usize> = (0..count).map(|i| 8 + i % 5).collect();
    let half = |tokens: Vec<u32>| {
        let weights = (0..tokens.len()).map(|i| if i * 2 < tokens.len() { 0.0 } else { 1.0 }).collect();
        Document { tokens, weights }
    };
    token_sequences(&lengths, 37, seed).into_iter().map(half).collect()
}

fn documents() -> Vec<Document> {
    texts(20, 9)
}

/// Texts of random tokens, of which those to train on say nothing: their loss rises before long. The first two are
/// trained on as well, so that it falls first.
fn held_out() -> Vec<Document> {
    let mut held_out = texts(5, 77);
    held_out.extend(documents().into_iter().take(2));
    held_out
}

/// Without a falling rate, so that a shorter run has the same steps.
fn recipe(method: Method) -> HealRecipe {
    HealRecipe {
        lora: LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() },
        learning_rate: 1e-2,
        warmup: 2.into(),
        decay: 0.0,
        batch: 6,
        epochs: 12,
        max_length: 64,
        seed: 4,
        // The same on every processor.
        mixed: false,
        ..HealRecipe::for_pocket(method)
    }
}

fn run(recipe: &HealRecipe, how: &Run<'_>) -> Healed {
    heal(&model(), &kept(), &documents(), recipe, how, &NoProgress).unwrap()
}

fn weights(model: &Model) -> Vec<(String, Vec<f32>)> {
    model.parameters().into_iter().map(|(name, p)| (name, p.data.to_vec())).collect()
}

fn best(patience: usize) -> Evaluation {
    Evaluation { every: EPOCH, keep: Keep::Best, patience }
}

#[test]
fn the_best_weights_are_those_of_a_run_that_ended_there() {
    /// Long enough for the held-out loss to rise again.
    const STEPS: usize = 84;
    let held_out = held_out();
    for method in [Method::Lora, Method::Full] {
        let recipe = HealRecipe { epochs: STEPS / EPOCH, ..recipe(method) };
        let plain = run(&recipe, &TWO);
        let last = Run { held_out: &held_out, evaluation: Evaluation { every: 3, ..Evaluation::default() }, ..TWO };
        let watched = run(&recipe, &last);
        assert_eq!(weights(&watched.model), weights(&plain.model), "evaluations change nothing");
        assert_eq!(watched.stats.loss_curve, plain.stats.loss_curve);
        let steps: Vec<usize> = watched.stats.evaluations.iter().map(|evaluated| evaluated.step).collect();
        assert_eq!(steps, (0..=STEPS).step_by(3).collect::<Vec<_>>());
        assert_eq!(plain.stats.evaluations, []);

        let kept = run(&recipe, &Run { held_out: &held_out, evaluation: best(0), ..TWO });
        let (stats, evaluations) = (&kept.stats, &kept.stats.evaluations);
        let step = stats.kept_step.unwrap();
        let lowest = evaluations.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        assert_eq!((step, stats.held_out.unwrap().last), (lowest.step, lowest.loss));
        assert!((EPOCH..STEPS).contains(&step), "the loss falls, then rises: {evaluations:?}");
        assert_eq!((stats.steps, stats.stopped.as_ref(), stats.planned_steps), (STEPS, None, None));
        let shorter = run(&HealRecipe { epochs: step / EPOCH, ..recipe.clone() }, &TWO);
        assert_eq!(weights(&kept.model), weights(&shorter.model));

        let stopped = run(&recipe, &Run { held_out: &held_out, evaluation: best(2), ..TWO });
        assert_eq!(stopped.stats.steps, step + 2 * EPOCH, "two evaluations that were no better");
        assert_eq!((stopped.stats.stopped, stopped.stats.planned_steps), (Some(Stopped::Patience), Some(STEPS)));
        assert_eq!(stopped.stats.loss_curve, stats.loss_curve[..step + 2 * EPOCH]);
        assert_eq!(weights(&stopped.model), weights(&kept.model));
        assert_eq!(kept.stats.info(&recipe).recipe, stopped.recipe.summary(STEPS));
    }
}

#[test]
fn weights_that_nothing_improves_stay_as_they_were() {
    // Only a loss on other texts: random ones, which there is nothing to learn about.
    let recipe = HealRecipe { learning_rate: 3e-2, ..recipe(Method::Full) };
    let held_out = texts(6, 1234);
    let healed = run(&recipe, &Run { held_out: &held_out, evaluation: best(3), ..TWO });
    assert_eq!((healed.stats.kept_step, healed.stats.steps), (Some(0), 3 * EPOCH), "{:?}", healed.stats.evaluations);
    assert_eq!(weights(&healed.model), weights(&model().keep(&kept())));
    assert!(healed.stats.info(&recipe).doubts().iter().any(|doubt| doubt.contains("did not fall")));
}

fn entries(path: &Path) -> Vec<LogEntry> {
    let text = std::fs::read_to_string(path).unwrap();
    // Seconds differ from run to run.
    let entry = |line| LogEntry { seconds: 0.0, ..serde_json::from_str(line).unwrap() };
    text.lines().map(entry).collect()
}

#[test]
fn an_interrupted_run_has_the_same_evaluations_best_weights_and_log() {
    let held_out = held_out();
    for method in [Method::Lora, Method::Full] {
        let dir = tempfile::tempdir().unwrap();
        let recipe = recipe(method);
        let (whole_log, log) = (dir.path().join("whole.jsonl"), dir.path().join("log.jsonl"));
        let how = Run { held_out: &held_out, evaluation: best(2), ..TWO };
        let whole = run(&recipe, &Run { logs: &[&JsonLog::new(&whole_log) as &dyn TrainingLog], ..how });
        let (steps, step) = (whole.stats.steps, whole.stats.kept_step.unwrap());

        let path = dir.path().join("out.partial");
        let resumed = |progress: &RecordedProgress, save_every| {
            let log = JsonLog::new(&log);
            let state = Some(StateFile { path: &path, model: "m", save_every });
            let how = Run { state, logs: &[&log as &dyn TrainingLog], ..how };
            heal(&model(), &kept(), &documents(), &recipe, &how, progress)
        };
        // At every third step, before and after the best one; and in the middle of every second evaluation.
        let mut interruptions = 0;
        let healed = loop {
            let by_step = interruptions % 2 == 0;
            let progress = RecordedProgress::interrupting_when(move |step| match by_step {
                true => step.name == "healing" && step.reports == 3,
                false => step.name != "healing",
            });
            match resumed(&progress, Duration::MAX) {
                Ok(healed) => break healed,
                Err(error) => assert!(error.is_interrupted(), "{error:#}"),
            }
            interruptions += 1;
            assert!(interruptions < 100, "it goes on");
        };
        assert!(interruptions > 4);
        assert_eq!(weights(&healed.model), weights(&whole.model));
        assert_eq!(healed.stats.evaluations, whole.stats.evaluations);
        assert_eq!((healed.stats.steps, healed.stats.kept_step), (steps, Some(step)));
        assert_eq!(healed.stats.loss_curve, whole.stats.loss_curve);
        assert_eq!(entries(&log), entries(&whole_log));
        let logged: Vec<usize> = entries(&log).iter().map(|entry| entry.step).collect();
        assert_eq!(logged, (0..=steps).collect::<Vec<_>>(), "every step once");
        let measured: Vec<usize> = entries(&log).iter().filter(|e| e.held_out_loss.is_some()).map(|e| e.step).collect();
        assert_eq!(measured, (0..=steps).step_by(EPOCH).collect::<Vec<_>>());

        // Finished, it is found as it was, and the log as well.
        let again = resumed(&RecordedProgress::default(), Duration::MAX).unwrap();
        assert_eq!((weights(&again.model), again.stats.evaluations), (weights(&whole.model), whole.stats.evaluations));
        assert_eq!(entries(&log), entries(&whole_log));

        // It is not continued with other evaluations.
        let state = Some(StateFile { path: &path, model: "m", save_every: Duration::MAX });
        for other in [Evaluation { every: 2, ..best(2) }, best(3), Evaluation { keep: Keep::Last, ..best(2) }] {
            let how = Run { state, evaluation: other, ..how };
            let error = heal(&model(), &kept(), &documents(), &recipe, &how, &NoProgress).unwrap_err();
            assert!(error.into_fault().unwrap().got.unwrap().contains("evaluation"));
        }
    }
}

/// Learns for a while, until its rate has risen too far.
fn diverging() -> HealRecipe {
    HealRecipe { learning_rate: 2.0, warmup: 40.into(), clip: 1e9, epochs: 30, mixed: false, ..recipe(Method::Full) }
}

#[test]
fn a_loss_that_stays_above_its_start_ends_the_training_and_the_best_weights_are_kept() {
    let recipe = diverging();
    let rows: Vec<usize> = (100..120).collect();
    let watched = Run { divergence_steps: 8, rows: &rows, ..TWO };
    let plain = run(&recipe, &TWO);
    let losses = &plain.stats.loss_curve;
    assert!(losses.iter().all(|loss| loss.is_finite()) && losses[119] > losses[0], "it diverges, finitely");

    // Without evaluations there is nothing to go back to; the message says where it began, and with which examples.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.partial");
    let state = Some(StateFile { path: &path, model: "m", save_every: Duration::ZERO });
    let error = heal(&model(), &kept(), &documents(), &recipe, &Run { state, ..watched }, &NoProgress).unwrap_err();
    let fault = error.into_fault().unwrap();
    let got = fault.got.unwrap();
    assert!(
        fault.message.starts_with("training diverged: from step") && got.contains("rows 1"),
        "{} {got}",
        fault.message
    );
    assert!(!path.exists(), "a run that leads nowhere is not continued");

    let held_out = documents();
    let evaluation = Evaluation { every: 1, keep: Keep::Best, patience: 0 };
    let healed = run(&recipe, &Run { held_out: &held_out, evaluation, ..watched });
    let Some(Stopped::Diverged(divergence)) = &healed.stats.stopped else { panic!("{:?}", healed.stats.stopped) };
    assert!(fault.message.contains(&format!("from step {} to step {}", divergence.step, divergence.noticed)));
    assert_eq!((divergence.start, healed.stats.steps), (losses[0], divergence.noticed));
    assert!(losses[divergence.step - 2] <= losses[0], "the step before was not above the start");
    assert!(losses[divergence.step - 1..divergence.noticed].iter().all(|loss| *loss > losses[0]));
    assert!(divergence.documents.len() <= 6 && divergence.documents.iter().all(|row| rows.contains(row)));
    // The batch of the step before, in a run that is the same up to there.
    let step = healed.stats.kept_step.unwrap();
    assert!(step > 0 && step < divergence.step, "{step}");
    let evaluated = healed.stats.evaluations.iter().find(|evaluated| evaluated.step == step).unwrap();
    assert_eq!(healed.stats.held_out.unwrap().last, evaluated.loss);
    assert!(evaluated.loss < healed.stats.evaluations[0].loss);
}

#[test]
fn evaluations_need_held_out_documents_and_steps() {
    let held_out = held_out();
    let fault = |how: &Run<'_>| {
        let error = heal(&model(), &kept(), &documents(), &recipe(Method::Lora), how, &NoProgress).unwrap_err();
        error.into_fault().unwrap().message
    };
    assert!(fault(&Run { evaluation: best(0), ..TWO }).contains("no held-out examples"));
    let never = Evaluation { every: 0, ..best(0) };
    assert!(fault(&Run { held_out: &held_out, evaluation: never, ..TWO }).contains("no evaluations during"));
}
