//! How long the parts of a study take on this machine: measured on samples of the study's own items, prompts and
//! answers, which grow for about a minute in all.

use std::ops::Range;
use std::time::Instant;

use lopper_diagnose::sentinel::Sentinels;
use lopper_heal::HealRecipe;
use lopper_measure::evaluate;
use lopper_prune::Calibration;
use lopper_prune::criteria;
use lopper_record::{LayerPosition, LayerSet, LayerSlot, NoProgress, Progress, Result, Step};
use lopper_stats::mean;

use crate::eval_split::EvalSplit;
use crate::healing::ResponseGeneration;
use crate::prepared::Prepared;
use crate::runner::Study;
use crate::{calibration, speed};

/// Seconds that one part's samples may take; a single item, prompt or document is measured however long it takes.
const SECONDS_OF_A_PART: f64 = 5.0;
/// Single removals that are evaluated together, as the stages of a study do.
const TOGETHER: usize = 12;

/// Seconds of each part.
#[derive(Debug, Default)]
pub struct Rates {
    groups: Vec<GroupRates>,
    /// One document of calibration text through all criteria.
    pub document: f64,
    /// The sentinels of one cut.
    pub sentinels: f64,
    /// One answer to learn from.
    pub answer: f64,
    /// Learning from one answer once, with all layers.
    pub learning: f64,
    /// All rounds of measuring one model's speed.
    pub speed: f64,
    /// What measuring took.
    pub measuring: f64,
}

/// The items of a group of tasks.
#[derive(Debug, Default)]
struct GroupRates {
    tasks: Vec<String>,
    /// Seconds an item for the uncut model.
    uncut: f64,
    /// Seconds an item for a cut of so many layers by itself: fewer layers, and answers of another length.
    deepest: (usize, f64),
    /// Seconds an item and removal where single removals are evaluated together.
    removal: f64,
    /// Bytes that are recorded for an item.
    bytes: f64,
}

impl GroupRates {
    /// Seconds an item for a cut of `removed` layers by itself.
    fn of_cut(&self, removed: usize) -> f64 {
        let (depth, seconds) = self.deepest;
        let part = removed.min(depth) as f64 / depth.max(1) as f64;
        self.uncut + (seconds - self.uncut) * part
    }
}

impl Rates {
    /// Seconds to evaluate a cut of `removed` layers on the items that `split` has of `tasks`, by itself.
    pub fn cut(&self, split: &EvalSplit, tasks: &[String], removed: usize) -> f64 {
        self.of_items(split, tasks, |group| group.of_cut(removed))
    }

    /// Seconds for the removal of one more layer of a model without `removed`, evaluated together with others.
    pub fn removal(&self, split: &EvalSplit, tasks: &[String], removed: usize) -> f64 {
        self.of_items(split, tasks, |group| {
            let shorter = group.of_cut(removed + 1) / group.of_cut(1).max(f64::MIN_POSITIVE);
            group.removal * shorter
        })
    }

    /// The part of a cut's own time that it takes where single removals are evaluated together.
    pub fn shared(&self) -> f64 {
        let shares: Vec<f64> = self.groups.iter().map(|group| group.removal / group.of_cut(1)).collect();
        let shares: Vec<f64> = shares.into_iter().filter(|share| share.is_finite()).collect();
        if shares.is_empty() { 1.0 } else { mean(&shares).min(1.0) }
    }

    /// Bytes that the evaluation of one model on the items of `split` leaves.
    pub fn bytes(&self, split: &EvalSplit, tasks: &[String]) -> f64 {
        self.of_items(split, tasks, |group| group.bytes)
    }

    fn of_items(&self, split: &EvalSplit, tasks: &[String], an_item: impl Fn(&GroupRates) -> f64) -> f64 {
        let of_group = |group: &GroupRates| {
            let items: usize =
                group.tasks.iter().filter(|task| tasks.contains(task)).map(|task| split.items_of(task)).sum();
            items as f64 * an_item(group)
        };
        self.groups.iter().map(of_group).sum()
    }
}

/// Measures them.
pub fn measure(prepared: &Prepared<'_>, study: &mut Study<'_>, progress: &dyn Progress) -> Result<Rates> {
    let began = Instant::now();
    let healed = !prepared.recipe.heal.depths.is_empty();
    let parts =
        3 * prepared.tasks.groups.len() + 2 + usize::from(prepared.recipe.speed.measure) + 2 * usize::from(healed);
    let step = progress.step(Step::new("measuring", "parts", parts));
    let mut meter = Meter { prepared, progress: &*step, done: 0 };
    let mut rates = Rates::default();
    for (_, tasks) in &prepared.tasks.groups {
        rates.groups.push(meter.group(tasks)?);
    }
    rates.document = meter.document(study)?;
    rates.sentinels = meter.sentinels(study)?;
    if prepared.recipe.speed.measure {
        meter.begin("speed")?;
        rates.speed = speed::seconds_of_a_model(&prepared.model.text.engine)?;
    }
    if healed {
        (rates.answer, rates.learning) = meter.healing()?;
    }
    rates.measuring = began.elapsed().as_secs_f64();
    Ok(rates)
}

