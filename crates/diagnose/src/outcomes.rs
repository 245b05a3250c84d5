//! Diagnoses from the outcomes of an evaluation alone, without running the model again.

use std::collections::BTreeMap;

use lopper_measure::Outcomes;
use lopper_record::study::{Diagnosis, Ledger, LedgerEntry, Programs};
use lopper_tasks::{ItemResult, TaskOutcome, UNFINISHED_THOUGHT};
use rayon::prelude::*;

use crate::arithmetic::{self, DigitLogprobs};
use crate::degeneration::{DegenerationTally, ResponseMetadata, TextMetrics, finish_name, text_metrics};
use crate::reasoning::{MeasuredThought, ReasoningTally};
use crate::{brackets, ledger};

/// Degeneration, programs, arithmetic and brackets of one model's outcomes; compared with the uncut model's `base`,
/// where given, also the change of the digits' log-probability, and the ledger with its entries. What the tasks do not
/// measure is absent.
pub fn diagnose_outcomes(own: &Outcomes, base: Option<&Outcomes>) -> (Diagnosis, Vec<LedgerEntry>) {
    let mut entries = Vec::new();
    let ledger = base.map(|base| {
        let mut sum = Ledger::default();
        for outcome in own.values() {
            if let Some(before) = base.get(&outcome.task) {
                let (counts, found) = ledger::ledger(before, outcome);
                ledger::add(&mut sum, &counts);
                entries.extend(found);
            }
        }
        sum
    });
    let diagnosis = Diagnosis {
        degeneration: degeneration(own),
        reasoning: reasoning(own),
        arithmetic: digits(own, base),
        brackets: bracket_items(own),
        programs: own.values().filter_map(program_outcomes).reduce(Programs::plus),
        programs_by_task: programs_by_task(own),
        ledger: ledger.filter(|ledger| ledger.compared > 0),
        perplexity: None,
        perplexity_ci95: None,
    };
    (diagnosis, entries)
}

/// Whether a task's responses are text that can degenerate: not the few tokens of a probe.
pub(crate) fn is_text(outcome: &TaskOutcome) -> bool {
    !has_digits(outcome) && outcome.primary != "balanced"
}

fn has_digits(outcome: &TaskOutcome) -> bool {
    outcome.items.iter().any(|item| item.metrics.contains_key("first_digit"))
}

fn degeneration(own: &Outcomes) -> Option<lopper_record::study::Degeneration> {
    let items: Vec<&ItemResult> = own.values().filter(|o| is_text(o)).flat_map(|o| &o.items).collect();
    let responses: Vec<(TextMetrics, ResponseMetadata)> = items
        .par_iter()
        .filter_map(|item| {
            let finish = item.finish.map(|finish| finish_name(finish).to_owned());
            let metadata = ResponseMetadata { finish, ..ResponseMetadata::default() };
            Some((text_metrics(item.response.as_deref()?), metadata))
        })
        .collect();
    let mut tally = DegenerationTally::default();
    responses.iter().for_each(|(metrics, metadata)| tally.add(metrics, metadata));
    (!responses.is_empty()).then(|| tally.finish())
}

fn reasoning(own: &Outcomes) -> Option<lopper_record::study::Reasoning> {
    let outcomes = own.values().filter(|outcome| is_text(outcome));
    let items: Vec<&ItemResult> = outcomes.flat_map(|outcome| &outcome.items).collect();
    let items = items.par_iter().filter(|item| item.response.is_some());
    let thoughts: Vec<Option<MeasuredThought>> = items.map(|item| MeasuredThought::of_item(item)).collect();
    let mut tally = ReasoningTally::default();
    thoughts.iter().for_each(|thought| tally.add(thought.as_ref()));
    tally.finish()
}

/// The digits' log-probabilities of an item of the arithmetic probe.
fn digit_logprobs(item: &ItemResult) -> Option<DigitLogprobs> {
    let logprobs: [f64; 10] = item.logprobs.as_deref()?.try_into().ok()?;
    let right = item.target.chars().find_map(|c| c.to_digit(10))? as usize;
    Some(DigitLogprobs { logprobs, right })
}

