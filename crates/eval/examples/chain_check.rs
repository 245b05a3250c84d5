//! Precision and recall of the chain checker on worked solutions: each right solution as it is and a copy in which one
//! result is corrupted, with and without annotations (`<<48/2=24>>`).
//!
//! ```sh
//! python fixtures/diagnostics/gsm8k_rows.py ../shared/data rows.jsonl 200
//! cargo run --example chain_check -- rows.jsonl
//! ```

#[path = "../tests/common/corrupt.rs"]
mod corrupt;

use std::io::Write;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "rows.jsonl".into());
    let show = std::env::args().nth(2).is_some();
    let answers = corrupt::answers(&std::fs::read_to_string(&path)?)?;
    let mut out = std::io::stdout().lock();
    for annotated in [true, false] {
        let count = corrupt::measure(&answers, annotated);
        writeln!(out, "annotations {}: {count}", if annotated { "kept" } else { "stripped" })?;
        if show {
            for line in &count.notes {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(())
}
