//! Every task end to end on a tiny random model that speaks the pocket tokenizer.

use std::path::Path;
use std::sync::Mutex;

use lopper_infer::{ChatTokenizer, Engine, Sampling, TextModel};
use lopper_measure::{Execution, evaluate};
use lopper_model::chat::ChatTemplate;
use lopper_model::generation::{SpecialIds, SpecialStrings};
use lopper_model::tokenizer::Tokenizer;
use lopper_model::{Config, Model};
use lopper_pocket::model_files::CHAT_TEMPLATE;
use lopper_pocket::tokenizer::{BOS, END, PAD, tokenizer_json, vocabulary_size};
use lopper_record::{LayerSet, LayerSlot, NoProgress, Progress, Step};
use lopper_tasks::{GenerationPolicy, ItemResult, ItemSelection, Resources, Split, Suite, TaskOutcome};
use lopper_testkit::{Tiny, tiny_config};

const ALL: [usize; 4] = [0, 1, 2, 3];
const KEPT: [usize; 2] = [0, 2];

fn greedy() -> GenerationPolicy {
    GenerationPolicy::default()
}

fn model() -> Model {
    let config = tiny_config(Tiny { vocab: vocabulary_size(), qk_norm: true, ..Tiny::default() });
    Model::random(Config { max_position_embeddings: 256, ..config }, 0.4, 5).unwrap()
}

fn text(model: Model, threads: usize) -> TextModel {
    let path = Path::new("tokenizer.json");
    let tokenizer = Tokenizer::from_bytes(tokenizer_json().as_bytes(), path, vocabulary_size()).unwrap();
    TextModel {
        engine: Engine::new(model, threads).unwrap(),
        text: ChatTokenizer {
            tokenizer: tokenizer.into(),
            chat: Some(ChatTemplate::new(CHAT_TEMPLATE, SpecialStrings::default(), path).unwrap().into()),
            special: SpecialIds { eos: vec![END], bos: Some(BOS), pad: Some(PAD) },
        },
    }
}

fn suite(text: &TextModel, tasks: &[&str], limit: usize, policy: &GenerationPolicy) -> lopper_record::Result<Suite> {
    Suite::prepare(text, tasks, &ItemSelection::new(Split::Report, limit, 3), policy, &Resources::default())
}

fn outcomes(suite: &Suite, text: &TextModel, kept: &[usize]) -> lopper_record::Result<Vec<TaskOutcome>> {
    let kept: LayerSet<LayerSlot> = kept.iter().copied().collect();
    Ok(evaluate(text, suite, &[kept], &Execution::default(), &NoProgress)?.into_first())
}

fn run_with(
    text: &TextModel,
    kept: &[usize],
    tasks: &[&str],
    limit: usize,
    policy: &GenerationPolicy,
) -> Vec<TaskOutcome> {
    outcomes(&suite(text, tasks, limit, policy).unwrap(), text, kept).unwrap()
}

fn run(text: &TextModel, kept: &[usize], tasks: &[&str], limit: usize) -> Vec<TaskOutcome> {
    run_with(text, kept, tasks, limit, &greedy())
}

/// Everything but the log-likelihoods, which may differ in their last bits between batches.
fn assert_same(a: &[TaskOutcome], b: &[TaskOutcome]) {
    let bare = |item: &ItemResult| ItemResult { logprobs: None, ..item.clone() };
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.task, a.n), (&b.task, b.n));
        for (x, y) in a.items.iter().zip(&b.items) {
            assert_eq!(bare(x), bare(y));
            let (x, y) = (x.logprobs.iter().flatten(), y.logprobs.iter().flatten());
            assert!(x.zip(y).all(|(x, y)| (x - y).abs() < 1e-3));
        }
    }
}

#[test]
fn all_tasks_run_and_their_items_add_up_to_their_scores() {
    let (text, calls) = (text(model(), 2), Calls::default());
    let suite = suite(&text, &["pocket"], 6, &greedy()).unwrap();
    let uncut = LayerSet::from(ALL);
    let outcomes = evaluate(&text, &suite, &[uncut], &Execution::default(), &calls).unwrap().into_first();
    assert_eq!(outcomes.len(), 9);
    for outcome in &outcomes {
        assert_eq!((outcome.n, outcome.items.len(), outcome.shots()), (6, 6, 0), "{}", outcome.task);
        for (name, score) in &outcome.metrics {
            let values = outcome.scores_of(name).unwrap();
            assert_eq!(*score, lopper_stats::score(&values, 3));
            assert!((score.value - values.iter().sum::<f64>() / 6.0).abs() < 1e-12);
            // Wilson's bounds touch 0 and 1 up to rounding.
            assert!(score.ci95[0] - 1e-12 <= score.value && score.value <= score.ci95[1] + 1e-12);
        }
        assert_eq!(outcome.primary_score().value, lopper_stats::mean(&outcome.scores()));
        for (at, item) in outcome.items.iter().enumerate() {
            assert_eq!((item.doc_id, item.score), (at, item.metrics[&outcome.primary]));
            // Chosen by log-likelihood, generated, or both in the arithmetic probe.
            let digits = outcome.task == "pocket_arith";
            assert_eq!(item.response.is_some() && !digits, item.logprobs.is_none());
            assert_eq!(item.response.is_some(), item.finish.is_some());
            assert_eq!(outcome.correct(item).is_none(), outcome.task == "pocket_summary");
            assert!(!item.prompt.is_empty() && !item.target.is_empty());
            if let Some(choices) = &item.choices {
                assert!(choices.contains(&item.target) && choices.contains(item.extracted.as_ref().unwrap()));
            }
            if digits {
                assert_eq!(item.logprobs.as_ref().unwrap().len(), 10);
            }
        }
    }
    assert_eq!(*calls.totals.lock().unwrap(), [9 * 6 + 6]);
    assert_eq!(calls.done.lock().unwrap().iter().max(), Some(&(9 * 6 + 6)));
}

