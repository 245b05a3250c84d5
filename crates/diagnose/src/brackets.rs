//! The bracket probe: the prompt opens brackets, and the model has to close them, innermost first.
//!
//! Items of several kinds (round, square, curly, angle, mixed, and mixed ones within a line of code) and nesting depths
//! are generated here; for the pocket model and its cuts they are those of its task `pocket_brackets`. The completion
//! is read to the end of the line and parsed: besides right or wrong, its outcome says whether a bracket was left open,
//! closed too often or closed by the wrong kind, or whether other text came.

use std::collections::BTreeMap;

use lopper_infer::{Generation, Request, Sampling, TextModel};
use lopper_pocket::draw::Draw;
use lopper_pocket::{Check, Split};
use lopper_record::study::Brackets;
use lopper_record::{Fault, Result, ensure};
use lopper_stats::proportion;
use lopper_tasks::{GenerationPolicy, stop_strings};
use serde::{Deserialize, Serialize};

const PAIRS: [(char, char); 4] = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];
/// Kinds of generated items, in turn.
const KINDS: [&str; 6] = ["round", "square", "curly", "angle", "mixed", "code"];
/// Numbers of open brackets in generated items.
const DEPTHS: std::ops::RangeInclusive<usize> = 2..=8;
/// Kinds of the worked examples before a question.
const SHOTS: [&str; 4] = ["mixed", "round", "code", "mixed"];
/// Tokens that may be generated beyond the length of the right completion.
const SPARE_TOKENS: usize = 8;
/// The stream of the draws of generated items.
const STREAM: u64 = 2;

/// Open brackets to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BracketItem {
    /// Everything up to the completion, worked examples included.
    pub prompt: String,
    /// The text with the open brackets.
    pub prefix: String,
    /// A right completion, with its leading space.
    pub answer: String,
    /// Kind of brackets.
    pub kind: String,
    /// Number of open brackets.
    pub depth: usize,
}

/// Generated items: every kind at every depth in turn. The same arguments give the same items.
pub fn generated(n: usize, seed: u64) -> Vec<BracketItem> {
    let mut draw = Draw::of_stream(seed, STREAM);
    let mut intro = String::from("Close every open bracket, the last one first.\n\n");
    for (at, kind) in SHOTS.into_iter().enumerate() {
        let (prefix, closers) = prefix(&mut draw, kind, 2 + at % 3);
        intro += &format!("Open: {prefix}\nClose:{closers}\n\n");
    }
    (0..n)
        .map(|at| {
            let kind = KINDS[at % KINDS.len()];
            let depth = DEPTHS.start() + (at / KINDS.len()) % DEPTHS.count();
            let (prefix, answer) = prefix(&mut draw, kind, depth);
            let prompt = format!("{intro}Open: {prefix}\nClose:");
            BracketItem { prompt, prefix, answer, kind: kind.to_owned(), depth }
        })
        .collect()
}

/// Items of the pocket model's task `pocket_brackets`.
pub fn pocket_items(split: Split, n: usize, seed: u64) -> Vec<BracketItem> {
    lopper_pocket::examples("pocket_brackets", split, seed)
        .take(n)
        .filter_map(|item| {
            let Check::Brackets { prefix } = item.check else { return None };
            let depth = item.answer.split_whitespace().count();
            let (prompt, kind) = (item.prompt.text().to_owned(), "mixed".to_owned());
            Some(BracketItem { prompt, prefix, answer: item.answer, kind, depth })
        })
        .collect()
}

/// Random open brackets, and the brackets that close them.
fn prefix(draw: &mut Draw, kind: &str, depth: usize) -> (String, String) {
    const NAMES: [&str; 8] = ["f", "max", "len", "abs", "sum", "g", "min", "set"];
    let pairs: &[(char, char)] = match kind {
        "round" => &PAIRS[..1],
        "square" => &PAIRS[1..2],
        "curly" => &PAIRS[2..3],
        "angle" => &PAIRS[3..],
        "code" => &PAIRS[..3],
        _ => &PAIRS,
    };
    let (mut parts, mut closers) = (Vec::new(), Vec::new());
    for _ in 0..depth {
        // Mixed items have some pairs that are closed already, so that counting is not enough.
        if kind == "mixed" && draw.below(3) == 0 {
            let (open, close) = pairs[draw.below(pairs.len())];
            parts.push(format!("{open} {close}"));
        }
        let (open, close) = pairs[draw.below(pairs.len())];
        let name = if kind == "code" && open == '(' { NAMES[draw.below(NAMES.len())] } else { "" };
        parts.push(format!("{name}{open}"));
        closers.push(close);
    }
    let closers: String = closers.iter().rev().map(|c| format!(" {c}")).collect();
    match kind {
        "code" => (format!("y = {}x", parts.concat()), closers),
        _ => (parts.join(" "), closers),
    }
}

/// The bracket that closes `c`, if it opens one.
fn closing(c: char) -> Option<char> {
    PAIRS.iter().find(|(open, _)| *open == c).map(|(_, close)| *close)
}