struct Meter<'a> {
    prepared: &'a Prepared<'a>,
    progress: &'a dyn Progress,
    done: usize,
}

impl Meter<'_> {
    fn begin(&mut self, what: &str) -> Result<()> {
        self.progress.set(self.done);
        self.progress.message(what);
        self.done += 1;
        self.progress.check()
    }

    fn group(&mut self, tasks: &[String]) -> Result<GroupRates> {
        let Prepared { report: split, model, recipe, .. } = self.prepared;
        let layers = model.card.num_layers;
        let members: Vec<&str> =
            tasks.iter().flat_map(|name| split.members(name)).map(|member| member.name.as_str()).collect();
        let counts = split.suite.tasks().zip(split.suite.items()).filter(|(name, _)| members.contains(name));
        let counts: Vec<usize> = counts.map(|(_, items)| items).collect();
        let most = counts.iter().copied().max().unwrap_or(0);
        let sampled = |n: usize| counts.iter().map(|items| items.min(&n)).sum::<usize>().max(1) as f64;
        // A unit is one item of each task that has so many.
        let per_item = |sample: Sample| sample.per_unit(most) * most as f64 / sampled(most);
        let run = |range: Range<usize>, cuts: &[LayerSet<LayerPosition>]| {
            let suite = split.suite.part(|name| members.contains(&name).then(|| range.clone()));
            let runs: Vec<LayerSet<LayerSlot>> = cuts.iter().map(LayerSet::slots).collect();
            Ok(evaluate(&model.text, &suite, &runs, &split.execution, &NoProgress)?.outcomes)
        };
        self.begin(&format!("the uncut model on {}", tasks.join(", ")))?;
        // What is read or packed for the first time is not counted.
        let uncut = [model.layers()];
        let first = run(0..1, &uncut)?;
        let bytes = serde_json::to_vec(&first)?.len() as f64 / sampled(1);
        let sample = grown(most, self.progress, |n| run(0..n, &uncut).map(drop))?;
        let uncut = per_item(sample);

        let deepest = recipe.cuts.depths.last().copied().unwrap_or(1);
        self.begin("a deep cut")?;
        let cut = [model.without(&spread(layers, deepest))];
        let deepest = (deepest, per_item(grown(most, self.progress, |n| run(0..n, &cut).map(drop))?));

        self.begin("single removals")?;
        let removals: Vec<_> =
            spread(layers, TOGETHER.min(layers - 1)).iter().map(|layer| LayerSet::from_iter([layer])).collect();
        let removals: Vec<_> = removals.iter().map(|layer| model.without(layer)).collect();
        let sample = grown(most, self.progress, |n| run(0..n, &removals).map(drop))?;
        let removal = per_item(sample) / removals.len().max(1) as f64;
        Ok(GroupRates { tasks: tasks.to_vec(), uncut, deepest, removal, bytes })
    }

    /// Seconds a document of calibration text.
    fn document(&mut self, study: &Study<'_>) -> Result<f64> {
        self.begin("layer criteria")?;
        let Prepared { model, recipe, training, strategies, .. } = self.prepared;
        let text = &model.text;
        let all = recipe.items.calibration;
        let documents = calibration::documents(text, training, all)?;
        let sequences = documents.sequences();
        let sample = grown(sequences.len(), self.progress, |n| {
            let some = Calibration::new(sequences[..n].to_vec())?;
            criteria::measure(&text.engine, &some, study.measures(), &NoProgress)?;
            if strategies.use_criterion("taylor") {
                criteria::taylor(text.engine.model(), &some, &NoProgress)?;
            }
            Ok(())
        })?;
        Ok(sample.per_unit(sequences.len()))
    }

    fn sentinels(&mut self, study: &mut Study<'_>) -> Result<f64> {
        self.begin("sentinels")?;
        let text = &self.prepared.model.text;
        let sentinels = Sentinels::prepare(text, &study.sentinel_options())?;
        let began = Instant::now();
        sentinels.probe(text, &[self.prepared.model.layers().slots()], &NoProgress)?;
        Ok(began.elapsed().as_secs_f64())
    }

    /// Seconds an answer of the uncut model, and learning from one.
    fn healing(&mut self) -> Result<(f64, f64)> {
        self.begin("answers to learn from")?;
        let Prepared { model, recipe, tasks, training, .. } = self.prepared;
        let generation = ResponseGeneration::new(model, tasks, training, recipe)?;
        let mut examples = None;
        let answers = grown(generation.len(), self.progress, |n| {
            examples = Some(generation.sample(n)?);
            Ok(())
        })?;
        let answer = answers.per_unit(generation.len());
        self.begin("training")?;
        let documents = examples.map(|examples| examples.documents).unwrap_or_default();
        let engine = &model.text.engine;
        let once = HealRecipe { epochs: 1, ..recipe.heal.recipe.clone() };
        let run = lopper_heal::Run::for_model(engine.model(), engine.threads(), &once);
        let learning = grown(documents.len(), self.progress, |n| {
            lopper_heal::heal(engine.model(), &model.layers(), &documents[..n], &once, &run, &NoProgress).map(drop)
        })?;
        Ok((answer, learning.per_unit(generation.len())))
    }
}

