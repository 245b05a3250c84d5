//! The stage of healing: the uncut model's responses, then each cut of the main strategy healed and measured.
//!
//! First every depth with the recipe's seed, which is what the budget is about and what an interrupted study should
//! have; then other seeds and the control on reference answers, which show how far to trust it.

use std::collections::HashSet;

use lopper_heal::HealRecipe;
use lopper_measure::{Outcomes, paired};
use lopper_record::study::{HealInfo, HealingRole};
use lopper_record::{LayerPosition, LayerSet, Result};

use crate::budget::JudgedCut;
use crate::eval_split::Candidate;
use crate::healing::{HealCut, ResponseGeneration, Responses};
use crate::runner::Study;
use crate::sentinels::Readings;
use crate::stage::Stage;
use crate::strategy::{self, Evidence};

/// What healing builds on.
pub struct HealStage<'a> {
    pub evidence: &'a Evidence<'a>,
    pub main: &'a str,
    /// The uncut model's outcomes.
    pub base: &'a Outcomes,
    /// The outcomes of the main strategy's cuts, by depth.
    pub cuts: &'a [(usize, Outcomes)],
    pub readings: &'a Readings,
}

/// A healed model to come.
pub struct PlannedHealing {
    /// Layers removed.
    pub depth: usize,
    pub recipe: HealRecipe,
    pub role: HealingRole,
}

impl PlannedHealing {
    /// What sets it apart from the main healing of the same cut, for messages.
    pub fn variant(&self) -> String {
        match self.role {
            HealingRole::Main => String::new(),
            HealingRole::Seed => format!(" (seed {})", self.recipe.seed),
            HealingRole::Control => " (reference answers)".to_owned(),
        }
    }

    /// Its cut, of which the layers `kept` stay.
    pub fn cut<'a>(
        &'a self,
        kept: &'a LayerSet<LayerPosition>,
        responses: &'a Responses<'a>,
        workers: usize,
    ) -> HealCut<'a> {
        HealCut { responses, kept, recipe: &self.recipe, role: self.role, workers }
    }
}

impl<'a> Study<'a> {
    /// The healed models of the recipe, those of the budget first.
    pub fn planned_healings(&self) -> Vec<PlannedHealing> {
        let heal = &self.recipe.heal;
        let seeds = heal.seeds.of(heal.recipe.seed);
        let mut variants: Vec<(HealingRole, u64)> = Vec::new();
        for (at, seed) in seeds.iter().enumerate() {
            variants.push((if at == 0 { HealingRole::Main } else { HealingRole::Seed }, *seed));
        }
        variants.extend(seeds.first().filter(|_| heal.control).map(|seed| (HealingRole::Control, *seed)));
        let mut plan = Vec::new();
        for (role, seed) in variants {
            for &depth in &heal.depths {
                plan.push(PlannedHealing { depth, recipe: HealRecipe { seed, ..heal.recipe.clone() }, role });
            }
        }
        plan
    }

    /// Threads that train a micro-batch each.
    fn healing_workers(&self) -> usize {
        let engine = &self.model.text.engine;
        lopper_heal::Run::for_model(engine.model(), engine.threads(), &self.recipe.heal.recipe).workers
    }

    /// Whether a cut is trained and measured already.
    pub fn found_healing(
        &self,
        planned: &PlannedHealing,
        kept: &LayerSet<LayerPosition>,
        responses: &Responses<'_>,
    ) -> Result<(bool, bool)> {
        let cut = planned.cut(kept, responses, self.healing_workers());
        let (text, model) = (&self.model.text, &self.model.card.hash);
        let healed = Candidate { text, model, kept, run: LayerSet::default(), healed: Some(cut.key()) };
        let measured = self.cells.report.missing(self.store, &healed)?.is_empty();
        Ok((cut.is_finished(self.store)?, measured))
    }

