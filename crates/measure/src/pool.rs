//! Tasks that are scored together as one: the subjects of MMLU, every item weighing the same.
//!
//! `lopper eval` shows each subject and the score of all their items; in a study the subjects are one task, so that 57
//! of them do not outweigh the other tasks of their group. Pooled items are in turns: the first of each member, then
//! the second of each, so that the first items are of all members, and a race that reads growing samples reads from
//! each.

use std::collections::BTreeMap;

use lopper_record::{Result, Score, ensure};
use lopper_stats as stats;
use lopper_tasks::TaskOutcome;

/// The order of pooled items, as (member, item of the member), for members of so many items.
pub fn pooled_order(counts: &[usize]) -> Vec<(usize, usize)> {
    let longest = counts.iter().copied().max().unwrap_or(0);
    let turn = |item: usize| counts.iter().enumerate().filter(move |(_, count)| item < **count);
    (0..longest).flat_map(|item| turn(item).map(move |(member, _)| (member, item))).collect()
}

/// The outcomes of several tasks as that of one task, `name`. Its scores are those of all items together, and their
/// standard errors those of `eval`'s groups: spread within the members only.
///
/// # Errors
/// Where there is no member, or one has another metric or group.
pub fn pooled(name: &str, members: Vec<TaskOutcome>) -> Result<TaskOutcome> {
    ensure!(!members.is_empty(), "`{name}` has no members");
    let first = &members[0];
    let alike = |other: &TaskOutcome| other.primary == first.primary && other.group == first.group;
    ensure!(members.iter().all(alike), "the members of `{name}` are not scored alike");
    let order = pooled_order(&members.iter().map(|member| member.items.len()).collect::<Vec<_>>());
    let timed = members.iter().all(|member| member.timings.len() == member.items.len());

    let mut metrics: BTreeMap<String, Score> = BTreeMap::new();
    for metric in first.metrics.keys() {
        let scores: Vec<Score> = members.iter().filter_map(|member| member.metrics.get(metric).copied()).collect();
        let of_item = |(member, item): &(usize, usize)| members[*member].items[*item].metrics.get(metric).copied();
        if let Some(values) = order.iter().map(of_item).collect::<Option<Vec<f64>>>() {
            // Summed in the order of the items, as paired comparisons sum them.
            metrics.insert(metric.clone(), Score { value: stats::mean(&values), ..stats::pooled_score(&scores) });
        }
    }
    let chance = members.iter().all(|member| member.chance == first.chance).then_some(first.chance).flatten();
    Ok(TaskOutcome {
        task: name.to_owned(),
        group: first.group,
        version: first.version,
        policy: first.policy.clone(),
        n: order.len(),
        metrics,
        primary: first.primary.clone(),
        items: order.iter().map(|(member, item)| members[*member].items[*item].clone()).collect(),
        chance,
        families: vec![],
        source: None,
        bad_rows: members.iter().flat_map(|member| member.bad_rows.clone()).collect(),
        truncated: members.iter().flat_map(|member| member.truncated.clone()).collect(),
        timings: match timed {
            true => order.iter().map(|(member, item)| members[*member].timings[*item]).collect(),
            false => vec![],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_tasks::{GenerationPolicy, Group, ItemResult};

    fn outcome(task: &str, scores: &[f64]) -> TaskOutcome {
        let item = |(at, score): (usize, &f64)| ItemResult {
            id: format!("{task}-{at}"),
            score: *score,
            metrics: BTreeMap::from([("acc".to_owned(), *score)]),
            ..ItemResult::default()
        };
        TaskOutcome {
            task: task.into(),
            group: Group::Classification,
            version: 1,
            policy: GenerationPolicy::default(),
            n: scores.len(),
            metrics: BTreeMap::from([("acc".to_owned(), stats::score(scores, 0))]),
            primary: "acc".into(),
            items: scores.iter().enumerate().map(item).collect(),
            chance: Some(0.25),
            families: vec!["mmlu".into()],
            source: None,
            bad_rows: vec![],
            truncated: vec![],
            timings: vec![],
        }
    }

    #[test]
    fn items_are_pooled_in_turns_and_weigh_the_same() {
        let members = vec![outcome("a", &[1.0, 1.0, 0.0]), outcome("b", &[0.0]), outcome("c", &[1.0, 0.0])];
        let scores: Vec<Score> = members.iter().map(|member| *member.primary_score()).collect();
        let all = pooled("mmlu", members).unwrap();
        let ids: Vec<&str> = all.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["a-0", "b-0", "c-0", "a-1", "c-1", "a-2"]);
        assert_eq!((all.task.as_str(), all.n, all.primary_score().value, all.chance), ("mmlu", 6, 0.5, Some(0.25)));
        // As `eval` pools them.
        assert_eq!(all.primary_score().stderr, stats::pooled_score(&scores).stderr);
        assert_eq!(pooled_order(&[2, 0, 1]), [(0, 0), (2, 0), (0, 1)]);
        assert!(pooled("mmlu", vec![]).is_err());
        let other = TaskOutcome { primary: "f1".into(), ..outcome("d", &[1.0]) };
        assert!(pooled("mmlu", vec![outcome("a", &[1.0]), other]).is_err());
    }
}
