//! The searches of a study: `greedy`, `racing`, `block`, `evolution`. Candidates are evaluated on the selection items
//! of the tasks that choose, as by `lopper search`, over the shared weights. A finished round is a cell, and so is what
//! the candidates of an unfinished one have scored so far; the layer map is the first round of a greedy search, and is
//! not evaluated again. Processes that work on one study divide the candidates of a round.
//!
//! A greedy search gives a cut of every depth on its way; `block` and `evolution` search each depth by itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use lopper_measure::{ItemScores, Outcomes};
use lopper_prune::search::{Evaluator, Problem, Racing, Round, State, Strategy, search};
use lopper_record::study::{SearchRecord, SearchedCut};
use lopper_record::{Claimed, Context, Fault, LayerPosition, LayerSet, Progress, Result, Store, key_hash};
use lopper_tasks::Group;
use serde::{Deserialize, Serialize};

use crate::cuts::{Kind, SearchMethod};
use crate::identity::{REVISION, SearchKey, SearchScoresKey};
use crate::item_parts::ItemParts;
use crate::runner::Study;
use crate::stage::{CutCells, Stage};
use crate::strategy::CutsByDepth;

/// Candidates evaluated together, as in other stages: most of the sharing, and little to lose by an interrupt.
const TOGETHER: usize = 12;
/// Sets in each generation of an evolution, and generations, as `lopper search` has them.
const POPULATION: usize = 16;
const GENERATIONS: usize = 10;

/// A finished round.
#[derive(Serialize, Deserialize)]
struct RoundCell {
    seconds: f64,
    /// Items that were evaluated for it.
    evaluations: usize,
    round: Round,
}

/// What a candidate has scored on some of the items.
#[derive(Serialize, Deserialize)]
struct ScoresCell {
    seconds: f64,
    scores: ItemScores,
}

/// A run of rounds: the whole way of a greedy search, or the search of one depth.
struct Branch {
    /// Layers to remove; none: one more in each round.
    remove: Option<usize>,
    rounds: usize,
    state: State,
}

/// A search as far as earlier runs have come.
pub struct FoundSearch {
    method: SearchMethod,
    branches: Vec<Branch>,
    /// What each round took that is there.
    seconds: Vec<f64>,
}

/// A round of a search, there or to come.
pub struct PlannedRound {
    pub what: String,
    /// Layers that its candidates remove.
    pub removed: usize,
    /// The most candidates it can have to evaluate.
    pub candidates: usize,
    pub finished: bool,
}

impl FoundSearch {
    /// Its rounds for a model of `layers` layers, of which `protected` stay.
    pub fn rounds(&self, layers: usize, protected: &LayerSet<LayerPosition>) -> Vec<PlannedRound> {
        let free = layers - protected.len();
        let mut planned = Vec::new();
        for branch in &self.branches {
            for round in 0..branch.rounds {
                let removed = branch.remove.unwrap_or(round + 1);
                let candidates = match self.method {
                    // The first round is the layer map.
                    SearchMethod::Greedy | SearchMethod::Racing if round == 0 => 0,
                    SearchMethod::Greedy | SearchMethod::Racing => free.saturating_sub(round),
                    SearchMethod::Block => free.saturating_sub(removed) + 1,
                    SearchMethod::Evolution => POPULATION,
                };
                let finished = round < branch.state.rounds.len();
                planned.push(PlannedRound {
                    what: self.method.round_name(branch, round),
                    removed,
                    candidates,
                    finished,
                });
            }
        }
        planned
    }
}

impl SearchMethod {
    /// What the round of a branch is called while it is at work.
    fn round_name(self, branch: &Branch, round: usize) -> String {
        match (branch.remove, branch.rounds) {
            (None, rounds) => format!("layer {} of {rounds}", round + 1),
            (Some(depth), 1) => format!("{depth} layers"),
            (Some(depth), rounds) => format!("{depth} layers, generation {} of {rounds}", round + 1),
        }
    }

