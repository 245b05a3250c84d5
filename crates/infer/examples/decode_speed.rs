//! Tokens per second of generation on a random model of the pocket model's size: a thing to
//! measure with, not a test.
//!
//! `cargo run --example decode_speed -p lopper-infer -- [requests] [prompt] [new] [batch] [threads]`

#![allow(clippy::print_stdout, reason = "an example speaks to whoever runs it")]

use lopper_infer::{Engine, GenerateOptions, LoglikRequest, Request, Sampling, silent};
use lopper_model::kernels::gemm::linear;
use lopper_model::{Config, Model, Par};
use std::time::Instant;

fn main() -> anyhow::Result<()> {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let number = |i: usize, default: usize| numbers.get(i).copied().unwrap_or(default);
    let (requests, prompt, new, batch, threads) =
        (number(0, 256), number(1, 60), number(2, 100), number(3, 64), number(4, 2));
    let config = Config {
        vocab_size: 600,
        hidden_size: 128,
        num_key_value_heads: 2,
        intermediate_size: 352,
        rms_norm_eps: 1e-5,
        tie_word_embeddings: true,
        max_position_embeddings: 4096,
        ..Config::plain(12, 4, 32)
    };
    let model = Model::random(config, 0.05, 1)?;
    println!("{:.2}M parameters, {requests} requests, {prompt}+{new} tokens", model.parameter_count() as f64 / 1e6);
    println!("large matrix products, one thread: {:.0} GFLOP/s now", machine());
    let engine = Engine::new(model, threads)?;
    let kept = engine.all_layers();
    let tokens = |seed: usize, n: usize| (0..n).map(|j| ((seed * 7919 + j * 131) % 600) as u32).collect::<Vec<_>>();
    let sampling = [Sampling::Greedy, Sampling::Sample { temperature: 0.9, top_k: Some(50), top_p: Some(0.95) }];
    for sampling in sampling {
        let requests: Vec<Request> = (0..requests)
            .map(|i| Request { sampling, seed: i as u64, ..Request::greedy(tokens(i, prompt), new) })
            .collect();
        let options = GenerateOptions { batch, ..GenerateOptions::default() };
        let start = Instant::now();
        let generations = engine.generate(&kept, &requests, &options, &silent)?;
        let seconds = start.elapsed().as_secs_f64();
        let count: usize = generations.iter().map(|g| g.tokens.len()).sum();
        println!("{sampling:?}: {:.0} new tokens/s, prefill included", count as f64 / seconds);
    }
    let start = Instant::now();
    let requests: Vec<_> = (0..requests)
        .map(|i| LoglikRequest {
            context: tokens(i, prompt),
            continuations: (0..4).map(|c| tokens(i + c + 1, 4)).collect(),
        })
        .collect();
    engine.loglikelihood(&kept, &requests, &silent)?;
    println!(
        "log-likelihoods of 4 choices of 4 tokens: {:.0} items/s",
        requests.len() as f64 / start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// What the machine can do at this moment, to read the other figures against.
fn machine() -> f64 {
    let n = 768;
    let (x, w, mut y) = (vec![0.5f32; n * n], vec![0.25f32; n * n], vec![0f32; n * n]);
    let start = Instant::now();
    let repeats = 20;
    for _ in 0..repeats {
        linear(Par::Sequential, &x, &w, n, n, &mut y, false, 1.0);
    }
    (repeats * 2 * n * n * n) as f64 / start.elapsed().as_secs_f64() / 1e9
}
