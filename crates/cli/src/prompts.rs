//! Prompts to answer: conversations from a file of rows, or generated ones of the pocket tasks.
//!
//! A row is in any of the layouts of [`lopper_heal::examples::layouts`]; an answer that it holds is left out.

use lopper_heal::RowSource;
use lopper_heal::examples::layouts;
use lopper_model::chat::{Conversation, Message};
use lopper_pocket::{Example, Split};
use lopper_record::{Fault, Result};
use lopper_study::HealingPrompt;
use lopper_tasks::DataRoot;

use crate::args::RowArgs;
use crate::context::Context;
use crate::open_model::POCKET;
use crate::printer::Printer;
use crate::rows;

/// Prompts taken from the pocket tasks, or written by the model, where no number is given.
pub const POCKET_PROMPTS: usize = 1000;
/// The name for prompts that the model writes itself.
pub const OWN: &str = "own";

/// The first `limit` conversations of what `argument` names, each ready to be answered: prompts of the pocket tasks, a
/// file, or a data set in `root` or of the hub. Rows that are not usable are left out with a warning.
pub fn read(
    context: &Context,
    root: &DataRoot,
    argument: &str,
    args: &RowArgs,
    limit: Option<usize>,
    seed: u64,
) -> Result<Vec<Conversation>> {
    let prompts = read_with_answers(context, root, argument, (args, None), limit, seed)?;
    Ok(prompts.into_iter().map(|prompt| prompt.conversation).collect())
}

/// [`read`], with the answers of the data; `answer` names their column.
pub fn read_with_answers(
    context: &Context,
    root: &DataRoot,
    argument: &str,
    (args, answer): (&RowArgs, Option<&str>),
    limit: Option<usize>,
    seed: u64,
) -> Result<Vec<HealingPrompt>> {
    if argument != POCKET {
        return of_rows(&context.printer, &rows::named(root, argument, args, answer)?.source, limit);
    }
    refuse_rows(args, POCKET)?;
    Ok(pocket(limit.unwrap_or(POCKET_PROMPTS), seed))
}

/// Refuses options of rows for prompts that come from none.
pub fn refuse_rows(args: &RowArgs, argument: &str) -> Result<()> {
    match args.all().iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => Err(Fault::new(format!("{name} belongs to rows of files and data sets"))
            .expected("a file, or a data set of the hub")
            .got(format!("`{argument}`, whose prompts are generated"))
            .hint(format!("leave {name} out"))
            .into()),
    }
}

fn of_rows(printer: &Printer, source: &RowSource, limit: Option<usize>) -> Result<Vec<HealingPrompt>> {
    let (mut conversations, mut unusable, mut first) = (vec![], 0, None);
    for numbered in source.rows()? {
        if conversations.len() == limit.unwrap_or(usize::MAX) {
            break;
        }
        let (number, row) = numbered?;
        match row.and_then(layouts::prompt_and_answer) {
            Ok((conversation, answer)) => conversations.push(HealingPrompt { conversation, answer }),
            Err(what) => {
                unusable += 1;
                first.get_or_insert(format!("row {number}: {what}"));
            }
        }
    }
    let first = first.unwrap_or_default();
    if conversations.is_empty() {
        return Err(Fault::new("there are no prompts")
            .file(&source.name)
            .expected("rows with `messages`, `prompt`, `instruction` or `question`")
            .got(if first.is_empty() { "no row".to_owned() } else { first })
            .hint("is it the right file? --column names the column that holds the prompts")
            .into());
    }
    if unusable > 0 {
        printer.warn(&format!("{}: {unusable} rows are left out; {first}", source.name.display()));
    }
    Ok(conversations)
}

/// Training-split prompts of the pocket tasks that are conversations, in turn.
fn pocket(limit: usize, seed: u64) -> Vec<HealingPrompt> {
    let prompt = |example: Example| HealingPrompt {
        conversation: vec![Message::user(example.prompt.text())].into(),
        answer: Some(example.answer),
    };
    pocket_examples(limit, seed).into_iter().map(prompt).collect()
}

/// The examples that these prompts are of.
pub fn pocket_examples(limit: usize, seed: u64) -> Vec<Example> {
    let mut tasks: Vec<_> = lopper_pocket::tasks()
        .iter()
        .filter(|task| task.chat)
        .map(|task| lopper_pocket::examples(task.name, Split::Train, seed))
        .collect();
    let mut found = Vec::new();
    while found.len() < limit {
        let before = found.len();
        found.extend(tasks.iter_mut().filter_map(Iterator::next));
        if found.len() == before {
            break;
        }
    }
    found.truncate(limit);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn read_file(text: &str, limit: Option<usize>) -> Result<Vec<HealingPrompt>> {
        of_rows(&Printer::new(true, 0), &RowSource::file(write(text).path()), limit)
    }

    #[test]
    fn prompts_are_read_without_their_answers() {
        let text = concat!(
            "{\"prompt\":\"a\",\"id\":7}\n\n",
            "{\"instruction\":\"b\",\"input\":\"c\",\"output\":\"d\"}\n",
            "{\"nothing\":\"usable\"}\n",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"f\"},{\"role\":\"assistant\",\"content\":\"g\"}]}\n",
        );
        let read = read_file(text, None).unwrap();
        let last: Vec<_> = read.iter().map(|p| p.conversation.messages.last().unwrap().text()).collect();
        assert_eq!(last, ["a", "b\n\nc", "f"]);
        let answers: Vec<_> = read.iter().map(|prompt| prompt.answer.as_deref()).collect();
        assert_eq!(answers, [None, Some("d"), Some("g")]);
        assert_eq!(read_file(text, Some(2)).unwrap().len(), 2);
    }

    #[test]
    fn a_file_without_a_prompt_is_a_fault_that_names_the_first_row() {
        for (text, got) in [
            ("nonsense", "row 1: the line is not JSON"),
            ("{\"messages\":[]}", "row 1: a conversation without a user message"),
            ("{\"text\":\"x\"}", "`text`"),
            ("\n\n", "no row"),
        ] {
            let error = read_file(text, None).unwrap_err();
            assert!(error.fault().unwrap().got.as_ref().unwrap().contains(got), "{text}: {error}");
        }
    }

    #[test]
    fn pocket_prompts_are_seeded_and_alternate_between_tasks() {
        let pocket = |seed| pocket(7, seed);
        let prompts = pocket(3);
        assert_eq!(prompts.len(), 7);
        assert_eq!(prompts, pocket(3));
        assert_ne!(prompts, pocket(4));
        let turns = |prompt: &HealingPrompt| prompt.conversation.messages.len();
        assert!(prompts.iter().all(|prompt| turns(prompt) == 1 && prompt.answer.is_some()));
    }
}
