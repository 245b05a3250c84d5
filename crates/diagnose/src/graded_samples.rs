//! Graded samples: files of `lopper eval --samples-out` and of lm-evaluation-harness (`--log_samples`), read as
//! outcomes by task, so that a cut's file can be compared with the uncut model's.
//!
//! An item is identified by its `id`, or its `doc_id`, within its `task`. It is right where `correct` is true, or where
//! the first of `exact_match`, `acc`, `pass@1`, `pass_at_1` that the row has is 1. Rows without generated text,
//! without a verdict, or for another filter than the file's first are skipped; rows that cannot be read are counted.
//! What was thought is in `reasoning` or `reasoning_content`, or between markers in the response. The items are held in
//! memory.

use std::collections::BTreeMap;
use std::path::Path;

use lopper_infer::Finish;
use lopper_measure::Outcomes;
use lopper_model::chat::ReasoningMarkers;
use lopper_pocket::Group;
use lopper_record::{Fault, Result};
use lopper_rows::RowReader;
use lopper_tasks::{ItemResult, TaskOutcome, UNFINISHED_THOUGHT};
use serde_json::{Map, Value};

use crate::reasoning::{GivenResponse, given_reasoning, is_cut_off};

/// Metrics of other programs that say whether an item is right; the first that a line has counts.
const VERDICTS: [&str; 4] = ["exact_match", "acc", "pass@1", "pass_at_1"];
/// The task's name where lines have none.
const UNNAMED: &str = "samples";

/// Graded responses of a file.
#[derive(Debug, Clone, Default)]
pub struct GradedSamples {
    /// The outcomes by task.
    pub outcomes: Outcomes,
    /// Lines that could not be read.
    pub broken: usize,
}

/// Reads the first `limit` graded responses of a file, or all. Thoughts stand between `markers`, or between known ones.
///
/// # Errors
/// A [`Fault`] when the file cannot be read or has no graded response.
pub fn read(path: &Path, limit: Option<usize>, markers: Option<&ReasoningMarkers>) -> Result<GradedSamples> {
    let mut items: BTreeMap<String, Vec<ItemResult>> = BTreeMap::new();
    let (mut rows, mut broken, mut filter, mut taken) = (0, 0, None, 0);
    for row in RowReader::open(path)? {
        rows += 1;
        let Ok(row) = row?.1 else {
            broken += 1;
            continue;
        };
        let own = row.get("filter").and_then(Value::as_str).map(str::to_owned);
        if *filter.get_or_insert_with(|| own.clone()) != own {
            continue;
        }
        let task = row.get("task").or_else(|| row.get("task_name")).and_then(Value::as_str).unwrap_or(UNNAMED);
        let list = items.entry(task.to_owned()).or_default();
        let Some(item) = item(&row, list.len(), markers) else { continue };
        list.push(item);
        taken += 1;
        if limit == Some(taken) {
            break;
        }
    }
    items.retain(|_, items| !items.is_empty());
    if items.is_empty() {
        return Err(Fault::new("the file has no graded response")
            .file(path)
            .expected("rows with a response and `correct`, or with `resps` and `exact_match`, `acc` or `pass@1`")
            .got(format!("{rows} rows without both"))
            .hint("`lopper eval --samples-out F.jsonl` and `lm_eval --log_samples` write such files")
            .into());
    }
    let outcomes = items.into_iter().map(|(task, items)| (task.clone(), outcome(task, items))).collect();
    Ok(GradedSamples { outcomes, broken })
}

/// The outcome of a task from its items.
pub(crate) fn outcome(task: String, items: Vec<ItemResult>) -> TaskOutcome {
    let all = |metric: &str| items.iter().all(|item| item.metrics.contains_key(metric));
    // The metric distinguishes bracket items and programs from others.
    let primary = ["balanced", "pass@1", "exact_match"].into_iter().find(|metric| all(metric)).unwrap_or("correct");
    let primary = primary.to_owned();
    let n = items.len();
    TaskOutcome {
        task,
        group: Group::Generative,
        version: 0,
        policy: Default::default(),
        n,
        metrics: BTreeMap::new(),
        primary,
        items,
        chance: None,
        families: vec![],
        source: None,
        bad_rows: vec![],
        truncated: vec![],
        timings: vec![],
    }
}

