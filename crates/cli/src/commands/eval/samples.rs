//! `--samples-out`: every item as a line of JSON; and `--disjoint-from`, which reads such lines.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use lopper_infer::Finish;
use lopper_model::chat::Message;
use lopper_record::{Fault, Result, write_atomic};
use lopper_tasks::{GivenResponses, ItemResult, SampleResult, Suite, TaskOutcome, Timing, question_id};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
    response: &'a Option<String>,
    extracted: &'a Option<String>,
    target: &'a str,
    correct: Option<bool>,
    metrics: &'a BTreeMap<String, f64>,
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
        response: &item.response,
        extracted: &item.extracted,
        target: &item.target,
        correct: outcome.correct(item),
        metrics: &item.metrics,
        outcome: &item.outcome,
        finish: &item.finish,
        responses: &item.samples,
        timing,
    }
}

/// Lines of a file that `--samples-out` wrote, or another program like it.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let fault = |got: String| {
        Fault::new("the samples cannot be read")
            .file(path)
            .expected("lines of JSON as `--samples-out` writes them")
            .got(got)
            .hint("name the file that `lopper eval --samples-out` wrote")
    };
    let mut all = Vec::new();
    let file = File::open(path).map_err(|error| fault(error.to_string()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| fault(error.to_string()))?;
        if !line.trim().is_empty() {
            all.push(serde_json::from_str(&line).map_err(|error| fault(format!("line {}: {error}", number + 1)))?);
        }
    }
    Ok(all)
}

/// Responses by task and row; several lines of one row are several responses.
pub fn responses(path: &Path) -> Result<GivenResponses> {
    #[derive(Deserialize)]
    struct Line {
        task: String,
        doc_id: usize,
        response: String,
    }
    let mut all = GivenResponses::new();
    for line in read::<Line>(path)? {
        all.entry((line.task, line.doc_id)).or_default().push(line.response);
    }
    Ok(all)
}

/// Refuses a suite that shares items with the samples in `path`, or with the conversations in it that a
/// model was healed by. A question has one identity, whichever task asks it.
pub fn refuse_shared(path: &Path, suite: &Suite) -> Result<()> {
    #[derive(Deserialize)]
    struct Line {
        id: Option<String>,
        messages: Option<Vec<Message>>,
        prompt: Option<String>,
        instruction: Option<String>,
    }
    let mut used = HashSet::new();
    for line in read::<Line>(path)? {
        let said = line.messages.into_iter().flatten().map(|message| message.text().into_owned());
        used.extend(said.chain(line.prompt).chain(line.instruction).map(|text| question_id([text])));
        used.extend(line.id);
    }
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
