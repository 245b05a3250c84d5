//! Speed of the engine on one checkpoint, as JSON: what `benches/engine.py` compares with PyTorch.
//!
//!     cargo run --release --example engine_speed -- MODEL PARTS [ragged|words] [bf16] [stream]
//!
//! PARTS are some of `scoring,lengths,decode,small,candidates`.
//!
//! `words` generates answers to word problems, which end by themselves, and needs a pocket model.

use lopper_infer::{Engine, GenerateOptions, Generation, Request, TextModel};
use lopper_model::chat::Message;
use lopper_model::{Checkpoint, MatmulPrecision, Model};
use lopper_pocket::{Split, examples};
use lopper_record::{Context, LayerSet, LayerSlot, NoProgress, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

// The program's own allocator, so that the figures are those of `lopper`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Lengths of 16 answers: characters of the reference solutions to GSM8K's first 16 test questions, divided by four.
const ANSWERS: [usize; 16] = [32, 28, 82, 19, 74, 103, 65, 130, 98, 89, 118, 81, 79, 111, 92, 91];

/// Texts of each length, as `benches/engine.py` has them.
const LENGTHS: [(&str, usize, usize); 3] =
    [("scoring1024", 2, 1024), ("scoring4096", 1, 4096), ("scoring8000", 1, 8000)];

/// Sequences decoded at once and new tokens of each, as `benches/engine.py` has them; the larger ones for small models.
const DECODING: [(&str, usize, usize); 5] =
    [("decode1", 1, 32), ("decode8", 8, 32), ("decode32", 32, 128), ("decode64", 64, 64), ("decode128", 128, 64)];

/// Seconds of the best of a few calls.
fn best(calls: usize, mut f: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..calls {
        let begun = Instant::now();
        f()?;
        best = best.min(begun.elapsed().as_secs_f64());
    }
    Ok(best)
}

fn texts(count: usize, length: usize, vocab: usize) -> Vec<Vec<u32>> {
    (0..count).map(|s| (0..length).map(|t| ((s * 7919 + t * 104_729 + 13) % (vocab - 10)) as u32).collect()).collect()
}

fn prompts(count: usize, length: usize, new: usize, vocab: usize) -> Vec<Request> {
    texts(count, length, vocab).into_iter().map(|prompt| Request::greedy(prompt, new)).collect()
}

/// 16 word problems.
fn words(text: &TextModel) -> Result<Vec<Request>> {
    examples("pocket_word", Split::Report, 0)
        .take(16)
        .map(|example| {
            let prompt = text.conversation(&[Message::user(example.prompt.text())], true)?;
            Ok(Request { stop_tokens: text.special.eos.clone(), ..Request::greedy(prompt, 128) })
        })
        .collect()
}

#[allow(clippy::print_stdout, reason = "an example prints")]
fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let path = PathBuf::from(args.first().context("MODEL is missing")?);
    let what: Vec<&str> = args.get(1).map_or("scoring", String::as_str).split(',').collect();
    let checkpoint = Arc::new(Checkpoint::open(&path)?);
    let stream = args.iter().any(|arg| arg == "stream");
    let model = if stream { Model::streamed(&checkpoint)? } else { Model::mapped(&checkpoint)? };
    let (vocab, layers) = (model.config.vocab_size, model.num_layers());
    let precision = if args.iter().any(|arg| arg == "bf16") { MatmulPrecision::Bf16 } else { MatmulPrecision::F32 };
    let engine = Engine::new(model, 0)?.with_precision(precision);
    let all = engine.all_layers();
    let mut result = serde_json::Map::new();
    if what.contains(&"scoring") {
        let texts = texts(8, 256, vocab);
        let seconds = best(3, || engine.token_logprobs(&all, &texts, &NoProgress).map(drop))?;
        result.insert("scoring".into(), json!((8 * 256) as f64 / seconds));
    }
    for (name, count, length) in LENGTHS {
        if what.contains(&"lengths") {
            let texts = texts(count, length, vocab);
            let seconds = best(2, || engine.token_logprobs(&all, &texts, &NoProgress).map(drop))?;
            result.insert(name.into(), json!((count * length) as f64 / seconds));
        }
    }
    for (name, batch, new) in DECODING {
        if what.contains(&"decode") && (batch < 32 || what.contains(&"small")) {
            let requests = prompts(batch, 16, new, vocab);
            let options = GenerateOptions::default();
            let seconds = best(3, || engine.generate(&all, &requests, &options, &NoProgress).map(drop))?;
            result.insert(name.into(), json!((batch * new) as f64 / seconds));
        }
    }
    if what.contains(&"candidates") {
        // Single layers removed, and of a model with few layers blocks of neighbours as well.
        let blocks = (1..layers).flat_map(|size| (0..=layers - size).map(move |first| first..first + size));
        let cuts = blocks.map(|block| all.without(&block.collect()));
        // The uncut model first, as in a sweep: its answers are drafts for the others.
        let candidates: Vec<LayerSet<LayerSlot>> = std::iter::once(all.clone()).chain(cuts).take(24).collect();
        let has = |word: &str| args.iter().any(|arg| arg == word);
        let requests = match (has("ragged"), has("words")) {
            // Greedy texts of random weights never end, so each has a length limit of its own.
            (true, _) => (prompts(16, 64, 24, vocab).into_iter().zip(ANSWERS))
                .map(|(request, new)| Request::greedy(request.prompt, new))
                .collect(),
            (_, true) => words(&TextModel::new(engine.clone(), &checkpoint)?)?,
            _ => prompts(16, 24, 24, vocab),
        };
        let plain = GenerateOptions { draft_from_first: false, batch: 192, ..GenerateOptions::default() };
        let drafts = GenerateOptions { draft_from_first: true, ..plain.clone() };
        let mut alone = Vec::new();
        let apart = best(1, || {
            alone = candidates
                .iter()
                .map(|kept| engine.generate(kept, &requests, &plain, &NoProgress))
                .collect::<Result<Vec<_>>>()?;
            Ok(())
        })?;
        let tokens = alone.iter().flatten().map(|made: &Generation| made.tokens.len()).sum::<usize>() as f64;
        let run = |options: &GenerateOptions| -> Result<Value> {
            let mut share = 0.0;
            let seconds = best(1, || {
                let many = engine.generate_many(&candidates, &requests, options, &NoProgress)?;
                lopper_record::ensure!(many.candidates == alone, "other tokens than each candidate alone");
                share = many.accepted as f64 / many.drafted.max(1) as f64;
                Ok(())
            })?;
            Ok(
                json!({"tokens_per_second": tokens / seconds, "times_one_after_another": apart / seconds, "drafts_right": share}),
            )
        };
        let (many, drafted) = (run(&plain)?, run(&drafts)?);
        result.insert("candidates".into(), json!({"apart": tokens / apart, "many": many, "with_drafts": drafted}));
    }
    println!("{}", Value::Object(result));
    Ok(())
}
