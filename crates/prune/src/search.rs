//! Searches for the layers to remove that evaluate candidates on tasks, as opposed to criteria, which
//! score each layer by itself.
//!
//! A search gives candidates to an [`Evaluator`], usually a [`SuiteEvaluator`], and gets their scores item by item.
//! Every strategy compares candidates by the [`Objective`] of `lopper-measure`, the group mean retention. Of equal
//! candidates the one that loses the later layer wins. Candidates that a paired test over the items cannot tell from
//! the winner are reported ([`Round::ties`]).
//!
//! - [`Strategy::Greedy`]: in each round the removal that costs least (the paper's iterative search,
//!   arXiv 2602.01997);
//! - [`Strategy::Racing`]: the same, on growing samples of items, dropping candidates that a paired
//!   test says cannot win (after Maron and Moore, "Hoeffding races", NIPS 1993, with a paired t-test
//!   in place of Hoeffding's bound);
//! - [`Strategy::OneShot`]: the layers whose single removal costs least, all at once;
//! - [`Strategy::Block`]: the contiguous block that costs least;
//! - [`Strategy::Evolution`]: mutation and selection of whole sets (after EvoPress, arXiv 2410.14649).
//!
//! An interrupted search continues from its [`State`] and gives the same answer for the same seed. Not covered:
//! searches over attention and MLP separately.

mod evaluator;
mod evolution;
mod race;
mod rounds;

#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};

use lopper_measure::{ItemScores, Objective};
use lopper_record::{Fault, LayerPosition, LayerSet, Progress, Result, Step};
use lopper_tasks::Group;
use serde::{Deserialize, Serialize};

pub use evaluator::SuiteEvaluator;
pub use race::Racing;

/// Scores candidates.
pub trait Evaluator {
    /// The group and the number of items of each task.
    fn tasks(&self) -> Vec<(Group, usize)>;

    /// The scores of each candidate (its kept layers) on the items `range` of every task, as far as a
    /// task has them.
    fn evaluate(
        &self,
        candidates: &[LayerSet<LayerPosition>],
        range: Range<usize>,
        progress: &dyn Progress,
    ) -> Result<Vec<ItemScores>>;
}

/// How candidates are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The removal that costs least, round by round.
    Greedy,
    /// The same on growing samples.
    Racing(Racing),
    /// The layers whose single removal costs least.
    OneShot,
    /// The contiguous block that costs least.
    Block,
    /// Mutation and selection of whole sets.
    Evolution {
        /// Sets evaluated in a generation.
        population: usize,
        /// Generations.
        generations: usize,
        /// Seed of the mutations.
        seed: u64,
    },
}

/// The size of a search: how many layers to remove of which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Layers of the model, by position.
    pub layers: usize,
    /// How many to remove.
    pub remove: usize,
    /// Layers that stay whatever they score.
    pub protected: LayerSet<LayerPosition>,
}

impl Problem {
    /// To remove `remove` of `layers` layers; the first always stays, as in the paper.
    ///
    /// # Errors
    /// A [`Fault`] where so many cannot go.
    pub fn new(layers: usize, remove: usize) -> Result<Self> {
        if remove == 0 || remove >= layers {
            return Err(Fault::new(format!("{remove} layers cannot be removed"))
                .expected(format!("between 1 and {} of the model's {layers} layers", layers.saturating_sub(1)))
                .got(remove.to_string())
                .hint("the first layer always stays")
                .into());
        }
        Ok(Self { layers, remove, protected: LayerSet::from([0]) })
    }

    fn removable(&self, kept: &LayerSet<LayerPosition>) -> LayerSet<LayerPosition> {
        kept.without(&self.protected)
    }
}

