//! From arguments to how tasks over rows are asked; the sandbox, announced before anything runs.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use lopper_sandbox::Policy;
use lopper_tasks::{BenchOptions, CodeRunner, DataRoot, RowChoice};

use crate::args::BenchArgs;
use crate::env::Env;
use crate::hub;

/// Settings for the tasks of one command. Says on standard error what protects this machine where
/// programs may be run.
pub fn options(env: &Env, args: &BenchArgs, rows: RowChoice) -> Result<BenchOptions> {
    let code = match args.allow_code_execution {
        true => Some(Arc::new(runner(env, args)?)),
        false => None,
    };
    Ok(BenchOptions {
        data_root: data_root(env, args.data_root.as_deref()),
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

/// Where rows come from: the directory `named`, or else the one that the environment names, and the hub for what is
/// not there.
pub fn data_root(env: &Env, named: Option<&Path>) -> DataRoot {
    named.map_or_else(DataRoot::from_env, DataRoot::new).with_fetcher(Arc::new(hub::Rows::new(env)))
}

fn runner(env: &Env, args: &BenchArgs) -> Result<CodeRunner> {
    let policy = Policy { python: args.python.clone(), allow_unprotected: args.allow_unprotected, ..Policy::default() };
    let runner = CodeRunner::new(policy, env.interrupted.clone())?;
    for line in runner.describe() {
        env.printer.note(&line);
    }
    Ok(runner)
}
