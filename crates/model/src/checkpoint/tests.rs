//! Checkpoints that are whole, and the many ways in which they are not.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use lopper_record::Fault;
use lopper_testkit::{NamedTensor, SHARDS, shard, tensors, write_tensors};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::families::config_json;
use crate::hf::WEIGHTS;
use crate::model::Model;
use crate::tensors::HEAD;

fn config() -> Config {
    let json = json!({
        "model_type": "llama", "vocab_size": 16, "hidden_size": 8, "intermediate_size": 12,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    });
    families::parse_config(json.as_object().unwrap(), Path::new("config.json")).unwrap()
}

fn model() -> Model {
    Model::random(config(), 0.5, 1).unwrap()
}

fn save(dir: &Path, model: &Model, dtype: Dtype) {
    model.save(dir, &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
}

fn saved(dtype: Dtype) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &model(), dtype);
    dir
}

fn write_index(dir: &Path, index: &Value) {
    fs::write(dir.join(WEIGHTS_INDEX), index.to_string()).unwrap();
}

fn fault(dir: &Path) -> Fault {
    match Checkpoint::open(dir) {
        Ok(_) => panic!("opened"),
        Err(error) => error.into_fault().expect("a fault of the user's"),
    }
}

fn edit_config(dir: &Path, key: &str, value: Value) {
    let text = fs::read(dir.join(CONFIG)).unwrap();
    let mut json: Value = serde_json::from_slice(&text).unwrap();
    json[key] = value;
    fs::write(dir.join(CONFIG), json.to_string()).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn saved_weights_come_back_bit_for_bit() {
    for stored in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let rounded = |x: &f32| match stored {
            Dtype::F16 => half::f16::from_f32(*x).to_f32(),
            Dtype::BF16 => half::bf16::from_f32(*x).to_f32(),
            _ => *x,
        };
        let dir = saved(stored);
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(*checkpoint.config(), config());
        assert_eq!(checkpoint.dtype(), stored);
        let (model, read) = (model().parameters(), Model::from_checkpoint(&checkpoint).unwrap().parameters());
        assert_eq!(checkpoint.names().count(), model.len());
        assert_eq!(read.len(), model.len());
        for ((name, values), (other, read)) in model.iter().zip(&read) {
            assert_eq!(name, other);
            let values: Vec<f32> = values.data.iter().map(rounded).collect();
            assert_eq!(bits(&read.data), bits(&values), "{name}");
        }
        let torch = torch_name(stored).unwrap();
        assert_eq!(checkpoint.config_json()["torch_dtype"], json!(torch));
    }
}

#[test]
fn another_reader_of_the_format_agrees() {
    let dir = saved(Dtype::F32);
    let bytes = fs::read(dir.path().join(WEIGHTS)).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(read.len(), checkpoint.names().count());
    for (name, tensor) in read.iter() {
        let ours = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (ours.dtype, ours.shape));
        assert_eq!(tensor.data(), ours.data);
        assert!((tensor.data().as_ptr() as usize - bytes.as_ptr() as usize).is_multiple_of(4));
    }
}

