//! Many candidates at once give the results of each alone, bit for bit, and cost as much as the trie of their layers
//! has nodes.

use lopper_infer::{Engine, Finish, GenerateOptions, LoglikRequest, LoopStop, Request, Sampling};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerSet, LayerSlot, NoProgress};
use lopper_testkit::{Tiny, tiny_model, token_sequences, zoo};
use std::sync::Arc;

const LAYERS: usize = 6;
const SAMPLE: Sampling = Sampling::Sample { temperature: 0.9, top_k: Some(20), top_p: Some(0.95) };

fn model() -> Model {
    tiny_model(Tiny { layers: LAYERS, qk_norm: true, ..Tiny::default() }, 5)
}

/// Small models are repacked; those left in their file are not, in either dtype.
fn engines(directory: &std::path::Path) -> Vec<Engine> {
    let model = model();
    let mut engines = vec![Engine::new(model.clone(), 2).unwrap()];
    for dtype in [Dtype::F32, Dtype::BF16] {
        let path = directory.join(format!("{dtype}"));
        std::fs::create_dir(&path).unwrap();
        model.save(&path, &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(&path).unwrap());
        engines.push(Engine::new(Model::streamed(&checkpoint).unwrap(), 2).unwrap());
    }
    engines
}

/// The uncut model, every single removal, some pairs, a block, the same again, and nothing at all.
fn candidates() -> Vec<LayerSet<LayerSlot>> {
    let mut removals = vec![vec![]];
    removals.extend((0..LAYERS).map(|layer| vec![layer]));
    removals.extend([vec![1, 4], vec![2, 3, 4], vec![1, 4], (0..LAYERS).collect()]);
    removals.into_iter().map(|removed| LayerSet::from(removed).complement(LAYERS)).collect()
}

fn questions() -> Vec<LoglikRequest> {
    let shared = token_sequences(&[70, 90], 37, 3);
    let own = token_sequences(&[5, 12, 1, 30, 9, 14, 3], 37, 4);
    let ends = token_sequences(&[1, 4, 2, 7], 37, 5);
    let mut list = Vec::new();
    for (i, own) in own.iter().enumerate() {
        // Some begin alike, as with worked examples; some do not.
        let context = if i % 3 == 2 { own.clone() } else { [shared[i / 4].as_slice(), own].concat() };
        list.push(LoglikRequest { context, continuations: ends[i % 3..].to_vec() });
    }
    list.push(LoglikRequest { context: shared[1].clone(), continuations: ends.clone() });
    list.push(LoglikRequest { context: shared[1].clone(), continuations: ends });
    list
}

#[test]
fn log_likelihoods_of_many_are_those_of_each_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (candidates, questions) = (candidates(), questions());
    for engine in engines(directory.path()) {
        let (together, work) = engine.loglikelihood_many(&candidates, &questions, &NoProgress).unwrap();
        assert_eq!(together.len(), candidates.len());
        for (kept, together) in candidates.iter().zip(&together) {
            let alone: Vec<_> = questions
                .iter()
                .flat_map(|q| engine.loglikelihood(kept, std::slice::from_ref(q), &NoProgress).unwrap())
                .collect();
            assert_eq!(alone, *together, "{kept:?}");
        }
        // Little memory divides candidates and texts into groups, which changes nothing.
        let (grouped, more) =
            engine.clone().with_memory(40_000).loglikelihood_many(&candidates, &questions, &NoProgress).unwrap();
        assert_eq!(grouped, together);
        assert!(more.layer_tokens > work.layer_tokens, "{more:?} {work:?}");
    }
}

#[test]
fn single_removals_cost_half_of_each_alone() {
    let engine = Engine::new(model(), 2).unwrap();
    let single = candidates()[1..=LAYERS].to_vec();
    let texts = token_sequences(&[20, 33, 47], 37, 6);
    let (many, work) = engine.token_logprobs_many(&single, &texts, &NoProgress).unwrap();
    let tokens = 100;
    assert_eq!(work.unshared_layer_tokens, (tokens * LAYERS * (LAYERS - 1)) as u64);
    // L(L−1)/2 for the layers after each gap, and those before it, which all share.
    assert_eq!(work.layer_tokens, (tokens * (LAYERS * (LAYERS - 1) / 2 + LAYERS - 1)) as u64);
    assert_eq!(many.len(), single.len());
    for (kept, many) in single.iter().zip(&many) {
        assert_eq!(engine.token_logprobs(kept, &texts, &NoProgress).unwrap(), *many);
    }
}

fn prompts(sampling: Sampling) -> Vec<Request> {
    let mut prompts = token_sequences(&[5, 1, 17, 3, 9, 30], 37, 8);
    prompts.push(prompts[2].clone());
    let request =
        |(i, p): (u64, Vec<u32>)| Request { sampling, seed: 100 + i, stop_tokens: vec![11], ..Request::greedy(p, 40) };
    (0..).zip(prompts).map(request).collect()
}

