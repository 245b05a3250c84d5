//! Checkpoints that are damaged or mean harm. Whatever stands in the files of a model directory,
//! opening it ends in a model whose every tensor lies within its file, or in a fault that names what
//! is wrong: never in a panic, a read beyond a file's end, or a file written somewhere else.

use std::fmt::Write;
use std::fs;
use std::sync::OnceLock;

use lopper_model::Model;
use lopper_model::checkpoint::{Checkpoint, Dtype};
use lopper_model::families::config_json;
use lopper_model::hf::{CONFIG, WEIGHTS, WEIGHTS_INDEX};
use lopper_record::Fault;
use lopper_testkit::{SHARDS, Tiny, shard, tiny_model};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// The files of a valid tiny checkpoint.
struct Valid {
    config: Vec<u8>,
    whole: Vec<u8>,
    shards: [Vec<u8>; 2],
    index: Vec<u8>,
}

fn valid() -> &'static Valid {
    static VALID: OnceLock<Valid> = OnceLock::new();
    VALID.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let model = tiny_model(Tiny { layers: 2, vocab: 11, ..Tiny::default() }, 5);
        let config = config_json(&model.config, Dtype::F32).unwrap();
        model.save(dir.path(), &config, Dtype::F32).unwrap();
        let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
        let whole = read(WEIGHTS);
        shard(dir.path());
        Valid { config: read(CONFIG), whole, shards: SHARDS.map(read), index: read(WEIGHTS_INDEX) }
    })
}

/// A model directory `m` beside a file that nothing may touch.
struct Sandbox {
    dir: TempDir,
}

const VICTIM: &[u8] = b"not yours";

impl Sandbox {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("m")).unwrap();
        fs::write(dir.path().join("victim"), VICTIM).unwrap();
        let sandbox = Self { dir };
        sandbox.put(CONFIG, &valid().config);
        sandbox
    }

    fn sharded() -> Self {
        let sandbox = Self::new();
        sandbox.put(WEIGHTS_INDEX, &valid().index);
        SHARDS.iter().zip(&valid().shards).for_each(|(name, bytes)| sandbox.put(name, bytes));
        sandbox
    }

    fn model(&self) -> std::path::PathBuf {
        self.dir.path().join("m")
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.model().join(name), bytes).unwrap();
    }

    /// Opens the model and reads all of it; the fault where there is one. Panics for what must not be.
    fn open(&self) -> Option<Fault> {
        let fault = match Checkpoint::open(&self.model()) {
            Err(error) => Some(error.into_fault().expect("a fault, and nothing else")),
            Ok(checkpoint) => {
                for name in checkpoint.names() {
                    let view = checkpoint.tensor(name).unwrap();
                    let elements: usize = view.shape.iter().product();
                    assert_eq!(view.data.len() * 8, elements * view.dtype.bitsize(), "{name}");
                    let mut read = Vec::new();
                    checkpoint
                        .read_chunks(name, &mut |piece| {
                            read.extend_from_slice(piece);
                            Ok(())
                        })
                        .unwrap();
                    assert_eq!(read, view.data, "{name}");
                }
                assert_eq!(checkpoint.hash().len(), 64);
                Model::from_checkpoint(&checkpoint).unwrap();
                None
            }
        };
        assert_eq!(fs::read(self.dir.path().join("victim")).unwrap(), VICTIM);
        let mut names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["m", "victim"]);
        fault
    }

    fn fault(&self) -> Fault {
        self.open().expect("a fault")
    }
}

