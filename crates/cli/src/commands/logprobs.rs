//! `lopper logprobs`: the log-probability of every token of a text, at any depth.

use anyhow::Result;
use lopper_infer::ProgressFn;
use lopper_record::Fault;
use serde::Serialize;

use crate::args::LogprobsArgs;
use crate::env::Env;
use crate::input;
use crate::loaded::Loaded;
use crate::table;

/// The JSON document.
#[derive(Serialize)]
struct Logprobs {
    sequences: Vec<Sequence>,
    /// Mean of −log p over all tokens but the first of each sequence; none where there is no other.
    mean_nll: Option<f64>,
}

#[derive(Serialize)]
struct Sequence {
    tokens: Vec<u32>,
    /// Natural logarithms; nothing predicts the first token.
    logprobs: Vec<Option<f32>>,
}

pub fn run(env: &Env, args: &LogprobsArgs) -> Result<()> {
    let loaded = Loaded::open(env, &args.model)?;
    let kept = loaded.kept(args.drop.as_deref())?;
    let sequences = input::required_sequences(env, &loaded, &args.input)?;
    let engine = loaded.engine(env, &args.run)?;
    let progress = env.progress("reading", "sequences", sequences.len());
    let logprobs = engine.token_logprobs(&kept.into(), &sequences, &ProgressFn(|done, _| progress.set(done)))?;
    drop(progress);

    if let Some(index) = logprobs.iter().position(|list| list.iter().flatten().any(|value| !value.is_finite())) {
        return Err(Fault::new(format!("the log-probabilities of sequence {index} are not finite"))
            .file(loaded.checkpoint.path_of(""))
            .expected("finite weights")
            .got("infinity or not-a-number in a forward pass")
            .hint("the checkpoint is damaged, or its training diverged")
            .into());
    }
    let predicted: Vec<f64> = logprobs.iter().flatten().flatten().map(|value| f64::from(*value)).collect();
    let mean_nll = (!predicted.is_empty()).then(|| -predicted.iter().sum::<f64>() / predicted.len() as f64);
    if args.json {
        let sequences = sequences.into_iter().zip(logprobs);
        let sequences = sequences.map(|(tokens, logprobs)| Sequence { tokens, logprobs }).collect();
        return env.printer.json(&Logprobs { sequences, mean_nll });
    }
    let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.4}"));
    let rows = [
        ["sequences".to_owned(), table::count(sequences.len() as u64)],
        ["tokens predicted".to_owned(), table::count(predicted.len() as u64)],
        ["mean NLL".to_owned(), number(mean_nll)],
        ["perplexity".to_owned(), number(mean_nll.map(f64::exp))],
    ];
    env.printer.result(table::render(["", ""], &rows).trim_start())
}
