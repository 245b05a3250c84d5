//! Sentinels of a study: read for the uncut model, every single removal and every planned cut before the cuts are
//! measured in full. A strategy ends at the depth at which nothing is left, except the main one: it is healed, and the
//! depth budget is about it.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use lopper_diagnose::sentinel::{CollapseThresholds, SentinelOptions, Sentinels, gap_alarm_of_groups};
use lopper_diagnose::{diagnose_outcomes, ledger};
use lopper_infer::TextModel;
use lopper_measure::Outcomes;
use lopper_record::study::{Diagnosis, Point, SentinelReading, StoppedBranch};
use lopper_record::{Finished, LayerPosition, LayerSet, LayerSlot, Progress, Result};
use serde::{Deserialize, Serialize};

use crate::identity::{HealKey, REVISION, SentinelKey};
use crate::runner::Study;
use crate::stage::Stage;

/// Every item of the ledger, one JSON object a line, in the study's directory.
const LEDGER_FILE: &str = "ledger.jsonl";
/// Entries of each cause that the record keeps of each model of the main strategy.
const KEPT_ENTRIES: usize = 2;

/// Cuts whose sentinels are read together.
const TOGETHER: usize = 16;

/// A reading with its part of the wall time.
#[derive(Serialize, Deserialize)]
struct SentinelCell {
    seconds: f64,
    reading: SentinelReading,
}

/// Readings by kept layers.
pub type Readings = BTreeMap<LayerSet<LayerPosition>, SentinelReading>;

/// A cut that a strategy plans.
pub struct PlannedCut {
    pub strategy: String,
    pub dropped: LayerSet<LayerPosition>,
}