#[test]
fn a_configuration_of_another_model_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let json = config_json(&config(), Dtype::F32).unwrap();
    let model = model().keep(&[0].into());
    assert!(model.save(dir.path(), &json, Dtype::F32).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn shards_are_the_same_model() {
    let dir = saved(Dtype::F32);
    let whole = Checkpoint::open(dir.path()).unwrap();
    let hash = whole.hash().to_owned();
    shard(dir.path());
    let sharded = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(sharded.hash(), hash);
    assert_eq!(sharded.names().collect::<Vec<_>>(), whole.names().collect::<Vec<_>>());
}

#[test]
fn the_hash_follows_weights_and_configuration() {
    let dir = saved(Dtype::F32);
    let hash = |dir: &Path| Checkpoint::open(dir).unwrap().hash().to_owned();
    let before = hash(dir.path());
    assert_eq!(hash(saved(Dtype::F32).path()), before);
    edit_config(dir.path(), "rope_theta", json!(20000.0));
    assert_ne!(hash(dir.path()), before);

    let mut tensors = tensors(dir.path());
    tensors[3].2[0] += 1e-3;
    save(dir.path(), &model(), Dtype::F32);
    assert_eq!(hash(dir.path()), before);
    write_tensors(&dir.path().join(WEIGHTS), &tensors);
    assert_ne!(hash(dir.path()), before);
}

#[test]
fn embedded_files_are_the_same_model() {
    let dir = saved(Dtype::BF16);
    let leak = |name: &'static str| -> (&'static str, &'static [u8]) {
        (name, Box::leak(fs::read(dir.path().join(name)).unwrap().into_boxed_slice()))
    };
    let files: EmbeddedFiles = Box::leak(vec![leak(CONFIG), leak(WEIGHTS)].into_boxed_slice());
    let embedded = Checkpoint::from_bytes(files).unwrap();
    assert_eq!(embedded.hash(), Checkpoint::open(dir.path()).unwrap().hash());
    assert!(embedded.directory().is_none());
    assert!(embedded.file("tokenizer.json").unwrap().is_none());
}

#[test]
fn side_files_leave_out_weights_and_configuration() {
    let dir = saved(Dtype::F32);
    for name in ["tokenizer.json", "README.md", "pytorch_model.bin", ".gitattributes"] {
        fs::write(dir.path().join(name), "{}").unwrap();
    }
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.side_files().unwrap(), ["README.md", "tokenizer.json"]);
    assert_eq!(checkpoint.file("tokenizer.json").unwrap().unwrap().as_ref(), b"{}");
}

#[test]
fn a_head_beside_a_tied_embedding_is_allowed_if_it_is_the_embedding() {
    let dir = saved(Dtype::F32);
    edit_config(dir.path(), "tie_word_embeddings", json!(true));
    let load = || Model::from_checkpoint(&Checkpoint::open(dir.path()).unwrap());
    let mapped = || Model::mapped(&Arc::new(Checkpoint::open(dir.path()).unwrap()));
    for refused in [load(), mapped()] {
        let fault = refused.unwrap_err().into_fault().expect("a fault of the user's");
        assert!(fault.message.contains(HEAD) && fault.expected.unwrap().contains("tie_word_embeddings"));
    }

    let mut tensors = tensors(dir.path());
    let embedding = tensors.iter().find(|(name, ..)| name == EMBEDDING).unwrap().2.clone();
    tensors.iter_mut().find(|(name, ..)| name == HEAD).unwrap().2 = embedding;
    write_tensors(&dir.path().join(WEIGHTS), &tensors);
    assert!(load().unwrap().head.is_none() && mapped().unwrap().head.is_none());
}

#[test]
fn a_cut_file_names_the_bytes() {
    let dir = saved(Dtype::F32);
    let path = dir.path().join(WEIGHTS);
    let whole = fs::read(&path).unwrap();
    for length in [0, 5, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let fault = fault(dir.path());
        assert_eq!(fault.got.as_deref(), Some(format!("{length} bytes").as_str()), "{fault}");
        assert!(fault.file.is_some() && fault.expected.is_some() && fault.hint.is_some());
    }
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(fault(dir.path()).expected, Some(format!("{} bytes", whole.len())));
    fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
    assert!(fault(dir.path()).message.contains("longer"));
}

#[test]
fn damaged_headers_are_faults() {
    let dir = saved(Dtype::F32);
    let path = dir.path().join(WEIGHTS);
    let with_header = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&[0; 8]);
        bytes
    };
    let overlapping = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                         "b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let hole = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#;
    let backwards = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[8,4]}}"#;
    let mismatch = r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#;
    let overflow = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,8]}}"#;
    let dtype = r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#;
    for header in [overlapping, hole, backwards, mismatch, overflow, dtype, "[]", "{", "\u{7f}"] {
        fs::write(&path, with_header(header)).unwrap();
        assert!(fault(dir.path()).message.contains("header"), "{header}");
    }
    let mut huge = u64::MAX.to_le_bytes().to_vec();
    huge.extend_from_slice(b"{}");
    fs::write(&path, huge).unwrap();
    assert!(fault(dir.path()).message.contains("not a safetensors file"));
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n").unwrap();
    assert!(fault(dir.path()).hint.unwrap().contains("git lfs pull"));
}

