//! Precision and recall of the equation checker on worked solutions of GSM8K: each right solution as it is and a copy
//! in which one result is corrupted, with and without annotations (`<<48/2=24>>`).
//!
//! ```sh
//! cargo run --example equation_check -- ../shared/data test 200
//! ```

#[path = "../tests/common/corrupt.rs"]
mod corrupt;

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(args.first().context("the data root is missing")?);
    let split = args.get(1).map_or("test", String::as_str);
    let count = args.get(2).map_or(Ok(200), |count| count.parse())?;
    let answers = corrupt::answers(&root, split, count)?;
    let mut out = std::io::stdout().lock();
    for annotated in [true, false] {
        let count = corrupt::measure(&answers, annotated);
        writeln!(out, "annotations {}: {count}", if annotated { "kept" } else { "stripped" })?;
        if args.len() > 3 {
            for line in &count.notes {
                writeln!(out, "  {line}")?;
            }
        }
    }
    Ok(())
}
