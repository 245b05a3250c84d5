//! Arguments of `lopper tasks`.

use clap::{Args, Subcommand};

/// `lopper tasks`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TasksArgs {
    #[command(subcommand)]
    pub command: Option<TasksCommand>,

    /// Print one JSON list
    #[arg(long)]
    pub json: bool,
}

/// What to do with tasks.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// Print the file of one task, to read or as a start for a task of your own
    Show(ShowTaskArgs),
}

/// `lopper tasks show`
#[derive(Debug, Args)]
pub struct ShowTaskArgs {
    /// Task, group, or path of a task file
    pub name: String,
}
