//! The packed decoding step against the general forward pass, and its independence of the batch.

use lopper_model::linear::Lora;
use lopper_model::param::Param;
use lopper_model::{Batch, DecodeWorkspace, Decoder, Model, Par, SequenceCache, normal};
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
            linear.lora = Some(Lora { a: random(3, inputs), b: random(outputs, 3), scale: 0.2, dropout: 0.5 });
        }
    }
    let mut models = vec![plain, biased, adapted];
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
    assert_eq!(models.len(), 9);
    models
}

/// Reads all but the last tokens of each sequence, which gives the caches to decode from.
fn caches(model: &Model, kept: &[usize], sequences: &[Vec<u32>]) -> Vec<SequenceCache> {
    let read = |sequence: &Vec<u32>| {
        let mut cache = SequenceCache::new(kept.len());
        let batch = Batch::new(&[&sequence[..sequence.len() - TAIL]]);
        model.hidden_states(&batch, kept, Par::Sequential, Some(&mut [&mut cache]), None).unwrap();
        cache
    };
    sequences.iter().map(read).collect()
}

/// Logits after each of the last tokens, decoded in batches of the given members.
fn decode(model: &Model, kept: &[usize], sequences: &[Vec<u32>], members: &[usize]) -> Vec<Vec<f32>> {
    let decoder = Decoder::new(model);
    let mut all = caches(model, kept, sequences);
    let mut work = DecodeWorkspace::default();
    let mut logits = vec![Vec::new(); members.len()];
    let mut caches: Vec<_> =
        all.iter_mut().enumerate().filter(|(i, _)| members.contains(i)).map(|(_, cache)| cache).collect();
    for step in 0..TAIL {
        let tokens: Vec<u32> = members.iter().map(|i| sequences[*i][sequences[*i].len() - TAIL + step]).collect();
        decoder.step(&tokens, kept, &mut caches, &mut work).unwrap();
        for (list, row) in logits.iter_mut().zip(work.logits.chunks_exact(model.config.vocab_size)) {
            list.extend_from_slice(row);
        }
    }
    logits
}

#[test]
fn steps_equal_the_whole_sequence() {
    let sequences = token_sequences(&[21, 38, 25, 50, 60, 33, 47, 29], 37, 1);
    for (m, model) in models().iter().enumerate() {
        for kept in [vec![0, 1, 2, 3], vec![1, 3]] {
            let decoded = decode(model, &kept, &sequences, &[0, 1, 2, 3, 4, 5, 6, 7]);
            for (sequence, decoded) in sequences.iter().zip(&decoded) {
                let batch = Batch::new(&[sequence]);
                let hidden = model.hidden_states(&batch, &kept, Par::Sequential, None, None).unwrap();
                let rows = sequence.len() - TAIL..sequence.len();
                let expected = model.logits(&model.normed_rows(&hidden, rows), Par::Sequential);
                let largest = expected.iter().fold(0f32, |a, v| a.max(v.abs()));
                assert!(largest > 0.5, "model {m} says nothing");
                assert_close(decoded, &expected, 2e-4);
            }
        }
    }
}

#[test]
fn a_step_does_not_depend_on_the_batch() {
    let sequences = token_sequences(&[21, 38, 25, 50, 60, 33, 47, 29], 37, 1);
    for model in models() {
        let together = decode(&model, &[0, 2, 3], &sequences, &[0, 1, 2, 3, 4, 5, 6, 7]);
        for members in [vec![0], vec![1, 4], vec![2, 3, 5, 6, 7]] {
            for (alone, i) in decode(&model, &[0, 2, 3], &sequences, &members).iter().zip(&members) {
                assert_eq!(*alone, together[*i]);
            }
        }
    }
}

#[test]
fn a_truncated_cache_continues_as_if_nothing_had_followed() {
    let model = &models()[1];
    let (kept, sequence) = ([0, 1, 3], &token_sequences(&[50], 37, 2)[0]);
    let decoder = Decoder::new(model);
    let mut work = DecodeWorkspace::default();
    for len in [1, 15, 16, 17, 32, 49] {
        let mut after = |read: usize| {
            let mut cache = SequenceCache::new(kept.len());
            let batch = Batch::new(&[&sequence[..read]]);
            model.hidden_states(&batch, &kept, Par::Sequential, Some(&mut [&mut cache]), None).unwrap();
            cache.truncate(len);
            assert_eq!(cache.len(), len);
            decoder.step(&[7], &kept, &mut [&mut cache], &mut work).unwrap();
            decoder.step(&[8], &kept, &mut [&mut cache], &mut work).unwrap();
            work.logits.clone()
        };
        assert_close(&after(50), &after(len), 1e-4);
    }
}