impl Study<'_> {
    fn sentinel_options(&self) -> SentinelOptions {
        let template_variables = self.recipe.template.clone();
        let reasoning_markers = self.recipe.reasoning.markers();
        SentinelOptions { seed: self.recipe.seed, template_variables, reasoning_markers, ..Default::default() }
    }

    fn sentinel_key<'b>(
        &'b self,
        kept: &'b LayerSet<LayerPosition>,
        healed: Option<HealKey<'b>>,
        options: &'b SentinelOptions,
    ) -> SentinelKey<'b> {
        SentinelKey { revision: REVISION, model: &self.model.card.hash, kept, healed, options }
    }

    fn prepare_sentinels(&mut self) -> Result<()> {
        if self.sentinels.is_none() {
            self.sentinels = Some(Sentinels::prepare(&self.model.text, &self.sentinel_options())?);
        }
        Ok(())
    }

    /// Reads the sentinels of cuts together.
    fn read_together(
        &self,
        text: &TextModel,
        cuts: &[LayerSet<LayerSlot>],
        progress: &dyn Progress,
    ) -> Result<Vec<SentinelReading>> {
        let Some(sentinels) = &self.sentinels else { return Ok(vec![SentinelReading::default(); cuts.len()]) };
        sentinels.measure(text, cuts, progress)
    }

    /// The sentinels of a healed cut, found finished or read now.
    pub fn healed_sentinel(
        &mut self,
        text: &TextModel,
        run: &LayerSet<LayerSlot>,
        kept: &LayerSet<LayerPosition>,
        healed: HealKey<'_>,
        progress: &dyn Progress,
    ) -> Result<Finished<SentinelReading>> {
        self.prepare_sentinels()?;
        let options = self.sentinel_options();
        let key = self.sentinel_key(kept, Some(healed), &options);
        self.store.run("sentinels", &key, || {
            Ok(self.read_together(text, std::slice::from_ref(run), progress)?.into_iter().next().unwrap_or_default())
        })
    }

    /// Reads the sentinels of the uncut model, of every single removal and of `plan`.
    pub fn read_sentinels(&mut self, plan: &[PlannedCut]) -> Result<Readings> {
        let removals = self.model.layers();
        let removals = removals.iter().map(|layer| self.model.without(&LayerSet::from_iter([layer])));
        let planned = plan.iter().map(|cut| self.model.without(&cut.dropped));
        let mut seen = HashSet::new();
        let cuts = std::iter::once(self.model.layers()).chain(removals).chain(planned);
        let cuts: Vec<_> = cuts.filter(|cut| seen.insert(cut.clone())).collect();

        let options = self.sentinel_options();
        let (mut readings, mut missing, mut found) = (Readings::new(), Vec::new(), Vec::new());
        for cut in &cuts {
            match self.store.get::<SentinelCell>("sentinels", &self.sentinel_key(cut, None, &options))? {
                Some(cell) => {
                    found.push(cell.seconds);
                    readings.insert(cut.clone(), cell.reading);
                }
                None => missing.push(cut.clone()),
            }
        }
        let mut stage = Stage::begin(self.progress, "sentinels", cuts.len(), found.len());
        found.into_iter().try_for_each(|seconds| stage.count(seconds, true))?;
        if !missing.is_empty() {
            stage.cell("preparing");
            self.prepare_sentinels()?;
        }
        for cuts in missing.chunks(TOGETHER) {
            let began = Instant::now();
            let slots: Vec<_> = cuts.iter().map(LayerSet::slots).collect();
            let progress = stage.cell(&format!("sentinels of {} cuts", cuts.len()));
            let read = self.read_together(&self.model.text, &slots, progress)?;
            let seconds = began.elapsed().as_secs_f64() / cuts.len() as f64;
            for (cut, reading) in cuts.iter().zip(&read) {
                let cell = SentinelCell { seconds, reading: *reading };
                self.store.put("sentinels", &self.sentinel_key(cut, None, &options), &cell, seconds)?;
                readings.insert(cut.clone(), *reading);
            }
            cuts.iter().try_for_each(|_| stage.count(seconds, false))?;
        }
        self.record.timings.push(stage.timing());
        self.enter_perplexities(&readings);
        Ok(readings)
    }

    /// Puts the perplexities of the uncut model and of the single removals into the record.
    fn enter_perplexities(&mut self, readings: &Readings) {
        let reading = |kept: &LayerSet<LayerPosition>| readings.get(kept).copied().unwrap_or_default();
        for (ablated, position) in self.record.ablation.iter_mut().zip(self.model.layers().iter()) {
            if let Some(diagnosis) = &mut ablated.diagnosis {
                enter_perplexity(diagnosis, &reading(&self.model.without(&LayerSet::from_iter([position]))));
            }
        }
        let uncut = reading(&self.model.layers());
        self.record.base.iter_mut().for_each(|base| set_perplexity(base, &uncut));
        self.record.ablation_base.iter_mut().for_each(|diagnosis| enter_perplexity(diagnosis, &uncut));
    }

    /// Takes the cuts out of `plan` that are deeper than a collapsed one of the same strategy, and records it.
    pub fn stop_collapsed(&mut self, plan: &mut Vec<PlannedCut>, main: &str, readings: &Readings) {
        let Some(base) = readings.get(&self.model.layers()) else { return };
        let mut stopped: Vec<StoppedBranch> = Vec::new();
        // By depth within each strategy, as the plan is sorted.
        plan.retain(|PlannedCut { strategy, dropped }| {
            if let Some(branch) = stopped.iter_mut().find(|branch| branch.strategy == *strategy) {
                branch.skipped.push(dropped.len());
                return false;
            }
            let reading = readings.get(&self.model.without(dropped)).copied().unwrap_or_default();
            if strategy != main
                && let Some(reason) = CollapseThresholds::default().collapsed(base, &reading)
            {
                let (strategy, removed, skipped) = (strategy.clone(), dropped.len(), vec![]);
                stopped.push(StoppedBranch { strategy, removed, reading, reason, skipped });
            }
            true
        });
        stopped.retain(|branch| !branch.skipped.is_empty());
        self.record.stopped = stopped;
    }

    /// Puts what broke in a measured cut into its point, and its failures into the ledger.
    pub fn diagnose(&mut self, point: &mut Point, base: &Outcomes, cut: &Outcomes, reading: &SentinelReading) {
        let (diagnosis, mut entries) = diagnose_outcomes(cut, Some(base));
        point.diagnosis = Some(diagnosis);
        set_perplexity(point, reading);
        point.gap = gap_alarm_of_groups(&point.groups, self.recipe.sentinels.gap);
        for entry in &mut entries {
            entry.strategy.clone_from(&point.strategy);
            entry.dropped.clone_from(&point.dropped);
            entry.healed = point.healed.is_some();
        }
        if point.strategy == self.record.main_strategy {
            self.record.ledger.extend(ledger::excerpt(&entries, KEPT_ENTRIES));
        }
        self.ledger.extend(entries);
    }

    /// Writes the whole ledger.
    pub fn write_ledger(&self) -> Result<()> {
        ledger::write(&self.store.directory().join(LEDGER_FILE), &self.ledger)
    }
}

fn set_perplexity(point: &mut Point, reading: &SentinelReading) {
    (point.perplexity, point.perplexity_ci95) = (reading.perplexity, reading.perplexity_ci95);
    point.diagnosis.iter_mut().for_each(|diagnosis| enter_perplexity(diagnosis, reading));
}

fn enter_perplexity(diagnosis: &mut Diagnosis, reading: &SentinelReading) {
    (diagnosis.perplexity, diagnosis.perplexity_ci95) = (reading.perplexity, reading.perplexity_ci95);
}
