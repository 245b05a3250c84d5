//! Heals a cut on answers that the uncut model wrote itself: `cargo run --release --example heal -- ADAPTER`.

#![allow(clippy::print_stdout, reason = "an example prints what it found")]

use std::path::{Path, PathBuf};

use lopper_heal::self_generated::examples_of;
use lopper_heal::{
    DataFilters, ExampleFilter, ExampleLimits, HealRecipe, HealStats, Method, Renderer, Run, SgrOptions, SgrPrompt,
    generate_responses, heal,
};
use lopper_infer::{Engine, TextModel};
use lopper_model::chat::Message;
use lopper_model::{Checkpoint, Model};
use lopper_pocket::Split;
use lopper_record::{LayerSet, NoProgress, Result};

fn main() -> Result<()> {
    let adapter = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "adapter".into()));
    std::fs::create_dir(&adapter)?;
    let stats = run(&adapter)?;
    println!("loss {:.3} before, {:.3} after", stats.loss_first, stats.loss_last);
    Ok(())
}

fn run(adapter: &Path) -> Result<HealStats> {
    let checkpoint = Checkpoint::from_bytes(lopper_pocket::embedded::FILES)?;
    let text = TextModel::new(Engine::new(Model::from_checkpoint(&checkpoint)?, 0)?, &checkpoint)?;
    let layers = text.engine.model().num_layers();

    let questions = lopper_pocket::examples("pocket_word", Split::Train, 0).take(32);
    let prompts: Vec<SgrPrompt> =
        questions.map(|question| SgrPrompt::Chat(vec![Message::user(question.prompt.text())].into())).collect();
    let options = SgrOptions { max_new_tokens: 60, system: None, ..SgrOptions::default() };
    let uncut = text.engine.all_layers();
    let answers = generate_responses(&text, &uncut, &prompts, &options, &NoProgress)?;
    let mut filter = ExampleFilter::new(&DataFilters::default(), None);
    let limits = ExampleLimits::finished(512);
    let documents = examples_of(&answers.rows, &Renderer::of(&text), limits, &mut filter)?.documents;

    let kept = LayerSet::from([4, 5, 6, 7, 8, 9]).complement(layers);
    let recipe = HealRecipe { batch: 8, epochs: 4, ..HealRecipe::for_pocket(Method::Lora) };
    let model = text.engine.model();
    let healed = heal(model, &kept, &documents, &recipe, &Run::for_model(model, 2, &recipe), &NoProgress)?;
    healed.save_adapter(adapter, None)?;
    Ok(healed.stats)
}

#[test]
fn the_loss_falls_and_an_adapter_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let stats = run(directory.path()).unwrap();
    assert!(stats.loss_last < stats.loss_first, "{stats:?}");
    assert!(directory.path().join("adapter_config.json").exists());
}
