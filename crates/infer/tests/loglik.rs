//! Scores of continuations, of whole sequences, and the hidden states, against one plain forward
//! pass for each sequence.

use lopper_infer::{Engine, LayerActivations, LoglikRequest};
use lopper_model::kernels::loss::log_sum_exp;
use lopper_model::{Batch, Model, Threads};
use lopper_record::{LayerSet, LayerSlot, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, assert_close, last_logits, logits, tiny_model, token_sequences};
use std::collections::BTreeMap;
use std::sync::Mutex;

fn model() -> Model {
    tiny_model(Tiny { bias: true, tied: false, ..Tiny::default() }, 6)
}

fn engine(threads: usize) -> Engine {
    Engine::new(model(), threads).unwrap()
}

/// Log-probability of each token of a sequence, and whether it was the arg-max, by one pass.
fn plain(model: &Model, kept: &[usize], sequence: &[u32]) -> Vec<(f32, bool)> {
    let logits = logits(model, sequence, &kept.iter().copied().collect());
    let rows: Vec<&[f32]> = logits.chunks_exact(model.config.vocab_size).collect();
    assert_eq!(rows.len(), sequence.len());
    rows.into_iter()
        .zip(&sequence[1..])
        .map(|(row, token)| {
            let value = row[*token as usize];
            (value - log_sum_exp(row), row.iter().all(|v| *v <= value))
        })
        .collect()
}

fn requests() -> Vec<LoglikRequest> {
    let contexts = token_sequences(&[9, 1, 20, 4, 30, 2, 7], 37, 3);
    (0..)
        .zip(contexts)
        .map(|(i, context)| {
            let lengths = [1 + i % 3, 4, 1, 7 - i];
            LoglikRequest { context, continuations: token_sequences(&lengths[..2 + i % 3], 37, i as u64) }
        })
        .collect()
}

#[test]
fn shared_contexts_equal_whole_sequences() {
    let model = model();
    for (threads, kept) in [(1, vec![0, 1, 2, 3]), (3, vec![0, 2, 3]), (2, vec![1])] {
        let mut requests = requests();
        // A continuation that is certainly greedy.
        let mut sequence = requests[0].context.clone();
        for _ in 0..3 {
            let logits = last_logits(&model, &sequence, &kept.clone().into());
            sequence.push((0..37).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32);
        }
        let context = requests[0].context.len();
        requests[0].continuations.push(sequence[context..].to_vec());
        let results = engine(threads).loglikelihood(&kept.clone().into(), &requests, &NoProgress).unwrap();
        assert_eq!(results.len(), requests.len());
        let mut greedy = 0;
        for (request, results) in requests.iter().zip(&results) {
            assert_eq!(request.continuations.len(), results.len());
            for (continuation, result) in request.continuations.iter().zip(results) {
                let whole = [request.context.as_slice(), continuation].concat();
                let expected = &plain(&model, &kept, &whole)[request.context.len() - 1..];
                let sum: f64 = expected.iter().map(|(l, _)| f64::from(*l)).sum();
                assert!((result.sum - sum).abs() < 1e-4, "{} and {sum}", result.sum);
                assert_eq!(result.tokens, continuation.len());
                assert_eq!(result.greedy, expected.iter().all(|(_, g)| *g));
                greedy += usize::from(result.greedy);
            }
        }
        assert!(greedy > 0 && results[0].last().unwrap().greedy);
    }
}

#[test]
fn many_contexts_need_several_passes() {
    let model = model();
    let contexts = token_sequences(&[60; 80], 37, 9);
    let requests: Vec<_> = contexts
        .into_iter()
        .map(|context| LoglikRequest { context, continuations: vec![vec![3, 4], vec![5]] })
        .collect();
    let progress = RecordedProgress::default();
    let (results, work) = engine(2).loglikelihood_many(&[LayerSet::from([0, 1])], &requests, &progress).unwrap();
    let step = progress.last("scoring");
    assert_eq!((step.unit, step.done, step.total), ("requests", 80, 80));
    // The second token of the first choice is only predicted; two layers are kept.
    assert_eq!(work.layer_tokens, 80 * 61 * 2);
    assert_eq!(results[0].len(), requests.len());
    for (request, result) in requests.iter().zip(&results[0]).step_by(13) {
        let whole = [request.context.as_slice(), &[3, 4]].concat();
        let expected: f64 = plain(&model, &[0, 1], &whole)[59..].iter().map(|(l, _)| f64::from(*l)).sum();
        assert!((result[0].sum - expected).abs() < 1e-4);
    }
}

