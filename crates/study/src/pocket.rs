//! Training the pocket model: the recipe that made `models/pocket`, and writing it as a Hugging Face
//! directory with its card.
//!
//! A small dense model lacks the depth redundancy of large ones, so it is trained with stochastic
//! depth; the card says so. The run took 92 minutes on two shared cores; what was tried is in
//! `design/pocket-model.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lopper_heal::pretrain::{self, Recipe};
use lopper_heal::state::RunState;
use lopper_heal::{AdamWConfig, Document, Schedule};
use lopper_model::checkpoint::Dtype;
use lopper_model::{Config, Model, QkNorm, families};
use lopper_pocket::model_files::{self, CONTEXT_LENGTH};
use lopper_pocket::{Mixture, Stream, tokenizer};
use lopper_record::{Context, Progress, Result, write_atomic};

/// Optimiser steps of the shipped model.
pub const STEPS: usize = 2400;
/// The state file inside the training directory.
const STATE: &str = "train_state.safetensors";
/// Seed of the document stream.
const STREAM_SEED: u64 = 1;
const INIT_SEED: u64 = 1;
/// Standard deviation of the random weights.
const INIT_STD: f32 = 0.02;

/// The pocket model's shape: Qwen3's architecture, 12 layers of width 128.
pub fn config() -> Config {
    Config {
        model_type: "qwen3".into(),
        vocab_size: tokenizer::vocabulary_size(),
        hidden_size: 128,
        num_key_value_heads: 2,
        intermediate_size: 512,
        tie_word_embeddings: true,
        qk_norm: QkNorm::Head,
        max_position_embeddings: CONTEXT_LENGTH,
        bos_token_id: Some(tokenizer::BOS),
        eos_token_ids: vec![tokenizer::END],
        ..Config::plain(12, 4, 32)
    }
}

/// The training recipe for a number of steps.
///
/// The number of workers is part of it (it decides which layers a micro-batch skips), so it does
/// not follow the machine.
pub fn recipe(steps: usize) -> Recipe {
    Recipe {
        data: format!("lopper_pocket::Stream, seed {STREAM_SEED}, default mixture"),
        init_seed: INIT_SEED,
        seed: 2,
        batch_tokens: 8192,
        schedule: Schedule { decay: 0.4, floor: 0.05, ..Schedule::constant(3e-3, 100, steps) },
        layer_drop: 0.3,
        adamw: AdamWConfig { beta1: 0.9, beta2: 0.98, eps: 1e-8, weight_decay: 0.05 },
        muon: true,
        workers: 2,
        micro_tokens: 1024,
        mixed: true,
    }
}

/// A finished training run.
pub struct Trained {
    /// The trained model.
    pub model: Model,
    /// Documents, tokens and seconds of training.
    pub run: RunState,
    /// Optimiser steps.
    pub steps: usize,
}

/// Trains from random weights for `steps` steps, or continues the run whose state is in `directory`.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) for a state of another recipe; [`Interrupted`](lopper_record::Interrupted), after
/// which the next call continues the run.
pub fn train(directory: &Path, steps: usize, progress: &dyn Progress) -> Result<Trained> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let recipe = recipe(steps);
    let model = Model::random(config(), INIT_STD, recipe.init_seed)?;
    let stream = Stream::at(STREAM_SEED, 0, &Mixture::default());
    let documents = |index: u64| {
        let document = stream.document(index);
        Document { tokens: document.tokens, weights: document.weights }
    };
    let every = Duration::from_secs(60);
    let (trainer, run) = pretrain::run(model, &recipe, &documents, &state_file(directory), every, progress)?;
    Ok(Trained { model: trainer.model, run, steps: trainer.optimizer.step as usize })
}

/// Where a run keeps its state.
pub fn state_file(directory: &Path) -> PathBuf {
    directory.join(STATE)
}

/// One line of the card's table: task, metric, score, 95 % interval, items.
pub type CardRow = (String, String, f64, [f64; 2], usize);

/// Writes the model, tokenizer, chat template and card into `directory`, the weights as bf16.
pub fn export(trained: &Trained, directory: &Path, card: &str) -> Result<()> {
    std::fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let config = families::config_json(&trained.model.config, Dtype::BF16)?;
    trained.model.save(directory, &config, Dtype::BF16)?;
    model_files::write(directory)?;
    write_atomic(&directory.join("README.md"), card.as_bytes())
}

/// The model card.
pub fn card(trained: &Trained, rows: &[CardRow]) -> String {
    let recipe = recipe(trained.steps);
    let mut table = String::from("| task | metric | score | 95 % interval | items |\n|---|---|---|---|---|\n");
    for (task, metric, value, [low, high], n) in rows {
        let _ = writeln!(table, "| {task} | {metric} | {value:.3} | {low:.3} – {high:.3} | {n} |");
    }
    format!(
        "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [lopper, synthetic]\n---\n\n\
# Lopper's pocket model\n\n\
A decoder of {layers} layers and {params} parameters (Qwen3 architecture, width {width}, weights in bf16) that\n\
knows nothing but the generated text of `lopper pocket data`: word problems solved in steps, two-operation\n\
arithmetic, small functions, brackets, one-sentence summaries, and four kinds of classification. It exists so\n\
that `lopper study` shows the whole method at once, offline. **It is not a language model for any other use.**\n\n\
## Training\n\n\
`lopper pocket train`, from random weights (seed {init}): {steps} steps, {tokens:.1}M tokens in {docs} documents of\n\
the training split, {minutes:.0} minutes of a shared two-core machine. Muon on the matrices inside the layers and AdamW\n\
elsewhere, peak learning rate {peak}, falling to {floor:.0} % of it over the last {decay:.0} % of the steps; matrix\n\
products with bf16 operands and f32 sums where the processor has AVX-512 BF16.\n\n\
**Stochastic depth:** while training, each layer is skipped at random, with a probability that rises linearly from 0\n\
at the first layer to {drop} at the last. A small dense model lacks the depth redundancy that large ones have; this\n\
gives it some. What pruning does to this model therefore illustrates what it does to large ones, and proves nothing\n\
about them.\n\n\
## Held-out accuracy\n\n\
Items whose content hash puts them in the `report` split; they never occur in the training stream (a test checks\n\
that). Greedy decoding, `lopper eval pocket --tasks pocket`.\n\n{table}\n\
`pocket_arith`: always guessing a first digit of 1 scores about 0.30.\n",
        layers = trained.model.num_layers(),
        params = trained.model.parameter_count(),
        width = trained.model.config.hidden_size,
        init = recipe.init_seed,
        steps = trained.steps,
        tokens = trained.run.tokens as f64 / 1e6,
        docs = trained.run.documents,
        minutes = trained.run.seconds / 60.0,
        peak = recipe.schedule.peak,
        floor = recipe.schedule.floor * 100.0,
        decay = recipe.schedule.decay * 100.0,
        drop = recipe.layer_drop,
    )
}
