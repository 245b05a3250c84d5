//! The failure ledger: for every item that the uncut model answers right and the cut one wrong, the cause.
//!
//! Causes are checked in this order, and the first that applies counts:
//!
//! 1. **unfinished thought**: the model thought, and no answer follows; how the thought stopped is shown;
//! 2. **bracket or syntax error**: of a program by its class, or a wrong completion of a bracket item;
//! 3. **loop**: the response repeats itself;
//! 4. **arithmetic slip**: an equation of the chain is false, or the answer itself is a wrong result of the expression
//!    in the question; the first false equation is shown;
//! 5. **length limit**: the response was truncated;
//! 6. **no answer**: the task's filter finds none;
//! 7. **dropped step**: fewer equations than in the uncut model's response, none of them false;
//! 8. **other**: among these, programs that run and give a wrong result, and chains of true equations that answer
//!    another question.
//!
//! Responses are read without what was thought before them: a thought tries out what it then rejects.
//!
//! Covers tasks that are answered in text and are right or wrong; graded metrics (ROUGE) and multiple choice say
//! nothing about a cause.

use std::collections::HashMap;
use std::path::Path;

use lopper_infer::Finish;
use lopper_record::study::{Cause, Ledger, LedgerEntry, Programs};
use lopper_record::{Result, write_atomic_with};
use lopper_tasks::{ItemResult, TaskOutcome, UNFINISHED_THOUGHT};

use crate::brackets;
use crate::degeneration::text_metrics;
use crate::equations::{CheckedEquation, check_all, first_false};

/// Longest text that an entry holds, in characters.
const MAX_CHARS: usize = 4000;

/// Compares a cut with the uncut model on one task, item by item; an entry for each that changed. Items that only one
/// of them has are left out.
pub fn ledger(base: &TaskOutcome, cut: &TaskOutcome) -> (Ledger, Vec<LedgerEntry>) {
    let (mut ledger, mut entries) = (Ledger::default(), Vec::new());
    let known: HashMap<&str, &ItemResult> = base.items.iter().map(|item| (item.id.as_str(), item)).collect();
    for after in &cut.items {
        let Some(before) = known.get(after.id.as_str()) else { continue };
        let (Some(_), Some(_)) = (&before.response, &after.response) else { continue };
        let (Some(was), Some(is)) = (base.correct(before), cut.correct(after)) else { continue };
        ledger.compared += 1;
        if was == is {
            continue;
        }
        let mut entry = LedgerEntry {
            task: cut.task.clone(),
            doc_id: after.doc_id,
            gained: is,
            prompt: clipped(&before.prompt),
            target: clipped(&before.target),
            base: clipped(before.response.as_deref().unwrap_or_default()),
            base_reasoning: clipped(before.reasoning.as_deref().unwrap_or_default()),
            cut: clipped(after.response.as_deref().unwrap_or_default()),
            cut_reasoning: clipped(after.reasoning.as_deref().unwrap_or_default()),
            ..LedgerEntry::default()
        };
        if is {
            ledger.gained += 1;
        } else {
            let (cause, detail) = cause(before, after);
            ledger.lost += 1;
            *ledger.causes.entry(cause).or_default() += 1;
            (entry.cause, entry.detail) = (Some(cause), detail);
        }
        entries.push(entry);
    }
    (ledger, entries)
}

/// Adds the counts of another task.
pub fn add(sum: &mut Ledger, other: &Ledger) {
    sum.compared += other.compared;
    sum.lost += other.lost;
    sum.gained += other.gained;
    for (cause, count) in &other.causes {
        *sum.causes.entry(*cause).or_default() += count;
    }
}

/// The first `most` entries of each cause (gained items count as one cause) of each model.
pub fn excerpt(entries: &[LedgerEntry], most: usize) -> Vec<LedgerEntry> {
    let mut counts = HashMap::new();
    let first = entries.iter().filter(|entry| {
        let count = counts.entry((&entry.strategy, &entry.dropped, entry.healed, entry.cause)).or_insert(0);
        *count += 1;
        *count <= most
    });
    first.cloned().collect()
}

