//! Asking many cuts of one model the same things.

use anyhow::Result;
use lopper_infer::{Engine, GenerateOptions, Generation, Loglik, LoglikRequest, ProgressFn, Request};
use lopper_record::{LayerSet, LayerSlot, Progress};

/// The layers that stay, in ascending order.
pub type Cut = Vec<usize>;

/// Log-likelihoods of every request under every cut; `observer` is told cuts done and cuts in all.
pub fn loglikelihood_each(
    engine: &Engine,
    cuts: &[Cut],
    requests: &[LoglikRequest],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Vec<Loglik>>>> {
    Ok(engine.loglikelihood_many(&slots(cuts), requests, &told(cuts, observer))?.0)
}

/// Generations for every request under every cut. Nothing is stopped for going round in a loop, which
/// is one of the things to be seen.
pub fn generate_each(
    engine: &Engine,
    cuts: &[Cut],
    requests: &[Request],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Generation>>> {
    let options = GenerateOptions { loops: None, ..GenerateOptions::default() };
    Ok(engine.generate_many(&slots(cuts), requests, &options, &told(cuts, observer))?.candidates)
}

/// Log-probability of every token of every sequence under every cut.
pub fn token_logprobs_each(
    engine: &Engine,
    cuts: &[Cut],
    sequences: &[Vec<u32>],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Vec<Option<f32>>>>> {
    Ok(engine.token_logprobs_many(&slots(cuts), sequences, &told(cuts, observer))?.0)
}

/// Cuts done of all cuts: they are asked together, so it is a share of the work.
fn told(cuts: &[Cut], observer: &(dyn Fn(usize, usize) + Sync)) -> impl Progress {
    let all = cuts.len();
    ProgressFn(move |done: usize, total: usize| observer(done * all / total.max(1), all))
}

fn slots(cuts: &[Cut]) -> Vec<LayerSet<LayerSlot>> {
    cuts.iter().map(|cut| cut.iter().copied().collect()).collect()
}
