//! The decoder against PyTorch and transformers: logits over whole and cut models, the loss and
//! every parameter's gradient, greedy continuation through the cache.
//!
//! Numbers come from `fixtures/make_models.py` (its versions stand in each `expected.json`), in
//! f32 with eager attention. Both sides round every sum differently: the largest differences seen
//! are 7e-6 on logits of up to ±12 and 3e-6 of a parameter's largest gradient. The tolerances, in
//! `common`, leave a factor of ten or more over that and lie far under what any change of formula would do.

mod common;

use common::{Fixture, Greedy};
use serde::Deserialize;

const FIXTURES: [&str; 4] = ["llama/untied", "llama/tied_bias", "qwen3/tied", "qwen3/untied"];

fn fixtures() -> impl Iterator<Item = Fixture> {
    FIXTURES.into_iter().map(Fixture::read)
}

#[test]
fn logits_whole_and_cut() {
    fixtures().for_each(|fixture| {
        fixture.check_logits();
    });
}

#[test]
fn loss_and_every_gradient() {
    fixtures().for_each(|mut fixture| fixture.check_loss_and_gradients());
}

#[test]
fn greedy_continuation_through_the_cache() {
    for fixture in fixtures() {
        fixture.check_continuation(Greedy::deserialize(&fixture.json()["greedy"]).unwrap());
    }
}

#[test]
fn both_spellings_of_the_configuration_mean_the_same() {
    fixtures().for_each(|fixture| fixture.check_spellings());
}
