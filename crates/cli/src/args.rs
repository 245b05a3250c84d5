//! The arguments, one file per command. They are only parsed here; commands turn them into settings.

mod ablate;
mod benchmark;
mod budget;
pub mod device;
mod diagnose;
mod eval;
mod filters;
mod generate;
mod heal;
mod input;
mod inspect;
mod logprobs;
mod lop;
mod plan;
mod pocket;
mod prune;
mod reasoning;
mod report;
mod rows;
mod run;
mod score;
mod search;
mod study;
mod task_selection;
mod tasks;
mod template;

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};

use crate::errors::{FAILED, INTERRUPTED, USER};

pub use ablate::AblateArgs;
pub use benchmark::BenchmarkArgs;
pub use budget::BudgetArgs;
pub use diagnose::{DiagnoseArgs, ITEMS};
pub use eval::{BudgetArg, EvalArgs, GENERATED_ITEMS, SplitArg};
pub use filters::FilterArgs;
pub use generate::{GenerateArgs, KeepAnswersArg};
pub use heal::{HealArgs, HeldOutArg, KeepArg, MethodArg, OutDtypeArg, ScheduleArg};
pub use input::InputArgs;
pub use inspect::InspectArgs;
pub use logprobs::LogprobsArgs;
pub use lop::LopArgs;
pub use plan::{FormatArg, PlanArgs, PlanCommand, ShowArgs};
pub use pocket::{DataArgs, PocketArgs, PocketCommand, TrainArgs};
pub use prune::PruneArgs;
pub use reasoning::ReasoningArgs;
pub use report::ReportArgs;
pub use rows::RowArgs;
pub use run::{DtypeArg, RunArgs};
pub use score::ScoreArgs;
pub use search::{SearchArgs, StrategyArg};
pub use study::StudyArgs;
pub use task_selection::TaskSelectionArgs;
pub use tasks::{TasksArgs, TasksCommand};
pub use template::TemplateArgs;

/// Find out how many layers a language model can lose, which ones, and what is lost
#[derive(Debug, Parser)]
#[command(name = "lopper", version, about, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = format!("MODEL is a Hugging Face model directory, the id of a model on the Hugging Face hub \
    (`organisation/name` or `organisation/name@REV`), or `pocket`, the small model that comes with lopper.\n\
    LAYERS are counted from 0 in the original model, such as `21-28` or `3,8,19`; a pruned model keeps these numbers.\n\
    Exit status: 0 success, {USER} an error in the input, {INTERRUPTED} interrupted, {FAILED} any other error."))]
pub struct Cli {
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Arguments that every command has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct GlobalArgs {
    /// Compute with N threads [default: one per core]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Compute on DEVICE; this version supports `cpu` only
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,

    /// Use this branch, tag or commit of a MODEL on the hub [default: main]
    #[arg(long, global = true, value_name = "REV")]
    pub revision: Option<String>,

    /// Do not contact the hub; use its cache only (also with HF_HUB_OFFLINE=1)
    #[arg(long, global = true)]
    pub offline: bool,

    /// Print only results and errors, no progress, notes or warnings
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print log messages; repeat for more detail
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole method: measure, prune, heal, measure again, and decide how many layers can be removed
    Study(StudyArgs),
    /// Show a model's family, layers and sizes, and what removing layers saves
    Inspect(InspectArgs),
    /// Score every layer by all criteria in one pass over a text
    Score(ScoreArgs),
    /// Remove every layer, one at a time, and measure what each removal costs on tasks
    Ablate(AblateArgs),
    /// Search for the layers to remove by evaluating candidates on tasks
    Search(SearchArgs),
    /// Remove layers and write the smaller model
    Prune(PruneArgs),
    /// Show what a cut removes, or print it in another tool's format
    Plan(PlanArgs),
    /// Generate a model's own answers to prompts, as training data for `heal`
    Generate(GenerateArgs),
    /// Finetune a model, with or without some of its layers, on its own answers
    Heal(HealArgs),
    /// Remove layers a few at a time, and finetune after each removal
    Lop(LopArgs),
    /// Evaluate a model on tasks, with confidence intervals
    Eval(EvalArgs),
    /// Decide how many layers can be removed, from samples that were measured anywhere
    Budget(BudgetArgs),
    /// Find out what broke in a pruned model, or in a file of responses
    Diagnose(DiagnoseArgs),
    /// List the tasks, or print the file of one
    Tasks(TasksArgs),
    /// Compute the log-probability of every token of a text
    Logprobs(LogprobsArgs),
    /// Rebuild the report of a study from its records, or compare several studies
    Report(ReportArgs),
    /// Generate the training data of the model that comes with lopper, or train it
    Pocket(PocketArgs),
}

impl Command {
    /// Whether the command opens a MODEL, which may be on the hub.
    pub fn takes_model(&self) -> bool {
        !matches!(self, Self::Report(_) | Self::Pocket(_) | Self::Tasks(_) | Self::Budget(_))
    }
}

/// `n` as a default value; 1 in place of 0.
fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN)
}
