//! Ranks layers by block influence and scores the cut without the three that matter least on ARC-easy:
//! `cargo run --release --example rank_and_score -- ROWS`, where ROWS holds `allenai/ai2_arc/ARC-Easy/…`.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use lopper_infer::{Engine, TextModel};
use lopper_measure::{Execution, evaluate};
use lopper_model::{Checkpoint, Model};
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, Measures, Request};
use lopper_record::{LayerPosition, LayerSet, NoProgress, Result};
use lopper_tasks::{DataRoot, GenerationPolicy, ItemSelection, Resources, RowChoice, Split, Suite, TaskOutcome};

const ROWS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data");
const TEXT: &str = "A magnet pulls iron. Water freezes when it is cold enough, and plants need light to grow.";

fn main() -> Result<()> {
    let (dropped, outcome) = best_cut(&std::env::args().nth(1).unwrap_or_else(|| ROWS.into()))?;
    println!("without layers {dropped}: acc {:.3} of {} items", outcome.metrics["acc"].value, outcome.n);
    Ok(())
}

fn best_cut(rows: &str) -> Result<(LayerSet<LayerPosition>, TaskOutcome)> {
    let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
    let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 0)?, &checkpoint)?;

    let calibration = Calibration::new(vec![text.plain(TEXT)?])?;
    let scores = criteria::measure(&text.engine, &calibration, Measures::default(), &NoProgress)?;
    let request = Request { num_layers: scores.num_layers(), remove: 3, scores: Some(&scores), seed: 0 };
    let dropped = criteria::select(criteria::criterion("bi")?, &request)?.dropped;

    let selection = ItemSelection { rows: RowChoice::All, ..ItemSelection::new(Split::Report, 100, 0) };
    let resources = Resources { data_root: DataRoot::new(rows), ..Resources::default() };
    let suite = Suite::prepare(&text, &["arc_easy"], &selection, &GenerationPolicy::default(), &resources)?;
    let kept = dropped.complement(scores.num_layers()).slots();
    let outcome = evaluate(&text, &suite, &[kept], &Execution::default(), &NoProgress)?.into_first().remove(0);
    Ok((dropped, outcome))
}

#[test]
fn three_layers_go_and_every_item_is_scored() {
    let (dropped, outcome) = best_cut(ROWS).unwrap();
    assert_eq!((dropped.len(), outcome.n, outcome.bad_rows.len()), (3, 12, 0));
    assert!(!dropped.contains(LayerPosition(0)), "the first layer changes most");
}
