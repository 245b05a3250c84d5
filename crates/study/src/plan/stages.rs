//! The stages of a study in order, as far as its cells say what they will be.

use std::collections::{BTreeMap, BTreeSet};

use lopper_heal::memory;
use lopper_measure::Outcomes;
use lopper_pocket::Split;
use lopper_prune::LayerScores;
use lopper_record::{LayerPosition, LayerSet, Result};

use super::rates::Rates;
use super::{PlannedCell, PlannedStage, StudyPlan};
use crate::cuts::{AUTO, Kind};
use crate::heal_stage::PlannedHealing;
use crate::healing::ResponseGeneration;
use crate::prepared::Prepared;
use crate::runner::Study;
use crate::stage::{CutOnSplit, new_cuts};
use crate::strategy::{self, CutsByDepth, Evidence};

/// Puts the stages of `study` into `plan`.
pub fn walk(prepared: &Prepared<'_>, study: Study<'_>, rates: &Rates, plan: &mut StudyPlan) -> Result<()> {
    Walk { prepared, study, rates, plan, bytes: 0.0 }.stages()
}

struct Walk<'a> {
    prepared: &'a Prepared<'a>,
    study: Study<'a>,
    rates: &'a Rates,
    plan: &'a mut StudyPlan,
    bytes: f64,
}

impl<'a> Walk<'a> {
    fn stages(&mut self) -> Result<()> {
        let Prepared { model, recipe, strategies, .. } = self.prepared;
        let base = self.uncut()?;
        let scores = self.criteria()?;
        let ablation = self.layer_map(base.as_ref())?;
        let searched = self.searches(base.as_ref())?;
        let keep = model.numbering.positions(&recipe.cuts.keep)?;
        let evidence = match (&scores, &ablation, &searched) {
            (Some(scores), Some(ablation), Some(searched)) => Some(Evidence {
                num_layers: model.card.num_layers,
                scores,
                ablation,
                keep: &keep,
                seed: recipe.seed,
                strategies,
                searched,
            }),
            _ => None,
        };
        let main = self.main_strategy(evidence.as_ref(), base.as_ref())?;
        let cuts = self.planned(evidence.as_ref(), main.as_deref())?;
        self.plan.at_most = cuts.iter().any(|cut| cut.dropped.is_none());
        self.sentinels(&cuts)?;
        self.cuts(&cuts)?;
        self.speed(&cuts, main.as_deref())?;
        self.healing(evidence.as_ref().zip(main.as_deref()))?;
        self.plan.disk_bytes = self.bytes as u64;
        Ok(())
    }

    fn enter(&mut self, name: &str, cells: Vec<PlannedCell>) {
        if !cells.is_empty() {
            self.plan.stages.push(PlannedStage { name: name.to_owned(), cells });
        }
    }

    /// The cells of cuts that no earlier stage has used; `seconds` of each that is missing.
    fn cut_cells(
        &mut self,
        cuts: &[(CutOnSplit, String)],
        seconds: impl Fn(&CutOnSplit) -> f64,
    ) -> Result<Vec<PlannedCell>> {
        let wanted: Vec<CutOnSplit> = cuts.iter().map(|(cut, _)| cut.clone()).collect();
        let mut cells = Vec::new();
        for (cut, missing) in new_cuts(self.study.cells, &mut self.study.used, &wanted)? {
            let what = cuts.iter().find(|(other, _)| *other == cut).map_or_else(String::new, |(_, what)| what.clone());
            let finished = missing.is_empty();
            if !finished {
                self.bytes += self.rates.bytes(self.study.cells.split(cut.split), &self.prepared.tasks.names());
            }
            cells.push(PlannedCell { what, finished, seconds: if finished { 0.0 } else { seconds(&cut) } });
        }
        Ok(cells)
    }

