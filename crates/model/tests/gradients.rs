//! Every trainable parameter must receive a gradient, and the right one: central differences in
//! the direction of random vectors, for plain, QK-normed, biased and adapted models.

use lopper_model::linear::{Dropout, Lora};
use lopper_model::param::{Gradients, Param};
use lopper_model::{
    Config, Divergence, MatmulPrecision, Model, QkNorm, Teacher, Threads, TrainBatch, TrainOptions, TrainWorkspace,
    normal,
};
use lopper_record::{LayerPosition, LayerSet};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

fn config(qk_norm: bool, bias: bool, tied: bool) -> Config {
    Config {
        vocab_size: 23,
        hidden_size: 12,
        num_key_value_heads: 2,
        intermediate_size: 20,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: tied,
        qkv_bias: bias,
        o_bias: bias,
        mlp_bias: bias,
        qk_norm: if qk_norm { QkNorm::Head } else { QkNorm::None },
        max_position_embeddings: 64,
        ..Config::plain(3, 4, 6)
    }
}

fn data() -> TrainBatch {
    // Longer than one block of query rows in one sequence would be slow here; lengths differ.
    let docs: Vec<Vec<u32>> =
        [5usize, 2, 9].iter().map(|n| (0..*n).map(|i| (i * 7 + n) as u32 % 23).collect()).collect();
    let weights: Vec<Vec<f32>> =
        docs.iter().map(|d| d.iter().map(|t| if t % 3 == 0 { 0.0 } else { 0.5 }).collect()).collect();
    TrainBatch::new(docs.iter().zip(&weights).map(|(d, w)| (d.as_slice(), w.as_slice())))
}

fn loss(model: &Model, data: &TrainBatch, kept: &[usize], options: TrainOptions, grads: &mut Gradients) -> f64 {
    taught_loss(model, data, kept, None, options, grads)
}

fn taught_loss(
    model: &Model,
    data: &TrainBatch,
    kept: &[usize],
    teacher: Option<Teacher<'_>>,
    options: TrainOptions,
    grads: &mut Gradients,
) -> f64 {
    let kept = kept.iter().copied().collect();
    let workspace = &mut TrainWorkspace::default();
    match teacher {
        None => model.loss_and_gradients(data, &kept, options, workspace, grads).unwrap(),
        teacher => model.taught(data, &kept, teacher, options, workspace, grads).unwrap().total,
    }
}

fn check(
    model: Model,
    trainable: impl Fn(&str) -> bool,
    kept: &[usize],
    options: TrainOptions,
    reached: impl Fn(&str) -> bool,
) {
    check_taught(model, None, trainable, kept, options, reached);
}

fn check_taught(
    mut model: Model,
    teacher: Option<Teacher<'_>>,
    trainable: impl Fn(&str) -> bool,
    kept: &[usize],
    options: TrainOptions,
    reached: impl Fn(&str) -> bool,
) {
    let data = data();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    model.visit_mut(|name, param| {
        // Away from zeros and ones, so that no term vanishes by accident.
        for v in Arc::make_mut(&mut param.data) {
            *v += 0.2 * normal(&mut rng) * if name.contains("norm") { 1.0 } else { 1.5 };
        }
    });
    let mut grads = model.set_trainable(trainable);
    taught_loss(&model, &data, kept, teacher, options, &mut grads);
    let gradients = grads.clone(); // the loss below adds to `grads` again
    let names: Vec<(String, Param)> = model.parameters();
    let mut checked = 0;
    for (name, param) in &names {
        let Some(slot) = param.slot else { continue };
        let gradient = gradients.slots[slot].clone();
        if !reached(name) {
            assert!(gradient.iter().all(|g| *g == 0.0), "{name} lies in a removed layer but has a gradient");
            continue;
        }
        assert!(gradient.iter().any(|g| *g != 0.0), "{name} received no gradient");
        for _ in 0..3 {
            let direction: Vec<f32> = (0..param.len()).map(|_| normal(&mut rng)).collect();
            let length = direction.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>().sqrt();
            let analytic: f64 =
                gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum::<f64>() / length;
            let h = 4e-3;
            let mut shifted = |sign: f64| {
                let mut other = model.clone();
                other.visit_mut(|n, p| {
                    if n == name {
                        for (v, d) in Arc::make_mut(&mut p.data).iter_mut().zip(&direction) {
                            *v += (sign * h * f64::from(*d) / length) as f32;
                        }
                    }
                });
                taught_loss(&other, &data, kept, teacher, options, &mut grads)
            };
            let numeric = (shifted(1.0) - shifted(-1.0)) / (2.0 * h);
            let tolerance = 2e-3 + 5e-3 * analytic.abs();
            assert!((numeric - analytic).abs() < tolerance, "{name}: analytic {analytic}, numeric {numeric}");
        }
        checked += 1;
    }
    assert!(checked > 5, "only {checked} parameters were checked");
}

const OPTIONS: TrainOptions = TrainOptions {
    threads: Threads::One,
    precision: MatmulPrecision::F32,
    scale: 0.25,
    dropout: None,
    checkpointing: false,
};

#[test]
fn full_finetuning_of_a_tied_model() {
    check(Model::random(config(false, false, true), 0.3, 1).unwrap(), |_| true, &[0, 1, 2], OPTIONS, |_| true);
}

#[test]
fn full_finetuning_with_norms_biases_and_threads() {
    let options = TrainOptions { threads: Threads::Pool, ..OPTIONS };
    check(Model::random(config(true, true, false), 0.3, 2).unwrap(), |_| true, &[0, 1, 2], options, |_| true);
}

