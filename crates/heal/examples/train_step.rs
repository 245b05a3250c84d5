//! Lopper's side of `benches/train_step.py`: training steps, timed after a warm-up, reported as one line of JSON.
//!
//! `train_step write DIR [--shape pocket|tiny|mid|small] [--batch TEXTSxTOKENS|chat]` writes random weights, an adapter
//! and a fixed batch, which the other side loads too; `chat` is 8 texts of 50 to 200 tokens;
//! `train_step run DIR [--steps N] [--warmup N] [--workers N] [--micro-tokens N] [--bf16] [--lora] [--checkpointing]`
//! trains on them: all weights, or the adapter. With `--bf16` the operands of matrix products are rounded to bf16 and
//! summed in f32.

use anyhow::{Context, Result, bail};
use lopper_heal::{
    AdamWConfig, Document, LoraConfig, Trainer, TrainerConfig, attach_lora, is_adapter, load_adapter, save_adapter,
};
use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::{Checkpoint, Config, Model, QkNorm};
use lopper_record::LayerSet;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

// The program's own allocator, so that the figures are those of `lopper`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: &str = "batch.json";
const ADAPTER: &str = "adapter";
const RATE: f64 = 1e-3;

/// Tokens predicted in each of 8 texts of a chat: 50 to 200.
const CHAT: [usize; 8] = [62, 187, 94, 133, 50, 200, 78, 151];

/// What is trained: a shape, the dtype of its file, and sequences by the tokens predicted in each, if no others are
/// given.
struct Shape {
    config: Config,
    dtype: Dtype,
    batch: (usize, usize),
}

/// Tokens predicted in each text of a batch, from `8x256` or `chat`.
fn lengths(text: &str) -> Result<Vec<usize>> {
    if text == "chat" {
        return Ok(CHAT.to_vec());
    }
    let (count, length) = text.split_once('x').with_context(|| format!("--batch {text}: not like 8x256"))?;
    Ok(vec![length.parse()?; count.parse()?])
}

fn shape(name: &str) -> Result<Shape> {
    let tied = |config: Config| Config { tie_word_embeddings: true, ..config };
    Ok(match name {
        // The pocket model's.
        "pocket" => Shape {
            config: tied(Config {
                model_type: "qwen3".into(),
                vocab_size: 640,
                hidden_size: 128,
                num_key_value_heads: 2,
                intermediate_size: 512,
                qk_norm: QkNorm::Head,
                max_position_embeddings: 512,
                ..Config::plain(12, 4, 32)
            }),
            dtype: Dtype::F32,
            batch: (64, 128),
        },
        // A Llama of 12.6 million parameters.
        "tiny" => Shape {
            config: tied(Config {
                vocab_size: 4096,
                hidden_size: 320,
                num_key_value_heads: 5,
                intermediate_size: 864,
                max_position_embeddings: 2048,
                ..Config::plain(8, 10, 32)
            }),
            dtype: Dtype::F32,
            batch: (32, 128),
        },
        // Qwen2.5-0.5B's, without its biases: a Llama.
        "mid" => Shape {
            config: tied(Config {
                vocab_size: 151_936,
                hidden_size: 896,
                num_key_value_heads: 2,
                intermediate_size: 4864,
                max_position_embeddings: 32_768,
                ..Config::plain(24, 14, 64)
            }),
            dtype: Dtype::BF16,
            batch: (4, 256),
        },
        // SmolLM2-135M's.
        "small" => Shape {
            config: tied(Config {
                vocab_size: 49_152,
                hidden_size: 576,
                num_key_value_heads: 3,
                intermediate_size: 1536,
                max_position_embeddings: 8192,
                ..Config::plain(30, 9, 64)
            }),
            dtype: Dtype::BF16,
            batch: (8, 256),
        },
        other => bail!("`{other}`: pocket, tiny, mid or small"),
    })
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, directory, options @ ..] = args.as_slice() else {
        bail!(
            "usage: train_step write|run DIR [--shape NAME] [--batch TEXTSxTOKENS] [--steps N] [--warmup N] [--workers N] [--micro-tokens N] [--bf16] [--lora] [--checkpointing]"
        );
    };
    let number = |name: &str, default: usize| -> Result<usize> {
        let Some(at) = options.iter().position(|o| o == name) else { return Ok(default) };
        options.get(at + 1).with_context(|| format!("{name} needs a number"))?.parse().context(name.to_owned())
    };
    let flag = |name: &str| options.iter().any(|o| o == name);
    let directory = Path::new(directory);
    match verb.as_str() {
        "write" => {
            let value = |name: &str| Some(options.get(options.iter().position(|o| o == name)? + 1)?.as_str());
            let shape = shape(value("--shape").unwrap_or("pocket"))?;
            let given = value("--batch").map(lengths).transpose()?;
            let lengths = given.unwrap_or_else(|| vec![shape.batch.1; shape.batch.0]);
            write(directory, &shape, &lengths)
        }
        "run" => {
            let trainer = TrainerConfig {
                workers: number("--workers", 2)?,
                micro_tokens: number("--micro-tokens", TrainerConfig::default().micro_tokens)?,
                mixed: flag("--bf16"),
                checkpointing: flag("--checkpointing"),
                ..TrainerConfig::default()
            };
            run(directory, trainer, flag("--lora"), number("--warmup", 2)?, number("--steps", 4)?)
        }
        other => bail!("`{other}`: write or run"),
    }
}

fn write(directory: &Path, shape: &Shape, lengths: &[usize]) -> Result<()> {
    std::fs::create_dir_all(directory.join(ADAPTER))?;
    let Shape { config, dtype, .. } = shape;
    let mut model = Model::random(config.clone(), 0.02, 1)?;
    model.save(directory, &config_json(config, *dtype)?, *dtype)?;
    let lora = LoraConfig { r: 16, alpha: 32.0, dropout: 0.0, ..LoraConfig::default() };
    let layers = LayerSet::all(model.num_layers());
    attach_lora(&mut model, &lora, 3, &layers)?;
    save_adapter(&directory.join(ADAPTER), &model, &layers, &lora, None)?;
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    // One token more than is predicted: the first has no predecessor.
    let mut sequence =
        |predicted: &usize| (0..=*predicted).map(|_| rng.next_u32() % config.vocab_size as u32).collect();
    let batch: Vec<Vec<u32>> = lengths.iter().map(&mut sequence).collect();
    Ok(std::fs::write(directory.join(BATCH), serde_json::to_vec(&batch)?)?)
}

fn run(directory: &Path, config: TrainerConfig, lora: bool, warmup: usize, steps: usize) -> Result<()> {
    // As `lopper heal` does: an adapter's base stays in its file, unless it is small.
    let mut model = Model::mapped(&Arc::new(Checkpoint::open(directory)?))?;
    if model.is_small() {
        model.load();
    }
    let batch: Vec<Vec<u32>> = serde_json::from_slice(&std::fs::read(directory.join(BATCH))?)?;
    let documents: Vec<Document> =
        batch.into_iter().map(|tokens| Document { weights: vec![1.0; tokens.len()], tokens }).collect();
    let kept = LayerSet::all(model.num_layers());
    if lora {
        load_adapter(&directory.join(ADAPTER), &mut model, &kept)?;
    }
    let mut trainer =
        Trainer::new(model, kept.slots(), |name| !lora || is_adapter(name), AdamWConfig::default(), config);
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
