//! Scores of items from files that an evaluation wrote: Lopper's `--samples-out`, and `samples_TASK_DATE.jsonl` of
//! lm-evaluation-harness (`--log_samples`).
//!
//! Only what a depth budget needs is read: which item, its score, and what a guess would score. Files are untrusted;
//! a row that cannot be used is a fault, since a budget over the other rows would be about other items.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result};
use lopper_rows::RowReader;
use lopper_tasks::{TaskEntry, task_entries};
use serde_json::{Map, Value};

/// Metrics that are tried in turn for a task that Lopper does not know.
const METRICS: [&str; 8] =
    ["exact_match", "acc", "pass@1", "pass_at_1", "acc_norm", "prompt_level_strict_acc", "f1", "correct"];
/// The filter of rows without one.
const NO_FILTER: &str = "none";

/// One model's scores of items, by task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleScores {
    /// The tasks by name.
    pub tasks: BTreeMap<String, ScoredTask>,
}

/// One model's scores of a task's items.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoredTask {
    /// The metric, and the filter of lm-evaluation-harness before it where there are several.
    pub metric: String,
    /// The items by identity.
    pub items: BTreeMap<String, ScoredItem>,
}

/// One model's score of an item.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScoredItem {
    /// The score; the mean of several responses' where there are several rows.
    pub score: f64,
    /// The score of guessing; 0 where a guess scores nothing.
    pub chance: f64,
    /// What says that two files mean the same item: the row's hash, identity or right answer.
    pub content: Option<String>,
    rows: usize,
}

/// Which of several scores to read.
#[derive(Debug, Clone, Default)]
pub struct ScoreChoice {
    /// The metric; without one, the one that Lopper compares the task by.
    pub metric: Option<String>,
    /// The filter of lm-evaluation-harness, such as `flexible-extract`.
    pub filter: Option<String>,
}

impl SampleScores {
    /// Reads files, or directories of lm-evaluation-harness's samples, of which the newest of each task counts.
    ///
    /// # Errors
    /// A [`Fault`] for a file or a row that cannot be read, has no score, or names an item twice in different files.
    pub fn read(paths: &[PathBuf], choice: &ScoreChoice) -> Result<Self> {
        let mut scores = Self::default();
        for path in paths {
            let files = if path.is_dir() { newest_samples(path)? } else { vec![path.clone()] };
            for file in files {
                for (name, task) in read_file(&file, choice)? {
                    if scores.tasks.contains_key(&name) {
                        return Err(Fault::new(format!("two files have samples of `{name}`"))
                            .file(&file)
                            .expected("each task in one file of a model")
                            .got("a second one")
                            .hint("name the files one by one, or move the older one away")
                            .into());
                    }
                    scores.tasks.insert(name, task);
                }
            }
        }
        scores.pool_families();
        Ok(scores)
    }

    /// Joins tasks that are scored as one, as `eval` does: the subjects of MMLU are one task.
    fn pool_families(&mut self) {
        let mut pooled: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for name in self.tasks.keys() {
            if let Some(family) = known(name).and_then(|entry| entry.families.into_iter().next()) {
                pooled.entry(family).or_default().push(name.clone());
            }
        }
        for (family, members) in pooled.into_iter().filter(|(_, members)| members.len() > 1) {
            let mut all = ScoredTask::default();
            for member in members {
                let Some(task) = self.tasks.remove(&member) else { continue };
                all.metric = task.metric;
                all.items.extend(task.items.into_iter().map(|(id, item)| (format!("{member}/{id}"), item)));
            }
            self.tasks.insert(family, all);
        }
    }
}

/// The task that Lopper knows by this name, or by the name that the harness has for it.
fn known(name: &str) -> Option<TaskEntry> {
    let entries = task_entries(name).ok()?;
    let [entry] = entries.as_slice() else { return None };
    (entry.name == name).then(|| entry.clone())
}

