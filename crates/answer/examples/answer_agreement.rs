//! How far Lopper's verdicts on pairs of answers agree with math-verify's.
//!
//!     cargo run -p lopper-answer --example answer_agreement -- PAIRS.jsonl
//!
//! PAIRS.jsonl comes from `fixtures/answers/make_equivalence.py`: one object a line with `reference`,
//! `answer`, `kind` (how the answer was made), `right` (what it was made to be) and `math_verify`. Prints
//! the agreement, by kind as well, and every disagreement.

#![allow(clippy::print_stdout, reason = "this is a program")]

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lopper_answer::{Verdict, equivalent};
use serde::Deserialize;

#[derive(Deserialize)]
struct Pair {
    reference: String,
    answer: String,
    kind: String,
    right: bool,
    math_verify: bool,
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: answer_agreement PAIRS.jsonl")?;
    let text = std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
    let mut kinds: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    let mut total = [0; 4];
    let mut unparsed = 0;
    for (number, line) in text.lines().enumerate() {
        let pair: Pair = serde_json::from_str(line).with_context(|| format!("{path}, line {}", number + 1))?;
        let verdict = equivalent(&pair.answer, &pair.reference);
        let ours = verdict.is_equal();
        unparsed += usize::from(matches!(verdict, Verdict::Unparsed { .. }));
        let row = [
            1,
            usize::from(ours == pair.math_verify),
            usize::from(ours == pair.right),
            usize::from(pair.math_verify == pair.right),
        ];
        for counts in [&mut total, kinds.entry(pair.kind.clone()).or_default()] {
            for (count, value) in counts.iter_mut().zip(row) {
                *count += value;
            }
        }
        if ours != pair.math_verify || ours != pair.right {
            println!(
                "{}\t{}\t{}\tmade {}\tmath-verify {}\tLopper {verdict:?}",
                pair.kind, pair.reference, pair.answer, pair.right, pair.math_verify
            );
        }
    }
    println!("\nkind\tpairs\tas math-verify\tas made\tmath-verify as made");
    for (kind, [pairs, agreed, right, theirs]) in
        kinds.iter().map(|(kind, counts)| (kind.as_str(), counts)).chain([("all", &total)])
    {
        println!("{kind}\t{pairs}\t{agreed}\t{right}\t{theirs}");
    }
    let percent = 100.0 * total[1] as f64 / total[0].max(1) as f64;
    println!("agreement with math-verify {percent:.2} %; {unparsed} unparsed");
    Ok(())
}
