//! Samples that say what was right: those of `lopper eval --samples-out` and of lm-evaluation-harness
//! (`--log_samples`), as outcomes by task, so that a cut's file can be laid beside the uncut model's.
//!
//! An item is known by its `id`, or its `doc_id`, within its `task`. It is right where `correct` is true, or where
//! the first of `exact_match`, `acc`, `pass@1`, `pass_at_1` is 1. Lines without generated text, without a verdict, or
//! for another filter than the file's first are passed over; a line that cannot be read is counted. Here a file is
//! held in memory.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use lopper_infer::Finish;
use lopper_pocket::Group;
use lopper_record::Fault;
use serde_json::{Map, Value};

use super::outcomes::Outcomes;
use lopper_tasks::{ItemResult, TaskOutcome};

/// Verdicts of other programs, in the order of trial.
const VERDICTS: [&str; 4] = ["exact_match", "acc", "pass@1", "pass_at_1"];
/// What a task is called where its lines do not say.
const UNNAMED: &str = "samples";

/// Judged responses of a file, by task.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// The outcomes.
    pub outcomes: Outcomes,
    /// Lines that could not be read.
    pub broken: usize,
}

/// Reads the first `limit` responses of a file of judged samples, or all.
///
/// # Errors
/// A [`Fault`] when it cannot be read or judges no response.
pub fn read(path: &Path, limit: Option<usize>) -> Result<Judged> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        Fault::new("the samples cannot be read").file(path).got(error.to_string()).hint("check the path")
    })?;
    let mut items: BTreeMap<String, Vec<ItemResult>> = BTreeMap::new();
    let (mut broken, mut filter, mut taken) = (0, None, 0);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Ok(Value::Object(row)) = serde_json::from_str::<Value>(line) else {
            broken += 1;
            continue;
        };
        let own = row.get("filter").and_then(Value::as_str).map(str::to_owned);
        if *filter.get_or_insert_with(|| own.clone()) != own {
            continue;
        }
        let task = row.get("task").or_else(|| row.get("task_name")).and_then(Value::as_str).unwrap_or(UNNAMED);
        let list = items.entry(task.to_owned()).or_default();
        let Some(item) = item(&row, list.len()) else { continue };
        list.push(item);
        taken += 1;
        if limit == Some(taken) {
            break;
        }
    }
    items.retain(|_, items| !items.is_empty());
    if items.is_empty() {
        return Err(Fault::new("the file judges no response")
            .file(path)
            .expected("lines with a response and `correct`, or with `resps` and `exact_match`, `acc` or `pass@1`")
            .got(format!("{} lines without both", text.lines().count()))
            .hint("`lopper eval --samples-out F.jsonl` and `lm_eval --log_samples` write such files")
            .into());
    }
    let outcomes = items.into_iter().map(|(task, items)| (task.clone(), outcome(task, items))).collect();
    Ok(Judged { outcomes, broken })
}

fn outcome(task: String, items: Vec<ItemResult>) -> TaskOutcome {
    let all = |metric: &str| items.iter().all(|item| item.metrics.contains_key(metric));
    // The metric tells bracket items and programs from others.
    let primary = ["balanced", "pass@1", "exact_match"].into_iter().find(|metric| all(metric)).unwrap_or("correct");
    let primary = primary.to_owned();
    let n = items.len();
    TaskOutcome {
        task,
        group: Group::Generative,
        version: 0,
        shots: 0,
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

fn item(row: &Map<String, Value>, place: usize) -> Option<ItemResult> {
    let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    // A filter that makes programs gives a list of them.
    let first = |name: &str| {
        let found = row.get(name)?.get(0)?;
        found.as_str().or_else(|| found.get(0)?.as_str()).map(str::to_owned)
    };
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(f64::from));
    let response = text("response").or_else(|| row.get("resps")?.get(0)?.get(0)?.as_str().map(str::to_owned))?;
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
    let id = id.map_or_else(|| place.to_string(), |id| id.as_str().map_or_else(|| id.to_string(), str::to_owned));
    let question = || {
        let argument = row.get("arguments").map(|arguments| match arguments {
            Value::Object(named) => named.get("gen_args_0").and_then(|args| args.get("arg_0")),
            list => list.get(0).and_then(|args| args.get(0)),
        });
        argument.flatten().and_then(Value::as_str).map(str::to_owned)
    };
    // The harness writes `[invalid]` where its filter found nothing.
    let extracted = text("extracted").or_else(|| first("filtered_resps")).filter(|found| found != "[invalid]");
    Some(ItemResult {
        doc_id: row.get("doc_id").and_then(Value::as_u64).map_or(place, |doc| doc as usize),
        id,
        score,
        metrics,
        prompt: text("prompt").or_else(question).unwrap_or_default(),
        choices: None,
        response: Some(response),
        extracted,
        target: text("target").unwrap_or_default(),
        logprobs: row.get("logprobs").and_then(|list| serde_json::from_value(list.clone()).ok()),
        outcome: text("outcome"),
        finish: row.get("finish").and_then(|finish| serde_json::from_value::<Finish>(finish.clone()).ok()),
        greedy: None,
        samples: vec![],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::of_outcomes;
    use lopper_record::study::Cause;

    fn judged(name: &str, text: &str) -> Result<Judged> {
        let path = std::env::temp_dir().join(format!("lopper-judged-{}-{name}.jsonl", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let found = read(&path, None);
        std::fs::remove_file(path).unwrap();
        found
    }

    #[test]
    fn samples_of_the_harness_are_laid_beside_each_other() {
        let line = |doc: u32, filter: &str, text: &str, right: u32| {
            format!(
                "{{\"doc_id\":{doc},\"filter\":\"{filter}\",\"target\":\"4\",\"arguments\":[[\"Q {doc}\",{{}}]],\
                 \"resps\":[[\"{text}\"]],\"filtered_resps\":[\"{right}\"],\"exact_match\":{right}.0}}\n"
            )
        };
        let base = line(0, "strict", "2 + 2 = 4 #### 4", 1) + &line(0, "flexible", "2 + 2 = 4 #### 4", 1) + "broken\n";
        let base = judged("base", &(base + &line(1, "strict", "?", 0))).unwrap();
        assert_eq!((base.broken, base.outcomes[UNNAMED].n), (1, 2));
        let cut = line(1, "strict", "2 + 2 = 4 #### 4", 1) + &line(0, "strict", "2 + 2 = 5 #### 5", 0);
        let (diagnosis, entries) = of_outcomes(&judged("cut", &cut).unwrap().outcomes, Some(&base.outcomes));
        let ledger = diagnosis.ledger.unwrap();
        assert_eq!((ledger.compared, ledger.lost, ledger.gained, ledger.of(Cause::ArithmeticSlip)), (2, 1, 1, 1));
        assert!(entries.iter().any(|entry| entry.detail == "2 + 2 = 5 (is 4)" && entry.prompt == "Q 0"));
        let error = judged("none", "{\"text\":\"no verdict\"}\n").unwrap_err();
        assert!(error.downcast_ref::<Fault>().unwrap().hint.as_deref().unwrap().contains("--log_samples"));
    }
}
