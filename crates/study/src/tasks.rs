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
    /// What is known of each, in the groups' order; of a pooled task, what its members have in common.
    pub entries: Vec<TaskEntry>,
    /// What is evaluated, in the same order: the tasks, and the members of pooled ones in their stead.
    pub members: Vec<Member>,
    /// What the tasks can be found by: names, or files' paths.
    pub references: Vec<String>,
}

/// A task that is evaluated by itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// What is known of it.
    pub entry: TaskEntry,
    /// The task that it counts as: itself, or the pooled one.
    pub counts_as: String,
    /// The word of the study file that it comes from.
    pub reference: String,
}

impl Member {
    /// Whether `word` names it, perhaps among others.
    pub fn is_named(&self, word: &str) -> bool {
        let TaskEntry { name, tags, .. } = &self.entry;
        name == word || self.counts_as == word || self.reference == word || tags.iter().any(|tag| tag == word)
    }
}

impl StudyTasks {
    /// What `tasks` names. Tasks that are scored together and named together, as MMLU's subjects by `mmlu`, are one.
    ///
    /// # Errors
    /// A [`Fault`] for an unknown task, one in the wrong group, one that is named twice, and for none at all.
    pub fn resolve(tasks: &Tasks) -> Result<Self, Fault> {
        let mut all = Self::default();
        for (group, wanted, names) in [
            (CLASSIFICATION, Group::Classification, &tasks.classification),
            (GENERATIVE, Group::Generative, &tasks.generative),
        ] {
            let mut of_group: Vec<String> = Vec::new();
            for name in names {
                let entries = task_entries(name)?;
                for entry in &entries {
                    if entry.group != wanted {
                        let other = if wanted == Group::Generative { CLASSIFICATION } else { GENERATIVE };
                        return Err(Fault::new(format!("`{}` is no {group} task", entry.name))
                            .expected(format!("{group} tasks in `tasks.{group}`"))
                            .got(format!("`{name}`"))
                            .hint(format!("put it into `tasks.{other}`; `lopper tasks` shows the group of each")));
                    }
                    if all.members.iter().any(|member| member.entry.name == entry.name) {
                        return Err(Fault::new(format!("`tasks.{group}` names `{}` twice", entry.name))
                            .expected("each task once")
                            .got(format!("{names:?}"))
                            .hint("leave one out"));
                    }
                    let counts_as = counts_as(name, entry, &entries);
                    if !of_group.contains(&counts_as) {
                        of_group.push(counts_as.clone());
                        all.entries.push(TaskEntry { name: counts_as.clone(), ..entry.clone() });
                    }
                    all.members.push(Member { entry: entry.clone(), counts_as, reference: name.clone() });
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

    /// The names of the tasks that `word` names: a group, a tag, a task or its file.
    pub fn named(&self, word: &str) -> Vec<String> {
        if let Some((_, names)) = self.groups.iter().find(|(group, _)| *group == word) {
            return names.clone();
        }
        let mut names: Vec<String> = Vec::new();
        for member in self.members.iter().filter(|member| member.is_named(word)) {
            if !names.contains(&member.counts_as) {
                names.push(member.counts_as.clone());
            }
        }
        names
    }

    /// How many members count as `name`.
    pub fn members_of(&self, name: &str) -> usize {
        self.members.iter().filter(|member| member.counts_as == name).count()
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

/// What `entry` counts as where `name` means `entries`: the name itself where all of them are scored together
/// under it (`mmlu_stem`), the task whose member it is where other members are named as well, else itself.
fn counts_as(name: &str, entry: &TaskEntry, entries: &[TaskEntry]) -> String {
    let family = |wanted: &str| entries.iter().filter(|other| other.families.iter().any(|own| own == wanted)).count();
    if entries.len() > 1 && family(name) == entries.len() {
        return name.to_owned();
    }
    let whole = entry.families.first().filter(|whole| family(whole) > 1);
    whole.unwrap_or(&entry.name).clone()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(classification: &[&str], generative: &[&str]) -> Result<StudyTasks, Fault> {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        StudyTasks::resolve(&Tasks { classification: names(classification), generative: names(generative) })
    }

    #[test]
    fn the_subjects_of_mmlu_are_one_task() {
        let tasks = resolve(&["mmlu", "arc_easy"], &["gsm8k"]).unwrap();
        assert_eq!(tasks.names(), ["mmlu", "arc_easy", "gsm8k"]);
        assert_eq!((tasks.members.len(), tasks.members_of("mmlu"), tasks.members_of("arc_easy")), (59, 57, 1));
        let entry = &tasks.entries[0];
        assert_eq!((entry.metric.as_str(), entry.chance, entry.shots), ("acc", Some(0.25), 0));
        assert_eq!(tasks.named("classification"), ["mmlu", "arc_easy"]);
        assert_eq!(tasks.named("mmlu_stem"), ["mmlu"]);
        assert!(tasks.named("xsum").is_empty() && tasks.named("magic").is_empty());
        // Categories, one subject, and a name for many tasks among which is MMLU.
        assert_eq!(resolve(&["mmlu_stem", "mmlu_other"], &[]).unwrap().names(), ["mmlu_stem", "mmlu_other"]);
        assert_eq!(resolve(&["mmlu_anatomy"], &[]).unwrap().names(), ["mmlu_anatomy"]);
        let paper = resolve(&["paper_classification"], &["paper_generative"]).unwrap();
        assert_eq!((paper.groups[0].1.len(), paper.groups[1].1.len()), (7, 6), "{:?}", paper.groups);
        assert!(paper.names().contains(&"mmlu".to_owned()));
        // Items that count twice.
        assert!(resolve(&["mmlu", "mmlu_anatomy"], &[]).unwrap_err().message.contains("twice"));
    }
}
