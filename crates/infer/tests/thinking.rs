//! A thinking budget ends a thought where it should, whatever else runs in the batch, and changes nothing elsewhere.

use lopper_infer::{
    Engine, Finish, GenerateOptions, Generation, LoopStop, Request, Sampler, Sampling, ThinkingBudget, ThoughtCheck,
};
use lopper_model::Model;
use lopper_record::{LayerSet, LayerSlot, NoProgress};
use lopper_testkit::{Tiny, assert_close, last_logits, tiny_model, token_sequences};
use std::sync::Arc;

const LAYERS: usize = 4;
const SAMPLE: Sampling = Sampling::Sample { temperature: 0.9, top_k: Some(20), top_p: Some(0.95) };
/// The tokens that end a thought; the last of them is what a thought is told by.
const END: [u32; 2] = [3, 30];

/// The prompt began a thought, and the last token of [`END`] ends it.
#[derive(Debug)]
struct Opened;

impl ThoughtCheck for Opened {
    fn is_thinking(&self, generated: &[u32]) -> bool {
        !generated.contains(&END[1])
    }
}

fn model() -> Model {
    tiny_model(Tiny { layers: LAYERS, qk_norm: true, ..Tiny::default() }, 5)
}

fn requests(sampling: Sampling, budgets: &[Option<usize>]) -> Vec<Request> {
    let budget = |after| ThinkingBudget { after, end: END.to_vec(), thought: Arc::new(Opened) };
    let mut list = vec![];
    for (i, prompt) in (0..).zip(token_sequences(&[5, 1, 17, 9], 37, 8)) {
        for after in budgets {
            let thinking = after.map(budget);
            list.push(Request { sampling, seed: 100 + i, thinking, ..Request::greedy(prompt.clone(), 24) });
        }
    }
    list
}

/// The whole sequence again for every token, with the end of the thought put by hand.
fn recomputed(model: &Model, kept: &LayerSet<LayerSlot>, request: &Request) -> Generation {
    let mut sampler = Sampler::new(request.sampling, request.seed);
    let (mut sequence, mut tokens, mut logprobs) = (request.prompt.clone(), Vec::<u32>::new(), vec![]);
    let (mut forced, mut cut) = (vec![], false);
    let layers = kept.iter().map(|slot| slot.0).collect();
    while tokens.len() < request.max_new_tokens {
        if let Some(budget) = &request.thinking
            && tokens.len() == budget.after
            && !tokens.contains(&END[1])
        {
            (forced, cut) = (budget.end.iter().rev().copied().collect(), true);
        }
        let logits = last_logits(model, &sequence, &layers);
        let (token, logprob) = match forced.pop() {
            Some(token) => {
                let total = logits.iter().map(|v| f64::from(*v).exp()).sum::<f64>().ln();
                (token, logits[token as usize] - total as f32)
            }
            None => sampler.choose(&logits).unwrap(),
        };
        sequence.push(token);
        tokens.push(token);
        logprobs.push(logprob);
    }
    Generation { tokens, logprobs, finish: Finish::Length, stop_token: None, thought_cut: cut }
}

#[test]
fn a_thought_is_ended_after_its_budget_and_the_answer_follows() {
    let (engine, model) = (Engine::new(model(), 2).unwrap(), model());
    let budgets = [None, Some(0), Some(1), Some(7), Some(23), Some(40)];
    for sampling in [Sampling::Greedy, SAMPLE] {
        let requests = requests(sampling, &budgets);
        let made = engine.generate(&engine.all_layers(), &requests, &GenerateOptions::default(), &NoProgress).unwrap();
        let mut cut = 0;
        for (request, own) in requests.iter().zip(&made) {
            let expected = recomputed(&model, &engine.all_layers(), request);
            assert_eq!((&own.tokens, own.thought_cut), (&expected.tokens, expected.thought_cut));
            assert_close(&own.logprobs, &expected.logprobs, 1e-4);
            cut += usize::from(own.thought_cut);
            if let Some(budget) = request.thinking.as_ref().filter(|budget| own.thought_cut && budget.after < 20) {
                assert_eq!(own.tokens[budget.after..budget.after + 2], END);
            }
        }
        assert!(cut >= 12, "{cut}");
    }
}

