//! Pruned models on the disk: the same numbers as skipping layers in memory, and outputs that are complete or absent.

use std::fs;

use lopper_model::checkpoint::Dtype;
use lopper_model::families::config_json;
use lopper_model::hf::{WEIGHTS, WEIGHTS_INDEX};
use lopper_model::{Batch, Model, Threads};
use lopper_record::NoProgress;
use lopper_testkit::{RecordedProgress, Tiny, tensors, tiny_model, write_tensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::plan::Choice;

const OPTIONS: WriteOptions =
    WriteOptions { force: false, max_shard_bytes: 5_000_000_000, keep_pattern: false, verify: false };

struct Source {
    dir: TempDir,
    model: Model,
}

fn source(tiny: Tiny, dtype: Dtype) -> Source {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model");
    fs::create_dir(&path).unwrap();
    let model = tiny_model(tiny, 5);
    model.save(&path, &config_json(&model.config, dtype).unwrap(), dtype).unwrap();
    Source { dir, model }
}

impl Source {
    fn path(&self) -> PathBuf {
        self.dir.path().join("model")
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    fn open(&self) -> Arc<Checkpoint> {
        open(&self.path())
    }

    fn prune<const N: usize>(&self, drop: [usize; N], options: &WriteOptions) -> Result<WriteReport> {
        let checkpoint = self.open();
        write_pruned(&checkpoint, &plan(&checkpoint, drop)?, &self.out(), options, &NoProgress)
    }

    /// Everything besides the source and the output, such as temporary directories left behind.
    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.to_string_lossy().into_owned());
        names.filter(|name| name != "model" && name != "out").collect()
    }
}

fn open(path: &Path) -> Arc<Checkpoint> {
    Arc::new(Checkpoint::open(path).unwrap())
}

fn plan<const N: usize>(checkpoint: &Checkpoint, drop: [usize; N]) -> Result<Plan> {
    Plan::new(checkpoint, "model", &drop.into(), Choice::given())
}

fn fault<T>(result: Result<T>) -> Fault {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.into_fault().expect("a fault of the user's"),
    }
}