#[test]
fn configurations_that_contradict_the_weights_are_faults() {
    let cases = [
        ("hidden_size", json!(16), "model.embed_tokens.weight"),
        ("intermediate_size", json!(13), "mlp.gate_proj"),
        ("num_hidden_layers", json!(3), "model.layers.2."),
        ("num_hidden_layers", json!(1), "model.layers.1."),
        ("attention_bias", json!(true), "q_proj.bias"),
        ("num_key_value_heads", json!(2), "k_proj"),
        ("vocab_size", json!(17), "model.embed_tokens.weight"),
        ("model_type", json!("qwen3"), "q_norm"),
    ];
    for (key, value, tensor) in cases {
        let dir = saved(Dtype::F32);
        edit_config(dir.path(), key, value);
        let fault = fault(dir.path());
        assert!(fault.message.contains(tensor), "{key}: {fault}");
        assert!(fault.expected.is_some() && fault.got.is_some() && fault.hint.is_some(), "{fault}");
    }
}

#[test]
fn missing_surplus_and_integer_tensors_are_faults() {
    let save = |edit: &dyn Fn(&mut Vec<NamedTensor>)| {
        let dir = saved(Dtype::F32);
        let mut tensors = tensors(dir.path());
        edit(&mut tensors);
        write_tensors(&dir.path().join(WEIGHTS), &tensors);
        fault(dir.path())
    };
    let no_head = save(&|tensors| tensors.retain(|(name, ..)| name != "lm_head.weight"));
    assert!(no_head.hint.unwrap().contains("tie_word_embeddings"));
    let bias = save(&|tensors| {
        let name = "model.layers.0.self_attn.q_proj.bias";
        tensors.push((name.to_owned(), vec![8], vec![0.0; 8]));
    });
    assert!(bias.hint.unwrap().contains("attention_bias"));

    let dir = saved(Dtype::F32);
    let path = dir.path().join(WEIGHTS);
    let text = fs::read(&path).unwrap();
    let at = text.windows(5).position(|window| window == b"\"F32\"").unwrap();
    let mut integers = text.clone();
    integers[at..at + 5].copy_from_slice(b"\"I32\"");
    fs::write(&path, integers).unwrap();
    assert!(fault(dir.path()).got.unwrap().contains("I32"));
}

#[test]
fn faulty_indexes_are_faults() {
    let dir = saved(Dtype::F32);
    let tensors = shard(dir.path());
    let text = fs::read(dir.path().join(WEIGHTS_INDEX)).unwrap();
    let good: Value = serde_json::from_slice(&text).unwrap();
    let name = tensors[0].0.as_str();
    for escape in ["../model-1.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.bin", ""] {
        let mut index = good.clone();
        index["weight_map"][name] = json!(escape);
        write_index(dir.path(), &index);
        let fault = fault(dir.path());
        assert!(fault.message.contains("not a file of this directory"), "{escape}: {fault}");
    }
    let edit = |edit: &dyn Fn(&mut Value)| {
        let mut index = good.clone();
        edit(&mut index);
        write_index(dir.path(), &index);
        fault(dir.path())
    };
    assert!(edit(&|index| index["weight_map"][name] = json!(7)).message.contains("not a file"));
    let absent = edit(&|index| index["weight_map"][name] = json!("model-3.safetensors"));
    assert!(absent.message.contains("missing"));
    let moved = edit(&|index| index["weight_map"][name] = json!(SHARDS[1]));
    assert!(moved.message.contains("contradict"));
    let unknown = edit(&|index| index["weight_map"]["nothing"] = json!(SHARDS[1]));
    assert!(unknown.expected.unwrap().contains("nothing"));
    assert!(edit(&|index| index["weight_map"] = json!([])).message.contains("weight_map"));
    assert!(edit(&|index| index["weight_map"] = json!({})).message.contains("no tensor"));

    write_index(dir.path(), &good);
    write_tensors(&dir.path().join(SHARDS[1]), &tensors);
    assert!(fault(dir.path()).message.contains("two shards"));
}

