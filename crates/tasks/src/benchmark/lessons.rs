//! Questions to learn from, with their reference answers: rows of the split that a task's worked examples come from,
//! where that is not the split that its items come from. Layers are calibrated on them and cuts healed by them, and no
//! item that is asked is among them.

use std::collections::HashSet;

use anyhow::Result;

use super::BenchOptions;
use super::items::Maker;
use super::spec::Spec;
use crate::rows::Table;

/// A question to learn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lesson {
    /// Identity of the question, whichever task asks it.
    pub id: String,
    /// What is asked, without worked examples.
    pub question: String,
    /// Between question and answer in plain text.
    pub delimiter: String,
    /// The reference answer.
    pub answer: String,
    /// Where a response in plain text ends.
    pub until: Vec<String>,
    /// Whether the task asks in conversation.
    pub conversation: bool,
}

/// Rows to learn from; none where the task has no split besides that of its items. Rows that cannot be asked are left
/// out, and so are those that are also items.
///
/// # Errors
/// A fault where rows cannot be found or read.
pub(crate) fn lessons(spec: &Spec, options: &BenchOptions) -> Result<Vec<Lesson>> {
    if spec.shots.splits.is_empty() {
        return Ok(vec![]);
    }
    let (_, asked) = spec.files(&options.data_root, &spec.rows.splits)?;
    let (_, files) = spec.files(&options.data_root, &spec.shots.splits)?;
    if files == asked {
        return Ok(vec![]);
    }
    let maker = Maker::new(spec, options);
    let (mut items, mut rows) = (Table::read(&asked)?.rows, Table::read(&files)?.rows);
    items.iter_mut().chain(&mut rows).for_each(|row| maker.conform(row));
    let mut seen: HashSet<String> = items.iter().flatten().map(|row| maker.id(row)).collect();
    let until = match &spec.generate {
        Some(generate) => generate.until.clone(),
        // A choice is the rest of a line.
        None => vec!["\n".to_owned()],
    };
    let mut lessons = Vec::new();
    for row in rows.iter().flatten() {
        let id = maker.id(row);
        let Ok(turns) = maker.example(row) else { continue };
        let [question, answer] = turns.as_slice() else { continue };
        if question.content.trim().is_empty() || !seen.insert(id.clone()) {
            continue;
        }
        lessons.push(Lesson {
            id,
            question: question.content.clone(),
            delimiter: question.after.clone(),
            answer: answer.content.clone(),
            until: until.clone(),
            conversation: options.chat || spec.prompt.conversation,
        });
    }
    Ok(lessons)
}
