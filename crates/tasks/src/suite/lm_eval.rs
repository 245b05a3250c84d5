//! Results in the layout of lm-evaluation-harness 0.4.13 (`EvaluationTracker`, `result_schema.py`), for the
//! viewers and tables that read it: `MODEL/results_DATE.json`, and `MODEL/samples_TASK_DATE.jsonl` with a
//! line for each item and filter.
//!
//! Not covered: facts about PyTorch and the machine, task hashes, the templates inside `configs`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lopper_model::chat::utc;
use lopper_record::{Result, ensure_new, write_atomic};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::rows::PreparedRow;
use super::{Items, Prepared, Slot, Suite};
use crate::benchmark::spec::{Check, Spec};
use crate::outcome::{ItemResult, TaskOutcome};
use lopper_stats as stats;

/// What a run was, as the harness tells it.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// The model, as the user named it.
    pub model: String,
    /// Further facts: adapter, layers, …
    pub model_args: Value,
    /// `--limit`, if it was given.
    pub limit: Option<usize>,
    /// When it began.
    pub began: SystemTime,
    /// What it took.
    pub took: Duration,
    /// Version of Lopper.
    pub version: String,
}

/// Results and samples in that layout.
#[derive(Debug, Clone)]
pub struct LmEval {
    /// The document of results.
    pub results: Value,
    /// The lines of samples, by task.
    pub samples: Vec<(String, Vec<Value>)>,
    directory: String,
    date: String,
}

impl LmEval {
    /// Writes everything below `out`; nothing that is there is replaced.
    ///
    /// # Errors
    /// A fault where a file exists or cannot be written.
    pub fn write(&self, out: &Path) -> Result<()> {
        let directory = out.join(&self.directory);
        std::fs::create_dir_all(&directory)?;
        let file = |name: String, text: &str| {
            let path = directory.join(name);
            ensure_new(&path, false)?;
            write_atomic(&path, text.as_bytes())
        };
        file(format!("results_{}.json", self.date), &serde_json::to_string_pretty(&self.results)?)?;
        for (task, lines) in &self.samples {
            let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
            file(format!("samples_{task}_{}.jsonl", self.date), &text)?;
        }
        Ok(())
    }
}

impl Suite {
    /// The outcomes of this suite in lm-evaluation-harness's layout.
    pub fn lm_eval(&self, outcomes: &[TaskOutcome], facts: &RunFacts) -> LmEval {
        let mut results = Map::new();
        let (mut configs, mut versions, mut shots) = (Map::new(), Map::new(), Map::new());
        let (mut higher, mut counts, mut subtasks) = (Map::new(), Map::new(), Map::new());
        let mut samples = Vec::new();
        for (task, outcome) in self.tasks.iter().zip(outcomes) {
            let name = outcome.task.clone();
            let spec = task.spec();
            let mut scores = Map::from_iter([("alias".to_owned(), name.clone().into())]);
            let mut better = Map::new();
            for (metric, score) in &outcome.metrics {
                let (metric, filter) = names(spec, metric);
                scores.insert(format!("{metric},{filter}"), number(score.value));
                scores.insert(format!("{metric}_stderr,{filter}"), number(score.stderr));
                better.insert(metric, true.into());
            }
            scores.insert("sample_len".to_owned(), outcome.n.into());
            results.insert(name.clone(), scores.into());
            configs.insert(name.clone(), config(spec, outcome));
            versions.insert(name.clone(), outcome.version.into());
            shots.insert(name.clone(), outcome.shots().into());
            higher.insert(name.clone(), better.into());
            let rows = outcome.n + outcome.bad_rows.len();
            counts.insert(name.clone(), json!({"original": rows, "effective": outcome.n}));
            subtasks.insert(name.clone(), json!([]));
            samples.push((name, lines(task, outcome)));
        }
        let mut groups = Map::new();
        for (name, members, score) in families(outcomes) {
            groups.insert(
                name.clone(),
                json!({"alias": name, "acc,none": number(score.value), "acc_stderr,none": number(score.stderr),
                       "sample_len": score.n}),
            );
            subtasks.insert(name, members.into());
        }
        let since = facts.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut document = json!({
            "results": results, "group_subtasks": subtasks, "configs": configs, "versions": versions,
            "n-shot": shots, "higher_is_better": higher, "n-samples": counts,
            "config": {"model": "lopper", "model_args": facts.model_args, "batch_size": Value::Null,
                       "limit": facts.limit, "random_seed": 0, "fewshot_seed": 1234},
            "date": since.as_secs_f64(), "lopper_version": facts.version,
            "model_source": "lopper", "model_name": facts.model, "model_name_sanitized": sanitized(&facts.model),
            "total_evaluation_time_seconds": facts.took.as_secs_f64().to_string(),
        });
        if !groups.is_empty() {
            document["groups"] = groups.into();
        }
        LmEval { results: document, samples, directory: sanitized(&facts.model), date: date(since) }
    }
}

