//! Compensation of cuts: where it must be exact, what it may not do, and bad input.

use lopper_infer::Engine;
use lopper_model::param::Param;
use lopper_model::{Batch, Config, Forward, MatmulPrecision, Model, NormPlacement, Pack, Past, Threads, Workspace};
use lopper_prune::compensation::{check_compensation, held_out_loss, split};
use lopper_prune::{Calibration, Compensated, CompensationMethod, CompensationOptions, compensate};
use lopper_record::{LayerPosition, LayerSet, LayerSlot, NoProgress, Result};
use lopper_testkit::{
    RecordedProgress, Tiny, assert_close, logits, max_difference, tiny_config, tiny_model, token_sequences, zoo,
};
use proptest::prelude::*;

const METHODS: [CompensationMethod; 2] = [CompensationMethod::Linear, CompensationMethod::Magnitude];

fn set(layers: &[usize]) -> LayerSet<LayerPosition> {
    layers.iter().copied().collect()
}

fn text(tokens: usize, vocab: usize, seed: u64) -> Calibration {
    Calibration::new(token_sequences(&vec![20; tokens / 20], vocab, seed)).unwrap()
}

fn run(model: &Model, kept: &[usize], tokens: usize, method: CompensationMethod) -> Result<Compensated> {
    let text = text(tokens, model.config.vocab_size, 3);
    compensate(model, &set(kept), &text, &CompensationOptions::new(method), &NoProgress)
}

fn fault(result: Result<Compensated>, part: &str) {
    let error = result.unwrap_err();
    let fault = error.fault().unwrap_or_else(|| panic!("not a fault: {error:#}"));
    assert!(fault.to_string().contains(part) || format!("{fault:?}").contains(part), "{fault:?}");
}

/// A model whose layer 2 adds a linear map of what the MLP of layer 1 gave: all but that MLP write into the first half
/// of the hidden states, layer 2 reads the second half alone, its gate is constant, and the norms, by a large epsilon,
/// divide by a constant.
fn linear_gap() -> Model {
    let config = Config { rms_norm_eps: 1e8, ..tiny_config(Tiny { layers: 4, bias: true, ..Tiny::default() }) };
    let (width, half) = (config.hidden_size, config.hidden_size / 2);
    let mut model = Model::random(config, 0.4, 17).unwrap();
    let change = |param: &mut Param, f: &dyn Fn(usize, usize, f32) -> f32| {
        let columns = param.cols;
        let values = param.data.iter().enumerate().map(|(at, v)| f(at / columns, at % columns, *v)).collect();
        *param = Param::matrix(values, param.rows, param.cols);
    };
    model.visit_mut(|name, param| {
        // √eps: what the norms divide by.
        if name.contains("norm") {
            change(param, &|_, _, v| v * 1e4);
        }
        let bias = name.ends_with("bias");
        let writes = name.contains("o_proj") || name.contains("down_proj");
        if (writes && !name.contains("layers.1.mlp")) || name.contains("embed") {
            change(param, &|row, column, v| {
                let output = if name.contains("embed") || bias { column } else { row };
                if output < half || name.contains("layers.2.mlp") { v } else { 0.0 }
            });
        }
        if name.contains("layers.2.self_attn.o_proj") {
            change(param, &|_, _, _| 0.0);
        }
        if name.contains("layers.2.mlp.gate_proj") {
            change(param, &|_, _, _| if bias { 1.5 } else { 0.0 });
        }
        if name.contains("layers.2.mlp.up_proj") {
            change(param, &|_, column, v| if bias || column < half { 0.0 } else { v });
        }
        if name == "model.layers.2.mlp.down_proj.bias" {
            change(param, &|_, _, _| 0.0);
        }
    });
    assert_eq!(width, 2 * half);
    model
}