    /// Returns the uncut model's outcomes on the selection items, if they are there.
    fn uncut(&mut self) -> Result<Option<Outcomes>> {
        let (rates, names) = (self.rates, self.prepared.tasks.names());
        let on = |split| CutOnSplit { kept: self.prepared.model.layers(), split };
        let cuts =
            [(on(Split::Report), "reporting items".to_owned()), (on(Split::Select), "selection items".to_owned())];
        let cells = self.study.cells;
        let cells = self.cut_cells(&cuts, |cut| rates.cut(cells.split(cut.split), &names, 0))?;
        self.enter("uncut model", cells);
        self.outcomes(&self.prepared.model.layers())
    }

    /// The outcomes of a cut on the selection items, if they are there.
    fn outcomes(&self, kept: &LayerSet<LayerPosition>) -> Result<Option<Outcomes>> {
        let cells = self.study.cells;
        cells.select.finished(cells.store, &cells.candidate(kept), &self.prepared.tasks.names())
    }

    fn criteria(&mut self) -> Result<Option<LayerScores>> {
        let calibration = self.study.calibration()?;
        let scores = self.study.found_scores(&calibration)?;
        let seconds = if scores.is_some() { 0.0 } else { self.rates.document * calibration.sequences().len() as f64 };
        let what = "one pass over calibration text".to_owned();
        self.enter("layer criteria", vec![PlannedCell { what, finished: scores.is_some(), seconds }]);
        Ok(scores)
    }

    fn layer_map(&mut self, base: Option<&Outcomes>) -> Result<Option<Vec<f64>>> {
        let (rates, prepared, names) = (self.rates, self.prepared, self.prepared.tasks.names());
        let mut cuts = Vec::new();
        for layer in prepared.model.layers().iter() {
            let dropped = LayerSet::from_iter([layer]);
            let what = format!("without layer {}", prepared.model.originals(&dropped)?);
            cuts.push((self.study.cut(&dropped, Split::Select), what));
        }
        let cells = self.cut_cells(&cuts, |_| rates.removal(&prepared.select, &names, 0))?;
        self.enter("layer map", cells);
        let Some(base) = base else { return Ok(None) };
        let mut ablation = Vec::new();
        for (cut, _) in &cuts {
            let Some(outcomes) = self.outcomes(&cut.kept)? else { return Ok(None) };
            ablation.push(self.study.group_mean_retention(base, &outcomes).unwrap_or(0.0));
        }
        Ok(Some(ablation))
    }

    fn searches(&mut self, base: Option<&Outcomes>) -> Result<Option<BTreeMap<String, CutsByDepth>>> {
        let prepared = self.prepared;
        let keep = prepared.model.numbering.positions(&prepared.recipe.cuts.keep)?;
        let mut searched = BTreeMap::new();
        let mut complete = true;
        for (name, kind) in prepared.recipe.cuts.named()? {
            let Kind::Search(method) = kind else { continue };
            let found = self.study.found_search(method, base)?;
            let rounds = found.rounds(prepared.model.card.num_layers, &keep);
            let cells = rounds.into_iter().map(|round| {
                let candidate =
                    self.rates.removal(&prepared.select, &prepared.objective, round.removed.saturating_sub(1));
                let seconds = if round.finished { 0.0 } else { candidate * round.candidates as f64 };
                PlannedCell { what: round.what, finished: round.finished, seconds }
            });
            let cells = cells.collect();
            self.enter(&format!("{} search", method.name()), cells);
            match self.study.cuts_of(&found)? {
                Some(cuts) => drop(searched.insert(name, cuts)),
                None => complete = false,
            }
        }
        Ok(complete.then_some(searched))
    }

