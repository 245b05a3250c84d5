//! What ablations and searches share: the tasks they ask, and how they say what it took.

use anyhow::Result;
use lopper_infer::{LoopStop, Sampling, TextModel};
use lopper_measure::{Cost, ManyOptions};
use lopper_tasks::{EvalOptions, RowChoice, Split, Suite};
use serde::Serialize;

use super::bench;
use crate::args::{AskArgs, BenchArgs, SplitArg};
use crate::env::Env;
use crate::table;

/// The tasks' items in the model's tokens.
pub fn suite(env: &Env, text: &TextModel, args: &AskArgs) -> Result<(Suite, EvalOptions)> {
    let (split, rows) = match args.split {
        SplitArg::Report => (Split::Report, RowChoice::Divided),
        SplitArg::Select => (Split::Select, RowChoice::Divided),
        SplitArg::All => (Split::Report, RowChoice::All),
    };
    let options =
        EvalOptions { split, limit: args.limit.get(), seed: args.seed, sampling: Sampling::Greedy, sampling_seed: 0 };
    let tasks = lopper_tasks::expand(&args.tasks)?;
    let bench = bench::options(env, &args.bench, rows)?;
    Ok((Suite::prepare_with(text, &tasks, &options, &bench)?, options))
}

/// What of the arguments decides which questions are asked, for records.
pub fn identity(args: &AskArgs, options: &EvalOptions) -> Result<serde_json::Value> {
    let BenchArgs {
        shots,
        apply_chat_template,
        examples_in_one_message,
        system,
        max_new_tokens,
        truncate_questions,
        ..
    } = &args.bench;
    Ok(serde_json::json!({
        "items": options,
        "all_rows": args.split == SplitArg::All,
        "shots": shots,
        "chat_template": apply_chat_template,
        "one_message": examples_in_one_message,
        "system": system,
        "max_new_tokens": max_new_tokens,
        "truncate_questions": truncate_questions,
    }))
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
