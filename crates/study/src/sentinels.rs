//! Sentinels of a study: read for the uncut model, every single removal and every planned cut before the cuts are
//! measured in full. A strategy is not followed beyond the depth at which nothing is left, the main one excepted: it
//! is healed, and the depth budget is about it.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use lopper_diagnose::diagnose_outcomes;
use lopper_diagnose::sentinel::{CollapseThresholds, SentinelOptions, Sentinels};
use lopper_infer::TextModel;
use lopper_measure::Outcomes;
use lopper_record::study::{LedgerEntry, Point, SentinelReading, StoppedBranch, Timing};
use lopper_record::write_atomic;
use serde::{Deserialize, Serialize};

use crate::diagnose::{excerpt, gap};
use crate::identity::{HealKey, sentinel_key};
use crate::runner::Study;

/// Every item of the ledger, one JSON object a line, beside the record.
const LEDGER_FILE: &str = "ledger.jsonl";
/// Entries of each cause that the record keeps of each model of the main strategy.
const KEPT_ENTRIES: usize = 2;

/// Cuts whose sentinels are read together.
const TOGETHER: usize = 16;

/// A reading with its share of the wall time.
#[derive(Serialize, Deserialize)]
struct Timed {
    seconds: f64,
    reading: SentinelReading,
}

/// Readings by kept layers.
pub type Readings = BTreeMap<Vec<usize>, SentinelReading>;
/// The strategy and the dropped layers of each planned cut.
pub type Plan = Vec<(String, Vec<usize>)>;

