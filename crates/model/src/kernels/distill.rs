//! The head and the divergence from a teacher's distribution together, in chunks of rows, so that neither model's
//! logits are ever held whole.

use super::gemm::{linear_input_grad, linear_weight_grad};
use super::loss::{Head, LogitBuffers, at_least, chunk_rows, sum_exp};
use super::{LANES, MatmulOptions, exp, max, reduce, vectorised};

/// How a student's next-token distribution s is compared with its teacher's, t: of each row
/// a · (−log s(target)) + (1 − a) · T² · ((1 − r) · KL(t‖s) + r · KL(s‖t)), the divergences between
/// softmax(logits / T). T² keeps the size of gradients whatever the temperature (Hinton et al., arXiv 1503.02531).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Divergence {
    /// T, above 0.
    pub temperature: f32,
    /// r, from 0 (forward, which covers the teacher) to 1 (reverse, which seeks its modes).
    pub reverse: f32,
    /// a, from 0 to 1: the part of the targets' own negative log-likelihood.
    pub targets: f32,
}

/// Summed losses of rows, each times its weight.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DistillationLoss {
    /// What is minimised.
    pub total: f64,
    /// The negative log-likelihood of the targets, in nats.
    pub targets: f64,
}

/// Rows of a model: normed hidden states `[n, width]`, and its head.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// `[n, width]`.
    pub hidden: &'a [f32],
    /// The head that makes their logits.
    pub head: Head<'a>,
}

/// Σ wᵢ · loss of row i, with gradients for the student: `dhidden` is written, `dhead` added to where one is given.
#[allow(clippy::too_many_arguments, reason = "operands and shapes are passed one by one")]
pub fn distillation(
    options: MatmulOptions,
    buffers: &mut LogitBuffers,
    student: Rows<'_>,
    teacher: Rows<'_>,
    (targets, weights): (&[u32], &[f32]),
    divergence: Divergence,
    dhidden: Option<&mut [f32]>,
    mut dhead: Option<&mut [f32]>,
) -> DistillationLoss {
    let (vocab, width, n) = (student.head.vocab(), student.head.width(), targets.len());
    assert!(student.hidden.len() == n * width && weights.len() == n, "distillation: shapes disagree");
    let teacher_width = teacher.head.width();
    assert!(
        teacher.head.vocab() == vocab && teacher.hidden.len() == n * teacher_width,
        "distillation: two vocabularies"
    );
    let rows = chunk_rows(vocab, options.precision);
    let logits = at_least(&mut buffers.own, rows.min(n) * vocab);
    let wanted = at_least(&mut buffers.teacher, rows.min(n) * vocab);
    let mut dhidden = dhidden.map(|d| d.chunks_mut(rows * width));
    let mut loss = DistillationLoss::default();
    for at in (0..n).step_by(rows.max(1)) {
        let count = rows.min(n - at);
        let (logits, wanted) = (&mut logits[..count * vocab], &mut wanted[..count * vocab]);
        let hidden = &student.hidden[at * width..][..count * width];
        student.head.logits(options, hidden, logits);
        teacher.head.logits(options, &teacher.hidden[at * teacher_width..][..count * teacher_width], wanted);
        let rows = logits.chunks_exact_mut(vocab).zip(wanted.chunks_exact_mut(vocab));
        for ((logits, wanted), (&target, &weight)) in rows.zip(targets[at..].iter().zip(&weights[at..])) {
            let own = vectorised(
                #[inline(always)]
                || row(logits, wanted, (target as usize, weight), divergence, student.head),
            );
            loss.total += own.total;
            loss.targets += own.targets;
        }
        if let Some(chunks) = dhidden.as_mut() {
            let dhidden = chunks.next().expect("as many chunks as rows");
            linear_input_grad(options, logits, student.head.weight, dhidden, false, 1.0);
        }
        if let Some(dhead) = dhead.as_deref_mut() {
            linear_weight_grad(options, logits, hidden, width, vocab, dhead, 1.0);
        }
    }
    loss
}

