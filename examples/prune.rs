//! Writes the embedded pocket model without two layers: `cargo run --release --example prune -- OUT`.

use std::path::PathBuf;
use std::sync::Arc;

use lopper_model::Checkpoint;
use lopper_prune::{Choice, Plan, WriteOptions, write_pruned};
use lopper_record::{LayerSet, NoProgress, Result};

fn main() -> Result<()> {
    prune(&PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "pruned".into())))
}

fn prune(out: &std::path::Path) -> Result<()> {
    // `Checkpoint::open(directory)` reads a Hugging Face model directory.
    let checkpoint = Arc::new(Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?);
    let layers = LayerSet::parse("5,6", checkpoint.config().num_hidden_layers)?;
    let plan = Plan::new(&checkpoint, "pocket", &layers, Choice::given())?;
    write_pruned(&checkpoint, &plan, out, &WriteOptions::default(), &NoProgress).map(drop)
}

#[test]
fn two_of_twelve_layers_go() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    prune(&out).unwrap();
    assert_eq!(Checkpoint::open(&out).unwrap().config().num_hidden_layers, 10);
}