impl Study<'_> {
    fn sentinel_options(&self) -> SentinelOptions {
        SentinelOptions { seed: self.recipe.seed, ..SentinelOptions::default() }
    }

    fn prepare_sentinels(&mut self) -> Result<()> {
        if self.sentinels.is_none() {
            self.sentinels = Some(Sentinels::prepare(&self.subject.text, &self.sentinel_options())?);
        }
        Ok(())
    }

    /// Reads the sentinels of cuts together.
    fn read_together(&self, text: &TextModel, cuts: &[Vec<usize>]) -> Result<Vec<SentinelReading>> {
        let Some(sentinels) = &self.sentinels else { return Ok(vec![SentinelReading::default(); cuts.len()]) };
        sentinels.read(text, cuts, &|done, total| self.observer.work(done, total))
    }

    /// The sentinels of a healed cut, found finished or read now.
    pub fn healed_sentinel(
        &mut self,
        text: &TextModel,
        run: &[usize],
        kept: &[usize],
        healed: HealKey<'_>,
    ) -> Result<lopper_record::Finished<SentinelReading>> {
        self.prepare_sentinels()?;
        let options = self.sentinel_options();
        let key = sentinel_key(&self.subject.card.hash, kept, Some(healed), &options);
        self.store.run("sentinels", &key, || {
            Ok(self.read_together(text, &[run.to_vec()])?.into_iter().next().unwrap_or_default())
        })
    }

    /// Reads the sentinels of the uncut model, of every single removal and of `plan`.
    pub fn read_sentinels(&mut self, plan: &Plan) -> Result<Readings> {
        let layers = self.subject.card.num_layers;
        let mut cuts: Vec<Vec<usize>> = vec![(0..layers).collect()];
        cuts.extend((0..layers).map(|layer| lopper_record::kept(layers, &[layer])));
        cuts.extend(plan.iter().map(|(_, dropped)| lopper_record::kept(layers, dropped)));
        let mut seen = HashSet::new();
        cuts.retain(|cut| seen.insert(cut.clone()));
        let (options, hash) = (self.sentinel_options(), self.subject.card.hash.clone());
        let key = |cut: &[usize]| serde_json::to_value(sentinel_key(&hash, cut, None, &options));
        let (mut readings, mut missing, mut seconds) = (Readings::new(), Vec::new(), 0.0);
        for cut in &cuts {
            match self.store.get::<Timed>("sentinels", &key(cut)?)? {
                Some(cell) => {
                    seconds += cell.seconds;
                    readings.insert(cut.clone(), cell.reading);
                }
                None => missing.push(cut.clone()),
            }
        }
        let cached = cuts.len() - missing.len();
        self.observer.stage("sentinels", cuts.len(), cached);
        if !missing.is_empty() {
            self.observer.cell("preparing");
            self.prepare_sentinels()?;
        }
        for cuts in missing.chunks(TOGETHER) {
            self.observer.cell(&format!("sentinels of {} cuts", cuts.len()));
            let began = std::time::Instant::now();
            let read = self.read_together(&self.subject.text, cuts)?;
            let each = began.elapsed().as_secs_f64() / cuts.len() as f64;
            for (cut, reading) in cuts.iter().zip(read) {
                self.store.put("sentinels", &key(cut)?, &Timed { seconds: each, reading }, each)?;
                readings.insert(cut.clone(), reading);
                seconds += each;
                self.observer.cell_done();
            }
        }
        (0..cached).for_each(|_| self.observer.cell_done());
        self.record.timings.push(Timing { stage: "sentinels".into(), seconds, cells: cuts.len(), cached });
        let perplexity = |kept: &[usize]| readings.get(kept).and_then(|reading| reading.perplexity);
        for ablated in &mut self.record.ablation {
            if let Some(diagnosis) = &mut ablated.diagnosis {
                diagnosis.perplexity = perplexity(&lopper_record::kept(layers, &[ablated.layer]));
            }
        }
        let uncut = perplexity(&cuts[0]);
        let base = self.record.base.iter_mut();
        base.for_each(|base| set_perplexity(base, uncut));
        self.record.ablation_base.iter_mut().for_each(|diagnosis| diagnosis.perplexity = uncut);
        Ok(readings)
    }

    /// Takes the cuts out of `plan` that lie beyond a hopeless one of the same strategy, and records it.
    pub fn stop_hopeless(&mut self, plan: &mut Plan, main: &str, readings: &Readings) {
        let layers = self.subject.card.num_layers;
        let uncut: Vec<usize> = (0..layers).collect();
        let Some(base) = readings.get(&uncut) else { return };
        let mut stopped: Vec<StoppedBranch> = Vec::new();
        // By depth within each strategy, as the plan is sorted.
        plan.retain(|(strategy, dropped)| {
            if let Some(branch) = stopped.iter_mut().find(|branch| branch.strategy == *strategy) {
                branch.skipped.push(dropped.len());
                return false;
            }
            let reading = readings.get(&lopper_record::kept(layers, dropped)).copied().unwrap_or_default();
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
    pub fn diagnose(&mut self, point: &mut Point, base: &Outcomes, cut: &Outcomes, perplexity: Option<f64>) {
        let (diagnosis, mut entries) = diagnose_outcomes(cut, Some(base));
        point.diagnosis = Some(diagnosis);
        set_perplexity(point, perplexity);
        point.gap = gap(&point.groups, self.recipe.sentinels.gap);
        for entry in &mut entries {
            entry.strategy.clone_from(&point.strategy);
            entry.dropped.clone_from(&point.dropped);
            entry.healed = point.healed.is_some();
        }
        if point.strategy == self.record.main_strategy {
            self.record.ledger.extend(excerpt(&entries, KEPT_ENTRIES));
        }
        self.ledger.extend(entries);
    }

    /// Writes the whole ledger.
    pub fn write_ledger(&self) -> Result<()> {
        let lines = self.ledger.iter().map(ledger_line).collect::<Result<String>>()?;
        write_atomic(&self.store.directory().join(LEDGER_FILE), lines.as_bytes())
    }
}

fn ledger_line(entry: &LedgerEntry) -> Result<String> {
    Ok(serde_json::to_string(entry)? + "\n")
}

fn set_perplexity(point: &mut Point, perplexity: Option<f64>) {
    point.perplexity = perplexity;
    if let Some(diagnosis) = &mut point.diagnosis {
        diagnosis.perplexity = perplexity;
    }
}
