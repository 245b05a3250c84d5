//! Running forward: repacked weights against stored ones, steps against whole texts, texts that share
//! a beginning against texts apart; and nothing depends on the batch.

use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::{
    Batch, Forward, MatmulPrecision, Model, Pack, Past, SequenceCache, Target, Threads, Workspace, normal,
};
use lopper_record::{LayerSet, LayerSlot};
use lopper_testkit::{Tiny, assert_close, tiny_model, token_sequences, zoo};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

const TAIL: usize = 20;

fn models() -> Vec<Model> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut random = |rows: usize, cols: usize| {
        Param::matrix((0..rows * cols).map(|_| 0.3 * normal(&mut rng)).collect(), rows, cols)
    };
    let plain = tiny_model(Tiny::default(), 1);
    let mut biased = tiny_model(Tiny { qk_norm: true, bias: true, tied: false, ..Tiny::default() }, 2);
    biased.visit_mut(|name, param| {
        if name.ends_with("bias") || name.contains("norm") {
            let noise = random(param.rows, param.cols);
            Arc::make_mut(&mut param.data).iter_mut().zip(noise.data.iter()).for_each(|(v, n)| *v += n);
        }
    });
    let mut adapted = tiny_model(Tiny::default(), 4);
    for layer in &mut adapted.layers {
        for (_, linear) in layer.linears_mut() {
            let (inputs, outputs) = (linear.inputs(), linear.outputs());
            linear.lora =
                Some(Lora { a: random(3, inputs), b: random(outputs, 3), scale: 0.2, dropout: 0.5, magnitude: None });
        }
    }
    // Whose values are four bits each, and blocks of 64 of them go over the ends of rows.
    let mut quantised = adapted.clone();
    quantised.quantize_nf4();
    let mut dora = quantised.clone();
    for layer in &mut dora.layers {
        for (_, linear) in layer.linears_mut() {
            let norms = linear.row_norms(Threads::One);
            let magnitude = norms.iter().enumerate().map(|(row, norm)| norm * (0.5 + (row % 5) as f32 / 4.0)).collect();
            linear.lora.as_mut().unwrap().magnitude = Some(Param::vector(magnitude));
        }
    }
    let mut models = vec![plain, biased, adapted, quantised, dora];
    for (seed, (name, config)) in (10..).zip(zoo(4, 37)) {
        let mut model = Model::random(config, 0.4, seed).unwrap();
        model.visit_mut(|name, param| {
            if name.contains("norm") {
                let noise = random(param.rows, param.cols);
                Arc::make_mut(&mut param.data).iter_mut().zip(noise.data.iter()).for_each(|(v, n)| *v += n);
            }
        });
        // A text that becomes long while it is decoded is read again, which is not the step's work.
        if !model.depends_on_length(1, 64) {
            models.push(model);
        } else {
            assert_eq!(name, "phi3");
        }
    }
    assert_eq!(models.len(), 11);
    models
}

fn logits(forward: &Forward, hidden: &[f32], rows: std::ops::Range<usize>) -> Vec<f32> {
    let mut logits = Vec::new();
    forward.logits(Threads::One, &forward.normed_rows(hidden, rows), &mut logits);
    logits
}