/// Tasks that are scored together, with their names and the score of all their items.
pub fn families(outcomes: &[TaskOutcome]) -> Vec<(String, Vec<String>, lopper_record::Score)> {
    let mut members: BTreeMap<&str, Vec<&TaskOutcome>> = BTreeMap::new();
    for outcome in outcomes {
        for family in &outcome.families {
            members.entry(family).or_default().push(outcome);
        }
    }
    members
        .into_iter()
        .filter(|(_, outcomes)| outcomes.len() > 1)
        .map(|(name, outcomes)| {
            let scores: Vec<_> = outcomes.iter().map(|outcome| *outcome.primary_score()).collect();
            let names = outcomes.iter().map(|outcome| outcome.task.clone()).collect();
            (name.to_owned(), names, stats::pooled_score(&scores))
        })
        .collect()
}

impl Prepared {
    fn spec(&self) -> Option<&Spec> {
        match &self.items {
            Items::Generated(..) => None,
            Items::Rows(rows) => Some(&rows.spec),
        }
    }
}

/// What the harness calls a metric and the filter before it, where the filter has a name.
pub(crate) fn harness_metric(spec: &Spec, metric: &str) -> Option<(String, String)> {
    let readings = &spec.answer.as_ref()?.readings;
    let filter = readings.iter().find(|reading| reading.metric == metric)?.filter.clone()?;
    Some(("exact_match".to_owned(), filter))
}

/// What the harness calls a metric, and the filter before it.
fn names(spec: Option<&Spec>, metric: &str) -> (String, String) {
    let own = spec.and_then(|spec| harness_metric(spec, metric));
    own.unwrap_or_else(|| (metric.to_owned(), "none".to_owned()))
}

fn config(spec: Option<&Spec>, outcome: &TaskOutcome) -> Value {
    let Some(spec) = spec else { return json!({"task": outcome.task, "output_type": "generated"}) };
    json!({
        "task": outcome.task, "dataset_path": spec.rows.data_set, "dataset_name": spec.rows.config,
        "test_split": outcome.source.as_ref().map(|source| source.split.as_str()),
        "output_type": if spec.choices.is_some() { "multiple_choice" } else { "generate_until" },
        "num_fewshot": outcome.shots(), "description": spec.prompt.description, "doc_to_text": spec.prompt.question,
        "metadata": {"version": spec.version},
    })
}

