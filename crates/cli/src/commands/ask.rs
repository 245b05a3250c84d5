//! What ablations and searches share: the tasks they ask, and how they say what it took.

use anyhow::Result;
use lopper_eval::{Cost, EvalOptions, ManyOptions, Split, Suite};
use lopper_infer::{LoopStop, Sampling, TextModel};
use serde::Serialize;

use crate::args::{AskArgs, SplitArg};
use crate::table;

/// The tasks' items in the model's tokens.
pub fn suite(text: &TextModel, args: &AskArgs) -> Result<(Suite, EvalOptions)> {
    let split = match args.split {
        SplitArg::Report => Split::Report,
        SplitArg::Select => Split::Select,
    };
    let options =
        EvalOptions { split, limit: args.limit.get(), seed: args.seed, sampling: Sampling::Greedy, sampling_seed: 0 };
    let tasks = lopper_eval::expand(&args.tasks)?;
    Ok((Suite::prepare(text, &tasks, &options)?, options))
}

/// How candidates are asked.
pub fn many(args: &AskArgs) -> ManyOptions {
    ManyOptions {
        loops: (!args.no_loop_stop).then(LoopStop::default),
        drafts: !args.no_drafts,
        ..ManyOptions::default()
    }
}

/// What an evaluation of many candidates took, for JSON.
#[derive(Serialize)]
pub struct CostRecord {
    /// Tokens times layers that were computed for multiple choice.
    layer_rows: u64,
    /// What that would be for each candidate by itself.
    layer_rows_apart: u64,
    generated_tokens: usize,
    draft_tokens_checked: usize,
    draft_tokens_accepted: usize,
}

impl From<Cost> for CostRecord {
    fn from(cost: Cost) -> Self {
        Self {
            layer_rows: cost.work.layer_rows,
            layer_rows_apart: cost.work.apart_rows,
            generated_tokens: cost.tokens,
            draft_tokens_checked: cost.drafted,
            draft_tokens_accepted: cost.accepted,
        }
    }
}

/// The same in a sentence.
pub fn told(cost: &Cost) -> String {
    let mut parts = Vec::new();
    if cost.work.apart_rows > 0 {
        let share = 100.0 * cost.work.layer_rows as f64 / cost.work.apart_rows as f64;
        parts.push(format!("multiple choice took {share:.0} % of the layer work that each candidate alone would"));
    }
    if cost.drafted > 0 {
        let share = 100.0 * cost.accepted as f64 / cost.drafted as f64;
        parts.push(format!(
            "{share:.0} % of {} draft tokens were right, among {} generated",
            table::count(cost.drafted as u64),
            table::count(cost.tokens as u64)
        ));
    }
    parts.join("; ")
}