#[test]
fn a_cut_learns_from_the_whole_model() {
    let whole = Model::random(config(true, false, false), 0.3, 6).unwrap();
    let all = LayerSet::all(3);
    for (reverse, hidden_states) in [(0.0, 0.0), (1.0, 0.5), (0.4, 0.0)] {
        let divergence = Divergence { temperature: 1.5, reverse, targets: 0.2 };
        let teacher = Some(Teacher { model: &whole, kept: &all, divergence, hidden_states });
        let cut = Model::random(config(true, false, false), 0.3, 7).unwrap();
        check_taught(cut, teacher, |_| true, &[0, 2], OPTIONS, |name| !name.contains("layers.1."));
    }
}

#[test]
fn a_teacher_with_other_tokens_is_refused() {
    let (student, all) = (Model::random(config(true, false, false), 0.3, 6).unwrap(), LayerSet::all(3));
    let other = Config { vocab_size: 29, ..config(true, false, false) };
    let other = Model::random(other, 0.3, 6).unwrap();
    let divergence = Divergence { temperature: 1.0, reverse: 0.0, targets: 0.0 };
    let teacher = Teacher { model: &other, kept: &all, divergence, hidden_states: 0.0 };
    let (mut workspace, mut grads) = (TrainWorkspace::default(), Gradients::default());
    let error = student.taught(&data(), &all, Some(teacher), OPTIONS, &mut workspace, &mut grads).unwrap_err();
    assert!(error.to_string().contains("29"), "{error}");
}

#[test]
fn removed_layers_get_no_gradient() {
    let model = Model::random(config(true, false, false), 0.3, 3).unwrap();
    check(model, |_| true, &[0, 2], OPTIONS, |name| !name.contains("layers.1."));
}

#[test]
fn adapters_with_dropout_and_checkpointing() {
    let mut model = Model::random(config(true, false, true), 0.3, 4).unwrap();
    for layer in &mut model.layers {
        for (_, linear) in layer.linears_mut() {
            let (inputs, outputs) = (linear.inputs(), linear.outputs());
            let zeros = |rows: usize, cols: usize| Param::matrix(vec![0.0; rows * cols], rows, cols);
            linear.lora =
                Some(Lora { a: zeros(4, inputs), b: zeros(outputs, 4), scale: 1.5, dropout: 0.3, magnitude: None });
        }
    }
    let options = TrainOptions { dropout: Some(Dropout { seed: 11 }), checkpointing: true, ..OPTIONS };
    check(model, |name| name.contains("lora_"), &[0, 1, 2], options, |_| true);
}

#[test]
fn checkpointing_changes_nothing() {
    let mut model = Model::random(config(true, false, true), 0.3, 5).unwrap();
    let mut a = model.set_trainable(|_| true);
    let mut b = a.clone();
    let data = data();
    let plain = loss(&model, &data, &[0, 1, 2], OPTIONS, &mut a);
    let again = loss(&model, &data, &[0, 1, 2], TrainOptions { checkpointing: true, ..OPTIONS }, &mut b);
    assert_eq!(plain, again);
    assert_eq!(a.slots, b.slots);
}

#[test]
fn what_the_families_add() {
    for (seed, (_, config)) in (20..).zip(lopper_testkit::zoo(3, 23)) {
        check(Model::random(config, 0.3, seed).unwrap(), |_| true, &[0, 1, 2], OPTIONS, |_| true);
    }
}

#[test]
fn layers_before_the_first_trained_one_change_no_gradient() {
    let data = data();
    let whole = Model::random(config(true, false, false), 0.3, 7).unwrap();
    let kept = LayerSet::<LayerPosition>::from([0, 2]);
    let copy = |model: &Model| {
        let mut copy = model.clone();
        copy.visit_mut(|_, param| param.data = Arc::new(param.data.to_vec()));
        copy
    };
    let (all, layers) = (LayerSet::all(3), LayerSet::all(2));
    let divergence = Divergence { temperature: 2.0, reverse: 0.5, targets: 0.1 };
    let last = |name: &str| ["model.layers.1.", "model.norm", "lm_head"].iter().any(|part| name.starts_with(part));
    let run = |mut student: Model, trained: &dyn Fn(&str) -> bool, checkpointing| {
        let mut gradients = student.set_trainable(trained);
        let teacher = Teacher { model: &whole, kept: &all, divergence, hidden_states: 0.3 };
        let options = TrainOptions { checkpointing, ..TrainOptions::default() };
        let workspace = &mut TrainWorkspace::default();
        let loss = student.taught(&data, &layers, Some(teacher), options, workspace, &mut gradients).unwrap();
        let of = |(name, param): (String, Param)| Some((name, gradients.slots[param.slot?].clone()));
        (loss, student.parameters().into_iter().filter_map(of).filter(|(name, _)| last(name)).collect::<Vec<_>>())
    };
    let everything = run(copy(&whole.keep(&kept)), &|_| true, false);
    assert!(everything.1.len() > 10 && everything.1.iter().all(|(_, values)| values.iter().any(|g| *g != 0.0)));
    for checkpointing in [false, true] {
        assert_eq!(run(copy(&whole.keep(&kept)), &last, checkpointing), everything, "apart from the teacher's");
        assert_eq!(run(whole.keep(&kept), &last, checkpointing), everything, "the same weights as the teacher's");
    }
}
