//! The stages of a study, in order. After each one `study.json` is written, so that an interrupted
//! study has a report of what it reached.

use std::collections::HashSet;
use std::path::Path;

use lopper_diagnose::diagnose_outcomes;
use lopper_diagnose::sentinel::Sentinels;
use lopper_measure::{Outcomes, group_mean_retention, paired, retention};
use lopper_pocket::Split;
use lopper_prune::criteria::Measures;
use lopper_prune::{LayerScores, criteria};
use lopper_record::study::{
    AblatedLayer, GroupResult, LedgerEntry, ObjectiveTasks, Point, SCHEMA, StudyRecord, TaskMeta, TaskResult, Timing,
};
use lopper_record::{LayerPosition, LayerSet, Progress, Result, Retention, Store};

use crate::cuts::AUTO;
use crate::directory::DirectoryGuard;
use crate::eval_split::{Candidate, EvalSplit};
use crate::healing::{HealCut, ResponseGeneration, Responses};
use crate::identity::{REVISION, ScoreKey};
use crate::sentinels::PlannedCut;
use crate::stage::{CutCells, CutOnSplit, CutStage, Stage};
use crate::strategy::{self, Evidence, Strategies};
use crate::tasks::StudyTasks;
use crate::training::TrainingPrompts;
use crate::{Recipe, StudyInputs, StudyModel, budget, calibration, record, samples};

/// Runs a study in `directory`, or continues the one that is there. A study that fails before its
/// first cell is finished leaves nothing behind. `command` is the one that repeats it, for the record.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) for a recipe that this model does not allow, and for tasks that cannot be
/// prepared; [`Interrupted`](lopper_record::Interrupted), with the finished cells kept.
pub fn run(
    model: &StudyModel,
    recipe: &Recipe,
    inputs: &StudyInputs,
    directory: &Path,
    command: &str,
    progress: &dyn Progress,
) -> Result<StudyRecord> {
    recipe.check()?;
    recipe.check_model(&model.numbering)?;
    let tasks = recipe.resolved_tasks()?;
    let strategies = Strategies::resolve(recipe, &model.card.hash, &model.numbering)?;
    let objective = recipe.cuts.objective.tasks(&tasks)?;
    let StudyModel { card, text, numbering } = model;
    let text = text.with_template_variables(&recipe.template)?;
    let model = &StudyModel { card: card.clone(), text, numbering: numbering.clone() };
    // What cannot be prepared is refused before anything is written.
    let StudyInputs { resources, prompts } = inputs;
    let prepare = |split| EvalSplit::prepare(&model.text, &tasks, recipe, resources, split);
    let (report, select) = (prepare(Split::Report)?, prepare(Split::Select)?);
    let policy = recipe.generation_policy();
    let source = (&policy, resources);
    let training = TrainingPrompts::gather(&model.text, &tasks, source, prompts.as_deref(), &[&report, &select])?;
    let mut warnings = strategies.remarks(&recipe.cuts.depths);
    if !recipe.heal.depths.is_empty() {
        warnings.extend(ResponseGeneration::new(model, &tasks, &training, recipe)?.check()?);
    }
    let guard = DirectoryGuard::new(directory);
    let store = Store::open(directory)?;
    let record = StudyRecord {
        schema: SCHEMA,
        lopper_version: env!("CARGO_PKG_VERSION").into(),
        command: command.to_owned(),
        model: card.clone(),
        recipe: serde_json::to_value(recipe)?,
        policy: serde_json::to_value(&policy)?,
        seeds: record::seeds(recipe)?,
        splits: record::splits(recipe, &tasks, &objective),
        objective: Some(ObjectiveTasks { chosen: recipe.cuts.objective.summary(), tasks: objective.clone() }),
        tasks: tasks.entries.iter().map(|entry| entry.meta(recipe.items.report, recipe.items.select)).collect(),
        warnings,
        ..StudyRecord::default()
    };
    let mut study = Study {
        model,
        recipe,
        tasks: &tasks,
        strategies: &strategies,
        objective,
        training: &training,
        store: &store,
        cells: CutCells { model, store: &store, report: &report, select: &select },
        progress,
        used: HashSet::new(),
        sentinels: None,
        record,
        ledger: Vec::new(),
    };
    if let Err(error) = study.stages() {
        guard.clear_if_unused();
        return Err(error);
    }
    Ok(study.record)
}

