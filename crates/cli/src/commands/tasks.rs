//! `lopper tasks`: the tasks that a model can be evaluated on.

use lopper_record::Result;
use lopper_tasks::{TaskEntry, all_tasks, task_entries, task_file};

use crate::args::{TasksArgs, TasksCommand};
use crate::context::Context;
use crate::table;

pub fn run(context: &Context, args: &TasksArgs) -> Result<()> {
    if let Some(TasksCommand::Show(args)) = &args.command {
        let entries = task_entries(&args.name)?;
        // One file may stand for several tasks, as MMLU's does.
        let files: Vec<Option<String>> = entries.iter().map(|entry| task_file(&entry.name).ok().flatten()).collect();
        return match &files[..] {
            [Some(first), others @ ..] if others.iter().all(|other| other.as_ref() == Some(first)) => {
                context.printer.result(first.trim_end())
            }
            // A user's file is not found by the name in it.
            [None, ..] if entries[0].rows.is_some() => {
                context.printer.result(task_file(&args.name)?.unwrap_or_default().trim_end())
            }
            _ => context.printer.result(&listing(&entries)),
        };
    }
    let all = all_tasks();
    if args.json {
        return context.printer.json(&all);
    }
    let short: Vec<TaskEntry> = all.into_iter().filter(|entry| !is_subject(entry)).collect();
    context.printer.result(&listing(&short))?;
    context.printer.note(
        "`mmlu_SUBJECT` is one of MMLU's 57 subjects; `mmlu_stem`, `mmlu_humanities`, `mmlu_social_sciences` and \
         `mmlu_other` are groups of them. `lopper tasks show NAME` prints the file of a task.",
    );
    Ok(())
}

fn is_subject(entry: &TaskEntry) -> bool {
    entry.tags.iter().any(|tag| tag == "mmlu")
}

fn listing(entries: &[TaskEntry]) -> String {
    let rows: Vec<[String; 6]> = entries
        .iter()
        .map(|entry| {
            let code = if entry.runs_code { "; runs code" } else { "" };
            [
                entry.name.clone(),
                entry.group.name().to_owned(),
                entry.metric.clone(),
                entry.shots.to_string(),
                entry.rows.clone().unwrap_or_else(|| "generated".to_owned()),
                format!("{}{code}", entry.description),
            ]
        })
        .collect();
    table::words(["task", "group", "metric", "shots", "rows", "what is tested"], &rows)
}