/// The weights file with this text for a header, and so many bytes after it.
fn with_header(header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn open_weights(bytes: &[u8]) -> Option<Fault> {
    let sandbox = Sandbox::new();
    sandbox.put(WEIGHTS, bytes);
    sandbox.open()
}

/// A file of the valid checkpoint with single bits flipped, cut off, or with bytes after its end.
fn damaged(whole: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    // Half of the damage goes to the front, where headers are.
    let place = prop_oneof![0..whole.len().min(600), 0..whole.len()];
    prop_oneof![
        vec((place, 0u32..8), 1..6).prop_map(move |flips| {
            let mut bytes = whole.to_vec();
            flips.into_iter().for_each(|(at, bit)| bytes[at] ^= 1 << bit);
            bytes
        }),
        (0..whole.len()).prop_map(|length| whole[..length].to_vec()),
        vec(any::<u8>(), 1..20).prop_map(move |tail| [whole, &tail].concat()),
        (0..whole.len(), vec(any::<u8>(), 1..40)).prop_map(move |(at, patch)| {
            let mut bytes = whole.to_vec();
            let end = (at + patch.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&patch[..end - at]);
            bytes
        }),
    ]
}

/// Numbers at which arithmetic breaks, and ordinary ones.
fn number() -> impl Strategy<Value = u64> {
    let edges =
        [0, 1, 2, 4, 8, 1 << 31, 1 << 32, 1 << 53, 1 << 60, 1 << 61, 1 << 63, u64::MAX - 8, u64::MAX - 1, u64::MAX];
    prop_oneof![0u64..64, prop::sample::select(edges.to_vec()), any::<u64>()]
}

/// An entry of a header as text, so that names may repeat and need not be valid.
fn entry() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("model.norm.weight".to_owned()),
        Just("model.embed_tokens.weight".to_owned()),
        Just("__metadata__".to_owned()),
        "[a-z./\\\\\"\u{0}-\u{20}é]{0,12}",
    ];
    let dtype = prop::sample::select(vec!["F32", "F16", "BF16", "I64", "U8", "F4", "F8_E4M3", "BOOL", "C64", "X", ""]);
    (name, dtype, vec(number(), 0..5), number(), number()).prop_map(|(name, dtype, shape, from, to)| {
        let name = serde_json::to_string(&name).unwrap();
        format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{from},{to}]}}")
    })
}

/// Any JSON value, not too deep.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z_]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["default", "llama3", "yarn", "full_attention", "silu", "qwen3", "llama", "bfloat16"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec(("[a-z_]{0,8}", inner), 0..6).prop_map(|pairs| pairs.into_iter().collect::<Map<_, _>>().into()),
        ]
    })
}

