//! The data-parallel trainer: each worker thread runs its part of the batch through single-threaded kernels, whose
//! buffers stay in its cache; gradients are summed, clipped, and given to the optimiser.
//!
//! Every step is a function of the documents, the seed and the number of workers. Several trainers may take a step
//! together, which changes nothing about any of them.

use crate::optimizer::{AdamW, AdamWConfig, clip_norm};
use crate::recipe::Distillation;
use anyhow::anyhow;
use lopper_model::linear::Dropout;
use lopper_model::param::Gradients;
use lopper_model::{
    BatchLoss, Learner, MatmulPrecision, Model, Teacher, Threads, TrainBatch, TrainOptions, TrainWorkspace,
    taught_together,
};
use lopper_record::{Fault, LayerSet, LayerSlot, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// One training text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Loss weight of predicting each token; 0 for prompts. The first token's is ignored.
    pub weights: Vec<f32>,
}

/// Settings of a [`Trainer`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// Worker threads.
    pub workers: usize,
    /// Tokens in a worker's micro-batch (at least one document).
    pub micro_tokens: usize,
    /// Limit of the gradients' global norm.
    pub clip: f64,
    /// Gradient checkpointing: recompute activations in the backward pass.
    pub checkpointing: bool,
    /// Stochastic depth: probability of skipping the last layer during a micro-batch; falls linearly to zero at the
    /// first.
    pub layer_drop: f64,
    /// Matrix products with bf16 operands and f32 sums, where the processor has instructions for them.
    pub mixed: bool,
    /// Seeds dropout and stochastic depth.
    pub seed: u64,
}

impl Default for TrainerConfig {
    fn default() -> Self {
        Self { workers: 1, micro_tokens: 2048, clip: 1.0, checkpointing: false, layer_drop: 0.0, mixed: false, seed: 0 }
    }
}

/// Statistics of one step.
#[derive(Debug, Clone, Copy)]
pub struct StepStats {
    /// Weighted mean negative log-likelihood per token, in nats.
    pub loss: f64,
    /// What is minimised: the same, unless a teacher's distributions are learned.
    pub objective: f64,
    /// Gradient norm before clipping.
    pub grad_norm: f64,
    /// Input tokens.
    pub tokens: usize,
}

impl StepStats {
    /// Whether loss and gradient are numbers.
    pub fn is_finite(&self) -> bool {
        self.objective.is_finite() && self.grad_norm.is_finite()
    }

    /// The fault of a step, from 0, whose loss or gradient is none.
    pub fn not_finite(&self, step: usize) -> Fault {
        Fault::new(format!("training diverged at step {step}"))
            .expected("a finite loss and gradient")
            .got(format!("loss {}, gradient norm {}", self.objective, self.grad_norm))
            .hint("a smaller learning rate or more warm-up steps may help")
    }
}

/// A model in training.
pub struct Trainer {
    /// The model; its trained parameters change with each step.
    pub model: Model,
    /// Layers that run.
    pub kept: LayerSet<LayerSlot>,
    /// Optimiser and its state.
    pub optimizer: AdamW,
    config: TrainerConfig,
    workers: Vec<Worker>,
    teacher: Option<TeachingModel>,
}

/// A model whose distributions are learned.
struct TeachingModel {
    model: Model,
    kept: LayerSet<LayerSlot>,
    distillation: Distillation,
}

impl TeachingModel {
    fn teacher(&self) -> Teacher<'_> {
        let Self { model, kept, distillation } = self;
        let hidden_states = distillation.hidden_states as f32;
        Teacher { model, kept, divergence: distillation.divergence(), hidden_states }
    }
}

struct Worker {
    workspace: TrainWorkspace,
    gradients: Gradients,
}

/// A trainer's part in what one thread does.
struct Learning<'a> {
    model: &'a Model,
    kept: &'a LayerSet<LayerSlot>,
    worker: &'a mut Worker,
}

impl Trainer {
    /// Prepares the layers `kept` of `model` for training; `trainable` says by name which parameters change.
    pub fn new(
        mut model: Model,
        kept: LayerSet<LayerSlot>,
        trainable: impl FnMut(&str) -> bool,
        optimizer: AdamWConfig,
        config: TrainerConfig,
    ) -> Self {
        let gradients = model.set_trainable(trainable);
        let optimizer = AdamW::new(optimizer, &gradients);
        let workers = (0..config.workers.max(1))
            .map(|_| Worker { workspace: TrainWorkspace::default(), gradients: gradients.clone() })
            .collect();
        Self { model, kept, optimizer, config, workers, teacher: None }
    }