/// The newest file of samples of each task, in the directory or one below it.
fn newest_samples(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut newest: BTreeMap<String, PathBuf> = BTreeMap::new();
    let list = |directory: &Path| -> Result<Vec<PathBuf>> {
        let unreadable = |error: std::io::Error| {
            Fault::new("the directory of samples cannot be read")
                .file(directory)
                .got(error.to_string())
                .hint("check it")
        };
        let entries = std::fs::read_dir(directory).map_err(unreadable)?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
    };
    let mut files = list(directory)?;
    for below in files.clone().iter().filter(|path| path.is_dir()) {
        files.extend(list(below)?);
    }
    files.retain(|path| path.is_file());
    files.sort_by_key(|path| path.file_name().map(std::ffi::OsStr::to_owned));
    for file in files {
        if let Some((task, _)) = harness_name(&file) {
            // Dates sort as texts.
            newest.insert(task.to_owned(), file.clone());
        }
    }
    if newest.is_empty() {
        return Err(Fault::new("the directory holds no samples")
            .file(directory)
            .expected("files `samples_TASK_DATE.jsonl`, as `lm_eval --log_samples` writes them")
            .got("none")
            .hint("give a file that `lopper eval --samples-out` wrote, or run `lm_eval` with `--log_samples`")
            .into());
    }
    Ok(newest.into_values().collect())
}

/// Task and date of a file `samples_TASK_DATE.jsonl`.
fn harness_name(path: &Path) -> Option<(&str, &str)> {
    let stem = path.file_name()?.to_str()?.strip_prefix("samples_")?.strip_suffix(".jsonl")?;
    let (task, date) = stem.rsplit_once('_')?;
    date.starts_with(|c: char| c.is_ascii_digit()).then_some((task, date))
}

/// The tasks of one file.
fn read_file(path: &Path, choice: &ScoreChoice) -> Result<BTreeMap<String, ScoredTask>> {
    let own_name = harness_name(path).map(|(task, _)| task.to_owned());
    let own_name = own_name.or_else(|| Some(path.file_stem()?.to_str()?.to_owned())).unwrap_or_default();
    let mut readers: BTreeMap<String, TaskReader> = BTreeMap::new();
    let unusable = |number: usize, got: String| {
        Fault::new("the samples cannot be read")
            .file(path)
            .expected("rows as `lopper eval --samples-out` or `lm_eval --log_samples` writes them")
            .got(format!("row {number}: {got}"))
            .hint("a row that is left out would change what is said of the others")
    };
    for numbered in RowReader::open(path)? {
        let (number, row) = numbered?;
        let row = row.map_err(|got| unusable(number, got))?;
        let name = ["task", "task_name"].iter().find_map(|key| row.get(*key)?.as_str()).unwrap_or(&own_name);
        let reader = readers.entry(name.to_owned()).or_insert_with(|| TaskReader::new(name, choice));
        reader.add(&row).map_err(|got| unusable(number, got))?;
    }
    readers.retain(|_, reader| !reader.task.items.is_empty());
    if readers.is_empty() {
        let wanted = match (&choice.metric, &choice.filter) {
            (_, Some(filter)) => format!("rows of the filter `{filter}`"),
            _ => "rows with a score".to_owned(),
        };
        return Err(Fault::new("the file has no scored item")
            .file(path)
            .expected(wanted)
            .got("none")
            .hint("`--metric` and `--filter` name the score to read")
            .into());
    }
    Ok(readers.into_iter().map(|(name, reader)| (name, reader.task)).collect())
}

/// Reads the rows of one task.
struct TaskReader<'a> {
    choice: &'a ScoreChoice,
    known: Option<TaskEntry>,
    /// The metric and the filter that count, once a row has shown them.
    metric: Option<String>,
    filter: Option<String>,
    task: ScoredTask,
}

impl<'a> TaskReader<'a> {
    fn new(name: &str, choice: &'a ScoreChoice) -> Self {
        Self { choice, known: known(name), metric: None, filter: None, task: ScoredTask::default() }
    }

