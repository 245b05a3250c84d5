//! Worked solutions, corrupted copies of them, and how well the equation checker tells them apart.

use std::fmt;
use std::path::Path;

use lopper_diagnose::equations::first_false;
use lopper_record::Result;
use lopper_tasks::{DataRoot, Table};
use serde_json::{Map, Value};

/// The answers of the first `count` rows of GSM8K's `split` in a data root.
pub fn answers(root: &Path, split: &str, count: usize) -> Result<Vec<String>> {
    let (_, files) = DataRoot::new(root).find("openai/gsm8k", "main", &[split.to_owned()])?;
    let answer = |row: Result<Map<String, Value>, String>| {
        let row = row.map_err(anyhow::Error::msg)?;
        Ok(row.get("answer").and_then(Value::as_str).unwrap_or_default().to_owned())
    };
    Table::read(&files)?.rows.into_iter().take(count).map(answer).collect()
}

/// Precision and recall of the checker.
#[derive(Debug, Default)]
pub struct Count {
    /// Right solutions, and corrupted ones (of those with an annotated result).
    pub right: usize,
    pub corrupted: usize,
    /// Corrupted ones that were flagged, at the very equation.
    pub found: usize,
    /// Corrupted ones that were flagged elsewhere.
    pub elsewhere: usize,
    /// Right ones that were flagged.
    pub false_alarms: usize,
    /// The errors, for people.
    pub notes: Vec<String>,
}

impl Count {
    /// Of all flags the right ones.
    pub fn precision(&self) -> f64 {
        self.found as f64 / (self.found + self.elsewhere + self.false_alarms).max(1) as f64
    }

    /// Of all corrupted equations the ones found.
    pub fn recall(&self) -> f64 {
        self.found as f64 / self.corrupted.max(1) as f64
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "precision {:.3}, recall {:.3} ({} right solutions, {} flagged; {} corrupted, {} found, {} flagged elsewhere)",
            self.precision(),
            self.recall(),
            self.right,
            self.false_alarms,
            self.corrupted,
            self.found,
            self.elsewhere
        )
    }
}

/// Runs the checker over solutions and their corrupted copies.
pub fn measure(answers: &[String], annotated: bool) -> Count {
    let shown = |text: &str| if annotated { text.to_owned() } else { stripped(text) };
    let mut count = Count::default();
    for (seed, answer) in answers.iter().enumerate() {
        count.right += 1;
        if let Some(slip) = first_false(&shown(answer)) {
            count.false_alarms += 1;
            count.notes.push(format!("false alarm: {} (is {})", slip.equation, slip.value));
        }
        let Some((copy, wrong)) = corrupted(answer, seed) else { continue };
        count.corrupted += 1;
        match first_false(&shown(&copy)) {
            Some(slip) if slip.equation.replace([',', '$'], "").contains(&wrong) => count.found += 1,
            Some(slip) => {
                count.elsewhere += 1;
                count.notes.push(format!("elsewhere: {} in place of {wrong}", slip.equation));
            }
            None => count.notes.push(format!("missed {wrong} in {:?}", shown(&copy))),
        }
    }
    count
}

/// A copy in which the result of one annotated equation is another number, in the annotation and behind it, and that
/// number. Which equation and by how much follows from `seed`.
pub fn corrupted(answer: &str, seed: usize) -> Option<(String, String)> {
    let places: Vec<(usize, usize)> = answer
        .match_indices("<<")
        .filter_map(|(at, _)| {
            let end = at + answer[at..].find(">>")?;
            let result = answer[at..end].rsplit_once('=')?.1;
            // Results that are whole numbers written alike in both places.
            let whole = !result.is_empty() && result.bytes().all(|b| b.is_ascii_digit());
            let behind: String = answer[end + 2..].chars().take(result.len() + result.len() / 3).collect();
            (whole && behind.replace(',', "").starts_with(result)).then_some((at, end))
        })
        .collect();
    let (at, end) = *places.get(seed % places.len().max(1))?;
    let (left, result) = answer[at..end].rsplit_once('=')?;
    let number: u64 = result.parse().ok()?;
    // Off by one, by ten, or a digit turned: slips that models make.
    let wrong = match seed % 3 {
        0 => number + 1,
        1 => number + 10,
        _ => number.checked_sub(1)?,
    }
    .to_string();
    let behind = &answer[end + 2..];
    let mut left_to_skip = result.len();
    let length = behind.find(|c: char| {
        if left_to_skip == 0 {
            return true;
        }
        left_to_skip -= usize::from(c.is_ascii_digit());
        false
    });
    let rest = &behind[length.unwrap_or(behind.len())..];
    Some((format!("{}{left}={wrong}>>{wrong}{rest}", &answer[..at]), wrong))
}

/// The text without annotations.
pub fn stripped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        out.push_str(before);
        rest = after.split_once(">>").map_or("", |(_, after)| after);
    }
    out + rest
}