    /// Heals the cuts, measures them, and puts them into the record.
    pub fn heal(&mut self, stage: &HealStage<'_>) -> Result<()> {
        let heal = &self.recipe.heal;
        if heal.depths.is_empty() {
            return Ok(());
        }
        let mut responses = self.responses()?;
        if heal.control {
            responses.prepare_control()?;
        }
        let (text, model, workers) = (&self.model.text, &self.model.card.hash, self.healing_workers());
        let mut plan = Vec::new();
        for planned in self.planned_healings() {
            let dropped = strategy::choose(stage.main, planned.depth, stage.evidence)?;
            let kept = self.model.without(&dropped);
            plan.push((planned, dropped, kept));
        }
        let mut found = 0;
        for (planned, _, kept) in &plan {
            let (trained, measured) = self.found_healing(planned, kept, &responses)?;
            found += usize::from(trained) + usize::from(measured);
        }
        let mut cells = Stage::begin(self.progress, "healing", 2 * plan.len(), found);
        // Those that were trained while another process trained the one before.
        let mut ahead = HashSet::new();
        let one_by_one = self.recipe.budget.goal.is_some();
        for (at, (planned, dropped, kept)) in plan.iter().enumerate() {
            let (role, variant) = (planned.role, planned.variant());
            // No deeper cut can change the answer, and other seeds are of those that were healed.
            if self.is_answered(true) && (role == HealingRole::Main || !self.is_healed(planned.depth)) {
                continue;
            }
            let progress = cells.cell(&format!("finetuning without {}{variant}", self.model.originals(dropped)?));
            let cut = planned.cut(kept, &responses, workers);
            let healed = cut.heal(self.store, self.model, progress, || {
                if one_by_one {
                    return Ok(false);
                }
                for (at, (next, _, kept)) in plan.iter().enumerate().skip(at + 1) {
                    let next = next.cut(kept, &responses, workers);
                    if next.is_free(self.store)? {
                        next.heal(self.store, self.model, progress, || Ok(false))?;
                        ahead.insert(at);
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
            cells.count(healed.info.seconds, healed.cached && !ahead.contains(&at))?;
            let progress = cells.cell(&format!("measuring {} healed{variant}", dropped.len()));
            let text = text.with_model(healed.model);
            let run = LayerSet::all(kept.len());
            let candidate = Candidate { text: &text, model, kept, run: run.clone(), healed: Some(cut.key()) };
            let found = self.cells.report.outcomes(self.store, &candidate, progress)?;
            let probes = self.healed_sentinel(&text, &run, kept, cut.key(), progress)?;
            cells.count(found.seconds + probes.wall_s, found.cached)?;
            let mut point = self.point(stage.main, dropped, stage.base, &found.outcomes)?;
            self.warn_of_healing(dropped.len(), &variant, &healed.info);
            point.speed = self.healed_speed(stage.main, dropped.len(), &found.outcomes);
            if role == HealingRole::Main {
                let names = self.tasks.names();
                let pairs = paired(stage.base, &found.outcomes, &names);
                self.judged.push(JudgedCut::new(dropped.len(), Some(&healed.info), &pairs));
                self.decide(stage.main)?;
            }
            point.healed = Some(healed.info);
            self.diagnose(&mut point, (stage.base, &found.outcomes), &probes.value, stage.readings);
            self.record.points.push(point);
            if role == HealingRole::Main {
                self.show(stage.base, stage.cuts, Some((dropped.len(), &found.outcomes)));
            }
            self.record.write(self.store.directory())?;
        }
        cells.end();
        self.finish(cells.timing())
    }

    /// Whether a healed cut of so many layers has been measured.
    fn is_healed(&self, depth: usize) -> bool {
        self.record.points.iter().any(|point| point.removed == depth && point.healed.is_some())
    }

    /// Puts reasons to expect nothing of a healing among the warnings. What holds of every depth is said once.
    fn warn_of_healing(&mut self, depth: usize, variant: &str, info: &HealInfo) {
        // Another seed learns from the same answers in as many steps.
        let new = if info.role == HealingRole::Seed { vec![] } else { info.doubts_of_training() };
        let of_training = new.into_iter().map(|doubt| format!("healing{variant}: {doubt}"));
        let of_loss = info.doubt_of_loss().map(|doubt| format!("{depth} layers removed and healed{variant}: {doubt}"));
        for warning in of_training.chain(of_loss) {
            if !self.record.warnings.contains(&warning) {
                self.record.warnings.push(warning);
            }
        }
    }

    /// The uncut model's responses to the training prompts.
    fn responses(&mut self) -> Result<Responses<'a>> {
        let generation = ResponseGeneration::new(self.model, self.tasks, self.training, self.recipe)?;
        let found = usize::from(generation.is_finished(self.store)?);
        let mut stage = Stage::begin(self.progress, "self-generated responses", 1, found);
        let progress = stage.cell("the uncut model responds");
        let (responses, seconds, cached) = generation.run(self.store, progress)?;
        stage.count(seconds, cached)?;
        self.enter_timing(stage.timing());
        Ok(responses)
    }
}
