//! A range of the items of some of a study's tasks: what a search evaluates candidates on. A pooled task has one order
//! of items, in which its members take turns, so a range of it is a range of each member.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use lopper_measure::{ItemScores, evaluate, pooled_order};
use lopper_record::{Progress, Result};
use lopper_tasks::TaskOutcome;

use crate::eval_split::{Candidate, EvalSplit, TaskIdentity};

/// Some tasks on the items of one split.
pub struct ItemParts<'a> {
    split: &'a EvalSplit,
    /// The study's tasks.
    pub names: &'a [String],
    tasks: Vec<PartTask<'a>>,
}

struct PartTask<'a> {
    members: Vec<&'a str>,
    /// Of each item, the member and its item.
    order: Vec<(usize, usize)>,
}

impl PartTask<'_> {
    fn order_of(&self, range: &Range<usize>) -> &[(usize, usize)] {
        let end = range.end.min(self.order.len());
        &self.order[range.start.min(end)..end]
    }

    /// The items of a member that are in a range of all.
    fn member_range(&self, member: usize, range: &Range<usize>) -> Range<usize> {
        let before = |end: usize| self.order_of(&(0..end)).iter().filter(|(other, _)| *other == member).count();
        before(range.start)..before(range.end)
    }
}

impl<'a> ItemParts<'a> {
    /// The tasks `names` of a study.
    pub fn new(split: &'a EvalSplit, names: &'a [String]) -> Self {
        let counts: BTreeMap<&str, usize> = split.suite.tasks().zip(split.suite.items()).collect();
        let part = |name: &'a String| {
            let members: Vec<&str> = split.members(name).map(|task| task.name.as_str()).collect();
            let counts: Vec<usize> = members.iter().map(|name| counts.get(name).copied().unwrap_or(0)).collect();
            PartTask { members, order: pooled_order(&counts) }
        };
        Self { split, names, tasks: names.iter().map(part).collect() }
    }

    /// What identifies the tasks and all of their items.
    pub fn identity(&self) -> Vec<&'a TaskIdentity> {
        self.names.iter().flat_map(|name| self.split.members(name)).collect()
    }

    /// The scores of candidates of one model on the items `range` of every task, as far as it has them, and the seconds
    /// that it took.
    pub fn evaluate(
        &self,
        candidates: &[Candidate<'_>],
        range: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<(Vec<ItemScores>, f64)> {
        let began = Instant::now();
        let Some(first) = candidates.first() else { return Ok((vec![], 0.0)) };
        let mut ranges: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        for task in &self.tasks {
            for (member, name) in task.members.iter().enumerate() {
                ranges.insert(name, task.member_range(member, &range));
            }
        }
        let suite = self.split.suite.part(|name| ranges.get(name).filter(|range| !range.is_empty()).cloned());
        let runs: Vec<_> = candidates.iter().map(|candidate| candidate.run.clone()).collect();
        let outcomes = evaluate(first.text, &suite, &runs, &self.split.execution, progress)?.outcomes;
        let scores = outcomes.iter().map(|outcomes| self.scores(outcomes, &range, &ranges)).collect();
        Ok((scores, began.elapsed().as_secs_f64()))
    }

    fn scores(
        &self,
        outcomes: &[TaskOutcome],
        range: &Range<usize>,
        ranges: &BTreeMap<&str, Range<usize>>,
    ) -> ItemScores {
        let score = |member: &str, item: usize| {
            let outcome = outcomes.iter().find(|outcome| outcome.task == member)?;
            let first = ranges.get(member)?.start;
            outcome.items.get(item.checked_sub(first)?).map(|item| item.score)
        };
        let of_task = |task: &PartTask<'_>| {
            task.order_of(range).iter().filter_map(|(member, item)| score(task.members[*member], *item)).collect()
        };
        self.tasks.iter().map(of_task).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_members_follow_from_that_of_all() {
        let task = PartTask { members: vec!["a", "b"], order: pooled_order(&[3, 1]) };
        // In turns: a0, b0, a1, a2.
        assert_eq!((task.member_range(0, &(0..2)), task.member_range(1, &(0..2))), (0..1, 0..1));
        assert_eq!((task.member_range(0, &(2..9)), task.member_range(1, &(2..9))), (1..3, 1..1));
        assert_eq!(task.order_of(&(1..3)), [(1, 0), (0, 1)]);
        assert!(task.order_of(&(7..9)).is_empty());
    }
}
