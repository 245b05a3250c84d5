//! What generation promises: neither the cache nor batch, threads or other requests change anything, and keeping some
//! layers of shared weights is the pruned model.

use lopper_infer::{Engine, Finish, GenerateOptions, Generation, Request, Sampling, StopStrings};
use lopper_model::Model;
use lopper_record::{LayerSet, NoProgress};
use lopper_testkit::{RecordedProgress, Tiny, assert_close, last_logits, tiny_model, token_sequences};
use std::sync::Arc;

const LENGTHS: [usize; 9] = [5, 1, 17, 3, 9, 2, 30, 4, 12];
const SAMPLE: Sampling = Sampling::Sample { temperature: 0.9, top_k: Some(20), top_p: Some(0.95) };

fn model() -> Model {
    tiny_model(Tiny { qk_norm: true, ..Tiny::default() }, 5)
}

fn engine(threads: usize) -> Engine {
    Engine::new(model(), threads).unwrap()
}

fn requests(sampling: Sampling) -> Vec<Request> {
    let prompts = token_sequences(&LENGTHS, 37, 8);
    let request = |(i, p)| Request { sampling, seed: 100 + i as u64, ..Request::greedy(p, 12) };
    let mut list: Vec<Request> = (0..).zip(prompts).map(request).collect();
    // Several samples of one prompt share its prefill.
    for seed in 0..5 {
        list.push(Request { seed, ..list[2].clone() });
    }
    list
}

fn run(engine: &Engine, kept: &[usize], requests: &[Request], options: &GenerateOptions) -> Vec<Generation> {
    let made = engine.generate(&kept.iter().copied().collect(), requests, options, &NoProgress).unwrap();
    assert_eq!(made.len(), requests.len());
    made
}

/// Without cache or batch: the whole sequence again for every token.
fn recomputed(model: &Model, kept: &[usize], request: &Request) -> Generation {
    let mut sampler = lopper_infer::Sampler::new(request.sampling, request.seed);
    let (mut sequence, mut tokens, mut logprobs) = (request.prompt.clone(), vec![], vec![]);
    for _ in 0..request.max_new_tokens {
        let logits = last_logits(model, &sequence, &kept.iter().copied().collect());
        let (token, logprob) = sampler.choose(&logits).unwrap();
        sequence.push(token);
        tokens.push(token);
        logprobs.push(logprob);
    }
    Generation { tokens, logprobs, finish: Finish::Length, stop_token: None, thought_cut: false }
}

fn assert_same(a: &[Generation], b: &[Generation]) {
    assert_eq!(a.len(), b.len());
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!((&a.tokens, a.finish), (&b.tokens, b.finish), "request {i}");
        assert_close(&a.logprobs, &b.logprobs, 1e-4);
    }
}

#[test]
fn cached_equals_uncached() {
    for sampling in [Sampling::Greedy, SAMPLE] {
        for kept in [vec![0, 1, 2, 3], vec![0, 2], vec![3]] {
            let requests = requests(sampling);
            let expected: Vec<_> = requests.iter().map(|r| recomputed(&model(), &kept, r)).collect();
            assert_same(&run(&engine(2), &kept, &requests, &GenerateOptions::default()), &expected);
        }
    }
}

#[test]
fn batch_threads_and_neighbours_change_nothing() {
    for sampling in [Sampling::Greedy, SAMPLE] {
        let requests = requests(sampling);
        let kept = [0, 1, 3];
        let together = run(&engine(1), &kept, &requests, &GenerateOptions::default());
        let alone: Vec<_> = requests
            .iter()
            .flat_map(|r| run(&engine(1), &kept, std::slice::from_ref(r), &Default::default()))
            .collect();
        assert_same(&together, &alone);
        let tight = GenerateOptions { batch: 3, prefill_tokens: 10, cache_bytes: 20_000, ..GenerateOptions::default() };
        for (threads, options) in [(3, &tight), (1, &tight), (4, &GenerateOptions::default())] {
            assert_same(&together, &run(&engine(threads), &kept, &requests, options));
        }
        let mut reversed: Vec<_> = requests.iter().rev().cloned().collect();
        reversed.truncate(8);
        let mut results = run(&engine(2), &kept, &reversed, &GenerateOptions::default());
        results.reverse();
        assert_same(&together[together.len() - 8..], &results);
    }
}

#[test]
fn samples_of_one_prompt_differ_by_seed_alone() {
    let requests = requests(SAMPLE);
    let results = run(&engine(2), &[0, 1, 2, 3], &requests, &GenerateOptions::default());
    let of_prompt_2: Vec<_> = results[LENGTHS.len()..].iter().map(|g| g.tokens.clone()).collect();
    let mut distinct = of_prompt_2.clone();
    distinct.sort();
    distinct.dedup();
    assert!(distinct.len() >= 4, "five seeds gave only {} texts", distinct.len());
    let again = Request { seed: 3, ..requests[2].clone() };
    assert_eq!(run(&engine(1), &[0, 1, 2, 3], &[again], &GenerateOptions::default())[0].tokens, of_prompt_2[3]);
}

#[test]
fn kept_layers_equal_the_pruned_model_exactly() {
    let model = model();
    for kept in [vec![0, 1, 2, 3], vec![0, 3], vec![1, 2, 3]] {
        let requests = requests(SAMPLE);
        let shared = Engine::new(model.clone(), 1).unwrap();
        let pruned = Engine::new(model.keep(&kept.clone().into()), 1).unwrap();
        let options = GenerateOptions::default();
        assert_eq!(
            run(&shared, &kept, &requests, &options),
            run(&pruned, &(0..kept.len()).collect::<Vec<_>>(), &requests, &options),
            "kept {kept:?}"
        );
    }
}

