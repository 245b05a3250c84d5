//! Arguments of `lopper tasks`.

use clap::{Args, Subcommand};

/// `lopper tasks`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TasksArgs {
    #[command(subcommand)]
    pub command: Option<TasksCommand>,

    /// One JSON list
    #[arg(long)]
    pub json: bool,
}

/// What to tell of tasks.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// Print the file of one task, to read or to begin one's own with
    Show(ShowTaskArgs),
}

/// `lopper tasks show`
#[derive(Debug, Args)]
pub struct ShowTaskArgs {
    /// A task, a group, or the path of a task's file
    pub name: String,
}
