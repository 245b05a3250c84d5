//! Grades answers to training prompts, which are no items: an answer to learn from can be checked wherever its task
//! knows the right one.
//!
//! The grader is the task's own. Where a task over rows reads an answer in several ways (`gsm8k`: after `####`, or the
//! last number), one that is right in any of them is right: the questions are put here without the few-shot examples
//! that show the form. A generated task's prompt is the one that it measures, so its form counts.
//!
//! Not covered: tasks whose score is no right or wrong (ROUGE), choices of benchmarks, which are scored and not
//! written, and programs of benchmarks without something to run them. Of these nothing is said.

use std::sync::Arc;

use lopper_infer::Finish;
use lopper_pocket::grade::Verdict;
use lopper_pocket::{Check, Example};
use lopper_record::Result;
use lopper_sandbox::Program;

use crate::benchmark::code::CodeRunner;
use crate::benchmark::grade::{Judge, ProgramRun};
use crate::benchmark::items::Item;
use crate::benchmark::sanitize::{Unsanitized, sanitized};
use crate::benchmark::spec::{Check as RowCheck, INSTRUCTION_METRICS, Spec};
use crate::requests::Response;

/// What a task knows of the right answer to one of its training prompts.
#[derive(Debug, Clone)]
pub struct AnswerCheck {
    task: String,
    id: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Generated(Box<Example>),
    Row(Arc<Spec>, Box<Item>),
    Unknown,
}

/// The number of an answer, the row that it is to, and its text.
type RowAnswer<'a> = (usize, &'a Item, &'a str);

/// The same prompt of the same task.
impl PartialEq for AnswerCheck {
    fn eq(&self, other: &Self) -> bool {
        (&self.task, &self.id) == (&other.task, &other.id)
    }
}

impl AnswerCheck {
    /// That of a generated example.
    pub fn of_example(example: Example) -> Self {
        Self { task: example.task.to_owned(), id: example.id.clone(), kind: Kind::Generated(Box::new(example)) }
    }

    pub(crate) fn of_row(spec: &Arc<Spec>, item: Option<Item>) -> Self {
        let id = item.as_ref().map(|item| item.id.clone()).unwrap_or_default();
        let kind = item.map_or(Kind::Unknown, |item| Kind::Row(spec.clone(), Box::new(item)));
        Self { task: spec.name.clone(), id, kind }
    }

    /// The name of the task.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// Whether a finished answer can be graded, where programs are run or not.
    pub fn can_tell(&self, runs_code: bool) -> bool {
        match &self.kind {
            Kind::Generated(example) => !matches!(example.check, Check::Summary { .. }),
            Kind::Row(spec, _) => match spec.answer.as_ref().map(|answer| answer.check) {
                _ if spec.choices.is_some() => false,
                Some(RowCheck::Rouge) | None => false,
                Some(RowCheck::Program | RowCheck::Value) => runs_code,
                Some(_) => true,
            },
            Kind::Unknown => false,
        }
    }
}