#[test]
fn what_is_no_model_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let absent = fault(&dir.path().join("absent"));
    assert!(absent.message.contains("no such model") && absent.hint.unwrap().contains("of the hub"));
    assert!(fault(dir.path()).message.contains("no configuration"));

    let dir = saved(Dtype::F32);
    assert!(fault(&dir.path().join(WEIGHTS)).hint.unwrap().contains("directory that holds it"));
    fs::remove_file(dir.path().join(WEIGHTS)).unwrap();
    assert!(fault(dir.path()).message.contains("no weights"));
    fs::write(dir.path().join("pytorch_model.bin"), "x").unwrap();
    let pickle = fault(dir.path());
    assert_eq!(pickle.got.as_deref(), Some("pytorch_model.bin"));
    assert!(pickle.hint.unwrap().contains("run any code"));
    fs::write(dir.path().join("adapter_config.json"), "{}").unwrap();
    assert!(fault(dir.path()).hint.unwrap().contains("--adapter"));
    fs::write(dir.path().join(CONFIG), "{\"model_type\": ").unwrap();
    assert!(fault(dir.path()).message.contains("not valid JSON"));
}

#[test]
fn the_writer_refuses_wrong_lengths() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let tensor = |name: &str, n| TensorInfo { name: name.into(), dtype: Dtype::F32, shape: vec![n] };
    let tensors = [tensor("empty", 0), tensor("a", 2), tensor("b", 1), tensor("none", 0)];
    let create = || SafetensorsWriter::create(&path, &tensors, &BTreeMap::new()).unwrap();

    let mut short = create();
    short.write(&[0; 7]).unwrap();
    assert!(short.finish().is_err());
    let mut long = create();
    assert!(long.write(&[0; 9]).is_err());
    drop(long);
    assert!(!path.exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "temporary files are gone");

    let mut whole = create();
    for piece in [3, 5, 4] {
        whole.write(&vec![0; piece]).unwrap();
    }
    whole.finish().unwrap();
    assert_eq!(header::read(&fs::read(&path).unwrap(), &path).unwrap().len(), 4);
}

proptest! {
    /// Whatever stands in a file, reading its header never panics, and what it accepts lies
    /// within the file.
    #[test]
    fn headers_never_panic(header in ".{0,200}", tail in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&tail);
        check(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        check(&bytes);
    }

    #[test]
    fn arbitrary_offsets_never_panic(
        tensors in prop::collection::vec((0u64..20, 0u64..20, 0u64..6), 0..5),
        last in any::<u64>(),
        length in 0usize..24,
    ) {
        let mut header = Map::new();
        for (i, (from, to, n)) in tensors.iter().enumerate() {
            let to = if i == 4 { last } else { *to };
            let info = json!({"dtype": "F32", "shape": [n], "data_offsets": [from, to]});
            header.insert(format!("t{i}"), info);
        }
        let header = serde_json::to_vec(&header).unwrap();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(&header);
        bytes.resize(bytes.len() + length, 0);
        check(&bytes);
    }
}

fn check(bytes: &[u8]) {
    match header::read(bytes, Path::new("x")) {
        Ok(entries) => {
            for entry in entries {
                let elements: usize = entry.shape.iter().product();
                assert!(bytes.get(entry.range.clone()).is_some());
                assert_eq!(entry.range.len(), elements * entry.dtype.bitsize() / 8);
            }
        }
        Err(error) => assert!(error.fault().is_some()),
    }
}