    /// The same, learning from the distributions of all layers of `teacher`.
    pub fn with_teacher(self, teacher: Model, distillation: Distillation) -> Self {
        let kept = LayerSet::all(teacher.num_layers());
        Self { teacher: Some(TeachingModel { model: teacher, kept, distillation }), ..self }
    }

    /// One optimiser step over all `documents` at learning rate `rate`.
    ///
    /// # Errors
    /// If loss or gradients are not finite, or a document or a layer does not fit the model.
    pub fn step(&mut self, documents: &[Document], rate: f64) -> Result<StepStats> {
        let stats = self.gradients(documents)?;
        if !stats.is_finite() {
            return Err(stats.not_finite(self.optimizer.step as usize).into());
        }
        self.update(rate);
        Ok(stats)
    }

    /// Loss and clipped gradients over all `documents`; [`Trainer::update`] applies them. Neither need be finite.
    ///
    /// # Errors
    /// If a document or a layer does not fit the model.
    pub fn gradients(&mut self, documents: &[Document]) -> Result<StepStats> {
        Ok(Self::gradients_of_all(&mut [self], documents)?[0])
    }

    /// The same of each of several trainers with the same settings and teacher, which are at the same step. What their
    /// models have in common before the first trained layer is computed once, and so is the teacher's pass.
    ///
    /// # Errors
    /// As for each; for trainers that are not at the same step.
    pub fn gradients_of_all(trainers: &mut [&mut Self], documents: &[Document]) -> Result<Vec<StepStats>> {
        let Some(first) = trainers.first() else { return Ok(Vec::new()) };
        let (config, step, count) = (first.config.clone(), first.optimizer.step, first.workers.len());
        let alike = |trainer: &&mut Self| {
            trainer.optimizer.step == step
                && trainer.config == config
                && trainer.teacher.is_some() == first.teacher.is_some()
        };
        ensure!(trainers.iter().all(alike), "trainers of other settings, or at other steps, learn apart");
        let tokens: usize = documents.iter().map(inputs).sum();
        let micro = micro_batches(documents, config.micro_tokens, count);
        let total: f64 = micro.iter().map(TrainBatch::total_weight).sum();
        let scale = if total > 0.0 { (1.0 / total) as f32 } else { 0.0 };
        // A product in bf16 runs on one thread, and several workers are one for each thread.
        let threads = if config.mixed || count > 1 { Threads::One } else { Threads::Pool };
        let precision = if config.mixed { MatmulPrecision::Bf16 } else { MatmulPrecision::F32 };
        let (mut lanes, mut teacher) = ((0..count).map(|_| Vec::new()).collect::<Vec<Vec<Learning<'_>>>>(), None);
        for trainer in &mut *trainers {
            let Self { model, kept, workers, teacher: taught_by, .. } = &mut **trainer;
            teacher = teacher.or_else(|| taught_by.as_ref().map(TeachingModel::teacher));
            for (lane, worker) in lanes.iter_mut().zip(workers) {
                lane.push(Learning { model, kept, worker });
            }
        }
        let losses: Vec<Result<Vec<BatchLoss>>> = std::thread::scope(|scope| {
            let handles: Vec<_> = lanes
                .into_iter()
                .enumerate()
                .map(|(w, mut lane)| {
                    let (mine, config) = (micro.iter().enumerate().skip(w).step_by(count), &config);
                    scope.spawn(move || -> Result<Vec<BatchLoss>> {
                        // One set of buffers for all of them.
                        let mut workspace = std::mem::take(&mut lane[0].worker.workspace);
                        lane.iter_mut().for_each(|learning| learning.worker.gradients.zero());
                        let mut losses = vec![BatchLoss::default(); lane.len()];
                        for (index, batch) in mine {
                            let seed = config.seed ^ (step << 20) ^ index as u64;
                            let sampled =
                                |learning: &Learning<'_>| sample_depth(learning.kept, config.layer_drop, seed);
                            let kept: Vec<_> = lane.iter().map(sampled).collect();
                            let options = TrainOptions {
                                threads,
                                precision,
                                scale,
                                dropout: Some(Dropout { seed }),
                                checkpointing: config.checkpointing,
                            };
                            let learner = |(learning, kept)| {
                                let Learning { model, worker, .. }: &mut Learning<'_> = learning;
                                Learner { model, kept, gradients: &mut worker.gradients }
                            };
                            let mut learners: Vec<_> = lane.iter_mut().zip(&kept).map(learner).collect();
                            let of_batch = taught_together(batch, &mut learners, teacher, options, &mut workspace)?;
                            losses.iter_mut().zip(of_batch).for_each(|(loss, of_batch)| *loss += of_batch);
                        }
                        lane[0].worker.workspace = workspace;
                        Ok(losses)
                    })
                })
                .collect();
            handles
                .into_iter()
                .map(|h| h.join().unwrap_or_else(|_| Err(anyhow!("a training worker panicked").into())))
                .collect()
        });
        let mut all = vec![BatchLoss::default(); trainers.len()];
        for losses in losses {
            all.iter_mut().zip(losses?).for_each(|(all, loss)| *all += loss);
        }
        let stats = |(trainer, loss): (&mut &mut Self, BatchLoss)| {
            let BatchLoss { total: objective, targets: loss } = loss;
            let (first, rest) = trainer.workers.split_at_mut(1);
            for worker in rest {
                first[0].gradients.add(&worker.gradients);
            }
            let grad_norm = clip_norm(&mut first[0].gradients, config.clip);
            StepStats { loss, objective, grad_norm, tokens }
        };
        Ok(trainers.iter_mut().zip(all).map(stats).collect())
    }

    /// Updates the trained parameters by the gradients of the last [`Trainer::gradients`], at learning rate `rate`.
    pub fn update(&mut self, rate: f64) {
        self.optimizer.update(&mut self.model, &self.workers[0].gradients, rate);
    }
}

/// Input tokens: the last token of a document is only predicted.
fn inputs(document: &Document) -> usize {
    document.tokens.len().saturating_sub(1)
}

/// The layers of `kept` that run in one micro-batch: each is skipped with a probability that rises linearly with depth
/// from zero to `last`.
fn sample_depth(kept: &LayerSet<LayerSlot>, last: f64, seed: u64) -> LayerSet<LayerSlot> {
    if last <= 0.0 || kept.len() < 2 {
        return kept.clone();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let deepest = (kept.len() - 1) as f64;
    let mut keep = |i: usize| f64::from(rng.next_u32()) / 4_294_967_296.0 >= last * i as f64 / deepest;
    kept.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, layer)| layer).collect()
}