/// Whether each answer is right; nothing of those that the task cannot tell. `code` runs the programs of benchmarks.
///
/// # Errors
/// Those of running programs, and of a task's templates.
pub fn check_answers(answers: &[(&AnswerCheck, &str)], code: Option<&CodeRunner>) -> Result<Vec<Option<bool>>> {
    let mut verdicts = vec![None; answers.len()];
    let mut of_rows: Vec<(&Arc<Spec>, Vec<RowAnswer<'_>>)> = Vec::new();
    for (at, (check, text)) in answers.iter().enumerate().filter(|(_, (check, _))| check.can_tell(code.is_some())) {
        match &check.kind {
            Kind::Generated(example) => verdicts[at] = generated(example, text),
            Kind::Row(spec, item) => match of_rows.iter_mut().find(|(known, _)| Arc::ptr_eq(known, spec)) {
                Some((_, list)) => list.push((at, item, text)),
                None => of_rows.push((spec, vec![(at, item, text)])),
            },
            Kind::Unknown => {}
        }
    }
    for (spec, list) in of_rows {
        let right = rows(spec, &list, code)?;
        list.iter().zip(right).for_each(|((at, ..), right)| verdicts[*at] = Some(right));
    }
    Ok(verdicts)
}

fn generated(example: &Example, text: &str) -> Option<bool> {
    match (example.judge(text), &example.check) {
        (Verdict::Right, _) => Some(true),
        (Verdict::Wrong | Verdict::Failed(_), _) => Some(false),
        (Verdict::NotJudged, Check::Choice { .. }) => Some(text.trim() == example.answer.trim()),
        (Verdict::NotJudged, _) => None,
    }
}

/// Grades answers to rows of one task.
fn rows(spec: &Spec, answers: &[RowAnswer<'_>], code: Option<&CodeRunner>) -> Result<Vec<bool>> {
    let judge = Judge::new(spec)?;
    let ran = match code.filter(|_| spec.runs_code()) {
        Some(runner) => run(runner, &judge, answers)?,
        None => vec![None; answers.len()],
    };
    let grade = |((_, item, text), ran): (&RowAnswer<'_>, Option<ProgramRun>)| {
        let response = Response { thought: None, text: (*text).to_owned(), finish: Finish::Stop };
        let values = judge.grade(item, &[response], &[ran])?.values;
        let metric = |name: &str| values.get(name).copied();
        Ok(match metric(INSTRUCTION_METRICS[0]) {
            Some(followed) => followed == 1.0,
            None => values.values().any(|value| *value == 1.0),
        })
    };
    answers.iter().zip(ran).map(grade).collect()
}

fn run(runner: &CodeRunner, judge: &Judge<'_>, answers: &[RowAnswer<'_>]) -> Result<Vec<Option<ProgramRun>>> {
    let entry = |(_, item, text): &RowAnswer<'_>| Ok(judge.entry(item)?.map(|n| Unsanitized::new(text, n)));
    let codes = match answers.iter().map(entry).collect::<Result<Option<Vec<_>>>>()? {
        Some(list) => Some(sanitized(&list, |programs| runner.run(programs))?),
        None => None,
    };
    let program = |(at, (_, item, text)): (usize, &RowAnswer<'_>)| {
        judge.program(item, text, codes.as_ref().map(|codes| codes[at].as_str()))
    };
    let (programs, taken): (Vec<Program>, Vec<String>) =
        answers.iter().enumerate().map(program).collect::<Result<Vec<_>>>()?.into_iter().unzip();
    let outcomes = runner.run(programs)?;
    Ok(taken.into_iter().zip(outcomes).map(|(code, outcome)| Some(ProgramRun { code, outcome })).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataRoot, GenerationPolicy, Resources, training_examples};
    use lopper_pocket::{Split, examples};

    fn check(answers: &[(&AnswerCheck, &str)]) -> Vec<Option<bool>> {
        check_answers(answers, None).unwrap()
    }

    #[test]
    fn generated_tasks_grade_answers_to_their_training_prompts() {
        for (task, wrong) in [("pocket_word", "#### 1000"), ("pocket_code", "def f():"), ("pocket_brackets", " ( (")] {
            let example = examples(task, Split::Train, 3).next().unwrap();
            let (answer, check_of) = (example.answer.clone(), AnswerCheck::of_example(example));
            assert_eq!(check(&[(&check_of, &answer), (&check_of, wrong)]), [Some(true), Some(false)], "{task}");
            assert_eq!(check_of.task(), task);
        }
        let choice = AnswerCheck::of_example(examples("pocket_sentiment", Split::Train, 3).next().unwrap());
        let right = ["good", "bad"].map(|word| check(&[(&choice, word)])[0]);
        assert!(right.contains(&Some(true)) && right.contains(&Some(false)), "{right:?}");
        let summary = examples("pocket_summary", Split::Train, 3).next().unwrap();
        let answer = summary.answer.clone();
        assert_eq!(check(&[(&AnswerCheck::of_example(summary), &answer)]), [None], "ROUGE is no right or wrong");
    }

    #[test]
    fn benchmarks_grade_answers_to_rows_of_their_training_split() {
        let root = tempfile::tempdir().unwrap();
        let write = |directory: &str, split: &str, row: serde_json::Value| {
            let directory = root.path().join(directory);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("{split}.jsonl")), row.to_string() + "\n").unwrap();
        };
        for (split, thing) in [("test", "pears"), ("train", "plums")] {
            let question = format!("Ann has 2 {thing} and buys 3. How many?");
            let row = serde_json::json!({"question": question, "answer": "2 + 3 = <<2+3=5>>5\n#### 5"});
            write("openai/gsm8k/main", split, row);
            let (prompt, code) = (format!("Count {thing}."), "def f(x):\n    return len(x)");
            let id = thing.len() + split.len();
            write(
                "google-research-datasets/mbpp/sanitized",
                split,
                serde_json::json!({"prompt": prompt, "code": code,
                "test_imports": [], "test_list": ["assert f([1]) == 1"], "task_id": id}),
            );
        }
        let resources = Resources { data_root: DataRoot::new(root.path()), code: None };
        let of =
            |task: &str| training_examples(task, &GenerationPolicy::default(), &resources).unwrap().remove(0).check;
        let (gsm8k, mbpp) = (of("gsm8k"), of("mbpp"));
        let answers = [
            (&gsm8k, "She has 5.\n#### 5"),
            (&gsm8k, "So Ann has 5 plums."),
            (&gsm8k, "It is 6."),
            (&mbpp, "def f(x):\n    return len(x)"),
        ];
        assert_eq!(check(&answers), [Some(true), Some(true), Some(false), None], "no program is run without a runner");
        assert!(!mbpp.can_tell(false) && mbpp.can_tell(true));
        assert!(gsm8k == of("gsm8k") && gsm8k != mbpp);
    }
}
