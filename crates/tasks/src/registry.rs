//! The tasks there are: the pocket model's, one row each, those over rows of data sets, which are files,
//! and the names that stand for several.

use std::sync::Arc;

use lopper_pocket::{Group, TaskInfo};
use lopper_record::Fault;
use lopper_record::study::TaskMeta;
use serde::Serialize;

use crate::benchmark::builtin::{builtin, file, is_file};
use crate::benchmark::spec::Spec;
use crate::benchmark::training::{self, TrainingExample};
use crate::pocket::{Family, brackets, choice, code, number, summary};
use crate::policy::{GenerationPolicy, Resources};
use crate::suite::lm_eval::harness_metric;

/// The tasks of the pocket model: name, version, score of guessing, kind.
const ROWS: [(&str, u32, Option<f64>, &dyn Family); 9] = [
    ("pocket_word", 1, None, &number::Number { first_digit: false }),
    ("pocket_arith", 1, None, &number::Number { first_digit: true }),
    ("pocket_code", 1, None, &code::Code),
    ("pocket_brackets", 1, None, &brackets::Brackets),
    ("pocket_summary", 1, None, &summary::Summary),
    ("pocket_kind", 1, Some(0.25), &choice::Choice),
    ("pocket_sentiment", 1, Some(0.5), &choice::Choice),
    ("pocket_topic", 1, Some(0.25), &choice::Choice),
    ("pocket_trend", 1, Some(1.0 / 3.0), &choice::Choice),
];

/// Names that stand for several tasks.
const GROUPS: [(&str, Option<Group>); 3] = [
    ("pocket", None),
    ("pocket_classification", Some(Group::Classification)),
    ("pocket_generative", Some(Group::Generative)),
];

/// A task in a listing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskEntry {
    /// The name, as users write it.
    pub name: String,
    /// The group it counts towards.
    pub group: Group,
    /// What it measures, in a line.
    pub description: String,
    /// The metric it is compared by.
    pub metric: String,
    /// What lm-evaluation-harness calls this metric and the filter before it, where that differs.
    #[serde(skip)]
    pub harness_metric: Option<(String, String)>,
    /// Version of its definition.
    pub version: u32,
    /// The score of guessing; none where a guess has no meaningful rate.
    pub chance: Option<f64>,
    /// Few-shot examples, unless the policy says otherwise.
    pub shots: usize,
    /// `organisation/name/configuration` of its rows; none where they are generated.
    pub rows: Option<String>,
    /// Most tokens of a response; none where choices are scored.
    pub max_new_tokens: Option<usize>,
    /// Other names that stand for it and others.
    pub tags: Vec<String>,
    /// Of these, the names under which its items are scored together with others': the task that it is a member of
    /// (`mmlu`), and its category there (`mmlu_stem`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// Whether programs that the model wrote are run.
    pub runs_code: bool,
}

impl TaskEntry {
    /// The task as records describe it, with its numbers of items that are reported on and selected by.
    pub fn meta(&self, n_report: usize, n_select: usize) -> TaskMeta {
        TaskMeta {
            name: self.name.clone(),
            group: self.group.name().to_owned(),
            description: self.description.clone(),
            metric: self.metric.clone(),
            version: self.version.to_string(),
            n_report,
            n_select,
            chance: self.chance,
        }
    }
}

/// A task of the pocket model, resolved.
#[derive(Clone, Copy)]
pub(crate) struct PocketTask {
    pub info: &'static TaskInfo,
    pub version: u32,
    pub chance: Option<f64>,
    pub family: &'static dyn Family,
}

/// A task, resolved.
#[derive(Clone)]
pub(crate) enum Task {
    /// Its items are generated.
    Pocket(PocketTask),
    /// Its items are rows.
    Benchmark(Arc<Spec>),
}

impl Task {
    pub fn name(&self) -> &str {
        match self {
            Self::Pocket(task) => task.info.name,
            Self::Benchmark(spec) => &spec.name,
        }
    }

