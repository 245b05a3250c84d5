//! Training examples: rows of the split that a task's few-shot examples come from, where that is not the split that its
//! items come from. Criteria are calibrated on them and cuts finetuned on them; no item of the task is among them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lopper_record::Result;
use serde_json::Value;

use super::items::Maker;
use super::spec::Spec;
use crate::answer_check::AnswerCheck;
use crate::{GenerationPolicy, Resources};
use lopper_rows::Table;

/// A question with its reference answer, to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingExample {
    /// Identity of the question, the same in every task that has it.
    pub id: String,
    /// The question, without few-shot examples.
    pub question: String,
    /// Between question and answer in plain text.
    pub delimiter: String,
    /// The reference answer.
    pub answer: String,
    /// Where a response in plain text ends.
    pub until: Vec<String>,
    /// Whether the prompt goes through the chat template.
    pub conversation: bool,
    /// Variables for the chat template that the task's file sets and the policy does not.
    pub template_variables: BTreeMap<String, Value>,
    /// Grades answers to the question.
    pub check: AnswerCheck,
}

/// The training examples of a task; none where it has no split besides that of its items. Rows that make no prompt are
/// left out, and so are those that are also items.
///
/// # Errors
/// A fault where rows cannot be found or read.
pub(crate) fn training_examples(
    spec: &Arc<Spec>,
    policy: &GenerationPolicy,
    resources: &Resources,
) -> Result<Vec<TrainingExample>> {
    if spec.shots.splits.is_empty() {
        return Ok(vec![]);
    }
    let (_, item_files) = spec.files(&resources.data_root, &spec.rows.splits)?;
    let (_, files) = spec.files(&resources.data_root, &spec.shots.splits)?;
    if files == item_files {
        return Ok(vec![]);
    }
    let maker = Maker::new(spec, policy);
    let (mut items, mut rows) = (Table::read(&item_files)?.rows, Table::read(&files)?.rows);
    maker.conform(&mut items);
    maker.conform(&mut rows);
    let mut seen: HashSet<String> = items.iter().flatten().map(|row| maker.id(row)).collect();
    let until = match &spec.generate {
        Some(generate) => generate.until.clone(),
        // A choice is the rest of a line.
        None => vec!["\n".to_owned()],
    };
    let mut template_variables = spec.prompt.variables.clone();
    template_variables.retain(|name, _| !policy.template_variables.contains_key(name));
    let mut examples = Vec::new();
    for (at, row) in rows.iter().enumerate().filter(|(_, row)| maker.takes(row)) {
        let Ok(row) = row else { continue };
        let id = maker.id(row);
        let Ok(turns) = maker.example(row) else { continue };
        let [question, answer] = turns.as_slice() else { continue };
        if question.content.trim().is_empty() || !seen.insert(id.clone()) {
            continue;
        }
        examples.push(TrainingExample {
            id,
            question: question.content.clone(),
            delimiter: question.after.clone(),
            answer: answer.content.clone(),
            until: until.clone(),
            conversation: policy.chat_template || spec.prompt.conversation,
            template_variables: template_variables.clone(),
            // What is no item of the task is nothing that it can grade.
            check: AnswerCheck::of_row(spec, maker.item(at, row.clone(), vec![], "").ok()),
        });
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use lopper_rows::DataRoot;
    use lopper_testkit::tasks::{COLOURS, lines};
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_those_of_the_task_that_the_run_leaves_open() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("own/colours/default")).unwrap();
        let row = |thing: &str| json!({"question": format!("The {thing} is"), "choices": ["red", "blue"], "label": 1});
        for (split, things) in [("test", ["sea", "sky"]), ("train", ["ink", "sky"])] {
            let file = root.path().join(format!("own/colours/default/{split}.jsonl"));
            std::fs::write(file, lines(&things.map(row))).unwrap();
        }
        let source = COLOURS.replace("[choices]", "variables = { mood = \"calm\", date = \"today\" }\n\n[choices]");
        let spec = Arc::new(Spec::parse(&source, None).unwrap().remove(0));
        let variables = BTreeMap::from([("mood".to_owned(), json!("busy"))]);
        let policy = GenerationPolicy { template_variables: variables, ..GenerationPolicy::default() };
        let resources = Resources { data_root: DataRoot::new(root.path()), code: None };
        let found = training_examples(&spec, &policy, &resources).unwrap();
        // The sky is also an item.
        let [ink] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((ink.question.as_str(), ink.answer.as_str()), ("The ink is", "blue"));
        assert_eq!(ink.template_variables, BTreeMap::from([("date".to_owned(), json!("today"))]));
    }
}
