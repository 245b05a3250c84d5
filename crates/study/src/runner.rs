//! The stages of a study, in order. After each one `study.json` is written, so that an interrupted
//! study has a report of what it reached.

use std::collections::HashSet;
use std::path::Path;

use lopper_diagnose::diagnose_outcomes;
use lopper_diagnose::sentinel::Sentinels;
use lopper_measure::{Outcomes, group_mean_retention, paired, retention, uncut_results};
use lopper_pocket::Split;
use lopper_prune::criteria::Measures;
use lopper_prune::{Calibration, LayerScores, criteria};
use lopper_record::study::{
    AblatedLayer, BudgetLine, GroupResult, LedgerEntry, Point, StudyRecord, TaskMeta, TaskResult, Timing,
};
use lopper_record::{LayerPosition, LayerSet, Progress, Result, Step, Store};

use crate::better_buy::better_buys;
use crate::budget::JudgedCut;
use crate::cuts::AUTO;
use crate::directory::DirectoryGuard;
use crate::heal_stage::HealStage;
use crate::identity::{REVISION, ScoreKey};
use crate::prepared::Prepared;
use crate::sentinels::{PlannedCut, Readings};
use crate::stage::{CutCells, CutOnSplit, CutStage, Stage};
use crate::strategy::{self, Evidence, Strategies};
use crate::tasks::StudyTasks;
use crate::training::TrainingPrompts;
use crate::{Recipe, StudyInputs, StudyModel, budget, calibration, goal, record, samples};

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
    // What cannot be prepared is refused before anything is written.
    let prepared = Prepared::new(model, recipe, inputs)?;
    let guard = DirectoryGuard::new(directory);
    let store = Store::open(directory)?;
    let whole = progress.step(Step::new("study", Step::STAGES, prepared.stages()));
    let mut study = prepared.study(&store, command, &*whole)?;
    let result = study.run();
    let record = std::mem::take(&mut study.record);
    drop(study);
    drop(whole);
    if let Err(error) = result {
        drop(store);
        guard.clear_if_unused();
        return Err(error);
    }
    Ok(record)
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
    /// Stages that are finished.
    pub stages: usize,
    /// Cuts that a stage has used.
    pub used: HashSet<CutOnSplit>,
    /// Prepared when the first is read.
    pub sentinels: Option<Sentinels>,
    pub record: StudyRecord,
    /// Every item that a cut lost or gained.
    pub ledger: Vec<LedgerEntry>,
    /// What the depth budget is decided on.
    pub judged: Vec<JudgedCut>,
}

impl<'a> Study<'a> {
    fn run(&mut self) -> Result<()> {
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
        let (cuts, readings) = self.cuts(&evidence, &main, &base)?;
        let speeds = self.measure_speeds(&main)?;
        self.enter_speeds(&speeds, &main, &base, &cuts);
        self.heal(&HealStage { evidence: &evidence, main: &main, base: &base, cuts: &cuts, readings: &readings })?;
        self.decide(&main)?;
        self.warn_of_the_end(&main)?;
        self.record.better_buys = better_buys(&self.record);
        self.write_ledger()?;
        self.record.warnings.extend(self.store.take_warnings());
        self.record.complete = true;
        self.record.write(self.store.directory())
    }

    /// Decides the depth budget on what has been measured so far, and shows it.
    pub fn decide(&mut self, main: &str) -> Result<()> {
        self.record.budget = budget::decide(&self.judged, self.tasks, main, self.recipe, self.model.card.num_layers)?;
        self.progress.message(&budget::so_far(&self.record.budget));
        Ok(())
    }

    /// Whether the study has a goal whose budget no deeper cut can change, as cut or healed.
    pub fn is_answered(&self, healed: bool) -> bool {
        let of_goal = |line: &&BudgetLine| line.headline && line.healed == healed;
        self.recipe.budget.goal.is_some() && self.record.budget.iter().filter(of_goal).any(goal::is_decided)
    }

