//! Adapters that are damaged or mean harm: loading one ends in a fault or in an adapter, and a model
//! whose adapter is refused is unchanged.

use std::fs;

use lopper_heal::{LoraConfig, attach_lora, load_adapter, save_adapter};
use lopper_model::Model;
use lopper_record::Fault;
use lopper_testkit::{Tiny, tiny_model};
use proptest::collection::vec;
use proptest::prelude::*;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

fn model() -> Model {
    tiny_model(Tiny { layers: 2, vocab: 11, ..Tiny::default() }, 5)
}

/// The files of a valid adapter.
fn valid() -> [Vec<u8>; 2] {
    let (dir, mut model) = (tempfile::tempdir().unwrap(), model());
    let config = LoraConfig { r: 2, ..LoraConfig::default() };
    attach_lora(&mut model, &config, 1, &[0, 1].into()).unwrap();
    save_adapter(dir.path(), &model, &[0, 1].into(), &config, None).unwrap();
    [CONFIG, WEIGHTS].map(|name| fs::read(dir.path().join(name)).unwrap())
}

fn load(config: &[u8], weights: &[u8]) -> Result<(), Fault> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONFIG), config).unwrap();
    fs::write(dir.path().join(WEIGHTS), weights).unwrap();
    let (mut adapted, before) = (model(), model());
    match load_adapter(dir.path(), &mut adapted, &[0, 1].into()) {
        Ok(_) => Ok(()),
        Err(error) => {
            assert_eq!(adapted.parameters().len(), before.parameters().len());
            Err(error.into_fault().expect("a fault, and nothing else"))
        }
    }
}

fn damage(whole: &[u8], flips: &[(usize, u32)], cut: usize) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    flips.iter().for_each(|(at, bit)| bytes[at % whole.len()] ^= 1 << bit);
    bytes.truncate(whole.len() - cut.min(whole.len()));
    bytes
}

proptest! {
    #[test]
    fn damaged_adapters(weights: bool, flips in vec((0usize..1500, 0u32..8), 0..5), cut in prop_oneof![Just(0usize), 0usize..5000]) {
        let [config, tensors] = valid();
        let (config, tensors) = match weights {
            true => (config, damage(&tensors, &flips, cut)),
            false => (damage(&config, &flips, cut), tensors),
        };
        let _ = load(&config, &tensors);
    }
}

#[test]
fn the_valid_adapter_is_valid() {
    let [config, weights] = valid();
    load(&config, &weights).unwrap();
}

#[test]
fn offsets_to_the_end_of_all_numbers() {
    let size = (1u64 << 61) - 1;
    let entries: Vec<String> = (0..8u64)
        .map(|i| {
            let (from, to) = (i * size, (i + 1) * size);
            format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{from},{to}]}}")
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend_from_slice(header.as_bytes());
    assert!(load(&valid()[0], &weights).unwrap_err().message.contains("cut short"));
}
