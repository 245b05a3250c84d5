//! The model that comes with lopper, read by lopper and by transformers: the same tokens, the same
//! rendered conversations, the same logits whole and cut, the same greedy answers.
//!
//! Numbers come from `fixtures/pocket/make.py` (with its versions in `expected.json`), which
//! raises the bf16 weights to f32 as this side does, so both compute the same function.

use lopper_infer::{Engine, Finish, GenerateOptions, Generation, Request, TextModel};
use lopper_model::chat::Message;
use lopper_model::{Checkpoint, Model};
use lopper_pocket::embedded::FILES;
use lopper_record::{LayerSet, LayerSlot, NoProgress};
use serde::Deserialize;

/// Largest difference, as a share of the run's largest logit. Twelve layers of f32 sums in another
/// order, and the fixture's five decimals, differ by less than 1e-6 of it here; other processors sum
/// otherwise, and a wrong constant or a lost weight differs by far more than this.
const TOLERANCE: f32 = 1e-4;
/// Greedy answers are compared up to the first token whose lead over the second is smaller than
/// this share of the largest logit: beyond it rounding may decide.
const LEAD: f32 = 4.0 * TOLERANCE;

#[derive(Deserialize)]
struct Expected {
    weights_fnv1a: String,
    tokenizer_fnv1a: String,
    stride: usize,
    whole_row: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    messages: Option<Vec<Message>>,
    #[serde(default)]
    add_generation_prompt: bool,
    rendered: Option<String>,
    text: Option<String>,
    ids: Vec<u32>,
    decoded: String,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    dropped: Vec<usize>,
    rows: Vec<Row>,
    logprobs: Vec<f32>,
    largest_logit: f32,
    greedy: Vec<u32>,
    leads: Vec<f32>,
}

#[derive(Deserialize)]
struct Row {
    position: usize,
    logits: Vec<f32>,
    log_sum_exp: f32,
}

fn expected() -> Expected {
    let expected: Expected = lopper_testkit::fixture_json("pocket/expected.json");
    let made_of = (&expected.weights_fnv1a, &expected.tokenizer_fnv1a);
    let here = (&fnv1a(file("model.safetensors")), &fnv1a(file("tokenizer.json")));
    assert_eq!(made_of, here, "models/pocket has changed: run `python fixtures/pocket/make.py`");
    expected
}

fn file(name: &str) -> &'static [u8] {
    FILES.iter().find(|f| f.0 == name).unwrap().1
}

/// 64-bit FNV-1a (Fowler, Noll, Vo), which the script computes as well.
fn fnv1a(bytes: &[u8]) -> String {
    let step = |value: u64, byte: &u8| (value ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:016x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

fn pocket() -> TextModel {
    let checkpoint = Checkpoint::from_bytes(FILES).unwrap();
    TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint).unwrap(), 2).unwrap(), &checkpoint).unwrap()
}

fn kept(model: &TextModel, dropped: &[usize]) -> LayerSet<LayerSlot> {
    model.engine.all_layers().without(&dropped.iter().copied().collect())
}

/// Logits of every position, one row after another.
fn logits(model: &TextModel, ids: &[u32], kept: &LayerSet<LayerSlot>) -> Vec<Vec<f32>> {
    let model = model.engine.model();
    lopper_testkit::logits(model, ids, kept).chunks_exact(model.config.vocab_size).map(<[f32]>::to_vec).collect()
}

fn log_sum_exp(row: &[f32]) -> f32 {
    let largest = row.iter().copied().fold(f32::MIN, f32::max);
    row.iter().map(|v| f64::from(v - largest).exp()).sum::<f64>().ln() as f32 + largest
}

fn close(what: &str, ours: impl IntoIterator<Item = f32>, theirs: &[f32], allowed: f32) {
    let ours: Vec<f32> = ours.into_iter().collect();
    assert_eq!(ours.len(), theirs.len(), "{what}: lengths");
    for (index, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= allowed, "{what}, value {index}: {a}, transformers has {b}; allowed {allowed}");
    }
}