/// Writes entries to `path` as JSON lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, entries: &[LedgerEntry]) -> Result<()> {
    write_atomic_with(path, |out| {
        entries.iter().try_for_each(|entry| Ok(writeln!(out, "{}", serde_json::to_string(entry)?)?))
    })
}

/// Why `after` is wrong where `before` was right, and the details.
fn cause(before: &ItemResult, after: &ItemResult) -> (Cause, String) {
    if after.outcome.as_deref() == Some(UNFINISHED_THOUGHT) {
        return (Cause::UnfinishedThought, how_thought_stopped(after));
    }
    let response = after.response.as_deref().unwrap_or_default();
    let program = after.outcome.as_deref().filter(|class| Programs::default().count(class));
    // lm-evaluation-harness runs programs and does not say how they end.
    let executed = program.is_some() || ["pass@1", "pass_at_1"].iter().any(|name| after.metrics.contains_key(*name));
    match program {
        Some(class @ ("bracket_or_literal" | "bracket_syntax" | "other_syntax")) => {
            return (Cause::BracketOrSyntax, class.replace('_', " "));
        }
        None if after.metrics.contains_key("balanced") => {
            return (Cause::BracketOrSyntax, bracket_outcome(after).replace('_', " "));
        }
        _ => {}
    }
    if let Some(detail) = loop_in(response) {
        return (Cause::Loop, detail);
    }
    if after.finish == Some(Finish::Loop) {
        return (Cause::Loop, "stopped because it repeated itself".to_owned());
    }
    if !executed && let Some(slip) = first_false(response).or_else(|| wrong_result(&before.prompt, after)) {
        return (Cause::ArithmeticSlip, format!("{} (is {})", slip.equation, slip.value));
    }
    if matches!(after.finish, Some(Finish::Length | Finish::ContextFull)) {
        return (Cause::LengthLimit, String::new());
    }
    if let Some(class) = program {
        return (Cause::Other, class.replace('_', " "));
    }
    if after.extracted.as_deref().is_none_or(|answer| answer.trim().is_empty()) {
        return (Cause::NoAnswer, String::new());
    }
    if executed {
        return (Cause::Other, String::new());
    }
    let had = check_all(before.response.as_deref().unwrap_or_default()).len();
    let has = check_all(response).len();
    if has < had {
        return (Cause::DroppedStep, format!("{has} of {had} equations"));
    }
    (Cause::Other, String::new())
}

/// The loop of a text, in words.
fn loop_in(text: &str) -> Option<String> {
    let looped = text_metrics(text).looped?;
    Some(format!("{:?} {} times from word {} on", looped.unit, looped.times, looped.begins_at_word + 1))
}

fn how_thought_stopped(item: &ItemResult) -> String {
    if let Some(looped) = item.reasoning.as_deref().and_then(loop_in) {
        return format!("it repeats {looped}");
    }
    let reason = match item.finish {
        Some(Finish::Loop) => "stopped because it repeated itself",
        Some(Finish::Length) => "stopped at the length limit",
        Some(Finish::ContextFull) => "the context was full",
        Some(Finish::Stop | Finish::StopString) => "the model ended it without an answer",
        None => "",
    };
    reason.to_owned()
}

/// How the completion of a bracket item that is wrong ends.
pub(crate) fn bracket_outcome(item: &ItemResult) -> &'static str {
    let question = item.prompt.trim_end().strip_suffix("Answer:").unwrap_or(&item.prompt);
    let prefix = question.rsplit_once(": ").map_or(question, |(_, brackets)| brackets);
    match brackets::outcome(prefix, item.response.as_deref().unwrap_or_default()) {
        // The task is stricter than this parser about other text on the line.
        "balanced" => "other_text",
        outcome => outcome,
    }
}