#[test]
fn removed_layers_that_are_a_linear_map_are_replaced_exactly() {
    let model = linear_gap();
    let tokens = &token_sequences(&[20], model.config.vocab_size, 8)[0];
    let uncut = logits(&model, tokens, &model.all_layers());
    let cut = logits(&model, tokens, &set(&[0, 1, 3]).slots());
    assert!(max_difference(&uncut, &cut) > 0.5, "the layer does nothing: {}", max_difference(&uncut, &cut));
    let options = CompensationOptions { ridge: 0.0, ..CompensationOptions::new(CompensationMethod::Linear) };
    let text = text(400, model.config.vocab_size, 3);
    let found = compensate(&model, &set(&[0, 1, 3]), &text, &options, &NoProgress).unwrap();
    assert!(found.gaps[0].error[0] > 1e-3 && found.gaps[0].error[1] < 1e-9, "{:?}", found.gaps);
    assert_eq!(found.changed, ["model.layers.1.mlp.down_proj.weight", "model.layers.1.mlp.down_proj.bias"]);
    let compensated = logits(&found.model, tokens, &found.model.all_layers());
    let scale = uncut.iter().fold(0f32, |most, v| most.max(v.abs()));
    assert_close(&compensated, &uncut, 1e-4 * scale);
}

#[test]
fn layers_that_do_nothing_need_no_compensation() {
    let mut model = tiny_model(Tiny { layers: 6, ..Tiny::default() }, 4);
    for layer in [2, 4] {
        let layer = &mut model.layers[layer];
        for linear in [&mut layer.o, &mut layer.down] {
            linear.weight = Param::matrix(vec![0.0; linear.weight.len()], linear.weight.rows, linear.weight.cols);
        }
    }
    let tokens = &token_sequences(&[20], 37, 8)[0];
    for method in METHODS {
        let found = run(&model, &[0, 1, 3, 5], 400, method).unwrap();
        found.gaps.iter().for_each(|gap| assert!(gap.error[0] < 1e-9 && gap.error[1] < 1e-9, "{gap:?}"));
        let compensated = logits(&found.model, tokens, &found.model.all_layers());
        assert_close(&compensated, &logits(&model, tokens, &model.all_layers()), 1e-4);
    }
}

/// Logits with the hidden states multiplied by `factors[i]` where layer `kept[i]` begins.
fn scaled_logits(model: &Model, kept: &[usize], factors: &[f64], tokens: &[u32]) -> Vec<f32> {
    let forward = Forward::new(model, Pack::No, MatmulPrecision::F32);
    let batch = forward.prepare(Batch::new(&[tokens]));
    let (mut work, mut x, mut out) = (Workspace::default(), Vec::new(), Vec::new());
    forward.embed(tokens, &mut x);
    for (layer, factor) in kept.iter().zip(factors) {
        x.iter_mut().for_each(|v| *v *= *factor as f32);
        forward.layer(LayerSlot(*layer), &batch, &x, Past::Batch, Threads::One, &mut work, &mut out);
        std::mem::swap(&mut x, &mut out);
    }
    let mut logits = Vec::new();
    forward.logits(Threads::One, &forward.normed_rows(&x, 0..tokens.len()), &mut logits);
    logits
}

#[test]
fn magnitude_is_the_hidden_states_scaled_at_the_seam_in_every_family() {
    let kept = [1, 3, 4, 6];
    for (name, config) in zoo(8, 37) {
        // The epsilon is what folding is not exact in.
        let mut model = Model::random(Config { rms_norm_eps: 1e-12, ..config }, 0.3, 9).unwrap();
        // Later layers add more, so that no factor is 1.
        for (index, layer) in model.layers.iter_mut().enumerate() {
            let last = [Some(&mut layer.down.weight), layer.norms.after_mlp.as_mut()].into_iter().flatten().last();
            let param = last.unwrap();
            let values = param.data.iter().map(|v| v * (1.0 + index as f32)).collect();
            *param = Param::matrix(values, param.rows, param.cols);
        }
        let found = run(&model, &kept, 200, CompensationMethod::Magnitude).unwrap();
        let factors: Vec<f64> = found.gaps.iter().map(|gap| gap.factor.unwrap()).collect();
        assert!(factors.iter().all(|factor| (factor - 1.0).abs() > 0.02), "{name}: {factors:?}");
        assert_eq!(factors.len(), 4);
        let tokens = &token_sequences(&[15], 37, 2)[0];
        let expected = scaled_logits(&model, &kept, &[factors[0], factors[1], 1.0, factors[2]], tokens);
        let got = logits(&found.model, tokens, &found.model.all_layers());
        let plain = logits(&model, tokens, &set(&kept).slots());
        let scale = expected.iter().fold(0f32, |most, v| most.max(v.abs()));
        assert!(max_difference(&plain, &expected) > 1e-3 * scale, "{name}");
        assert!(
            max_difference(&got, &expected) < 2e-4 * scale,
            "{name}: {} of {scale}",
            max_difference(&got, &expected)
        );
        assert!(found.gaps.iter().all(|gap| gap.removed.len() == 1 || gap.removed == set(&[0])), "{:?}", found.gaps);
    }
}