    fn add(&mut self, row: &Map<String, Value>) -> Result<(), String> {
        let filter = row.get("filter").and_then(Value::as_str).unwrap_or(NO_FILTER);
        if self.filter.is_none() {
            let of_task = || self.known.as_ref()?.harness_metric.as_ref().map(|(_, filter)| filter.clone());
            let named = row.contains_key("filter");
            let own = self.choice.filter.clone().or_else(|| of_task().filter(|_| named));
            self.filter = Some(own.unwrap_or_else(|| filter.to_owned()));
        }
        if self.filter.as_deref() != Some(filter) {
            return Ok(());
        }
        let metric = self.metric_of(row)?;
        let score = score(row, &metric).ok_or_else(|| format!("no number in `{metric}`"))?;
        if score < 0.0 || !score.is_finite() {
            return Err(format!("{score} in `{metric}`, where higher is better and 0 is nothing"));
        }
        let id = identity(row).ok_or("no `doc_id` and no `id`")?;
        let choices = choices(row);
        let guessed = self.known.as_ref().is_none_or(|entry| entry.chance.is_some());
        let chance = choices.filter(|_| guessed).map_or(0.0, |choices| 1.0 / choices as f64);
        let text = |key: &str| row.get(key).and_then(Value::as_str).map(str::to_owned);
        let content = text("id").or_else(|| text("doc_hash")).or_else(|| text("target"));
        let item = self.task.items.entry(id).or_insert_with(|| ScoredItem { chance, content, ..ScoredItem::default() });
        // Several rows of one item are several responses to it.
        item.rows += 1;
        item.score += (score - item.score) / item.rows as f64;
        self.task.metric = match self.filter.as_deref() {
            Some(NO_FILTER) | None => metric.clone(),
            Some(filter) => format!("{metric},{filter}"),
        };
        self.metric = Some(metric);
        Ok(())
    }

    /// The metric that counts: as demanded, as Lopper compares the task by, or the first that is usual.
    fn metric_of(&self, row: &Map<String, Value>) -> Result<String, String> {
        if let Some(metric) = self.choice.metric.as_ref().or(self.metric.as_ref()) {
            return Ok(metric.clone());
        }
        if let Some(entry) = &self.known {
            let harness =
                entry.harness_metric.as_ref().map(|(metric, _)| metric).filter(|_| row.contains_key("filter"));
            let own = harness.unwrap_or(&entry.metric);
            if score(row, own).is_some() {
                return Ok(own.clone());
            }
        }
        let usual = METRICS.iter().find(|metric| score(row, metric).is_some()).map(|metric| (*metric).to_owned());
        usual.ok_or_else(|| format!("no score in `{}`; `--metric` names another", METRICS.join("`, `")))
    }
}

/// A row's value of a metric: in `metrics`, or by itself.
fn score(row: &Map<String, Value>, metric: &str) -> Option<f64> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_bool().map(f64::from));
    let within = row.get("metrics").and_then(Value::as_object).and_then(|metrics| metrics.get(metric));
    within.or_else(|| row.get(metric)).and_then(number)
}

/// What names an item among those of its task.
fn identity(row: &Map<String, Value>) -> Option<String> {
    let id = row.get("doc_id").or_else(|| row.get("id"))?;
    Some(id.as_str().map_or_else(|| id.to_string(), str::to_owned))
}

/// The number of choices, where an answer is one of several: Lopper's `choices`, or the harness's requests, of which
/// there may be a second one for each choice (`acc_mutual_info`).
fn choices(row: &Map<String, Value>) -> Option<usize> {
    if let Some(choices) = row.get("choices").and_then(Value::as_array) {
        return Some(choices.len()).filter(|choices| *choices > 1);
    }
    let responses = row.get("resps")?.as_array()?;
    // A log-likelihood is a pair of a number and whether it is greedy.
    let is_pair = |response: &Value| response.get(0).and_then(Value::as_array).is_some_and(|pair| pair.len() == 2);
    if responses.len() < 2 || !responses.iter().all(is_pair) {
        return None;
    }
    let continuation = |argument: &Value| argument.get("arg_1").or_else(|| argument.get(1)).map(Value::to_string);
    let mut continuations: Vec<String> = match row.get("arguments") {
        Some(Value::Object(arguments)) => arguments.values().filter_map(continuation).collect(),
        Some(Value::Array(arguments)) => arguments.iter().filter_map(continuation).collect(),
        _ => vec![],
    };
    continuations.sort_unstable();
    continuations.dedup();
    let twice = responses.len() == 2 * continuations.len() && continuations.len() > 1;
    Some(if twice { continuations.len() } else { responses.len() })
}
