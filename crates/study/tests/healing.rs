//! What a study says of healing, of abilities that no task measures, and of speed.

mod common;

use common::{model, recipe, study, timeless};
use lopper_heal::{Duplicates, OverlapCheck, Warmup};
use lopper_infer::{Engine, TextModel};
use lopper_model::chat::Message;
use lopper_model::{Checkpoint, Model};
use lopper_record::study::{CLASSIFICATION, HealingRole, ModelCard, Point};
use lopper_record::{LayerNumbering, NoProgress, StudyRecord};
use lopper_study::{HealSeeds, HealingPrompt, KeepAnswers, Recipe, StudyInputs, StudyModel, run, summary};

fn roles(record: &StudyRecord) -> Vec<(HealingRole, u64, usize)> {
    let healed = record.points.iter().filter_map(|point| Some((point.removed, point.healed.as_ref()?)));
    healed.map(|(removed, info)| (info.role, info.seed, removed)).collect()
}

fn of_role(record: &StudyRecord, role: HealingRole) -> Vec<&Point> {
    record.points.iter().filter(|point| point.healed.as_ref().is_some_and(|info| info.role == role)).collect()
}

#[test]
fn other_seeds_and_a_control_are_shown_and_decide_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("study");
    let plain = study(&recipe(), &out).unwrap();
    assert_eq!(roles(&plain), [(HealingRole::Main, 0, 1), (HealingRole::Main, 0, 3)]);

    let mut several = recipe();
    several.heal.seeds = HealSeeds::List(vec![0, 7]);
    several.heal.control = true;
    let record = study(&several, &out).unwrap();
    let expected = [
        (HealingRole::Main, 0, 1),
        (HealingRole::Main, 0, 3),
        (HealingRole::Seed, 7, 1),
        (HealingRole::Seed, 7, 3),
        (HealingRole::Control, 0, 1),
        (HealingRole::Control, 0, 3),
    ];
    assert_eq!(roles(&record), expected);
    // The main healing was there, and is what it was.
    let healing = record.timings.iter().find(|timing| timing.stage == "healing").unwrap();
    assert_eq!((healing.cells, healing.cached), (12, 4));
    let main: Vec<Point> = timeless(&record).points.into_iter().filter(Point::is_main_healing).collect();
    assert_eq!(main, timeless(&plain).points);
    assert_eq!((&record.budget, &record.ledger, &record.samples), (&plain.budget, &plain.ledger, &plain.samples));

    let info = |role| of_role(&record, role)[0].healed.clone().unwrap();
    let (first, seed, control) = (info(HealingRole::Main), info(HealingRole::Seed), info(HealingRole::Control));
    assert_ne!(first.train_loss_last, seed.train_loss_last, "another seed is another training");
    assert_eq!((first.data.clone(), first.answers), (seed.data, seed.answers), "of the same answers");
    let number = first.examples;
    assert_eq!(first.data, format!("{number} self-generated answers to prompts of the tasks' own training splits"));
    assert!(
        control.data.contains("reference answers to prompts of the tasks' own training splits"),
        "{}",
        control.data
    );
    assert!(first.in_distribution && control.in_distribution);
    let answers = first.answers.unwrap();
    let excluded: usize = answers.reasons().into_iter().map(|(count, _)| count).sum();
    assert_eq!((answers.answers, answers.used + excluded), (200, 200), "each answer is counted once");
    assert_eq!(first.examples + first.held_out, answers.used);
    let reference = control.answers.unwrap();
    assert_eq!((reference.answers, reference.used), (answers.used, answers.used), "to the same prompts");
    assert_eq!(control.steps, first.steps);
    let lines = summary::healing_lines(&record).join("\n");
    // A random model keeps nothing that seeds could be compared by.
    assert!(lines.contains("3 layers removed: training loss") && !lines.contains("other seeds"), "{lines}");

    let again = study(&several, &out).unwrap();
    assert_eq!(timeless(&again), timeless(&record));
    assert!(again.timings.iter().all(|timing| timing.cached == timing.cells), "{:?}", again.timings);
}

