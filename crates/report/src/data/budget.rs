//! The depth budget as a table: a row for each depth of each line.

use lopper_record::StudyRecord;
use lopper_record::study::Verdict;
use serde_json::{Value, json};

use super::{Table, verdict};

/// The table.
pub fn budget(record: &StudyRecord) -> Table {
    let columns = vec![
        "scope",
        "group",
        "task",
        "floor",
        "state",
        "strategy",
        "headline",
        "at_most",
        "removed",
        "n",
        "ratio",
        "kept",
        "kept_lower95",
        "kept_upper95",
        "worst_task",
        "verdict",
        "items_needed",
        "items_needed_of",
        "items_measured",
    ];
    let mut rows: Vec<Vec<Value>> = Vec::new();
    for line in &record.budget {
        for depth in &line.depths {
            let kept = depth.retention;
            let needed = depth.needed.as_ref();
            rows.push(vec![
                json!(line.scope),
                json!(line.group),
                json!(line.task),
                json!(line.threshold),
                json!(if line.healed { "healed" } else { "cut" }),
                json!(line.strategy),
                json!(line.headline),
                json!(line.max_layers),
                json!(depth.removed),
                json!(kept.map(|kept| kept.n)),
                json!(depth.ratio),
                json!(kept.map(|kept| kept.value)),
                json!(kept.map(|kept| kept.lower95)),
                json!(kept.map(|kept| kept.upper95)),
                json!(depth.worst),
                verdict(if depth.holds { Verdict::Holds } else { depth.verdict }),
                json!(needed.map(|needed| needed.items)),
                json!(needed.and_then(|needed| needed.task.clone())),
                json!(needed.map(|needed| needed.measured)),
            ]);
        }
    }
    Table { name: "budget", columns, rows }
}
