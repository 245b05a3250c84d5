//! One forward pass over the calibration text, from which every criterion's scores come.
//!
//! At each boundary between layers the hidden states are compared with those of the boundary before
//! (block influence, relative magnitude) and with those of every earlier one (angular distance of
//! blocks of every size). Sums are kept in f64: near-identical hidden states are the interesting
//! case, and 1 − cos of them would be lost in f32.
//!
//! Only one group of sequences is in memory at a time. The per-token angular distance needs the
//! hidden states of all boundaries at once; where those would fill the memory an even sample of
//! tokens is taken.

use anyhow::{Result, ensure};
use lopper_model::kernels::vectorised;
use lopper_model::{Batch, Model, Par};
use lopper_record::Fault;
use rayon::prelude::*;

use super::{BlockScores, LayerScores};
use crate::calibration::Calibration;

/// Most tokens in one forward pass, unless a single sequence is longer.
const GROUP_TOKENS: usize = 2048;
/// Most values of hidden states kept for the per-token angular distance: 256 MiB of f32.
const MOST_VALUES: usize = 64 << 20;
/// Below this many parameters, a thread per group is faster than all threads on each product.
const SMALL_MODEL: usize = 50_000_000;
/// Norms below it count as this, as in `torch.nn.functional.cosine_similarity`.
const TINY: f64 = 1e-8;

/// Measures all scores of all layers.
///
/// `observe` is called with the number of tokens each time a group is done, from any thread; the
/// measurement stops with its error if it returns one.
///
/// # Errors
/// A [`Fault`] for token ids outside the vocabulary, and for weights that give hidden states which
/// are not finite. Sequences longer than the model's context are read like any other.
pub fn measure(
    model: &Model,
    calibration: &Calibration,
    observe: &(dyn Fn(usize) -> Result<()> + Sync),
) -> Result<LayerScores> {
    check(model, calibration)?;
    let parameters = model.config.parameters_outside_layers()
        + model.config.num_hidden_layers.saturating_mul(model.config.parameters_per_layer());
    let groups = calibration.groups(GROUP_TOKENS);
    let one = |par: Par| {
        move |group: &&[Vec<u32>]| -> Result<Sums> {
            let sums = measure_group(model, group, par)?;
            observe(sums.tokens)?;
            Ok(sums)
        }
    };
    // Either way the groups are added up in their order, so threads do not change the result.
    let measured: Vec<Sums> = if parameters < SMALL_MODEL && groups.len() > 1 {
        groups.par_iter().map(one(Par::Sequential)).collect::<Result<_>>()?
    } else {
        groups.iter().map(one(Par::Pool)).collect::<Result<_>>()?
    };
    let mut total = Sums::new(model.num_layers());
    for sums in &measured {
        total.add(sums);
    }
    total.into_scores()
}

fn check(model: &Model, calibration: &Calibration) -> Result<()> {
    let vocab = model.config.vocab_size;
    for (index, sequence) in calibration.sequences().iter().enumerate() {
        if let Some(token) = sequence.iter().find(|token| **token as usize >= vocab) {
            return Err(Fault::new(format!("sequence {index} has a token that the model does not know"))
                .expected(format!("token ids below {vocab}"))
                .got(token.to_string())
                .hint("were the ids made with this model's tokenizer?")
                .into());
        }
    }
    Ok(())
}

/// Sums over the tokens (or sequences) of some groups.
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
        })
    }
}

/// Where the pair of boundaries `from < to` stands in a triangular array.
fn pair(from: usize, to: usize) -> usize {
    to * (to - 1) / 2 + from
}

fn measure_group(model: &Model, sequences: &[Vec<u32>], par: Par) -> Result<Sums> {
    let batch = Batch::new(sequences);
    let width = model.config.hidden_size;
    let mut sums = Sums::new(model.num_layers());
    sums.tokens = batch.len();
    sums.sequences = batch.sequences();

    let last_rows: Vec<usize> = batch.bounds[1..].iter().map(|end| end - 1).collect();
    let most = (MOST_VALUES / ((model.num_layers() + 1) * width)).max(1);
    let sampled_rows: Vec<usize> = (0..batch.len()).step_by(batch.len().div_ceil(most)).collect();
    sums.sampled = sampled_rows.len();

    let mut previous = Vec::new();
    let mut last = Boundaries::new(last_rows, width);
    let mut sampled = Boundaries::new(sampled_rows, width);
    let mut tap = |boundary: usize, hidden: &[f32]| {
        if boundary > 0 {
            let (influence, magnitude) = vectorised(
                #[inline(always)]
                || compare(&previous, hidden, width),
            );
            sums.block_influence[boundary - 1] = influence;
            sums.relative_magnitude[boundary - 1] = magnitude;
        }
        last.push(hidden, &mut sums.angular);
        sampled.push(hidden, &mut sums.angular_mean);
        previous.clear();
        previous.extend_from_slice(hidden);
    };
    model.hidden_states(&batch, &model.all_layers(), par, None, Some(&mut tap))?;
    Ok(sums)
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

    /// Adds a boundary, and its angular distances to all earlier ones, summed over the rows, to
    /// their places in `sums`.
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

/// Dot product in f64, in partial sums that the compiler can vectorise.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0f64; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += f64::from(x[i]) * f64::from(y[i]);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    lanes.iter().sum::<f64>() + rest
}
