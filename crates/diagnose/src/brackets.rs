//! The bracket probe: a model is shown open brackets and is to close them, innermost first.
//!
//! Items of several kinds (round, square, curly, angle, mixed, and mixed ones within a line of code) and depths are
//! generated here; for the pocket model and its cuts they are those of its task `pocket_brackets`. The completion
//! is read to the end of the line and parsed: besides right or wrong it says whether something was left open,
//! closed too often, closed by the wrong kind, or whether other text came.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use lopper_infer::{Generation, Request, Sampling, StopStrings, TextModel};
use lopper_pocket::{Check, Split};
use lopper_record::Fault;
use lopper_record::study::Brackets;
use serde::{Deserialize, Serialize};

use super::draw::Draw;
use super::share::share;

const PAIRS: [(char, char); 4] = [('(', ')'), ('[', ']'), ('{', '}'), ('<', '>')];
/// Kinds of generated items, in turn.
const KINDS: [&str; 6] = ["round", "square", "curly", "angle", "mixed", "code"];
/// Open brackets of generated items.
const DEPTHS: std::ops::RangeInclusive<usize> = 2..=8;
/// Worked examples before a question.
const SHOTS: usize = 4;
/// Tokens beyond those of the right completion.
const SPARE_TOKENS: usize = 8;

/// Something to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BracketItem {
    /// Everything up to the completion, worked examples included.
    pub prompt: String,
    /// What is open.
    pub prefix: String,
    /// A right completion, with its leading space.
    pub answer: String,
    /// What kinds of brackets.
    pub kind: String,
    /// How many are open.
    pub depth: usize,
}

/// Generated items: every kind at every depth in turn. The same arguments give the same items.
pub fn generated(n: usize, seed: u64) -> Vec<BracketItem> {
    let mut draw = Draw::new(2, seed);
    let mut intro = String::from("Close every open bracket, the last one first.\n\n");
    for at in 0..SHOTS {
        let (prefix, closers) = prefix(&mut draw, ["mixed", "round", "code", "mixed"][at], 2 + at % 3);
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

/// The pocket model's own items.
pub fn of_pocket(split: Split, n: usize, seed: u64) -> Vec<BracketItem> {
    lopper_pocket::examples("pocket_brackets", split, seed)
        .take(n)
        .filter_map(|item| {
            let Check::Brackets { prefix } = item.check else { return None };
            let depth = item.answer.split_whitespace().count();
            Some(BracketItem {
                prompt: item.prompt.text().to_owned(),
                prefix,
                answer: item.answer,
                kind: "mixed".into(),
                depth,
            })
        })
        .collect()
}

/// Open brackets and what closes them.
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
        // In mixed items a pair that is closed already stands here and there, so that counting is not enough.
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

/// How a completion ends.
pub fn end_of(prefix: &str, completion: &str) -> &'static str {
    let mut open = Vec::new();
    for c in prefix.chars() {
        if let Some((_, close)) = PAIRS.iter().find(|(o, _)| *o == c) {
            open.push(*close);
        } else if PAIRS.iter().any(|(_, close)| *close == c) {
            open.pop();
        }
    }
    let line = completion.trim_start().lines().next().unwrap_or("");
    let mut any = false;
    for c in line.chars().filter(|c| !c.is_whitespace()) {
        if let Some((_, close)) = PAIRS.iter().find(|(o, _)| *o == c) {
            open.push(*close);
        } else if PAIRS.iter().any(|(_, close)| *close == c) {
            any = true;
            match open.pop() {
                None => return "superfluous",
                Some(expected) if expected != c => return "wrong_kind",
                Some(_) => {}
            }
        } else {
            return if any && !open.is_empty() { "left_open" } else { "other_text" };
        }
    }
    if open.is_empty() { "balanced" } else { "left_open" }
}

/// The probe in one model's tokens.
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
            return Err(Fault::new("there is no bracket item to ask").expected("at least one").got("none").into());
        }
        let tokenizer = text.tokenizer.clone();
        let decode = move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
        let stop = Arc::new(StopStrings::new(Arc::new(decode), ["\n".to_owned()]));
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
                    stop: Some(stop.clone()),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { items, requests })
    }

    /// What the engine is to generate.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// The figures of one model from its generations for [`BracketProbe::requests`].
    pub fn figures(&self, text: &TextModel, generations: &[Generation]) -> Result<Brackets> {
        ensure!(generations.len() == self.items.len(), "the engine left requests unanswered");
        let ends = generations
            .iter()
            .zip(&self.items)
            .map(|(generation, item)| Ok(end_of(&item.prefix, &text.decode(&generation.tokens)?)))
            .collect::<Result<Vec<_>>>()?;
        Ok(figures(self.items.iter().map(|item| (item.depth, item.kind.as_str())).zip(ends)))
    }
}

/// Sums up the ends of items of known depth and kind.
pub fn figures<'a>(items: impl IntoIterator<Item = ((usize, &'a str), &'static str)>) -> Brackets {
    let (mut ends, mut depths, mut kinds) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut all = Vec::new();
    for ((depth, kind), end) in items {
        *ends.entry(end.to_owned()).or_insert(0) += 1;
        let right = end == "balanced";
        depths.entry(depth).or_insert_with(Vec::new).push(right);
        kinds.entry(kind.to_owned()).or_insert_with(Vec::new).push(right);
        all.push(right);
    }
    Brackets {
        balanced: share(all),
        by_depth: depths.into_iter().filter_map(|(depth, right)| Some((depth, share(right)?))).collect(),
        by_kind: kinds.into_iter().filter_map(|(kind, right)| Some((kind, share(right)?))).collect(),
        ends,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_completions_are_balanced_and_every_kind_and_depth_comes() {
        let items = generated(42, 3);
        assert_eq!(items, generated(42, 3));
        for item in &items {
            assert_eq!(end_of(&item.prefix, &item.answer), "balanced", "{item:?}");
            assert_eq!(item.answer.split_whitespace().count(), item.depth);
            assert!(!item.prompt.ends_with(' '));
        }
        let kinds: std::collections::HashSet<_> = items.iter().map(|item| (&item.kind, item.depth)).collect();
        assert_eq!(kinds.len(), 42);
        for item in of_pocket(Split::Report, 20, 0) {
            assert_eq!(end_of(&item.prefix, &item.answer), "balanced", "{item:?}");
        }
    }

    #[test]
    fn ends_are_told_apart() {
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
            assert_eq!(end_of("( [", completion), end, "{completion:?}");
        }
        assert_eq!(end_of("y = f([x", " ] )"), "balanced");
    }
}
