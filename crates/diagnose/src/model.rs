//! The diagnosis of one model: uncut, cut, healed, and without each layer in turn. The result is a study's record
//! without a grid of cuts, so that the report shows it as it shows a study.

use lopper_infer::TextModel;
use lopper_measure::{group_mean_retention, paired, retention, uncut_results};
use lopper_model::Model;
use lopper_record::study::{
    AblatedLayer, GroupResult, HealInfo, LedgerEntry, ModelCard, Point, SCHEMA, Seed, StudyRecord, TaskMeta, TaskResult,
};
use lopper_record::{LayerNumbering, LayerPosition, LayerSet, LayerSlot, Progress, Result, Step};
use lopper_tasks::{RowChoice, TaskOutcome, task_entries};

use crate::ledger;
use crate::sentinel::gap_alarm_of_groups;
use crate::suite::{CandidateResults, DiagnosticOptions, DiagnosticSuite};

/// The strategy of a cut that was given by hand, in the record.
const GIVEN: &str = "given";
/// Ledger entries of each cause, and of gained items, that the record keeps of one model.
const LEDGER_EXCERPT: usize = 3;

/// Which cuts of a model are diagnosed, and how.
pub struct ModelDiagnosis {
    /// What is measured.
    pub measured: DiagnosticOptions,
    /// The layers that a cut removes; none: no cut, and the adapter is on the whole model.
    pub dropped: Option<LayerSet>,
    /// The model with an adapter on the layers that the cut keeps, and the method that healed it.
    pub healed: Option<(Model, String)>,
    /// Whether every single layer is removed in turn.
    pub sweep: bool,
    /// Which layer of the original each of the model's layers is.
    pub numbering: LayerNumbering,
    /// Threshold of the gap alarm.
    pub gap_threshold: f64,
    /// The command, for the record.
    pub command: String,
}

impl ModelDiagnosis {
    /// Diagnoses `text`'s model. Returns the record, which keeps a few ledger entries of each cause, and the whole
    /// ledger.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for tasks that cannot be prepared and for layers that the model does not have;
    /// those of running it.
    pub fn run(
        &self,
        text: &TextModel,
        card: &ModelCard,
        progress: &dyn Progress,
    ) -> Result<(StudyRecord, Vec<LedgerEntry>)> {
        let uncut = LayerSet::<LayerPosition>::all(card.num_layers);
        let kept = self.dropped.as_ref().map(|dropped| self.numbering.kept(dropped)).transpose()?;
        let adapted_layers = kept.as_ref().unwrap_or(&uncut);
        let mut candidates: Vec<LayerSet<LayerSlot>> = vec![uncut.slots()];
        candidates.extend(kept.as_ref().map(LayerSet::slots));
        // The healed cut is a candidate like the others: the same layers, adapted, after the model's own.
        let mut text = text.clone();
        if let Some((healed, _)) = &self.healed {
            let (engine, adapted) = text.engine.with_adapted_layers(healed, adapted_layers)?;
            text.engine = engine;
            candidates.push(adapted);
        }
        let sweep = candidates.len();
        if self.sweep {
            let without = |layer: LayerPosition| uncut.without(&[layer.0].into()).slots();
            candidates.extend(uncut.iter().map(without));
        }
        let step = progress.step(Step::new("diagnosis", "models", candidates.len()));
        let suite = DiagnosticSuite::prepare(&text, &self.measured)?;
        let results = suite.run(&text, &candidates, &*step)?;
        step.set(candidates.len());
        drop(step);

        let tasks = self.task_metas(&results[0])?;
        let mut job = Job { options: self, card, names: names(&tasks), base: &results[0], ledger: Vec::new() };
        let mut record = job.record(tasks);
        record.base = Some(job.point(&results[0], None, None)?);
        record.ablation_base = record.base.as_ref().and_then(|base| base.diagnosis.clone());
        let cut = self.dropped.iter().map(|_| None);
        let methods = cut.chain(self.healed.as_ref().map(|(_, method)| Some(method.as_str())));
        let dropped = self.dropped.clone().unwrap_or_default();
        for (cut, method) in results[1..sweep].iter().zip(methods) {
            record.points.push(job.point(cut, Some(&dropped), method)?);
        }
        for (cut, layer) in results[sweep..].iter().zip(self.numbering.present().indices()) {
            record.ablation.push(job.ablated(cut, layer)?);
        }
        record.ledger = ledger::excerpt(&job.ledger, LEDGER_EXCERPT);
        record.complete = true;
        Ok((record, job.ledger))
    }

