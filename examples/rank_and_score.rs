//! Ranks layers by block influence and scores the cut without the three that matter least on ARC-easy:
//! `cargo run --release --example rank_and_score -- ROWS`, where ROWS holds `allenai/ai2_arc/ARC-Easy/…`.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use anyhow::Result;
use lopper_infer::{Engine, TextModel};
use lopper_measure::{Execution, evaluate};
use lopper_model::{Checkpoint, Model};
use lopper_prune::Calibration;
use lopper_prune::criteria::{self, Measures, Request};
use lopper_record::NoProgress;
use lopper_tasks::{DataRoot, GenerationPolicy, ItemSelection, Resources, RowChoice, Split, Suite};

const TEXT: &str = "A magnet pulls iron. Water freezes when it is cold enough, and plants need light to grow.";

fn main() -> Result<()> {
    let rows = std::env::args().nth(1).filter(|path| std::path::Path::new(path).is_dir());
    let rows = rows.unwrap_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/data").into());
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
    println!("without layers {dropped}: acc {:.3} of {} items", outcome.metrics["acc"].value, outcome.n);
    Ok(())
}

#[test]
fn runs() {
    main().unwrap();
}