fn digits(own: &Outcomes, base: Option<&Outcomes>) -> Option<lopper_record::study::Arithmetic> {
    let outcome = own.values().find(|outcome| has_digits(outcome))?;
    let digits: Vec<DigitLogprobs> = outcome.items.iter().filter_map(digit_logprobs).collect();
    let before: Option<Vec<DigitLogprobs>> = base.and_then(|base| {
        let before = base.get(&outcome.task)?;
        let same = before.items.len() == outcome.items.len()
            && before.items.iter().zip(&outcome.items).all(|(a, b)| a.id == b.id);
        same.then(|| before.items.iter().filter_map(digit_logprobs).collect())
    });
    let mut figures = arithmetic::summarize(&digits, before.as_deref());
    figures.source.clone_from(&outcome.task);
    (!digits.is_empty()).then_some(figures)
}

fn bracket_items(own: &Outcomes) -> Option<lopper_record::study::Brackets> {
    let outcome = own.values().find(|outcome| outcome.primary == "balanced")?;
    let answered = outcome.items.iter().filter(|item| item.response.is_some());
    Some(brackets::summarize(answered.map(|item| {
        let depth = item.target.split_whitespace().count();
        // The task's own verdict is the stricter one.
        (depth, "mixed", if item.score == 1.0 { "balanced" } else { ledger::bracket_outcome(item) })
    })))
}

/// How the programs of a task ended; unfinished thoughts are none. None of a task that runs no programs.
pub fn program_outcomes(outcome: &TaskOutcome) -> Option<Programs> {
    let mut programs = Programs::default();
    // Where a program's value is compared after it ran, the metric is not `pass@`, but every item has a class.
    let thought = |item: &ItemResult| item.outcome.as_deref() == Some(UNFINISHED_THOUGHT);
    let classes = |item: &ItemResult| {
        thought(item) || item.outcome.as_deref().is_some_and(|class| Programs::default().count(class))
    };
    let executed = outcome.primary.starts_with("pass@") || outcome.items.iter().all(classes);
    for item in outcome.items.iter().filter(|_| executed) {
        let first = std::iter::once(item.outcome.as_deref()).filter(|_| item.samples.is_empty());
        for class in first.chain(item.samples.iter().map(|sample| sample.outcome.as_deref())) {
            programs.count(class.unwrap_or("other"));
        }
    }
    (programs.total() > 0).then_some(programs)
}

/// How programs ended by task, where several tasks run programs.
fn programs_by_task(own: &Outcomes) -> BTreeMap<String, Programs> {
    let all: BTreeMap<String, Programs> =
        own.values().filter_map(|outcome| Some((outcome.task.clone(), program_outcomes(outcome)?))).collect();
    if all.len() > 1 { all } else { BTreeMap::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn outcome(primary: &str, outcomes: &[&str], samples: &[&str]) -> TaskOutcome {
        let sample =
            |class: &&str| json!({"score": 0, "response": "x", "extracted": null, "outcome": class, "finish": "stop"});
        let item = |class: &&str| {
            json!({"doc_id": 0, "id": "a", "score": 0, "metrics": {}, "prompt": "", "response": "x", "extracted": null,
                "target": "", "logprobs": null, "outcome": class, "finish": "stop",
                "samples": samples.iter().map(sample).collect::<Vec<_>>()})
        };
        let items: Vec<_> = outcomes.iter().map(item).collect();
        serde_json::from_value(
            json!({"task": "t", "group": "generative", "version": 1, "shots": 0, "n": items.len(), "policy": {},
            "metrics": {}, "primary": primary, "items": items}),
        )
        .unwrap()
    }

    #[test]
    fn programs_are_recognized_by_their_classes() {
        let counts = |outcome: &TaskOutcome| program_outcomes(outcome).map(|programs| programs.counts());
        assert_eq!(counts(&outcome("pass@1", &["passed", "timeout", "strange"], &[])), Some([1, 0, 0, 0, 0, 1, 0]));
        // A value is compared after the program ran.
        assert_eq!(counts(&outcome("exact_match", &["passed", "assertion"], &[])), Some([1, 1, 0, 0, 0, 0, 0]));
        assert_eq!(counts(&outcome("exact_match", &["right", "no_answer", "other"], &[])), None);
        // Of several responses each is a program.
        let several = outcome("pass@1", &["passed"], &["passed", "other_syntax", "name_not_defined"]);
        assert_eq!(counts(&several), Some([1, 0, 0, 1, 1, 0, 0]));
    }
}