#[test]
fn tokens_and_conversations() {
    let model = pocket();
    for case in expected().cases {
        let ids = match (&case.messages, &case.text) {
            (Some(messages), None) => {
                let chat = model.chat.as_ref().unwrap();
                let rendered = chat.render(messages, case.add_generation_prompt).unwrap();
                assert_eq!(Some(rendered), case.rendered);
                model.conversation(messages, case.add_generation_prompt).unwrap()
            }
            (None, Some(text)) => model.plain(text).unwrap(),
            _ => panic!("a case is a conversation or a text"),
        };
        assert_eq!(ids, case.ids, "{:?}", case.decoded);
        assert_eq!(model.decode(&ids).unwrap(), case.decoded);
    }
}

#[test]
fn logits_whole_and_without_two_layers() {
    let (model, expected) = (pocket(), expected());
    let mut runs = 0;
    for case in expected.cases {
        for run in case.runs {
            let what = format!("{:?} without {:?}", case.decoded, run.dropped);
            let allowed = TOLERANCE * run.largest_logit;
            let kept = kept(&model, &run.dropped);
            let ours = logits(&model, &case.ids, &kept);
            for row in &run.rows {
                let at = &ours[row.position];
                close(&what, at.iter().step_by(expected.stride).copied(), &row.logits, allowed);
                close(&what, [log_sum_exp(at)], &[row.log_sum_exp], allowed);
            }
            if runs == 0 {
                assert!(run.dropped.is_empty());
                close(&what, ours.last().unwrap().iter().copied(), &expected.whole_row, allowed);
            }
            let logprobs = model.engine.token_logprobs(&kept, std::slice::from_ref(&case.ids), &NoProgress).unwrap();
            close(&what, logprobs[0].iter().flatten().copied(), &run.logprobs, 2.0 * allowed);
            runs += 1;
        }
    }
    assert!(runs >= 12, "{runs} runs");
}

#[test]
fn greedy_answers_whole_and_without_two_layers() {
    let (model, expected) = (pocket(), expected());
    let (mut ended, mut compared) = (0, 0);
    for dropped in [vec![], vec![5, 6]] {
        // All prompts at once: batched decoding has to give what one prompt at a time gives there.
        let pairs: Vec<_> = expected
            .cases
            .iter()
            .flat_map(|case| case.runs.iter().map(move |run| (case, run)))
            .filter(|(_, run)| run.dropped == dropped)
            .collect();
        let request = |(case, run): &(&Case, &Run)| Request {
            stop_tokens: model.special.eos.clone(),
            ..Request::greedy(case.ids.clone(), run.greedy.len())
        };
        let requests: Vec<Request> = pairs.iter().map(request).collect();
        let options = GenerateOptions::default();
        let ours = model.engine.generate(&kept(&model, &dropped), &requests, &options, &NoProgress).unwrap();
        assert_eq!(ours.len(), pairs.len());
        for ((case, run), Generation { mut tokens, finish, .. }) in pairs.into_iter().zip(ours) {
            if finish == Finish::Stop {
                // transformers counts the end token in.
                tokens.extend(model.special.eos.first());
            }
            let sure = run.leads.iter().position(|lead| *lead < LEAD * run.largest_logit).unwrap_or(run.greedy.len());
            assert!(sure > 0, "{:?}: rounding could change the first token", case.decoded);
            assert!(tokens.len() >= sure, "{:?}: the answer ends early", case.decoded);
            assert_eq!(tokens[..sure], run.greedy[..sure], "{:?} without {dropped:?}", case.decoded);
            compared += sure;
            ended += usize::from(sure == run.greedy.len() && finish == Finish::Stop);
        }
    }
    assert!(ended > 0 && compared > 100, "{ended} answers ended, {compared} tokens compared");
}
