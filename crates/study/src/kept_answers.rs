//! Which of the uncut model's answers are learned: none that the grader of its prompt's task finds wrong, where that is
//! wanted, and none in which an item is that layers are chosen by or scores are reported on.

use std::collections::{BTreeMap, HashMap};

use lopper_heal::self_generated::sample_seed;
use lopper_heal::{EvaluatedTexts, ExampleText, OverlapCheck, SelfGenerated, SgrOptions};
use lopper_record::study::CheckedAnswers;
use lopper_record::{Fault, Result, key_hash};
use lopper_tasks::{AnswerCheck, CodeRunner, check_answers};

use crate::recipe::TASKS;
use crate::training::TrainingPrompt;

/// Grades the answers that can be graded, and takes out the wrong ones.
pub fn verify(
    made: &mut SelfGenerated,
    training: &[TrainingPrompt],
    options: &SgrOptions,
    code: Option<&CodeRunner>,
) -> Result<()> {
    // The seed of an answer is its prompt's and its own number's.
    let mut checks: HashMap<u64, &AnswerCheck> = HashMap::new();
    for (index, prompt) in training.iter().enumerate() {
        for sample in 0..options.samples {
            if let Some(check) = &prompt.check {
                checks.insert(sample_seed(options.seed, index, sample)?, check);
            }
        }
    }
    let mut graded = Vec::new();
    for (at, row) in made.rows.iter().enumerate() {
        if let Some(check) = checks.get(&row.seed) {
            graded.push((at, *check, row.answer()));
        }
    }
    let answers: Vec<(&AnswerCheck, &str)> = graded.iter().map(|(_, check, text)| (*check, text.as_str())).collect();
    let verdicts = check_answers(&answers, code)?;
    let found: Vec<(usize, String, Option<bool>)> =
        graded.iter().zip(verdicts).map(|((at, check, _), right)| (*at, check.task().to_owned(), right)).collect();
    for (at, task, right) in found {
        made.rows[at].verified = right;
        if let Some(right) = right {
            count(&mut made.checked, &task, right);
        }
        made.rows[at].task = Some(task);
    }
    let before = made.rows.len();
    made.rows.retain(|row| row.verified != Some(false));
    let rejected = before - made.rows.len();
    made.counts.rejected += rejected;
    made.counts.used -= rejected;
    Ok(())
}

fn count(checked: &mut Vec<CheckedAnswers>, task: &str, right: bool) {
    if !checked.iter().any(|one| one.task == task) {
        checked.push(CheckedAnswers { task: task.to_owned(), ..CheckedAnswers::default() });
    }
    for one in checked.iter_mut().filter(|one| one.task == task) {
        one.answers += 1;
        one.right += usize::from(right);
    }
}

/// The fault of prompts whose answers nothing can grade.
pub fn nothing_to_verify(data: &str) -> Fault {
    Fault::new("`heal.keep = \"verified\"`, but no answer can be graded")
        .expected("prompts of tasks that tell right from wrong: `heal.data = \"tasks\"`")
        .got(format!("`{data}`"))
        .hint("leave `heal.keep` out; programs of benchmarks need `rows.allow_code_execution = true`")
}

/// What was left out because of overlap.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LeftOut {
    /// How many, by task.
    pub tasks: BTreeMap<String, usize>,
    /// The hash of which ones; none where there are none.
    pub hash: Option<String>,
}

/// Takes out of `rows` those in which an evaluated item is.
pub fn without_overlap<T>(
    rows: &mut Vec<T>,
    text: impl Fn(&T) -> &ExampleText,
    (evaluated, check): (&EvaluatedTexts, OverlapCheck),
) -> Result<LeftOut> {
    let (mut left_out, mut which, mut at) = (LeftOut::default(), Vec::new(), 0);
    rows.retain(|row| {
        let found = evaluated.find_in(text(row), check);
        if let Some(task) = found {
            *left_out.tasks.entry(task.to_owned()).or_default() += 1;
            which.push(at);
        }
        at += 1;
        found.is_none()
    });
    left_out.hash = if which.is_empty() { None } else { Some(key_hash(&which)?) };
    Ok(left_out)
}

/// What counts as overlap in answers to `data`. The prompts of a task's own training split are worded as its items are,
/// and are no items by construction; so only a whole item counts there.
pub fn overlap_check(data: &str, wanted: OverlapCheck) -> OverlapCheck {
    match wanted {
        OverlapCheck::Ngram if data == TASKS => OverlapCheck::Exact,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::PromptText;
    use lopper_heal::SgrRow;
    use lopper_infer::Finish;
    use lopper_model::chat::Message;
    use lopper_pocket::{Split, examples};
    use lopper_record::study::AnswerCounts;

    #[test]
    fn wrong_answers_are_taken_out_and_those_that_nothing_can_grade_stay() {
        let options = SgrOptions { seed: 4, samples: 2, ..SgrOptions::default() };
        let word = examples("pocket_word", Split::Train, 1).next().unwrap();
        let right = word.answer.clone();
        let prompt = |check| TrainingPrompt {
            prompt: PromptText::Chat(vec![Message::user("q")].into()),
            answer: String::new(),
            reference: String::new(),
            check,
        };
        let training = [prompt(None), prompt(Some(AnswerCheck::of_example(word)))];
        let row = |index, sample, answer: &str| SgrRow {
            text: ExampleText::Chat(vec![Message::user("q"), Message::assistant(answer)].into()),
            finish: Finish::Stop,
            seed: sample_seed(4, index, sample).unwrap(),
            sample: Some(sample),
            task: None,
            verified: None,
            tokens: 1,
            recorded: None,
        };
        let rows = vec![row(0, 0, "anything"), row(1, 0, &right), row(1, 1, "#### 12345")];
        let counts = AnswerCounts { answers: 4, used: 3, cut_off: 1, ..AnswerCounts::default() };
        let mut made = SelfGenerated { rows, counts, ..SelfGenerated::default() };
        verify(&mut made, &training, &options, None).unwrap();
        let verified: Vec<_> = made.rows.iter().map(|row| (row.task.as_deref(), row.verified)).collect();
        assert_eq!(verified, [(None, None), (Some("pocket_word"), Some(true))]);
        assert_eq!((made.counts.used, made.counts.rejected, made.counts.cut_off), (2, 1, 1));
        let expected = CheckedAnswers { task: "pocket_word".into(), answers: 2, right: 1 };
        assert_eq!(made.checked, [expected]);
    }

    #[test]
    fn answers_that_hold_an_item_are_taken_out_by_task() {
        let mut evaluated = EvaluatedTexts::default();
        evaluated.add("arc", ["Which gas do plants take in from the air?"]);
        let text = |response: &str| ExampleText::Plain { prompt: "p".into(), response: response.into() };
        let all = || vec![text("nothing"), text("Which gas do plants take in from the air? CO2"), text("more")];
        let mut rows = all();
        let left_out = without_overlap(&mut rows, |text| text, (&evaluated, OverlapCheck::Ngram)).unwrap();
        assert_eq!((rows.len(), left_out.tasks), (2, [("arc".to_owned(), 1)].into()));
        assert!(left_out.hash.is_some());
        // Contained in a longer line is no whole item.
        let exact = overlap_check(TASKS, OverlapCheck::Ngram);
        assert_eq!(without_overlap(&mut all(), |text| text, (&evaluated, exact)).unwrap(), LeftOut::default());
        assert_eq!(overlap_check("own.jsonl", OverlapCheck::Ngram), OverlapCheck::Ngram);
        assert_eq!(overlap_check(TASKS, OverlapCheck::None), OverlapCheck::None);
    }
}
