//! A study that can run: what its file says, resolved for one model, with items and prompts turned into tokens. What
//! cannot be prepared is refused here, before anything is written.

use std::collections::{BTreeMap, HashSet};

use lopper_pocket::Split;
use lopper_record::study::{ObjectiveTasks, SCHEMA, StudyRecord};
use lopper_record::{Progress, Result, Store};

use crate::cuts::{AUTO, Kind};
use crate::eval_split::EvalSplit;
use crate::healing::ResponseGeneration;
use crate::runner::Study;
use crate::stage::CutCells;
use crate::strategy::Strategies;
use crate::tasks::StudyTasks;
use crate::training::TrainingPrompts;
use crate::{Recipe, StudyInputs, StudyModel, record};

/// A study that can run.
pub struct Prepared<'a> {
    /// With the template variables of the recipe.
    pub model: StudyModel,
    pub recipe: &'a Recipe,
    pub tasks: StudyTasks,
    pub strategies: Strategies,
    /// The tasks that layers and strategies are chosen by.
    pub objective: Vec<String>,
    /// The items that scores are reported on, and those that layers are chosen by.
    pub report: EvalSplit,
    pub select: EvalSplit,
    pub training: TrainingPrompts,
    /// What its author may not expect, a sentence each.
    pub warnings: Vec<String>,
}

/// Says how many prompts of `heal.data` are left out.
fn overlap_warning(overlap: &BTreeMap<String, usize>) -> Option<String> {
    let of_task = |(task, count): (&String, &usize)| format!("{count} with items of {task}");
    let found: Vec<String> = overlap.iter().map(of_task).collect();
    (!found.is_empty()).then(|| format!("prompts of `heal.data` left out, since they overlap: {}", found.join(", ")))
}

impl<'a> Prepared<'a> {
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for a recipe that this model does not allow, and for tasks or prompts that
    /// cannot be prepared.
    pub fn new(model: &StudyModel, recipe: &'a Recipe, inputs: &StudyInputs) -> Result<Self> {
        recipe.check()?;
        recipe.check_model(&model.numbering)?;
        let tasks = recipe.resolved_tasks()?;
        let strategies = Strategies::resolve(recipe, &model.card.hash, &model.numbering)?;
        let objective = recipe.cuts.objective.tasks(&tasks)?;
        let StudyModel { card, text, numbering } = model;
        let text = text.with_template_variables(&recipe.template)?;
        let model = StudyModel { card: card.clone(), text, numbering: numbering.clone() };
        let StudyInputs { resources, prompts } = inputs;
        let prepare = |split| EvalSplit::prepare(&model.text, &tasks, recipe, resources, split);
        let (report, select) = (prepare(Split::Report)?, prepare(Split::Select)?);
        let policy = recipe.generation_policy();
        let source = (&policy, resources);
        let given = (prompts.as_deref(), recipe.heal.filters.overlap);
        let training = TrainingPrompts::gather(&model.text, &tasks, source, given, &[&report, &select])?;
        let mut warnings = strategies.remarks(&recipe.cuts.depths);
        warnings.extend(overlap_warning(&training.overlap));
        if !recipe.heal.depths.is_empty() {
            warnings.extend(ResponseGeneration::new(&model, &tasks, &training, recipe)?.check()?);
        }
        Ok(Self { model, recipe, tasks, strategies, objective, report, select, training, warnings })
    }

    /// How many stages it has.
    pub fn stages(&self) -> usize {
        let Recipe { cuts, heal, speed, .. } = self.recipe;
        let searches =
            cuts.named().map_or(0, |named| named.iter().filter(|(_, kind)| matches!(kind, Kind::Search(_))).count());
        // The uncut model, criteria, layer map, sentinels, cuts.
        let always = 5;
        let optional = [cuts.main == AUTO, speed.measure].into_iter().filter(|is| *is).count();
        always + searches + optional + if heal.depths.is_empty() { 0 } else { 2 }
    }

    /// The study over the cells of `store`; `command` is the one that repeats it, for the record.
    pub fn study<'b>(&'b self, store: &'b Store, command: &str, progress: &'b dyn Progress) -> Result<Study<'b>> {
        let Self { model, recipe, tasks, strategies, objective, report, select, training, warnings } = self;
        let record = StudyRecord {
            schema: SCHEMA,
            lopper_version: env!("CARGO_PKG_VERSION").into(),
            command: command.to_owned(),
            model: model.card.clone(),
            recipe: serde_json::to_value(recipe)?,
            policy: serde_json::to_value(recipe.generation_policy())?,
            seeds: record::seeds(recipe)?,
            splits: record::splits(recipe, tasks, objective),
            objective: Some(ObjectiveTasks { chosen: recipe.cuts.objective.summary(), tasks: objective.clone() }),
            tasks: tasks.entries.iter().map(|entry| entry.meta(recipe.items.report, recipe.items.select)).collect(),
            warnings: warnings.clone(),
            ..StudyRecord::default()
        };
        Ok(Study {
            model,
            recipe,
            tasks,
            strategies,
            objective: objective.clone(),
            training,
            store,
            cells: CutCells { model, store, report, select },
            progress,
            stages: 0,
            used: HashSet::new(),
            sentinels: None,
            record,
            ledger: Vec::new(),
            judged: Vec::new(),
        })
    }
}