    fn branches(self, depths: &[usize]) -> Vec<Branch> {
        let deepest = depths.last().copied().unwrap_or(0);
        let branch = |remove, rounds| Branch { remove, rounds, state: State::default() };
        match self {
            Self::Greedy | Self::Racing => vec![branch(None, deepest)],
            Self::Block => depths.iter().map(|depth| branch(Some(*depth), 1)).collect(),
            Self::Evolution => depths.iter().map(|depth| branch(Some(*depth), GENERATIONS)).collect(),
        }
    }

    /// The search up to `rounds` rounds.
    fn strategy(self, rounds: usize, seed: u64) -> Strategy {
        match self {
            Self::Greedy => Strategy::Greedy,
            Self::Racing => Strategy::Racing(Racing::default()),
            Self::Block => Strategy::Block,
            Self::Evolution => Strategy::Evolution { population: POPULATION, generations: rounds, seed },
        }
    }
}

impl Study<'_> {
    /// The cuts that each search of the recipe finds; `base` are the uncut model's outcomes on the selection items.
    ///
    /// # Errors
    /// A [`Fault`] where the uncut model scores nothing on the tasks that choose.
    pub fn searches(&mut self, base: &Outcomes) -> Result<BTreeMap<String, CutsByDepth>> {
        let mut found = BTreeMap::new();
        let methods = self.recipe.cuts.named()?.into_iter().filter_map(|(name, kind)| match kind {
            Kind::Search(method) => Some((name, method)),
            _ => None,
        });
        for (name, method) in methods.collect::<Vec<_>>() {
            let cuts = self.search(method, base)?;
            found.insert(name, cuts);
        }
        Ok(found)
    }

    /// Refuses a search that has nothing to compare candidates by.
    pub fn check_searchable(&self, base: &Outcomes) -> Result<(), Fault> {
        let searches = self.recipe.cuts.named()?.iter().any(|(_, kind)| matches!(kind, Kind::Search(_)));
        let scores = |task: &String| base.get(task).is_some_and(|outcome| outcome.primary_score().value > 0.0);
        if !searches || self.objective.iter().any(scores) {
            return Ok(());
        }
        Err(Fault::new("the uncut model scores nothing on the tasks that a search is to choose layers by")
            .expected("a task that it can do, to see what cutting costs")
            .got(format!("a mean of 0 on {}", self.objective.join(", ")))
            .hint("name other tasks in `cuts.objective`, or raise `items.select`"))
    }

    /// A search as far as its rounds are there; `base` as for [`Study::searches`], without which none can be.
    pub fn found_search(&self, method: SearchMethod, base: Option<&Outcomes>) -> Result<FoundSearch> {
        let mut found = FoundSearch { method, branches: method.branches(&self.recipe.cuts.depths), seconds: vec![] };
        let Some(base) = base else { return Ok(found) };
        let protected = self.model.numbering.positions(&self.recipe.cuts.keep)?;
        self.find_rounds(&mut found, &CellEvaluator::new(self.cells, &self.objective, base)?, &protected)?;
        Ok(found)
    }

    /// The key of a round of a search, from 0.
    fn round_key<'b>(
        &'b self,
        (method, remove, round): (SearchMethod, Option<usize>, usize),
        evaluator: &'b CellEvaluator<'_>,
        protected: &'b LayerSet<LayerPosition>,
    ) -> SearchKey<'b> {
        SearchKey {
            revision: REVISION,
            model: &self.model.card.hash,
            // Of an evolution's generations each is drawn from those before, however many will follow.
            strategy: method.strategy(1, self.recipe.seed),
            protected,
            remove,
            round,
            objective: &self.objective,
            tasks: &evaluator.tasks_hash,
        }
    }

    fn find_rounds(
        &self,
        found: &mut FoundSearch,
        evaluator: &CellEvaluator<'_>,
        protected: &LayerSet<LayerPosition>,
    ) -> Result<()> {
        for Branch { remove, rounds, state } in &mut found.branches {
            state.base = Some(evaluator.base.clone());
            while state.rounds.len() < *rounds {
                let key = self.round_key((found.method, *remove, state.rounds.len()), evaluator, protected);
                let Some(cell) = self.store.get::<RoundCell>("search", &key)? else { break };
                found.seconds.push(cell.seconds);
                state.evaluations += cell.evaluations;
                state.rounds.push(cell.round);
            }
        }
        Ok(())
    }

    fn search(&mut self, method: SearchMethod, base: &Outcomes) -> Result<CutsByDepth> {
        let protected = self.model.numbering.positions(&self.recipe.cuts.keep)?;
        let evaluator = CellEvaluator::new(self.cells, &self.objective, base)?;
        let seed = self.recipe.seed;
        let mut found = FoundSearch { method, branches: method.branches(&self.recipe.cuts.depths), seconds: vec![] };
        self.find_rounds(&mut found, &evaluator, &protected)?;
        let FoundSearch { mut branches, seconds: found, .. } = found;
        let total = branches.iter().map(|branch| branch.rounds).sum();
        let name = format!("{} search", method.name());
        let mut stage = Stage::begin(self.progress, &name, total, found.len());
        found.into_iter().try_for_each(|seconds| stage.count(seconds, true))?;
        for branch in &mut branches {
            while branch.state.rounds.len() < branch.rounds {
                let round = branch.state.rounds.len();
                let what = method.round_name(branch, round);
                let Branch { remove, state, .. } = branch;
                let problem = Problem {
                    layers: self.model.card.num_layers,
                    remove: remove.unwrap_or(round + 1),
                    protected: protected.clone(),
                };
                let before = std::mem::take(state);
                let evaluated = before.evaluations;
                let strategy = method.strategy(round + 1, seed);
                let go_on = &mut |_: &State| Ok(ControlFlow::Continue(()));
                *state = search(&problem, strategy, &evaluator, before, stage.cell(&what), go_on)?;
                let last = state.rounds.last().context("a search makes a round")?;
                let seconds = evaluator.seconds.take();
                let cell = RoundCell { seconds, evaluations: state.evaluations - evaluated, round: last.clone() };
                let key = self.round_key((method, *remove, round), &evaluator, &protected);
                self.store.put("search", &key, &cell, seconds)?;
                stage.count(seconds, false)?;
            }
        }
        let (cuts, record) = self.searched(method, &branches)?;
        self.record.searches.push(record);
        self.finish(stage.timing())?;
        Ok(cuts)
    }

    /// The cuts of a search that is finished.
    pub fn cuts_of(&self, found: &FoundSearch) -> Result<Option<CutsByDepth>> {
        if found.branches.iter().any(|branch| branch.state.rounds.len() < branch.rounds) {
            return Ok(None);
        }
        Ok(Some(self.searched(found.method, &found.branches)?.0))
    }

    /// The cuts that finished branches give, and their record.
    fn searched(&self, method: SearchMethod, branches: &[Branch]) -> Result<(CutsByDepth, SearchRecord)> {
        let (mut cuts, mut record) = (CutsByDepth::new(), SearchRecord::default());
        record.strategy = method.name().to_owned();
        let layers = self.model.card.num_layers;
        for Branch { remove, state, .. } in branches {
            record.evaluations += state.evaluations;
            // On its way a greedy search has a cut after each round; the others have theirs after the last.
            let ends = if remove.is_none() { 0 } else { state.rounds.len().saturating_sub(1) };
            for round in &state.rounds[ends..] {
                let dropped = round.kept.without(&round.removed).complement(layers);
                let ties = round.ties.iter().map(|tie| self.model.originals(tie)).collect::<Result<_>>()?;
                let originals = self.model.originals(&dropped)?;
                record.cuts.push(SearchedCut { removed: dropped.len(), dropped: originals, score: round.score, ties });
                cuts.insert(dropped.len(), dropped);
            }
        }
        Ok((cuts, record))
    }
}