    fn main_strategy(&mut self, evidence: Option<&Evidence<'_>>, base: Option<&Outcomes>) -> Result<Option<String>> {
        let (rates, prepared, names) = (self.rates, self.prepared, self.prepared.tasks.names());
        let (cuts, strategies) = (&prepared.recipe.cuts, prepared.strategies.candidates(prepared.recipe));
        if cuts.main != AUTO {
            return Ok(Some(cuts.main.clone()));
        }
        let depth = cuts.middle_depth();
        let seconds = rates.cut(&prepared.select, &names, depth);
        let what = |name: &str| format!("{name} at {depth}");
        let Some(evidence) = evidence else {
            let cell = |name: &&str| PlannedCell { what: what(name), finished: false, seconds };
            let cells: Vec<PlannedCell> = strategies.iter().map(cell).collect();
            self.bytes += rates.bytes(&prepared.select, &names) * cells.len() as f64;
            self.enter("choice of strategy", cells);
            return Ok(None);
        };
        let mut chosen = Vec::new();
        for name in &strategies {
            chosen.push((self.study.cut(&strategy::choose(name, depth, evidence)?, Split::Select), what(name)));
        }
        let cells = self.cut_cells(&chosen, |_| seconds)?;
        self.enter("choice of strategy", cells);
        let Some(base) = base else { return Ok(None) };
        let mut best: Option<(f64, &str)> = None;
        for (name, (cut, _)) in strategies.into_iter().zip(&chosen) {
            let Some(outcomes) = self.outcomes(&cut.kept)? else { return Ok(None) };
            let value = self.study.group_mean_retention(base, &outcomes).unwrap_or(0.0);
            if best.is_none_or(|(most, _)| value > most) {
                best = Some((value, name));
            }
        }
        Ok(best.map(|(_, name)| name.to_owned()))
    }

    /// Every strategy at every depth, the main one first.
    fn planned(&self, evidence: Option<&Evidence<'_>>, main: Option<&str>) -> Result<Vec<Planned>> {
        let Prepared { strategies, recipe, .. } = self.prepared;
        let mut planned = Vec::new();
        // A goal is answered by the main strategy alone; where that is not known yet, any counts in place of it.
        let only =
            recipe.budget.goal.as_ref().and_then(|_| main.or_else(|| strategies.candidates(recipe).first().copied()));
        for name in strategies.names().filter(|name| only.is_none_or(|only| only == *name)) {
            for &depth in recipe.cuts.depths.iter().filter(|depth| strategies.gives(name, **depth)) {
                let dropped = evidence.map(|evidence| strategy::choose(name, depth, evidence)).transpose()?;
                planned.push(Planned { strategy: name.to_owned(), depth, dropped });
            }
        }
        planned.sort_by_key(|cut| (Some(cut.strategy.as_str()) != main, cut.depth));
        Ok(planned)
    }

    fn sentinels(&mut self, planned: &[Planned]) -> Result<()> {
        let (rates, model) = (self.rates, &self.prepared.model);
        let mut cuts = vec![("the uncut model".to_owned(), Some(LayerSet::default()))];
        for layer in model.layers().iter() {
            let dropped = LayerSet::from_iter([layer]);
            cuts.push((format!("without layer {}", model.originals(&dropped)?), Some(dropped)));
        }
        for cut in planned {
            cuts.push((cut.describe(self.prepared)?, cut.dropped.clone()));
        }
        let (mut seen, mut cells) = (BTreeSet::new(), Vec::new());
        for (what, dropped) in cuts {
            let finished = match &dropped {
                Some(dropped) if !seen.insert(dropped.clone()) => continue,
                Some(dropped) => self.study.has_sentinels(&model.without(dropped))?,
                None => false,
            };
            let seconds = if finished { 0.0 } else { rates.sentinels * rates.shared() };
            cells.push(PlannedCell { what, finished, seconds });
        }
        self.enter("sentinels", cells);
        Ok(())
    }

    fn cuts(&mut self, planned: &[Planned]) -> Result<()> {
        let (rates, prepared, names) = (self.rates, self.prepared, self.prepared.tasks.names());
        let layers = prepared.model.card.num_layers;
        let (mut known, mut cells) = (Vec::new(), Vec::new());
        for cut in planned {
            let what = cut.describe(prepared)?;
            match &cut.dropped {
                Some(dropped) => known.push((self.study.cut(dropped, Split::Report), what)),
                None => {
                    let seconds = rates.cut(&prepared.report, &names, cut.depth);
                    self.bytes += rates.bytes(&prepared.report, &names);
                    cells.push(PlannedCell { what, finished: false, seconds });
                }
            }
        }
        cells.extend(self.cut_cells(&known, |cut| rates.cut(&prepared.report, &names, layers - cut.kept.len()))?);
        self.enter("cuts", cells);
        Ok(())
    }

