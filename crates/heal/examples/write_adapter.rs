//! Writes adapters with drawn weights for `fixtures/llama/untied`, whole (LoRA and DoRA) and without layer 1, and
//! the logits that Lopper computes with them, for `fixtures/peft/check.py` to compare with PEFT's.
//!
//!     cargo run -p lopper-heal --example write_adapter -- OUT

use anyhow::{Context, Result};
use lopper_heal::{LoraConfig, attach_lora, save_adapter};
use lopper_model::{Batch, Checkpoint, Model, Threads};
use lopper_record::{LayerPosition, LayerSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SEQUENCES: [&[u32]; 2] = [&[1, 17, 5, 33, 9, 41, 22, 8, 30, 12, 44], &[1, 29, 6, 40, 13, 25]];

fn main() -> Result<()> {
    let out = PathBuf::from(std::env::args().nth(1).context("usage: write_adapter OUT")?);
    let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/llama/untied");
    let model = Model::from_checkpoint(&Checkpoint::open(&base)?)?;
    write(&out.join("whole"), model.clone(), &[], LoraConfig { r: 4, alpha: 8.0, ..LoraConfig::default() })?;
    let dora = LoraConfig { r: 2, alpha: 3.0, dora: true, ..LoraConfig::default() };
    write(&out.join("dora"), model.clone(), &[], dora)?;
    let targets = ["k_proj", "down_proj"].map(str::to_owned).to_vec();
    write(
        &out.join("cut"),
        model,
        &[1],
        LoraConfig { r: 3, alpha: 2.5, rslora: true, target_modules: targets, ..LoraConfig::default() },
    )
}

fn write(directory: &Path, mut model: Model, dropped: &[usize], config: LoraConfig) -> Result<()> {
    std::fs::create_dir_all(directory)?;
    let kept = LayerSet::<LayerPosition>::from(dropped.to_vec()).complement(model.num_layers());
    let layers = kept.slots();
    attach_lora(&mut model, &config, 5, &kept)?;
    // B begins at zero; any values will do that are not.
    let mut number = 0u32;
    model.visit_mut(|name, param| {
        if name.ends_with("lora_B.weight") {
            for value in Arc::make_mut(&mut param.data) {
                number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *value = (number >> 8) as f32 / (1u32 << 23) as f32 - 1.0;
            }
        }
    });
    save_adapter(directory, &model, &kept, &config, None)?;
    let logits = SEQUENCES
        .iter()
        .map(|tokens| {
            let hidden = model.hidden_states(&Batch::new(&[*tokens]), &layers, Threads::One, None, None)?;
            let logits = model.logits(&model.normed_rows(&hidden, 0..tokens.len()), Threads::One);
            Ok(logits.chunks(model.config.vocab_size).map(<[f32]>::to_vec).collect())
        })
        .collect::<Result<Vec<Vec<Vec<f32>>>>>()?;
    let json = serde_json::json!({"dropped": dropped, "sequences": SEQUENCES, "logits": logits});
    Ok(std::fs::write(directory.join("logits.json"), json.to_string())?)
}
