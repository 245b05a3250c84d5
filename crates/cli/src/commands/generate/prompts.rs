//! Prompts to answer, with what their task knows of the right answer where they are a task's.

use lopper_heal::SgrPrompt;
use lopper_model::chat::{Conversation, Message};
use lopper_pocket::{Example, Prompt, Split};
use lopper_record::{Fault, Result};
use lopper_tasks::{AnswerCheck, DataRoot, GenerationPolicy, Resources, TaskEntry, task_entries, training_examples};

use crate::args::GenerateArgs;
use crate::context::Context;
use crate::open_model::POCKET;
use crate::prompts::{POCKET_PROMPTS, pocket_examples, read, refuse_rows};

/// A prompt, and what grades its answers.
pub type CheckedPrompt = (SgrPrompt, Option<AnswerCheck>);

/// The prompts of `--prompts`, but for those that the model writes itself.
pub fn prompts(context: &Context, root: &DataRoot, args: &GenerateArgs) -> Result<Vec<CheckedPrompt>> {
    let limit = args.limit.map(std::num::NonZero::get);
    if args.prompts == POCKET {
        refuse_rows(&args.rows, POCKET)?;
        let examples = pocket_examples(limit.unwrap_or(POCKET_PROMPTS), args.seed);
        return Ok(examples.into_iter().map(of_example).collect());
    }
    if let Some(entries) = named_tasks(&args.prompts) {
        refuse_rows(&args.rows, &args.prompts)?;
        return of_tasks(root, &entries, limit, args.seed);
    }
    let prompts = read(context, root, &args.prompts, &args.rows, limit, args.seed)?;
    Ok(prompts.into_iter().map(|prompt| (SgrPrompt::Chat(prompt), None)).collect())
}

/// The tasks that `argument` names, unless it names a file or a data set.
fn named_tasks(argument: &str) -> Option<Vec<TaskEntry>> {
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let names: Vec<&str> = argument.split(',').collect();
    if !names.iter().all(|name| is_name(name)) || std::path::Path::new(argument).exists() {
        return None;
    }
    let entries = names.into_iter().map(task_entries).collect::<Result<Vec<_>, _>>().ok()?;
    Some(entries.into_iter().flatten().collect())
}

/// Prompts of the tasks' training splits, the tasks in turn.
fn of_tasks(root: &DataRoot, entries: &[TaskEntry], limit: Option<usize>, seed: u64) -> Result<Vec<CheckedPrompt>> {
    let generated = entries.iter().any(|entry| entry.rows.is_none());
    let limit = limit.unwrap_or(if generated { POCKET_PROMPTS } else { usize::MAX });
    let resources = Resources { data_root: root.clone(), code: None };
    let mut streams: Vec<Box<dyn Iterator<Item = CheckedPrompt>>> = Vec::new();
    for TaskEntry { name, rows, .. } in entries {
        if rows.is_none() {
            streams.push(Box::new(lopper_pocket::examples(name, Split::Train, seed).map(of_example)));
            continue;
        }
        let found = training_examples(name, &GenerationPolicy::default(), &resources)?;
        if found.is_empty() {
            return Err(Fault::new(format!("{name} has no training split to take prompts from"))
                .expected("a task whose few-shot examples come from another split than its items, or generated ones")
                .got(format!("`{name}`"))
                .hint("name a file or a data set with --prompts; what a model is scored on is not what it should learn")
                .into());
        }
        streams.push(Box::new(found.into_iter().map(|example| {
            let turns = vec![Message::user(example.question.trim())];
            let chat = Conversation { chat_template_kwargs: example.template_variables, ..turns.into() };
            (SgrPrompt::Chat(chat), Some(example.check))
        })));
    }
    let mut prompts = Vec::new();
    while prompts.len() < limit && !streams.is_empty() {
        streams.retain_mut(|stream| match stream.next() {
            Some(prompt) => {
                prompts.push(prompt);
                true
            }
            None => false,
        });
    }
    prompts.truncate(limit);
    Ok(prompts)
}

fn of_example(example: Example) -> CheckedPrompt {
    let prompt = match &example.prompt {
        Prompt::Chat(text) => SgrPrompt::Chat(vec![Message::user(text.as_str())].into()),
        // An item of raw text is a line.
        Prompt::Plain(text) => SgrPrompt::Plain { prompt: text.clone(), stop: vec!["\n".to_owned()] },
    };
    (prompt, Some(AnswerCheck::of_example(example)))
}
