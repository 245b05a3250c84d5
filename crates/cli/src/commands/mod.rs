//! The commands, one file each. A command resolves its arguments, calls the libraries, and gives
//! what they return to the printer.

mod ablate;
mod ask;
mod bench;
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
mod tasks;

use anyhow::Result;

use crate::args::Command;
use crate::env::Env;
use lopper_record::Fault;

/// Runs the command that was asked for.
pub fn run(env: &Env, command: &Command) -> Result<()> {
    if env.revision.is_some() && matches!(command, Command::Report(_) | Command::Pocket(_) | Command::Tasks(_)) {
        return Err(Fault::new("--revision belongs to a MODEL of the hub")
            .expected("a command that takes MODEL")
            .got("one that does not")
            .hint("leave --revision out")
            .into());
    }
    match command {
        Command::Inspect(args) => inspect::run(env, args),
        Command::Score(args) => score::run(env, args),
        Command::Ablate(args) => ablate::run(env, args),
        Command::Search(args) => search::run(env, args),
        Command::Prune(args) => prune::run(env, args),
        Command::Plan(args) => plan::run(env, args),
        Command::Generate(args) => generate::run(env, args),
        Command::Heal(args) => heal::run(env, args),
        Command::Eval(args) => eval::run(env, args),
        Command::Diagnose(args) => diagnose::run(env, args),
        Command::Tasks(args) => tasks::run(env, args),
        Command::Logprobs(args) => logprobs::run(env, args),
        Command::Report(args) => report::run(env, args),
        Command::Study(args) => study::run(env, args),
        Command::Pocket(args) => pocket::run(env, args),
    }
}