/// Divides documents into batches of up to about `limit` tokens, as many for each of `workers`, so that none waits
/// long for another: the longest documents first, each to the batch with the fewest tokens. In a batch they keep their
/// order.
fn micro_batches(documents: &[Document], limit: usize, workers: usize) -> Vec<TrainBatch> {
    let tokens: usize = documents.iter().map(inputs).sum();
    let rounds = tokens.div_ceil(workers * limit).max(1);
    let mut batches: Vec<(usize, Vec<usize>)> = vec![(0, vec![]); (rounds * workers).min(documents.len())];
    let mut longest: Vec<usize> = (0..documents.len()).collect();
    longest.sort_by_key(|index| std::cmp::Reverse(inputs(&documents[*index])));
    for index in longest {
        let (size, chosen) = batches.iter_mut().min_by_key(|(size, _)| *size).expect("a batch for each worker");
        *size += inputs(&documents[index]);
        chosen.push(index);
    }
    let batch = |(_, mut chosen): (usize, Vec<usize>)| {
        chosen.sort_unstable();
        TrainBatch::new(chosen.iter().map(|index| &documents[*index]).map(|d| (&d.tokens[..], &d.weights[..])))
    };
    batches.into_iter().map(batch).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_batch_and_every_document_is_in_one() {
        let document = |len: usize| Document { tokens: vec![1; len], weights: vec![1.0; len] };
        let sizes = |lengths: &[usize], limit: usize, workers: usize| -> Vec<usize> {
            let documents: Vec<Document> = lengths.iter().map(|len| document(*len)).collect();
            micro_batches(&documents, limit, workers).iter().map(|batch| batch.targets.len()).collect()
        };
        assert_eq!(sizes(&[257; 4], 2048, 2), [512, 512]);
        assert_eq!(sizes(&[257; 4], 2048, 1), [1024]);
        assert_eq!(sizes(&[257; 4], 300, 2), [256; 4]);
        assert_eq!(sizes(&[257; 5], 600, 2), [512, 256, 256, 256], "as many for each worker");
        assert_eq!(sizes(&[11, 301, 11], 2048, 2), [300, 20], "a long document is not split");
        assert_eq!(sizes(&[21, 11, 41, 31], 2048, 2), [50, 50]);
        assert_eq!(sizes(&[5], 2048, 2), [4]);
        assert_eq!(sizes(&[], 2048, 2), [0; 0]);
    }
}