/// The loss of one row; its logits become the gradients of the head's products.
#[inline(always)]
fn row(
    logits: &mut [f32],
    wanted: &mut [f32],
    (target, weight): (usize, f32),
    divergence: Divergence,
    head: Head<'_>,
) -> DistillationLoss {
    let Divergence { temperature, reverse, targets: part } = divergence;
    let inverse = 1.0 / temperature;
    let peak = max(logits);
    let log_sum = peak + sum_exp(logits, peak).ln();
    let likelihood = f64::from(log_sum - logits[target]);

    let cap = head.softcap.map_or(0.0, |cap| 1.0 / cap);
    let slope = |logit: f32| head.scale * (1.0 - (logit * cap) * (logit * cap));
    if (temperature, reverse, part) == (1.0, 0.0, 0.0) {
        // What is usual takes half the exponentials, and one pass.
        let wanted_peak = max(wanted);
        let wanted_sum = wanted_peak + sum_exp(wanted, wanted_peak).ln();
        let mut forward = 0f32;
        let (chunks, rest) = logits.as_chunks_mut::<LANES>();
        let (wanted_chunks, wanted_rest) = wanted.as_chunks::<LANES>();
        let mut lanes = [0f32; LANES];
        let gradient = |v: &mut f32, wanted: f32, sum: &mut f32| {
            let (own, wanted) = (*v - log_sum, wanted - wanted_sum);
            let covered = exp(wanted);
            *sum -= covered * (own - wanted);
            *v = weight * (exp(own) - covered) * slope(*v);
        };
        for (chunk, wanted) in chunks.iter_mut().zip(wanted_chunks) {
            for i in 0..LANES {
                gradient(&mut chunk[i], wanted[i], &mut lanes[i]);
            }
        }
        for (v, wanted) in rest.iter_mut().zip(wanted_rest) {
            gradient(v, *wanted, &mut forward);
        }
        let total = f64::from(weight) * f64::from(forward + reduce(lanes));
        return DistillationLoss { total, targets: f64::from(weight) * likelihood };
    }

    // log t, in place of the teacher's logits.
    wanted.iter_mut().for_each(|v| *v *= inverse);
    let wanted_peak = max(wanted);
    let wanted_sum = wanted_peak + sum_exp(wanted, wanted_peak).ln();
    wanted.iter_mut().for_each(|v| *v -= wanted_sum);
    // log Σ exp(logits / T).
    let scaled_sum = match temperature == 1.0 {
        true => log_sum,
        false => peak * inverse + logits.iter().fold(0f32, |sum, v| sum + exp((v - peak) * inverse)).ln(),
    };
    let (mut forward, mut backward) = ([0f32; LANES], [0f32; LANES]);
    for (chunk, wanted) in logits.chunks(LANES).zip(wanted.chunks(LANES)) {
        for (i, (v, wanted)) in chunk.iter().zip(wanted).enumerate() {
            let own = v * inverse - scaled_sum;
            let gap = own - wanted;
            forward[i] -= exp(*wanted) * gap;
            backward[i] += exp(own) * gap;
        }
    }
    let (forward, backward) = (reduce(forward), reduce(backward));
    let scale = temperature * temperature * (1.0 - part);
    let mixed = (1.0 - reverse) * forward + reverse * backward;
    let total = f64::from(weight) * (f64::from(part) * likelihood + f64::from(scale) * f64::from(mixed));

    let right = weight * part * slope(logits[target]);
    for (v, wanted) in logits.iter_mut().zip(wanted.iter()) {
        let own = *v * inverse - scaled_sum;
        let probability = exp(own);
        let covers = probability - exp(*wanted);
        let seeks = probability * (own - wanted - backward);
        let of_divergence = scale * inverse * ((1.0 - reverse) * covers + reverse * seeks);
        let of_target = part * exp(*v - log_sum);
        *v = weight * (of_divergence + of_target) * slope(*v);
    }
    logits[target] -= right;
    DistillationLoss { total, targets: f64::from(weight) * likelihood }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::weight::Weight;
    use crate::kernels::{MatmulPrecision, Threads};

    const VOCAB: usize = 37;
    const WIDTH: usize = 6;
    const OPTIONS: MatmulOptions = MatmulOptions { threads: Threads::One, precision: MatmulPrecision::F32 };

    /// Numbers without a pattern.
    fn numbers(n: usize, seed: u32, size: f32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            size * ((state >> 8) as f32 / (1 << 23) as f32 - 1.0)
        };
        (0..n).map(next).collect()
    }

    fn head(weights: &[f32], softcap: Option<f32>) -> Head<'_> {
        Head { weight: Weight::of_f32(weights, WIDTH), scale: 0.9, softcap }
    }

    fn log_softmax(hidden: &[f32], head: Head<'_>, temperature: f64) -> Vec<f64> {
        let mut logits = vec![0f32; VOCAB];
        head.logits(OPTIONS, hidden, &mut logits);
        let scaled: Vec<f64> = logits.iter().map(|v| f64::from(*v) / temperature).collect();
        let sum = scaled.iter().map(|v| v.exp()).sum::<f64>().ln();
        scaled.iter().map(|v| v - sum).collect()
    }

    #[test]
    fn losses_are_the_formula_and_gradients_their_slope() {
        let rows = 3;
        let (mine, theirs) = (numbers(VOCAB * WIDTH, 1, 1.0), numbers(VOCAB * WIDTH, 2, 1.0));
        let (hidden, taught) = (numbers(rows * WIDTH, 3, 1.5), numbers(rows * WIDTH, 4, 1.5));
        let (targets, weights) = ([5u32, 0, 36], [0.5f32, 1.0, 0.25]);
        let settings = [(1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (2.0, 0.0, 0.3), (0.7, 0.4, 0.5), (1.0, 0.5, 1.0)];
        for ((temperature, reverse, part), softcap) in
            settings.into_iter().zip([None, Some(3.0), None, Some(2.0), None])
        {
            let divergence = Divergence { temperature, reverse, targets: part };
            let of = |hidden: &[f32], dhidden: Option<&mut [f32]>, dhead: Option<&mut [f32]>| {
                let student = Rows { hidden, head: head(&mine, softcap) };
                let teacher = Rows { hidden: &taught, head: head(&theirs, softcap) };
                distillation(
                    OPTIONS,
                    &mut LogitBuffers::default(),
                    student,
                    teacher,
                    (&targets, &weights),
                    divergence,
                    dhidden,
                    dhead,
                )
            };
            let (mut dhidden, mut dhead) = (vec![0f32; hidden.len()], vec![0f32; mine.len()]);
            let loss = of(&hidden, Some(&mut dhidden), Some(&mut dhead));

            let mut expected = DistillationLoss::default();
            for row in 0..rows {
                let slice = |all: &[f32]| all[row * WIDTH..][..WIDTH].to_vec();
                let (own, student) = (slice(&hidden), head(&mine, softcap));
                let t = log_softmax(&slice(&taught), head(&theirs, softcap), f64::from(temperature));
                let s = log_softmax(&own, student, f64::from(temperature));
                let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
                let likelihood = -log_softmax(&own, student, 1.0)[targets[row] as usize];
                let (r, a, w) = (f64::from(reverse), f64::from(part), f64::from(weights[row]));
                let mixed = (1.0 - r) * kl(&t, &s) + r * kl(&s, &t);
                expected.total += w * (a * likelihood + (1.0 - a) * f64::from(temperature).powi(2) * mixed);
                expected.targets += w * likelihood;
            }
            assert!((loss.total - expected.total).abs() < 1e-5, "{loss:?} {expected:?}");
            assert!((loss.targets - expected.targets).abs() < 1e-5);

            // Slopes by differences of the same function.
            for at in 0..hidden.len() {
                let shifted = |by: f32| {
                    let mut hidden = hidden.clone();
                    hidden[at] += by;
                    of(&hidden, None, None).total
                };
                let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
                assert!((slope - f64::from(dhidden[at])).abs() < 2e-3, "{slope} {} {divergence:?}", dhidden[at]);
            }
            // dhead · head = dlogits · logits = dhidden · hidden.
            let inner = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            assert!((inner(&dhead, &mine) - inner(&dhidden, &hidden)).abs() < 1e-4);
        }
    }

    #[test]
    fn a_student_that_equals_its_teacher_has_nothing_to_learn() {
        let (weights, hidden) = (numbers(VOCAB * WIDTH, 1, 1.0), numbers(2 * WIDTH, 3, 1.5));
        let same = Rows { hidden: &hidden, head: head(&weights, None) };
        let divergence = Divergence { temperature: 2.0, reverse: 0.5, targets: 0.0 };
        let mut dhidden = vec![1f32; hidden.len()];
        let buffers = &mut LogitBuffers::default();
        let by = (&[1, 2][..], &[1.0, 1.0][..]);
        let loss = distillation(OPTIONS, buffers, same, same, by, divergence, Some(&mut dhidden), None);
        assert!(loss.total.abs() < 1e-6 && dhidden.iter().all(|d| d.abs() < 1e-6), "{loss:?}");
    }
}