#[test]
fn budgets_give_the_same_tokens_in_any_batch_with_any_drafts_and_for_many_candidates() {
    let engine = Engine::new(model(), 2).unwrap();
    let removals = [vec![], vec![1], vec![2], vec![1, 2]];
    let candidates = removals.map(|removed| LayerSet::from(removed).complement(LAYERS));
    for sampling in [Sampling::Greedy, SAMPLE] {
        for loops in [None, Some(LoopStop { periods: 3, tokens: 6, longest: 4 })] {
            let requests = requests(sampling, &[Some(0), Some(5), Some(11), None]);
            let plain = GenerateOptions { loops, draft_from_first: false, ..GenerateOptions::default() };
            let alone = |kept: &LayerSet<LayerSlot>, request: &Request| {
                engine.generate(kept, std::slice::from_ref(request), &plain, &NoProgress).unwrap().remove(0)
            };
            let alone: Vec<Vec<Generation>> =
                candidates.iter().map(|kept| requests.iter().map(|request| alone(kept, request)).collect()).collect();
            for options in
                [GenerateOptions { loops, ..GenerateOptions::default() }, GenerateOptions { batch: 3, ..plain.clone() }]
            {
                let together = engine.generate_many(&candidates, &requests, &options, &NoProgress).unwrap();
                assert_eq!(together.candidates, alone);
            }
            // Answers under one budget are drafts under another.
            let drafts: Vec<_> = alone[1].iter().rev().map(|answer| Some(answer.tokens.clone())).collect();
            let options = GenerateOptions { loops, ..GenerateOptions::default() };
            let drafted = engine.generate_drafted(&candidates, &requests, &drafts, &options, &NoProgress).unwrap();
            assert_eq!(drafted.candidates, alone);
        }
    }
}

#[test]
fn a_thought_that_repeats_itself_is_ended_and_an_answer_that_does_is_stopped() {
    let engine = Engine::new(model(), 1).unwrap();
    // Any two equal tokens in a row count.
    let loops = Some(LoopStop { periods: 2, tokens: 2, longest: 1 });
    let options = GenerateOptions { loops, ..GenerateOptions::default() };
    let (mut cut, mut stopped) = (0, 0);
    for seed in 0..40 {
        let thinking = ThinkingBudget { after: 1000, end: END.to_vec(), thought: Arc::new(Opened) };
        let request = Request { sampling: SAMPLE, seed, thinking: Some(thinking), ..Request::greedy(vec![1, 2], 60) };
        let made = engine.generate(&engine.all_layers(), &[request], &options, &NoProgress).unwrap().remove(0);
        let end = made.tokens.iter().position(|token| *token == END[1]).unwrap_or(made.tokens.len());
        let repeated = made.tokens.windows(2).position(|pair| pair[0] == pair[1]);
        if made.thought_cut {
            assert_eq!(repeated.unwrap() + 3, end, "{:?}", made.tokens);
            cut += 1;
        }
        if made.finish == Finish::Loop {
            let last = made.tokens.len();
            assert!(last > end && made.tokens[last - 1] == made.tokens[last - 2]);
            stopped += 1;
        }
    }
    assert!(cut > 0 && stopped > 0, "{cut} {stopped}");
}

#[test]
fn a_budget_without_an_end_is_refused() {
    let engine = Engine::new(model(), 1).unwrap();
    for end in [vec![], vec![9999]] {
        let thinking = Some(ThinkingBudget { after: 1, end, thought: Arc::new(Opened) });
        let request = Request { thinking, ..Request::greedy(vec![1], 3) };
        assert!(engine.generate(&engine.all_layers(), &[request], &GenerateOptions::default(), &NoProgress).is_err());
    }
}
