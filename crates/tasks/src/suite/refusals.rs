//! What is refused before any row is read: tasks that this model cannot answer, or that nobody has allowed.

use lopper_infer::TextModel;
use lopper_record::{Error, Fault, Result};

use crate::benchmark::spec::Spec;
use crate::policy::{GenerationPolicy, Resources};
use crate::registry::Task;

/// Refuses a task that cannot be prepared for this model with this policy.
///
/// # Errors
/// A [`Fault`] that says what is missing.
pub(super) fn check(text: &TextModel, task: &Task, policy: &GenerationPolicy, resources: &Resources) -> Result<()> {
    let spec = match task {
        Task::Benchmark(spec) => spec,
        Task::Pocket(task) => return check_generated(task.info.name, policy),
    };
    if spec.runs_code() && resources.code.is_none() {
        return Err(Fault::new(format!("{} runs programs that the model writes", spec.name))
            .expected("your permission")
            .got("none")
            .hint("--allow-code-execution permits it; docs/reference/sandbox.md says what protects this machine")
            .into());
    }
    if text.chat.is_none() && (policy.chat_template || spec.prompt.conversation) {
        return Err(Fault::new(format!("{} needs a chat template, and the model has none", spec.name))
            .expected("chat_template.jinja, or `chat_template` in tokenizer_config.json")
            .hint("base models have none; take the instruction-tuned model, or tasks in plain text")
            .into());
    }
    match missing_package(spec, resources)? {
        Some(package) => Err(Fault::new(format!("the tests of {} import {package}", spec.name))
            .expected(format!("a Python that has {package}"))
            .got("none, or one that programs cannot read")
            .hint(format!("install {package} for that Python, or name another with --python PATH"))
            .into()),
        None => Ok(()),
    }
}

fn check_generated(task: &str, policy: &GenerationPolicy) -> Result<()> {
    if let Some(shots) = policy.shots.filter(|shots| *shots > 0) {
        return Err(Fault::new("the pocket tasks take no few-shot examples")
            .expected("--shots 0")
            .got(format!("--shots {shots} for {task}"))
            .hint("leave --shots out; where a task has few-shot examples, they belong to it")
            .into());
    }
    if policy.responses > 1 {
        return Err(Fault::new("the pocket tasks take one response to each item")
            .expected("one response to each item")
            .got(format!("{} for {task}", policy.responses))
            .hint("leave --responses out")
            .into());
    }
    Ok(())
}

/// A package that a task's tests import and that programs lack: every verdict would be wrong.
fn missing_package(spec: &Spec, resources: &Resources) -> Result<Option<String>> {
    match (&spec.answer, &resources.code) {
        (Some(answer), Some(runner)) => Ok(runner.lacks(&answer.needs)?.map(str::to_owned)),
        _ => Ok(None),
    }
}

/// The fault of responses from a file for a task that takes none.
pub(super) fn not_from_a_file(task: &str) -> Error {
    Fault::new(format!("{task} is not answered by text over rows, so given responses say nothing of it"))
        .expected("tasks over rows whose answers are generated")
        .got(task)
        .hint("leave it out of --tasks")
        .into()
}