    fn speed(&mut self, planned: &[Planned], main: Option<&str>) -> Result<()> {
        if !self.prepared.recipe.speed.measure {
            return Ok(());
        }
        let model = &self.prepared.model;
        let of_main: Vec<&Planned> = planned.iter().filter(|cut| Some(cut.strategy.as_str()) == main).collect();
        let mut models = vec![model.layers()];
        models.extend(of_main.iter().filter_map(|cut| cut.dropped.as_ref()).map(|dropped| model.without(dropped)));
        let finished = main.is_some() && self.study.has_speeds(&models)?;
        let count = if main.is_some() { models.len() } else { 1 + self.prepared.recipe.cuts.depths.len() };
        let seconds = if finished { 0.0 } else { self.rates.speed * count as f64 };
        let what = format!("reading and generating with {count} models");
        self.enter("speed", vec![PlannedCell { what, finished, seconds }]);
        Ok(())
    }

    /// Answers of the uncut model, and the cuts of the main strategy healed; `chosen` is what chooses their layers.
    fn healing(&mut self, chosen: Option<(&Evidence<'_>, &str)>) -> Result<()> {
        let Prepared { model, recipe, tasks, training, report, .. } = self.prepared;
        let (rates, names, heal) = (self.rates, tasks.names(), &recipe.heal);
        if heal.depths.is_empty() {
            return Ok(());
        }
        let generation = ResponseGeneration::new(model, tasks, training, recipe)?;
        let answers = generation.len();
        let mut responses = generation.found(self.study.store)?;
        if let Some(responses) = responses.as_mut().filter(|_| heal.control) {
            responses.prepare_control()?;
        }
        let finished = responses.is_some();
        let seconds = if finished { 0.0 } else { rates.answer * answers as f64 };
        let what = format!("{answers} answers of the uncut model");
        self.enter("self-generated responses", vec![PlannedCell { what, finished, seconds }]);
        let mut cells = Vec::new();
        for planned in self.study.planned_healings() {
            let PlannedHealing { depth, recipe, .. } = &planned;
            let dropped = chosen.map(|(evidence, main)| strategy::choose(main, *depth, evidence)).transpose()?;
            let (trained, measured) = match (&responses, &dropped) {
                (Some(responses), Some(dropped)) => {
                    self.study.found_healing(&planned, &model.without(dropped), responses)?
                }
                _ => (false, false),
            };
            let variant = planned.variant();
            let layers = match &dropped {
                Some(dropped) => format!("without {}", model.originals(dropped)?),
                None => format!("{depth} layers"),
            };
            let part = (model.card.num_layers - depth) as f64 / model.card.num_layers as f64;
            let training = rates.learning * part * (answers * recipe.epochs) as f64;
            let evaluation = rates.cut(report, &names, 0) * part + rates.sentinels * part;
            let cell = |what: &str, finished: bool, seconds: f64| PlannedCell {
                what: format!("{what} {layers}{variant}"),
                finished,
                seconds: if finished { 0.0 } else { seconds },
            };
            cells.extend([cell("finetuning", trained, training), cell("measuring", measured, evaluation)]);
            let config = &model.text.engine.model().config;
            self.bytes += if trained { 0 } else { memory::healed_bytes(config, *depth, recipe) } as f64;
            self.bytes += if measured { 0.0 } else { rates.bytes(report, &names) };
        }
        self.enter("healing", cells);
        Ok(())
    }
}

/// A cut that a strategy will make; without its layers where they are not known yet.
struct Planned {
    strategy: String,
    depth: usize,
    dropped: Option<LayerSet<LayerPosition>>,
}

impl Planned {
    fn describe(&self, prepared: &Prepared<'_>) -> Result<String> {
        Ok(match &self.dropped {
            Some(dropped) => format!("{}: without {}", self.strategy, prepared.model.originals(dropped)?),
            None => format!("{} at {}", self.strategy, self.depth),
        })
    }
}
