//! Overlap with what is evaluated (decontamination).
//!
//! GPT-3 (arXiv 2005.14165, appendix C) and lm-evaluation-harness call a text contaminated that has 13 words in a row
//! with an evaluated one in common. Most questions are shorter than a document, and many have fewer than 13 words, so
//! what is looked for depends on how many the evaluated text has:
//!
//! | words | overlap |
//! |---|---|
//! | any | it is a whole message, or a whole line of one |
//! | 8 to 12 | also: it is contained in a message |
//! | 13 and more | also: a message has 13 of its words in a row |
//!
//! Fewer than 8 words occur anywhere (GPT-3 takes no shorter n-grams either). Thirteen words that more than ten
//! evaluated items have in common are the wording of their task, not an item.
//!
//! Not covered: paraphrases and translations.

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::words::{Words, hash};

/// Words of an n-gram.
const N: usize = 13;
/// Fewest words of a text that is looked for within others.
const FEWEST: usize = 8;
/// Fewest words and symbols of a text that is looked for at all.
const LEAST: usize = 3;
/// Most items that an n-gram may be of.
const MOST_ITEMS: u32 = 10;

/// What counts as overlap with an evaluated item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverlapCheck {
    /// The item itself, or 13 of its words in a row.
    #[default]
    Ngram,
    /// The item itself, as a whole message or line.
    Exact,
    /// Nothing.
    None,
}

/// The texts that are evaluated, to be found in others.
#[derive(Debug, Clone, Default)]
pub struct EvaluatedTexts {
    names: Vec<String>,
    items: u32,
    whole: HashMap<u64, u32>,
    /// Of texts of few words.
    contained: HashMap<u64, u32>,
    /// The lengths of these, with their symbols.
    lengths: BTreeSet<usize>,
    grams: HashMap<u64, Gram>,
}

/// Some words in a row.
#[derive(Debug, Clone, Copy)]
struct Gram {
    name: u32,
    /// How many items have them.
    items: u32,
    last: u32,
}

