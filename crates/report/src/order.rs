//! The order in which a reader meets the parts of a record, and their names.

use lopper_record::Retention;
use lopper_record::study::{
    CLASSIFICATION, GENERATIVE, GroupResult, HealingRole, Point, StudyRecord, TaskMeta, TaskResult,
};

/// The groups with a fixed colour and mark each: classification, generative, then the others.
pub fn groups(record: &StudyRecord) -> Vec<&str> {
    let mut found = record.groups();
    for point in record.base.iter().chain(&record.points) {
        for result in &point.groups {
            if !found.contains(&result.group.as_str()) {
                found.push(&result.group);
            }
        }
    }
    found.sort_by_key(|group| match *group {
        CLASSIFICATION => 0,
        GENERATIVE => 1,
        _ => 2,
    });
    found
}

/// The tasks, those of a group together.
pub fn tasks_by_group(record: &StudyRecord) -> Vec<&TaskMeta> {
    let groups = groups(record);
    let mut tasks: Vec<&TaskMeta> = record.tasks.iter().collect();
    tasks.sort_by_key(|task| groups.iter().position(|group| *group == task.group));
    tasks
}

/// All of a strategy's points by depth: as cut, healed, and then what is only for comparison.
pub fn points<'a>(record: &'a StudyRecord, strategy: &str) -> Vec<&'a Point> {
    let mut found: Vec<&Point> = record.points.iter().filter(|point| point.strategy == strategy).collect();
    let rank = |point: &Point| {
        point.healed.as_ref().map_or((0, 0), |healed| match healed.role {
            HealingRole::Main => (1, healed.seed),
            HealingRole::Seed => (2, healed.seed),
            HealingRole::Control => (3, healed.seed),
        })
    };
    found.sort_by_key(|point| (point.removed, rank(point)));
    found
}

/// A strategy's points by depth, the healed after the unhealed of the same depth; without those that were healed for
/// comparison only.
pub fn main_points<'a>(record: &'a StudyRecord, strategy: &str) -> Vec<&'a Point> {
    let mut found = points(record, strategy);
    found.retain(|point| point.is_main_healing());
    found
}

/// What a task's result is judged by: the retention above chance, or cut ÷ uncut in records and for tasks without it.
pub fn judged(result: &TaskResult) -> Option<Retention> {
    result.corrected.or(result.retention)
}

/// The same of a group.
pub fn judged_mean(result: &GroupResult) -> Option<Retention> {
    result.corrected.or(result.retention)
}

/// Whether anything is measured against a score of guessing.
pub fn has_chance(record: &StudyRecord) -> bool {
    let results = record.base.iter().chain(&record.points).flat_map(|point| &point.tasks);
    results.into_iter().any(|result| result.chance.is_some())
}

/// What retentions of the record are, in words.
pub fn measure(record: &StudyRecord) -> &'static str {
    match has_chance(record) {
        true => "score above chance that is kept, in % of the uncut model’s",
        false => "score that is kept, in % of the uncut model’s",
    }
}

/// A name of a record for a reader.
pub fn plain(name: &str) -> String {
    name.replace('_', " ")
}

/// A strategy's name for a reader.
pub fn strategy_title(name: &str) -> String {
    match name {
        "bi" | "block_influence" => "Block Influence".into(),
        "angular" => "angular distance".into(),
        "reverse" => "reverse order".into(),
        "ablation" => "single-layer ablation".into(),
        "greedy" | "iterative" => "greedy search".into(),
        "racing" => "racing search".into(),
        "evolution" => "evolutionary search".into(),
        other => match other.strip_prefix("random-") {
            Some(number) => format!("random {number}"),
            None => plain(other),
        },
    }
}
