//! The stages of a study, in order. After each one `study.json` is written, so that an interrupted
//! study has a report of what it reached.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use lopper_infer::TextModel;
use lopper_pocket::{Mixture, Split, Stream};
use lopper_prune::{Calibration, LayerScores, criteria};
use lopper_record::study::{
    AblatedLayer, CLASSIFICATION, GENERATIVE, ModelCard, Point, SCHEMA, StudyRecord, Timing,
};
use lopper_record::{Retention, Store};

use crate::healing::{self, Responses};
use crate::measure::{Candidate, Outcomes, Suites, compare, mean_retention, outcomes};
use crate::observer::StudyObserver;
use crate::strategy::{self, Evidence};
use crate::{Recipe, budget, identity, record, samples};

/// Seed of the calibration documents; no other use of the stream has it.
const CALIBRATION_SEED: u64 = 0x5c0e;

/// The model under study.
pub struct Subject {
    /// What is known about it before anything is measured.
    pub card: ModelCard,
    /// The model with its text side.
    pub text: TextModel,
}

/// Runs a study in `directory`, or continues the one that is there.
pub fn run(
    subject: &Subject,
    recipe: &Recipe,
    directory: &Path,
    command: &str,
    observer: &dyn StudyObserver,
) -> Result<StudyRecord> {
    recipe.check()?;
    recipe.check_model(subject.card.num_layers)?;
    let store = Store::open(directory)?;
    let groups = [
        (CLASSIFICATION, recipe.tasks.classification.as_slice()),
        (GENERATIVE, recipe.tasks.generative.as_slice()),
    ];
    let groups: Vec<(&str, &[String])> = groups.into_iter().filter(|(_, tasks)| !tasks.is_empty()).collect();
    let record = StudyRecord {
        schema: SCHEMA,
        lopper_version: env!("CARGO_PKG_VERSION").into(),
        command: command.to_owned(),
        model: subject.card.clone(),
        recipe: serde_json::to_value(recipe)?,
        seeds: record::seeds(recipe),
        splits: record::splits(recipe),
        tasks: record::tasks(recipe),
        ..StudyRecord::default()
    };
    let tasks = recipe.task_names();
    let mut study = Study { subject, recipe, store, suites: Suites::default(), groups, tasks, observer, record };
    study.stages()?;
    Ok(study.record)
}

struct Study<'a> {
    subject: &'a Subject,
    recipe: &'a Recipe,
    store: Store,
    suites: Suites,
    groups: Vec<(&'a str, &'a [String])>,
    tasks: Vec<String>,
    observer: &'a dyn StudyObserver,
    record: StudyRecord,
}