/// A study that is running.
pub struct Study<'a> {
    pub model: &'a StudyModel,
    pub recipe: &'a Recipe,
    pub tasks: &'a StudyTasks,
    pub strategies: &'a Strategies,
    /// The tasks that layers and strategies are chosen by.
    pub objective: Vec<String>,
    pub training: &'a TrainingPrompts,
    pub store: &'a Store,
    pub cells: CutCells<'a>,
    pub progress: &'a dyn Progress,
    /// Cuts that a stage has used.
    pub used: HashSet<CutOnSplit>,
    /// Prepared when the first is read.
    pub sentinels: Option<Sentinels>,
    pub record: StudyRecord,
    /// Every item that a cut lost or gained.
    pub ledger: Vec<LedgerEntry>,
}

impl<'a> Study<'a> {
    fn stages(&mut self) -> Result<()> {
        let (base, base_select) = self.uncut()?;
        self.check_searchable(&base_select)?;
        let scores = self.layer_scores()?;
        self.record.criteria = record::criteria(&scores);
        let ablation = self.layer_map(&base_select)?;
        let searched = self.searches(&base_select)?;
        let evidence = Evidence {
            num_layers: self.model.card.num_layers,
            scores: &scores,
            ablation: &ablation,
            keep: &self.model.numbering.positions(&self.recipe.cuts.keep)?,
            seed: self.recipe.seed,
            strategies: self.strategies,
            searched: &searched,
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

    /// Begins a stage that evaluates `cuts`.
    fn cut_stage(&mut self, name: &str, cuts: &[CutOnSplit]) -> Result<CutStage<'a>> {
        CutStage::begin(self.cells, &mut self.used, self.progress, name, cuts)
    }

    /// Enters a finished stage into the record and writes it.
    pub fn finish(&mut self, timing: impl Into<Option<Timing>>) -> Result<()> {
        self.record.timings.extend(timing.into());
        self.record.write(self.store.directory())
    }

    /// The uncut model on the reporting and on the selection items.
    fn uncut(&mut self) -> Result<(Outcomes, Outcomes)> {
        let on = |split| CutOnSplit { kept: self.model.layers(), split };
        let (report, select) = (on(Split::Report), on(Split::Select));
        let mut stage = self.cut_stage("uncut model", &[report.clone(), select.clone()])?;
        let base = stage.outcomes(&report, "reporting items")?;
        let base_select = stage.outcomes(&select, "selection items")?;
        let (tasks, groups) = self.retention(&base, &base)?;
        let mut point = Point { strategy: String::new(), tasks, groups, ..Point::default() };
        point.tasks.iter_mut().for_each(|t| t.retention = None);
        // Against itself it keeps all, unless it scores too little for a ratio to mean anything.
        point.groups.iter_mut().for_each(|g| g.retention = g.retention.map(|_| Retention::uncut(g.score.n)));
        point.parameters = Some(self.model.card.parameters);
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
        self.finish(stage.timing())?;
        Ok((base, base_select))
    }

    fn layer_scores(&mut self) -> Result<LayerScores> {
        let text = &self.model.text;
        let calibration = calibration::documents(text, self.training, self.recipe.items.calibration)?;
        for (task, reason) in &self.training.without {
            self.record
                .warnings
                .push(format!("{task} is neither in the calibration text nor among the prompts to heal by: {reason}"));
        }
        let gradients = self.strategies.need_gradients();
        let (model, hash) = (&self.model.card.hash, calibration.hash());
        let key = ScoreKey { revision: REVISION, model, calibration: &hash, gradients };
        let found = self.store.path("scores", &key, "json")?.exists();
        let mut stage = Stage::begin(self.progress, "layer criteria", 1, usize::from(found));
        let finished = self.store.run("scores", &key, || {
            let progress = stage.cell("one pass over calibration text");
            let what = Measures { perplexity: true, linear: true };
            let mut scores = criteria::measure(&text.engine, &calibration, what, progress)?;
            if gradients {
                scores.taylor = Some(criteria::taylor(text.engine.model(), &calibration, progress)?);
            }
            Ok(scores)
        })?;
        stage.count(finished.wall_s, finished.cached)?;
        self.record.timings.push(stage.timing());
        Ok(finished.value)
    }

    /// Every layer removed alone; for each the group mean retention.
    fn layer_map(&mut self, base: &Outcomes) -> Result<Vec<f64>> {
        let layers = self.model.layers();
        let cuts: Vec<CutOnSplit> =
            layers.iter().map(|layer| self.cut(&LayerSet::from_iter([layer]), Split::Select)).collect();
        let mut stage = self.cut_stage("layer map", &cuts)?;
        let mut ablation = Vec::with_capacity(layers.len());
        for (layer, cut) in self.model.numbering.present().iter().zip(&cuts) {
            let outcomes = stage.outcomes(cut, &format!("without layer {layer}"))?;
            let group_mean_retention = self.group_mean_retention(base, &outcomes);
            ablation.push(group_mean_retention.unwrap_or(0.0));
            let (tasks, _) = self.retention(base, &outcomes)?;
            let diagnosis = Some(diagnose_outcomes(&outcomes, Some(base)).0);
            self.record.ablation.push(AblatedLayer { layer: layer.into(), group_mean_retention, tasks, diagnosis });
        }
        self.finish(stage.timing())?;
        Ok(ablation)
    }

    /// The strategy to heal and to decide by: as the recipe says, or the one that keeps most on the
    /// selection items at the middle depth (the first listed of equal ones).
    fn main_strategy(&mut self, evidence: &Evidence<'_>, base: &Outcomes) -> Result<String> {
        let cuts = &self.recipe.cuts;
        if cuts.main != AUTO {
            return Ok(cuts.main.clone());
        }
        let (depth, strategies) = (cuts.middle_depth(), self.strategies.candidates(self.recipe));
        let chosen = |name: &&str| Ok(self.cut(&strategy::choose(name, depth, evidence)?, Split::Select));
        let chosen: Vec<CutOnSplit> = strategies.iter().map(chosen).collect::<Result<_>>()?;
        let mut stage = self.cut_stage("choice of strategy", &chosen)?;
        let mut best: Option<(f64, &str)> = None;
        for (name, cut) in strategies.into_iter().zip(&chosen) {
            let outcomes = stage.outcomes(cut, &format!("{name} at {depth}"))?;
            let value = self.group_mean_retention(base, &outcomes).unwrap_or(0.0);
            if best.is_none_or(|(most, _)| value > most) {
                best = Some((value, name));
            }
        }
        self.finish(stage.timing())?;
        Ok(best.map(|(_, name)| name.to_owned()).unwrap_or_default())
    }

    /// Every strategy at every depth on the reporting items; returns the main one's outcomes.
    fn cuts(&mut self, evidence: &Evidence<'_>, main: &str, base: &Outcomes) -> Result<Vec<(usize, Outcomes)>> {
        let mut plan = Vec::new();
        for strategy in self.strategies.names() {
            for &depth in self.recipe.cuts.depths.iter().filter(|depth| self.strategies.gives(strategy, **depth)) {
                let dropped = strategy::choose(strategy, depth, evidence)?;
                plan.push(PlannedCut { strategy: strategy.to_owned(), dropped });
            }
        }
        // The main strategy first: an interrupted study then has what matters most.
        plan.sort_by_key(|cut| (cut.strategy != main, cut.dropped.len()));
        let readings = self.read_sentinels(&plan)?;
        if self.recipe.sentinels.stop {
            self.stop_collapsed(&mut plan, main, &readings);
        }
        let cuts: Vec<CutOnSplit> = plan.iter().map(|planned| self.cut(&planned.dropped, Split::Report)).collect();
        let mut stage = self.cut_stage("cuts", &cuts)?;
        let mut main_outcomes = Vec::new();
        for (PlannedCut { strategy, dropped }, cut) in plan.iter().zip(&cuts) {
            let what = format!("{strategy}: without {}", self.model.originals(dropped)?);
            let outcomes = stage.outcomes(cut, &what)?;
            let mut point = self.point(strategy, dropped, base, &outcomes)?;
            let perplexity = readings.get(&cut.kept).and_then(|reading| reading.perplexity);
            self.diagnose(&mut point, base, &outcomes, perplexity);
            self.record.points.push(point);
            // An interrupted study has a report of every cut it reached.
            self.record.write(self.store.directory())?;
            if strategy == main {
                main_outcomes.push((dropped.len(), outcomes));
            }
        }
        self.show(base, &main_outcomes, None);
        self.finish(stage.timing())?;
        Ok(main_outcomes)
    }

    fn cut(&self, dropped: &LayerSet<LayerPosition>, split: Split) -> CutOnSplit {
        CutOnSplit { kept: self.model.without(dropped), split }
    }

    /// Retention by task and by group.
    fn retention(&self, base: &Outcomes, cut: &Outcomes) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
        retention(&paired(base, cut, &self.tasks.names()))
    }

