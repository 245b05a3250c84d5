//! The arithmetic probe of arXiv 2602.01997: at the position of the answer's first digit (after the minus sign where
//! there is one), is the right digit the most probable of the ten, and what is its log-probability?
//!
//! Items are generated here (any number of operations and digits; the paper's "single digit, three ops" is two
//! operations on three one-digit numbers), or rows of `EleutherAI/arithmetic` (context, completion), or, for the pocket
//! model and its cuts, items of its task `pocket_arith` that it has never seen. Three worked examples precede each
//! question.

mod first_digit;

use std::collections::HashSet;
use std::path::Path;

use lopper_infer::{Loglik, LoglikRequest, TextModel};
use lopper_pocket::Split;
use lopper_pocket::draw::Draw;
use lopper_record::study::Arithmetic;
use lopper_record::{Fault, Result, ensure};
use lopper_stats::{Moments, proportion};
use lopper_tasks::metrics::choice::best;
use lopper_tasks::{DataRoot, Row, SplitFiles, Table};
use serde::{Deserialize, Serialize};

pub use first_digit::{DigitRequest, DigitRequests, NumberTokens};

/// Worked examples before a question.
const SHOTS: usize = 3;
/// The stream of the draws of generated items.
const STREAM: u64 = 1;

/// A question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArithmeticItem {
    /// Everything up to the answer, worked examples included.
    pub prompt: String,
    /// The answer with its leading space.
    pub answer: String,
}

/// Questions of `operations` operations on numbers of `digits` digits. The same arguments give the same items.
///
/// # Errors
/// A [`Fault`] for no operation, more than 8, no digit or more than 6.
pub fn generated(operations: usize, digits: u32, n: usize, seed: u64) -> Result<Vec<ArithmeticItem>> {
    if !(1..=8).contains(&operations) || !(1..=6).contains(&digits) {
        return Err(Fault::new("arithmetic items of this size are not generated")
            .expected("1 to 8 operations on numbers of 1 to 6 digits")
            .got(format!("{operations} operations, {digits} digits"))
            .hint("the paper's items have 2 operations and 1 digit")
            .into());
    }
    let mut draw = Draw::of_stream(seed, STREAM);
    let (low, high) = (10_i64.pow(digits - 1), 10_i64.pow(digits) - 1);
    let mut seen = HashSet::new();
    let mut question = |seen: &mut HashSet<String>| {
        // Small items run out: one operation on one digit makes 243 questions.
        for _ in 0..1000 {
            let (text, value, _) = expression(&mut draw, operations, (low, high));
            if value.unsigned_abs() < 1_000_000_000_000 && seen.insert(text.clone()) {
                return Some((text, value));
            }
        }
        None
    };
    // The worked examples are the same for all items, and none of them is a question.
    let shots: Vec<_> = (0..SHOTS).map_while(|_| question(&mut seen)).collect();
    let intro: String = shots.iter().map(|(text, value)| format!("{} {value}\n", phrased(text))).collect();
    let items = (0..n).map_while(|_| question(&mut seen));
    let item = |(text, value): (String, i128)| ArithmeticItem {
        prompt: format!("{intro}{}", phrased(&text)),
        answer: format!(" {value}"),
    };
    Ok(items.map(item).collect())
}

/// The question for the value of an expression.
fn phrased(expression: &str) -> String {
    format!("Question: What is {expression}? Answer:")
}

/// An expression, its value, and whether it needs parentheses within another.
fn expression(draw: &mut Draw, operations: usize, range: (i64, i64)) -> (String, i128, bool) {
    if operations == 0 {
        let number = draw.int(range.0, range.1);
        return (number.to_string(), i128::from(number), false);
    }
    let left = draw.below(operations);
    let mut part = |operations| {
        let (text, value, compound) = expression(draw, operations, range);
        (if compound { format!("({text})") } else { text }, value)
    };
    let ((a, x), (b, y)) = (part(left), part(operations - 1 - left));
    let (sign, value) = match draw.below(3) {
        0 => ('+', x.saturating_add(y)),
        1 => ('-', x.saturating_sub(y)),
        // A value that does not fit is far above the caller's limit.
        _ => ('*', x.saturating_mul(y)),
    };
    (format!("{a} {sign} {b}"), value, true)
}

