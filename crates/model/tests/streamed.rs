//! Weights that stay in their file give what resident weights give.

use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{
    Batch, Checkpoint, Config, Forward, MatmulPrecision, Model, Pack, SequenceCache, Target, Threads, TrainBatch,
    TrainOptions, TrainWorkspace,
};
use lopper_record::{LayerSet, LayerSlot};
use lopper_testkit::{assert_close, fixture, fixtures, token_sequences};
use std::sync::Arc;

fn logits(model: &Model, sequences: &[Vec<u32>], kept: &LayerSet<LayerSlot>, threads: Threads) -> Vec<f32> {
    let batch = Batch::new(sequences);
    let hidden = model.hidden_states(&batch, kept, threads, None, None).unwrap();
    model.logits(&model.normed_rows(&hidden, 0..batch.len()), threads)
}

#[test]
fn every_fixture_gives_the_same_logits() {
    for name in fixtures() {
        let checkpoint = Arc::new(Checkpoint::open(&fixture(&name)).unwrap());
        let (resident, streamed) =
            (Model::from_checkpoint(&checkpoint).unwrap(), Model::streamed(&checkpoint).unwrap());
        let mapped = Model::mapped(&checkpoint).unwrap();
        assert!(streamed.is_streamed() && !mapped.is_streamed() && mapped.in_file() && !resident.in_file());
        assert_eq!(streamed.parameter_count(), resident.parameter_count(), "{name}");
        let sequences = token_sequences(&[9, 14], checkpoint.config().vocab_size, 3);
        for kept in [resident.all_layers(), LayerSet::from([1])] {
            // In the same order of sums where the dtype is the same, in another where it is not.
            let expected = logits(&resident, &sequences, &kept, Threads::One);
            let found = logits(&mapped, &sequences, &kept, Threads::Pool);
            assert_close(&found, &expected, 2e-5);
            assert_eq!(logits(&streamed, &sequences, &kept, Threads::One), found, "{name}");
        }
    }
}

/// A matrix of more than a million values is read in several blocks.
#[test]
fn matrices_of_several_blocks_and_every_dtype() {
    let directory = tempfile::tempdir().unwrap();
    let config = Config { vocab_size: 40_000, num_key_value_heads: 2, ..Config::plain(2, 4, 8) };
    let model = Model::random(config, 0.3, 1).unwrap();
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        model.save(directory.path(), &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
        let checkpoint = Arc::new(Checkpoint::open(directory.path()).unwrap());
        let (resident, streamed) =
            (Model::from_checkpoint(&checkpoint).unwrap(), Model::streamed(&checkpoint).unwrap());
        let sequences = token_sequences(&[7], 40_000, 2);
        for threads in [Threads::One, Threads::Pool] {
            assert_close(
                &logits(&streamed, &sequences, &LayerSet::from([0, 1]), threads),
                &logits(&resident, &sequences, &LayerSet::from([0, 1]), threads),
                1e-5,
            );
        }
        let hidden = resident
            .hidden_states(&Batch::new(&sequences), &LayerSet::from([0, 1]), Threads::Pool, None, None)
            .unwrap();
        let normed = resident.normed_rows(&hidden, 0..7);
        let tokens = [39_999, 0, 5, 20_000, 32_768, 32_767, 1];
        let targets: Vec<Target> = tokens.iter().zip(0..).map(|(&token, row)| Target { row, token }).collect();
        let [ours, theirs] = [&streamed, &resident].map(|model| {
            Forward::new(model, Pack::No, MatmulPrecision::F32).token_logprobs(Threads::Pool, &normed, &targets)
        });
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert!((ours.logprob - theirs.logprob).abs() < 1e-5 && ours.greedy == theirs.greedy);
        }
    }
}

#[test]
fn caches_work_and_training_is_refused() {
    let checkpoint = Arc::new(Checkpoint::open(&fixture("llama/untied")).unwrap());
    let mut streamed = Model::streamed(&checkpoint).unwrap();
    let (kept, text) = (streamed.all_layers(), token_sequences(&[8], 48, 1).remove(0));
    let mut cache = SequenceCache::new(kept.len());
    let mut last = Vec::new();
    for (past, token) in text.iter().enumerate() {
        let batch = Batch::continued([(std::slice::from_ref(token), past)]);
        let hidden = streamed.hidden_states(&batch, &kept, Threads::One, Some(&mut [&mut cache]), None).unwrap();
        last = streamed.logits(&streamed.normed_rows(&hidden, [0]), Threads::One);
    }
    let whole = logits(&streamed, std::slice::from_ref(&text), &kept, Threads::One);
    assert_close(&last, &whole[whole.len() - last.len()..], 1e-4);

    let mut gradients = streamed.set_trainable(|name| name.contains("norm"));
    let weights = vec![1.0; text.len()];
    let data = TrainBatch::new([(text.as_slice(), weights.as_slice())]);
    let (options, mut workspace) = (TrainOptions::default(), TrainWorkspace::default());
    let error = streamed.loss_and_gradients(&data, &kept, options, &mut workspace, &mut gradients);
    assert!(error.unwrap_err().to_string().contains("streamed"));
}
