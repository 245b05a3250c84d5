//! The stages of a study, in order. After each one `study.json` is written, so that an interrupted
//! study has a report of what it reached.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Result;
use lopper_diagnose::diagnose_outcomes;
use lopper_diagnose::sentinel::Sentinels;
use lopper_infer::TextModel;
use lopper_measure::{Outcomes, group_mean_retention, paired, retention};
use lopper_model::chat::Message;
use lopper_pocket::Split;
use lopper_prune::criteria::Measures;
use lopper_prune::{LayerScores, criteria};
use lopper_record::study::{
    AblatedLayer, GroupResult, LedgerEntry, ModelCard, Point, SCHEMA, StudyRecord, TaskMeta, TaskResult, Timing,
};
use lopper_record::{Retention, Store};
use lopper_tasks::Resources;

use crate::healing::{Asking, Cut, Responses};
use crate::measure::{Candidate, Questions};
use crate::observer::StudyObserver;
use crate::place::Place;
use crate::stage::{Asked, Stage};
use crate::strategy::{self, Evidence};
use crate::tasks::StudyTasks;
use crate::training::Training;
use crate::{Recipe, budget, calibration, identity, record, samples};

/// The model under study.
pub struct Subject {
    /// What is known about it before anything is measured.
    pub card: ModelCard,
    /// The model with its text side.
    pub text: TextModel,
}

/// What a study is given besides its file.
#[derive(Default)]
pub struct Material {
    /// Where rows are read from, and what runs programs.
    pub resources: Resources,
    /// Prompts to heal by in place of the tasks' training splits, for `heal.data`.
    pub prompts: Option<Vec<Vec<Message>>>,
}

/// Runs a study in `directory`, or continues the one that is there. A study that fails before its
/// first cell is finished leaves nothing behind.
pub fn run(
    subject: &Subject,
    recipe: &Recipe,
    material: &Material,
    directory: &Path,
    command: &str,
    observer: &dyn StudyObserver,
) -> Result<StudyRecord> {
    recipe.check()?;
    recipe.check_model(subject.card.num_layers)?;
    let tasks = recipe.resolved_tasks()?;
    // What cannot be asked is refused before anything is written.
    let text = subject.text.with_template_variables(&recipe.template)?;
    let subject = &Subject { card: subject.card.clone(), text };
    let resources = &material.resources;
    let prepare = |split| Questions::prepare(&subject.text, &tasks, recipe, resources, split);
    let (report, select) = (prepare(Split::Report)?, prepare(Split::Select)?);
    let prompts = material.prompts.as_deref();
    let policy = recipe.generation_policy();
    let training = Training::gather(&subject.text, &tasks, (&policy, resources), prompts, &[&report, &select])?;
    let place = Place::before(directory);
    let store = Store::open(directory)?;
    let record = StudyRecord {
        schema: SCHEMA,
        lopper_version: env!("CARGO_PKG_VERSION").into(),
        command: command.to_owned(),
        model: subject.card.clone(),
        recipe: serde_json::to_value(recipe)?,
        policy: serde_json::to_value(&policy)?,
        seeds: record::seeds(recipe),
        splits: record::splits(recipe, &tasks),
        tasks: tasks
            .entries
            .iter()
            .map(|entry| record::task_meta(entry, recipe.items.report, recipe.items.select))
            .collect(),
        ..StudyRecord::default()
    };
    let (seen, sentinels, ledger) = (HashSet::new(), None, Vec::new());
    let mut study =
        Study { subject, recipe, store, report, select, training, tasks, observer, record, seen, sentinels, ledger };
    if let Err(error) = study.stages() {
        place.clear_if_unused();
        return Err(error);
    }
    Ok(study.record)
}

