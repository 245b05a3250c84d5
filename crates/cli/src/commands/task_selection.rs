//! What ablations and searches share: the tasks they evaluate on, and the work it took.

use lopper_infer::TextModel;
use lopper_measure::{Cost, Execution};
use lopper_record::Result;
use lopper_tasks::{ItemSelection, RowChoice, Split, Suite};
use serde::Serialize;

use super::benchmark;
use crate::args::{SplitArg, TaskSelectionArgs};
use crate::context::Context;
use crate::table;

/// The tasks' items in the model's tokens.
pub fn suite(context: &Context, text: &TextModel, args: &TaskSelectionArgs) -> Result<Suite> {
    let (split, rows) = match args.split {
        SplitArg::Report => (Split::Report, RowChoice::Divided),
        SplitArg::Select => (Split::Select, RowChoice::Divided),
        SplitArg::All => (Split::Report, RowChoice::All),
    };
    let selection = ItemSelection { rows, ..ItemSelection::new(split, args.limit.get(), args.seed) };
    let tasks = lopper_tasks::expand(&args.tasks)?;
    Suite::prepare(
        text,
        &tasks,
        &selection,
        &benchmark::policy(&args.benchmark),
        &benchmark::resources(context, &args.benchmark)?,
    )
}

/// How candidates are run.
pub fn execution(args: &TaskSelectionArgs) -> Execution {
    let default = Execution::default();
    Execution { drafts: default.drafts.filter(|_| !args.no_drafts), ..default }
}

/// The work of an evaluation of many candidates, for JSON.
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
            layer_rows: cost.work.layer_tokens,
            layer_rows_apart: cost.work.unshared_layer_tokens,
            generated_tokens: cost.tokens,
            draft_tokens_checked: cost.drafted,
            draft_tokens_accepted: cost.accepted,
        }
    }
}

/// The same in a sentence.
pub fn summary(cost: &Cost) -> String {
    let mut parts = Vec::new();
    if cost.work.unshared_layer_tokens > 0 {
        let share = 100.0 * cost.work.layer_tokens as f64 / cost.work.unshared_layer_tokens as f64;
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
