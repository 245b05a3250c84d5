//! The tasks there are, one row each, and the names of their groups.

use std::sync::OnceLock;

use lopper_pocket::{Group, TaskInfo};
use lopper_record::Fault;
use lopper_record::study::{CLASSIFICATION, GENERATIVE};

use crate::tasks::{Family, brackets, choice, code, number, summary};

/// A task as far as a listing tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownTask {
    /// The name, as users write it.
    pub name: &'static str,
    /// The group it counts towards, as records name it.
    pub group: &'static str,
    /// One line: what is asked.
    pub description: &'static str,
    /// The metric it is compared by.
    pub metric: &'static str,
    /// Version of its definition; raised when results stop being comparable.
    pub version: u32,
    /// What guessing scores; none where a guess has no meaningful rate.
    pub chance: Option<f64>,
}

/// A row of the table below.
struct Row {
    name: &'static str,
    version: u32,
    chance: Option<f64>,
    family: &'static dyn Family,
}

const ROWS: [Row; 9] = [
    Row { name: "pocket_word", version: 1, chance: None, family: &number::Number { first_digit: false } },
    Row { name: "pocket_arith", version: 1, chance: None, family: &number::Number { first_digit: true } },
    Row { name: "pocket_code", version: 1, chance: None, family: &code::Code },
    Row { name: "pocket_brackets", version: 1, chance: None, family: &brackets::Brackets },
    Row { name: "pocket_summary", version: 1, chance: None, family: &summary::Summary },
    Row { name: "pocket_kind", version: 1, chance: Some(0.25), family: &choice::Choice },
    Row { name: "pocket_sentiment", version: 1, chance: Some(0.5), family: &choice::Choice },
    Row { name: "pocket_topic", version: 1, chance: Some(0.25), family: &choice::Choice },
    Row { name: "pocket_trend", version: 1, chance: Some(1.0 / 3.0), family: &choice::Choice },
];

/// Names that stand for several tasks.
const GROUPS: [(&str, Option<Group>); 3] = [
    ("pocket", None),
    ("pocket_classification", Some(Group::Classification)),
    ("pocket_generative", Some(Group::Generative)),
];

/// A task, resolved.
#[derive(Clone, Copy)]
pub(crate) struct Task {
    pub info: &'static TaskInfo,
    pub version: u32,
    pub chance: Option<f64>,
    pub family: &'static dyn Family,
}

impl Task {
    fn known(&self) -> KnownTask {
        KnownTask {
            name: self.info.name,
            group: match self.info.group {
                Group::Classification => CLASSIFICATION,
                Group::Generative => GENERATIVE,
            },
            description: self.info.description,
            metric: self.family.metrics()[0],
            version: self.version,
            chance: self.chance,
        }
    }
}

fn all() -> impl Iterator<Item = Task> {
    ROWS.iter().filter_map(|row| {
        let info = lopper_pocket::task(row.name)?;
        Some(Task { info, version: row.version, chance: row.chance, family: row.family })
    })
}

/// Every task, generative ones first.
pub fn known_tasks() -> &'static [KnownTask] {
    static KNOWN: OnceLock<Vec<KnownTask>> = OnceLock::new();
    KNOWN.get_or_init(|| all().map(|task| task.known()).collect())
}

/// The version of a task's definition; 0 for an unknown task.
pub fn task_version(task: &str) -> u32 {
    ROWS.iter().find(|row| row.name == task).map_or(0, |row| row.version)
}

/// What guessing scores on a task's primary metric; none where a guess has no meaningful rate, or
/// the task is unknown.
pub fn chance(task: &str) -> Option<f64> {
    all().find(|known| known.info.name == task)?.chance
}

/// The names of the tasks that `names` stand for: groups are spelt out, and each comes once, where
/// it is first named.
///
/// # Errors
/// A [`Fault`] for an unknown name, or for no name at all.
pub fn expand(names: &[impl AsRef<str>]) -> Result<Vec<&'static str>, Fault> {
    Ok(resolve(names)?.iter().map(|task| task.info.name).collect())
}

pub(crate) fn resolve(names: &[impl AsRef<str>]) -> Result<Vec<Task>, Fault> {
    let mut found: Vec<Task> = Vec::new();
    for name in names {
        let name = name.as_ref().trim();
        let group = GROUPS.iter().find(|(group, _)| *group == name);
        let members: Vec<Task> = match group {
            Some((_, wanted)) => all().filter(|task| wanted.is_none_or(|group| group == task.info.group)).collect(),
            None => all().filter(|task| task.info.name == name).collect(),
        };
        if members.is_empty() {
            return Err(unknown(name));
        }
        for task in members {
            if !found.iter().any(|other| other.info.name == task.info.name) {
                found.push(task);
            }
        }
    }
    if found.is_empty() {
        return Err(Fault::new("no task was named").expected(listing()).hint("`pocket` stands for all of them"));
    }
    Ok(found)
}

fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name).chain(GROUPS.iter().map(|(name, _)| *name))
}

fn listing() -> String {
    let tasks: Vec<_> = ROWS.iter().map(|row| row.name).collect();
    let groups: Vec<_> = GROUPS.iter().map(|(name, _)| *name).collect();
    format!("tasks among {}; or the groups {}", tasks.join(", "), groups.join(", "))
}

fn unknown(name: &str) -> Fault {
    let fault = Fault::new("there is no such task").expected(listing()).got(format!("`{name}`"));
    let near = names().map(|known| (edit_distance(name, known), known)).min();
    match near {
        // Farther than a third of the letters is another word, not a slip.
        Some((distance, known)) if distance * 3 <= known.len().max(name.len()) => {
            fault.hint(format!("did you mean `{known}`?"))
        }
        _ => fault.hint("this version knows the pocket tasks only; `pocket` stands for all of them"),
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
        let known: Vec<_> = known_tasks().iter().map(|task| task.name).collect();
        assert_eq!(known, pocket);
        for name in pocket {
            let counts: Vec<Option<f64>> = examples(name, Split::Report, 3)
                .take(20)
                .map(|example| match example.check {
                    Check::Choice { choices, .. } => Some(1.0 / choices.len() as f64),
                    _ => None,
                })
                .collect();
            assert!(counts.iter().all(|rate| *rate == chance(name)), "{name}");
        }
        assert_eq!((chance("arc_easy"), task_version("arc_easy")), (None, 0));
        assert!(known_tasks().iter().all(|task| task.version == task_version(task.name) && task.version > 0));
        assert!(known_tasks().iter().all(|task| (task.group == CLASSIFICATION) == (task.metric == "acc")));
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
    }

    #[test]
    fn an_unknown_task_is_a_fault_that_names_the_nearest() {
        let fault = expand(&["pocket_words"]).unwrap_err();
        assert!(fault.hint.unwrap().contains("`pocket_word`"));
        assert!(fault.expected.unwrap().contains("pocket_brackets"));
        let far = expand(&["arc_easy"]).unwrap_err();
        assert!(far.got.unwrap().contains("arc_easy") && !far.hint.unwrap().contains("did you mean"));
        assert!(expand(&[] as &[&str]).is_err() && expand(&[""]).is_err());
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
    }
}