#[test]
fn a_stop_token_ends_and_is_left_out() {
    let plain = run(&engine(1), &[0, 1], &requests(Sampling::Greedy), &GenerateOptions::default());
    let stopped: Vec<_> = requests(Sampling::Greedy)
        .into_iter()
        .zip(&plain)
        .map(|(r, g)| Request { stop_tokens: vec![g.tokens[5], 36], ..r })
        .collect();
    for (result, plain) in run(&engine(2), &[0, 1], &stopped, &GenerateOptions::default()).iter().zip(&plain) {
        let first = plain.tokens.iter().position(|t| *t == plain.tokens[5] || *t == 36).unwrap();
        assert_eq!(result.finish, Finish::Stop);
        assert_eq!(result.tokens, plain.tokens[..first]);
        assert_eq!(result.logprobs.len(), first);
    }
}

#[test]
fn a_stop_string_ends_with_the_token_that_completes_it() {
    let decode = |tokens: &[u32]| tokens.iter().map(|t| format!("<{t}>")).collect::<String>();
    let plain = run(&engine(1), &[0, 1], &requests(Sampling::Greedy), &GenerateOptions::default());
    for (request, plain) in requests(Sampling::Greedy).into_iter().zip(&plain) {
        // Begins inside one token and ends inside the next but one.
        let text = decode(&plain.tokens[3..6]);
        let string = text[1..text.len() - 1].to_owned();
        let stop = StopStrings::new(Arc::new(decode), [string.clone()]);
        let request = Request { stop: Some(Arc::new(stop)), ..request };
        let result = &run(&engine(1), &[0, 1], &[request], &GenerateOptions::default())[0];
        let expected = (1..=12).find(|n| decode(&plain.tokens[..*n]).contains(&string)).unwrap();
        assert_eq!((result.finish, result.tokens.len()), (Finish::StopString, expected));
        assert_eq!(result.tokens, plain.tokens[..expected]);
    }
}

#[test]
fn generation_ends_where_the_context_does() {
    let prompts = token_sequences(&[60, 64, 70, 10], 37, 1);
    let requests: Vec<_> = prompts.into_iter().map(|p| Request::greedy(p, 20)).collect();
    let results = run(&engine(2), &[0, 1], &requests, &GenerateOptions::default());
    let ends: Vec<_> = results.iter().map(|g| (g.tokens.len(), g.finish)).collect();
    use Finish::{ContextFull, Length};
    assert_eq!(ends, [(4, ContextFull), (0, ContextFull), (0, ContextFull), (20, Length)]);
    let short = GenerateOptions { context_limit: Some(13), ..GenerateOptions::default() };
    assert_eq!(run(&engine(2), &[0, 1], &requests, &short)[3].tokens, results[3].tokens[..3]);
    let nothing = Request::greedy(vec![1], 0);
    let result = &run(&engine(1), &[0, 1], &[nothing], &GenerateOptions::default())[0];
    assert_eq!((result.tokens.len(), result.logprobs.len(), result.finish), (0, 0, Length));
}

#[test]
fn progress_counts_every_answer() {
    let (progress, requests) = (RecordedProgress::default(), requests(Sampling::Greedy));
    let kept = [LayerSet::from([0, 1])];
    let made = engine(2).generate_many(&kept, &requests, &GenerateOptions::default(), &progress).unwrap();
    assert_eq!(made.tokens, made.candidates[0].iter().map(|g| g.tokens.len()).sum::<usize>());
    let step = progress.last("generating");
    assert_eq!((step.unit, step.done, step.total), ("answers", requests.len(), requests.len()));
    assert!(step.reports > 2);
}

#[test]
fn an_interrupt_stops_between_steps() {
    let (progress, kept) = (RecordedProgress::interrupting_at(20), LayerSet::from([0, 1]));
    let requests = requests(Sampling::Greedy);
    let error = engine(2).generate(&kept, &requests, &GenerateOptions::default(), &progress).unwrap_err();
    assert!(error.is_interrupted());
    assert!(progress.last("generating").done < requests.len());
    assert!(engine(2).token_logprobs(&kept, &[vec![1, 2]], &progress).unwrap_err().is_interrupted());
}

#[test]
fn what_cannot_be_run_is_refused() {
    let engine = engine(2);
    let refused = |kept: usize, request: Request| {
        engine.generate(&LayerSet::from([kept]), &[request], &GenerateOptions::default(), &NoProgress).unwrap_err()
    };
    refused(0, Request::greedy(vec![], 3));
    refused(0, Request::greedy(vec![37], 3));
    refused(4, Request::greedy(vec![1], 3));
    for (temperature, top_k, top_p) in [(0.0, None, None), (1.0, Some(0), None), (1.0, None, Some(1.5))] {
        let sampling = Sampling::Sample { temperature, top_k, top_p };
        let error = refused(0, Request { sampling, ..Request::greedy(vec![1], 3) });
        assert!(error.fault().is_some(), "{error}");
    }
    assert!(engine.generate(&LayerSet::from([0]), &[], &GenerateOptions::default(), &NoProgress).unwrap().is_empty());
}

#[test]
fn damaged_weights_are_an_error_not_a_text() {
    let mut model = model();
    model.visit_mut(|name, param| {
        if name == "model.norm.weight" {
            Arc::make_mut(&mut param.data)[3] = f32::NAN;
        }
    });
    let (engine, kept) = (Engine::new(model, 2).unwrap(), LayerSet::from([0]));
    let error =
        engine.generate(&kept, &requests(Sampling::Greedy), &GenerateOptions::default(), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("not finite"), "{error}");
}
