//! Answers graded by the task that their prompt is of.

use std::collections::HashSet;

use lopper_heal::SgrRow;
use lopper_record::study::CheckedAnswers;
use lopper_record::{Fault, Result};
use lopper_tasks::{AnswerCheck, check_answers};

/// What became of graded answers.
#[derive(Debug, Default)]
pub struct Graded {
    /// By task.
    pub checked: Vec<CheckedAnswers>,
    /// Answers that their task cannot grade, by task.
    pub unchecked: Vec<(String, usize)>,
}

/// Refuses to keep right answers only where no task can tell which they are.
pub fn refuse_unchecked(checks: &[Option<AnswerCheck>], prompts: &str) -> Result<()> {
    if checks.iter().flatten().any(|check| check.can_tell(false)) {
        return Ok(());
    }
    Err(Fault::new("--keep verified, but no answer can be graded")
        .expected("prompts of tasks that tell right from wrong without running programs, such as `gsm8k` or `pocket`")
        .got(format!("`--prompts {prompts}`"))
        .hint("leave --keep out, or name a task: its training split is taken")
        .into())
}

/// Notes with each row the task of its prompt and whether it is right; one that was cut off is not. `checks` are those
/// of the rows, in their order.
pub fn grade(rows: &mut [SgrRow], checks: &[Option<&AnswerCheck>]) -> Result<Graded> {
    let texts: Vec<String> = rows.iter().map(SgrRow::answer).collect();
    let answers: Vec<(usize, &AnswerCheck, &str)> =
        (0..rows.len()).filter_map(|at| Some((at, (*checks.get(at)?)?, texts[at].as_str()))).collect();
    let pairs: Vec<(&AnswerCheck, &str)> = answers.iter().map(|(_, check, text)| (*check, *text)).collect();
    let verdicts = check_answers(&pairs, None)?;
    let mut graded = Graded::default();
    for ((at, check, _), right) in answers.into_iter().zip(verdicts) {
        let (row, task) = (&mut rows[at], check.task().to_owned());
        row.verified = right.map(|right| right && row.finish.is_complete());
        match row.verified {
            Some(right) => {
                let one = entry(
                    &mut graded.checked,
                    |one| one.task == task,
                    || CheckedAnswers { task: task.clone(), ..CheckedAnswers::default() },
                );
                one.answers += 1;
                one.right += usize::from(right);
            }
            None => entry(&mut graded.unchecked, |(name, _)| *name == task, || (task.clone(), 0)).1 += 1,
        }
        row.task = Some(task);
    }
    Ok(graded)
}

/// The entry that `is` says, made if it is not there.
fn entry<T>(list: &mut Vec<T>, is: impl Fn(&T) -> bool, make: impl FnOnce() -> T) -> &mut T {
    let at = list.iter().position(is).unwrap_or_else(|| {
        list.push(make());
        list.len() - 1
    });
    &mut list[at]
}

/// How many of several answers to their prompt are the same as one before.
pub fn repeated(rows: &[SgrRow]) -> usize {
    let mut seen = HashSet::new();
    let new = |row: &SgrRow| match &row.recorded {
        Some(tokens) => seen.insert((tokens.prompt_token_ids.clone(), tokens.response_token_ids.clone())),
        None => true,
    };
    let known = rows.iter().map(new);
    known.filter(|new| !new).count()
}