impl Study<'_> {
    fn stages(&mut self) -> Result<()> {
        let layers = self.subject.card.num_layers;
        let all: Vec<usize> = (0..layers).collect();

        // Cells of this stage: both splits.
        let mut stage = Stage::begin(self, "uncut model", 2, &[&all, &all], &[Split::Report, Split::Select])?;
        let base = stage.eval(self, &all, Split::Report, "reporting items")?;
        let base_select = stage.eval(self, &all, Split::Select, "selection items")?;
        let (tasks, groups) = compare(&base, &base, &self.groups, self.recipe.seed)?;
        let mut point = Point { strategy: String::new(), tasks, groups, ..Point::default() };
        point.tasks.iter_mut().for_each(|t| t.retention = None);
        point.groups.iter_mut().for_each(|g| g.retention = Some(Retention::uncut(g.score.n)));
        point.parameters = Some(self.subject.card.parameters);
        self.record.base = Some(point);
        stage.end(self)?;

        let scores = self.layer_scores()?;
        self.record.criteria = record::criteria(&scores);

        let kept_without: Vec<Vec<usize>> = (0..layers).map(|l| lopper_record::kept(layers, &[l])).collect();
        let lists: Vec<&[usize]> = kept_without.iter().map(Vec::as_slice).collect();
        let mut stage = Stage::begin(self, "layer map", layers, &lists, &vec![Split::Select; layers])?;
        let mut ablation = Vec::with_capacity(layers);
        for (layer, kept) in kept_without.iter().enumerate() {
            let cut = stage.eval(self, kept, Split::Select, &format!("without layer {layer}"))?;
            ablation.push(mean_retention(&base_select, &cut, &self.groups));
            let (tasks, _) = compare(&base_select, &cut, &self.groups, self.recipe.seed)?;
            self.record.ablation.push(AblatedLayer { layer, tasks });
        }
        stage.end(self)?;

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
        self.record.warnings.extend(self.store.take_warnings());
        self.record.complete = true;
        self.record.write(self.store.directory())
    }

    fn layer_scores(&mut self) -> Result<LayerScores> {
        let documents = Stream::at(CALIBRATION_SEED, 0, &Mixture::default()).take(self.recipe.items.calibration);
        let calibration = Calibration::new(documents.map(|d| d.tokens).collect())?;
        let hash = calibration.hash();
        let key = identity::score_key(&self.subject.card.hash, &hash);
        let cached = self.store.get::<LayerScores>("scores", &key)?.is_some();
        self.observer.stage("layer criteria", 1, usize::from(cached));
        self.observer.cell("one pass over calibration text");
        let finished = self.store.run("scores", &key, || {
            let done = std::sync::atomic::AtomicUsize::new(0);
            criteria::measure(self.subject.text.engine.model(), &calibration, &|tokens| {
                let before = done.fetch_add(tokens, std::sync::atomic::Ordering::Relaxed);
                self.observer.work(before + tokens, calibration.tokens());
                self.subject.text.engine.check_interrupt()
            })
        })?;
        self.observer.cell_done();
        let timing = Timing { stage: "layer criteria".into(), seconds: finished.wall_s, cells: 1, cached: usize::from(cached) };
        self.record.timings.push(timing);
        Ok(finished.value)
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
            .map(|s| Ok(lopper_record::kept(evidence.num_layers, &strategy::choose(s, depth, evidence)?)))
            .collect::<Result<Vec<_>>>()?;
        let lists: Vec<&[usize]> = kept.iter().map(Vec::as_slice).collect();
        let mut stage = Stage::begin(self, "choice of strategy", lists.len(), &lists, &vec![Split::Select; lists.len()])?;
        let mut best: Option<(f64, &String)> = None;
        for (name, kept) in cuts.strategies.iter().zip(&kept) {
            let cut = stage.eval(self, kept, Split::Select, &format!("{name} at {depth}"))?;
            let value = mean_retention(base, &cut, &self.groups);
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
        let kept: Vec<Vec<usize>> = plan.iter().map(|(_, d)| lopper_record::kept(evidence.num_layers, d)).collect();
        let lists: Vec<&[usize]> = kept.iter().map(Vec::as_slice).collect();
        let mut stage = Stage::begin(self, "cuts", plan.len(), &lists, &vec![Split::Report; plan.len()])?;
        let mut main_outcomes = Vec::new();
        for ((name, dropped), kept) in plan.iter().zip(&kept) {
            let what = format!("{name}: without {}", lopper_record::format_layers(dropped));
            let cut = stage.eval(self, kept, Split::Report, &what)?;
            let point = self.point(name, dropped, kept, base, &cut)?;
            self.record.points.push(point);
            if name == main {
                main_outcomes.push((dropped.len(), cut));
            }
        }
        stage.end(self)?;
        Ok(main_outcomes)
    }

    fn point(&self, name: &str, dropped: &[usize], kept: &[usize], base: &Outcomes, cut: &Outcomes) -> Result<Point> {
        let (tasks, groups) = compare(base, cut, &self.groups, self.recipe.seed)?;
        let card = &self.subject.card;
        let gone: u64 = dropped.iter().filter_map(|l| card.parameters_per_layer.get(*l)).sum();
        debug_assert_eq!(kept.len() + dropped.len(), card.num_layers);
        Ok(Point {
            strategy: name.to_owned(),
            removed: dropped.len(),
            dropped: dropped.to_vec(),
            tasks,
            groups,
            parameters: Some(card.parameters - gone),
            ..Point::default()
        })
    }

    fn heal(
        &mut self,
        evidence: &Evidence<'_>,
        main: &str,
        base: &Outcomes,
        cuts: &[(usize, Outcomes)],
    ) -> Result<()> {
        let heal = &self.recipe.heal;
        if heal.depths.is_empty() {
            return Ok(());
        }
        let responses = self.responses()?;
        let workers = self.subject.text.engine.threads();
        let mut cached = 0;
        let mut plan = Vec::new();
        for &depth in &heal.depths {
            let dropped = strategy::choose(main, depth, evidence)?;
            let kept = lopper_record::kept(evidence.num_layers, &dropped);
            cached += usize::from(healing::find(&self.store, &responses, &kept, &heal.recipe, workers)?.is_some());
            plan.push((dropped, kept));
        }
        self.observer.stage("healing", 2 * plan.len(), cached);
        let (mut seconds, mut shown) = (0.0, None);
        for (dropped, kept) in &plan {
            let depth = dropped.len();
            self.observer.cell(&format!("finetuning without {}", lopper_record::format_layers(dropped)));
            let began = Instant::now();
            let (model, info) = healing::heal(&self.store, self.subject, &responses, kept, &heal.recipe, workers, self.observer)?;
            self.observer.cell_done();
            self.observer.cell(&format!("measuring {depth} healed"));
            let text = self.subject.text.with_model(model);
            let key = identity::heal_key(kept, &heal.recipe, responses.key(), workers);
            let run: Vec<usize> = (0..kept.len()).collect();
            let candidate =
                Candidate { text: &text, model: &self.subject.card.hash, kept, run: &run, healed: Some(key) };
            let options = self.recipe.eval_options(Split::Report);
            let (cut, _, _) = outcomes(&self.store, &self.suites, &candidate, &self.tasks, &options, self.observer)?;
            self.observer.cell_done();
            seconds += began.elapsed().as_secs_f64();
            let mut point = self.point(main, dropped, kept, base, &cut)?;
            point.healed = Some(info);
            self.record.points.push(point);
            // The deepest cut that was healed at all shows best what healing can and cannot do.
            if depth * 2 >= self.recipe.cuts.depths.last().copied().unwrap_or(0) && shown.is_none() {
                shown = Some((depth, cut));
            }
        }
        let timing = Timing { stage: "healing".into(), seconds, cells: 2 * plan.len(), cached };
        self.record.timings.push(timing);
        if let Some((depth, healed)) = shown {
            if let Some((_, cut)) = cuts.iter().find(|(d, _)| *d == depth) {
                self.record.samples = samples::samples(&self.recipe.tasks.generative, base, (depth, cut), Some(&healed));
            }
        }
        self.record.write(self.store.directory())
    }

    fn responses(&mut self) -> Result<Responses> {
        let (recipe, hash) = (self.recipe, &self.subject.card.hash);
        let cached = healing::find_responses(&self.store, hash, &self.tasks, recipe)?.is_some();
        self.observer.stage("self-generated responses", 1, usize::from(cached));
        self.observer.cell("the uncut model answers");
        let (responses, seconds) = healing::responses(&self.store, self.subject, &self.tasks, recipe, self.observer)?;
        self.observer.cell_done();
        let stage = "self-generated responses".to_owned();
        self.record.timings.push(Timing { stage, seconds, cells: 1, cached: usize::from(cached) });
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
                for (group, _) in &self.groups {
                    let layers = self.subject.card.num_layers;
                    lines.push(budget::decide(&points, group, threshold, healed, main, layers));
                }
            }
        }
        self.record.budget = lines;
    }
}