fn is_closing(c: char) -> bool {
    PAIRS.iter().any(|(_, close)| *close == c)
}

/// How a completion of `prefix` ends, up to the end of its line: `balanced`, `left_open`, `superfluous`, `wrong_kind`
/// or `other_text`.
pub fn outcome(prefix: &str, completion: &str) -> &'static str {
    let mut open = Vec::new();
    for c in prefix.chars() {
        open.extend(closing(c));
        if is_closing(c) {
            open.pop();
        }
    }
    let line = completion.trim_start().lines().next().unwrap_or("");
    let mut any_closed = false;
    for c in line.chars().filter(|c| !c.is_whitespace()) {
        if let Some(close) = closing(c) {
            open.push(close);
        } else if is_closing(c) {
            any_closed = true;
            match open.pop() {
                None => return "superfluous",
                Some(expected) if expected != c => return "wrong_kind",
                Some(_) => {}
            }
        } else {
            return if any_closed && !open.is_empty() { "left_open" } else { "other_text" };
        }
    }
    if open.is_empty() { "balanced" } else { "left_open" }
}

/// The probe tokenized for one model.
pub struct BracketProbe {
    items: Vec<BracketItem>,
    requests: Vec<Request>,
}

impl BracketProbe {
    /// Turns items into requests, answered greedily up to the end of the line.
    ///
    /// # Errors
    /// A [`Fault`] without items.
    pub fn prepare(text: &TextModel, items: Vec<BracketItem>) -> Result<Self> {
        if items.is_empty() {
            return Err(Fault::new("there is no bracket item").expected("at least one").got("none").into());
        }
        let stop = stop_strings(text, &["\n"], &GenerationPolicy::default());
        let requests = items
            .iter()
            .map(|item| {
                let reference = text.tokenizer.encode(&item.answer, false)?.len();
                Ok(Request {
                    prompt: text.plain(&item.prompt)?,
                    max_new_tokens: reference + SPARE_TOKENS,
                    sampling: Sampling::Greedy,
                    seed: 0,
                    stop_tokens: text.special.eos.clone(),
                    stop: stop.clone().map(|stop| stop as _),
                    thinking: None,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { items, requests })
    }

    /// The generation requests, one for each item.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The figures of one model from its generations for [`BracketProbe::requests`].
    ///
    /// # Errors
    /// When generations are missing.
    pub fn summarize(&self, text: &TextModel, generations: &[Generation]) -> Result<Brackets> {
        let (got, items) = (generations.len(), self.items.len());
        ensure!(got == items, "{got} generations for {items} items");
        let outcomes = generations
            .iter()
            .zip(&self.items)
            .map(|(generation, item)| {
                let outcome = outcome(&item.prefix, &text.decode(&generation.tokens)?);
                Ok((item.depth, item.kind.as_str(), outcome))
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(summarize(outcomes))
    }
}

/// The figures of items, each given as its depth, its kind and its [`outcome`].
pub fn summarize<'a>(items: impl IntoIterator<Item = (usize, &'a str, &'static str)>) -> Brackets {
    let (mut ends, mut depths, mut kinds) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut all = Vec::new();
    for (depth, kind, outcome) in items {
        *ends.entry(outcome.to_owned()).or_insert(0) += 1;
        let right = outcome == "balanced";
        depths.entry(depth).or_insert_with(Vec::new).push(right);
        kinds.entry(kind.to_owned()).or_insert_with(Vec::new).push(right);
        all.push(right);
    }
    Brackets {
        source: String::new(),
        balanced: proportion(all),
        by_depth: depths.into_iter().filter_map(|(depth, right)| Some((depth, proportion(right)?))).collect(),
        by_kind: kinds.into_iter().filter_map(|(kind, right)| Some((kind, proportion(right)?))).collect(),
        ends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_completions_are_balanced_and_every_kind_and_depth_occurs() {
        let items = generated(42, 3);
        assert_eq!(items, generated(42, 3));
        for item in &items {
            assert_eq!(outcome(&item.prefix, &item.answer), "balanced", "{item:?}");
            assert_eq!(item.answer.split_whitespace().count(), item.depth);
            assert!(!item.prompt.ends_with(' '));
        }
        let kinds: std::collections::HashSet<_> = items.iter().map(|item| (&item.kind, item.depth)).collect();
        assert_eq!(kinds.len(), 42);
        for item in pocket_items(Split::Report, 20, 0) {
            assert_eq!(outcome(&item.prefix, &item.answer), "balanced", "{item:?}");
        }
    }

    #[test]
    fn outcomes_are_distinguished() {
        for (completion, end) in [
            (" ] )", "balanced"),
            ("])\nOpen: (", "balanced"),
            (" ]", "left_open"),
            ("", "left_open"),
            (" ] ) )", "superfluous"),
            (" ) ]", "wrong_kind"),
            (" ] and", "left_open"),
            (" the answer", "other_text"),
            (" ] ) ok", "other_text"),
        ] {
            assert_eq!(outcome("( [", completion), end, "{completion:?}");
        }
        assert_eq!(outcome("y = f([x", " ] )"), "balanced");
    }
}
