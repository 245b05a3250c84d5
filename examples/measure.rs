//! Scores a cut against the uncut model, both in one call: `cargo run --release --example measure`.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use lopper_infer::{Engine, TextModel};
use lopper_measure::{Comparison, Execution, compare_all, evaluate};
use lopper_model::{Checkpoint, Model};
use lopper_record::{LayerSet, NoProgress, Result};
use lopper_tasks::{GenerationPolicy, ItemSelection, Resources, Split, Suite};

fn main() -> Result<()> {
    for task in compared()? {
        println!("{}: {:.2} uncut, {:.2} cut, p = {:.3}", task.task, task.base, task.cut, task.p_value);
    }
    Ok(())
}

fn compared() -> Result<Vec<Comparison>> {
    let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
    let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 0)?, &checkpoint)?;
    let selection = ItemSelection::new(Split::Report, 20, 0);
    let (policy, resources) = (GenerationPolicy::default(), Resources::default());
    let suite = Suite::prepare(&text, &["pocket_kind", "pocket_word"], &selection, &policy, &resources)?;

    let uncut = text.engine.all_layers();
    let cut = uncut.without(&LayerSet::from([4, 5, 6, 7, 8, 9]));
    let outcomes = evaluate(&text, &suite, &[uncut, cut], &Execution::default(), &NoProgress)?.outcomes;
    Ok(compare_all(&outcomes[0], &outcomes[1], selection.seed)?.tasks)
}

#[test]
fn word_problems_lose_more_than_classification() {
    let tasks = compared().unwrap();
    let lost = |name: &str| tasks.iter().find(|task| task.task == name).map(|task| task.base - task.cut).unwrap();
    assert!(lost("pocket_word") > lost("pocket_kind"));
}
