//! One pass over the calibration text, from which every criterion's scores come.
//!
//! At each boundary between layers, the hidden states are compared with those of the boundary before (block influence,
//! relative magnitude) and with those of every earlier one (angular distance of blocks of every size). Sums are f64:
//! nearly identical hidden states are the interesting case, and 1 − cos of them would be lost in f32. The candidates
//! without one layer each, for the change in perplexity, go through the same pass and share its layers.
//!
//! The angular distance of every token and the linear fit need the hidden states of all boundaries at once: they are
//! measured on an even sample of tokens where those of all tokens would take too much memory.

use std::collections::BTreeMap;
use std::sync::Mutex;

use lopper_infer::{Engine, LayerActivations};
use lopper_measure::{nll_rise, perplexity};
use lopper_model::kernels::vectorised;
use lopper_record::{Fault, LayerSet, LayerSlot, Progress, Result, ensure};

use super::linear::{self, Sample};
use super::{BlockScores, LayerScores, PerplexityScores};
use crate::calibration::Calibration;
use crate::least_squares::dot;

/// Most values of hidden states kept for the per-token angular distance: 256 MiB of f32.
const MOST_VALUES: usize = 64 << 20;
/// Norms below it count as this, as in `torch.nn.functional.cosine_similarity`.
const TINY: f64 = 1e-8;

/// What is measured besides block influence, angular distance and relative magnitude.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measures {
    /// The change in perplexity without each layer; costs about half as many forward passes as there are layers.
    pub perplexity: bool,
    /// How well each layer is approximated by a linear map.
    pub linear: bool,
}

/// Measures all scores of all layers.
///
/// # Errors
/// A [`Fault`] for token ids outside the vocabulary, and for hidden states that are not finite;
/// [`lopper_record::Interrupted`]. Sequences longer than the model's context are not refused.
pub fn measure(
    engine: &Engine,
    calibration: &Calibration,
    what: Measures,
    progress: &dyn Progress,
) -> Result<LayerScores> {
    let model = engine.model();
    check(model, calibration)?;
    let (layers, width) = (model.num_layers(), model.config.hidden_size);
    let mut candidates: Vec<LayerSet<LayerSlot>> = vec![engine.all_layers()];
    if what.perplexity {
        candidates.extend((0..layers).map(|layer| LayerSet::from([layer]).complement(layers)));
    }
    // Even samples of the tokens, by their numbers in the whole text.
    let tokens = calibration.tokens();
    let every = tokens.div_ceil((MOST_VALUES / ((layers + 1) * width)).max(1)).max(1);
    let batches: Mutex<BTreeMap<usize, BatchSums>> = Mutex::default();
    let sample = what.linear.then(|| Mutex::new(Sample::new(layers, width, tokens)));
    let hook = |step: LayerActivations<'_>| {
        // The layers of one batch come one after another; only the list of batches is shared.
        let mut sums = {
            let mut batches = batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            batches.remove(&step.batch_index).unwrap_or_else(|| BatchSums::new(&step, layers, width, every))
        };
        sums.take(&step, width);
        if let Some(sample) = &sample {
            sample.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take(&step);
        }
        if step.layer.0 + 1 == layers {
            sums.forget();
        }
        batches.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(step.batch_index, sums);
    };
    let (logprobs, _) = engine.token_logprobs_with_hook(&candidates, calibration.sequences(), Some(&hook), progress)?;
    let mut total = Sums::new(layers);
    for batch in batches.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()).values() {
        total.add(&batch.sums);
    }
    let mut scores = total.into_scores()?;
    // A text of single tokens predicts nothing.
    if what.perplexity && calibration.sequences().iter().any(|sequence| sequence.len() > 1) {
        let nll: Vec<f64> = logprobs.iter().map(|sequences| mean_nll(sequences)).collect();
        let rises = logprobs[1..].iter().map(|without| nll_rise(&logprobs[0], without)?.ci95);
        scores.perplexity = Some(PerplexityScores {
            mean_nll: nll[0],
            without: nll[1..].to_vec(),
            ci95: perplexity(&logprobs[0]).and_then(|mean| mean.ci95),
            rises_ci95: rises.collect::<Option<_>>().unwrap_or_default(),
        });
    }
    if let Some(sample) = sample {
        let sample = sample.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        scores.linear_r2 = Some(linear::fits(&sample));
    }
    Ok(scores)
}

