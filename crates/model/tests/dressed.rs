//! Checkpoints whose tensors have other names or dtypes than transformers writes: the same model is read from them.
//!
//! 8-bit floats are compared with PyTorch (`fixtures/dressed/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use lopper_model::checkpoint::{Dtype, SafetensorsWriter, TensorInfo};
use lopper_model::{Checkpoint, Model};
use lopper_record::{Fault, LayerSet, NoProgress};
use lopper_testkit::{assert_close, fixture, fixture_json, logits};
use serde::Deserialize;
use serde_json::{Value, json};

/// Largest difference to PyTorch's logits, which are up to 10.
const LOGITS: f32 = 1e-4;

/// A stored tensor.
#[derive(Clone)]
struct Stored {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The tensors of a fixture.
fn tensors(name: &str) -> Vec<Stored> {
    let checkpoint = Checkpoint::open(&fixture(name)).unwrap();
    let stored = |name: &str| {
        let view = checkpoint.tensor(name).unwrap();
        Stored { name: name.into(), dtype: view.dtype, shape: view.shape.to_vec(), bytes: view.data.to_vec() }
    };
    checkpoint.stored_order().into_iter().map(stored).collect()
}

/// Writes them with the configuration of the fixture `config`.
fn write(directory: &Path, config: &str, tensors: &[Stored]) {
    fs::copy(fixture(config).join("config.json"), directory.join("config.json")).unwrap();
    let info = |t: &Stored| TensorInfo { name: t.name.clone(), dtype: t.dtype, shape: t.shape.clone() };
    let infos: Vec<_> = tensors.iter().map(info).collect();
    let mut writer = SafetensorsWriter::create(&directory.join("model.safetensors"), &infos, &BTreeMap::new()).unwrap();
    tensors.iter().for_each(|tensor| writer.write(&tensor.bytes).unwrap());
    writer.finish().unwrap();
}

fn buffer(name: &str) -> Stored {
    Stored { name: name.into(), dtype: Dtype::BOOL, shape: vec![1, 1, 2, 2], bytes: vec![1, 0, 1, 1] }
}

fn all_logits(checkpoint: Checkpoint, tokens: &[u32]) -> Vec<f32> {
    let model = Model::mapped(&Arc::new(checkpoint)).unwrap();
    logits(&model, tokens, &model.all_layers())
}

#[test]
fn other_names_are_the_same_model() {
    let (base, tokens) = ("llama/untied", [1, 17, 5, 33, 9]);
    let plain = Checkpoint::open(&fixture(base)).unwrap();
    assert!(plain.remarks().is_empty() && !plain.is_converted());
    let hash = plain.hash().to_owned();
    let expected = all_logits(plain, &tokens);
    type Rename = fn(&str) -> String;
    let cases: [(&str, Rename); 8] = [
        ("without `model.`", |name| name.trim_start_matches("model.").to_owned()),
        ("`module.`", |name| format!("module.{name}")),
        ("`_orig_mod.`", |name| format!("_orig_mod.{name}")),
        ("`_orig_mod.`", |name| name.replace("layers.1.", "layers.1._orig_mod.")),
        ("`_fsdp_wrapped_module.`", |name| format!("module._fsdp_wrapped_module.{name}")),
        ("`language_model.`", |name| format!("language_model.{name}")),
        ("`language_model.`", |name| name.replace("model.", "model.language_model.")),
        ("buffers", str::to_owned),
    ];
    for (remark, rename) in cases {
        let directory = tempfile::tempdir().unwrap();
        let mut dressed = tensors(base);
        dressed.iter_mut().for_each(|tensor| tensor.name = rename(&tensor.name));
        for name in ["self_attn.masked_bias", "self_attn.bias", "self_attn.rotary_emb.cos_cached"] {
            dressed.push(buffer(&rename(&format!("model.layers.0.{name}"))));
        }
        write(directory.path(), base, &dressed);
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        assert!(checkpoint.remarks().iter().any(|said| said.contains(remark)), "{remark}: {:?}", checkpoint.remarks());
        assert!(checkpoint.remarks().iter().any(|said| said.contains("3 buffers")), "{:?}", checkpoint.remarks());
        // The same weights under the same names, so the same model.
        assert_eq!(checkpoint.hash(), hash, "{remark}");
        assert_eq!(all_logits(checkpoint, &tokens), expected, "{remark}");
    }
}

#[test]
fn what_is_there_twice_or_unknown_is_refused() {
    let base = "llama/untied";
    let fault = |change: &dyn Fn(&mut Vec<Stored>)| -> Fault {
        let directory = tempfile::tempdir().unwrap();
        let mut dressed = tensors(base);
        change(&mut dressed);
        write(directory.path(), base, &dressed);
        Checkpoint::open(directory.path()).err().unwrap().into_fault().unwrap()
    };
    let twice = fault(&|tensors| {
        let mut copy = tensors[0].clone();
        copy.name = format!("module.{}", copy.name);
        tensors.push(copy);
    });
    assert!(twice.message.contains("two tensors"), "{twice}");
    let tower = fault(&|tensors| tensors.push(buffer("vision_tower.patch.weight")));
    assert!(tower.message.contains("no place for the tensor `vision_tower.patch.weight`"), "{tower}");
    let whole = fault(&|tensors| {
        tensors[1].dtype = Dtype::I8;
        let values = tensors[1].shape.iter().product();
        tensors[1].bytes.truncate(values);
    });
    assert!(whole.message.contains("cannot be read"), "{whole}");
}

#[test]
fn weights_in_double_precision_are_those_in_single() {
    let (base, tokens) = ("llama/untied", [1, 17, 5, 33, 9]);
    let directory = tempfile::tempdir().unwrap();
    let mut wide = tensors(base);
    for tensor in &mut wide {
        let values = tensor.bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
        tensor.bytes = values.flat_map(f64::to_le_bytes).collect();
        tensor.dtype = Dtype::F64;
    }
    write(directory.path(), base, &wide);
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    assert!(checkpoint.is_converted() && checkpoint.remarks()[0].contains("F64"), "{:?}", checkpoint.remarks());
    let plain = Checkpoint::open(&fixture(base)).unwrap();
    assert_eq!((checkpoint.dtype(), checkpoint.weight_bytes()), (Dtype::F32, plain.weight_bytes()));
    assert_eq!(checkpoint.hash(), plain.hash());
    assert_eq!(all_logits(checkpoint, &tokens), all_logits(plain, &tokens));
}

#[derive(Deserialize)]
struct Expected {
    sequences: Vec<Vec<u32>>,
    logits: Vec<Vec<Vec<f32>>>,
}

#[test]
fn eight_bit_floats_and_their_scales_are_read_as_pytorch_reads_them() {
    for name in ["fp8_block", "fp8_ragged", "fp8_channel", "fp8_tensor", "fp8_plain"] {
        let path = fixture(&format!("dressed/{name}"));
        let Expected { sequences, logits: expected } = fixture_json(&format!("dressed/{name}/expected.json"));
        assert_eq!(sequences.len(), expected.len());
        for (tokens, expected) in sequences.iter().zip(expected) {
            let checkpoint = Checkpoint::open(&path).unwrap();
            assert!(checkpoint.remarks()[0].contains("21 tensors are stored in 8-bit floats"), "{name}");
            assert_eq!(checkpoint.tensor_info("model.layers.0.mlp.up_proj.weight").unwrap().dtype, Dtype::BF16);
            assert!(checkpoint.names().all(|name| !name.contains("scale")), "{name}");
            let expected = expected.concat();
            let in_memory = Model::from_checkpoint(&checkpoint).unwrap();
            assert_close(&logits(&in_memory, tokens, &in_memory.all_layers()), &expected, LOGITS);
            assert_close(&all_logits(checkpoint, tokens), &expected, LOGITS);
        }
    }
}

#[test]
fn scales_that_do_not_fit_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = fs::read(fixture("dressed/fp8_ragged").join("model.safetensors")).unwrap();
    fs::write(directory.path().join("model.safetensors"), bytes).unwrap();
    let config = fs::read(fixture("dressed/fp8_ragged").join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let open = |quantization: Value| {
        let mut config = config.clone();
        config["quantization_config"] = quantization;
        fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        Checkpoint::open(directory.path()).err().map(|error| error.into_fault().unwrap().message)
    };
    assert_eq!(open(json!({"quant_method": "fp8", "weight_block_size": [24, 24]})), None);
    for (wrong, part) in [
        (json!([16, 16]), "the scales of `model.layers.0"),
        (json!([0, 0]), "weight_block_size"),
        (json!("24"), "weight_block_size"),
        (json!([24]), "weight_block_size"),
    ] {
        let message = open(json!({"quant_method": "fp8", "weight_block_size": wrong.clone()})).unwrap();
        assert!(message.contains(part), "{wrong}: {message}");
    }
    let message = open(json!({"quant_method": "gptq", "bits": 4})).unwrap();
    assert!(message.contains("quantization_config"), "{message}");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    let base = "llama/untied";
    let check = |kept: &[usize], name: &str, value: f32| {
        let directory = tempfile::tempdir().unwrap();
        let mut damaged = tensors(base);
        let tensor = damaged.iter_mut().find(|tensor| tensor.name == name).unwrap();
        tensor.bytes[4 * 33..][..4].copy_from_slice(&value.to_le_bytes());
        write(directory.path(), base, &damaged);
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let checked = checkpoint.check_finite(&LayerSet::from(kept.to_vec()), &NoProgress);
        checked.err().map(|error| error.into_fault().unwrap().message)
    };
    let name = "model.layers.1.mlp.up_proj.weight";
    let message = check(&[0, 1, 2], name, f32::NAN).unwrap();
    assert!(message.ends_with(&format!("`{name}` is NaN in row 1, column 1")), "{message}");
    assert!(check(&[1], name, f32::NEG_INFINITY).unwrap().contains("is infinite"));
    assert_eq!(check(&[0, 2], name, f32::NAN), None, "the layer is not read");
    assert_eq!(check(&[0, 1, 2], name, f32::MAX), None);
    assert!(check(&[0], "lm_head.weight", f32::NAN).is_some());
    assert_eq!(check(&[0], "model.embed_tokens.weight", f32::NAN), None, "a row that no text may have");
}
