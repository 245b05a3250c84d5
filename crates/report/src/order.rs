//! The order in which a reader meets the parts of a record.

use lopper_record::study::{CLASSIFICATION, GENERATIVE, Point, StudyRecord, TaskMeta};

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

/// A strategy's points by depth, the healed after the unhealed of the same depth.
pub fn points<'a>(record: &'a StudyRecord, strategy: &str) -> Vec<&'a Point> {
    let mut found: Vec<&Point> = record.points.iter().filter(|point| point.strategy == strategy).collect();
    found.sort_by_key(|point| (point.removed, point.healed.is_some()));
    found
}

/// A strategy's name for a reader.
pub fn strategy_title(name: &str) -> String {
    match name {
        "bi" | "block_influence" => "Block Influence".into(),
        "angular" => "angular distance".into(),
        "reverse" => "reverse order".into(),
        "greedy" | "iterative" => "greedy search".into(),
        other => other.replace('_', " "),
    }
}