    /// The objective that layers and strategies are chosen by, over the tasks that choose.
    fn group_mean_retention(&self, base: &Outcomes, cut: &Outcomes) -> Option<f64> {
        group_mean_retention(paired(base, cut, &self.objective))
    }

    fn point(
        &self,
        strategy: &str,
        dropped: &LayerSet<LayerPosition>,
        base: &Outcomes,
        cut: &Outcomes,
    ) -> Result<Point> {
        let (tasks, groups) = self.retention(base, cut)?;
        let card = &self.model.card;
        let removed: u64 = dropped.indices().filter_map(|layer| card.parameters_per_layer.get(layer)).sum();
        Ok(Point {
            strategy: strategy.to_owned(),
            removed: dropped.len(),
            dropped: self.model.originals(dropped)?,
            tasks,
            groups,
            parameters: Some(card.parameters.saturating_sub(removed)),
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
        let (text, model) = (&self.model.text, &self.model.card.hash);
        let workers = lopper_heal::Run::for_model(text.engine.model(), text.engine.threads(), &heal.recipe).workers;
        let mut found = 0;
        let mut plan = Vec::new();
        for &depth in &heal.depths {
            let dropped = strategy::choose(main, depth, evidence)?;
            let kept = self.model.without(&dropped);
            let cut = HealCut { responses: &responses, kept: &kept, recipe: &heal.recipe, workers };
            found += usize::from(cut.is_finished(self.store)?);
            let healed = Candidate { text, model, kept: &kept, run: LayerSet::default(), healed: Some(cut.key()) };
            found += usize::from(self.cells.report.missing(self.store, &healed)?.is_empty());
            plan.push((dropped, kept));
        }
        let mut stage = Stage::begin(self.progress, "healing", 2 * plan.len(), found);
        for (dropped, kept) in &plan {
            let progress = stage.cell(&format!("finetuning without {}", self.model.originals(dropped)?));
            let cut = HealCut { responses: &responses, kept, recipe: &heal.recipe, workers };
            let healed = cut.heal(self.store, self.model, progress)?;
            stage.count(healed.info.seconds, healed.cached)?;
            let progress = stage.cell(&format!("measuring {} healed", dropped.len()));
            let text = text.with_model(healed.model);
            let run = LayerSet::all(kept.len());
            let candidate = Candidate { text: &text, model, kept, run: run.clone(), healed: Some(cut.key()) };
            let found = self.cells.report.outcomes(self.store, &candidate, progress)?;
            let reading = self.healed_sentinel(&text, &run, kept, cut.key(), progress)?;
            stage.count(found.seconds + reading.wall_s, found.cached)?;
            let mut point = self.point(main, dropped, base, &found.outcomes)?;
            point.healed = Some(healed.info);
            self.diagnose(&mut point, base, &found.outcomes, reading.value.perplexity);
            self.record.points.push(point);
            self.show(base, cuts, Some((dropped.len(), &found.outcomes)));
            self.record.write(self.store.directory())?;
        }
        self.finish(stage.timing())
    }

    /// The uncut model's responses to the training prompts.
    fn responses(&mut self) -> Result<Responses<'a>> {
        let generation = ResponseGeneration::new(self.model, self.tasks, self.training, self.recipe)?;
        let found = usize::from(generation.is_finished(self.store)?);
        let mut stage = Stage::begin(self.progress, "self-generated responses", 1, found);
        let progress = stage.cell("the uncut model responds");
        let (responses, seconds, cached) = generation.run(self.store, progress)?;
        stage.count(seconds, cached)?;
        self.record.timings.push(stage.timing());
        Ok(responses)
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
                    let layers = self.model.card.num_layers;
                    lines.push(budget::decide(&points, group, threshold, healed, main, layers));
                }
            }
        }
        self.record.budget = lines;
    }
}