    /// The task as a listing has it.
    pub fn entry(&self) -> TaskEntry {
        match self {
            Self::Pocket(PocketTask { info, version, chance, family }) => {
                let groups = GROUPS.iter().filter(|(_, group)| group.is_none_or(|group| group == info.group));
                TaskEntry {
                    name: info.name.to_owned(),
                    group: info.group,
                    description: info.description.to_owned(),
                    metric: family.metrics()[0].to_owned(),
                    harness_metric: None,
                    version: *version,
                    chance: *chance,
                    shots: 0,
                    rows: None,
                    max_new_tokens: Some(info.max_new_tokens).filter(|most| *most > 0),
                    tags: groups.map(|(name, _)| (*name).to_owned()).collect(),
                    families: vec![],
                    runs_code: false,
                }
            }
            Self::Benchmark(spec) => TaskEntry {
                name: spec.name.clone(),
                group: spec.group,
                description: spec.description.clone(),
                metric: spec.metrics().swap_remove(0),
                harness_metric: spec.metrics().first().and_then(|metric| harness_metric(spec, metric)),
                version: spec.version,
                chance: spec.chance,
                shots: spec.shots.number,
                rows: Some(spec.rows.summary()),
                max_new_tokens: spec.generate.as_ref().map(|generate| generate.max_new_tokens),
                tags: spec.tags.clone(),
                families: spec.families(),
                runs_code: spec.runs_code(),
            },
        }
    }
}

fn pocket() -> impl Iterator<Item = PocketTask> {
    ROWS.into_iter().filter_map(|(name, version, chance, family)| {
        Some(PocketTask { info: lopper_pocket::task(name)?, version, chance, family })
    })
}

/// Every task that comes with Lopper: those with generated items first, then the benchmarks.
pub fn all_tasks() -> Vec<TaskEntry> {
    let bench = builtin().iter().cloned().map(Task::Benchmark);
    pocket().map(Task::Pocket).chain(bench).map(|task| task.entry()).collect()
}

/// The file of a task over rows, as it was written; none for a generated one.
///
/// # Errors
/// A [`Fault`] for an unknown name.
pub fn task_file(name: &str) -> Result<Option<String>, Fault> {
    Ok(resolve(&[name])?.into_iter().find_map(|(_, task)| match task {
        Task::Benchmark(spec) => Some(spec.source.clone()),
        Task::Pocket(_) => None,
    }))
}

/// The tasks that `name` stands for, as a listing has them.
///
/// # Errors
/// A [`Fault`] for an unknown name.
pub fn task_entries(name: &str) -> Result<Vec<TaskEntry>, Fault> {
    Ok(resolve(&[name])?.iter().map(|(_, task)| task.entry()).collect())
}

/// The training examples of benchmarks; none for generated tasks, which have a training split of their own, and for
/// benchmarks without a split besides that of their items.
///
/// # Errors
/// A [`Fault`] for an unknown name, and where the rows cannot be read.
pub fn training_examples(
    name: &str,
    policy: &GenerationPolicy,
    resources: &Resources,
) -> lopper_record::Result<Vec<TrainingExample>> {
    let mut all = Vec::new();
    for (_, task) in resolve(&[name])? {
        if let Task::Benchmark(spec) = task {
            all.extend(training::training_examples(&spec, policy, resources)?);
        }
    }
    Ok(all)
}

/// The names of the tasks that `names` stand for: groups are spelt out, a file stays its path, and each
/// comes once, where it is first named.
///
/// # Errors
/// A [`Fault`] for an unknown name, for a file that is no task's, or for no name at all.
pub fn expand(names: &[impl AsRef<str>]) -> Result<Vec<String>, Fault> {
    let mut references: Vec<String> = resolve(names)?.into_iter().map(|(reference, _)| reference).collect();
    references.dedup();
    Ok(references)
}

/// The tasks that `names` stand for, each with what it can be found by again: its name, or its file's path.
pub(crate) fn resolve(names: &[impl AsRef<str>]) -> Result<Vec<(String, Task)>, Fault> {
    let mut found: Vec<(String, Task)> = Vec::new();
    for name in names {
        let name = name.as_ref().trim();
        let mut members: Vec<(String, Task)> = Vec::new();
        if is_file(name) {
            members.extend(file(name)?.into_iter().map(|spec| (name.to_owned(), Task::Benchmark(spec))));
        } else {
            let group = GROUPS.iter().find(|(group, _)| *group == name);
            let of_pocket = pocket().filter(|task| match group {
                Some((_, wanted)) => wanted.is_none_or(|group| group == task.info.group),
                None => task.info.name == name,
            });
            members.extend(of_pocket.map(|task| (task.info.name.to_owned(), Task::Pocket(task))));
            let of_rows = builtin().iter().filter(|spec| spec.name == name || spec.tags.iter().any(|tag| tag == name));
            members.extend(of_rows.map(|spec| (spec.name.clone(), Task::Benchmark(spec.clone()))));
        }
        if members.is_empty() {
            return Err(unknown(name));
        }
        for (reference, task) in members {
            match found.iter().find(|(_, other)| other.name() == task.name()) {
                None => found.push((reference, task)),
                Some((other, _)) if *other == reference => {}
                Some((other, _)) => {
                    return Err(Fault::new(format!("two tasks are called `{}`", task.name()))
                        .got(format!("`{other}` and `{reference}`"))
                        .hint("give your own another `name`"));
                }
            }
        }
    }
    if found.is_empty() {
        return Err(Fault::new("no task was named").expected(listing()).hint("`pocket` stands for all of them"));
    }
    Ok(found)
}