/// Mean negative log-likelihood of all predicted tokens, in nats.
fn mean_nll(sequences: &[Vec<Option<f32>>]) -> f64 {
    let logprobs = sequences.iter().flatten().flatten();
    let (sum, n) = logprobs.fold((0.0, 0usize), |(sum, n), logprob| (sum - f64::from(*logprob), n + 1));
    sum / n as f64
}

fn check(model: &lopper_model::Model, calibration: &Calibration) -> Result<()> {
    let vocab = model.config.vocab_size;
    for (index, sequence) in calibration.sequences().iter().enumerate() {
        if let Some(token) = sequence.iter().find(|token| **token as usize >= vocab) {
            return Err(Fault::new(format!("sequence {index} has a token outside the vocabulary"))
                .expected(format!("token ids below {vocab}"))
                .got(token.to_string())
                .hint("were the ids made with this model's tokenizer?")
                .into());
        }
    }
    Ok(())
}

/// Sums over the tokens or sequences of some batches.
struct Sums {
    layers: usize,
    block_influence: Vec<f64>,
    relative_magnitude: Vec<f64>,
    tokens: usize,
    angular: Vec<f64>,
    sequences: usize,
    angular_mean: Vec<f64>,
    sampled: usize,
}

impl Sums {
    fn new(layers: usize) -> Self {
        let blocks = vec![0.0; layers * (layers + 1) / 2];
        Self {
            layers,
            block_influence: vec![0.0; layers],
            relative_magnitude: vec![0.0; layers],
            tokens: 0,
            angular: blocks.clone(),
            sequences: 0,
            angular_mean: blocks,
            sampled: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.block_influence, &other.block_influence),
            (&mut self.relative_magnitude, &other.relative_magnitude),
            (&mut self.angular, &other.angular),
            (&mut self.angular_mean, &other.angular_mean),
        ] {
            for (a, b) in mine.iter_mut().zip(theirs) {
                *a += b;
            }
        }
        self.tokens += other.tokens;
        self.sequences += other.sequences;
        self.sampled += other.sampled;
    }

    fn into_scores(self) -> Result<LayerScores> {
        let mean = |sums: &[f64], n: usize| -> Vec<f64> { sums.iter().map(|x| x / n as f64).collect() };
        let block_influence = mean(&self.block_influence, self.tokens);
        if let Some(layer) = block_influence.iter().position(|x| !x.is_finite()) {
            return Err(Fault::new(format!("the hidden states of layer {layer} are not finite"))
                .expected("finite weights")
                .got("infinity or not-a-number in a forward pass")
                .hint("the checkpoint is damaged, or its training diverged")
                .into());
        }
        let blocks = |sums: &[f64], n: usize| {
            let mean = mean(sums, n);
            let size = |size: usize| (0..=self.layers - size).map(|first| mean[pair(first, first + size)]).collect();
            BlockScores::new((1..=self.layers).map(size).collect())
        };
        ensure!(self.sampled > 0 && self.sequences > 0, "nothing was measured");
        Ok(LayerScores {
            angular: blocks(&self.angular, self.sequences),
            angular_mean: blocks(&self.angular_mean, self.sampled),
            relative_magnitude: mean(&self.relative_magnitude, self.tokens),
            block_influence,
            tokens: self.tokens,
            sequences: self.sequences,
            angular_mean_tokens: self.sampled,
            perplexity: None,
            linear_r2: None,
            taylor: None,
        })
    }
}

/// The index of the pair of boundaries `from < to` in a triangular array.
fn pair(from: usize, to: usize) -> usize {
    to * (to - 1) / 2 + from
}