/// The (context, completion) rows of `source`: a .parquet, .jsonl or .csv file, or a configuration of
/// `EleutherAI/arithmetic` in `root`, such as `arithmetic_3ds`.
///
/// # Errors
/// A [`Fault`] for missing rows, and for a row that is not an arithmetic item.
pub fn read_rows(source: &Path, root: &DataRoot) -> Result<Vec<(String, String)>> {
    let files = match source.to_str().filter(|_| source.extension().is_none() && !source.exists()) {
        Some(config) => root.find("EleutherAI/arithmetic", config, &["validation".to_owned()])?.1,
        None => SplitFiles::local(vec![source.to_path_buf()]),
    };
    let table = Table::read(&files)?;
    let item = |(at, row): (usize, &Row)| {
        let fault = |got: String| {
            Fault::new(format!("row {at} is not an arithmetic item"))
                .file(table.file(at))
                .expected("{\"context\": \"Q: What is 2 plus 3?\\nA:\", \"completion\": \" 5\"}")
                .got(got)
                .hint("EleutherAI/arithmetic has rows of this form")
        };
        let row = row.as_ref().map_err(|reason| fault(reason.clone()))?;
        let text = |name: &str| {
            let text = row.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
            text.ok_or_else(|| fault(format!("no string in `{name}`")))
        };
        Ok((text("context")?, text("completion")?))
    };
    table.rows.iter().enumerate().map(item).collect()
}

/// Items from rows of (context, completion) as in `EleutherAI/arithmetic`: the first three rows are the worked
/// examples, at most `n` others the questions. Rows whose completion has no digit are left out.
pub fn from_rows(rows: impl IntoIterator<Item = (String, String)>, n: usize) -> Vec<ArithmeticItem> {
    let mut rows = rows.into_iter().filter(|(_, completion)| completion.contains(|c: char| c.is_ascii_digit())).map(
        |(context, completion)| {
            let context = if context.starts_with('\n') { context } else { format!("\n{context}") };
            (context, format!(" {}", completion.trim()))
        },
    );
    let shots: String = rows.by_ref().take(SHOTS).map(|(context, answer)| context + &answer).collect();
    rows.take(n)
        .map(|(context, answer)| ArithmeticItem { prompt: format!("{shots}{context}").trim_start().to_owned(), answer })
        .collect()
}

/// Items of the pocket model's task `pocket_arith`.
pub fn pocket_items(split: Split, n: usize, seed: u64) -> Vec<ArithmeticItem> {
    let items = lopper_pocket::examples("pocket_arith", split, seed).take(n);
    items.map(|item| ArithmeticItem { prompt: item.prompt.text().to_owned(), answer: item.answer }).collect()
}

/// Log-probabilities of the ten digits as an answer's first one, and which is right.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DigitLogprobs {
    /// Natural log-probability of each digit over the whole vocabulary.
    pub logprobs: [f64; 10],
    /// The right digit.
    pub right: usize,
}

impl DigitLogprobs {
    /// Log-probability of the right digit.
    pub fn logprob(&self) -> f64 {
        self.logprobs[self.right]
    }

    /// Whether the right digit is the most probable of the ten.
    pub fn correct(&self) -> bool {
        best(&self.logprobs) == Some(self.right)
    }
}

/// The probe tokenized for one model; each item with its right digit.
pub struct ArithmeticProbe {
    source: String,
    numbers: String,
    items: Vec<(DigitRequest, usize)>,
}

impl ArithmeticProbe {
    /// Turns items into requests; `source` says where the items come from, for the record.
    ///
    /// # Errors
    /// A [`Fault`] without items.
    pub fn prepare(text: &TextModel, items: &[ArithmeticItem], source: impl Into<String>) -> Result<Self> {
        if items.is_empty() {
            return Err(Fault::new("there is no arithmetic item")
                .expected("at least four rows whose completion is a number, the first three being worked examples")
                .got("fewer")
                .into());
        }
        let mut digits = DigitRequests::new(text);
        let mut prepared = Vec::with_capacity(items.len());
        for item in items {
            let first = item.answer.char_indices().find_map(|(at, c)| Some((at, c.to_digit(10)? as usize)));
            let Some((at, right)) = first else { continue };
            prepared.push((digits.request(&format!("{}{}", item.prompt, &item.answer[..at]))?, right));
        }
        Ok(Self { source: source.into(), numbers: digits.number_tokens().describe(), items: prepared })
    }

    /// The log-likelihood requests, one for each item.
    pub fn requests(&self) -> Vec<LoglikRequest> {
        self.items.iter().map(|(request, _)| request.request.clone()).collect()
    }

    /// The digits' log-probabilities from the results of [`ArithmeticProbe::requests`].
    ///
    /// # Errors
    /// When results are missing, or the model's output is not finite.
    pub fn digit_logprobs(&self, results: &[Vec<Loglik>]) -> Result<Vec<DigitLogprobs>> {
        ensure!(results.len() == self.items.len(), "{} results for {} items", results.len(), self.items.len());
        self.items
            .iter()
            .zip(results)
            .map(|((request, right), results)| {
                let logprobs = request.logprobs(results)?;
                ensure!(logprobs.iter().all(|value| value.is_finite()), "a log-probability is not finite");
                Ok(DigitLogprobs { logprobs, right: *right })
            })
            .collect()
    }