/// A study that is running.
pub struct Study<'a> {
    pub subject: &'a Subject,
    pub recipe: &'a Recipe,
    pub store: Store,
    /// The tasks on the items that scores are reported on, and on those that layers are chosen by.
    pub report: Questions,
    pub select: Questions,
    pub training: Training,
    pub tasks: StudyTasks,
    pub observer: &'a dyn StudyObserver,
    pub record: StudyRecord,
    /// Cuts that a stage has asked for.
    pub seen: HashSet<Asked>,
    /// Prepared when the first is read.
    pub sentinels: Option<Sentinels>,
    /// Every item that a cut lost or gained.
    pub ledger: Vec<LedgerEntry>,
}

impl Study<'_> {
    fn stages(&mut self) -> Result<()> {
        let layers = self.subject.card.num_layers;
        let (base, base_select) = self.uncut()?;
        let scores = self.layer_scores()?;
        self.record.criteria = record::criteria(&scores);
        let ablation = self.layer_map(&base_select)?;
        let evidence = Evidence {
            num_layers: layers,
            scores: &scores,
            ablation: &ablation,
            keep: &self.recipe.cuts.keep,
            seed: self.recipe.seed,
        };
        let main = self.main_strategy(&evidence, &base_select)?;
        self.record.main_strategy.clone_from(&main);
        let cuts = self.cuts(&evidence, &main, &base)?;
        self.heal(&evidence, &main, &base, &cuts)?;
        self.decide(&main);
        self.write_ledger()?;
        self.record.warnings.extend(self.store.take_warnings());
        self.record.complete = true;
        self.record.write(self.store.directory())
    }

    /// The uncut model on the reporting and on the selection items.
    fn uncut(&mut self) -> Result<(Outcomes, Outcomes)> {
        let all: Vec<usize> = (0..self.subject.card.num_layers).collect();
        let mut stage =
            Stage::begin(self, "uncut model", &[(all.clone(), Split::Report), (all.clone(), Split::Select)])?;
        let base = stage.eval(self, &all, Split::Report, "reporting items")?;
        let base_select = stage.eval(self, &all, Split::Select, "selection items")?;
        let (tasks, groups) = self.retention(&base, &base)?;
        let mut point = Point { strategy: String::new(), tasks, groups, ..Point::default() };
        point.tasks.iter_mut().for_each(|t| t.retention = None);
        // Against itself it keeps all, unless it scores too little for a ratio to mean anything.
        point.groups.iter_mut().for_each(|g| g.retention = g.retention.map(|_| Retention::uncut(g.score.n)));
        point.parameters = Some(self.subject.card.parameters);
        point.diagnosis = Some(diagnose_outcomes(&base, None).0);
        self.record.base = Some(point);
        self.record.ablation_base = Some(diagnose_outcomes(&base_select, None).0);
        for meta in &mut self.record.tasks {
            let items = |outcomes: &Outcomes| outcomes.get(&meta.name).map_or(0, |outcome| outcome.n);
            (meta.n_report, meta.n_select) = (items(&base), items(&base_select));
        }
        let items = &self.recipe.items;
        let few = |meta: &&TaskMeta| meta.n_report < items.report || meta.n_select < items.select;
        for meta in self.record.tasks.iter().filter(few) {
            self.record.warnings.push(format!(
                "{} has fewer items than the study asks for: {} to report on, {} to select by",
                meta.name, meta.n_report, meta.n_select
            ));
        }
        for (task, outcome) in base.iter().filter(|(_, outcome)| !outcome.bad_rows.is_empty()) {
            let (count, first) = (outcome.bad_rows.len(), &outcome.bad_rows[0]);
            self.record.warnings.push(format!(
                "{task}: {count} rows are left out; row {} of {}: {}",
                first.row,
                first.file.display(),
                first.reason
            ));
        }
        stage.end(self)?;
        Ok((base, base_select))
    }

    fn layer_scores(&mut self) -> Result<LayerScores> {
        let calibration = calibration::documents(&self.subject.text, &self.training, self.recipe.items.calibration)?;
        for (task, reason) in &self.training.without {
            self.record
                .warnings
                .push(format!("{task} is neither in the calibration text nor among the prompts to heal by: {reason}"));
        }
        let hash = calibration.hash();
        let gradients = self.recipe.cuts.strategies.iter().any(|strategy| strategy == "taylor");
        let key = identity::score_key(&self.subject.card.hash, &hash, gradients);
        let there = self.store.path("scores", &key, "json")?.exists();
        self.observer.stage("layer criteria", 1, usize::from(there));
        self.observer.cell("one pass over calibration text");
        let finished = self.store.run("scores", &key, || {
            let engine = &self.subject.text.engine;
            let what = Measures { perplexity: true, linear: true };
            let watch = lopper_infer::ProgressFn(|done, total| self.observer.work(done, total));
            let mut scores = criteria::measure(engine, &calibration, what, &watch)?;
            if gradients {
                scores.taylor = Some(criteria::taylor(engine.model(), &calibration, &watch)?);
            }
            Ok(scores)
        })?;
        self.observer.cell_done();
        self.timing("layer criteria", finished.wall_s, 1, usize::from(finished.cached));
        Ok(finished.value)
    }

    /// Every layer removed alone; for each the group mean retention.
    fn layer_map(&mut self, base: &Outcomes) -> Result<Vec<f64>> {
        let layers = self.subject.card.num_layers;
        let cuts: Vec<Asked> = (0..layers).map(|l| (lopper_record::kept(layers, &[l]), Split::Select)).collect();
        let mut stage = Stage::begin(self, "layer map", &cuts)?;
        let mut ablation = Vec::with_capacity(layers);
        for (layer, (kept, split)) in cuts.iter().enumerate() {
            let cut = stage.eval(self, kept, *split, &format!("without layer {layer}"))?;
            let kept = self.group_mean_retention(base, &cut);
            ablation.push(kept.unwrap_or(0.0));
            let (tasks, _) = self.retention(base, &cut)?;
            let diagnosis = Some(diagnose_outcomes(&cut, Some(base)).0);
            self.record.ablation.push(AblatedLayer { layer, group_mean_retention: kept, tasks, diagnosis });
        }
        stage.end(self)?;
        Ok(ablation)
    }

    /// The strategy to heal and to decide by: as the recipe says, or the one that keeps most on the
    /// selection items at the middle depth (the first listed of equal ones).
    fn main_strategy(&mut self, evidence: &Evidence<'_>, base: &Outcomes) -> Result<String> {
        let cuts = &self.recipe.cuts;
        if cuts.main != "auto" {
            return Ok(cuts.main.clone());
        }
        let depth = cuts.depths[cuts.depths.len() / 2];
        let kept = (cuts.strategies.iter())
            .map(|s| {
                Ok((lopper_record::kept(evidence.num_layers, &strategy::choose(s, depth, evidence)?), Split::Select))
            })
            .collect::<Result<Vec<Asked>>>()?;
        let mut stage = Stage::begin(self, "choice of strategy", &kept)?;
        let mut best: Option<(f64, &String)> = None;
        for (name, (kept, split)) in cuts.strategies.iter().zip(&kept) {
            let cut = stage.eval(self, kept, *split, &format!("{name} at {depth}"))?;
            let value = self.group_mean_retention(base, &cut).unwrap_or(0.0);
            if best.is_none_or(|(most, _)| value > most) {
                best = Some((value, name));
            }
        }
        stage.end(self)?;
        Ok(best.map(|(_, name)| name.clone()).unwrap_or_default())
    }

    /// Every strategy at every depth on the reporting items; returns the main one's outcomes.
    fn cuts(&mut self, evidence: &Evidence<'_>, main: &str, base: &Outcomes) -> Result<Vec<(usize, Outcomes)>> {
        let mut plan = Vec::new();
        for name in &self.recipe.cuts.strategies {
            for &depth in &self.recipe.cuts.depths {
                plan.push((name.clone(), strategy::choose(name, depth, evidence)?));
            }
        }
        // The main strategy first: an interrupted study then has what matters most.
        plan.sort_by_key(|(name, dropped)| (name != main, dropped.len()));
        let readings = self.read_sentinels(&plan)?;
        if self.recipe.sentinels.stop {
            self.stop_hopeless(&mut plan, main, &readings);
        }
        let kept: Vec<Asked> =
            plan.iter().map(|(_, d)| (lopper_record::kept(evidence.num_layers, d), Split::Report)).collect();
        let mut stage = Stage::begin(self, "cuts", &kept)?;
        let mut main_outcomes = Vec::new();
        for ((name, dropped), (kept, split)) in plan.iter().zip(&kept) {
            let what = format!("{name}: without {}", lopper_record::format_layers(dropped));
            let cut = stage.eval(self, kept, *split, &what)?;
            let mut point = self.point(name, dropped, kept, base, &cut)?;
            self.diagnose(&mut point, base, &cut, readings.get(kept).and_then(|reading| reading.perplexity));
            self.record.points.push(point);
            // An interrupted study has a report of every cut it reached.
            self.record.write(self.store.directory())?;
            if name == main {
                main_outcomes.push((dropped.len(), cut));
            }
        }
        self.show(base, &main_outcomes, None);
        stage.end(self)?;
        Ok(main_outcomes)
    }

    /// Retention by task and by group.
    fn retention(&self, base: &Outcomes, cut: &Outcomes) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
        retention(&paired(base, cut, &self.tasks.names()), self.recipe.seed)
    }

    /// The objective that layers and strategies are chosen by.
    fn group_mean_retention(&self, base: &Outcomes, cut: &Outcomes) -> Option<f64> {
        group_mean_retention(paired(base, cut, &self.tasks.names()))
    }

    fn point(&self, name: &str, dropped: &[usize], kept: &[usize], base: &Outcomes, cut: &Outcomes) -> Result<Point> {
        let (tasks, groups) = self.retention(base, cut)?;
        let card = &self.subject.card;
        let gone: u64 = dropped.iter().filter_map(|l| card.parameters_per_layer.get(*l)).sum();
        debug_assert_eq!(kept.len() + dropped.len(), card.num_layers);
        Ok(Point {
            strategy: name.to_owned(),
            removed: dropped.len(),
            dropped: dropped.to_vec(),
            tasks,
            groups,
            parameters: Some(card.parameters.saturating_sub(gone)),
            ..Point::default()
        })
    }

    /// The depth whose texts are shown: from half the deepest cut on, where both the damage and
    /// its repair are to be seen, a healed one if there is one.
    fn shown_depth(&self) -> Option<usize> {
        let depths = &self.recipe.cuts.depths;
        let deepest = depths.last()?;
        let far = |depth: &&usize| **depth * 2 >= *deepest;
        self.recipe.heal.depths.iter().find(far).or_else(|| depths.iter().find(far)).copied()
    }

    /// Puts texts of the shown depth into the record.
    fn show(&mut self, base: &Outcomes, cuts: &[(usize, Outcomes)], healed: Option<(usize, &Outcomes)>) {
        let Some(depth) = self.shown_depth() else { return };
        let healed = match healed {
            Some((d, _)) if d != depth => return,
            healed => healed.map(|(_, outcomes)| outcomes),
        };
        if let Some((_, cut)) = cuts.iter().find(|(d, _)| *d == depth) {
            self.record.samples = samples::samples(self.tasks.generative(), base, (depth, cut), healed);
        }
    }

    fn heal(&mut self, evidence: &Evidence<'_>, main: &str, base: &Outcomes, cuts: &[(usize, Outcomes)]) -> Result<()> {
        let heal = &self.recipe.heal;
        if heal.depths.is_empty() {
            return Ok(());
        }
        let responses = self.responses()?;
        let text = &self.subject.text;
        let workers = lopper_heal::Run::for_model(text.engine.model(), text.engine.threads(), &heal.recipe).workers;
        let mut there = 0;
        let mut plan = Vec::new();
        for &depth in &heal.depths {
            let dropped = strategy::choose(main, depth, evidence)?;
            let kept = lopper_record::kept(evidence.num_layers, &dropped);
            let cut = Cut { responses: &responses, kept: &kept, recipe: &heal.recipe, workers };
            there += usize::from(cut.is_finished(&self.store)?);
            let measured =
                Candidate { text, model: &self.subject.card.hash, kept: &kept, run: &[], healed: Some(cut.key()) };
            there += usize::from(self.report.missing(&self.store, &measured)?.is_empty());
            plan.push((dropped, kept));
        }
        self.observer.stage("healing", 2 * plan.len(), there);
        let (mut seconds, mut cached) = (0.0, 0);
        for (dropped, kept) in &plan {
            self.observer.cell(&format!("finetuning without {}", lopper_record::format_layers(dropped)));
            let cut = Cut { responses: &responses, kept, recipe: &heal.recipe, workers };
            let healed = cut.heal(&self.store, self.subject, self.observer)?;
            self.observer.cell_done();
            self.observer.cell(&format!("measuring {} healed", dropped.len()));
            let text = text.with_model(healed.model);
            let run: Vec<usize> = (0..kept.len()).collect();
            let candidate =
                Candidate { text: &text, model: &self.subject.card.hash, kept, run: &run, healed: Some(cut.key()) };
            let measured = self.report.outcomes(&self.store, &candidate, self.observer)?;
            let reading = self.healed_sentinel(&text, &run, kept, cut.key())?;
            self.observer.cell_done();
            seconds += healed.info.seconds + measured.seconds + reading.wall_s;
            cached += usize::from(healed.cached) + usize::from(measured.cached);
            let mut point = self.point(main, dropped, kept, base, &measured.outcomes)?;
            point.healed = Some(healed.info);
            self.diagnose(&mut point, base, &measured.outcomes, reading.value.perplexity);
            self.record.points.push(point);
            self.show(base, cuts, Some((dropped.len(), &measured.outcomes)));
            self.record.write(self.store.directory())?;
        }
        self.timing("healing", seconds, 2 * plan.len(), cached);
        self.record.write(self.store.directory())
    }

    fn responses(&mut self) -> Result<Responses> {
        let asking = Asking::new(self.subject, &self.tasks, &self.training, self.recipe)?;
        self.observer.stage("self-generated responses", 1, usize::from(asking.is_finished(&self.store)?));
        self.observer.cell("the uncut model answers");
        let (responses, seconds, cached) = asking.answers(&self.store, self.subject, self.observer)?;
        self.observer.cell_done();
        self.timing("self-generated responses", seconds, 1, usize::from(cached));
        Ok(responses)
    }

    /// The tasks on one division's items.
    pub fn questions(&self, split: Split) -> &Questions {
        if split == Split::Select { &self.select } else { &self.report }
    }

    fn timing(&mut self, stage: &str, seconds: f64, cells: usize, cached: usize) {
        self.record.timings.push(Timing { stage: stage.to_owned(), seconds, cells, cached });
    }

    fn decide(&mut self, main: &str) {
        let points: Vec<&Point> = self.record.points.iter().collect();
        let mut lines = Vec::new();
        for &threshold in &self.recipe.budget.thresholds {
            for healed in [false, true] {
                if healed && self.recipe.heal.depths.is_empty() {
                    continue;
                }
                for (group, _) in &self.tasks.groups {
                    let layers = self.subject.card.num_layers;
                    lines.push(budget::decide(&points, group, threshold, healed, main, layers));
                }
            }
        }
        self.record.budget = lines;
    }
}
