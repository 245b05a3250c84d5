//! Asking many cuts of one model the same things.

use anyhow::Result;
use lopper_infer::{Engine, GenerateOptions, Generation, Loglik, LoglikRequest, Progress, Request};

/// The layers that stay, in ascending order.
pub type Cut = Vec<usize>;

/// Log-likelihoods of every request under every cut; `observer` is told cuts done and cuts in all.
pub fn loglikelihood_each(
    engine: &Engine,
    cuts: &[Cut],
    requests: &[LoglikRequest],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Vec<Loglik>>>> {
    each(cuts, observer, |cut| engine.loglikelihood(cut, requests, &silent))
}

/// Generations for every request under every cut.
pub fn generate_each(
    engine: &Engine,
    cuts: &[Cut],
    requests: &[Request],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Generation>>> {
    each(cuts, observer, |cut| engine.generate(cut, requests, &GenerateOptions::default(), &silent))
}

/// Log-probability of every token of every sequence under every cut.
pub fn token_logprobs_each(
    engine: &Engine,
    cuts: &[Cut],
    sequences: &[Vec<u32>],
    observer: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Vec<Vec<Option<f32>>>>> {
    each(cuts, observer, |cut| engine.token_logprobs(cut, sequences, &silent))
}

fn silent(_: Progress) {}

/// One cut after the other: the one place to change for an engine that takes them together.
fn each<T>(cuts: &[Cut], observer: &(dyn Fn(usize, usize) + Sync), ask: impl Fn(&Cut) -> Result<T>) -> Result<Vec<T>> {
    let mut results = Vec::with_capacity(cuts.len());
    for (done, cut) in cuts.iter().enumerate() {
        observer(done, cuts.len());
        results.push(ask(cut)?);
    }
    observer(cuts.len(), cuts.len());
    Ok(results)
}
