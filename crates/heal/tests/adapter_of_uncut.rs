//! Adapters that were trained on the whole model, where layers are left out: each layer's part goes with its layer.
//!
//! Expected logits come from `fixtures/peft/make_cut.py`, which takes layers out of PEFT's model; the library versions
//! are in each `expected.json`.

use lopper_heal::{AdapterInfo, load_adapter, merge};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerPosition, LayerSet};
use lopper_testkit::{assert_close, fixture, fixture_json};
use serde::Deserialize;

/// Largest difference to PEFT's logits, which the adapters change by more than 1.
const LOGITS: f32 = 1e-4;

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    cuts: Vec<Cut>,
}

#[derive(Deserialize)]
struct Cut {
    dropped: LayerSet<LayerPosition>,
    logits: Vec<Vec<Vec<f32>>>,
}

#[test]
fn each_layers_part_goes_with_its_layer() {
    let plain = Model::from_checkpoint(&Checkpoint::open(&fixture("llama/untied")).unwrap()).unwrap();
    let layers = plain.num_layers();
    for name in ["every_layer", "two_layers", "first_layer"] {
        let directory = fixture(&format!("peft/cut/{name}"));
        let Expected { sequences, cuts } = fixture_json(&format!("peft/cut/{name}/expected.json"));
        let info = AdapterInfo::read(&directory, &plain.config).unwrap();
        assert_eq!(cuts.len(), 3, "{name}");
        for Cut { dropped, logits } in cuts {
            let kept = dropped.complement(layers);
            // As the model is called in the adapter.
            let onto = info.loaded_onto(layers, &kept, &["the/uncut".to_owned()]).unwrap();
            assert_eq!(onto.len(), layers, "{name} is of the whole model");
            let mut model = plain.clone();
            load_adapter(&directory, &mut model, &onto).unwrap();
            let (cut, all) = (model.keep(&kept), LayerSet::<LayerPosition>::all(kept.len()));
            let mut merged = cut.clone();
            merge(&mut merged);
            for (tokens, expected) in sequences.iter().zip(logits) {
                let expected = expected.concat();
                assert_close(&lopper_testkit::logits(&model, tokens, &kept.slots()), &expected, LOGITS);
                assert_close(&lopper_testkit::logits(&cut, tokens, &all.slots()), &expected, LOGITS);
                assert_close(&lopper_testkit::logits(&merged, tokens, &all.slots()), &expected, LOGITS);
            }
        }
    }
}

#[test]
fn what_an_adapter_is_shows_in_its_files() {
    let config = Checkpoint::open(&fixture("llama/untied")).unwrap().config().clone();
    let of = |name: &str| AdapterInfo::read(&fixture(name), &config).unwrap();
    let every = of("peft/cut/every_layer");
    assert_eq!((every.kind.as_str(), every.settings.r, every.every_layer), ("LoRA", 4, true));
    assert_eq!((every.layers.len(), every.modules.len(), every.base.as_deref()), (3, 7, Some("the/uncut")));
    let two = of("peft/cut/two_layers");
    assert_eq!((two.kind.as_str(), two.layers.clone(), two.every_layer), ("DoRA", [1, 2].into(), false));
    let saved = of("peft/kinds/saved");
    assert!(saved.modules.iter().any(|module| module == "lm_head.weight"), "{:?}", saved.modules);
    let fault = AdapterInfo::read(&fixture("llama/untied"), &config).unwrap_err().into_fault().unwrap();
    assert!(fault.message.contains("file of the adapter cannot be read"), "{fault}");
}
