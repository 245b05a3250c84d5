//! Sentinels of a study: read for the uncut model, every single removal and every planned cut before the cuts are
//! measured in full. A strategy ends at the depth at which nothing is left, except the main one: it is healed, and the
//! depth budget is about it. What they show of abilities that no task measures becomes a part of each diagnosis.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use lopper_diagnose::sentinel::{
    CollapseThresholds, ProbeGaps, SentinelOptions, SentinelProbes, Sentinels, gap_alarm_of_groups,
};
use lopper_diagnose::{diagnose_outcomes, ledger};
use lopper_infer::TextModel;
use lopper_measure::Outcomes;
use lopper_record::study::{Diagnosis, HealingRole, Point, StoppedBranch};
use lopper_record::{Claimed, Finished, LayerPosition, LayerSet, LayerSlot, Progress, Result, Store};
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
    probes: SentinelProbes,
}

/// The sentinels of cuts, by their kept layers.
#[derive(Default)]
pub struct Readings {
    by_cut: BTreeMap<LayerSet<LayerPosition>, SentinelProbes>,
    /// What the tasks do not measure.
    gaps: ProbeGaps,
}

impl Readings {
    /// Those of a cut; blank where it has not been read.
    pub fn of(&self, kept: &LayerSet<LayerPosition>) -> SentinelProbes {
        self.by_cut.get(kept).cloned().unwrap_or_default()
    }
}

/// A cut that a strategy plans.
pub struct PlannedCut {
    pub strategy: String,
    pub dropped: LayerSet<LayerPosition>,
}

