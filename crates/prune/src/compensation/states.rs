//! Hidden states of the uncut and of the compensated model over the calibration text, layer by layer and side by side.

use lopper_model::{Batch, Forward, MatmulPrecision, Model, Pack, Past, PreparedBatch, Threads, Workspace};
use lopper_record::{LayerSlot, Progress, Result};
use rayon::prelude::*;

use crate::calibration::Calibration;
use crate::least_squares::dot;

/// Tokens of a batch.
const BATCH_TOKENS: usize = 1024;

/// One batch on its way through both models.
pub(super) struct BatchStates {
    tokens: PreparedBatch,
    /// Of the uncut model, `[n, hidden]`.
    pub uncut: Vec<f32>,
    /// Of the compensated model; `None` as long as they are those of the uncut model.
    pub cut: Option<Vec<f32>>,
}

/// All batches, and both models.
pub(super) struct States<'a> {
    original: Forward,
    changed: Forward,
    batches: Vec<BatchStates>,
    /// Layers of the uncut model that have run.
    done: usize,
    width: usize,
    progress: &'a dyn Progress,
}

/// The MLP's contribution in one layer and the layer's output, both `[n, hidden]`.
pub(super) struct MlpOutput {
    pub mlp: Vec<f32>,
    pub output: Vec<f32>,
}

impl<'a> States<'a> {
    pub fn new(model: &Model, calibration: &Calibration, progress: &'a dyn Progress) -> Result<Self> {
        let original = forward(model);
        let batches = calibration
            .groups(BATCH_TOKENS)
            .into_iter()
            .map(|sequences| {
                let tokens = original.prepare(Batch::new(sequences));
                let mut uncut = Vec::new();
                original.embed(&tokens.batch.tokens, &mut uncut);
                BatchStates { tokens, uncut, cut: None }
            })
            .collect();
        let width = model.config.hidden_size;
        Ok(Self { changed: forward(model), original, batches, done: 0, width, progress })
    }

    /// Width of the hidden states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The batches.
    pub fn batches(&self) -> &[BatchStates] {
        &self.batches
    }

    /// Uses the weights of `model` for the compensated model from here on.
    pub fn use_weights(&mut self, model: &Model) {
        self.changed = forward(model);
    }

    /// Makes the states of the compensated model those of the uncut one again.
    pub fn forget_cut(&mut self) {
        self.batches.iter_mut().for_each(|batch| batch.cut = None);
    }

    /// Runs both models up to, but without, `layer`; no layer until there is removed.
    pub fn advance_both(&mut self, layer: usize) -> Result<()> {
        let from = self.done;
        self.advance_uncut(layer)?;
        self.advance_cut(from..layer)
    }

    /// Keeps the compensated model's states while the uncut model goes on; says whether they were the same until now.
    pub fn divide(&mut self) -> bool {
        let same = self.batches.iter().any(|batch| batch.cut.is_none());
        for batch in self.batches.iter_mut().filter(|batch| batch.cut.is_none()) {
            batch.cut = Some(batch.uncut.clone());
        }
        same
    }

    /// Runs the uncut model up to, but without, `layer`.
    pub fn advance_uncut(&mut self, layer: usize) -> Result<()> {
        for at in self.done..layer {
            self.progress.check()?;
            let forward = &self.original;
            each(forward, &mut self.batches, |batch, threads, work| {
                run(forward, at, &batch.tokens, &mut batch.uncut, threads, work);
            });
            forward.release_layer(LayerSlot(at));
            self.done = at + 1;
            self.progress.set(self.done);
        }
        Ok(())
    }

    /// Runs layers of the compensated model, where its states differ from those of the uncut one.
    pub fn advance_cut(&mut self, layers: std::ops::Range<usize>) -> Result<()> {
        for at in layers {
            self.progress.check()?;
            let forward = &self.changed;
            each(forward, &mut self.batches, |batch, threads, work| {
                if let Some(cut) = &mut batch.cut {
                    run(forward, at, &batch.tokens, cut, threads, work);
                }
            });
            forward.release_layer(LayerSlot(at));
        }
        Ok(())
    }

    /// What the MLP of `layer` adds to the compensated model's states of one batch, which are before that layer.
    pub fn mlp_output(&self, batch: &BatchStates, layer: usize) -> MlpOutput {
        let (mut work, mut mlp) = (Workspace::default(), Vec::new());
        let x = batch.cut.as_ref().unwrap_or(&batch.uncut);
        let slot = LayerSlot(layer);
        self.changed.mlp_output(slot, &batch.tokens, x, Past::Batch, Threads::Pool, &mut work, &mut mlp);
        let scale = self.changed.model().config.residual_scale;
        if scale != 1.0 {
            mlp.iter_mut().for_each(|v| *v *= scale);
        }
        let output = work.middle.iter().zip(&mlp).map(|(middle, mlp)| middle + mlp).collect();
        MlpOutput { mlp, output }
    }

    /// ‖factor·state − target‖² ÷ ‖target‖², mean over the tokens.
    pub fn error(&self, factor: f64) -> f64 {
        let (mut sum, mut tokens) = (0.0, 0usize);
        for batch in &self.batches {
            let state = batch.cut.as_ref().unwrap_or(&batch.uncut);
            sum += relative_error(state, &batch.uncut, self.width, factor);
            tokens += batch.uncut.len() / self.width;
        }
        sum / tokens.max(1) as f64
    }
}

/// ‖factor·state − target‖² ÷ ‖target‖², summed over the tokens.
pub(super) fn relative_error(state: &[f32], target: &[f32], width: usize, factor: f64) -> f64 {
    let tokens = state.chunks_exact(width).zip(target.chunks_exact(width));
    let error = |(x, y): (&[f32], &[f32])| {
        let squares = dot(y, y).max(f64::MIN_POSITIVE);
        (factor * factor * dot(x, x) + squares - 2.0 * factor * dot(x, y)).max(0.0) / squares
    };
    tokens.map(error).sum()
}

fn forward(model: &Model) -> Forward {
    Forward::new(model, Pack::No, MatmulPrecision::F32)
}

/// Calls `f` for every batch: a small model's on a thread each, a large one's one after another with all threads.
fn each(forward: &Forward, batches: &mut [BatchStates], f: impl Fn(&mut BatchStates, Threads, &mut Workspace) + Sync) {
    if forward.model().is_small() {
        batches.par_iter_mut().for_each_init(Workspace::default, |work, batch| f(batch, Threads::One, work));
    } else {
        let mut work = Workspace::default();
        batches.iter_mut().for_each(|batch| f(batch, Threads::Pool, &mut work));
    }
}

fn run(
    forward: &Forward,
    layer: usize,
    tokens: &PreparedBatch,
    states: &mut Vec<f32>,
    threads: Threads,
    work: &mut Workspace,
) {
    let mut out = Vec::new();
    forward.layer(LayerSlot(layer), tokens, states, Past::Batch, threads, work, &mut out);
    *states = out;
}