/// The false equation of the expression in a question and the answer given to it.
fn wrong_result(prompt: &str, after: &ItemResult) -> Option<CheckedEquation> {
    let (_, question) = prompt.rsplit_once("What is ")?;
    let (expression, _) = question.split_once('?')?;
    let expression = expression.replace(" plus ", " + ").replace(" minus ", " - ").replace(" times ", " * ");
    first_false(&format!("{expression} = {}", after.extracted.as_deref()?.trim()))
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::graded_samples;

    fn item(id: &str, score: f64, prompt: &str, response: &str) -> ItemResult {
        let extracted = response.rsplit_once("#### ").map(|(_, answer)| answer);
        let row = json!({"id": id, "exact_match": score, "prompt": prompt, "response": response, "extracted": extracted,
            "target": "12", "finish": "stop"});
        graded_samples::item(row.as_object().unwrap(), 0, None).unwrap()
    }

    fn outcome(items: Vec<ItemResult>) -> TaskOutcome {
        graded_samples::outcome("word".into(), items)
    }

    const RIGHT: &str = "20 - 2 = 18. 3 * 2 = 6. 18 - 6 = 12.\n#### 12";

    fn cause_of(response: &str, change: impl FnOnce(&mut ItemResult)) -> (Cause, String) {
        let mut after = item("a", 0.0, "Q", response);
        change(&mut after);
        cause(&item("a", 1.0, "Q", RIGHT), &after)
    }

    #[test]
    fn each_cause_is_found() {
        let keep = |_: &mut ItemResult| {};
        assert_eq!(
            cause_of("20 - 2 = 18. 3 * 2 = 5. 18 - 5 = 13.\n#### 13", keep),
            (Cause::ArithmeticSlip, "3 * 2 = 5 (is 6)".into())
        );
        assert_eq!(cause_of("20 - 2 = 18.\n#### 18", keep), (Cause::DroppedStep, "1 of 3 equations".into()));
        assert_eq!(cause_of("20 - 2 = 18. 3 * 2 = 6. 18 + 6 = 24.\n#### 24", keep).0, Cause::Other);
        assert_eq!(cause_of("I cannot say.", keep).0, Cause::NoAnswer);
        assert_eq!(cause_of(&"and so on ".repeat(30), keep).0, Cause::Loop);
        assert_eq!(cause_of("20 - 2", |item| item.finish = Some(Finish::Length)).0, Cause::LengthLimit);
        let program = |class: &'static str| move |item: &mut ItemResult| item.outcome = Some(class.into());
        assert_eq!(
            cause_of("def f(", program("bracket_or_literal")),
            (Cause::BracketOrSyntax, "bracket or literal".into())
        );
        assert_eq!(cause_of("x = 1 + 1 = 3", program("assertion")), (Cause::Other, "assertion".into()));
    }

    #[test]
    fn an_answer_without_steps_is_checked_against_the_question() {
        let before = item("a", 1.0, "Question: What is 1 - (7 * 8)? Answer:", " -55");
        let mut after = item("a", 0.0, "Question: What is 1 - (7 * 8)? Answer:", " -54");
        after.extracted = Some("-54".into());
        assert_eq!(cause(&before, &after), (Cause::ArithmeticSlip, "1 - (7 * 8) = -54 (is -55)".into()));
    }

    #[test]
    fn wrong_brackets_have_their_outcome() {
        let mut before = item("a", 1.0, "Close the brackets: ( [ Answer:", " ] )");
        let mut after = item("a", 0.0, "Close the brackets: ( [ Answer:", " ) ]");
        for item in [&mut before, &mut after] {
            item.metrics = [("balanced".to_owned(), item.score)].into();
        }
        assert_eq!(cause(&before, &after), (Cause::BracketOrSyntax, "wrong kind".into()));
    }

    #[test]
    fn both_directions_are_counted_over_the_items_of_both() {
        let base = outcome(vec![item("a", 1.0, "Q", RIGHT), item("b", 0.0, "Q", "?"), item("c", 1.0, "Q", RIGHT)]);
        let cut = outcome(vec![
            item("c", 1.0, "Q", RIGHT),
            item("a", 0.0, "Q", "#### 1"),
            item("b", 1.0, "Q", RIGHT),
            item("d", 0.0, "Q", ""),
        ]);
        let (counts, entries) = ledger(&base, &cut);
        assert_eq!((counts.compared, counts.lost, counts.gained), (3, 1, 1));
        assert_eq!(counts.of(Cause::DroppedStep), 1);
        assert_eq!(entries.iter().map(|entry| entry.gained).collect::<Vec<_>>(), [false, true]);
        let mut sum = counts.clone();
        add(&mut sum, &counts);
        assert_eq!((sum.compared, sum.of(Cause::DroppedStep)), (6, 2));
    }
}
