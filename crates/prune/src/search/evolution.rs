//! Evolution of whole sets: each generation mutates the best sets by exchanging kept and removed
//! layers, and keeps the best of parents and children.

use std::collections::BTreeSet;

use lopper_record::{Fault, LayerPosition, LayerSet, Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::rounds::{Session, better};
use super::{Recorder, Round, Scored, State};

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
            let known: Vec<Scored> = state.rounds.last().map(|round| round.candidates.clone()).unwrap_or_default();
            let mut seen: BTreeSet<LayerSet<LayerPosition>> =
                known.iter().map(|scored| scored.removes.clone()).collect();
            let mut children = Vec::new();
            // There may be fewer sets than wanted.
            for _ in 0..20 * population {
                if children.len() == population {
                    break;
                }
                let child = match known.len() {
                    0 => draw(&free, self.problem.remove, &mut rng),
                    n => mutated(&known[below(&mut rng, n.min(PARENTS))].removes, &free, &mut rng),
                };
                if seen.insert(child.clone()) {
                    children.push(child);
                }
            }
            let mut candidates = known;
            let mut scores = state.rounds.last().map(|round| round.scores.clone()).unwrap_or_default();
            if !children.is_empty() {
                let round = self.best_of(&kept, children, None, &mut state.evaluations)?;
                if state.rounds.last().is_none_or(|last| better_round(&round, last)) {
                    scores = round.scores;
                }
                candidates.extend(round.candidates);
            }
            candidates.sort_by(better);
            candidates.truncate(population.max(PARENTS));
            let best = candidates[0].clone();
            let equal = candidates[1..].iter().filter(|other| other.score == best.score);
            let ties = equal.map(|other| other.removes.clone()).collect();
            let (removed, score) = (best.removes, best.score);
            self.finish(state, Round { kept: kept.clone(), removed, score, scores, candidates, ties });
            if record(state)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// Whether the best of `round`'s children comes before the best set so far.
fn better_round(round: &Round, last: &Round) -> bool {
    let scored = |round: &Round| Scored { removes: round.removed.clone(), score: round.score, items: 0 };
    better(&scored(round), &scored(last)).is_lt()
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
