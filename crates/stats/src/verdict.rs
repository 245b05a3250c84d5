//! How many items would decide whether a retention reaches a floor.

use crate::confidence::Further;
use crate::group::Group;
use crate::retention::{ONE_SIDED, Pair, ScoresError, judged_group};

/// Φ(−z₀.₉₅ − z₀.₈): rates seen that are as far inside a bound as this decide in four studies of five that have them.
const POWERED: f64 = 0.006_450_784;
/// More than so many times the items is no advice.
const MOST_TIMES: f64 = 1000.0;

/// Items in all, over the tasks that can be judged, with which the verdict on a floor in (0, 1] would be another than
/// undecided in four studies of five, were the true rates those seen and every task's items to grow in proportion. At
/// least the items there are; `None` where the retention seen is the floor itself, more than a thousand times the items
/// would be needed, or no task can be judged.
///
/// # Errors
/// As [`retention`](crate::retention()).
pub fn items_needed(tasks: &[Pair<'_>], floor: f64) -> Result<Option<usize>, ScoresError> {
    Ok(judged_group(tasks)?.and_then(|group| needed(&group, floor, POWERED)))
}

/// The index of the task whose items would decide the verdict on the task that keeps least, and how many it would take:
/// of tasks seen below the floor the one that needs fewest, since one failure decides; where all are above it, the one
/// that needs most of those that do not hold yet. `None` where [`items_needed`] gives none for such a task.
///
/// # Errors
/// As [`retention`](crate::retention()).
pub fn items_needed_of_worst(tasks: &[Pair<'_>], floor: f64) -> Result<Option<(usize, usize)>, ScoresError> {
    let mut below = Vec::new();
    let mut above = Vec::new();
    let mut judged = 0;
    for (index, task) in tasks.iter().enumerate() {
        let Some(group) = judged_group(std::slice::from_ref(task))? else { continue };
        // A task that holds needs no more items.
        let holds = group.evidence(Further::Lost).quantile(ONE_SIDED) >= floor;
        if group.value() < floor {
            below.push((index, group));
        } else if !holds {
            above.push((index, group));
        }
        judged += 1;
    }
    if below.is_empty() {
        let needed: Option<Vec<_>> =
            above.iter().map(|(index, group)| Some((*index, needed(group, floor, POWERED)?))).collect();
        return Ok(needed.and_then(|needed| needed.into_iter().max_by_key(|(_, items)| *items)));
    }
    // A failure is found at the level that is divided among all tasks.
    let level = POWERED / f64::from(judged);
    let needed = below.iter().filter_map(|(index, group)| Some((*index, needed(group, floor, level)?)));
    Ok(needed.min_by_key(|(_, items)| *items))
}

fn needed(group: &Group, floor: f64, level: f64) -> Option<usize> {
    let decides = |times: f64| evidence_against(&group.scaled(times), group.value() > floor, floor) <= level;
    let (mut low, mut high) = (0.0, MOST_TIMES.ln());
    if group.value() == floor || !decides(MOST_TIMES) {
        return None;
    }
    if decides(1.0) {
        return Some(group.items());
    }
    while high - low > 0.005 {
        let middle = f64::midpoint(low, high);
        if decides(middle.exp()) { high = middle } else { low = middle }
    }
    Some((group.items() as f64 * high.exp()).ceil() as usize)
}

/// The level at which a group's bound is on the wrong side of the floor.
fn evidence_against(group: &Group, above: bool, floor: f64) -> f64 {
    if above {
        group.evidence(Further::Lost).at_most(floor)
    } else {
        1.0 - group.evidence(Further::Gained).at_most(floor)
    }
}