impl Study<'_> {
    /// What sentinels a study reads.
    pub fn sentinel_options(&self) -> SentinelOptions {
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

    /// Whether an earlier run has read those of a cut.
    pub fn has_sentinels(&self, kept: &LayerSet<LayerPosition>) -> Result<bool> {
        let options = self.sentinel_options();
        Ok(self.store.path("sentinels", &self.sentinel_key(kept, None, &options), "json")?.exists())
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
    ) -> Result<Vec<SentinelProbes>> {
        let Some(sentinels) = &self.sentinels else { return Ok(vec![SentinelProbes::default(); cuts.len()]) };
        sentinels.probe(text, cuts, progress)
    }

    /// The sentinels of a healed cut, found finished or read now.
    pub fn healed_sentinel(
        &mut self,
        text: &TextModel,
        run: &LayerSet<LayerSlot>,
        kept: &LayerSet<LayerPosition>,
        healed: HealKey<'_>,
        progress: &dyn Progress,
    ) -> Result<Finished<SentinelProbes>> {
        self.prepare_sentinels()?;
        let options = self.sentinel_options();
        let key = self.sentinel_key(kept, Some(healed), &options);
        self.store.run("sentinels", &key, progress, || {
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
        let (mut readings, mut missing, mut found) = (Readings::default(), Vec::new(), Vec::new());
        let uncut = self.record.base.as_ref().and_then(|base| base.diagnosis.as_ref());
        readings.gaps = uncut.map(ProbeGaps::of).unwrap_or_default();
        for cut in &cuts {
            match self.store.get::<SentinelCell>("sentinels", &self.sentinel_key(cut, None, &options))? {
                Some(cell) => {
                    found.push(cell.seconds);
                    readings.by_cut.insert(cut.clone(), cell.probes);
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
        while !missing.is_empty() {
            let (cuts, _claims) = Store::claim_some(&mut missing, TOGETHER, self.progress, |cut| {
                let key = self.sentinel_key(cut, None, &options);
                let claim = self.store.claim("sentinels", &key)?;
                // Another process may have read them since.
                let Some(cell) = self.store.get::<SentinelCell>("sentinels", &key)? else {
                    return Ok(claim.map_or(Claimed::ByOther, Claimed::Now));
                };
                stage.count(cell.seconds, true)?;
                readings.by_cut.insert(cut.clone(), cell.probes);
                Ok(Claimed::Finished)
            })?;
            if cuts.is_empty() {
                continue;
            }
            let began = Instant::now();
            let slots: Vec<_> = cuts.iter().map(LayerSet::slots).collect();
            let progress = stage.cell(&format!("sentinels of {} cuts", cuts.len()));
            let read = self.read_together(&self.model.text, &slots, progress)?;
            let seconds = began.elapsed().as_secs_f64() / cuts.len() as f64;
            for (cut, probes) in cuts.iter().zip(read) {
                let cell = SentinelCell { seconds, probes };
                self.store.put("sentinels", &self.sentinel_key(cut, None, &options), &cell, seconds)?;
                readings.by_cut.insert(cut.clone(), cell.probes);
            }
            cuts.iter().try_for_each(|_| stage.count(seconds, false))?;
        }
        self.enter_timing(stage.timing());
        self.enter_probes(&readings);
        Ok(readings)
    }

    /// Puts what the sentinels show of the uncut model and of the single removals into the record.
    fn enter_probes(&mut self, readings: &Readings) {
        let uncut = readings.of(&self.model.layers());
        for (ablated, position) in self.record.ablation.iter_mut().zip(self.model.layers().iter()) {
            if let Some(diagnosis) = &mut ablated.diagnosis {
                let own = readings.of(&self.model.without(&LayerSet::from_iter([position])));
                readings.gaps.fill(diagnosis, &own, Some(&uncut));
            }
        }
        let base = self.record.base.iter_mut().filter_map(|base| {
            (base.perplexity, base.perplexity_ci95) = (uncut.perplexity(), uncut.perplexity_ci95());
            base.diagnosis.as_mut()
        });
        let bases: Vec<&mut Diagnosis> = base.chain(&mut self.record.ablation_base).collect();
        bases.into_iter().for_each(|diagnosis| readings.gaps.fill(diagnosis, &uncut, None));
    }

    /// Takes the cuts out of `plan` that are deeper than a collapsed one of the same strategy, and records it.
    pub fn stop_collapsed(&mut self, plan: &mut Vec<PlannedCut>, main: &str, readings: &Readings) {
        let base = readings.of(&self.model.layers()).reading();
        let mut stopped: Vec<StoppedBranch> = Vec::new();
        // By depth within each strategy, as the plan is sorted.
        plan.retain(|PlannedCut { strategy, dropped }| {
            if let Some(branch) = stopped.iter_mut().find(|branch| branch.strategy == *strategy) {
                branch.skipped.push(dropped.len());
                return false;
            }
            let reading = readings.of(&self.model.without(dropped)).reading();
            if strategy != main
                && let Some(reason) = CollapseThresholds::default().collapsed(&base, &reading)
            {
                let (strategy, removed, skipped) = (strategy.clone(), dropped.len(), vec![]);
                stopped.push(StoppedBranch { strategy, removed, reading, reason, skipped });
            }
            true
        });
        stopped.retain(|branch| !branch.skipped.is_empty());
        self.record.stopped = stopped;
    }

    /// Puts what broke in a measured cut, with the sentinels `own`, into its point, and its failures into the ledger.
    pub fn diagnose(
        &mut self,
        point: &mut Point,
        (base, cut): (&Outcomes, &Outcomes),
        own: &SentinelProbes,
        readings: &Readings,
    ) {
        let (mut diagnosis, mut entries) = diagnose_outcomes(cut, Some(base));
        readings.gaps.fill(&mut diagnosis, own, Some(&readings.of(&self.model.layers())));
        point.diagnosis = Some(diagnosis);
        (point.perplexity, point.perplexity_ci95) = (own.perplexity(), own.perplexity_ci95());
        point.gap = gap_alarm_of_groups(&point.groups, self.recipe.sentinels.gap);
        // The ledger knows one healed model of each cut.
        if point.healed.as_ref().is_some_and(|healed| healed.role != HealingRole::Main) {
            return;
        }
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