/// Notes the totals of steps, and how far they came.
#[derive(Default)]
struct Calls {
    totals: Mutex<Vec<usize>>,
    done: Mutex<Vec<usize>>,
}

impl Progress for Calls {
    fn step(&self, step: Step<'_>) -> Box<dyn Progress + '_> {
        self.totals.lock().unwrap().push(step.total);
        Box::new(Inner(self))
    }
}

struct Inner<'a>(&'a Calls);

impl Progress for Inner<'_> {
    fn step(&self, _: Step<'_>) -> Box<dyn Progress + '_> {
        Box::new(NoProgress)
    }

    fn set(&self, done: usize) {
        self.0.done.lock().unwrap().push(done);
    }
}

#[test]
fn results_depend_neither_on_threads_nor_on_what_runs_beside() {
    let together = run(&text(model(), 2), &KEPT, &["pocket"], 5);
    assert_same(&together, &run(&text(model(), 1), &KEPT, &["pocket"], 5));
    let names: Vec<&str> = together.iter().map(|outcome| outcome.task.as_str()).collect();
    let alone: Vec<_> = names.iter().flat_map(|name| run(&text(model(), 1), &KEPT, &[name], 5)).collect();
    assert_same(&together, &alone);
    // A lower limit takes the first items of the same order.
    let fewer = run(&text(model(), 2), &KEPT, &["pocket"], 2);
    for (all, fewer) in together.iter().zip(&fewer) {
        assert_eq!(fewer.items.len(), 2);
        assert!(all.items.iter().zip(&fewer.items).all(|(a, b)| (&a.id, &a.response) == (&b.id, &b.response)));
    }
}

#[test]
fn kept_layers_are_the_pruned_model() {
    let whole = text(model(), 2);
    let shared = run(&whole, &KEPT, &["pocket"], 5);
    let pruned = text(model().keep(&KEPT.into()), 2);
    assert_same(&shared, &run(&pruned, &[0, 1], &["pocket"], 5));
    // And the layers left out do matter.
    let uncut = run(&whole, &ALL, &["pocket"], 5);
    assert!(uncut.iter().zip(&shared).any(|(a, b)| a.items[0].response != b.items[0].response));
    // A suite prepared once serves every candidate.
    let suite = suite(&whole, &["pocket"], 5, &greedy()).unwrap();
    assert_same(&outcomes(&suite, &whole, &KEPT).unwrap(), &shared);
    assert_same(&outcomes(&suite, &whole, &ALL).unwrap(), &uncut);
    assert_same(&outcomes(&suite, &whole.with_model(model().keep(&KEPT.into())), &[0, 1]).unwrap(), &shared);
    // Candidates that go together score what each does alone, with drafts and without.
    let candidates = [LayerSet::from(ALL), LayerSet::from(KEPT)];
    for execution in [Execution::default(), Execution { drafts: None, ..Execution::default() }] {
        let together = evaluate(&whole, &suite, &candidates, &execution, &NoProgress).unwrap().outcomes;
        assert_same(&together[0], &uncut);
        assert_same(&together[1], &shared);
    }
}

#[test]
fn draws_follow_their_seed() {
    let sampling = Sampling::Sample { temperature: 0.9, top_k: Some(50), top_p: None };
    let text = text(model(), 2);
    let with = |tasks: &[&str], sampling_seed| {
        run_with(&text, &ALL, tasks, 4, &GenerationPolicy { sampling, sampling_seed, ..greedy() })
    };
    let first = with(&["pocket_word", "pocket_code"], 1);
    assert_same(&first, &with(&["pocket_word", "pocket_code"], 1));
    let other = with(&["pocket_word", "pocket_code"], 2);
    assert!(first.iter().zip(&other).all(|(a, b)| a.items[0].prompt == b.items[0].prompt));
    assert!(first.iter().zip(&other).any(|(a, b)| a.items[0].response != b.items[0].response));
    // What is drawn for a task does not depend on the tasks beside it.
    assert_same(&first[1..], &with(&["pocket_code"], 1));
}