/// One stage's bookkeeping.
struct Stage {
    name: String,
    cells: usize,
    cached: usize,
    seconds: f64,
}

impl Stage {
    /// Counts what is finished already, cell by cell, and announces the stage.
    fn begin(study: &Study<'_>, name: &str, cells: usize, kept: &[&[usize]], splits: &[Split]) -> Result<Self> {
        let mut cached = 0;
        for (kept, split) in kept.iter().zip(splits) {
            let options = study.recipe.eval_options(*split);
            let mut whole = true;
            for task in &study.tasks {
                let key = identity::eval_key(&study.subject.card.hash, kept, None, task, &options);
                whole &= study.store.path("eval", &key, "json")?.exists();
            }
            cached += usize::from(whole);
        }
        study.observer.stage(name, cells, cached);
        Ok(Self { name: name.to_owned(), cells, cached: 0, seconds: 0.0 })
    }

    fn eval(&mut self, study: &Study<'_>, kept: &[usize], split: Split, what: &str) -> Result<Outcomes> {
        study.observer.cell(what);
        let candidate =
            Candidate { text: &study.subject.text, model: &study.subject.card.hash, kept, run: kept, healed: None };
        let options = study.recipe.eval_options(split);
        let (outcomes, seconds, cached) = outcomes(&study.store, &study.suites, &candidate, &study.tasks, &options, study.observer)?;
        self.seconds += seconds;
        self.cached += usize::from(cached);
        study.observer.cell_done();
        Ok(outcomes)
    }

    fn end(self, study: &mut Study<'_>) -> Result<()> {
        let Self { name, cells, cached, seconds } = self;
        study.record.timings.push(Timing { stage: name, seconds, cells, cached });
        study.record.write(study.store.directory())
    }
}
