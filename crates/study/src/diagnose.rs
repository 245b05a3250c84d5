//! `lopper diagnose`: what broke in a model without some layers, without each layer in turn, and after healing.
//! The result is a study's record without a grid of cuts, so the report shows it as it shows a study.

use anyhow::Result;
use lopper_diagnose::sentinel::gap_alarm;
use lopper_diagnose::{CandidateResults, DiagnosticOptions, DiagnosticSuite};
use lopper_measure::{group_mean_retention, paired, retention};
use lopper_model::Model;
use lopper_record::study::{
    AblatedLayer, CLASSIFICATION, GENERATIVE, GapAlarm, GroupResult, HealInfo, LedgerEntry, Point, SCHEMA, Seed,
    StudyRecord, TaskMeta,
};
use lopper_record::{LayerIndex, LayerPosition, LayerSet, Progress, Retention, Step};
use lopper_tasks::{RowChoice, TaskOutcome, task_entries};

use crate::StudyModel;
use crate::record::task_meta;

/// The strategy's name of a cut that was given by hand.
pub const GIVEN: &str = "given";
/// Ledger entries of each cause, and of gained items, that a record keeps of one model.
const KEPT_ENTRIES: usize = 3;

/// What to diagnose.
pub struct DiagnoseOptions {
    /// What is measured.
    pub examine: DiagnosticOptions,
    /// The layers that stay in the cut, if there is one.
    pub kept: Option<LayerSet<LayerPosition>>,
    /// The model with an adapter on the layers of the cut, if it is healed, and how.
    pub healed: Option<(Model, String)>,
    /// Whether every single layer is removed in turn.
    pub sweep: bool,
    /// By how much classification may keep more than generation before the alarm is raised.
    pub gap: f64,
    /// The command, for the record.
    pub command: String,
}

/// Diagnoses a model. Returns the record, which keeps a few ledger entries of each cause, and the whole ledger.
pub fn diagnose(
    model: &StudyModel,
    options: &DiagnoseOptions,
    progress: &dyn Progress,
) -> Result<(StudyRecord, Vec<LedgerEntry>)> {
    let text = &model.text;
    let layers = model.layers();
    let mut cuts = vec![layers.slots()];
    cuts.extend(options.kept.as_ref().map(LayerSet::slots));
    // The healed cut is a candidate like the others: the same layers, adapted, after the model's own.
    let mut both = text.clone();
    if let (Some((healed, _)), Some(kept)) = (&options.healed, &options.kept) {
        let (engine, adapted) = text.engine.with_adapted_layers(healed, kept);
        both.engine = engine;
        cuts.push(adapted);
    }
    let before_sweep = cuts.len();
    if options.sweep {
        cuts.extend(layers.iter().map(|layer| model.without(&LayerSet::from_iter([layer])).slots()));
    }
    let step = progress.step(Step::new("diagnosing", "passes", 0));
    let suite = DiagnosticSuite::prepare(text, &options.examine)?;
    let cuts: Vec<Vec<usize>> = cuts.into_iter().map(Vec::from).collect();
    let examined = suite.run(&both, &cuts, &|done, total| {
        step.set_total(total);
        step.set(done);
    })?;
    drop(step);

    let mut tasks: Vec<TaskMeta> = Vec::new();
    for reference in &options.examine.tasks {
        for entry in task_entries(reference)? {
            if let Some(outcome) = examined[0].outcomes.get(&entry.name)
                && tasks.iter().all(|task| task.name != entry.name)
            {
                tasks.push(task_meta(&entry, outcome.n, 0));
            }
        }
    }
    let mut job = Job { model, options, tasks, base: &examined[0], ledger: Vec::new() };
    let mut record = job.record();
    record.base = Some(job.point(&examined[0], None, None)?);
    record.ablation_base = record.base.as_ref().and_then(|base| base.diagnosis.clone());
    if let (Some(kept), Some(cut)) = (&options.kept, examined.get(1)) {
        record.points.push(job.point(cut, Some(kept), None)?);
        if let (Some(healed), Some((_, how))) = (examined.get(2), &options.healed) {
            record.points.push(job.point(healed, Some(kept), Some(how))?);
        }
    }
    for (layer, cut) in model.numbering.present().iter().zip(examined.iter().skip(before_sweep)) {
        let (tasks, _) = job.compared(cut)?;
        let (diagnosis, mut entries) = cut.diagnosis(Some(job.base));
        let layer = layer.index();
        entries.iter_mut().for_each(|entry| entry.dropped = vec![layer]);
        job.ledger.extend(entries);
        let kept = group_mean_retention(paired(&job.base.outcomes, &cut.outcomes, &job.names()));
        record.ablation.push(AblatedLayer { layer, group_mean_retention: kept, tasks, diagnosis: Some(diagnosis) });
    }
    record.ablation.sort_by_key(|ablated| ablated.layer);
    record.ledger = excerpt(&job.ledger, KEPT_ENTRIES);
    record.complete = true;
    Ok((record, job.ledger))
}

