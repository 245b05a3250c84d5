//! Examples that are there more than once.
//!
//! - **Exact**: the same tokens are learned, of prompt and answer.
//! - **Near**: at least 80 % of the sequences of five words (with operators and brackets) of prompt and answer together
//!   are the same, by Jaccard's measure, and so are all numbers in their order: `12 + 13` is another example than
//!   `12 + 14`, however much the rest of a template repeats. Candidates are found by MinHash, as of Lee et al. (arXiv
//!   2107.06499): 20 bands of 5 hashes find a pair at 80 % with a probability of 0.9996, and a candidate is compared in
//!   full. The hashes are always the same, so the result is, too.
//!
//! The same answer to another prompt is none: `yes` is right more than once. They are counted.
//!
//! Not covered: examples that say the same in other words.

use std::collections::{HashMap, HashSet};

use super::words::{Words, hash};

const SHINGLE: usize = 5;
const BANDS: usize = 20;
const ROWS: usize = 5;
/// Jaccard's measure from which on two examples are nearly the same.
const SIMILAR: f64 = 0.8;

/// Examples seen so far, to recognise those that are the same.
#[derive(Debug, Default)]
pub struct Exact {
    seen: HashSet<[u8; 32]>,
}

impl Exact {
    /// Adds an example by the hash of all that is learned; whether it is new.
    pub fn insert(&mut self, identity: [u8; 32]) -> bool {
        self.seen.insert(identity)
    }
}

/// Examples seen so far, to recognise those that are nearly the same.
#[derive(Debug, Default)]
pub struct Near {
    /// The shingles of each, sorted.
    examples: Vec<Vec<u32>>,
    /// The examples with the same numbers and the same band.
    bands: HashMap<(u8, u64), Vec<u32>>,
}

impl Near {
    /// Adds an example unless one is there that is nearly the same; whether it was added.
    pub fn insert(&mut self, text: &str) -> bool {
        let words = Words::of(text);
        let shingles = shingles(&words.with_symbols);
        let keys = bands(&shingles, words.numbers);
        let mut compared = HashSet::new();
        for key in &keys {
            for &other in self.bands.get(key).into_iter().flatten() {
                if compared.insert(other) && jaccard(&shingles, &self.examples[other as usize]) >= SIMILAR {
                    return false;
                }
            }
        }
        let number = self.examples.len() as u32;
        for key in keys {
            self.bands.entry(key).or_default().push(number);
        }
        self.examples.push(shingles);
        true
    }
}

/// The sequences of five words; of fewer words all of them.
fn shingles(words: &[u64]) -> Vec<u32> {
    let short = hash(words) as u32;
    let mut all: Vec<u32> = words.windows(SHINGLE).map(|shingle| hash(shingle) as u32).collect();
    if all.is_empty() {
        all.push(short);
    }
    all.sort_unstable();
    all.dedup();
    all
}

fn bands(shingles: &[u32], numbers: u64) -> Vec<(u8, u64)> {
    let least = |at: usize| {
        let salt = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(at as u64 + 1);
        shingles.iter().map(|shingle| mixed(u64::from(*shingle) ^ salt)).min().unwrap_or_default()
    };
    let band = |band: usize| {
        let rows: Vec<u64> = (band * ROWS..(band + 1) * ROWS).map(least).collect();
        (band as u8, hash(&(numbers, rows)))
    };
    (0..BANDS).map(band).collect()
}

/// SplitMix64's mixing of bits.
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Jaccard's measure of two sorted lists.
fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut at, mut common) = (0, 0);
    for shingle in a {
        at += b[at..].iter().take_while(|other| *other < shingle).count();
        common += usize::from(b.get(at) == Some(shingle));
    }
    common as f64 / (a.len() + b.len() - common).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `second` is left out after `first`.
    fn near(first: &str, second: &str) -> bool {
        let mut near = Near::default();
        assert!(near.insert(first));
        !near.insert(second)
    }

    const STORY: &str = "Tell me a story about a fox. Once upon a time there was a fox who lived at the edge of a dark \
                         wood, and every evening he walked down to the river to look at the moon in the water.";

    #[test]
    fn what_differs_in_a_word_or_in_its_form_is_nearly_the_same() {
        assert!(near(STORY, STORY));
        assert!(near(STORY, &STORY.to_uppercase().replace(", ", "\n")));
        assert!(near(STORY, &STORY.replace("in the water.", "in the lake!")));
        let chinese = "请介绍一下长城。长城是中国古代的伟大防御工程，东起山海关，西至嘉峪关，是世界文化遗产之一，每年吸引众多游客。";
        assert!(near(chinese, &chinese.replace("众多", "许多")));
        assert!(near("hi!", "Hi"), "texts of a few words are the same or not");
    }

    #[test]
    fn other_numbers_other_words_and_other_code_are_other_examples() {
        let sum = |a: u32, b: u32| {
            format!(
                "Anna has {a} apples. She buys {b} more. How many has she now? {a} + {b} = {}\n#### {}",
                a + b,
                a + b
            )
        };
        assert!(near(&sum(12, 13), &sum(12, 13)) && !near(&sum(12, 13), &sum(12, 14)));
        assert!(!near(&sum(12, 13), &sum(13, 12)), "numbers in another order");
        let code = "Write a function that adds two numbers.\ndef add(a, b):\n    return a + b";
        assert!(!near(code, &code.replace("adds", "subtracts").replace("add", "sub").replace(" + ", " - ")));
        assert!(!near(STORY, &STORY.replace("a fox", "an old owl").replace("river", "hill").replace("dark", "bright")));
        assert!(!near("the capital of France is Paris", "the capital of Italy is Rome"));
        assert!(!near("法国的首都是哪里？巴黎。", "德国的首都是哪里？柏林。"));
    }

    #[test]
    fn pairs_at_the_threshold_are_found_among_many() {
        let text = |seed: usize, changed: usize| -> String {
            (0..60).map(|at| format!("w{}x{} ", seed * 100 + at, if at < changed { "b" } else { "" })).collect()
        };
        let letters =
            |text: String| text.chars().map(|c| c.to_digit(10).map_or(c, |d| (b'a' + d as u8) as char)).collect();
        let text = |seed, changed| -> String { letters(text(seed, changed)) };
        let mut near = Near::default();
        assert!((0..300).all(|seed| near.insert(&text(seed, 0))));
        // 60 words are 56 shingles; with two other words at an end 54 are the same: 0.93, and with ten 0.70.
        assert!((0..300).all(|seed| !near.insert(&text(seed, 2))));
        assert!((0..300).all(|seed| near.insert(&text(seed, 10))));
    }
}
