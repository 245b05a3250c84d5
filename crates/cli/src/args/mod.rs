//! The arguments, one file per command. They are only read here; commands turn them into settings.

mod ablate;
mod ask;
mod bench;
pub mod device;
mod diagnose;
mod eval;
mod generate;
mod heal;
mod input;
mod inspect;
mod logprobs;
mod plan;
mod pocket;
mod prune;
mod report;
mod run;
mod score;
mod search;
mod study;
mod tasks;

use std::num::NonZeroUsize;

use clap::{Args, Parser, Subcommand};

pub use ablate::AblateArgs;
pub use ask::AskArgs;
pub use bench::BenchArgs;
pub use diagnose::DiagnoseArgs;
pub use eval::{EvalArgs, SplitArg};
pub use generate::GenerateArgs;
pub use heal::{HealArgs, MethodArg};
pub use input::InputArgs;
pub use inspect::InspectArgs;
pub use logprobs::LogprobsArgs;
pub use plan::{PlanArgs, PlanCommand, ShowArgs};
pub use pocket::{DataArgs, PocketArgs, PocketCommand, TrainArgs};
pub use prune::PruneArgs;
pub use report::ReportArgs;
pub use run::{DtypeArg, RunArgs};
pub use score::ScoreArgs;
pub use search::{SearchArgs, StrategyArg};
pub use study::StudyArgs;
pub use tasks::{TasksArgs, TasksCommand};

/// How many layers can a language model lose, which ones, and what is lost?
#[derive(Debug, Parser)]
#[command(name = "lopper", version, about, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "MODEL is a Hugging Face model directory, an id of the Hugging Face hub \
    (`organisation/name`, or `organisation/name@REV`), or `pocket`, the model that comes with lopper.\nLAYERS are counted from 0 and keep their original numbers: `21-28` or `3,8,19`.\n\
    Exit status: 0 done, 2 the input is at fault, 130 interrupted, 1 anything else.")]
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
    /// Threads to compute with [default: one for each core]
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Where to compute; `cpu` is the only device
    #[arg(long, global = true, value_name = "DEVICE", default_value = "cpu")]
    pub device: String,

    /// Take this branch, tag or commit of a MODEL of the hub [default: main]
    #[arg(long, global = true, value_name = "REV")]
    pub revision: Option<String>,

    /// Ask no hub: models come from its cache (also with HF_HUB_OFFLINE=1)
    #[arg(long, global = true)]
    pub offline: bool,

    /// No progress, notes or warnings; only results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Say more about what is going on; may be repeated
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The main job: measure, cut, heal, measure again, and decide how many layers may go
    Study(StudyArgs),
    /// Tell a model's family, layers and sizes, and what cutting layers saves
    Inspect(InspectArgs),
    /// Score every layer by all criteria in one pass over a text
    Score(ScoreArgs),
    /// Remove every layer, one at a time, and tell what each removal costs
    Ablate(AblateArgs),
    /// Search for the layers to remove by evaluating candidates on tasks
    Search(SearchArgs),
    /// Remove layers and write the smaller model
    Prune(PruneArgs),
    /// What a cut is, for people and for other tools
    Plan(PlanArgs),
    /// Let a model answer prompts; the answers heal its pruned self
    Generate(GenerateArgs),
    /// Finetune a model, cut or whole, on its own answers
    Heal(HealArgs),
    /// Score a model on tasks, with intervals
    Eval(EvalArgs),
    /// Say what broke in a model or in a file of responses, not only that something did
    Diagnose(DiagnoseArgs),
    /// List the tasks there are, or print one
    Tasks(TasksArgs),
    /// Log-probability of every token of a text
    Logprobs(LogprobsArgs),
    /// Rebuild the report of a study from its records
    Report(ReportArgs),
    /// The model that comes with lopper: its data and its training
    Pocket(PocketArgs),
}
