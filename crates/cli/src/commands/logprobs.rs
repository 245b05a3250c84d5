//! `lopper logprobs`: the log-probability of every token of a text, at any depth.

use lopper_infer::mean_nll;
use lopper_measure::perplexity;
use lopper_record::{Fault, Result};
use serde::Serialize;

use crate::args::LogprobsArgs;
use crate::context::Context;
use crate::input;
use crate::open_model::OpenModel;
use crate::table;

/// The JSON document.
#[derive(Serialize)]
struct Logprobs {
    sequences: Vec<Sequence>,
    /// Mean of −log p over all tokens but the first of each sequence; none where there is no other.
    mean_nll: Option<f64>,
    /// The exponential of it.
    perplexity: Option<f64>,
    /// Its 95 % interval, from the sequences; none of a single one.
    perplexity_ci95: Option<[f64; 2]>,
}

#[derive(Serialize)]
struct Sequence {
    tokens: Vec<u32>,
    /// Natural logarithms; nothing predicts the first token.
    logprobs: Vec<Option<f32>>,
}

pub fn run(context: &Context, args: &LogprobsArgs) -> Result<()> {
    let opened = OpenModel::open(context, &args.model)?;
    let kept = opened.kept(args.drop.as_deref())?;
    let sequences = input::sequences(context, &opened, &args.input)?.ok_or_else(input::nothing_given)?;
    let engine = opened.engine_with_adapter(context, &args.run, args.adapter.as_deref(), &kept)?;
    let logprobs = engine.token_logprobs(&kept.slots(), &sequences, &context.progress)?;

    if let Some(index) = logprobs.iter().position(|list| list.iter().flatten().any(|value| !value.is_finite())) {
        return Err(Fault::new(format!("the log-probabilities of sequence {index} are not finite"))
            .file(opened.checkpoint.path_of(""))
            .expected("finite weights")
            .got("infinity or not-a-number in a forward pass")
            .hint("the checkpoint is damaged, or its training diverged")
            .into());
    }
    let (mean_nll, predicted) = mean_nll(&logprobs);
    let perplexity = perplexity(&logprobs);
    let perplexity_ci95 = perplexity.and_then(|mean| mean.ci95);
    if args.json {
        let sequences = sequences.into_iter().zip(logprobs);
        let sequences = sequences.map(|(tokens, logprobs)| Sequence { tokens, logprobs }).collect();
        return context.printer.json(&Logprobs {
            sequences,
            mean_nll,
            perplexity: perplexity.map(|mean| mean.value),
            perplexity_ci95,
        });
    }
    let number = |value: Option<f64>| value.map_or_else(|| "none".to_owned(), |value| format!("{value:.4}"));
    let rows = [
        ["sequences".to_owned(), table::count(sequences.len() as u64)],
        ["tokens predicted".to_owned(), table::count(predicted as u64)],
        ["mean NLL".to_owned(), number(mean_nll)],
        ["perplexity".to_owned(), number(perplexity.map(|mean| mean.value))],
        ["95 % interval".to_owned(), perplexity_ci95.map_or_else(|| no_interval(sequences.len()), interval)],
    ];
    context.printer.result(table::render(["", ""], &rows).trim_start())
}

fn interval([low, high]: [f64; 2]) -> String {
    format!("{low:.4} to {high:.4}")
}

/// Why there is none.
fn no_interval(sequences: usize) -> String {
    if sequences < 2 { "none of a single sequence".to_owned() } else { "none".to_owned() }
}