#[test]
fn an_adapter_that_was_trained_in_4_bits_is_scored_on_the_given_weights() {
    let dir = tempfile::tempdir().unwrap();
    let with_items = |items: usize| {
        let mut recipe = recipe();
        (recipe.heal.recipe.load_in_4bit, recipe.heal.recipe.lora.dora) = (true, true);
        (recipe.items.report, recipe.heal.depths) = (items, vec![1]);
        recipe
    };
    let fresh = study(&with_items(7), &dir.path().join("fresh")).unwrap();
    let info = of_role(&fresh, HealingRole::Main)[0].healed.clone().unwrap();
    assert!(info.recipe.starts_with("DoRA r = 16") && info.recipe.contains("on a base in 4 bits"), "{}", info.recipe);
    // As soon as it was trained, and read from its cell by a study of other items.
    study(&with_items(5), &dir.path().join("grown")).unwrap();
    let grown = study(&with_items(7), &dir.path().join("grown")).unwrap();
    let healing = grown.timings.iter().find(|timing| timing.stage == "healing").unwrap();
    assert_eq!((healing.cells, healing.cached), (2, 1), "trained before, and measured anew");
    assert_eq!(timeless(&grown).points, timeless(&fresh).points);
    // Trained on other weights, it is another adapter.
    let mut plain = with_items(7);
    plain.heal.recipe.load_in_4bit = false;
    let plain = study(&plain, &dir.path().join("fresh")).unwrap();
    let loss = |record: &StudyRecord| of_role(record, HealingRole::Main)[0].healed.clone().unwrap().train_loss_first;
    assert_ne!(loss(&plain), loss(&fresh));
}

#[test]
fn healing_in_a_few_steps_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut short = recipe();
    short.heal.recipe.warmup = Warmup::Auto;
    let record = study(&short, dir.path()).unwrap();
    let info = of_role(&record, HealingRole::Main)[0].healed.clone().unwrap();
    assert!(info.steps < 30 && info.warmup <= info.steps / 10, "{info:?}");
    let said = format!("{} steps on {} answers are too few", info.steps, info.examples);
    let warnings: Vec<&String> = record.warnings.iter().filter(|warning| warning.contains(&said)).collect();
    assert_eq!(warnings.len(), 1, "once for all depths: {:?}", record.warnings);

    // A warm-up that is asked for stays.
    short.heal.recipe.warmup = Warmup::Steps(50);
    let record = study(&short, dir.path()).unwrap();
    assert!(record.warnings.iter().any(|warning| warning.contains("within the warm-up of 50 steps")));
}

#[test]
fn the_loss_on_held_out_answers_is_measured_where_there_are_enough() {
    let dir = tempfile::tempdir().unwrap();
    let mut many = recipe();
    (many.heal.prompts, many.heal.depths) = (900, vec![1]);
    let record = study(&many, dir.path()).unwrap();
    let info = of_role(&record, HealingRole::Main)[0].healed.clone().unwrap();
    let used = info.answers.unwrap().used;
    assert!(used >= 50, "{used} of 900 answers are usable");
    assert!(info.held_out >= 5 && info.held_out + info.examples == used, "{info:?}");
    assert!(info.held_out_loss_first.unwrap() > 0.0 && info.held_out_loss_last.unwrap() > 0.0);
    let fell = info.held_out_loss_last < info.held_out_loss_first;
    assert_eq!(record.warnings.iter().any(|warning| warning.contains("held-out answers did not fall")), !fell);
}

/// Prompts that are no items, with and without answers.
fn prompts(answer: Option<&str>) -> StudyInputs {
    let prompt = |n: usize| HealingPrompt {
        conversation: vec![Message::user(format!("what is thing {n}"))].into(),
        answer: answer.map(|answer| format!("{answer} {n}")),
    };
    StudyInputs { prompts: Some((0..120).map(prompt).collect()), ..StudyInputs::default() }
}

#[test]
fn prompts_of_other_data_are_not_in_distribution_and_a_control_needs_answers() {
    let dir = tempfile::tempdir().unwrap();
    let mut own = recipe();
    (own.heal.data, own.heal.depths, own.heal.control) = ("tatsu-lab/alpaca".into(), vec![1], true);
    let healed = |recipe: &Recipe, inputs: &StudyInputs| run(&model(), recipe, inputs, dir.path(), "", &NoProgress);
    let record = healed(&own, &prompts(Some("It is"))).unwrap();
    for (role, whose) in [(HealingRole::Main, "self-generated"), (HealingRole::Control, "reference")] {
        let info = of_role(&record, role)[0].healed.clone().unwrap();
        let expected = format!("{} {whose} answers to general instructions (tatsu-lab/alpaca)", info.examples);
        assert_eq!((info.data, info.in_distribution), (expected, false));
    }
    let fault = healed(&own, &prompts(None)).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("no reference answers"), "{fault}");
}

/// The model that comes with Lopper.
fn pocket() -> StudyModel {
    let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES).unwrap();
    let engine = Engine::new(Model::from_checkpoint(&checkpoint).unwrap(), 2).unwrap();
    let text = TextModel::new(engine, &checkpoint).unwrap();
    let num_layers = text.engine.model().num_layers();
    let card = ModelCard {
        hash: checkpoint.hash().into(),
        num_layers,
        parameters_per_layer: vec![1; num_layers],
        ..ModelCard::default()
    };
    StudyModel { card, text, numbering: LayerNumbering::uncut(num_layers) }
}