/// Keys that configurations have, known to this version or not.
const KEYS: [&str; 34] = [
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "tie_word_embeddings",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
    "hidden_act",
    "layer_types",
    "sliding_window",
    "sliding_window_pattern",
    "use_sliding_window",
    "max_window_layers",
    "no_rope_layers",
    "eos_token_id",
    "bos_token_id",
    "quantization_config",
    "partial_rotary_factor",
    "query_pre_attn_scalar",
    "final_logit_softcapping",
    "attention_multiplier",
    "text_config",
    "torch_dtype",
    "architectures",
    "num_local_experts",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_weights(bytes in damaged(&valid().whole)) {
        open_weights(&bytes);
    }

    #[test]
    fn damaged_shards(bytes in damaged(&valid().shards[0]), first: bool) {
        let sandbox = Sandbox::sharded();
        sandbox.put(SHARDS[usize::from(!first)], &bytes);
        sandbox.open();
    }

    #[test]
    fn damaged_indexes(bytes in damaged(&valid().index)) {
        let sandbox = Sandbox::sharded();
        sandbox.put(WEIGHTS_INDEX, &bytes);
        sandbox.open();
    }

    #[test]
    fn damaged_configurations(bytes in damaged(&valid().config)) {
        let sandbox = Sandbox::new();
        sandbox.put(WEIGHTS, &valid().whole);
        sandbox.put(CONFIG, &bytes);
        sandbox.open();
    }

    #[test]
    fn headers_of_any_entries(entries in vec(entry(), 0..6), data in 0usize..200, tail in 0usize..9) {
        let header = format!("{{{}}}{}", entries.join(","), " ".repeat(tail));
        // Never the tensors of the configuration, so never a model.
        prop_assert!(open_weights(&with_header(header.as_bytes(), data)).is_some());
    }

    /// Tensors that lie one behind the other as they should, up to the end of all numbers.
    #[test]
    fn headers_of_huge_tensors(sizes in vec(number(), 1..12), data in 0usize..40) {
        let mut header = String::from("{");
        let mut from = 0u64;
        for (index, size) in sizes.iter().enumerate() {
            let Some(to) = from.checked_add(*size) else { break };
            let comma = if index > 0 { "," } else { "" };
            write!(header, "{comma}\"t{index}\":{{\"dtype\":\"U8\",\"shape\":[{size}],\"data_offsets\":[{from},{to}]}}").unwrap();
            from = to;
        }
        header.push('}');
        prop_assert!(open_weights(&with_header(header.as_bytes(), data)).is_some());
    }

    #[test]
    fn lengths_that_are_not_the_headers(length in number(), bytes in vec(any::<u8>(), 0..60)) {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(bytes);
        prop_assert!(open_weights(&file).is_some());
    }

    #[test]
    fn names_that_are_not_unicode(name in vec(any::<u8>(), 0..12)) {
        let mut header = b"{\"".to_vec();
        header.extend(&name);
        header.extend(b"\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
        prop_assert!(open_weights(&with_header(&header, 4)).is_some());
    }

    #[test]
    fn any_value_for_any_key(edits in vec((prop::sample::select(KEYS.to_vec()), json_value()), 1..4)) {
        let mut config: Value = serde_json::from_slice(&valid().config).unwrap();
        for (key, value) in edits {
            config[key] = value;
        }
        let sandbox = Sandbox::new();
        sandbox.put(WEIGHTS, &valid().whole);
        sandbox.put(CONFIG, config.to_string().as_bytes());
        sandbox.open();
    }

    #[test]
    fn shards_of_any_name(name in "[a-z./\\\\:~*\u{0}-\u{2}é]{0,20}", ending: bool, up in 0usize..4) {
        let sandbox = Sandbox::sharded();
        let name = format!("{}{name}{}", "../".repeat(up), if ending { ".safetensors" } else { "" });
        let mut index: Value = serde_json::from_slice(&valid().index).unwrap();
        index["weight_map"]["model.norm.weight"] = json!(name);
        sandbox.put(WEIGHTS_INDEX, index.to_string().as_bytes());
        prop_assert!(sandbox.open().is_some());
    }
}

#[test]
fn the_valid_checkpoint_is_valid() {
    assert!(open_weights(&valid().whole).is_none());
    assert!(Sandbox::sharded().open().is_none());
}

#[test]
fn two_tensors_of_one_name() {
    let entry =
        |to: usize| format!("\"model.norm.weight\":{{\"dtype\":\"U8\",\"shape\":[{to}],\"data_offsets\":[0,{to}]}}");
    // Readers that take the last one see a sound file, and others another one.
    let header = format!("{{{},{}}}", entry(4), entry(8));
    let fault = open_weights(&with_header(header.as_bytes(), 8)).unwrap();
    assert!(fault.got.unwrap().contains("two tensors named `model.norm.weight`"));
}

#[test]
fn offsets_to_the_end_of_all_numbers() {
    // Seven tensors of 2^61 bytes and one up to 2^64 − 1: their end and the header add up beyond.
    let eighth = 1u64 << 61;
    let mut entries: Vec<String> = (0..7u64)
        .map(|i| {
            format!(
                "\"t{i}\":{{\"dtype\":\"F4\",\"shape\":[{}],\"data_offsets\":[{},{}]}}",
                2 * eighth,
                i * eighth,
                (i + 1) * eighth
            )
        })
        .collect();
    let last = u64::MAX - 7 * eighth;
    entries.push(format!(
        "\"t7\":{{\"dtype\":\"U8\",\"shape\":[{last}],\"data_offsets\":[{},{}]}}",
        7 * eighth,
        u64::MAX
    ));
    open_weights(&with_header(format!("{{{}}}", entries.join(",")).as_bytes(), 8)).unwrap();
    let entries: Vec<String> = (0..8u64)
        .map(|i| {
            let (from, to) = (i * (eighth - 1), (i + 1) * (eighth - 1));
            format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{from},{to}]}}", eighth - 1)
        })
        .collect();
    let fault = open_weights(&with_header(format!("{{{}}}", entries.join(",")).as_bytes(), 8)).unwrap();
    assert!(fault.message.contains("cut short"), "{fault}");
}