    /// The tasks that were evaluated, as the record describes them.
    fn task_metas(&self, base: &CandidateResults) -> Result<Vec<TaskMeta>> {
        let mut tasks: Vec<TaskMeta> = Vec::new();
        for reference in &self.measured.tasks {
            for entry in task_entries(reference)? {
                if let Some(outcome) = base.outcomes.get(&entry.name)
                    && tasks.iter().all(|task| task.name != entry.name)
                {
                    tasks.push(entry.meta(outcome.n, 0));
                }
            }
        }
        Ok(tasks)
    }
}

fn names(tasks: &[TaskMeta]) -> Vec<String> {
    tasks.iter().map(|task| task.name.clone()).collect()
}

/// Turns results into the record, and collects the ledger.
struct Job<'a> {
    options: &'a ModelDiagnosis,
    card: &'a ModelCard,
    /// The tasks, in the order of the record.
    names: Vec<String>,
    base: &'a CandidateResults,
    ledger: Vec<LedgerEntry>,
}

impl Job<'_> {
    fn record(&self, tasks: Vec<TaskMeta>) -> StudyRecord {
        let DiagnosticOptions { selection, policy, .. } = &self.options.measured;
        let seed = |name: &str, value| Seed { name: name.to_owned(), value };
        StudyRecord {
            schema: SCHEMA,
            lopper_version: env!("CARGO_PKG_VERSION").into(),
            command: self.options.command.clone(),
            model: self.card.clone(),
            seeds: vec![seed("items and bootstrap", selection.seed), seed("sampling", policy.sampling_seed)],
            splits: self.splits(),
            tasks,
            policy: serde_json::to_value(policy).unwrap_or_default(),
            main_strategy: GIVEN.into(),
            warnings: self.base.outcomes.values().flat_map(TaskOutcome::warnings).collect(),
            ..StudyRecord::default()
        }
    }

    /// Where the items come from, in sentences.
    fn splits(&self) -> Vec<String> {
        let selection = &self.options.measured.selection;
        let generated = format!("Generated items of the `{}` split.", selection.split.name());
        if self.base.outcomes.values().all(|outcome| outcome.source.is_none()) {
            return vec![generated];
        }
        let rows = match selection.rows {
            RowChoice::Divided => format!("Rows of benchmarks that are in the `{}` split.", selection.split.name()),
            RowChoice::All => "All rows of benchmarks.".to_owned(),
        };
        vec![generated, rows]
    }

    fn retention(&self, cut: &CandidateResults) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
        retention(&paired(&self.base.outcomes, &cut.outcomes, &self.names))
    }

    /// The model without one layer.
    fn ablated(&mut self, cut: &CandidateResults, layer: usize) -> Result<AblatedLayer> {
        let (tasks, _) = self.retention(cut)?;
        let (diagnosis, mut entries) = cut.diagnosis(Some(self.base));
        entries.iter_mut().for_each(|entry| entry.dropped = [layer].into());
        self.ledger.extend(entries);
        let group_mean_retention = group_mean_retention(paired(&self.base.outcomes, &cut.outcomes, &self.names));
        Ok(AblatedLayer { layer, group_mean_retention, tasks, diagnosis: Some(diagnosis) })
    }

    /// The uncut model, where `dropped` is none, or a cut of it.
    fn point(
        &mut self,
        results: &CandidateResults,
        dropped: Option<&LayerSet>,
        healed_by: Option<&str>,
    ) -> Result<Point> {
        let (tasks, groups) = match dropped {
            Some(_) => self.retention(results)?,
            None => {
                uncut_results(&self.names.iter().filter_map(|name| results.outcomes.get(name)).collect::<Vec<_>>())?
            }
        };
        let (diagnosis, mut entries) = results.diagnosis(dropped.map(|_| self.base));
        let removed = dropped.cloned().unwrap_or_default();
        for entry in &mut entries {
            (entry.strategy, entry.dropped, entry.healed) = (GIVEN.into(), removed.clone(), healed_by.is_some());
        }
        self.ledger.extend(entries);
        let per_layer = self.card.parameters_per_layer.first().copied().unwrap_or(0);
        Ok(Point {
            strategy: if dropped.is_some() { GIVEN.into() } else { String::new() },
            removed: removed.len(),
            gap: dropped.and_then(|_| gap_alarm_of_groups(&groups, self.options.gap_threshold)),
            healed: healed_by.map(|method| HealInfo { method: method.to_owned(), ..HealInfo::default() }),
            tasks,
            groups,
            perplexity: diagnosis.perplexity,
            perplexity_ci95: diagnosis.perplexity_ci95,
            parameters: Some(self.card.parameters.saturating_sub(per_layer * removed.len() as u64)),
            diagnosis: Some(diagnosis),
            dropped: removed,
            speed: None,
        })
    }
}
