//! The command line `lopper`: how many layers can a model lose, which ones, and what is lost?
//!
//! Commands parse, libraries work, one printer speaks. Results go to standard output, progress and
//! messages to standard error. Exit status: 0 done, 2 the user's input is at fault, 130 interrupted,
//! 1 anything else.

mod args;
mod command_line;
mod commands;
mod context;
mod errors;
mod hub;
mod input;
mod interrupt;
mod machine;
mod open_model;
mod printer;
mod progress;
mod prompts;
mod rows;
mod table;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use context::Context;
use printer::Printer;

// Training and decoding allocate many buffers of a few sizes over and over; this allocator keeps
// freed memory for the next ones instead of returning it to the system.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // First of all: a process that was started to run a model's program does that and nothing else.
    lopper_sandbox::child_main();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Also how `--help` and `--version` arrive, with exit status 0. A closed pipe is the
            // only way that printing fails, and then nobody reads.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let printer = Printer::new(cli.global.quiet, cli.global.verbose);
    let context = Context::new(&cli.global, printer.clone());
    let result = context.and_then(|context| commands::run(&context, &cli.command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = errors::exit_code(&error);
            if code == errors::INTERRUPTED {
                printer.note("interrupted");
            } else {
                printer.error(&error);
            }
            ExitCode::from(code)
        }
    }
}
