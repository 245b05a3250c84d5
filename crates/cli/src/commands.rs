//! The commands, one file each. A command resolves its arguments, calls the libraries, and gives
//! what they return to the printer.

mod ablate;
mod benchmark;
mod budget;
mod diagnose;
mod eval;
mod generate;
mod heal;
mod inspect;
mod logprobs;
mod plan;
mod pocket;
mod prune;
mod report;
mod score;
mod search;
mod study;
mod task_selection;
mod tasks;

use crate::args::Command;
use crate::context::Context;
use lopper_record::{Fault, Result};

/// Runs the command that was asked for.
pub fn run(context: &Context, command: &Command) -> Result<()> {
    if context.revision.is_some() && !command.takes_model() {
        return Err(Fault::new("--revision belongs to a MODEL of the hub")
            .expected("a command that takes MODEL")
            .got("one that does not")
            .hint("leave --revision out")
            .into());
    }
    match command {
        Command::Inspect(args) => inspect::run(context, args),
        Command::Score(args) => score::run(context, args),
        Command::Ablate(args) => ablate::run(context, args),
        Command::Search(args) => search::run(context, args),
        Command::Prune(args) => prune::run(context, args),
        Command::Plan(args) => plan::run(context, args),
        Command::Generate(args) => generate::run(context, args),
        Command::Heal(args) => heal::run(context, args, None),
        Command::Lop(args) => heal::run(context, &args.heal, Some(args)),
        Command::Eval(args) => eval::run(context, args),
        Command::Budget(args) => budget::run(context, args),
        Command::Diagnose(args) => diagnose::run(context, args),
        Command::Tasks(args) => tasks::run(context, args),
        Command::Logprobs(args) => logprobs::run(context, args),
        Command::Report(args) => report::run(context, args),
        Command::Study(args) => study::run(context, args),
        Command::Pocket(args) => pocket::run(context, args),
    }
}