/// The lines of one task: one for each item and filter.
fn lines(task: &Prepared, outcome: &TaskOutcome) -> Vec<Value> {
    let mut lines = Vec::new();
    let answer = task.spec().and_then(|spec| spec.answer.as_ref());
    let judges_instructions = answer.is_some_and(|answer| answer.check == Check::Instructions);
    for (at, item) in outcome.items.iter().enumerate() {
        let (doc, arguments) = match &task.items {
            Items::Generated(..) => (json!({"id": item.id}), vec![(item.prompt.clone(), None)]),
            Items::Rows(rows) => {
                let (PreparedRow { item: row, prompts }, slots) = (&rows.items[at], &task.slots[at]);
                let follows: Vec<Option<&String>> = match row.answers.as_slice() {
                    [] => vec![None; slots.len()],
                    [one] if row.choices.len() != 1 => vec![Some(one); prompts.len()],
                    several => several.iter().map(Some).collect(),
                };
                let generated = slots.iter().any(|slot| matches!(slot, Slot::Generation(_)));
                let context = |place: usize| prompts.get(place).or(prompts.first()).cloned();
                let arguments = follows.iter().enumerate().take(if generated { 1 } else { usize::MAX });
                let arguments =
                    arguments.map(|(place, follows)| (context(place).unwrap_or_default(), follows.cloned())).collect();
                (Value::Object(row.doc.clone()), arguments)
            }
        };
        let responses = resps(item);
        let mut by_filter: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
        for (metric, value) in &item.metrics {
            let (metric, filter) = names(task.spec(), metric);
            by_filter.entry(filter).or_default().push((metric, *value));
        }
        let first = arguments.first().map(|(context, _): &(String, Option<String>)| context.clone());
        let arguments: Map<String, Value> = arguments
            .into_iter()
            .enumerate()
            .map(|(place, (context, follows))| {
                let second = follows.map_or_else(|| json!({}), Value::from);
                (format!("gen_args_{place}"), json!({"arg_0": context, "arg_1": second}))
            })
            .collect();
        for (filter, metrics) in by_filter {
            let filtered = match &item.response {
                Some(response) if judges_instructions => json!([response]),
                Some(_) => json!([item.extracted.clone().unwrap_or_else(|| "[invalid]".to_owned())]),
                None => responses.iter().map(|response| response[0].clone()).collect(),
            };
            let mut line = json!({
                "doc_id": item.doc_id, "doc": doc, "target": item.target, "arguments": arguments,
                "resps": responses, "filtered_resps": filtered, "filter": filter,
                "metrics": metrics.iter().map(|(name, _)| name).collect::<Vec<_>>(),
                "doc_hash": hash(&serde_json::to_string_pretty(&doc).unwrap_or_default()),
                "prompt_hash": hash(first.as_deref().unwrap_or_default()), "target_hash": hash(&item.target),
            });
            for (name, value) in metrics {
                line[name] = number(value);
            }
            lines.push(line);
        }
    }
    lines
}

/// What the model gave: for each choice its log-likelihood and whether it is greedy, or the responses.
fn resps(item: &ItemResult) -> Vec<Value> {
    if !item.samples.is_empty() {
        return vec![item.samples.iter().map(|sample| sample.response.clone()).collect()];
    }
    match (&item.response, &item.logprobs) {
        (Some(response), _) => vec![json!([response])],
        (None, Some(logprobs)) => logprobs
            .iter()
            .enumerate()
            .map(|(at, value)| {
                let greedy = item.greedy.as_ref().and_then(|greedy| greedy.get(at)).copied().unwrap_or_default();
                // The harness writes Python's words.
                json!([[value.to_string(), if greedy { "True" } else { "False" }]])
            })
            .collect(),
        (None, None) => vec![],
    }
}

/// A number, or null where it is not finite.
fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}

fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sanitized(model: &str) -> String {
    let mut name = String::new();
    let mut run = false;
    for c in model.chars() {
        let bad = "\"<>:/|\\?*[]".contains(c);
        match (bad, run) {
            (true, false) => name.push_str("__"),
            (true, true) => {}
            (false, _) => name.push(c),
        }
        run = bad;
    }
    // A relative path must not lead anywhere.
    if name.trim_matches('.').is_empty() { "model".to_owned() } else { name }
}

/// A time as the harness names its files, `2026-11-25T02-43-58.000000` (UTC).
fn date(since: Duration) -> String {
    let time = utc("%Y-%m-%dT%H-%M-%S", since.as_secs()).expect("directives that are known");
    format!("{time}.{:06}", since.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_dates_are_the_harness_s() {
        assert_eq!(sanitized("org/name:x"), "org__name__x");
        assert_eq!((sanitized(".."), sanitized("../up")), ("model".to_owned(), "..__up".to_owned()));
        // date -u -d @1795574638
        assert_eq!(date(Duration::from_secs(1_795_574_638)), "2026-11-25T02-43-58.000000");
        assert_eq!(date(Duration::from_secs(951_782_400)), "2000-02-29T00-00-00.000000");
        assert_eq!(date(Duration::ZERO), "1970-01-01T00-00-00.000000");
    }
}
