//! The greedy continuation of token ids, for comparison with other programs:
//! `greedy DIRECTORY "[1, 17, 5]" 12` prints the new ids as JSON.
#![allow(clippy::print_stdout, reason = "an example prints")]

use anyhow::{Context, Result};
use lopper_infer::{Engine, GenerateOptions, Request};
use lopper_model::{Checkpoint, Model};
use lopper_record::NoProgress;
use std::path::Path;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [directory, prompt, count] = args.as_slice() else {
        anyhow::bail!("usage: greedy DIRECTORY TOKEN_IDS COUNT");
    };
    let model = Model::from_checkpoint(&Checkpoint::open(Path::new(directory))?)?;
    let engine = Engine::new(model, 0)?;
    let prompt: Vec<u32> = serde_json::from_str(prompt).context("the token ids")?;
    let request = Request::greedy(prompt, count.parse().context("the number of tokens")?);
    let generated = engine.generate(&engine.all_layers(), &[request], &GenerateOptions::default(), &NoProgress)?;
    println!("{}", serde_json::to_string(&generated[0].tokens)?);
    Ok(())
}
