//! Damaged and malicious plans, and outputs that are links to somewhere else.

use std::path::Path;
use std::sync::Arc;

use lopper_model::checkpoint::{Checkpoint, Dtype};
use lopper_model::families::config_json;
use lopper_prune::{Choice, Plan};
use lopper_record::LayerSet;
use lopper_testkit::{Tiny, tiny_model};
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

fn checkpoint() -> (TempDir, Arc<Checkpoint>) {
    let dir = tempfile::tempdir().unwrap();
    let model = tiny_model(Tiny { layers: 4, vocab: 11, ..Tiny::default() }, 5);
    model.save(dir.path(), &config_json(&model.config, Dtype::F32).unwrap(), Dtype::F32).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(dir.path()).unwrap());
    (dir, checkpoint)
}

fn plan() -> String {
    Plan::new(&checkpoint().1, "a/model", &LayerSet::from([1]), Choice::given()).unwrap().to_json().unwrap()
}

/// Whatever is read as a plan keeps layers of one model; everything else is a fault.
fn parse(bytes: &[u8]) {
    match Plan::parse(bytes, Path::new("cut.json")) {
        Ok(plan) => {
            let layers = plan.original_model().num_hidden_layers;
            let mut all: Vec<usize> = plan.kept.indices().chain(plan.dropped.indices()).collect();
            all.sort_unstable();
            assert!(!plan.kept.is_empty() && all.into_iter().eq(0..layers));
        }
        Err(error) => assert!(error.fault().is_some(), "{error:#}"),
    }
}

proptest! {
    #[test]
    fn damaged_plans(flips in vec((any::<usize>(), 0u32..8), 1..6), cut in 0usize..40) {
        let mut bytes = plan().into_bytes();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        bytes.truncate(bytes.len() - cut);
        parse(&bytes);
    }

    #[test]
    fn plans_of_any_numbers(layers: u64, kept in vec(prop_oneof![0u64..6, any::<u64>()], 0..6), dropped in vec(prop_oneof![0u64..6, any::<u64>()], 0..6)) {
        let mut json: serde_json::Value = serde_json::from_str(&plan()).unwrap();
        for layers in [layers, (kept.len() + dropped.len()) as u64] {
            json["source"]["num_hidden_layers"] = layers.into();
            json["kept"] = kept.clone().into();
            json["dropped"] = dropped.clone().into();
            parse(json.to_string().as_bytes());
        }
    }
}

#[cfg(unix)]
#[test]
fn an_output_that_is_a_link_is_refused() {
    use lopper_prune::{WriteOptions, write_pruned};
    use lopper_record::NoProgress;
    use std::fs;
    use std::os::unix::fs::symlink;

    let (_source, checkpoint) = checkpoint();
    let plan = Plan::new(&checkpoint, "a/model", &LayerSet::from([1]), Choice::given()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let precious = place.path().join("precious");
    fs::create_dir(&precious).unwrap();
    // It looks like an output of Lopper's, which --force would replace.
    fs::write(precious.join("cut.json"), "{}").unwrap();
    for target in [precious.as_path(), Path::new("nowhere"), Path::new("out")] {
        let out = place.path().join("out");
        symlink(target, &out).unwrap();
        for force in [false, true] {
            let options = WriteOptions { force, ..WriteOptions::default() };
            let error = write_pruned(&checkpoint, &plan, &out, &options, &NoProgress).unwrap_err();
            assert!(error.fault().is_some(), "{error:#}");
            assert!(out.symlink_metadata().unwrap().is_symlink());
        }
        fs::remove_file(&out).unwrap();
    }
    assert_eq!(fs::read_dir(&precious).unwrap().count(), 1);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing else was left");
}

/// Side files that are links are copied as what they point at, and stay inside the output.
#[cfg(unix)]
#[test]
fn links_of_the_source_become_files() {
    use lopper_prune::{WriteOptions, write_pruned};
    use lopper_record::NoProgress;
    use std::os::unix::fs::symlink;

    let (source, _) = checkpoint();
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("blob"), "{}").unwrap();
    symlink(place.path().join("blob"), source.path().join("tokenizer.json")).unwrap();
    let checkpoint = Arc::new(Checkpoint::open(source.path()).unwrap());
    let plan = Plan::new(&checkpoint, "a/model", &LayerSet::from([1]), Choice::given()).unwrap();
    let out = place.path().join("out");
    write_pruned(&checkpoint, &plan, &out, &WriteOptions::default(), &NoProgress).unwrap();
    let copied = out.join("tokenizer.json");
    assert!(!copied.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(copied).unwrap(), "{}");
}
