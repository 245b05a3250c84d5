//! Prefill: prompts go through the layers for all their candidates at once, followed by a draft where there is one.

use crate::decode_context::PrefillBatch;
use crate::layer_trie::{Hooks, LayerKeys};
use crate::sampling::Sampling;
use crate::thinking::Thinking;
use crate::worker::{First, Ready, Worker};
use lopper_model::{Batch, LayerCache, SequenceCache};
use lopper_record::{LayerSet, LayerSlot, Result};
use std::sync::{Arc, Mutex};

impl Worker<'_> {
    /// Runs the prefill of `batches`; their sequences are ready then.
    pub(crate) fn prefill(&mut self, batches: &[PrefillBatch]) -> Result<()> {
        // Neighbours for the same candidates go together.
        for group in batches.chunk_by(|a, b| a.candidates == b.candidates) {
            self.prefill_group(group)?;
        }
        Ok(())
    }

    fn prefill_group(&mut self, prompts: &[PrefillBatch]) -> Result<()> {
        let context = self.context;
        let (engine, forward) = (context.engine, context.engine.forward());
        let members = &prompts[0].candidates;
        let candidates: Vec<LayerSet<LayerSlot>> = members.iter().map(|c| context.candidates[*c].clone()).collect();
        let texts: Vec<Vec<u32>> = prompts
            .iter()
            .map(|prompt| {
                let request = prompt.requests[0];
                [context.requests[request].prompt.as_slice(), context.draft(request)].concat()
            })
            .collect();
        let batch = engine.prepare([Batch::new(&texts)]);
        let bounds = &batch[0].batch.bounds;
        let blank = || -> Vec<SequenceCache> { candidates.iter().map(|kept| SequenceCache::new(kept.len())).collect() };
        // `caches[prompt][member]`
        let caches: Mutex<Vec<Vec<SequenceCache>>> = Mutex::new(prompts.iter().map(|_| blank()).collect());
        let layout = forward.kv_layout();
        let width = layout.heads * layout.dim;
        let keys = |made: LayerKeys<'_>| {
            let mut caches = caches.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            for (at, w) in bounds.windows(2).enumerate() {
                let range = w[0] * width..w[1] * width;
                // All candidates that have come this far have the same blocks.
                let mut slot = LayerCache::default();
                slot.append(&made.keys[range.clone()], &made.values[range], layout);
                for &member in made.members {
                    let Some(index) = candidates[member].place(made.layer) else { continue };
                    caches[at][member].layers_mut()[index] = slot.clone();
                }
            }
        };
        let hooks = Hooks { keys: Some(&keys), ..Hooks::default() };
        let states = engine.run_candidates(&candidates, &batch, context.progress, hooks)?;
        let mut caches = caches.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        for (caches, text) in caches.iter_mut().zip(&texts) {
            caches.iter_mut().for_each(|cache| cache.set_len(text.len()));
        }
        for state in &states {
            let hidden = &state.hidden[0];
            for (at, prompt) in prompts.iter().enumerate() {
                let request = &context.requests[prompt.requests[0]];
                let draft = &texts[at][request.prompt.len()..];
                let last = bounds[at] + request.prompt.len() - 1;
                let (first, right) = match request.sampling {
                    // Where a thought is ended at once, the first token is not chosen.
                    Sampling::Greedy if !Thinking::new(request).is_ending() => {
                        let choices = self.check_draft(hidden, last, draft);
                        let right = choices.iter().zip(draft).take_while(|(a, b)| a.0 == **b).count();
                        (First::Greedy(choices), right)
                    }
                    _ => {
                        let mut logits = Vec::new();
                        forward.logits(self.threads, &forward.normed_rows(hidden, [last]), &mut logits);
                        (First::Logits(Arc::new(logits)), 0)
                    }
                };
                for &member in &state.members {
                    let mut cache = std::mem::take(&mut caches[at][member]);
                    // The cache entries of wrong draft tokens are dropped.
                    cache.truncate(request.prompt.len() + right);
                    let caches = std::iter::repeat_n(cache, prompt.requests.len());
                    self.ready.extend(prompt.requests.iter().zip(caches).map(|(request, cache)| Ready {
                        job: (members[member], *request),
                        cache,
                        first: first.clone(),
                    }));
                }
            }
        }
        Ok(())
    }

    /// The greedy choices after the token `last` of the batch and after each token of the draft that follows it, up to
    /// the first that differs from the draft.
    fn check_draft(&self, hidden: &[f32], last: usize, draft: &[u32]) -> Vec<(u32, f32)> {
        let forward = self.context.engine.forward();
        let (mut choices, mut piece) = (Vec::<(u32, f32)>::new(), 1);
        while choices.len() <= draft.len() {
            let from = choices.len();
            let to = (from + piece).min(draft.len() + 1);
            choices.extend(forward.greedy(self.threads, &forward.normed_rows(hidden, last + from..last + to)));
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
