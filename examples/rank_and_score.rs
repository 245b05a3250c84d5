//! Ranks layers by block influence and scores the best cut on ARC-easy: `cargo run --release --example rank_and_score`.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use lopper_infer::{Engine, TextModel};
use lopper_measure::{Execution, evaluate};
use lopper_model::{Checkpoint, Model};
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, Measures, Request};
use lopper_record::{LayerPosition, NoProgress, Result};
use lopper_tasks::{DataRoot, GenerationPolicy, ItemSelection, Resources, RowChoice, Split, Suite};

fn main() -> Result<()> {
    let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?; // `Checkpoint::open(DIRECTORY)` for yours
    let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 0)?, &checkpoint)?;

    let calibration = Calibration::new(vec![text.plain("Water freezes when it is cold, and plants need light.")?])?;
    let scores = criteria::measure(&text.engine, &calibration, Measures::default(), &NoProgress)?;
    let request = Request { num_layers: scores.num_layers(), remove: 3, scores: Some(&scores), seed: 0 };
    let dropped = criteria::select(criteria::criterion("bi")?, &request)?.dropped;
    let kept = dropped.complement(scores.num_layers()).slots();

    let data_root = DataRoot::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data"));
    let resources = Resources { data_root, ..Resources::default() };
    let items = ItemSelection { rows: RowChoice::All, ..ItemSelection::new(Split::Report, 100, 0) };
    let suite = Suite::prepare(&text, &["arc_easy"], &items, &GenerationPolicy::default(), &resources)?;
    let scored = evaluate(&text, &suite, &[kept], &Execution::default(), &NoProgress)?;
    let outcome = &scored.outcomes[0][0];

    println!("block influence by layer: {:.3?}", scores.block_influence);
    println!("without layers {dropped}: acc {:.2} of {} questions", outcome.metrics["acc"].value, outcome.n);
    assert!(dropped.len() == 3 && !dropped.contains(LayerPosition(0)), "the first layer changes the text most");
    assert_eq!((outcome.n, outcome.bad_rows.len()), (12, 0));
    Ok(())
}

#[test]
fn what_it_shows_holds() {
    main().unwrap();
}
