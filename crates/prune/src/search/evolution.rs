//! Evolution of whole sets: each generation mutates the best sets by exchanging kept and removed
//! layers, and keeps the best of parents and children. Which of them the items cannot tell from the best is decided by
//! the same paired test as in the other strategies.

use std::collections::BTreeSet;

use lopper_record::{Context, Fault, LayerPosition, LayerSet, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::rounds::{Evaluated, Session, better};
use super::{Recorder, Round, State};

/// Parents of a generation.
const PARENTS: usize = 4;

impl Session<'_> {
    /// Generations of sets; every generation is a round whose candidates are all sets known by then.
    pub fn evolve(
        &self,
        state: &mut State,
        population: usize,
        generations: usize,
        seed: u64,
        record: &mut Recorder<'_>,
    ) -> Result<()> {
        let kept = LayerSet::all(self.problem.layers);
        let free: Vec<LayerPosition> = self.problem.removable(&kept).iter().collect();
        ensure!(population > 0 && generations > 0, "a population and a generation at least");
        if free.len() < self.problem.remove {
            return Err(Fault::new("too many layers are to be removed")
                .expected(format!("at most {}", free.len()))
                .got(self.problem.remove.to_string())
                .into());
        }
        while state.rounds.len() < generations {
            // Each generation draws from a stream of its own, so that a resumed search draws the same.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(state.rounds.len() as u64);
            let mut known = self.population(state, &kept)?;
            let mut seen: BTreeSet<LayerSet<LayerPosition>> =
                known.iter().map(|candidate| candidate.scored.removes.clone()).collect();
            let mut children = Vec::new();
            // There may be fewer sets than wanted.
            for _ in 0..20 * population {
                if children.len() == population {
                    break;
                }
                let child = match known.len() {
                    0 => draw(&free, self.problem.remove, &mut rng),
                    n => mutated(&known[below(&mut rng, n.min(PARENTS))].scored.removes, &free, &mut rng),
                };
                if seen.insert(child.clone()) {
                    children.push(child);
                }
            }
            if !children.is_empty() {
                known.extend(self.evaluated(&kept, children, None, &mut state.evaluations)?.0);
            }
            known.sort_by(|a, b| better(&a.scored, &b.scored));
            known.truncate(population.max(PARENTS));
            let (best, others) = known.split_first().context("no set of layers can be removed")?;
            let ties = self.ties(best, others.iter());
            let (removed, score, scores) = (best.scored.removes.clone(), best.scored.score, best.scores.clone());
            let candidates = known.iter().map(|candidate| candidate.scored.clone()).collect();
            self.finish(state, Round { kept: kept.clone(), removed, score, scores, candidates, ties });
            // Nothing is compared with the last generation.
            let over = state.rounds.len() >= generations;
            state.population =
                if over { vec![] } else { known.into_iter().map(|candidate| candidate.scores).collect() };
            if record(state)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The sets known so far, the best first. A record without their item scores has them evaluated again.
    fn population(&self, state: &mut State, kept: &LayerSet<LayerPosition>) -> Result<Vec<Evaluated>> {
        let Some(last) = state.rounds.last() else { return Ok(vec![]) };
        if state.population.len() != last.candidates.len() {
            let removals = last.candidates.iter().map(|scored| scored.removes.clone()).collect();
            return Ok(self.evaluated(kept, removals, None, &mut state.evaluations)?.0);
        }
        let candidates = last.candidates.iter().cloned().zip(std::mem::take(&mut state.population));
        Ok(candidates.map(|(scored, scores)| Evaluated { scored, scores }).collect())
    }
}

fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    // The bias of a remainder of 64 bits is far below anything that shows here.
    (rng.next_u64() % n as u64) as usize
}

fn draw(free: &[LayerPosition], n: usize, rng: &mut ChaCha8Rng) -> LayerSet<LayerPosition> {
    let mut pool = free.to_vec();
    (0..n).map(|_| pool.swap_remove(below(rng, pool.len()))).collect()
}

/// One or two of the removed layers come back, and as many others go.
fn mutated(removes: &LayerSet<LayerPosition>, free: &[LayerPosition], rng: &mut ChaCha8Rng) -> LayerSet<LayerPosition> {
    let mut set: Vec<LayerPosition> = removes.iter().collect();
    let mut others: Vec<LayerPosition> = free.iter().copied().filter(|layer| !set.contains(layer)).collect();
    for _ in 0..1 + below(rng, 2) {
        if others.is_empty() || set.is_empty() {
            break;
        }
        let (out, back) = (below(rng, others.len()), below(rng, set.len()));
        std::mem::swap(&mut set[back], &mut others[out]);
    }
    set.into_iter().collect()
}
