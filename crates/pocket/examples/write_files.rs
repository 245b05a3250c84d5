//! Collects the vocabulary from the generators and writes it and the files that follow from it:
//! `crates/pocket/src/vocabulary.txt` and the tokenizer's part of `models/pocket`.
//! A model that was trained with another vocabulary no longer fits them.

use std::path::Path;

use lopper_pocket::{model_files, tokenizer};

fn main() -> anyhow::Result<()> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let words = tokenizer::collect_vocabulary(5000);
    std::fs::write(package.join("src/vocabulary.txt"), words.join("\n") + "\n")?;
    let model = package.join("../../models/pocket");
    std::fs::create_dir_all(&model)?;
    for (name, content) in model_files::files(words.iter().map(String::as_str)) {
        std::fs::write(model.join(name), content)?;
    }
    Ok(())
}