/// The sums of one batch, and what is kept of its hidden states while it goes through the layers.
struct BatchSums {
    sums: Sums,
    last: Boundaries,
    sampled: Boundaries,
}

impl BatchSums {
    fn new(step: &LayerActivations<'_>, layers: usize, width: usize, every: usize) -> Self {
        let batch = step.batch;
        let mut sums = Sums::new(layers);
        sums.tokens = batch.len();
        sums.sequences = batch.sequences();
        let last_rows: Vec<usize> = batch.bounds[1..].iter().map(|end| end - 1).collect();
        let sampled_rows: Vec<usize> = (0..batch.len()).step_by(every).collect();
        sums.sampled = sampled_rows.len();
        let mut batch =
            Self { sums, last: Boundaries::new(last_rows, width), sampled: Boundaries::new(sampled_rows, width) };
        batch.push(step.input);
        batch
    }

    fn push(&mut self, hidden: &[f32]) {
        self.last.push(hidden, &mut self.sums.angular);
        self.sampled.push(hidden, &mut self.sums.angular_mean);
    }

    fn take(&mut self, step: &LayerActivations<'_>, width: usize) {
        let (influence, magnitude) = vectorised(
            #[inline(always)]
            || compare(step.input, step.output, width),
        );
        self.sums.block_influence[step.layer.0] = influence;
        self.sums.relative_magnitude[step.layer.0] = magnitude;
        self.push(step.output);
    }

    /// Keeps the sums alone.
    fn forget(&mut self) {
        self.last.forget();
        self.sampled.forget();
    }
}

/// Sums over all rows of 1 − cos and of ‖out − in‖ / ‖out‖.
#[inline(always)]
fn compare(before: &[f32], after: &[f32], width: usize) -> (f64, f64) {
    let (mut influence, mut magnitude) = (0.0, 0.0);
    for (x, y) in before.chunks_exact(width).zip(after.chunks_exact(width)) {
        let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
        influence += 1.0 - cosine(xy, xx.sqrt(), yy.sqrt());
        magnitude += (xx + yy - 2.0 * xy).max(0.0).sqrt() / yy.sqrt().max(TINY);
    }
    (influence, magnitude)
}

/// Chosen rows of the hidden states at every boundary so far.
struct Boundaries {
    rows: Vec<usize>,
    width: usize,
    states: Vec<Vec<f32>>,
    norms: Vec<Vec<f64>>,
}

impl Boundaries {
    fn new(rows: Vec<usize>, width: usize) -> Self {
        Self { rows, width, states: Vec::new(), norms: Vec::new() }
    }

    fn forget(&mut self) {
        (self.states, self.norms) = Default::default();
    }

    /// Adds a boundary, and adds its angular distances to all earlier ones, summed over the rows, to `sums`.
    fn push(&mut self, hidden: &[f32], sums: &mut [f64]) {
        let width = self.width;
        let state: Vec<f32> = self.rows.iter().flat_map(|row| &hidden[row * width..][..width]).copied().collect();
        vectorised(
            #[inline(always)]
            || {
                let norms: Vec<f64> = state.chunks_exact(width).map(|x| dot(x, x).sqrt()).collect();
                let to = self.states.len();
                for (from, (earlier, earlier_norms)) in self.states.iter().zip(&self.norms).enumerate() {
                    let rows = earlier.chunks_exact(width).zip(state.chunks_exact(width));
                    let norms = earlier_norms.iter().zip(&norms);
                    sums[pair(from, to)] +=
                        rows.zip(norms).map(|((x, y), (nx, ny))| angle(cosine(dot(x, y), *nx, *ny))).sum::<f64>();
                }
                self.norms.push(norms);
            },
        );
        self.states.push(state);
    }
}

fn cosine(product: f64, norm_a: f64, norm_b: f64) -> f64 {
    product / (norm_a.max(TINY) * norm_b.max(TINY))
}

/// The angle of a cosine in units of π; rounding may have taken the cosine beyond ±1.
fn angle(cosine: f64) -> f64 {
    cosine.clamp(-1.0, 1.0).acos() / std::f64::consts::PI
}
