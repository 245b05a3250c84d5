//! The searches of a study: `greedy`, `racing`, `block`, `evolution`. Candidates are evaluated on the selection items
//! of the tasks that choose, as by `lopper search`, over the shared weights. A finished round is a cell, and so is what
//! the candidates of an unfinished one have scored so far; the layer map is the first round of a greedy search, and is
//! not evaluated again.
//!
//! A greedy search gives a cut of every depth on its way; `block` and `evolution` search each depth by itself.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use lopper_measure::{ItemScores, Outcomes};
use lopper_prune::search::{Evaluator, Problem, Racing, Round, State, Strategy, search};
use lopper_record::study::{SearchRecord, SearchedCut};
use lopper_record::{Context, Fault, LayerPosition, LayerSet, Progress, Result, key_hash};
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

impl SearchMethod {
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

    fn search(&mut self, method: SearchMethod, base: &Outcomes) -> Result<CutsByDepth> {
        let depths = self.recipe.cuts.depths.clone();
        let protected = self.model.numbering.positions(&self.recipe.cuts.keep)?;
        let evaluator = CellEvaluator::new(self.cells, &self.objective, base)?;
        let seed = self.recipe.seed;
        let (model, tasks) = (&self.model.card.hash, &evaluator.tasks_hash);
        let key = |remove: Option<usize>, round: usize| SearchKey {
            revision: REVISION,
            model,
            // Of an evolution's generations each is drawn from those before, however many will follow.
            strategy: method.strategy(1, seed),
            protected: &protected,
            remove,
            round,
            objective: &self.objective,
            tasks,
        };
        let mut branches = method.branches(&depths);
        let mut found = Vec::new();
        for Branch { remove, rounds, state } in &mut branches {
            state.base = Some(evaluator.base.clone());
            while state.rounds.len() < *rounds
                && let Some(cell) = self.store.get::<RoundCell>("search", &key(*remove, state.rounds.len()))?
            {
                found.push(cell.seconds);
                state.evaluations += cell.evaluations;
                state.rounds.push(cell.round);
            }
        }
        let total = branches.iter().map(|branch| branch.rounds).sum();
        let name = format!("{} search", method.name());
        let mut stage = Stage::begin(self.progress, &name, total, found.len());
        found.into_iter().try_for_each(|seconds| stage.count(seconds, true))?;
        for Branch { remove, rounds, state } in &mut branches {
            while state.rounds.len() < *rounds {
                let round = state.rounds.len();
                let problem = Problem {
                    layers: self.model.card.num_layers,
                    remove: remove.unwrap_or(round + 1),
                    protected: protected.clone(),
                };
                let what = match remove {
                    None => format!("layer {} of {rounds}", round + 1),
                    Some(depth) if *rounds == 1 => format!("{depth} layers"),
                    Some(depth) => format!("{depth} layers, generation {} of {rounds}", round + 1),
                };
                let before = std::mem::take(state);
                let evaluated = before.evaluations;
                let strategy = method.strategy(round + 1, seed);
                let go_on = &mut |_: &State| Ok(ControlFlow::Continue(()));
                *state = search(&problem, strategy, &evaluator, before, stage.cell(&what), go_on)?;
                let last = state.rounds.last().context("a search makes a round")?;
                let seconds = evaluator.seconds.take();
                let cell = RoundCell { seconds, evaluations: state.evaluations - evaluated, round: last.clone() };
                self.store.put("search", &key(*remove, round), &cell, seconds)?;
                stage.count(seconds, false)?;
            }
        }
        let (cuts, record) = self.searched(method, &branches)?;
        self.record.searches.push(record);
        self.finish(stage.timing())?;
        Ok(cuts)
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
        let missing: Vec<usize> = (0..candidates.len()).filter(|at| scores[*at].is_none()).collect();
        for chunk in missing.chunks(TOGETHER) {
            let cuts: Vec<_> = chunk.iter().map(|at| self.cells.candidate(&candidates[*at])).collect();
            let (found, seconds) = self.parts.evaluate(&cuts, range.clone(), progress)?;
            let seconds = seconds / chunk.len() as f64;
            for (at, found) in chunk.iter().zip(found) {
                let cell = ScoresCell { seconds, scores: found };
                self.cells.store.put("search-scores", &self.key(&candidates[*at], &range), &cell, seconds)?;
                self.add(seconds);
                scores[*at] = Some(cell.scores);
            }
        }
        scores.into_iter().map(|scores| scores.context("every candidate was evaluated")).collect()
    }
}
