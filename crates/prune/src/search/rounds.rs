//! The strategies that remove layers from what is left: greedy with or without racing, one-shot, and
//! blocks.

use anyhow::{Context, Result};

use super::race::{Racing, difference};
use super::{Evaluator, ItemScores, Problem, Recorder, Round, Scored, State, count, objective, without};

/// What all rounds of a search share.
pub(super) struct Session<'a> {
    pub problem: &'a Problem,
    pub evaluator: &'a dyn Evaluator,
    pub base: &'a ItemScores,
    /// Items of the largest task.
    pub most: usize,
}

impl Session<'_> {
    /// Round after round, the removal that costs least.
    pub fn greedy(&self, state: &mut State, racing: Option<Racing>, record: &mut Recorder<'_>) -> Result<()> {
        while state.rounds.len() < self.problem.remove {
            let kept = state.kept(self.problem);
            let removals: Vec<Vec<usize>> = self.problem.removable(&kept).map(|layer| vec![layer]).collect();
            let round = self.best_of(&kept, removals, racing, &mut state.evaluations)?;
            state.rounds.push(round);
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
        let removals: Vec<Vec<usize>> = self.problem.removable(&kept).map(|layer| vec![layer]).collect();
        let mut round = self.best_of(&kept, removals, None, &mut state.evaluations)?;
        let mut order: Vec<&Scored> = round.candidates.iter().collect();
        order.sort_by(|a, b| better(a, b));
        let mut removed: Vec<usize> =
            order.iter().take(self.problem.remove).flat_map(|scored| scored.removes.clone()).collect();
        removed.sort_unstable();
        let set = without(&kept, &removed);
        let scores = self.evaluator.evaluate(&[set], 0..self.most)?.pop().context("one candidate was asked")?;
        state.evaluations += count(&scores);
        // Ties of single layers say nothing about the set.
        (round.removed, round.score, round.ties) = (removed, objective(&scores, self.base), vec![]);
        round.scores = scores;
        state.rounds.push(round);
        record(state).map(drop)
    }

    /// The contiguous block of the right size that costs least.
    pub fn block(&self, state: &mut State, record: &mut Recorder<'_>) -> Result<()> {
        if !state.rounds.is_empty() {
            return Ok(());
        }
        let kept = state.kept(self.problem);
        let blocks = kept
            .windows(self.problem.remove)
            .filter(|block| block.iter().all(|layer| !self.problem.protected.contains(layer)))
            .map(<[usize]>::to_vec)
            .collect();
        let round = self.best_of(&kept, blocks, None, &mut state.evaluations)?;
        state.rounds.push(round);
        record(state).map(drop)
    }

    /// Evaluates every removal from `kept` and finds the best.
    pub fn best_of(
        &self,
        kept: &[usize],
        removals: Vec<Vec<usize>>,
        racing: Option<Racing>,
        evaluations: &mut usize,
    ) -> Result<Round> {
        let mut scores: Vec<ItemScores> = vec![vec![vec![]; self.base.len()]; removals.len()];
        let mut running: Vec<usize> = (0..removals.len()).collect();
        let mut done = 0;
        while done < self.most && !running.is_empty() {
            let to = racing.map_or(self.most, |racing| racing.next(done)).min(self.most);
            let asked: Vec<Vec<usize>> = running.iter().map(|at| without(kept, &removals[*at])).collect();
            let found = self.evaluator.evaluate(&asked, done..to)?;
            for (at, found) in running.iter().zip(found) {
                *evaluations += count(&found);
                for (all, new) in scores[*at].iter_mut().zip(found) {
                    all.extend(new);
                }
            }
            done = to;
            if let Some(racing) = racing.filter(|_| done < self.most) {
                let (left, tied) = racing.survivors(&running, &scores, self.base);
                running = left;
                if tied {
                    break;
                }
            }
        }
        let candidates: Vec<Scored> = removals
            .into_iter()
            .zip(&scores)
            .map(|(removes, scores)| Scored { removes, score: objective(scores, self.base), items: count(scores) })
            .collect();
        // Only candidates that were asked everything that any was asked can win.
        let winner = running
            .iter()
            .copied()
            .min_by(|a, b| better(&candidates[*a], &candidates[*b]))
            .context("no layer can be removed any more")?;
        let mut ties: Vec<&Scored> = running
            .iter()
            .filter(|at| **at != winner)
            .filter(|at| {
                let (difference, error) = difference(&scores[winner], &scores[**at], self.base);
                difference <= TIE * error
            })
            .map(|at| &candidates[*at])
            .collect();
        ties.sort_by(|a, b| better(a, b));
        let ties = ties.into_iter().map(|scored| scored.removes.clone()).collect();
        let Scored { removes: removed, score, .. } = candidates[winner].clone();
        let scores = scores.swap_remove(winner);
        Ok(Round { kept: kept.to_vec(), candidates, removed, score, scores, ties })
    }
}

/// Standard errors within which a difference counts as none: 95 %, two-sided.
const TIE: f64 = 1.96;

/// The better candidate first; of equal ones that which loses later layers.
pub(super) fn better(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then_with(|| b.removes.cmp(&a.removes))
}
