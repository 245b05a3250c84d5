//! Writes the report of a made-up study, to look at while changing its style:
//! `cargo run -p lopper-report --example preview -- out.html`.

#[path = "../tests/common/mod.rs"]
mod common;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "preview.html".into());
    let record = common::study();
    std::fs::write(&path, lopper_report::render(&record)?)?;
    Ok(())
}