    /// Says what a study with a goal has not measured.
    fn warn_of_the_end(&mut self, main: &str) -> Result<()> {
        let Some(goal) = self.recipe.budget.parsed_goal()? else { return Ok(()) };
        let measured = |healed: bool, depth: usize| {
            let is_it = |point: &Point| point.removed == depth && point.healed.is_some() == healed;
            self.record.points.iter().any(is_it)
        };
        let mut left_out = Vec::new();
        for (healed, depths, name) in
            [(false, &self.recipe.cuts.depths, "cuts of"), (true, &self.recipe.heal.depths, "healed cuts of")]
        {
            let missing: Vec<usize> = depths.iter().copied().filter(|depth| !measured(healed, *depth)).collect();
            if !missing.is_empty() {
                left_out.push(format!("{name} {} layers", lopper_record::format_ranges(&missing)));
            }
        }
        left_out.extend(self.strategies.names().filter(|name| *name != main).map(str::to_owned));
        if !left_out.is_empty() {
            let left_out = left_out.join(", ");
            self.record.warnings.push(format!("the study ended when `{goal}` was decided; not measured: {left_out}"));
        }
        Ok(())
    }

    /// Begins a stage that evaluates `cuts`.
    fn cut_stage(&mut self, name: &str, cuts: &[CutOnSplit]) -> Result<CutStage<'a>> {
        CutStage::begin(self.cells, &mut self.used, self.progress, name, cuts)
    }

    /// Enters a finished stage into the record and writes it.
    pub fn finish(&mut self, timing: impl Into<Option<Timing>>) -> Result<()> {
        self.enter_timing(timing);
        self.record.write(self.store.directory())
    }

    /// Enters a finished stage into the record.
    pub fn enter_timing(&mut self, timing: impl Into<Option<Timing>>) {
        self.stages += 1;
        self.progress.set(self.stages);
        self.record.timings.extend(timing.into());
    }

    /// The uncut model on the reporting and on the selection items.
    fn uncut(&mut self) -> Result<(Outcomes, Outcomes)> {
        let on = |split| CutOnSplit { kept: self.model.layers(), split };
        let (report, select) = (on(Split::Report), on(Split::Select));
        let mut stage = self.cut_stage("uncut model", &[report.clone(), select.clone()])?;
        let base = stage.outcomes(&report, "reporting items")?;
        let base_select = stage.outcomes(&select, "selection items")?;
        let names = self.tasks.names();
        let (tasks, groups) = uncut_results(&names.iter().filter_map(|name| base.get(name)).collect::<Vec<_>>())?;
        let mut point = Point { strategy: String::new(), tasks, groups, ..Point::default() };
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

    /// The text that criteria are measured over.
    pub fn calibration(&self) -> Result<Calibration> {
        calibration::documents(&self.model.text, self.training, self.recipe.items.calibration)
    }

    /// What is measured over it besides the states that one pass shows. A perplexity without each layer reads the text
    /// as often as half the layers, so that of a large model is measured only where a strategy chooses by it.
    pub fn measures(&self) -> Measures {
        let small = self.model.text.engine.model().is_small();
        Measures { perplexity: small || self.strategies.use_criterion("perplexity"), linear: true }
    }

    /// The criteria over it, where an earlier run has measured them.
    pub fn found_scores(&self, calibration: &Calibration) -> Result<Option<LayerScores>> {
        self.store.get("scores", &self.score_key(&calibration.hash())?)
    }

    /// The key of the criteria, or of more of them where an earlier run has measured more.
    fn score_key<'b>(&'b self, calibration: &'b str) -> Result<ScoreKey<'b>> {
        let gradients = self.strategies.use_criterion("taylor");
        let (model, perplexity) = (&self.model.card.hash, self.measures().perplexity);
        let wanted = ScoreKey { revision: REVISION, model, calibration, gradients, perplexity };
        let more = ScoreKey { perplexity: true, ..wanted.clone() };
        let is_there =
            |key: &ScoreKey<'_>| Ok::<bool, lopper_record::Error>(self.store.path("scores", key, "json")?.exists());
        Ok(if !is_there(&wanted)? && is_there(&more)? { more } else { wanted })
    }

    fn layer_scores(&mut self) -> Result<LayerScores> {
        let calibration = self.calibration()?;
        for (task, reason) in &self.training.without {
            self.record
                .warnings
                .push(format!("{task} is neither in the calibration text nor among the prompts to heal by: {reason}"));
        }
        let hash = calibration.hash();
        let key = self.score_key(&hash)?;
        let found = self.store.path("scores", &key, "json")?.exists();
        let mut stage = Stage::begin(self.progress, "layer criteria", 1, usize::from(found));
        let finished = self.store.run("scores", &key, self.progress, || {
            let progress = stage.cell("one pass over calibration text");
            let engine = &self.model.text.engine;
            let mut scores = criteria::measure(engine, &calibration, self.measures(), progress)?;
            if key.gradients {
                scores.taylor = Some(criteria::taylor(engine.model(), &calibration, progress)?);
            }
            Ok(scores)
        })?;
        stage.count(finished.wall_s, finished.cached)?;
        self.enter_timing(stage.timing());
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

    /// Every strategy at every depth on the reporting items; returns the main one's outcomes, and all sentinels.
    fn cuts(
        &mut self,
        evidence: &Evidence<'_>,
        main: &str,
        base: &Outcomes,
    ) -> Result<(Vec<(usize, Outcomes)>, Readings)> {
        let mut plan = Vec::new();
        let goal = self.recipe.budget.parsed_goal()?;
        // Only the main strategy answers a goal.
        for strategy in self.strategies.names().filter(|name| goal.is_none() || *name == main) {
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
        if goal.is_some() {
            stage = stage.one_by_one();
        }
        let mut main_outcomes = Vec::new();
        for (PlannedCut { strategy, dropped }, cut) in plan.iter().zip(&cuts) {
            let what = format!("{strategy}: without {}", self.model.originals(dropped)?);
            let outcomes = stage.outcomes(cut, &what)?;
            let mut point = self.point(strategy, dropped, base, &outcomes)?;
            self.diagnose(&mut point, (base, &outcomes), &readings.of(&cut.kept), &readings);
            self.record.points.push(point);
            if strategy == main {
                self.judged.push(JudgedCut::new(dropped.len(), None, &paired(base, &outcomes, &self.tasks.names())));
                self.decide(main)?;
                main_outcomes.push((dropped.len(), outcomes));
            }
            // An interrupted study has a report of every cut it reached.
            self.record.write(self.store.directory())?;
            if self.is_answered(false) {
                stage.end();
                break;
            }
        }
        self.show(base, &main_outcomes, None);
        self.finish(stage.timing())?;
        Ok((main_outcomes, readings))
    }

    /// The cut without `dropped` on the items of `split`.
    pub fn cut(&self, dropped: &LayerSet<LayerPosition>, split: Split) -> CutOnSplit {
        CutOnSplit { kept: self.model.without(dropped), split }
    }

    /// Retention by task and by group.
    fn retention(&self, base: &Outcomes, cut: &Outcomes) -> Result<(Vec<TaskResult>, Vec<GroupResult>)> {
        retention(&paired(base, cut, &self.tasks.names()))
    }

    /// The objective that layers and strategies are chosen by, over the tasks that choose.
    pub fn group_mean_retention(&self, base: &Outcomes, cut: &Outcomes) -> Option<f64> {
        group_mean_retention(paired(base, cut, &self.objective))
    }

    pub fn point(
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
    pub fn show(&mut self, base: &Outcomes, cuts: &[(usize, Outcomes)], healed: Option<(usize, &Outcomes)>) {
        let Some(depth) = self.shown_depth() else { return };
        let healed = match healed {
            Some((d, _)) if d != depth => return,
            healed => healed.map(|(_, outcomes)| outcomes),
        };
        if let Some((_, cut)) = cuts.iter().find(|(d, _)| *d == depth) {
            self.record.samples = samples::samples(self.tasks.generative(), base, (depth, cut), healed);
        }
    }
}
