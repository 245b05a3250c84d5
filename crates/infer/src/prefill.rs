//! Reading prompts: for all their candidates at once, with a draft behind them where there is one.

use crate::depths::{LayerKeys, Taps};
use crate::sampling::Sampling;
use crate::shared::Unit;
use crate::worker::{First, Ready, Worker};
use anyhow::Result;
use lopper_model::{Batch, SequenceCache};
use std::sync::{Arc, Mutex};

impl Worker<'_> {
    /// Reads the prompts of `units` and makes their sequences ready.
    pub(crate) fn read(&mut self, units: &[Unit]) -> Result<()> {
        // Neighbours for the same candidates go together.
        for group in units.chunk_by(|a, b| a.candidates == b.candidates) {
            self.read_group(group)?;
        }
        Ok(())
    }

    fn read_group(&mut self, units: &[Unit]) -> Result<()> {
        let shared = self.shared;
        let (engine, forward) = (shared.engine, shared.engine.forward());
        let members = &units[0].candidates;
        let candidates: Vec<Vec<usize>> = members.iter().map(|c| shared.candidates[*c].clone()).collect();
        let text = |unit: &Unit| {
            let (request, draft) = (unit.requests[0], shared.draft(unit.requests[0]).unwrap_or_default());
            [shared.requests[request].prompt.as_slice(), draft].concat()
        };
        let texts: Vec<Vec<u32>> = units.iter().map(text).collect();
        let reading = engine.readings(vec![Batch::new(&texts)]);
        let bounds = reading[0].batch.bounds.clone();
        let blank = || -> Vec<SequenceCache> { candidates.iter().map(|kept| SequenceCache::new(kept.len())).collect() };
        // `caches[unit][member]`
        let caches: Mutex<Vec<Vec<SequenceCache>>> = Mutex::new(units.iter().map(|_| blank()).collect());
        let row = engine.model().config.key_value_size();
        let capture = |made: LayerKeys<'_>| {
            let mut caches = caches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            for &member in made.members {
                let Some(slot) = shared.slots[members[member]][made.layer] else { continue };
                for (caches, w) in caches.iter_mut().zip(bounds.windows(2)) {
                    let range = w[0] * row..w[1] * row;
                    caches[member].layers_mut()[slot].append(&made.keys[range.clone()], &made.values[range], row);
                }
            }
        };
        let taps = Taps { capture: Some(&capture), ..Taps::default() };
        let states = engine.run_depths(&candidates, &reading, taps, &|_| {})?;
        let mut caches = caches.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (caches, text) in caches.iter_mut().zip(&texts) {
            caches.iter_mut().for_each(|cache| cache.set_len(text.len()));
        }
        for state in &states {
            for (at, unit) in units.iter().enumerate() {
                let request = &shared.requests[unit.requests[0]];
                let last = bounds[at] + request.prompt.len() - 1;
                let hidden = &state.hidden[0];
                let greedy = match request.sampling {
                    Sampling::Greedy => {
                        First::Greedy(self.check_draft(hidden, last, &texts[at][request.prompt.len()..]))
                    }
                    Sampling::Sample { .. } => {
                        let mut logits = Vec::new();
                        forward.logits(self.par, &forward.normed_rows(hidden, [last]), &mut logits);
                        First::Logits(Arc::new(logits))
                    }
                };
                for &member in &state.members {
                    let mut cache = std::mem::take(&mut caches[at][member]);
                    // The draft's own keys are of use as far as the draft is right.
                    if let First::Greedy(choices) = &greedy {
                        let right =
                            choices.iter().zip(&texts[at][request.prompt.len()..]).take_while(|(a, b)| a.0 == **b);
                        cache.truncate(request.prompt.len() + right.count());
                    }
                    let (last, others) = unit.requests.split_last().unwrap_or((&0, &[]));
                    for &request in others {
                        self.ready.push_back(Ready {
                            job: (members[member], request),
                            cache: cache.clone(),
                            first: greedy.clone(),
                        });
                    }
                    self.ready.push_back(Ready { job: (members[member], *last), cache, first: greedy.clone() });
                }
            }
        }
        Ok(())
    }

    /// The choices after the row `last` of `hidden` and after the draft's rows that follow, as far as
    /// the draft is what is chosen.
    fn check_draft(&self, hidden: &[f32], last: usize, draft: &[u32]) -> Vec<(u32, f32)> {
        let forward = self.shared.engine.forward();
        let (mut choices, mut piece) = (Vec::<(u32, f32)>::new(), 1);
        while choices.len() <= draft.len() {
            let from = choices.len();
            let to = (from + piece).min(draft.len() + 1);
            choices.extend(forward.greedy(self.par, &forward.normed_rows(hidden, last + from..last + to)));
            let right = choices[from..].iter().zip(&draft[from..]).take_while(|(a, b)| a.0 == **b).count();
            if from + right < to {
                choices.truncate(from + right + 1);
                break;
            }
            // The first difference is likely to come soon, or not for long.
            piece = (piece * 4).min(64);
        }
        choices
    }
}