#[test]
fn requests_that_predict_nothing_are_refused() {
    let (engine, kept) = (engine(1), LayerSet::from([0]));
    for (context, continuation) in [(vec![], vec![1]), (vec![1], vec![]), (vec![1], vec![37])] {
        let request = LoglikRequest { context, continuations: vec![continuation] };
        assert!(engine.loglikelihood(&kept, &[request], &NoProgress).is_err());
    }
    assert!(engine.loglikelihood(&kept, &[], &NoProgress).unwrap().is_empty());
}

#[test]
fn every_token_after_the_first_has_a_logprob() {
    let model = model();
    let sequences = token_sequences(&[5, 1, 0, 50, 2, 33], 37, 2);
    for threads in [1, 2] {
        let results = engine(threads).token_logprobs(&LayerSet::from([0, 3]), &sequences, &NoProgress).unwrap();
        assert_eq!(results.len(), sequences.len());
        for (sequence, result) in sequences.iter().zip(&results) {
            assert_eq!(sequence.len(), result.len());
            let Some((first, rest)) = result.split_first() else { continue };
            assert_eq!(*first, None);
            let rest: Vec<f32> = rest.iter().map(|v| v.unwrap()).collect();
            let expected: Vec<f32> = plain(&model, &[0, 3], sequence).iter().map(|(l, _)| *l).collect();
            assert_close(&rest, &expected, 3e-5);
        }
    }
}

#[test]
fn kept_layers_equal_the_pruned_model_exactly() {
    let sequences = token_sequences(&[5, 50, 2, 33], 37, 2);
    let pruned = Engine::new(model().keep(&[0, 2].into()), 2).unwrap();
    let (shared, kept, all) = (engine(1), LayerSet::from([0, 2]), pruned.all_layers());
    assert_eq!(
        shared.token_logprobs(&kept, &sequences, &NoProgress).unwrap(),
        pruned.token_logprobs(&all, &sequences, &NoProgress).unwrap()
    );
    assert_eq!(
        shared.loglikelihood(&kept, &requests(), &NoProgress).unwrap(),
        pruned.loglikelihood(&all, &requests(), &NoProgress).unwrap()
    );
}

#[test]
fn hooks_get_the_hidden_states_of_every_layer() {
    let engine = engine(3);
    let sequences = token_sequences(&[60; 80], 37, 9);
    let candidates: Vec<LayerSet<LayerSlot>> = vec![[0, 2, 3].into(), [0, 3].into(), [2].into()];
    // By batch, the hidden states before the first layer and after each.
    let seen: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::default();
    let hook = |layer: LayerActivations<'_>| {
        let mut seen = seen.lock().unwrap();
        let states = seen.entry(layer.batch_index).or_insert_with(|| vec![layer.input.to_vec()]);
        assert_eq!(states.last().unwrap(), layer.input);
        assert_eq!(Some(layer.layer), candidates[0].get(states.len() - 1));
        assert_eq!(layer.output.len(), layer.batch.len() * 24);
        states.push(layer.output.to_vec());
    };
    let hooked = engine.token_logprobs_with_hook(&candidates, &sequences, Some(&hook), &NoProgress).unwrap().0;
    assert_eq!(hooked, engine.token_logprobs_many(&candidates, &sequences, &NoProgress).unwrap().0);
    let seen = seen.into_inner().unwrap();
    assert!(seen.len() > 1 && seen.keys().copied().eq(0..seen.len()));
    let mut expected = vec![];
    let mut tap = |_: usize, hidden: &[f32]| expected.push(hidden.to_vec());
    let batch = Batch::new(&[&sequences[70]]);
    engine.model().hidden_states(&batch, &[0, 2, 3].into(), Threads::One, None, Some(&mut tap)).unwrap();
    assert_eq!(expected.len(), 4);
    for (boundary, expected) in expected.iter().enumerate() {
        let all: Vec<f32> = seen.values().flat_map(|states| states[boundary].iter().copied()).collect();
        assert_close(&all[70 * 60 * 24..71 * 60 * 24], expected, 1e-4);
    }
}