#[test]
fn nesting_without_an_end() {
    for depth in [100, 1_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for text in [
                nested.clone(),
                format!("{{\"a\":{nested}}}"),
                format!("{{\"weight_map\":{nested}}}"),
                open.repeat(depth),
            ] {
                assert!(open_weights(&with_header(text.as_bytes(), 0)).is_some());
                let sandbox = Sandbox::sharded();
                sandbox.put(WEIGHTS_INDEX, text.as_bytes());
                sandbox.fault();
                let sandbox = Sandbox::sharded();
                sandbox.put(CONFIG, text.as_bytes());
                sandbox.fault();
            }
        }
    }
}

#[test]
fn a_shard_that_is_a_directory() {
    let sandbox = Sandbox::sharded();
    fs::remove_file(sandbox.model().join(SHARDS[0])).unwrap();
    fs::create_dir(sandbox.model().join(SHARDS[0])).unwrap();
    assert!(sandbox.fault().message.contains("missing"));
}

#[cfg(unix)]
mod links {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    /// As in the hub's cache: a directory of links to files elsewhere.
    #[test]
    fn are_followed_to_files() {
        let elsewhere = Sandbox::sharded();
        let sandbox = Sandbox::new();
        for name in [SHARDS[0], SHARDS[1], WEIGHTS_INDEX] {
            symlink(elsewhere.model().join(name), sandbox.model().join(name)).unwrap();
        }
        assert!(sandbox.open().is_none());
    }

    #[test]
    fn that_lead_nowhere_are_faults() {
        for target in ["model-1.safetensors", "nowhere", "..", "/dev/null", "/dev/zero", "/proc/self/mem", "../victim"]
        {
            let sandbox = Sandbox::sharded();
            let link = sandbox.model().join(SHARDS[0]);
            fs::remove_file(&link).unwrap();
            symlink(target, &link).unwrap();
            sandbox.fault();
        }
        // Two that point at each other, as index and as configuration.
        for name in [WEIGHTS_INDEX, CONFIG] {
            let sandbox = Sandbox::sharded();
            fs::remove_file(sandbox.model().join(name)).unwrap();
            symlink("there", sandbox.model().join(name)).unwrap();
            symlink(name, sandbox.model().join("there")).unwrap();
            sandbox.fault();
        }
    }

    /// A link in the place of an output is replaced, and what it points at is left alone.
    #[test]
    fn are_not_written_through() {
        let sandbox = Sandbox::new();
        let model = tiny_model(Tiny { layers: 2, vocab: 11, ..Tiny::default() }, 5);
        let config = config_json(&model.config, Dtype::F32).unwrap();
        for name in [CONFIG, WEIGHTS] {
            let _ = fs::remove_file(sandbox.model().join(name));
            symlink("../victim", sandbox.model().join(name)).unwrap();
        }
        model.save(&sandbox.model(), &config, Dtype::F32).unwrap();
        assert!(sandbox.open().is_none());
        assert!(!is_link(&sandbox.model().join(WEIGHTS)) && !is_link(&sandbox.model().join(CONFIG)));
    }

    fn is_link(path: &Path) -> bool {
        path.symlink_metadata().unwrap().is_symlink()
    }
}