struct Job<'a> {
    model: &'a StudyModel,
    options: &'a DiagnoseOptions,
    tasks: Vec<TaskMeta>,
    base: &'a CandidateResults,
    ledger: Vec<LedgerEntry>,
}

type Compared = (Vec<lopper_record::study::TaskResult>, Vec<GroupResult>);

impl Job<'_> {
    fn record(&self) -> StudyRecord {
        let DiagnosticOptions { selection, policy, .. } = &self.options.examine;
        let seed = |name: &str, value| Seed { name: name.to_owned(), value };
        StudyRecord {
            schema: SCHEMA,
            lopper_version: env!("CARGO_PKG_VERSION").into(),
            command: self.options.command.clone(),
            model: self.model.card.clone(),
            seeds: vec![seed("items and bootstrap", selection.seed), seed("sampling", policy.sampling_seed)],
            splits: self.splits(),
            tasks: self.tasks.clone(),
            policy: serde_json::to_value(policy).unwrap_or_default(),
            main_strategy: GIVEN.into(),
            warnings: self.base.outcomes.values().flat_map(rows_lost).collect(),
            ..StudyRecord::default()
        }
    }

    /// Which items were asked, in sentences.
    fn splits(&self) -> Vec<String> {
        let selection = &self.options.examine.selection;
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

    fn names(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.name.clone()).collect()
    }

    fn compared(&self, cut: &CandidateResults) -> Result<Compared> {
        retention(&paired(&self.base.outcomes, &cut.outcomes, &self.names()), self.options.examine.selection.seed)
    }

    fn point(
        &mut self,
        examined: &CandidateResults,
        kept: Option<&LayerSet<LayerPosition>>,
        healed: Option<&str>,
    ) -> Result<Point> {
        let (mut tasks, mut groups) = self.compared(examined)?;
        let (diagnosis, mut entries) = examined.diagnosis(kept.map(|_| self.base));
        let card = &self.model.card;
        let dropped: Vec<usize> = match kept {
            Some(kept) => self.model.originals(&self.model.without(kept))?.into(),
            None => {
                tasks.iter_mut().for_each(|task| task.retention = None);
                groups.iter_mut().for_each(|group| {
                    group.retention = group.retention.map(|_| Retention::uncut(group.score.n));
                });
                vec![]
            }
        };
        for entry in &mut entries {
            (entry.strategy, entry.dropped, entry.healed) = (GIVEN.into(), dropped.clone(), healed.is_some());
        }
        self.ledger.extend(entries);
        let per_layer = card.parameters_per_layer.first().copied().unwrap_or(0);
        Ok(Point {
            strategy: if kept.is_some() { GIVEN.into() } else { String::new() },
            removed: dropped.len(),
            gap: kept.and_then(|_| gap(&groups, self.options.gap)),
            healed: healed.map(|how| HealInfo { method: how.to_owned(), ..HealInfo::default() }),
            tasks,
            groups,
            perplexity: diagnosis.perplexity,
            parameters: Some(card.parameters.saturating_sub(per_layer * dropped.len() as u64)),
            diagnosis: Some(diagnosis),
            dropped,
        })
    }
}

/// Rows that could not be asked, or not whole, in sentences.
fn rows_lost(outcome: &TaskOutcome) -> Vec<String> {
    let mut told = Vec::new();
    if let Some(first) = outcome.bad_rows.first() {
        told.push(format!(
            "{}: {} rows left out of {}; the first is row {}: {}",
            outcome.task,
            outcome.bad_rows.len(),
            first.file.display(),
            first.row,
            first.reason
        ));
    }
    if !outcome.truncated.is_empty() {
        let count = outcome.truncated.len();
        told.push(format!("{}: {count} prompts lost their beginning to fit into the context", outcome.task));
    }
    told
}

/// The gap alarm of a model's results by group.
pub fn gap(groups: &[GroupResult], threshold: f64) -> Option<GapAlarm> {
    let of = |name: &str| groups.iter().find(|group| group.group == name)?.retention;
    gap_alarm(&of(CLASSIFICATION)?, &of(GENERATIVE)?, threshold)
}

/// The first `most` entries of each cause (gained ones count as one) of each model.
pub fn excerpt(entries: &[LedgerEntry], most: usize) -> Vec<LedgerEntry> {
    let mut seen = std::collections::HashMap::new();
    let mut kept = Vec::new();
    for entry in entries {
        let count = seen.entry((&entry.strategy, &entry.dropped, entry.healed, entry.cause)).or_insert(0);
        *count += 1;
        if *count <= most {
            kept.push(entry.clone());
        }
    }
    kept
}