    /// The figures of one model; `base`: the uncut model's log-probabilities of the same items.
    pub fn summarize(&self, own: &[DigitLogprobs], base: Option<&[DigitLogprobs]>) -> Arithmetic {
        Arithmetic { source: self.source.clone(), numbers: self.numbers.clone(), ..summarize(own, base) }
    }
}

/// Accuracy, log-probability and its change over items. There is no change where `base` has another number of items.
pub fn summarize(own: &[DigitLogprobs], base: Option<&[DigitLogprobs]>) -> Arithmetic {
    let mut first_digits = [0_usize; 10];
    own.iter().for_each(|item| first_digits[item.right] += 1);
    let most = first_digits.into_iter().max().unwrap_or(0);
    let changes = base
        .filter(|base| base.len() == own.len())
        .map(|base| own.iter().zip(base).map(|(own, base)| own.logprob() - base.logprob()).collect::<Moments>());
    Arithmetic {
        accuracy: proportion(own.iter().map(DigitLogprobs::correct)),
        logprob: own.iter().map(DigitLogprobs::logprob).collect::<Moments>().mean(),
        logprob_change: changes.and_then(|changes| changes.mean()),
        constant: most as f64 / own.len().max(1) as f64,
        ..Arithmetic::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::equations::check_all;

    #[test]
    fn generated_items_are_right_and_all_different() {
        for (operations, digits) in [(1, 1), (2, 1), (3, 2), (8, 6)] {
            let items = generated(operations, digits, 50, 7).unwrap();
            assert_eq!(items, generated(operations, digits, 50, 7).unwrap());
            let questions: HashSet<&str> =
                items.iter().map(|item| item.prompt.rsplit_once("What is ").unwrap().1).collect();
            assert_eq!(questions.len(), items.len());
            for item in &items {
                let expression = item.prompt.rsplit_once("What is ").unwrap().1.strip_suffix("? Answer:").unwrap();
                // The checker of worked solutions computes it again.
                let found = check_all(&format!("{expression} ={}", item.answer));
                assert!(found.len() == 1 && found[0].holds, "{item:?}");
                assert_eq!(item.prompt.lines().count(), SHOTS + 1);
            }
        }
        assert_eq!(generated(1, 1, 9999, 0).unwrap().len(), 243 - SHOTS);
        assert!(generated(0, 1, 5, 0).is_err() && generated(2, 7, 5, 0).is_err());
    }

    #[test]
    fn rows_bring_their_own_worked_examples() {
        let row = |context: &str, completion: &str| (context.to_owned(), completion.to_owned());
        let rows = [("\n\nQ: 1\n\nA:", " 1"), ("\n\nQ: 2\n\nA:", "2"), ("\n\nQ: 3\n\nA:", "x")]
            .into_iter()
            .chain([("\n\nQ: 4\n\nA:", " -4"), ("\n\nQ: 5\n\nA:", " 5")])
            .map(|(a, b)| row(a, b));
        let items = from_rows(rows, 10);
        assert_eq!(items.len(), 1);
        assert_eq!(items[0].prompt, "Q: 1\n\nA: 1\n\nQ: 2\n\nA: 2\n\nQ: 4\n\nA: -4\n\nQ: 5\n\nA:");
        assert_eq!(items[0].answer, " 5");
        let plain = from_rows((1..=4).map(|i| row(&format!("Is {i}?"), &i.to_string())), 10);
        assert_eq!(plain[0].prompt, "Is 1? 1\nIs 2? 2\nIs 3? 3\nIs 4?");
    }

    #[test]
    fn the_summary_is_of_means_over_items() {
        let item = |right: usize, best: usize| {
            let mut logprobs = [-9.0; 10];
            logprobs[best] = -1.0;
            DigitLogprobs { logprobs, right }
        };
        let base = [item(1, 1), item(2, 2)];
        let cut = [item(1, 1), item(2, 3)];
        let figures = summarize(&cut, Some(&base));
        assert_eq!(figures.accuracy.unwrap().value, 0.5);
        assert_eq!((figures.logprob.unwrap().value, figures.logprob_change.unwrap().value), (-5.0, -4.0));
        assert_eq!(figures.constant, 0.5);
        assert_eq!(summarize(&cut, Some(&base[..1])).logprob_change, None);
    }
}