#[test]
fn families_with_a_norm_after_the_mlp_have_no_linear_map() {
    for (name, config) in zoo(4, 37) {
        let normed = config.norm_placement != NormPlacement::Before;
        let model = Model::random(config, 0.3, 9).unwrap();
        match run(&model, &[0, 1, 3], 400, CompensationMethod::Linear) {
            Ok(found) => {
                assert!(!normed, "{name}");
                assert!(found.gaps[0].error[1] < found.gaps[0].error[0], "{name}: {:?}", found.gaps);
            }
            Err(error) => {
                assert!(normed && error.fault().is_some(), "{name}: {error:#}");
            }
        }
    }
}

#[test]
fn an_adapter_is_merged_before_the_weights_change() {
    let plain = tiny_model(Tiny { layers: 4, ..Tiny::default() }, 4);
    let mut adapted = plain.clone();
    for layer in &mut adapted.layers {
        let (rows, cols) = (layer.down.weight.rows, layer.down.weight.cols);
        let wave = |n: usize, f: f32| (0..n).map(|i| (i as f32 * f).sin() * 0.3).collect::<Vec<_>>();
        layer.down.lora = Some(lopper_model::linear::Lora {
            a: Param::matrix(wave(2 * cols, 0.7), 2, cols),
            b: Param::matrix(wave(2 * rows, 1.1), rows, 2),
            scale: 0.5,
            dropout: 0.0,
            magnitude: None,
        });
    }
    let mut merged = adapted.clone();
    merged.layers.iter_mut().for_each(|layer| layer.down.merge());
    let tokens = &token_sequences(&[20], 37, 8)[0];
    for method in METHODS {
        let [a, b] = [&adapted, &merged].map(|model| run(model, &[0, 1, 3], 400, method).unwrap().model);
        let [a, b] = [a, b].map(|model| logits(&model, tokens, &model.all_layers()));
        assert_close(&a, &b, 1e-3);
    }
}

#[test]
fn what_cannot_be_compensated_is_a_fault() {
    use CompensationMethod::{Linear, Magnitude};
    let model = tiny_model(Tiny { layers: 5, ..Tiny::default() }, 4);
    fault(run(&model, &[1, 2, 3], 400, Linear), "begins at the first layer");
    fault(run(&model, &[0, 1, 2], 400, Magnitude), "last layers");
    fault(run(&model, &[0, 1, 4], 20, Linear), "at least 24 tokens");
    for method in METHODS {
        fault(run(&model, &[0, 1, 2, 3, 4], 400, method), "nothing to compensate");
        fault(run(&model, &[], 400, method), "nothing to compensate");
        assert!(run(&model, &[0, 7], 400, method).is_err());
        let outside = Calibration::new(vec![vec![36; 50], vec![37]]).unwrap();
        let options = CompensationOptions::new(method);
        fault(compensate(&model, &set(&[0, 1, 4]), &outside, &options, &NoProgress), "outside the vocabulary");
        for bad in [f32::NAN, f32::INFINITY] {
            let mut damaged = model.clone();
            let mut values = damaged.layers[2].down.weight.values().into_owned();
            values[7] = bad;
            damaged.layers[2].down.weight = Param::matrix(values, 24, 40);
            fault(run(&damaged, &[0, 1, 4], 400, method), "not finite");
        }
    }
    // What one method cannot, the other can.
    run(&model, &[1, 2, 3], 20, Magnitude).unwrap();
    run(&model, &[0, 1, 2], 400, Linear).unwrap();
    // The same check, before any work.
    assert!(check_compensation(&model.config, &set(&[1, 2]), 400, Linear).is_err());
    check_compensation(&model.config, &set(&[0, 2]), 400, Linear).unwrap();
}