/// Evaluates candidates on the selection items of some tasks, from cells as far as they are there.
struct CellEvaluator<'a> {
    cells: CutCells<'a>,
    parts: ItemParts<'a>,
    groups: Vec<(Group, usize)>,
    base: ItemScores,
    /// Identifies tasks and items.
    tasks_hash: String,
    /// Time since it was last taken; what other stages evaluated counts as theirs.
    seconds: Cell<f64>,
}

impl<'a> CellEvaluator<'a> {
    fn new(cells: CutCells<'a>, objective: &'a [String], base: &Outcomes) -> Result<Self> {
        let parts = ItemParts::new(cells.select, objective);
        let base: Vec<_> = objective.iter().filter_map(|task| base.get(task)).collect();
        let groups = base.iter().map(|outcome| (outcome.group, outcome.items.len())).collect();
        let base = base.iter().map(|outcome| outcome.scores()).collect();
        let tasks_hash = key_hash(&parts.identity())?;
        Ok(Self { cells, parts, groups, base, tasks_hash, seconds: Cell::new(0.0) })
    }

    fn key<'b>(&'b self, kept: &'b LayerSet<LayerPosition>, range: &Range<usize>) -> SearchScoresKey<'b> {
        let (model, tasks) = (&self.cells.model.card.hash, &self.tasks_hash);
        SearchScoresKey { revision: REVISION, model, kept, tasks, items: [range.start, range.end] }
    }

