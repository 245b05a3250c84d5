use super::*;
use crate::calibration::Calibration;
use lopper_infer::Engine;
use lopper_model::param::Param;
use lopper_model::{Config, Model};
use lopper_record::NoProgress;
use lopper_testkit::{RecordedProgress, Tiny, tiny_config};

fn model(layers: usize) -> Model {
    let config = Config {
        vocab_size: 31,
        hidden_size: 20,
        intermediate_size: 24,
        max_position_embeddings: 4096,
        ..tiny_config(Tiny { layers, qk_norm: true, ..Tiny::default() })
    };
    Model::random(config, 0.3, 5).unwrap()
}

/// Multiplies all values of a parameter.
fn scale(param: &mut Param, factor: f32) {
    *param = Param::matrix(param.data.iter().map(|w| w * factor).collect(), param.rows, param.cols);
}

fn text(lengths: &[usize]) -> Calibration {
    let sequence = |(i, n): (usize, &usize)| (0..*n).map(|t| ((t * 7 + i * 5 + t * t) % 31) as u32).collect();
    Calibration::new(lengths.iter().enumerate().map(sequence).collect()).unwrap()
}

fn measured(model: &Model, text: &Calibration) -> Result<LayerScores> {
    let what = Measures { perplexity: true, linear: true };
    measure(&Engine::new(model.clone(), 2)?, text, what, &NoProgress)
}

fn scores(layers: usize) -> LayerScores {
    let lists = |n: usize| (1..=n).map(|size| (0..=n - size).map(|l| 1.0 + l as f64).collect()).collect();
    LayerScores {
        block_influence: vec![0.5; layers],
        angular: BlockScores::new(lists(layers)),
        angular_mean: BlockScores::new(lists(layers)),
        relative_magnitude: (0..layers).map(|l| 1.0 / (1.0 + l as f64)).collect(),
        tokens: 1,
        sequences: 1,
        angular_mean_tokens: 1,
        perplexity: None,
        linear_r2: None,
        taylor: None,
    }
}

fn choose(name: &str, scores: Option<&LayerScores>, num_layers: usize, remove: usize, seed: u64) -> Vec<usize> {
    let request = Request { num_layers, remove, scores, seed };
    select(criterion(name).unwrap(), &request).unwrap().dropped.into()
}

#[test]
fn grouping_and_threads_do_not_change_the_scores() {
    let model = model(4);
    // 30 sequences of 300 tokens are several groups; each alone is one.
    let many = text(&[300; 30]);
    let together = measured(&model, &many).unwrap();
    let alone: Vec<LayerScores> = many
        .sequences()
        .iter()
        .map(|s| measured(&model, &Calibration::new(vec![s.clone()]).unwrap()).unwrap())
        .collect();
    for layer in 0..4 {
        let mean: f64 = alone.iter().map(|s| s.block_influence[layer]).sum::<f64>() / 30.0;
        assert!((together.block_influence[layer] - mean).abs() < 1e-7);
    }
    for (size, distances) in together.angular.sizes() {
        for (first, distance) in distances.iter().enumerate() {
            let mean: f64 = alone.iter().map(|s| s.angular.of_size(size).unwrap()[first]).sum::<f64>() / 30.0;
            assert!((distance - mean).abs() < 1e-6, "{size} {first}");
        }
    }
    let what = Measures { perplexity: true, linear: true };
    let one = Engine::new(model.clone(), 1).unwrap().with_memory(1 << 20);
    assert_eq!(measure(&one, &many, what, &NoProgress).unwrap(), together);
}

#[test]
fn a_layer_that_does_nothing_scores_zero_everywhere() {
    let mut model = model(3);
    scale(&mut model.layers[1].o.weight, 0.0);
    scale(&mut model.layers[1].down.weight, 0.0);
    let scores = measured(&model, &text(&[40, 3])).unwrap();
    assert!(scores.block_influence[1].abs() < 1e-15);
    assert!(scores.relative_magnitude[1] < 1e-7);
    assert!(scores.angular.of_size(1).unwrap()[1] < 1e-7);
    assert!(scores.angular_mean.of_size(1).unwrap()[1] < 1e-7);
    assert!(scores.block_influence[0] > 1e-3 && scores.block_influence[2] > 1e-3);
    let perplexity = scores.perplexity.as_ref().unwrap();
    assert!(perplexity.rises()[1].abs() < 1e-12 && perplexity.mean_nll > 0.0);
    assert!(scores.linear_r2.as_ref().unwrap()[1] > 0.99);
    for name in ["bi", "angular", "angular-mean", "relative-magnitude", "perplexity", "linear"] {
        assert_eq!(choose(name, Some(&scores), 3, 1, 0), [1], "{name}");
    }
    assert_eq!((scores.tokens, scores.sequences, scores.angular_mean_tokens), (43, 2, 43));
    // Across blocks of one layer, one sequence of one token makes all averages the same.
    let single = measured(&model, &text(&[1])).unwrap();
    assert_eq!(single.angular, single.angular_mean);
    assert_eq!(single.perplexity, None);
}