#[test]
fn an_interrupt_stops_it() {
    let model = tiny_model(Tiny { layers: 5, ..Tiny::default() }, 4);
    for method in METHODS {
        let progress = RecordedProgress::interrupting_at(2);
        let text = text(400, 37, 3);
        let error = compensate(&model, &set(&[0, 1, 4]), &text, &CompensationOptions::new(method), &progress);
        assert!(error.unwrap_err().is_interrupted());
    }
}

#[test]
fn held_out_losses_are_those_of_the_models() {
    let model = tiny_model(Tiny { layers: 5, ..Tiny::default() }, 4);
    let text = split(&text(600, 37, 3), 20, 24).unwrap();
    let kept = set(&[0, 2, 4]);
    let options = CompensationOptions::new(CompensationMethod::Linear);
    let found = compensate(&model, &kept, &text.fit, &options, &NoProgress).unwrap();
    let engine = Engine::new(model.clone(), 2).unwrap();
    let loss = held_out_loss(&engine, &kept, &found.model, &text.held_out, &NoProgress).unwrap();
    let mean = |model: &Model, layers: &LayerSet<LayerSlot>| {
        let engine = Engine::new(model.clone(), 1).unwrap();
        let logprobs = engine.token_logprobs(layers, text.held_out.sequences(), &NoProgress).unwrap();
        let all: Vec<f64> = logprobs.iter().flatten().flatten().map(|v| -f64::from(*v)).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    assert!((loss.uncut - mean(&model, &model.all_layers())).abs() < 1e-9);
    assert!((loss.cut - mean(&model, &kept.slots())).abs() < 1e-9);
    assert!((loss.compensated - mean(&found.model, &found.model.all_layers())).abs() < 1e-9);
    let [low, high] = loss.change_ci95.unwrap();
    assert!(low <= loss.compensated - loss.cut && loss.compensated - loss.cut <= high);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The plain cut is among what the fit chooses from, so a gap is never farther from its target after the fit; and
    /// kept layers before the first gap and after the last stay as they are.
    #[test]
    fn a_fit_never_harms_what_it_fits(kept in proptest::collection::btree_set(1usize..7, 1..6), seed in 0u64..1000) {
        let model = tiny_model(Tiny { layers: 7, bias: seed % 2 == 0, qk_norm: seed % 3 == 0, ..Tiny::default() }, seed);
        let kept: Vec<usize> = [0].into_iter().chain(kept).collect();
        if kept.len() == 7 {
            return Ok(());
        }
        let found = run(&model, &kept, 300, CompensationMethod::Linear).unwrap();
        for gap in &found.gaps {
            prop_assert!(gap.error[1] <= gap.error[0] * (1.0 + 1e-6) + 1e-9, "{:?}", gap);
        }
        let removed: usize = found.gaps.iter().map(|gap| gap.removed.len()).sum();
        prop_assert_eq!(removed + kept.len(), 7);
        let seams: Vec<usize> = (0..kept.len()).filter(|at| kept.get(at + 1).copied().unwrap_or(7) != kept[*at] + 1).collect();
        prop_assert_eq!(seams.len(), found.gaps.len());
        for name in &found.changed {
            let layer: usize = name.split('.').nth(2).unwrap().parse().unwrap();
            prop_assert!(seams.contains(&layer) && name.contains("mlp.down_proj"), "{}", name);
        }
    }

    /// The order of the sequences and how they are batched change nothing but the last digits.
    #[test]
    fn the_order_of_the_text_does_not_matter(seed in 0u64..1000) {
        let model = tiny_model(Tiny { layers: 5, ..Tiny::default() }, seed);
        let mut sequences = token_sequences(&[9, 30, 1, 22, 40, 40, 17], 37, seed);
        let results = [false, true].map(|reversed| {
            if reversed {
                sequences.reverse();
            }
            let text = Calibration::new(sequences.clone()).unwrap();
            METHODS.map(|method| {
                compensate(&model, &set(&[0, 2, 4]), &text, &CompensationOptions::new(method), &NoProgress).unwrap()
            })
        });
        for (a, b) in results[0].iter().zip(&results[1]) {
            for (x, y) in a.gaps.iter().zip(&b.gaps) {
                prop_assert!((x.error[1] - y.error[1]).abs() < 1e-5, "{:?} {:?}", x, y);
            }
        }
    }
}
