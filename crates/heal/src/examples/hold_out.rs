//! Which examples are not trained on, so that their loss shows whether anything was learned.
//!
//! Examples are ranked by a hash of their prompt's tokens and the first ones are held out: a function of the examples
//! alone, whatever their order and the seed of the training, and the same prompt is never on both sides.

use super::Examples;
use crate::trainer::Document;
use std::collections::BTreeMap;

/// One example in so many is held out.
const ONE_IN: usize = 10;
/// Most examples that are held out: the loss is a mean over thousands of tokens by then.
const MOST: usize = 64;
/// Fewer than these say nothing, and are worth more in the training.
const FEWEST: usize = 5;

/// How many examples are held out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HoldOut {
    /// A tenth, at most 64, and none of fewer than 50.
    #[default]
    Tenth,
    /// So many, but at least one is trained on.
    Number(usize),
}

impl HoldOut {
    /// The number out of `examples`.
    fn of(self, examples: usize) -> usize {
        match self {
            Self::Tenth => Some((examples / ONE_IN).min(MOST)).filter(|number| *number >= FEWEST).unwrap_or(0),
            Self::Number(number) => number.min(examples.saturating_sub(1)),
        }
    }
}

/// Documents to train on, and others to measure the loss on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrainingSet {
    /// Documents to train on, in their order.
    pub train: Vec<Document>,
    /// Held-out documents, in their order.
    pub held_out: Vec<Document>,
    /// Examples that were held out; one may be several documents.
    pub held_out_examples: usize,
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
            let part = if chosen.binary_search(&text).is_ok() { &mut set.held_out } else { &mut set.train };
            part.push(document);
        }
        set
    }
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
