//! From arguments to how tasks over rows are asked; the sandbox, announced before anything runs.

use std::sync::Arc;

use anyhow::Result;
use lopper_eval::{BenchOptions, CodeRunner, DataRoot, RowChoice};
use lopper_sandbox::Policy;

use crate::args::BenchArgs;
use crate::env::Env;

/// Settings for the tasks of one command. Says on standard error what protects this machine where
/// programs may be run.
pub fn options(env: &Env, args: &BenchArgs, rows: RowChoice) -> Result<BenchOptions> {
    let code = match args.allow_code_execution {
        true => Some(Arc::new(runner(env, args)?)),
        false => None,
    };
    Ok(BenchOptions {
        data_root: args.data_root.as_ref().map_or_else(DataRoot::from_env, DataRoot::new),
        rows,
        shots: args.shots,
        chat: args.apply_chat_template,
        multiturn: !args.examples_in_one_message,
        system: args.system.clone(),
        max_new_tokens: args.max_new_tokens.map(std::num::NonZero::get),
        truncate_questions: args.truncate_questions,
        code,
        ..BenchOptions::default()
    })
}

fn runner(env: &Env, args: &BenchArgs) -> Result<CodeRunner> {
    let policy = Policy { python: args.python.clone(), allow_unprotected: args.allow_unprotected, ..Policy::default() };
    let runner = CodeRunner::new(policy, env.interrupted.clone())?;
    for line in runner.describe() {
        env.printer.note(&line);
    }
    Ok(runner)
}