#[test]
fn wrong_answers_are_not_learned_where_tasks_can_tell() {
    let dir = tempfile::tempdir().unwrap();
    // A random model is never right; the pocket model is at this temperature about every other time.
    let pocket = pocket();
    let study = |recipe: &Recipe, out: &str| {
        run(&pocket, recipe, &StudyInputs::default(), &dir.path().join(out), "", &NoProgress).unwrap()
    };
    let mut verified = recipe();
    verified.tasks.generative = vec!["pocket_word".into(), "pocket_brackets".into()];
    verified.tasks.classification = vec!["pocket_sentiment".into()];
    (verified.cuts.strategies, verified.cuts.depths) = (vec!["reverse".into()], vec![1]);
    (verified.cuts.main, verified.speed.measure) = ("reverse".into(), false);
    (verified.heal.depths, verified.heal.prompts, verified.heal.temperature) = (vec![1], 60, 1.7);
    let plain = study(&verified, "all");
    let info = |record: &StudyRecord| of_role(record, HealingRole::Main)[0].healed.clone().unwrap();
    assert!(info(&plain).checked.is_empty() && info(&plain).answers.unwrap().rejected == 0);

    (verified.heal.samples, verified.heal.keep) = (3, KeepAnswers::Verified);
    let record = study(&verified, "verified");
    let (healed, before) = (info(&record), info(&plain));
    let (answers, without) = (healed.answers.unwrap(), before.answers.unwrap());
    assert_eq!((answers.answers, without.answers), (180, 60));
    let of = |task: &str| healed.checked.iter().find(|checked| checked.task == task).unwrap();
    let graded: usize = healed.checked.iter().map(|checked| checked.answers).sum();
    let right: usize = healed.checked.iter().map(|checked| checked.right).sum();
    assert!(of("pocket_word").right > 0 && healed.checked.len() == 3, "{:?}", healed.checked);
    assert_eq!(answers.rejected, graded - right);
    assert!(answers.rejected > 0 && right > 0, "{answers:?}");
    let excluded: usize = answers.reasons().iter().map(|(count, _)| count).sum();
    assert_eq!(answers.used + excluded, answers.answers, "each is counted once: {answers:?}");
    assert!(healed.data.contains("verified self-generated answers to"), "{}", healed.data);
    let again = study(&verified, "verified");
    assert_eq!(timeless(&again), timeless(&record));
    assert!(again.timings.iter().all(|timing| timing.cached == timing.cells), "{:?}", again.timings);

    // A filter is part of what was trained.
    verified.heal.filters.duplicates = Duplicates::Keep;
    let kept = info(&study(&verified, "verified"));
    let (kept, filtered) = (kept.answers.unwrap(), answers);
    assert_eq!((kept.duplicate, kept.used), (0, filtered.used + filtered.duplicate));
    assert!(filtered.duplicate > 0, "several answers to a prompt are often the same: {filtered:?}");
}

#[test]
fn prompts_that_hold_an_item_are_left_out_and_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut own = recipe();
    (own.heal.data, own.heal.depths) = ("own.jsonl".into(), vec![1]);
    let item = lopper_pocket::examples("pocket_word", lopper_pocket::Split::Report, own.seed).next().unwrap();
    let mut inputs = prompts(None);
    let list = inputs.prompts.as_mut().unwrap();
    for text in [item.prompt.text().to_uppercase(), format!("Solve this:\n{}", item.prompt.text())] {
        list.push(HealingPrompt { conversation: vec![Message::user(text)].into(), answer: None });
    }
    let healed = |recipe: &Recipe, inputs: &StudyInputs| run(&model(), recipe, inputs, dir.path(), "", &NoProgress);
    let record = healed(&own, &inputs).unwrap();
    let info = of_role(&record, HealingRole::Main)[0].healed.clone().unwrap();
    assert_eq!(info.overlap, [("pocket_word".to_owned(), 2)].into());
    assert!(
        record.warnings.iter().any(|warning| warning.contains("2 with items of pocket_word")),
        "{:?}",
        record.warnings
    );
    assert_eq!(info.answers.unwrap().answers, 120, "the others are answered");

    // Where nothing is left out, an item is refused, as is a file of items alone.
    own.heal.filters.overlap = OverlapCheck::None;
    inputs.prompts.as_mut().unwrap()[120].conversation = vec![Message::user(item.prompt.text())].into();
    let fault = healed(&own, &inputs).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("are items") && fault.hint.unwrap().contains("heal.filters.overlap"));
    own.heal.filters.overlap = OverlapCheck::Exact;
    inputs.prompts = Some(inputs.prompts.unwrap().split_off(120));
    let fault = healed(&own, &inputs).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("every prompt to heal by"), "{fault}");

    // And answers that no task can grade are not said to be verified.
    let mut unchecked = recipe();
    (unchecked.heal.data, unchecked.heal.keep) = ("own.jsonl".into(), KeepAnswers::Verified);
    let fault = healed(&unchecked, &prompts(None)).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("no answer can be graded"), "{fault}");
}

