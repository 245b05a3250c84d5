//! The strategies that remove layers from what is left: greedy with or without racing, one-shot, and
//! blocks.

use lopper_measure::{ItemScores, Objective};
use lopper_record::{Context, LayerPosition, LayerSet, Progress, Result};

use super::{Evaluator, Problem, Racing, Recorder, Round, Scored, State, count};

/// What all rounds of a search share.
pub(super) struct Session<'a> {
    pub problem: &'a Problem,
    pub evaluator: &'a dyn Evaluator,
    pub objective: Objective,
    /// How many tasks there are.
    pub tasks: usize,
    /// Items of the largest task.
    pub most: usize,
    pub progress: &'a dyn Progress,
}

impl Session<'_> {
    fn single_removals(&self, kept: &LayerSet<LayerPosition>) -> Vec<LayerSet<LayerPosition>> {
        self.problem.removable(kept).iter().map(|layer| LayerSet::from_iter([layer])).collect()
    }

    /// Enters a finished round into the state.
    pub fn finish(&self, state: &mut State, round: Round) {
        state.rounds.push(round);
        self.progress.set(state.rounds.len());
    }

    /// Round after round, the removal that costs least.
    pub fn greedy(&self, state: &mut State, racing: Option<Racing>, record: &mut Recorder<'_>) -> Result<()> {
        while state.rounds.len() < self.problem.remove {
            let kept = state.kept(self.problem);
            let removals = self.single_removals(&kept);
            let round = self.best_of(&kept, removals, racing, &mut state.evaluations)?;
            self.finish(state, round);
            if record(state)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The layers whose single removal costs least, together.
    pub fn one_shot(&self, state: &mut State, record: &mut Recorder<'_>) -> Result<()> {
        if !state.rounds.is_empty() {
            return Ok(());
        }
        let kept = state.kept(self.problem);
        let removals = self.single_removals(&kept);
        let mut round = self.best_of(&kept, removals, None, &mut state.evaluations)?;
        let mut order: Vec<&Scored> = round.candidates.iter().collect();
        order.sort_by(|a, b| better(a, b));
        let removed: LayerSet<LayerPosition> =
            order.iter().take(self.problem.remove).flat_map(|scored| scored.removes.iter()).collect();
        let cut = kept.without(&removed);
        let scores = self.evaluator.evaluate(&[cut], 0..self.most, self.progress)?;
        let scores = scores.into_iter().next().context("one candidate was evaluated")?;
        state.evaluations += count(&scores);
        // Ties of single layers say nothing about the set.
        (round.removed, round.score, round.ties) = (removed, self.objective.value(&scores), vec![]);
        round.scores = scores;
        self.finish(state, round);
        record(state).map(drop)
    }

    /// The contiguous block of the right size that costs least.
    pub fn block(&self, state: &mut State, record: &mut Recorder<'_>) -> Result<()> {
        if !state.rounds.is_empty() {
            return Ok(());
        }
        let kept = state.kept(self.problem);
        let layers: Vec<LayerPosition> = kept.iter().collect();
        let blocks = layers.windows(self.problem.remove).map(|block| block.iter().copied().collect());
        let blocks = blocks.filter(|block: &LayerSet<_>| block.without(&self.problem.protected) == *block).collect();
        let round = self.best_of(&kept, blocks, None, &mut state.evaluations)?;
        self.finish(state, round);
        record(state).map(drop)
    }

    /// Evaluates every removal from `kept` and finds the best.
    pub fn best_of(
        &self,
        kept: &LayerSet<LayerPosition>,
        removals: Vec<LayerSet<LayerPosition>>,
        racing: Option<Racing>,
        evaluations: &mut usize,
    ) -> Result<Round> {
        let (evaluated, running) = self.evaluated(kept, removals, racing, evaluations)?;
        // Only candidates that were evaluated on every item that any was evaluated on can win.
        let mut running: Vec<&Evaluated> = running.iter().map(|at| &evaluated[*at]).collect();
        running.sort_by(|a, b| better(&a.scored, &b.scored));
        let (winner, others) = running.split_first().context("no layer can be removed any more")?;
        let ties = self.ties(winner, others.iter().copied());
        let Scored { removes: removed, score, .. } = winner.scored.clone();
        let scores = winner.scores.clone();
        let candidates = evaluated.into_iter().map(|candidate| candidate.scored).collect();
        Ok(Round { kept: kept.clone(), candidates, removed, score, scores, ties })
    }

    /// What those of `others`, in order, remove that the paired test cannot tell from the winner.
    pub fn ties<'a>(
        &self,
        winner: &Evaluated,
        others: impl Iterator<Item = &'a Evaluated>,
    ) -> Vec<LayerSet<LayerPosition>> {
        let tied = |other: &&Evaluated| {
            let (difference, error) = self.objective.difference(&winner.scores, &other.scores);
            difference <= TIE * error
        };
        others.filter(tied).map(|other| other.scored.removes.clone()).collect()
    }

    /// Evaluates every removal from `kept`, in order, and says which were evaluated on all items that any was: with
    /// racing, those that may still win.
    pub fn evaluated(
        &self,
        kept: &LayerSet<LayerPosition>,
        removals: Vec<LayerSet<LayerPosition>>,
        racing: Option<Racing>,
        evaluations: &mut usize,
    ) -> Result<(Vec<Evaluated>, Vec<usize>)> {
        let mut scores: Vec<ItemScores> = vec![vec![vec![]; self.tasks]; removals.len()];
        let mut running: Vec<usize> = (0..removals.len()).collect();
        let mut done = 0;
        while done < self.most && !running.is_empty() {
            let to = racing.map_or(self.most, |racing| racing.next(done)).min(self.most);
            let candidates: Vec<_> = running.iter().map(|at| kept.without(&removals[*at])).collect();
            let found = self.evaluator.evaluate(&candidates, done..to, self.progress)?;
            for (at, found) in running.iter().zip(found) {
                *evaluations += count(&found);
                for (all, new) in scores[*at].iter_mut().zip(found) {
                    all.extend(new);
                }
            }
            done = to;
            if let Some(racing) = racing.filter(|_| done < self.most) {
                let (left, tied) = racing.survivors(&running, &scores, &self.objective);
                running = left;
                if tied {
                    break;
                }
            }
        }
        let evaluated = removals.into_iter().zip(scores).map(|(removes, scores)| {
            let scored = Scored { removes, score: self.objective.value(&scores), items: count(&scores) };
            Evaluated { scored, scores }
        });
        Ok((evaluated.collect(), running))
    }
}

/// A candidate with its scores item by item.
pub(super) struct Evaluated {
    pub scored: Scored,
    pub scores: ItemScores,
}

/// Standard errors within which a difference counts as none: 95 %, two-sided.
const TIE: f64 = 1.96;

/// The better candidate first; of equal ones that which loses later layers.
pub(super) fn better(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| b.removes.cmp(&a.removes))
}
