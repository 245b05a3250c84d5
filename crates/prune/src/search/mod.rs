//! Searches for the layers to remove that evaluate candidates on tasks, as opposed to criteria, which
//! read a score of each layer.
//!
//! A search asks an [`Evaluator`] for the scores of candidates item by item; the evaluator asks all
//! of them at once of one set of weights. Every strategy compares candidates by the same
//! [`objective`]: the mean over tasks of the score divided by the uncut model's. Of equal candidates
//! the one that loses the later layer wins, and equality is reported ([`Round::ties`]).
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
//! A search goes on from where it was interrupted ([`State`]) and gives the same answer for the same
//! seed. Not covered: searches over attention and MLP apart.

mod evolution;
mod race;
mod rounds;

#[cfg(test)]
mod tests;

use std::ops::{ControlFlow, Range};

use anyhow::Result;
use lopper_record::Fault;
use serde::{Deserialize, Serialize};

pub use race::Racing;

/// Scores of items by task: `scores[task][item]`.
pub type ItemScores = Vec<Vec<f64>>;

/// Answers what candidates score.
pub trait Evaluator {
    /// Items of each task.
    fn items(&self) -> Vec<usize>;

    /// The scores of each candidate (its kept layers) on the items `range` of every task, as far as a
    /// task has them.
    fn evaluate(&self, candidates: &[Vec<usize>], range: Range<usize>) -> Result<Vec<ItemScores>>;
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

/// What is searched for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Layers of the model, by position.
    pub layers: usize,
    /// How many to remove.
    pub remove: usize,
    /// Layers that stay whatever they score.
    pub protected: Vec<usize>,
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
        Ok(Self { layers, remove, protected: vec![0] })
    }

    fn removable<'a>(&'a self, kept: &'a [usize]) -> impl Iterator<Item = usize> + 'a {
        kept.iter().copied().filter(|layer| !self.protected.contains(layer))
    }
}

/// What one candidate scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scored {
    /// The layers it lacks, of those there were at the start of the round.
    pub removes: Vec<usize>,
    /// [`objective`], over the items it was asked.
    pub score: f64,
    /// Items it was asked, of all tasks together.
    pub items: usize,
}

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Layers kept when it began.
    pub kept: Vec<usize>,
    /// All candidates, in the order of what they remove.
    pub candidates: Vec<Scored>,
    /// What the winner removes.
    pub removed: Vec<usize>,
    /// The winner's [`objective`].
    pub score: f64,
    /// The winner's scores of the items it was asked.
    pub scores: ItemScores,
    /// What other candidates remove that the items cannot tell from the winner, the best first.
    pub ties: Vec<Vec<usize>>,
}

/// How far a search has come, as it is recorded.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Scores of the uncut model, once they are known.
    pub base: Option<ItemScores>,
    /// Finished rounds.
    pub rounds: Vec<Round>,
    /// Items asked so far, the uncut model's among them.
    pub evaluations: usize,
}

impl State {
    /// Layers that are left.
    pub fn kept(&self, problem: &Problem) -> Vec<usize> {
        match self.rounds.last() {
            None => (0..problem.layers).collect(),
            Some(round) => without(&round.kept, &round.removed),
        }
    }
}

/// Mean over tasks of the mean score divided by the uncut model's mean over the same items. Tasks on
/// which the uncut model scores nothing say nothing and are left out.
pub fn objective(scores: &ItemScores, base: &ItemScores) -> f64 {
    let ratios: Vec<f64> = scores
        .iter()
        .zip(base)
        .filter_map(|(scores, base)| {
            let asked = base.get(..scores.len())?;
            let base = mean(base);
            (base > 0.0 && !asked.is_empty()).then(|| mean(scores) / base)
        })
        .collect();
    mean(&ratios)
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

fn without(kept: &[usize], removed: &[usize]) -> Vec<usize> {
    kept.iter().copied().filter(|layer| !removed.contains(layer)).collect()
}

/// Is given the state after every round, and says whether to go on.
pub type Recorder<'a> = dyn FnMut(&State) -> Result<ControlFlow<()>> + 'a;

/// Searches, going on from `state`; `record` is given the state after every round.
///
/// # Errors
/// A [`Fault`] where the uncut model scores nothing on any task; what the evaluator or `record`
/// returns.
pub fn search(
    problem: &Problem,
    strategy: Strategy,
    evaluator: &dyn Evaluator,
    state: State,
    record: &mut Recorder<'_>,
) -> Result<State> {
    let mut state = state;
    let most = evaluator.items().into_iter().max().unwrap_or(0);
    if state.base.is_none() {
        let all: Vec<usize> = (0..problem.layers).collect();
        let base = evaluator.evaluate(&[all], 0..most)?.pop().unwrap_or_default();
        state.evaluations += count(&base);
        state.base = Some(base);
        if record(&state)?.is_break() {
            return Ok(state);
        }
    }
    let base = state.base.clone().unwrap_or_default();
    if base.iter().all(|scores| mean(scores) <= 0.0) {
        return Err(Fault::new("the uncut model scores nothing on any of the tasks")
            .expected("a task that it can do, to see what cutting costs")
            .got("a mean of 0 on each")
            .hint("take other tasks, or more items")
            .into());
    }
    let session = rounds::Session { problem, evaluator, base: &base, most };
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