#[test]
fn what_no_task_measures_is_in_every_diagnosis_from_the_sentinels() {
    let dir = tempfile::tempdir().unwrap();
    let mut choices = recipe();
    choices.tasks.generative.clear();
    choices.heal.depths = vec![1];
    let record = study(&choices, dir.path()).unwrap();
    let base = record.base.as_ref().unwrap();
    let uncut = [base.diagnosis.as_ref(), record.ablation_base.as_ref()];
    let removals = record.ablation.iter().map(|ablated| ablated.diagnosis.as_ref());
    let cuts = record.points.iter().map(|point| point.diagnosis.as_ref());
    assert!(record.points.iter().any(|point| point.healed.is_some()));
    for (at, diagnosis) in uncut.into_iter().chain(removals).chain(cuts).enumerate() {
        let diagnosis = diagnosis.unwrap();
        let arithmetic = diagnosis.arithmetic.as_ref().unwrap();
        assert_eq!(arithmetic.accuracy.unwrap().n, 24);
        assert_eq!(arithmetic.logprob_change.is_some(), at >= 2, "against the uncut model");
        let brackets = diagnosis.brackets.as_ref().unwrap();
        assert_eq!((brackets.balanced.unwrap().n, brackets.source.as_str()), (12, "sentinels: 12 bracket items"));
        let text = diagnosis.degeneration.as_ref().unwrap();
        assert_eq!((text.responses, text.source.as_str()), (4, "sentinels: 4 open prompts"));
        assert!(diagnosis.perplexity.is_some());
    }
    // Tasks that measure it keep it: their items are more.
    let mut both = recipe();
    both.tasks.generative.push("pocket_arith".into());
    let record = study(&both, &dir.path().join("both")).unwrap();
    let diagnosis = record.points[0].diagnosis.clone().unwrap();
    assert_eq!(diagnosis.arithmetic.unwrap().source, "pocket_arith");
    assert_eq!(diagnosis.brackets.unwrap().source, "");
}

#[test]
fn speed_is_measured_of_the_main_strategy_and_is_not_measured_twice() {
    let dir = tempfile::tempdir().unwrap();
    let record = study(&recipe(), dir.path()).unwrap();
    let layer = record.model.parameters_per_layer[0];
    let base = record.base.as_ref().unwrap().speed.clone().unwrap();
    assert_eq!((base.parameters, base.weight_bytes), (record.model.parameters, 4 * record.model.parameters));
    assert!(!base.processor.is_empty() && base.threads == 2);
    for point in &record.points {
        let Some(speed) = &point.speed else {
            assert_ne!(point.strategy, record.main_strategy);
            continue;
        };
        assert_eq!(point.strategy, record.main_strategy);
        let removed = point.removed as u64;
        assert_eq!(speed.parameters, base.parameters - removed * layer);
        assert_eq!(speed.kv_bytes_per_token, base.kv_bytes_per_token / 4 * (4 - removed));
        assert_eq!(speed.rates.iter().map(|at| at.batch).collect::<Vec<_>>(), [1, 8]);
        assert!(speed.tokens_per_answer.unwrap() >= 0.0);
        let cut = record.points.iter().find(|cut| cut.strategy == point.strategy && cut.removed == point.removed);
        assert_eq!(cut.unwrap().speed.as_ref().unwrap().rates, speed.rates, "healed or not");
    }
    assert_eq!(record.points.iter().filter(|point| point.speed.is_some()).count(), 4);
    let again = study(&recipe(), dir.path()).unwrap();
    assert_eq!(again.base, record.base, "the rates are those of the first time");
    assert_eq!(summary::speed_rows(&again, |bytes| bytes.to_string()).len(), 5);

    let mut without = recipe();
    without.speed.measure = false;
    let record = study(&without, &dir.path().join("without")).unwrap();
    let speed = record.base.as_ref().unwrap().speed.clone().unwrap();
    assert!(speed.rates.is_empty() && speed.processor.is_empty() && speed.tokens_per_answer.is_some());
    assert!(record.better_buys.is_empty() && record.timings.iter().all(|timing| timing.stage != "speed"));
    assert!(record.tasks.iter().any(|task| task.group == CLASSIFICATION));
}
