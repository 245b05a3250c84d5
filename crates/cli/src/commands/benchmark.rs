//! From arguments to the generation policy and to what tasks read and run.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use lopper_record::Result;
use lopper_sandbox::Policy;
use lopper_tasks::{CodeRunner, DataRoot, GenerationPolicy, Resources};

use crate::args::BenchmarkArgs;
use crate::context::Context;
use crate::hub;

/// How answers are produced.
pub fn policy(args: &BenchmarkArgs) -> GenerationPolicy {
    let default = GenerationPolicy::default();
    GenerationPolicy {
        max_new_tokens: args.max_new_tokens.map(NonZero::get),
        loop_stop: default.loop_stop.filter(|_| !args.no_loop_stop),
        shots: args.shots,
        chat_template: args.apply_chat_template,
        multiturn: !args.examples_in_one_message,
        system: args.system.clone(),
        template_variables: args.template.variables(),
        reasoning_markers: args.reasoning.markers(),
        max_thinking_tokens: args.reasoning.max_thinking_tokens,
        truncate_questions: args.truncate_questions,
        ..default
    }
}

/// What tasks read and run. Says on standard error what protects this machine where programs may be run.
pub fn resources(context: &Context, args: &BenchmarkArgs) -> Result<Resources> {
    let code = match args.allow_code_execution {
        true => Some(Arc::new(runner(context, args)?)),
        false => None,
    };
    Ok(Resources { data_root: data_root(context, args.data_root.as_deref()), code })
}

/// Where rows come from: the directory `named`, or else the one that the environment names, and the hub for what is
/// not there.
pub fn data_root(context: &Context, named: Option<&Path>) -> DataRoot {
    named.map_or_else(DataRoot::from_env, DataRoot::new).with_fetcher(Arc::new(hub::Rows::new(context)))
}

fn runner(context: &Context, args: &BenchmarkArgs) -> Result<CodeRunner> {
    let policy = Policy { python: args.python.clone(), allow_unprotected: args.allow_unprotected, ..Policy::default() };
    let runner = CodeRunner::new(policy, context.interrupted.clone())?;
    for line in runner.describe() {
        context.printer.note(&line);
    }
    Ok(runner)
}
