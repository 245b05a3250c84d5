//! Which examples are not trained on, so that their loss shows whether anything was learned.
//!
//! Examples are ranked by a hash of their prompt's tokens and the first ones are held out: a function of the examples
//! alone, whatever their order and the seed of the training, and the same prompt is never on both sides.

use super::Examples;
use crate::trainer::Document;
use lopper_record::{Fault, Result};
use std::collections::{BTreeMap, BTreeSet};

/// One example in so many is held out.
const ONE_IN: usize = 10;
/// Most examples that are held out: the loss is a mean over thousands of tokens by then.
const MOST: usize = 64;
/// Fewer than these say nothing, and are worth more in the training.
const FEWEST: usize = 5;

/// How many examples are held out.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum HoldOut {
    /// A tenth, at most 64, and none of fewer than 50.
    #[default]
    Tenth,
    /// So many, but at least one is trained on.
    Number(usize),
    /// This fraction of them, at least one, and at least one is trained on.
    Fraction(f64),
}

impl HoldOut {
    /// The number out of `examples`.
    fn of(self, examples: usize) -> usize {
        match self {
            Self::Tenth => Some((examples / ONE_IN).min(MOST)).filter(|number| *number >= FEWEST).unwrap_or(0),
            Self::Number(number) => number.min(examples.saturating_sub(1)),
            Self::Fraction(fraction) => {
                let number = (examples as f64 * fraction).round() as usize;
                number.max(1).min(examples.saturating_sub(1))
            }
        }
    }
}

/// Documents to train on, and others to measure the loss on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingSet {
    /// Documents to train on, in their order.
    pub train: Vec<Document>,
    /// The number of the row of each of them.
    pub rows: Vec<usize>,
    /// Held-out documents, in their order.
    pub held_out: Vec<Document>,
    /// Examples that were held out; one may be several documents.
    pub held_out_examples: usize,
    /// Examples that are in neither: their prompt is that of a held-out example from elsewhere.
    pub left_out: usize,
}

impl Examples {
    /// Divides the documents. Texts with the same prompt as a held-out one are held out as well, unless nothing would
    /// be left.
    pub fn hold_out(self, number: HoldOut) -> TrainingSet {
        let mut by_prompt: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
        let mut last = None;
        let mut count = 0;
        for (document, text) in self.documents.iter().zip(&self.texts) {
            if last.replace(*text) != Some(*text) {
                by_prompt.entry(prompt_hash(document)).or_default().push(*text);
                count += 1;
            }
        }
        let number = number.of(count);
        let mut chosen = Vec::new();
        for texts in by_prompt.into_values() {
            if chosen.len() >= number {
                break;
            }
            if chosen.len() + texts.len() < count {
                chosen.extend(texts);
            }
        }
        chosen.sort_unstable();
        let mut set = TrainingSet { held_out_examples: chosen.len(), ..TrainingSet::default() };
        for (document, text) in self.documents.into_iter().zip(self.texts) {
            if chosen.binary_search(&text).is_ok() {
                set.held_out.push(document);
            } else {
                set.train.push(document);
                set.rows.push(text);
            }
        }
        set
    }

    /// Trains on these and holds out `other`, the examples of another file. Examples with the prompt of a held-out one
    /// are left out of the training.
    ///
    /// # Errors
    /// A [`Fault`] where nothing is left to train on.
    pub fn hold_out_others(self, other: Examples) -> Result<TrainingSet> {
        let held_out: BTreeSet<[u8; 32]> = other.documents.iter().map(identity).collect();
        let shared: BTreeSet<usize> = self
            .documents
            .iter()
            .zip(&self.texts)
            .filter(|(document, _)| held_out.contains(&identity(document)))
            .map(|(_, text)| *text)
            .collect();
        let mut set = TrainingSet {
            held_out_examples: other.report.used,
            held_out: other.documents,
            left_out: shared.len(),
            ..TrainingSet::default()
        };
        for (document, text) in self.documents.into_iter().zip(self.texts) {
            if !shared.contains(&text) {
                set.train.push(document);
                set.rows.push(text);
            }
        }
        if set.train.is_empty() {
            return Err(Fault::new("every example to train on has the prompt of a held-out one")
                .expected("other prompts than those of the held-out examples")
                .got(format!("{} examples, all of them held out", shared.len()))
                .hint("name another file with --held-out, or a fraction such as 0.1")
                .into());
        }
        Ok(set)
    }
}

/// The hash of the prompt; of a text without one (but for a token that begins every text) the hash of all of it.
fn identity(document: &Document) -> [u8; 32] {
    if document.weights.iter().take(2).all(|weight| *weight == 0.0) {
        return prompt_hash(document);
    }
    let whole = Document { weights: vec![0.0; document.tokens.len()], ..document.clone() };
    prompt_hash(&whole)
}

