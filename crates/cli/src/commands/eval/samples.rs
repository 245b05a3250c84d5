//! `--samples-out`: every item as a line of JSON; `--responses-from` and `--disjoint-from`, which read such rows.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use lopper_heal::ExampleText;
use lopper_heal::examples::layouts;
use lopper_infer::Finish;
use lopper_record::{Fault, Result, write_atomic};
use lopper_rows::RowReader;
use lopper_tasks::{GivenResponse, GivenResponses, ItemResult, SampleResult, Suite, TaskOutcome, Timing, question_id};
use serde::Serialize;
use serde_json::{Map, Value};

/// One line.
#[derive(Serialize)]
struct SampleLine<'a> {
    task: &'a str,
    doc_id: usize,
    id: &'a str,
    prompt: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    choices: &'a Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: &'a Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_tokens: &'a Option<usize>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reasoning_cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: &'a Option<String>,
    extracted: &'a Option<String>,
    target: &'a str,
    correct: Option<bool>,
    metrics: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    weights: &'a BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: &'a Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish: &'a Option<Finish>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    responses: &'a [SampleResult],
    #[serde(skip_serializing_if = "Option::is_none")]
    timing: Option<&'a Timing>,
}

/// Writes every item of every task.
pub fn write(path: &Path, outcomes: &[TaskOutcome]) -> Result<()> {
    let mut text = String::new();
    for outcome in outcomes {
        for (at, item) in outcome.items.iter().enumerate() {
            text.push_str(&serde_json::to_string(&line(outcome, item, outcome.timings.get(at)))?);
            text.push('\n');
        }
    }
    write_atomic(path, text.as_bytes())
}

fn line<'a>(outcome: &'a TaskOutcome, item: &'a ItemResult, timing: Option<&'a Timing>) -> SampleLine<'a> {
    SampleLine {
        task: &outcome.task,
        doc_id: item.doc_id,
        id: &item.id,
        prompt: &item.prompt,
        choices: &item.choices,
        logprobs: &item.logprobs,
        reasoning: &item.reasoning,
        reasoning_tokens: &item.reasoning_tokens,
        reasoning_cut: item.reasoning_cut,
        response: &item.response,
        extracted: &item.extracted,
        target: &item.target,
        correct: outcome.correct(item),
        metrics: &item.metrics,
        weights: &item.weights,
        outcome: &item.outcome,
        finish: &item.finish,
        responses: &item.samples,
        timing,
    }
}

/// The rows of a file that `--samples-out` wrote, or another program like it. Each is used: one that is left out would
/// change what is said of the others.
fn each(path: &Path, mut use_row: impl FnMut(Map<String, Value>) -> Result<(), String>) -> Result<()> {
    for numbered in RowReader::open(path)? {
        let (number, row) = numbered?;
        row.and_then(&mut use_row).map_err(|got| {
            Fault::new("the samples cannot be read")
                .file(path)
                .expected("rows as `--samples-out` writes them")
                .got(format!("row {number}: {got}"))
                .hint("name the file that `lopper eval --samples-out` wrote")
        })?;
    }
    Ok(())
}

/// Responses by task and row; several lines of one row are several responses.
pub fn responses(path: &Path) -> Result<GivenResponses> {
    let mut all = GivenResponses::new();
    each(path, |row| {
        let text = |name: &str| row.get(name).and_then(Value::as_str).ok_or_else(|| format!("no text in `{name}`"));
        // In CSV numbers are texts.
        let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
        let doc_id = row.get("doc_id").and_then(number).and_then(|id| usize::try_from(id).ok());
        let doc_id = doc_id.ok_or("no number in `doc_id`")?;
        let own = |names: [&str; 2]| names.iter().find_map(|name| row.get(*name)?.as_str()).map(str::to_owned);
        let (reasoning, finish) = (own(["reasoning", "reasoning_content"]), own(["finish", "finish_reason"]));
        // A thought without a response never ended.
        let missing = reasoning.is_some() && row.get("response").is_none_or(Value::is_null);
        let given = if missing { String::new() } else { text("response")?.to_owned() };
        let unfinished = finish.map(|finish| matches!(finish.as_str(), "length" | "context_full" | "loop"));
        let given = GivenResponse { text: given, reasoning, unfinished };
        all.entry((text("task")?.to_owned(), doc_id)).or_default().push(given);
        Ok(())
    })?;
    Ok(all)
}

/// Refuses a suite that shares items with the samples in `path`, or with the conversations in it that a
/// model was healed by, in any of their layouts. A question has one identity, whichever task asks it.
pub fn refuse_shared(path: &Path, suite: &Suite) -> Result<()> {
    let mut used = HashSet::new();
    each(path, |row| {
        let text = |name: &str| row.get(name).and_then(Value::as_str);
        used.extend(text("id").map(str::to_owned));
        used.extend(["prompt", "instruction", "question"].into_iter().filter_map(text).map(|text| question_id([text])));
        let is_conversation = row.contains_key("messages") || row.contains_key("conversations");
        match layouts::example(row).map(|example| example.text) {
            Ok(ExampleText::Chat(chat)) => used.extend(chat.messages.iter().map(|turn| question_id([turn.text()]))),
            Ok(ExampleText::Plain { prompt, .. }) => drop(used.insert(question_id([prompt]))),
            Err(what) if is_conversation => return Err(what),
            // A sample of multiple choice, say.
            Err(_) => {}
        }
        Ok(())
    })?;
    let shared: Vec<String> =
        suite.items_among(&used).iter().map(|(task, count, all)| format!("{count} of {all} items of {task}")).collect();
    if shared.is_empty() {
        return Ok(());
    }
    Err(Fault::new("items to be reported on were used before")
        .file(path)
        .expected("no item of it among those to be scored")
        .got(shared.join(", "))
        .hint("choose layers with `--split select` and report with `--split report`: no question is in both")
        .into())
}
