//! The decoder against PyTorch and transformers, in every family: logits over whole and cut models, losses and
//! gradients, greedy continuation through the cache, both spellings of the configuration, and the frequencies of the
//! rotary embeddings that the configuration is lowered to.
//!
//! Numbers come from `fixtures/make_models.py` and `fixtures/make_families.py` (the versions stand in each
//! `expected.json`), in f32 with eager attention. Both sides round every sum differently: the largest differences seen
//! are 1e-5 on logits of up to ±12 and 3e-6 of a parameter's largest gradient. The tolerances, in `common`, leave a
//! factor of ten over that and lie far under what any change of formula would do: `make_families.py` asserts that each
//! feature of a variant, switched off, moves some logit by more than 1e-2.
//!
//! `cargo test -p lopper-model --test families -- --nocapture` prints the largest difference of
//! every variant, from which the table in `docs/reference/families.md` is filled.

mod common;

use common::frequencies::Frequencies;
use common::{Fixture, Greedy};
use serde::Deserialize;

fn fixtures() -> impl Iterator<Item = Fixture> {
    let names = lopper_testkit::fixtures();
    assert_eq!(names.len(), 26);
    names.into_iter().map(Fixture::read)
}

#[test]
#[allow(clippy::print_stdout)] // The numbers are what `--nocapture` is for; see above.
fn logits_whole_and_cut() {
    for fixture in fixtures() {
        let [whole, cut] = fixture.check_logits();
        println!("{:24} largest logit difference: whole {whole:.1e}, cut {cut:.1e}", fixture.name);
    }
}

#[test]
fn loss_and_every_gradient() {
    let with_gradients = fixtures().filter(|fixture| fixture.directory().join("gradients.safetensors").exists());
    assert_eq!(with_gradients.map(|mut fixture| fixture.check_loss_and_gradients()).count(), 8);
}

#[test]
fn greedy_continuations_through_the_cache() {
    for fixture in fixtures() {
        let greedy = fixture.json()["greedy"].take();
        let runs = if greedy.is_array() {
            Vec::deserialize(&greedy)
        } else {
            Greedy::deserialize(&greedy).map(|one| vec![one])
        };
        let runs = runs.unwrap();
        assert!(!runs.is_empty());
        runs.into_iter().for_each(|greedy| fixture.check_continuation(greedy));
    }
}

#[test]
fn both_spellings_of_the_configuration_mean_the_same() {
    fixtures().for_each(|fixture| fixture.check_spellings());
}

#[test]
fn rotary_embeddings_are_lowered_to_the_frequencies_of_transformers() {
    let mut checked = 0;
    for fixture in fixtures() {
        let Some(ropes) = fixture.json().get("ropes").cloned() else { continue };
        let (ropes, config) = (Vec::<Vec<Frequencies>>::deserialize(ropes).unwrap(), &fixture.model.config);
        assert_eq!(config.ropes.len(), ropes.len(), "{}", fixture.name);
        for (rope, expected) in config.ropes.iter().zip(ropes) {
            expected.iter().for_each(|frequencies| frequencies.check(&fixture.name, rope));
        }
        checked += 1;
    }
    assert_eq!(checked, 22);
}