/// The item of a line; `index` identifies it where the line does not.
pub(crate) fn item(row: &Map<String, Value>, index: usize, markers: Option<&ReasoningMarkers>) -> Option<ItemResult> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    // Filters that build programs write a list of them.
    let first = |name: &str| {
        let found = row.get(name)?.get(0)?;
        found.as_str().or_else(|| found.get(0)?.as_str()).map(str::to_owned)
    };
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(f64::from));
    let response = text("response").or_else(|| row.get("resps")?.get(0)?.get(0)?.as_str().map(str::to_owned));
    let response = response.or_else(|| given_reasoning(row).map(|_| String::new()))?;
    let right = match row.get("correct") {
        Some(correct) => correct.as_bool()?,
        None => VERDICTS.iter().find_map(|name| number(row.get(*name)?))? == 1.0,
    };
    let score = f64::from(right);
    let mut metrics: BTreeMap<String, f64> = row
        .get("metrics")
        .and_then(Value::as_object)
        .map(|metrics| metrics.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect())
        .unwrap_or_default();
    metrics.extend(VERDICTS.iter().filter_map(|name| Some(((*name).to_owned(), number(row.get(*name)?)?))));
    metrics.insert("correct".into(), score);
    let id = row.get("id").or_else(|| row.get("doc_id"));
    let id = id.map_or_else(|| index.to_string(), |id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    let question = || {
        let argument = row.get("arguments").map(|arguments| match arguments {
            Value::Object(named) => named.get("gen_args_0").and_then(|args| args.get("arg_0")),
            list => list.get(0).and_then(|args| args.get(0)),
        });
        argument.flatten().and_then(Value::as_str).map(str::to_owned)
    };
    // The harness writes `[invalid]` where its filter finds nothing.
    let extracted = text("extracted").or_else(|| first("filtered_resps")).filter(|found| found != "[invalid]");
    let prompt = text("prompt").or_else(question).unwrap_or_default();
    let cut_off = is_cut_off(row.get("finish").or_else(|| row.get("finish_reason")).and_then(Value::as_str));
    let GivenResponse { thought, answer } =
        GivenResponse::read(given_reasoning(row), &response, Some(&prompt), cut_off, markers);
    let unfinished = thought.as_ref().is_some_and(|(_, finished)| !finished);
    let outcome = if unfinished { Some(UNFINISHED_THOUGHT.to_owned()) } else { text("outcome") };
    Some(ItemResult {
        doc_id: row.get("doc_id").and_then(Value::as_u64).map_or(index, |doc| doc as usize),
        id,
        score,
        metrics,
        prompt,
        reasoning: thought.map(|(text, _)| text),
        reasoning_tokens: row.get("reasoning_tokens").and_then(Value::as_u64).map(|tokens| tokens as usize),
        reasoning_cut: row.get("reasoning_cut").and_then(Value::as_bool).unwrap_or_default(),
        response: Some(answer),
        extracted,
        target: text("target").unwrap_or_default(),
        logprobs: row.get("logprobs").and_then(|list| serde_json::from_value(list.clone()).ok()),
        outcome,
        finish: row.get("finish").and_then(|finish| serde_json::from_value::<Finish>(finish.clone()).ok()),
        ..ItemResult::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose_outcomes;
    use lopper_record::study::Cause;

    fn read_text(text: &str) -> Result<GradedSamples> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        read(file.path(), None, None)
    }

    #[test]
    fn samples_of_the_harness_are_compared_item_by_item() {
        let line = |doc: u32, filter: &str, text: &str, right: u32| {
            format!(
                "{{\"doc_id\":{doc},\"filter\":\"{filter}\",\"target\":\"4\",\"arguments\":[[\"Q {doc}\",{{}}]],\
                 \"resps\":[[\"{text}\"]],\"filtered_resps\":[\"{right}\"],\"exact_match\":{right}.0}}\n"
            )
        };
        let base = line(0, "strict", "2 + 2 = 4 #### 4", 1) + &line(0, "flexible", "2 + 2 = 4 #### 4", 1) + "broken\n";
        let base = read_text(&(base + &line(1, "strict", "?", 0))).unwrap();
        assert_eq!((base.broken, base.outcomes[UNNAMED].n), (1, 2));
        let cut = line(1, "strict", "2 + 2 = 4 #### 4", 1) + &line(0, "strict", "2 + 2 = 5 #### 5", 0);
        let (diagnosis, entries) = diagnose_outcomes(&read_text(&cut).unwrap().outcomes, Some(&base.outcomes));
        let ledger = diagnosis.ledger.unwrap();
        assert_eq!((ledger.compared, ledger.lost, ledger.gained, ledger.of(Cause::ArithmeticSlip)), (2, 1, 1, 1));
        assert!(entries.iter().any(|entry| entry.detail == "2 + 2 = 5 (is 4)" && entry.prompt == "Q 0"));
        let error = read_text("{\"text\":\"no verdict\"}\n").unwrap_err();
        assert!(error.fault().unwrap().hint.as_deref().unwrap().contains("--log_samples"));
    }
}