#[test]
fn generations_of_many_are_those_of_each_alone() {
    let directory = tempfile::tempdir().unwrap();
    let candidates = candidates();
    for engine in engines(directory.path()) {
        for sampling in [Sampling::Greedy, SAMPLE] {
            let requests = prompts(sampling);
            for loops in [None, Some(LoopStop { periods: 3, tokens: 9, longest: 6 })] {
                let plain = GenerateOptions { draft_from_first: false, loops, ..GenerateOptions::default() };
                let alone: Vec<Vec<_>> = candidates
                    .iter()
                    .map(|kept| {
                        let one =
                            |r| engine.generate(kept, std::slice::from_ref(r), &plain, &NoProgress).unwrap().remove(0);
                        requests.iter().map(one).collect()
                    })
                    .collect();
                let finishes = alone.iter().flatten().map(|g| g.finish);
                let looped = finishes.filter(|f| *f == Finish::Loop).count();
                assert!(if loops.is_none() { looped == 0 } else { looped > 0 || sampling == SAMPLE });
                let drafts = GenerateOptions { draft_from_first: true, ..plain.clone() };
                let tight = GenerateOptions { batch: 3, prefill_tokens: 20, cache_bytes: 60_000, ..drafts.clone() };
                for options in [&plain, &drafts, &tight] {
                    let many = engine.generate_many(&candidates, &requests, options, &NoProgress).unwrap();
                    assert_eq!(many.candidates, alone);
                    assert_eq!(many.tokens, alone.iter().flatten().map(|g| g.tokens.len()).sum::<usize>());
                    let drafted = options.draft_from_first && sampling == Sampling::Greedy;
                    assert_eq!(many.drafted > 0, drafted);
                    assert!(many.accepted <= many.drafted && (many.accepted > 0) == drafted, "{many:?}");
                }
            }
        }
    }
}

/// A candidate with an adapter gives the same results among others as alone.
#[test]
fn a_candidate_with_an_adapter_among_others_is_what_it_is_alone() {
    let directory = tempfile::tempdir().unwrap();
    let (layers, questions) = ([0, 1, 3, 5], questions());
    for engine in engines(directory.path()) {
        let mut adapted = engine.model().clone();
        for layer in layers {
            for (_, linear) in adapted.layers[layer].linears_mut() {
                let matrix = |rows: usize, cols: usize, salt: usize| {
                    let value = |i: usize| ((i * 7919 + salt * 31 + layer) % 13) as f32 / 26.0 - 0.25;
                    Param::matrix((0..rows * cols).map(value).collect(), rows, cols)
                };
                let (a, b) = (matrix(3, linear.inputs(), 1), matrix(linear.outputs(), 3, 2));
                linear.lora = Some(Lora { a, b, scale: 0.5, dropout: 0.0, magnitude: None });
            }
        }
        let alone = engine.with_model(adapted.clone());
        let (both, healed) = engine.with_adapted_layers(&adapted, &layers.into()).unwrap();
        assert_eq!(healed, LayerSet::from([6, 7, 8, 9]));
        let kept = LayerSet::from(layers);
        let candidates = [engine.all_layers(), kept.clone(), healed];
        let answers =
            |engine: &Engine, kept: &LayerSet<LayerSlot>| engine.loglikelihood(kept, &questions, &NoProgress).unwrap();
        let expected = [answers(&engine, &candidates[0]), answers(&engine, &kept), answers(&alone, &kept)];
        assert_ne!(expected[1], expected[2], "the adapter does something");
        assert_eq!(both.loglikelihood_many(&candidates, &questions, &NoProgress).unwrap().0, expected);

        let (requests, options) = (prompts(Sampling::Greedy), GenerateOptions::default());
        let made = |engine: &Engine, kept: &LayerSet<LayerSlot>| {
            engine.generate(kept, &requests, &options, &NoProgress).unwrap()
        };
        let expected = [made(&engine, &candidates[0]), made(&engine, &kept), made(&alone, &kept)];
        let drafts = GenerateOptions { draft_from_first: true, ..options.clone() };
        for options in [&options, &drafts] {
            assert_eq!(both.generate_many(&candidates, &requests, options, &NoProgress).unwrap().candidates, expected);
        }
    }
}

/// The same candidate twice: the first one's answers are perfect drafts for the second, whatever the model.
#[test]
fn the_same_candidate_again_accepts_every_draft_token() {
    for (name, config) in zoo(4, 37) {
        let engine = Engine::new(Model::random(config, 0.4, 3).unwrap(), 1).unwrap();
        let twins = [[0, 1, 3]; 2].map(LayerSet::from);
        let requests: Vec<_> =
            token_sequences(&[9, 4, 20], 37, 2).into_iter().map(|p| Request::greedy(p, 24)).collect();
        let many = engine.generate_many(&twins, &requests, &GenerateOptions::default(), &NoProgress).unwrap();
        assert_eq!(many.candidates[0], many.candidates[1], "{name}");
        if !engine.model().depends_on_length(4, 60) {
            assert_eq!((many.drafted, many.accepted), (72, 72 - 3), "{name}: the last token ends it");
        }
    }
}

#[test]
fn layers_that_the_model_lacks_are_refused() {
    let engine = Engine::new(model(), 1).unwrap();
    let (kept, options) = ([LayerSet::from([0, LAYERS])], GenerateOptions::default());
    assert!(engine.loglikelihood_many(&kept, &questions()[..1], &NoProgress).is_err());
    assert!(engine.generate_many(&kept, &prompts(SAMPLE), &options, &NoProgress).is_err());
}