/// `count` of `layers` layers, spread over all but the first.
fn spread(layers: usize, count: usize) -> LayerSet<LayerPosition> {
    (0..count).map(|at| 1 + at * (layers - 1) / count.max(1)).collect()
}

/// A sample of some work: so many units, and what they took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sample {
    units: usize,
    seconds: f64,
    /// Seconds of each unit more: many together take less each than few.
    slope: f64,
}

impl Sample {
    /// Seconds of each unit where there are `all` of them.
    fn per_unit(&self, all: usize) -> f64 {
        let more = all.saturating_sub(self.units) as f64;
        let seconds = self.seconds + self.slope * more;
        seconds / self.units.max(all).max(1) as f64
    }
}

/// Does `work` on 1, 2, 4, … of `all` units, until more would take too long.
fn grown(all: usize, progress: &dyn Progress, mut work: impl FnMut(usize) -> Result<()>) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut units = 1.min(all);
    while units > 0 {
        progress.check()?;
        let began = Instant::now();
        work(units)?;
        sample = sample.then(units, began.elapsed().as_secs_f64());
        // Twice as many take up to twice as long, and as long as all before them together.
        if units == all || 3.0 * sample.seconds > SECONDS_OF_A_PART {
            break;
        }
        units = all.min(2 * units);
    }
    Ok(sample)
}

impl Sample {
    /// The next sample, of more units.
    fn then(self, units: usize, seconds: f64) -> Self {
        let mean = seconds / units as f64;
        let slope = (seconds - self.seconds) / (units - self.units).max(1) as f64;
        // A machine that is busy at times makes any slope; the work itself none above the mean, nor far below it.
        Self { units, seconds, slope: slope.clamp(0.3 * mean, mean) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_grow_until_they_are_all_or_long_enough() {
        let mut seen = Vec::new();
        let sample = grown(5, &NoProgress, |n| {
            seen.push(n);
            Ok(())
        })
        .unwrap();
        assert_eq!((sample.units, seen), (5, vec![1, 2, 4, 5]));
        assert_eq!(grown(0, &NoProgress, |_| unreachable!()).unwrap(), Sample::default());
    }

    #[test]
    fn many_units_take_less_each_than_few() {
        let sample = Sample::default().then(1, 2.0);
        assert_eq!(sample.per_unit(10), 2.0);
        // Two more units took one second.
        let sample = sample.then(3, 3.0);
        assert_eq!((sample.slope, sample.per_unit(3), sample.per_unit(7)), (0.5, 1.0, 5.0 / 7.0));
        // Of a machine that was busy.
        assert_eq!(sample.then(6, 2.0).slope, 0.3 * 2.0 / 6.0);
        assert_eq!(sample.then(6, 60.0).slope, 10.0);
        assert_eq!(Sample::default().per_unit(0), 0.0);
    }

    #[test]
    fn layers_are_spread_over_all_but_the_first() {
        assert_eq!(spread(12, 3), LayerSet::from([1, 4, 8]));
        assert_eq!(spread(4, 3), LayerSet::from([1, 2, 3]));
    }

    #[test]
    fn a_cut_lies_between_the_uncut_model_and_the_deepest() {
        let group = GroupRates { uncut: 4.0, deepest: (8, 2.0), ..GroupRates::default() };
        assert_eq!([0, 4, 8, 9].map(|removed| group.of_cut(removed)), [4.0, 3.0, 2.0, 2.0]);
        // Broken models may answer at greater length.
        let group = GroupRates { uncut: 4.0, deepest: (8, 6.0), ..GroupRates::default() };
        assert_eq!(group.of_cut(4), 5.0);
    }
}