#[test]
fn blocks_are_written_by_size_and_read_back() {
    let scores = measured(&model(3), &text(&[9])).unwrap();
    let json = serde_json::to_value(&scores).unwrap();
    assert_eq!(json["angular"]["1"].as_array().unwrap().len(), 3);
    assert_eq!(json["angular"]["3"].as_array().unwrap().len(), 1);
    let back: LayerScores = serde_json::from_value(json).unwrap();
    assert_eq!(back, scores);
    for bad in [r#"{"2":[0.1]}"#, r#"{"x":[0.1]}"#, r#"{"0":[0.1]}"#] {
        assert!(serde_json::from_str::<BlockScores>(bad).is_err());
    }
}

#[test]
fn ties_take_the_later_layer() {
    let mut flat = scores(6);
    assert_eq!(choose("bi", Some(&flat), 6, 2, 0), [4, 5]);
    flat.block_influence = vec![0.3, 0.1, 0.2, 0.1, 0.4, 0.5];
    assert_eq!(choose("bi", Some(&flat), 6, 1, 0), [3]);
    assert_eq!(choose("bi", Some(&flat), 6, 3, 0), [1, 2, 3]);
    assert_eq!(choose("angular", Some(&flat), 6, 2, 0), [0, 1]);
    flat.angular = BlockScores::new(vec![vec![0.2; 6], vec![0.3, 0.1, 0.1, 0.2, 0.5]]);
    assert_eq!(choose("angular", Some(&flat), 6, 2, 0), [2, 3]);
    assert_eq!(choose("relative-magnitude", Some(&flat), 6, 2, 0), [4, 5]);
}

#[test]
fn reverse_order_and_its_variants() {
    assert_eq!(choose("reverse", None, 12, 3, 0), [9, 10, 11]);
    assert_eq!(choose("reverse-keep-1", None, 12, 3, 0), [8, 9, 10]);
    assert_eq!(choose("reverse-keep-2", None, 12, 3, 0), [7, 8, 9]);
    let request = Request { num_layers: 4, remove: 3, scores: None, seed: 0 };
    let error = select(criterion("reverse-keep-2").unwrap(), &request).unwrap_err();
    assert!(error.fault().is_some());
}

#[test]
fn random_is_seeded_uniform_and_nested() {
    let mut counts = [0usize; 8];
    for seed in 0..4000 {
        let three = choose("random", None, 8, 3, seed);
        let two = choose("random", None, 8, 2, seed);
        assert!(three.windows(2).all(|w| w[0] < w[1]) && two.iter().all(|l| three.contains(l)));
        for layer in three {
            counts[layer] += 1;
        }
    }
    // 4000 draws with probability 3/8: five standard deviations are 153.
    assert!(counts.iter().all(|n| n.abs_diff(1500) < 153), "{counts:?}");
    assert_eq!(choose("random", None, 8, 3, 7), choose("random", None, 8, 3, 7));
}

#[test]
fn removing_none_or_all_is_the_users_fault() {
    for remove in [0, 4, 9] {
        let request = Request { num_layers: 4, remove, scores: None, seed: 0 };
        let error = select(criterion("reverse").unwrap(), &request).unwrap_err();
        assert!(error.fault().is_some());
    }
    assert!(criterion("bo").unwrap_err().fault().unwrap().expected.as_ref().unwrap().contains("`bi`"));
}

#[test]
fn what_cannot_be_measured_is_the_users_fault() {
    let mut broken = model(3);
    scale(&mut broken.layers[1].down.weight, f32::NAN);
    let error = measured(&broken, &text(&[5])).unwrap_err();
    assert!(error.fault().unwrap().message.contains("layer 1"), "{error}");

    let unknown = Calibration::new(vec![vec![3, 31]]).unwrap();
    let error = measured(&model(2), &unknown).unwrap_err();
    assert!(error.fault().unwrap().got.as_ref().unwrap().contains("31"));
}

/// Against the change of the loss itself when a layer's weights shrink a little.
#[test]
fn gradients_tell_what_weights_are_worth() {
    let model = model(3);
    let text = text(&[30, 12]);
    let progress = RecordedProgress::default();
    let sums = taylor(&model, &text, &progress).unwrap();
    let step = progress.last("gradients");
    assert_eq!((step.unit, step.done, step.total), ("tokens", 42, 42));
    assert!(sums.iter().all(|sum| *sum > 0.0));
    let loss = |model: &Model| {
        let engine = Engine::new(model.clone(), 1).unwrap();
        let what = Measures { perplexity: true, linear: false };
        measure(&engine, &text, what, &NoProgress).unwrap().perplexity.unwrap().mean_nll
    };
    // One matrix alone: Σ w·g is the derivative of the loss by a factor on it, and no larger than
    // Σ |w·g| of its layer.
    for (layer, sum) in sums.iter().enumerate() {
        let scaled = |factor: f32| {
            let mut model = model.clone();
            scale(&mut model.layers[layer].down.weight, factor);
            loss(&model)
        };
        let slope = (scaled(1.01) - scaled(0.99)) / 0.02;
        assert!(slope.abs() <= sum * 1.001, "{slope} {sum}");
    }
    let mut still = model.clone();
    scale(&mut still.layers[1].o.weight, 0.0);
    scale(&mut still.layers[1].down.weight, 0.0);
    // A layer that adds nothing is worth nothing to first order.
    let taylor = Some(taylor(&still, &text, &NoProgress).unwrap());
    assert_eq!(taylor.as_ref().unwrap()[1], 0.0);
    let scores = LayerScores { taylor, ..scores(3) };
    assert_eq!(choose("taylor", Some(&scores), 3, 1, 0), [1]);
}