/// Reads all but the last tokens of each sequence, which gives the caches to decode from.
fn caches(forward: &Forward, kept: &LayerSet<LayerSlot>, sequences: &[Vec<u32>]) -> Vec<SequenceCache> {
    let read = |sequence: &Vec<u32>| {
        let mut cache = SequenceCache::new(kept.len());
        let batch = Batch::new(&[&sequence[..sequence.len() - TAIL]]);
        forward.hidden_states(&batch, kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
        cache
    };
    sequences.iter().map(read).collect()
}

/// Logits after each of the last tokens, decoded in batches of the given members, `each` at a time.
fn decode(
    forward: &Forward,
    kept: &LayerSet<LayerSlot>,
    sequences: &[Vec<u32>],
    members: &[usize],
    each: usize,
) -> Vec<Vec<f32>> {
    let mut all = caches(forward, kept, sequences);
    let mut result = vec![Vec::new(); members.len()];
    let mut caches: Vec<_> =
        all.iter_mut().enumerate().filter(|(i, _)| members.contains(i)).map(|(_, cache)| cache).collect();
    for step in (0..TAIL).step_by(each) {
        let from = |i: usize| sequences[i].len() - TAIL + step;
        let batch = Batch::continued(members.iter().map(|&i| (&sequences[i][from(i)..from(i) + each], from(i))));
        let hidden = forward.hidden_states(&batch, kept, Threads::One, Some(&mut caches), None).unwrap();
        for (i, list) in result.iter_mut().enumerate() {
            list.extend(logits(forward, &hidden, i * each..(i + 1) * each));
        }
    }
    result
}

const ALL: [usize; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

/// Weights as they are stored, repacked, and repacked in bf16 with bf16 keys and values where the processor has
/// instructions for it.
fn prepared(model: &Model) -> [Forward; 3] {
    let kinds =
        [(Pack::No, MatmulPrecision::F32), (Pack::F32, MatmulPrecision::F32), (Pack::Bf16, MatmulPrecision::Bf16)];
    kinds.map(|(pack, precision)| Forward::new(model, pack, precision))
}

#[test]
fn steps_are_the_whole_sequence_and_ignore_the_batch() {
    let sequences = token_sequences(&[21, 38, 25, 50, 60, 33, 47, 29], 37, 1);
    for (m, model) in models().iter().enumerate() {
        for kept in [LayerSet::from([0, 1, 2, 3]), LayerSet::from([1, 3])] {
            let all = prepared(model).map(|forward| {
                let decoded = decode(&forward, &kept, &sequences, &ALL, 1);
                for (sequence, decoded) in sequences.iter().zip(&decoded) {
                    let batch = Batch::new(&[sequence]);
                    let hidden = forward.hidden_states(&batch, &kept, Threads::Pool, None, None).unwrap();
                    let expected = logits(&forward, &hidden, sequence.len() - TAIL..sequence.len());
                    let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
                    assert!(largest > 0.5, "model {m} says nothing");
                    assert_eq!(*decoded, expected, "model {m}");
                }
                assert_eq!(decode(&forward, &kept, &sequences, &ALL, 5), decoded, "model {m}, five tokens at a time");
                for members in [vec![0], vec![1, 4], vec![2, 3, 5, 6, 7]] {
                    for (alone, i) in decode(&forward, &kept, &sequences, &members, 2).iter().zip(&members) {
                        assert_eq!(*alone, decoded[*i], "model {m}");
                    }
                }
                decoded
            });
            all[0].iter().zip(&all[1]).for_each(|(stored, packed)| assert_close(stored, packed, 2e-4));
        }
    }
}

/// A beginning that several texts share, and texts that go on from those, are as if read apart.
#[test]
fn branches_are_whole_texts() {
    for lengths in [[17, 5, 1, 30, 16, 2], [170, 5, 1, 130, 16, 2]] {
        check_branches(&token_sequences(&lengths, 37, 4));
    }
}

fn check_branches(parts: &[Vec<u32>]) {
    let whole: usize = parts.iter().map(Vec::len).sum();
    let paths: [&[usize]; 6] = [&[0], &[0, 1], &[0, 1, 2], &[0, 3], &[4], &[0, 1, 5]];
    // Where rotary embeddings depend on the length of the text so far, long texts have nothing in common.
    for model in models().into_iter().filter(|model| !model.depends_on_length(1, whole)) {
        for forward in prepared(&model) {
            let mut batch = Batch::default();
            for path in paths {
                let parent = paths.iter().position(|other| *other == &path[..path.len() - 1]);
                batch.branch(&parts[path[path.len() - 1]], parent);
            }
            for kept in [LayerSet::from([0, 1, 2, 3]), LayerSet::from([0, 3])] {
                let shared = forward.hidden_states(&batch, &kept, Threads::Pool, None, None).unwrap();
                for (i, path) in paths.iter().enumerate() {
                    let text: Vec<u32> = path.iter().flat_map(|part| parts[*part].iter().copied()).collect();
                    let whole = Batch::new(&[&text]);
                    let alone = forward.hidden_states(&whole, &kept, Threads::One, None, None).unwrap();
                    let width = model.config.hidden_size;
                    let own = &shared[batch.bounds[i] * width..batch.bounds[i + 1] * width];
                    assert_eq!(own, &alone[alone.len() - own.len()..]);
                }
            }
        }
    }
}

#[test]
fn targets_and_greedy_choices_agree_with_the_logits() {
    for model in models() {
        for forward in prepared(&model) {
            let sequences = token_sequences(&[9, 12], 37, 6);
            let hidden = forward
                .hidden_states(&Batch::new(&sequences), &LayerSet::from([0, 2, 3]), Threads::Pool, None, None)
                .unwrap();
            let normed = forward.normed_rows(&hidden, 0..21);
            let rows = logits(&forward, &hidden, 0..21);
            let targets: Vec<Target> =
                (0..60).map(|i| Target { row: i * 7 % 21, token: (i * 11 % 37) as u32 }).collect();
            let scored = forward.token_logprobs(Threads::Pool, &normed, &targets);
            let choices = forward.greedy(Threads::One, &normed);
            for (target, scored) in targets.iter().zip(scored) {
                let row = &rows[target.row * 37..][..37];
                let total: f64 = row.iter().map(|v| f64::from(*v).exp()).sum();
                let expected = f64::from(row[target.token as usize]) - total.ln();
                assert!((f64::from(scored.logprob) - expected).abs() < 1e-5);
                let best = choices[target.row];
                assert!(row.iter().all(|v| *v <= row[best.0 as usize]));
                assert_eq!(scored.greedy, best.0 == target.token);
            }
        }
    }
}

#[test]
fn a_truncated_cache_continues_as_if_nothing_had_followed() {
    let model = &models()[1];
    let (kept, sequence) = (LayerSet::from([0, 1, 3]), &token_sequences(&[50], 37, 2)[0]);
    for forward in prepared(model) {
        for len in [1, 15, 16, 17, 32, 49] {
            let after = |read: usize| {
                let mut cache = SequenceCache::new(kept.len());
                let batch = Batch::new(&[&sequence[..read]]);
                forward.hidden_states(&batch, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
                cache.truncate(len);
                assert_eq!(cache.len(), len);
                let batch = Batch::continued([([7u32, 8].as_slice(), len)]);
                forward.hidden_states(&batch, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap()
            };
            assert_eq!(after(50), after(len));
        }
    }
}

/// The rows of a text are shared out between threads, some dozens at a time, and over several spans of its tokens.
#[test]
fn rows_of_long_texts_are_the_same_on_all_threads() {
    for (name, config) in zoo(2, 37) {
        let model = Model::random(config, 0.4, 6).unwrap();
        let texts = token_sequences(&[300, 1, 65, 130], 37, 8);
        for forward in prepared(&model) {
            let batch = forward.prepare(Batch::continued(texts.iter().map(|text| (&text[..], 0))));
            let mut x = Vec::new();
            forward.embed(&batch.batch.tokens, &mut x);
            let kv_layers = model.num_layers();
            let run = |threads: Threads, cached: bool| {
                let (mut work, mut out) = (Workspace::default(), Vec::new());
                let mut caches = vec![SequenceCache::new(kv_layers); texts.len()];
                let mut caches: Vec<_> = caches.iter_mut().map(|cache| &mut cache.layers_mut()[0]).collect();
                let past = if cached { Past::Caches(&mut caches) } else { Past::Batch };
                forward.layer(LayerSlot(0), &batch, &x, past, threads, &mut work, &mut out);
                out
            };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
            let alone = run(Threads::One, false);
            assert!(alone.iter().all(|value| value.is_finite()));
            for cached in [false, true] {
                assert_eq!(pool.install(|| run(Threads::Pool, cached)), alone, "{name}, cached: {cached}");
            }
            assert_eq!(run(Threads::One, true), alone, "{name}");
        }
    }
}

/// Keys and values that have left a layer's window are given back, and the continuation is the same.
#[test]
fn layers_with_windows_keep_their_window_only() {
    let mut seen = 0;
    for (name, mut config) in zoo(2, 37) {
        config.layers[0].window = Some(150);
        config.layers[1].window = None;
        let model = Model::random(config, 0.4, 6).unwrap();
        let (kept, text) = (LayerSet::from([0, 1]), &token_sequences(&[500], 37, 8)[0]);
        if model.depends_on_length(1, text.len()) {
            continue;
        }
        for forward in prepared(&model) {
            let whole = forward.hidden_states(&Batch::new(&[text]), &kept, Threads::One, None, None).unwrap();
            let mut cache = SequenceCache::new(2);
            let mut at = 300;
            let first = Batch::new(&[&text[..at]]);
            forward.hidden_states(&first, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
            while at < text.len() {
                cache.forget_unseen([Some(150), None]);
                // Three tokens, of which the last two were wrong.
                let step = Batch::continued([(&[text[at], 1, 2][..], at)]);
                let out = forward.hidden_states(&step, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
                let width = model.config.hidden_size;
                assert_eq!(out[..width], whole[at * width..(at + 1) * width], "{name}, token {at}");
                at += 1;
                cache.truncate(at);
            }
            let layout = forward.kv_layout();
            // Four blocks of the layer that sees all, and the last two or three of the other.
            let blocks = cache.bytes() / layout.bytes(1);
            assert!((6..=7).contains(&blocks), "{name}: {blocks} blocks");
            seen += 1;
        }
    }
    assert!(seen >= 15, "{seen} models");
}