#[test]
fn choices_are_scored_as_whole_sequences_are() {
    let text = text(model(), 1);
    let outcome = &run(&text, &ALL, &["pocket_topic"], 3)[0];
    for item in &outcome.items {
        for (choice, expected) in item.choices.iter().flatten().zip(item.logprobs.iter().flatten()) {
            let whole = text.plain(&format!("{} {choice}", item.prompt)).unwrap();
            let context = text.plain(&item.prompt).unwrap().len();
            let logprobs = text.engine.token_logprobs(&ALL.into(), &[whole], &NoProgress).unwrap();
            let sum: f64 = logprobs[0][context..].iter().flatten().map(|value| f64::from(*value)).sum();
            assert!((sum - expected).abs() < 1e-3, "{sum} and {expected}");
        }
    }
}

#[test]
fn the_first_digit_is_compared_where_it_stands() {
    let text = text(model(), 1);
    let outcome = &run(&text, &ALL, &["pocket_arith"], 12)[0];
    assert!(outcome.items.iter().any(|item| item.target.starts_with('-')), "a negative answer among the items");
    for item in &outcome.items {
        let negative = item.target.starts_with('-');
        let context = format!("{} {}", item.prompt, if negative { "-" } else { "" });
        let tokens = text.plain(&context).unwrap();
        let sequences: Vec<Vec<u32>> = (0..10u32)
            .map(|digit| {
                let token = text.tokenizer.token_to_id(&digit.to_string()).unwrap();
                tokens.iter().copied().chain([token]).collect()
            })
            .collect();
        let logprobs = text.engine.token_logprobs(&ALL.into(), &sequences, &NoProgress).unwrap();
        for (list, expected) in logprobs.iter().zip(item.logprobs.as_ref().unwrap()) {
            let value = f64::from(list.last().unwrap().unwrap());
            assert!((value - expected).abs() < 1e-3, "{value} and {expected}");
        }
    }
}

#[test]
fn faults_are_the_users() {
    let refused = |text: &TextModel, tasks: &[&str], limit: usize, policy: GenerationPolicy| {
        let error = suite(text, tasks, limit, &policy).err().expect("refused");
        error.into_fault().unwrap()
    };
    let fault = |text: &TextModel, tasks: &[&str], limit: usize| refused(text, tasks, limit, greedy());
    let whole = text(model(), 1);
    assert!(fault(&whole, &["pocket_wrod"], 1).hint.unwrap().contains("pocket_word"));
    assert!(fault(&whole, &["pocket_kind"], 0).hint.unwrap().contains("limit"));
    let sampling = Sampling::Sample { temperature: -1.0, top_k: None, top_p: None };
    refused(&whole, &["pocket_kind"], 1, GenerationPolicy { sampling, ..greedy() });
    let variables = |name: &str| [(name.to_owned(), serde_json::json!(false))].into();
    let with = |name: &str| GenerationPolicy { template_variables: variables(name), ..greedy() };
    assert!(refused(&whole, &["pocket_kind"], 1, with("messages")).message.contains("`messages`"));
    suite(&whole, &["pocket_word"], 1, &with("enable_thinking")).unwrap();
    let base = TextModel { text: ChatTokenizer { chat: None, ..whole.text.clone() }, ..whole.clone() };
    assert!(fault(&base, &["pocket_word"], 1).message.contains("chat template"));
    suite(&base, &["pocket_classification", "pocket_arith"], 1, &greedy()).unwrap();
    assert!(refused(&base, &["pocket_kind"], 1, with("enable_thinking")).message.contains("no chat template"));

    let mut damaged = model();
    damaged.visit_mut(|name, parameter| {
        if name.contains("layers.1.mlp.up") {
            std::sync::Arc::make_mut(&mut parameter.data).fill(f32::NAN);
        }
    });
    let damaged = text(damaged, 1);
    let suite = suite(&damaged, &["pocket_kind"], 1, &greedy()).unwrap();
    let error = outcomes(&suite, &damaged, &ALL).expect_err("not finite");
    assert!(error.into_fault().unwrap().message.contains("finite"));
}

#[test]
fn outcomes_survive_json() {
    let outcomes = run(&text(model(), 1), &ALL, &["pocket_arith", "pocket_kind", "pocket_summary"], 1);
    let json = serde_json::to_string(&outcomes).unwrap();
    let back: Vec<TaskOutcome> = serde_json::from_str(&json).unwrap();
    // One item has no standard error, so NaN stands beside numbers and equality must go by JSON.
    assert_eq!(serde_json::to_string(&back).unwrap(), json);
}