impl EvaluatedTexts {
    /// Adds an item of `name` (a task, a file), which each of `texts` gives away.
    pub fn add(&mut self, name: &str, texts: impl IntoIterator<Item = impl AsRef<str>>) {
        let number = match self.names.iter().position(|known| known == name) {
            Some(number) => number,
            None => {
                self.names.push(name.to_owned());
                self.names.len() - 1
            }
        };
        let (name, item) = (number as u32, self.items);
        self.items += 1;
        for text in texts {
            let words = Words::of(text.as_ref());
            if words.with_symbols.len() < LEAST {
                continue;
            }
            self.whole.entry(hash(&words.with_symbols)).or_insert(name);
            if (FEWEST..N).contains(&words.words.len()) {
                self.lengths.insert(words.with_symbols.len());
                self.contained.entry(hash(&words.with_symbols)).or_insert(name);
            }
            for gram in words.words.windows(N) {
                let gram = self.grams.entry(hash(gram)).or_insert(Gram { name, items: 0, last: u32::MAX });
                if gram.last != item {
                    (gram.items, gram.last) = (gram.items + 1, item);
                }
            }
        }
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// The task or file that an item in `text` is of.
    pub fn find(&self, text: &str, check: OverlapCheck) -> Option<&str> {
        if check == OverlapCheck::None || self.is_empty() {
            return None;
        }
        let words = Words::of(text);
        let lines = || text.lines().map(|line| Words::of(line).with_symbols);
        let whole = |words: &Vec<u64>| self.whole.get(&hash(words));
        let found = whole(&words.with_symbols).or_else(|| lines().find_map(|line| whole(&line))).copied();
        let number = found.or_else(|| if check == OverlapCheck::Ngram { self.within(&words) } else { None })?;
        self.names.get(number as usize).map(String::as_str)
    }

    fn within(&self, words: &Words) -> Option<u32> {
        let runs = self.lengths.iter().flat_map(|length| words.with_symbols.windows(*length));
        let contained = runs.into_iter().find_map(|run| self.contained.get(&hash(run))).copied();
        contained.or_else(|| {
            let grams = words.words.windows(N).filter_map(|gram| self.grams.get(&hash(gram)));
            grams.into_iter().find(|gram| gram.items <= MOST_ITEMS).map(|gram| gram.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. \
                        How many clips did Natalia sell altogether in April and May?";

    fn evaluated() -> EvaluatedTexts {
        let mut texts = EvaluatedTexts::default();
        texts.add("gsm8k", [LONG]);
        texts.add("arc", ["Which gas do plants take in from the air?"]);
        texts.add("arith", ["What is 37 + 48?"]);
        texts.add("chinese", ["法国的首都是哪里？"]);
        texts
            .add("code", ["Write a function that returns the number of vowels in a string, ignoring case of letters."]);
        texts.add("labels", ["Yes"]);
        texts
    }

    #[test]
    fn items_are_found_whatever_their_case_punctuation_and_line_breaks() {
        let texts = evaluated();
        let find = |text: &str| texts.find(text, OverlapCheck::Ngram);
        for (text, task) in [
            (LONG.to_uppercase().replace(' ', "\n").as_str(), "gsm8k"),
            ("Recall: Natalia sold clips to 48 of her friends in April and then she sold half. Go on.", "gsm8k"),
            ("Question: which gas do plants take in from the air\nAnswer:", "arc"),
            ("I wonder which gas do plants take in from the air today", "arc"),
            ("what is 37 + 48", "arith"),
            ("Answer briefly.\nWhat is 37 + 48?\n", "arith"),
            ("请回答：法国的首都是哪里？谢谢", "chinese"),
            ("# Write a function that returns the number of vowels in a string, ignoring case of letters.", "code"),
        ] {
            assert_eq!(find(text), Some(task), "{text}");
        }
    }

    #[test]
    fn other_texts_are_kept() {
        let texts = evaluated();
        for text in [
            "Natalia sold clips to 48 of her friends in June, and then nothing at all happened for a year.",
            "Which gas do plants give off into the air?",
            "What is 37 - 48?",
            "What is 37 + 49?",
            "So what is 37 + 48? It is 85, as we have seen.",
            "德国的首都是哪里？",
            "Write a function that returns the number of words in a string.",
            "Yes",
            "",
        ] {
            assert_eq!(texts.find(text, OverlapCheck::Ngram), None, "{text}");
        }
    }

    #[test]
    fn exact_overlap_is_a_whole_message_or_line() {
        let texts = evaluated();
        assert_eq!(texts.find(LONG, OverlapCheck::Exact), Some("gsm8k"));
        assert_eq!(texts.find(&format!("Solve this.\n{LONG}"), OverlapCheck::Exact), Some("gsm8k"));
        assert_eq!(texts.find(&format!("Solve this. {LONG}"), OverlapCheck::Exact), None);
        assert_eq!(texts.find(LONG, OverlapCheck::None), None);
        assert_eq!(EvaluatedTexts::default().find(LONG, OverlapCheck::Ngram), None);
    }

    #[test]
    fn the_wording_of_a_task_is_no_item() {
        let wording = "read the following question with care and then answer it with a single number only";
        let with = |items: usize| {
            let mut texts = EvaluatedTexts::default();
            (0..items).for_each(|n| texts.add("own", [format!("{wording}: how many are {n}{n} and seven")]));
            texts
        };
        assert!(with(10).find(wording, OverlapCheck::Ngram).is_some());
        assert!(with(11).find(wording, OverlapCheck::Ngram).is_none());
        let item = format!("{wording}: how many are 33 and seven");
        assert!(with(11).find(&item, OverlapCheck::Exact).is_some(), "an item stays one");
        assert_eq!((with(11).len(), with(0).is_empty()), (11, true));
    }
}