fn names() -> impl Iterator<Item = &'static str> {
    let of_rows = builtin().iter().flat_map(|spec| std::iter::once(&spec.name).chain(&spec.tags));
    ROWS.iter().map(|(name, ..)| *name).chain(GROUPS.iter().map(|(name, _)| *name)).chain(of_rows.map(String::as_str))
}

/// Names to choose from. The subjects of MMLU would drown the others.
fn listing() -> String {
    let generated = ROWS.iter().map(|(name, ..)| *name);
    let of_rows = builtin().iter().filter(|spec| spec.member.is_none()).map(|spec| spec.name.as_str());
    let tasks: Vec<_> = generated.chain(of_rows).collect();
    let mut groups: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
    for tag in builtin().iter().flat_map(|spec| &spec.tags) {
        if !groups.contains(&tag.as_str()) {
            groups.push(tag);
        }
    }
    format!("tasks among {}; the groups {}; or the path of a task's file", tasks.join(", "), groups.join(", "))
}

fn unknown(name: &str) -> Fault {
    let fault = Fault::new("there is no such task").expected(listing()).got(format!("`{name}`"));
    let near = names().map(|known| (edit_distance(name, known), known)).min();
    match near {
        // Farther than a third of the letters is another word, not a slip.
        Some((distance, known)) if distance * 3 <= known.len().max(name.len()) => {
            fault.hint(format!("did you mean `{known}`?"))
        }
        _ => fault.hint("`lopper tasks` lists them; a task of your own is named by its file's path, as `./own.toml`"),
    }
}

/// Letters to insert, remove or replace to turn one word into the other (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    // What a user typed may be of any length; beyond this it resembles no task's name.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(LONGEST).collect(), b.chars().collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replace = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_pocket::{Check, Split, examples};

    #[test]
    fn every_task_of_the_pocket_model_has_a_row_and_its_true_chance() {
        let pocket: Vec<_> = lopper_pocket::tasks().iter().map(|task| task.name).collect();
        let (generated, rows): (Vec<_>, Vec<_>) = all_tasks().into_iter().partition(|task| task.rows.is_none());
        assert_eq!(generated.iter().map(|task| task.name.as_str()).collect::<Vec<_>>(), pocket);
        for task in &generated {
            let counts: Vec<Option<f64>> = examples(&task.name, Split::Report, 3)
                .take(20)
                .map(|example| match example.check {
                    Check::Choice { choices, .. } => Some(1.0 / choices.len() as f64),
                    _ => None,
                })
                .collect();
            assert!(counts.iter().all(|rate| *rate == task.chance), "{}", task.name);
            assert!(task.version > 0 && (task.group == Group::Classification) == (task.metric == "acc"));
        }
        let arc = rows.iter().find(|task| task.name == "arc_easy").unwrap();
        assert_eq!((arc.chance, arc.version), (Some(0.25), 1));
    }

    #[test]
    fn groups_are_spelt_out_and_nothing_comes_twice() {
        assert_eq!(expand(&["pocket"]).unwrap().len(), 9);
        let generative = expand(&["pocket_generative"]).unwrap();
        let classification = expand(&["pocket_classification"]).unwrap();
        assert_eq!((generative.len(), classification.len()), (5, 4));
        assert!(generative.iter().all(|name| !classification.contains(name)));
        assert_eq!(expand(&["pocket_kind", " pocket_code", "pocket_kind"]).unwrap(), ["pocket_kind", "pocket_code"]);
        assert_eq!(expand(&["pocket_topic", "pocket_classification"]).unwrap()[0], "pocket_topic");
        assert_eq!(expand(&["mmlu", "mmlu_stem", "mmlu_anatomy"]).unwrap().len(), 57);
        assert_eq!(expand(&["ai2_arc"]).unwrap(), ["arc_easy", "arc_challenge"]);
    }

    #[test]
    fn an_unknown_task_is_a_fault_that_names_the_nearest() {
        let fault = expand(&["pocket_words"]).unwrap_err();
        assert!(fault.hint.unwrap().contains("`pocket_word`"));
        assert!(fault.expected.unwrap().contains("pocket_brackets"));
        let far = expand(&["imagenet-1k"]).unwrap_err();
        assert!(far.got.unwrap().contains("imagenet") && !far.hint.unwrap().contains("did you mean"));
        assert!(expand(&[] as &[&str]).is_err() && expand(&[""]).is_err());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
