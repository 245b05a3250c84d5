//! The stage of healing: the uncut model's responses, then each cut of the main strategy healed and measured.
//!
//! First every depth with the recipe's seed, which is what the budget is about and what an interrupted study should
//! have; then other seeds and the control on reference answers, which show how far to trust it.

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
struct PlannedHealing {
    dropped: LayerSet<LayerPosition>,
    kept: LayerSet<LayerPosition>,
    recipe: HealRecipe,
    role: HealingRole,
}

impl PlannedHealing {
    fn cut<'a>(&'a self, responses: &'a Responses<'a>, workers: usize) -> HealCut<'a> {
        HealCut { responses, kept: &self.kept, recipe: &self.recipe, role: self.role, workers }
    }

    /// What sets it apart from the main healing of the same cut, for messages.
    fn variant(&self) -> String {
        match self.role {
            HealingRole::Main => String::new(),
            HealingRole::Seed => format!(" (seed {})", self.recipe.seed),
            HealingRole::Control => " (reference answers)".to_owned(),
        }
    }
}

impl<'a> Study<'a> {
    /// The healed models of the recipe, those of the budget first.
    fn planned_healings(&self, stage: &HealStage<'_>) -> Result<Vec<PlannedHealing>> {
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
                let dropped = strategy::choose(stage.main, depth, stage.evidence)?;
                let kept = self.model.without(&dropped);
                plan.push(PlannedHealing { dropped, kept, recipe: HealRecipe { seed, ..heal.recipe.clone() }, role });
            }
        }
        Ok(plan)
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
        let (text, model) = (&self.model.text, &self.model.card.hash);
        let workers = lopper_heal::Run::for_model(text.engine.model(), text.engine.threads(), &heal.recipe).workers;
        let plan = self.planned_healings(stage)?;
        let mut found = 0;
        for planned in &plan {
            let cut = planned.cut(&responses, workers);
            found += usize::from(cut.is_finished(self.store)?);
            let (kept, healed) = (&planned.kept, Some(cut.key()));
            let healed = Candidate { text, model, kept, run: LayerSet::default(), healed };
            found += usize::from(self.cells.report.missing(self.store, &healed)?.is_empty());
        }
        let mut cells = Stage::begin(self.progress, "healing", 2 * plan.len(), found);
        for planned in &plan {
            let PlannedHealing { dropped, kept, role, .. } = planned;
            let variant = planned.variant();
            let progress = cells.cell(&format!("finetuning without {}{variant}", self.model.originals(dropped)?));
            let cut = planned.cut(&responses, workers);
            let healed = cut.heal(self.store, self.model, progress)?;
            cells.count(healed.info.seconds, healed.cached)?;
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
            if *role == HealingRole::Main {
                let names = self.tasks.names();
                let pairs = paired(stage.base, &found.outcomes, &names);
                self.judged.push(JudgedCut::new(dropped.len(), Some(&healed.info), &pairs));
            }
            point.healed = Some(healed.info);
            self.diagnose(&mut point, (stage.base, &found.outcomes), &probes.value, stage.readings);
            self.record.points.push(point);
            if *role == HealingRole::Main {
                self.show(stage.base, stage.cuts, Some((dropped.len(), &found.outcomes)));
            }
            self.record.write(self.store.directory())?;
        }
        self.finish(cells.timing())
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
        self.record.timings.push(stage.timing());
        Ok(responses)
    }
}