    fn add(&self, seconds: f64) {
        self.seconds.set(self.seconds.get() + seconds);
    }

    /// What a candidate scored, if that is known: in another stage, or in a round that was interrupted.
    fn found(&self, kept: &LayerSet<LayerPosition>, range: &Range<usize>) -> Result<Option<ItemScores>> {
        let CutCells { store, select, .. } = self.cells;
        if let Some(outcomes) = select.finished(store, &self.cells.candidate(kept), self.parts.names)? {
            let of_task = |task: &String| {
                let scores = outcomes.get(task).map(|outcome| outcome.scores()).unwrap_or_default();
                scores.get(range.start..range.end.min(scores.len())).map(<[f64]>::to_vec).unwrap_or_default()
            };
            return Ok(Some(self.parts.names.iter().map(of_task).collect()));
        }
        let cell = store.get::<ScoresCell>("search-scores", &self.key(kept, range))?;
        Ok(cell.map(|ScoresCell { seconds, scores }| {
            self.add(seconds);
            scores
        }))
    }
}

impl Evaluator for CellEvaluator<'_> {
    fn tasks(&self) -> Vec<(Group, usize)> {
        self.groups.clone()
    }

    fn evaluate(
        &self,
        candidates: &[LayerSet<LayerPosition>],
        range: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<Vec<ItemScores>> {
        let mut scores: Vec<Option<ItemScores>> =
            candidates.iter().map(|kept| self.found(kept, &range)).collect::<Result<_>>()?;
        let mut missing: Vec<usize> = (0..candidates.len()).filter(|at| scores[*at].is_none()).collect();
        while !missing.is_empty() {
            let (own, _claims) = Store::claim_some(&mut missing, TOGETHER, progress, |&at| {
                let claim = self.cells.store.claim("search-scores", &self.key(&candidates[at], &range))?;
                // Another process may have evaluated it since.
                scores[at] = self.found(&candidates[at], &range)?;
                Ok(if scores[at].is_some() { Claimed::Finished } else { claim.map_or(Claimed::ByOther, Claimed::Now) })
            })?;
            if own.is_empty() {
                continue;
            }
            let cuts: Vec<_> = own.iter().map(|at| self.cells.candidate(&candidates[*at])).collect();
            let (found, seconds) = self.parts.evaluate(&cuts, range.clone(), progress)?;
            let seconds = seconds / own.len() as f64;
            for (at, found) in own.iter().zip(found) {
                let cell = ScoresCell { seconds, scores: found };
                self.cells.store.put("search-scores", &self.key(&candidates[*at], &range), &cell, seconds)?;
                self.add(seconds);
                scores[*at] = Some(cell.scores);
            }
        }
        scores.into_iter().map(|scores| scores.context("every candidate was evaluated")).collect()
    }
}