/// The hash of the tokens before the first one in the loss.
fn prompt_hash(document: &Document) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let prompt = document.weights.iter().take_while(|weight| **weight == 0.0).count();
    document.tokens[..prompt].iter().for_each(|token| {
        hasher.update(&token.to_le_bytes());
    });
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// Texts of a prompt token and an answer token; text `several` is two documents.
    fn examples(prompts: impl IntoIterator<Item = u32>, several: Option<usize>) -> Examples {
        let mut examples = Examples::default();
        for (text, prompt) in prompts.into_iter().enumerate() {
            let document = Document { tokens: vec![prompt, text as u32], weights: vec![0.0, 1.0] };
            let times = 1 + usize::from(several == Some(text));
            examples.documents.extend(std::iter::repeat_n(document, times));
            examples.texts.extend(std::iter::repeat_n(text, times));
        }
        examples
    }

    fn answers(documents: &[Document]) -> Vec<u32> {
        documents.iter().map(|document| document.tokens[1]).collect()
    }

    #[test]
    fn a_tenth_is_held_out_of_enough_examples() {
        let counts = |n: usize| {
            let set = examples(0..n as u32, None).hold_out(HoldOut::Tenth);
            assert_eq!(set.train.len() + set.held_out.len(), n);
            set.held_out_examples
        };
        assert_eq!([0, 1, 49, 50, 214, 640, 5000].map(counts), [0, 0, 0, 5, 21, 64, 64]);
        let set = examples(0..3, None).hold_out(HoldOut::Number(9));
        assert_eq!((set.train.len(), set.held_out.len()), (1, 2));
        assert_eq!(examples(0..300, None).hold_out(HoldOut::Number(0)).held_out, []);
    }

    #[test]
    fn a_fraction_is_held_out_where_it_is_given() {
        let counts = |n: usize, fraction| {
            let set = examples(0..n as u32, None).hold_out(HoldOut::Fraction(fraction));
            assert_eq!(set.rows, answers(&set.train).iter().map(|row| *row as usize).collect::<Vec<_>>());
            (set.train.len(), set.held_out_examples)
        };
        assert_eq!(counts(2000, 0.1), (1800, 200), "without the limit of the default");
        assert_eq!([counts(10, 0.01), counts(10, 0.999), counts(1, 0.5)], [(9, 1), (1, 9), (1, 0)]);
    }

    #[test]
    fn examples_of_another_file_are_held_out_and_their_prompts_are_not_trained_on() {
        let document = |prompt: u32, answer| Document { tokens: vec![1, prompt, answer], weights: vec![0.0, 0.0, 1.0] };
        let of = |prompts: &[u32], answer| {
            let documents = prompts.iter().map(|prompt| document(*prompt, answer)).collect();
            let mut examples = Examples { documents, texts: (1..=prompts.len()).collect(), ..Examples::default() };
            examples.report.used = prompts.len();
            examples
        };
        let set = of(&[5, 6, 7, 6], 8).hold_out_others(of(&[6, 9], 3)).unwrap();
        assert_eq!((set.train, set.rows), (vec![document(5, 8), document(7, 8)], vec![1, 3]));
        assert_eq!((set.held_out, set.held_out_examples, set.left_out), (vec![document(6, 3), document(9, 3)], 2, 2));
        assert!(of(&[6], 8).hold_out_others(of(&[6], 3)).unwrap_err().fault().is_some());

        // Texts without a prompt are compared as a whole, not by the token that begins them all.
        let text = |tokens: &[u32]| Document { tokens: tokens.to_vec(), weights: vec![0.0, 1.0, 1.0] };
        let plain = |documents: Vec<Document>| Examples {
            texts: (1..=documents.len()).collect(),
            documents,
            ..Examples::default()
        };
        let set =
            plain(vec![text(&[1, 2, 3]), text(&[1, 2, 4])]).hold_out_others(plain(vec![text(&[1, 2, 4])])).unwrap();
        assert_eq!(set.rows, [1]);
    }

    #[test]
    fn the_choice_depends_on_the_examples_and_not_on_their_order() {
        let set = examples(0..100, None).hold_out(HoldOut::Tenth);
        assert_eq!(set, examples(0..100, None).hold_out(HoldOut::Tenth));
        let held = |set: &TrainingSet| set.held_out.iter().map(|d| d.tokens[0]).collect::<HashSet<_>>();
        assert_eq!(held(&set), held(&examples((0..100).rev(), None).hold_out(HoldOut::Tenth)));
        assert!(answers(&set.train).is_sorted() && answers(&set.held_out).is_sorted());
    }

    #[test]
    fn a_prompt_or_a_text_is_never_on_both_sides() {
        let set = examples((0..100).map(|i| i / 4), None).hold_out(HoldOut::Tenth);
        assert_eq!(set.held_out_examples, 12, "whole groups of four with the same prompt");
        let prompts = |documents: &[Document]| documents.iter().map(|d| d.tokens[0]).collect::<HashSet<_>>();
        assert!(prompts(&set.train).is_disjoint(&prompts(&set.held_out)));
        let one = examples(std::iter::repeat_n(7, 100), None).hold_out(HoldOut::Tenth);
        assert_eq!((one.train.len(), one.held_out_examples), (100, 0), "something is left to train on");

        let held = set.held_out[0].tokens[1] as usize;
        let twice = examples((0..100).map(|i| i / 4), Some(held)).hold_out(HoldOut::Tenth);
        assert_eq!((twice.held_out_examples, twice.held_out.len()), (12, 13));
    }
}