/// What one candidate scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The layers it lacks, of those that were left at the start of the round.
    pub removes: LayerSet<LayerPosition>,
    /// The [`Objective`], over the items it was evaluated on.
    pub score: f64,
    /// Items it was evaluated on, of all tasks together.
    pub items: usize,
}

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Layers left when it began.
    pub kept: LayerSet<LayerPosition>,
    /// All candidates, in the order of what they remove.
    pub candidates: Vec<Scored>,
    /// What the winner removes.
    pub removed: LayerSet<LayerPosition>,
    /// The winner's [`Objective`].
    pub score: f64,
    /// The winner's scores of the items it was evaluated on.
    pub scores: ItemScores,
    /// What other candidates remove that the items cannot tell from the winner, the best first.
    pub ties: Vec<LayerSet<LayerPosition>>,
}

/// How far a search has come, as it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Scores of the uncut model, once they are known.
    pub base: Option<ItemScores>,
    /// Finished rounds.
    pub rounds: Vec<Round>,
    /// Items evaluated so far, the uncut model's among them.
    pub evaluations: usize,
    /// Item scores of the last round's candidates, in their order, where the next round is compared with them:
    /// evolution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub population: Vec<ItemScores>,
}

impl State {
    /// Layers that are left.
    pub fn kept(&self, problem: &Problem) -> LayerSet<LayerPosition> {
        match self.rounds.last() {
            None => LayerSet::all(problem.layers),
            Some(round) => round.kept.without(&round.removed),
        }
    }
}

impl State {
    /// The removed layers in the order in which they went, where each round removed one of those that were left.
    pub fn order(&self) -> Option<Vec<LayerPosition>> {
        let one_by_one = self.rounds.iter().all(|round| round.removed.len() == 1)
            && self.rounds.windows(2).all(|pair| pair[0].kept.without(&pair[0].removed) == pair[1].kept);
        one_by_one.then(|| self.rounds.iter().flat_map(|round| round.removed.iter()).collect())
    }
}

/// Receives the state after every round, and says whether to continue.
pub type Recorder<'a> = dyn FnMut(&State) -> Result<ControlFlow<()>> + 'a;

/// Searches, continuing from `state`; `record` receives the state after every round.
///
/// # Errors
/// A [`Fault`] where the uncut model scores nothing on any task; those of the evaluator and of `record`.
pub fn search(
    problem: &Problem,
    strategy: Strategy,
    evaluator: &dyn Evaluator,
    state: State,
    progress: &dyn Progress,
    record: &mut Recorder<'_>,
) -> Result<State> {
    let mut state = state;
    let tasks = evaluator.tasks();
    let most = tasks.iter().map(|(_, items)| *items).max().unwrap_or(0);
    let rounds = match strategy {
        Strategy::Greedy | Strategy::Racing(_) => problem.remove,
        Strategy::OneShot | Strategy::Block => 1,
        Strategy::Evolution { generations, .. } => generations,
    };
    let step = progress.step(Step::new("searching", "rounds", rounds).found(state.rounds.len()));
    if state.base.is_none() {
        let base = evaluator.evaluate(&[LayerSet::all(problem.layers)], 0..most, &*step)?.pop().unwrap_or_default();
        state.evaluations += count(&base);
        state.base = Some(base);
        if record(&state)?.is_break() {
            return Ok(state);
        }
    }
    let groups: Vec<Group> = tasks.iter().map(|(group, _)| *group).collect();
    let base = state.base.clone().unwrap_or_default();
    let objective = Objective::new(&groups, &base);
    if !objective.is_defined() {
        return Err(Fault::new("the uncut model scores nothing on any of the tasks")
            .expected("a task that it can do, to see what cutting costs")
            .got("a mean of 0 on each")
            .hint("take other tasks, or more items")
            .into());
    }
    let session = rounds::Session { problem, evaluator, objective, tasks: groups.len(), most, progress: &*step };
    match strategy {
        Strategy::Greedy => session.greedy(&mut state, None, record)?,
        Strategy::Racing(racing) => session.greedy(&mut state, Some(racing), record)?,
        Strategy::OneShot => session.one_shot(&mut state, record)?,
        Strategy::Block => session.block(&mut state, record)?,
        Strategy::Evolution { population, generations, seed } => {
            session.evolve(&mut state, population, generations, seed, record)?;
        }
    }
    Ok(state)
}

fn count(scores: &ItemScores) -> usize {
    scores.iter().map(Vec::len).sum()
}
