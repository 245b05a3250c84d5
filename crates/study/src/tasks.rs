//! The tasks of a study: what the names in its file stand for.

use lopper_pocket::Group;
use lopper_record::Fault;
use lopper_record::study::{CLASSIFICATION, GENERATIVE};
use lopper_tasks::{TaskEntry, task_entries};

use crate::{Recipe, Tasks};

/// A study's tasks, resolved. Groups of tasks are spelt out; a file of one's own stays its path.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StudyTasks {
    /// Those that are there, by group: classification first.
    pub groups: Vec<(&'static str, Vec<String>)>,
    /// What is known of each, in the groups' order.
    pub entries: Vec<TaskEntry>,
    /// What the tasks can be found by: names, or files' paths.
    pub references: Vec<String>,
}

impl StudyTasks {
    /// What `tasks` names.
    ///
    /// # Errors
    /// A [`Fault`] for an unknown task, one in the wrong group, one that is named twice, and for none at all.
    pub fn resolve(tasks: &Tasks) -> Result<Self, Fault> {
        let mut all = Self::default();
        for (group, wanted, names) in [
            (CLASSIFICATION, Group::Classification, &tasks.classification),
            (GENERATIVE, Group::Generative, &tasks.generative),
        ] {
            let mut of_group = Vec::new();
            for name in names {
                for entry in task_entries(name)? {
                    if entry.group != wanted {
                        let other = if wanted == Group::Generative { CLASSIFICATION } else { GENERATIVE };
                        return Err(Fault::new(format!("`{}` is no {group} task", entry.name))
                            .expected(format!("{group} tasks in `tasks.{group}`"))
                            .got(format!("`{name}`"))
                            .hint(format!("put it into `tasks.{other}`; `lopper tasks` tells the group of each")));
                    }
                    if of_group.contains(&entry.name) {
                        return Err(Fault::new(format!("`tasks.{group}` names `{}` twice", entry.name))
                            .expected("each task once")
                            .got(format!("{names:?}"))
                            .hint("leave one out"));
                    }
                    of_group.push(entry.name.clone());
                    all.entries.push(entry);
                }
                if !all.references.contains(name) {
                    all.references.push(name.clone());
                }
            }
            if !of_group.is_empty() {
                all.groups.push((group, of_group));
            }
        }
        if all.entries.is_empty() {
            return Err(Fault::new("the study has no task")
                .expected("at least one task in `tasks`")
                .got("none")
                .hint("leave the keys out to take all of the pocket model's"));
        }
        Ok(all)
    }

    /// The names, classification first.
    pub fn names(&self) -> Vec<String> {
        self.entries.iter().map(|entry| entry.name.clone()).collect()
    }

    /// The generative ones.
    pub fn generative(&self) -> &[String] {
        self.groups.iter().find(|(group, _)| *group == GENERATIVE).map_or(&[], |(_, names)| names)
    }

    /// Whether the items of all of them are generated: those of the pocket model.
    pub fn all_generated(&self) -> bool {
        self.entries.iter().all(|entry| entry.rows.is_none())
    }

    /// Whether programs that the model wrote are run.
    pub fn run_code(&self) -> bool {
        self.entries.iter().any(|entry| entry.runs_code)
    }
}

impl Recipe {
    /// The tasks, resolved.
    ///
    /// # Errors
    /// See [`StudyTasks::resolve`].
    pub fn resolved_tasks(&self) -> Result<StudyTasks, Fault> {
        StudyTasks::resolve(&self.tasks)
    }
}
