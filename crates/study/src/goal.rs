//! A study of one question, `budget.goal = "gsm8k>=0.9"`: how many layers may go so that a task, or every task of a
//! group, keeps a part of its score.
//!
//! A budget is decided from the shallowest cut on, and ends at the first that does not hold: no deeper cut can change
//! it. Such a study therefore measures the cuts of the main strategy one by one, and leaves out what comes after the
//! answer, and the other strategies.

use std::fmt;
use std::str::FromStr;

use lopper_record::Fault;
use lopper_record::study::{BudgetLine, Scope};

use crate::tasks::StudyTasks;

/// What is to be kept, and how much of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Goal {
    /// A task, or a group of tasks each of which counts.
    pub of: String,
    /// The retention to keep.
    pub floor: f64,
}

impl FromStr for Goal {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let refused = || {
            Fault::new("the goal of the budget cannot be read")
                .expected("a task or a group, and the part of its score to keep: above 0 and at most 1")
                .got(format!("`{text}`"))
                .hint("\"gsm8k>=0.9\" asks how many layers may go while gsm8k keeps 90 % of its score")
        };
        let (of, floor) = text.split_once(">=").or_else(|| text.split_once('≥')).ok_or_else(refused)?;
        let floor = match floor.trim().strip_suffix('%') {
            Some(percent) => percent.trim().parse().map(|percent: f64| percent / 100.0),
            None => floor.trim().parse(),
        };
        let floor = floor.ok().filter(|floor| *floor > 0.0 && *floor <= 1.0).ok_or_else(refused)?;
        match of.trim() {
            "" => Err(refused()),
            of => Ok(Self { of: of.to_owned(), floor }),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}>={}", self.of, self.floor)
    }
}

impl Goal {
    /// Refuses a goal that is about none of a study's tasks.
    pub fn check(&self, tasks: &StudyTasks) -> Result<(), Fault> {
        let groups = tasks.groups.iter().map(|(group, _)| (*group).to_owned());
        let names: Vec<String> = groups.chain(tasks.names()).collect();
        if names.contains(&self.of) {
            return Ok(());
        }
        Err(Fault::new("the goal of the budget is about no task of the study")
            .expected(format!("one of {}", names.join(", ")))
            .got(format!("`{}`", self.of))
            .hint("name the task among `tasks` as well"))
    }

    /// Whether a budget is the one that it is about.
    pub fn is_of(&self, line: &BudgetLine) -> bool {
        if line.threshold != self.floor {
            return false;
        }
        match line.scope {
            // The only task of a group is the worst.
            Scope::Task => line.task.as_deref() == Some(&*self.of) || line.headline && line.group == self.of,
            Scope::Worst => line.group == self.of,
            Scope::Mean => false,
        }
    }
}

/// Whether no deeper cut can change a budget.
pub fn is_decided(line: &BudgetLine) -> bool {
    line.tasks.is_empty() || line.depths.iter().any(|depth| !depth.holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_record::study::BudgetDepth;

    #[test]
    fn goals_are_read_as_they_are_written() {
        let goal: Goal = "gsm8k >= 0.9".parse().unwrap();
        assert_eq!((goal.of.as_str(), goal.floor, goal.to_string().as_str()), ("gsm8k", 0.9, "gsm8k>=0.9"));
        assert_eq!("gsm8k≥90 %".parse::<Goal>().unwrap(), goal);
        for wrong in ["gsm8k", "gsm8k>=", "gsm8k>=90", "gsm8k>=0", ">=0.9", "gsm8k>0.9", "gsm8k>=NaN"] {
            assert!(wrong.parse::<Goal>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_goal_is_about_a_task_or_the_worst_of_a_group() {
        let line = |scope, task: Option<&str>, headline| BudgetLine {
            scope,
            headline,
            group: "generative".into(),
            task: task.map(str::to_owned),
            threshold: 0.9,
            ..BudgetLine::default()
        };
        let task: Goal = "gsm8k>=0.9".parse().unwrap();
        let group: Goal = "generative>=0.9".parse().unwrap();
        let of = |goal: &Goal| {
            [
                goal.is_of(&line(Scope::Task, Some("gsm8k"), false)),
                goal.is_of(&line(Scope::Worst, None, true)),
                goal.is_of(&line(Scope::Mean, None, false)),
                goal.is_of(&line(Scope::Task, Some("only"), true)),
            ]
        };
        assert_eq!(of(&task), [true, false, false, false]);
        assert_eq!(of(&group), [false, true, false, true]);
        let other: Goal = "gsm8k>=0.8".parse().unwrap();
        assert!(!other.is_of(&line(Scope::Task, Some("gsm8k"), false)));
    }

    #[test]
    fn the_first_cut_that_does_not_hold_decides() {
        let depth = |removed, holds| BudgetDepth { removed, holds, ..BudgetDepth::default() };
        let line = |depths| BudgetLine { tasks: vec!["a".into()], depths, ..BudgetLine::default() };
        assert!(!is_decided(&line(vec![depth(1, true), depth(2, true)])));
        assert!(is_decided(&line(vec![depth(1, true), depth(2, false)])));
        assert!(is_decided(&BudgetLine::default()), "no task can be judged");
    }
}
