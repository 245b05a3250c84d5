//! Arguments of `lopper eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::RunArgs;
use super::benchmark::BenchmarkArgs;

/// `lopper eval`
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Model: a Hugging Face directory, a hub id, or `pocket`
    pub model: String,

    /// Evaluate on these tasks, such as `pocket_word,arc_easy`, on groups such as `pocket`, `mmlu` or
    /// `paper_generative`, or on task files of your own such as `./own.toml`. `lopper tasks` lists the built-in tasks
    #[arg(long, value_name = "TASKS", value_delimiter = ',', required = true)]
    pub tasks: Vec<String>,

    /// Evaluate without these layers, such as `21-28` or `3,8,19`
    #[arg(long, value_name = "LAYERS")]
    pub drop: Option<String>,

    /// Evaluate with this adapter on the remaining layers
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,

    /// Also evaluate the uncut model on the same items, and show retention and paired tests by task and by group; where
    /// a difference may be chance, also how many items would tell
    #[arg(long)]
    pub compare: bool,

    #[arg(long, value_name = "N", help = format!(
        "Use the first N items of each task [default: {GENERATED_ITEMS} generated items, or all rows of a benchmark]"
    ))]
    pub limit: Option<NonZeroUsize>,

    /// Use the items for reporting scores, or those for choosing layers; no question is in both [default: `report` for
    /// generated items; `all` for benchmarks, as in lm-evaluation-harness: how many of them are for choosing layers is
    /// shown]
    #[arg(long, value_enum)]
    pub split: Option<SplitArg>,

    /// Fail if an item of the evaluation is in F.jsonl: samples that layers were chosen on, or conversations that the
    /// model was healed on
    #[arg(long, value_name = "F.jsonl")]
    pub disjoint_from: Option<PathBuf>,

    /// Seed for drawing and ordering items, and for bootstrap intervals of scores
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Sample with this temperature [default: 0, greedy decoding]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,

    /// Sample only from the most likely tokens whose probabilities sum to P
    #[arg(long, value_name = "P", requires = "temperature")]
    pub top_p: Option<f64>,

    /// Sample only from the K most likely tokens
    #[arg(long, value_name = "K", requires = "temperature")]
    pub top_k: Option<NonZeroUsize>,

    /// Seed for sampling; each response depends only on this seed and its item
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub sampling_seed: u64,

    /// Sample K responses to each item, each with its own seed, and show pass@k
    #[arg(long, value_name = "K", default_value = "1", requires = "temperature")]
    pub responses: NonZeroUsize,

    /// Score the uncut model, and with --drop or --adapter the cut one, once with each of these limits on the tokens of
    /// reasoning, such as `0,256,1024`; `none` means no limit
    #[arg(long, value_name = "BUDGETS", value_delimiter = ',', value_parser = parse_budget,
          conflicts_with_all = ["compare", "responses_from", "samples_out", "lm_eval_out", "max_thinking_tokens"])]
    pub thinking_budgets: Vec<BudgetArg>,

    /// Grade the responses in F.jsonl (`task`, `doc_id`, `response`) instead of generating them
    #[arg(long, value_name = "F.jsonl", conflicts_with_all = ["compare", "temperature"])]
    pub responses_from: Option<PathBuf>,

    #[command(flatten)]
    pub run: RunArgs,

    /// Also write results and samples to DIR, in the layout of lm-evaluation-harness
    #[arg(long, value_name = "DIR")]
    pub lm_eval_out: Option<PathBuf>,

    /// Write every item to F.jsonl: log-likelihoods or response, extracted answer, target and grade
    #[arg(long, value_name = "F.jsonl")]
    pub samples_out: Option<PathBuf>,

    /// Overwrite F.jsonl if it exists
    #[arg(long)]
    pub force: bool,

    /// Print one JSON document: `{"tasks":{"NAME":{"version":…,"shots":…,"n":…,"metrics":{…}}},"model":…,"seeds":…}`
    #[arg(long)]
    pub json: bool,

    #[command(flatten)]
    pub benchmark: BenchmarkArgs,
}

/// A limit on the tokens of reasoning, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetArg(pub Option<usize>);

fn parse_budget(text: &str) -> Result<BudgetArg, String> {
    match text {
        "none" => Ok(BudgetArg(None)),
        number => match number.parse() {
            Ok(tokens) => Ok(BudgetArg(Some(tokens))),
            Err(_) => Err(format!("`{number}` is no number of tokens; expected a number, or `none`")),
        },
    }
}

/// Items generated in place of rows, where `--limit` is not given: they never end.
pub const GENERATED_ITEMS: usize = 200;

/// The split that items come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SplitArg {
    /// Items for reporting scores
    Report,
    /// Items for choosing layers
    Select,
    /// All rows of benchmarks; for generated tasks the same as `report`
    All,
}
