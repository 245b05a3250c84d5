//! Lopper's side of `benches/train_step.py`: full training steps of a model of the pocket model's
//! shape, timed after a warm-up, reported as one line of JSON.
//!
//! `train_step write DIR` writes random weights and a fixed batch, which the other side loads too;
//! `train_step run DIR [--steps N] [--warmup N] [--workers N] [--micro-tokens N] [--bf16]` trains on
//! them; with `--bf16` the operands of matrix products are rounded to bf16 and summed in f32.

use anyhow::{Context, Result, bail};
use lopper_heal::{AdamWConfig, Document, Trainer, TrainerConfig};
use lopper_model::checkpoint::{Dtype, save_model};
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Config, Model, QkNorm};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

// The program's own allocator, so that the figures are those of `lopper`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: &str = "batch.json";
/// Sequences, and tokens predicted in each.
const SHAPE: (usize, usize) = (64, 128);
const RATE: f64 = 1e-3;

fn config() -> Config {
    Config {
        model_type: "qwen3".into(),
        vocab_size: 640,
        hidden_size: 128,
        num_key_value_heads: 2,
        intermediate_size: 512,
        tie_word_embeddings: true,
        qk_norm: QkNorm::Head,
        max_position_embeddings: 512,
        ..Config::plain(12, 4, 32)
    }
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, directory, options @ ..] = args.as_slice() else {
        bail!("usage: train_step write|run DIR [--steps N] [--warmup N] [--workers N] [--micro-tokens N] [--bf16]");
    };
    let number = |name: &str, default: usize| -> Result<usize> {
        let Some(at) = options.iter().position(|o| o == name) else { return Ok(default) };
        options.get(at + 1).with_context(|| format!("{name} needs a number"))?.parse().context(name.to_owned())
    };
    let directory = Path::new(directory);
    match verb.as_str() {
        "write" => write(directory),
        "run" => {
            let trainer = TrainerConfig {
                workers: number("--workers", 2)?,
                micro_tokens: number("--micro-tokens", TrainerConfig::default().micro_tokens)?,
                mixed: options.iter().any(|o| o == "--bf16"),
                ..TrainerConfig::default()
            };
            run(directory, trainer, number("--warmup", 2)?, number("--steps", 4)?)
        }
        other => bail!("`{other}`: write or run"),
    }
}

fn write(directory: &Path) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let config = config();
    let model = Model::random(config.clone(), 0.02, 1)?;
    save_model(directory, &model, &config_json(&config, Dtype::F32)?, Dtype::F32)?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // One token more than is predicted: the first has no predecessor.
    let sequence = |rng: &mut ChaCha8Rng| -> Vec<u32> {
        (0..=SHAPE.1).map(|_| rng.next_u32() % config.vocab_size as u32).collect()
    };
    let batch: Vec<Vec<u32>> = (0..SHAPE.0).map(|_| sequence(&mut rng)).collect();
    Ok(std::fs::write(directory.join(BATCH), serde_json::to_vec(&batch)?)?)
}

fn run(directory: &Path, config: TrainerConfig, warmup: usize, steps: usize) -> Result<()> {
    let model = Checkpoint::open(directory)?.load_model()?;
    let batch: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(directory.join(BATCH))?)?;
    let documents: Vec<Document> =
        batch.into_iter().map(|tokens| Document { weights: vec![1.0; tokens.len()], tokens }).collect();
    let kept = model.all_layers();
    let mut trainer = Trainer::new(model, kept, |_| true, AdamWConfig::default(), config);
    let mut losses = Vec::new();
    for _ in 0..warmup {
        losses.push(trainer.step(&documents, RATE)?.loss);
    }
    let (begun, mut tokens) = (Instant::now(), 0);
    for _ in 0..steps {
        let stats = trainer.step(&documents, RATE)?;
        losses.push(stats.loss);
        tokens += stats.tokens;
    }
    let rate = tokens as f64 / begun.elapsed().as_secs_f64();
    let report = json!({ "tokens_per_second": rate, "peak_mb": peak_megabytes(), "losses": losses });
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}

/// Largest resident set so far; `null` where /proc does not tell.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}