fn edit_config(source: &Source, edit: impl Fn(&mut Value)) {
    let path = source.path().join(CONFIG);
    let mut json = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn a_written_cut_computes_what_skipping_the_layers_computes() {
    for (qk_norm, tied) in [(false, true), (true, false)] {
        let source = source(Tiny { layers: 5, qk_norm, tied, ..Tiny::default() }, Dtype::F32);
        let report = source.prune([3, 1], &OPTIONS).unwrap();
        assert_eq!(report.num_hidden_layers, 3);
        let pruned = open(&source.out());
        assert_eq!(pruned.contains("lm_head.weight"), !tied);
        let pruned = Model::from_checkpoint(&pruned).unwrap();
        let batch = Batch::new(&[[1u32, 2, 3, 4], [5, 6, 7, 8]]);
        let run = |model: &Model, kept: [usize; 3]| {
            model.hidden_states(&batch, &kept.into(), Threads::One, None, None).unwrap().to_vec()
        };
        assert_eq!(run(&pruned, [0, 1, 2]), run(&source.model, [0, 2, 4]));
        assert!(source.leftovers().is_empty());
    }
}

#[test]
fn weights_are_copied_byte_for_byte_from_and_into_shards() {
    let source = source(Tiny { tied: false, bias: true, ..Tiny::default() }, Dtype::BF16);
    let whole = source.open();
    let options = WriteOptions { max_shard_bytes: 20_000, ..OPTIONS };
    let report = source.prune([0], &options).unwrap();
    assert!(
        report.files.contains(&WEIGHTS_INDEX.to_owned())
            && report.files.iter().filter(|f| f.ends_with(".safetensors")).count() > 1
    );
    let sharded = open(&source.out());
    let copied = |from: &Checkpoint, to: &Checkpoint, shift: usize| {
        for name in to.names() {
            let original = match layer_of(name) {
                Some((layer, _)) => rename_layer(name, layer + shift).unwrap(),
                None => name.to_owned(),
            };
            let (a, b) = (from.tensor(&original).unwrap(), to.tensor(name).unwrap());
            assert_eq!((a.dtype, a.shape, a.data), (b.dtype, b.shape, b.data), "{name}");
        }
    };
    copied(&whole, &sharded, 1);
    assert_eq!(sharded.names().count(), report.tensors);
    assert_eq!(sharded.weight_bytes(), report.weight_bytes);
    let index: Value = serde_json::from_slice(&fs::read(source.out().join(WEIGHTS_INDEX)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], json!(report.weight_bytes));

    // From shards into one file; layer 0 is gone, so layer 1 is the first.
    let cut = plan(&sharded, [1]).unwrap();
    let again = source.dir.path().join("again");
    write_pruned(&sharded, &cut, &again, &OPTIONS, &NoProgress).unwrap();
    copied(&whole, &open(&again), 2);
    assert!(!again.join(WEIGHTS_INDEX).exists());
}

#[test]
fn everything_around_the_weights_is_kept_or_brought_in_step() {
    let source = source(Tiny { qk_norm: true, ..Tiny::default() }, Dtype::F32);
    edit_config(&source, |json| {
        json["layer_types"] = json!(["full_attention"; 4].to_vec());
        json["max_window_layers"] = json!(4);
        json["house_style"] = json!({"z": 1, "a": [1.0, 1e-6]});
    });
    let put = |name: &str, text: &str| fs::write(source.path().join(name), text).unwrap();
    for name in ["tokenizer.json", "chat_template.jinja", "generation_config.json", "LICENSE", "merges.txt"] {
        put(name, name);
    }
    put("training_args.bin", "x");
    put("optimizer_notes.txt", "x");
    put("README.md", "---\nlicense: mit\n---\n# Model\n\nText.");
    let report = source.prune([1, 2], &OPTIONS).unwrap();
    let read = |name: &str| fs::read_to_string(source.out().join(name)).unwrap();
    for name in ["tokenizer.json", "chat_template.jinja", "generation_config.json", "LICENSE", "merges.txt"] {
        assert_eq!(read(name), name);
    }
    assert!(!report.files.iter().any(|name| name.contains("training") || name.contains("notes")));

    let card = read("README.md");
    assert!(card.starts_with("---\nlicense: mit\n---\n# Model\n\nText.\n\n## Layers removed"), "{card}");
    assert!(card.contains("removed: 1,2") && card.contains("kept: 0,3"), "{card}");

    let (old, new) = (source.open(), open(&source.out()));
    assert!(old.config_json().keys().eq(new.config_json().keys()), "keys and their order");
    let changed: Vec<_> = old.config_json().iter().filter(|(key, value)| new.config_json()[*key] != **value).collect();
    assert_eq!(changed.len(), 3, "{changed:?}");
    assert_eq!(new.config_json()["num_hidden_layers"], json!(2));
    assert_eq!(new.config_json()["layer_types"], json!(["full_attention", "full_attention"]));
    assert_eq!(new.config_json()["max_window_layers"], json!(2));
    assert_eq!(Plan::read(&source.out().join(PLAN_FILE)).unwrap().dropped, LayerSet::from([1, 2]));
}

#[test]
fn a_cut_of_a_cut_counts_as_the_original() {
    let source = source(Tiny { layers: 6, ..Tiny::default() }, Dtype::F32);
    source.prune([1, 4], &OPTIONS).unwrap();
    let first = open(&source.out());
    // 1 and 4 are removed: the original layer 5 is at position 3.
    let cut = plan(&first, [5]).unwrap();
    assert_eq!((&cut.kept, &cut.dropped), (&LayerSet::from([0, 2, 3]), &LayerSet::from([1, 4, 5])));
    assert_eq!(cut.source.num_hidden_layers, 4);
    assert_eq!(cut.original.as_ref().unwrap().hash, source.open().hash());
    assert_eq!(cut.kept_positions(&first).unwrap(), LayerSet::from([0, 1, 2]));
    assert!(fault(plan(&first, [4])).message.contains("removed from this model already"));
    assert!(fault(plan(&first, [6])).message.contains("no layer 6"));

    let again = source.dir.path().join("again");
    write_pruned(&first, &cut, &again, &OPTIONS, &NoProgress).unwrap();
    let second = open(&again);
    let values = |name: &str| second.values(name).unwrap();
    assert_eq!(values("model.layers.1.mlp.up_proj.weight"), *source.model.layers[2].gate_up.linears()[1].weight.data);
    // The same layers cut at once from the original make the same weights.
    fs::remove_dir_all(source.out()).unwrap();
    source.prune([1, 4, 5], &OPTIONS).unwrap();
    assert_eq!(open(&source.out()).hash(), second.hash());
}

#[test]
fn progress_counts_every_byte_written_and_read_back() {
    let source = source(Tiny::default(), Dtype::F16);
    let (checkpoint, progress) = (source.open(), RecordedProgress::default());
    let cut = plan(&checkpoint, [2]).unwrap();
    let options = WriteOptions { verify: true, ..OPTIONS };
    let report = write_pruned(&checkpoint, &cut, &source.out(), &options, &progress).unwrap();
    for (name, unit, total) in [("writing", Step::BYTES, 2 * report.weight_bytes as usize), ("comparing", "layers", 6)]
    {
        let step = progress.last(name);
        assert_eq!((step.unit, step.done, step.total, step.decreases), (unit, total, total, 0));
    }
    assert!(report.plan.verification.is_some());

    // An interrupt leaves nothing, whether it comes while writing or while comparing.
    fs::remove_dir_all(source.out()).unwrap();
    for check in [0, 5, report.tensors + 2] {
        let progress = RecordedProgress::interrupting_at(check);
        let error = write_pruned(&checkpoint, &cut, &source.out(), &options, &progress).unwrap_err();
        assert!(error.is_interrupted(), "{error:#}");
        assert!(!source.out().exists() && source.leftovers().is_empty());
    }
}

#[test]
fn frequencies_saved_by_old_versions_move_with_their_layer() {
    let source = source(Tiny { layers: 3, ..Tiny::default() }, Dtype::F32);
    let mut tensors = tensors(&source.path());
    for layer in 0..3 {
        tensors.push((format!("model.layers.{layer}.self_attn.rotary_emb.inv_freq"), vec![1], vec![layer as f32]));
    }
    write_tensors(&source.path().join(WEIGHTS), &tensors);
    source.prune([0], &OPTIONS).unwrap();
    let pruned = open(&source.out());
    assert_eq!(pruned.values("model.layers.0.self_attn.rotary_emb.inv_freq").unwrap(), [1.0]);
}

#[test]
fn outputs_are_replaced_only_when_asked_and_harmless() {
    let source = source(Tiny::default(), Dtype::F32);
    source.prune([1], &OPTIONS).unwrap();
    let before = open(&source.out()).hash().to_owned();
    assert!(fault(source.prune([2], &OPTIONS)).message.contains("already exists"));
    assert_eq!(open(&source.out()).hash(), before);

    let force = WriteOptions { force: true, ..OPTIONS };
    source.prune([2, 3], &force).unwrap();
    assert_eq!(open(&source.out()).config().num_hidden_layers, 2);
    assert!(source.leftovers().is_empty(), "{:?}", source.leftovers());

    fs::remove_dir_all(source.out()).unwrap();
    fs::create_dir(source.out()).unwrap();
    fs::write(source.out().join("thesis.txt"), "x").unwrap();
    assert!(fault(source.prune([2], &force)).message.contains("not a model that Lopper has cut"));
    assert_eq!(fs::read_dir(source.out()).unwrap().count(), 1);

    let checkpoint = source.open();
    let cut = plan(&checkpoint, [1]).unwrap();
    for out in [source.path(), source.dir.path().to_path_buf()] {
        let fault = fault(write_pruned(&checkpoint, &cut, &out, &force, &NoProgress));
        assert!(fault.message.contains("replace the model that is being cut"), "{fault}");
    }
}

#[test]
fn failures_leave_nothing_behind() {
    let source = source(Tiny::default(), Dtype::F32);
    let cut = plan(&source.open(), [1]).unwrap();
    // Another model, so the plan does not fit.
    edit_config(&source, |json| json["rope_theta"] = json!(5.0));
    let other = source.open();
    let wrong = fault(write_pruned(&other, &cut, &source.out(), &OPTIONS, &NoProgress));
    assert!(wrong.message.contains("another model") && wrong.hint.unwrap().contains("--drop"));
    assert!(!source.out().exists() && source.leftovers().is_empty());

    // The weights become shorter while they are read.
    let cut = plan(&other, [1]).unwrap();
    let file = fs::OpenOptions::new().write(true).open(source.path().join(WEIGHTS)).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(length - 4).unwrap();
    assert!(write_pruned(&other, &cut, &source.out(), &OPTIONS, &NoProgress).is_err());
    assert!(!source.out().exists() && source.leftovers().is_empty(), "{:?}", source.leftovers());
}

#[test]
fn faulty_plans_are_faults() {
    let source = source(Tiny::default(), Dtype::F32);
    let cut =
        Plan::new(&source.open(), "model", &[1].into(), Choice { scores: Some(vec![0.5, 0.1]), ..Choice::given() })
            .unwrap();
    let path = Path::new("cut.json");
    assert_eq!(Plan::parse(cut.to_json().unwrap().as_bytes(), path).unwrap(), cut);
    let good: Value = serde_json::from_str(&cut.to_json().unwrap()).unwrap();
    assert_eq!(good["criterion"], json!("given"));
    let edits: [(&str, Value); 9] = [
        ("format", json!(2)),
        ("kept", json!([0, 2])),
        ("kept", json!([0, 2, 2])),
        ("kept", json!([3, 2, 0])),
        ("kept", json!([0, 2, 9])),
        ("kept", json!([0, 2, -1])),
        ("dropped", json!([2])),
        ("source", json!({"id": "x", "hash": "y", "num_hidden_layers": u64::MAX})),
        ("criterion", Value::Null),
    ];
    for (key, value) in edits {
        let mut json = good.clone();
        json[key] = value;
        fault(Plan::parse(json.to_string().as_bytes(), path));
    }
    for text in ["", "{}", "[1]", "{\"format\": 1}"] {
        fault(Plan::parse(text.as_bytes(), path));
    }
    let mut extra = good;
    extra["note"] = json!("a later version's key");
    Plan::parse(extra.to_string().as_bytes(), path).unwrap();

    let all = plan(&source.open(), [0, 1, 2, 3]);
    assert!(all.is_err() && fault(all).expected.is_some());
    fs::write(source.path().join(PLAN_FILE), cut.to_json().unwrap()).unwrap();
    assert!(fault(source.prune([1], &OPTIONS)).message.contains("cut.json contradicts"));
}
