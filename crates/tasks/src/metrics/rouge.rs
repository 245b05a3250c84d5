//! ROUGE-1, ROUGE-2 and sentence-level ROUGE-L (Lin 2004), with the tokens and stems of Google's
//! rouge-score 0.1.2, which scores agree with (fixture `fixtures/rouge`).
//!
//! Not covered: ROUGE-Lsum, several references, other languages than English.

use std::collections::HashMap;

use super::porter::stem;

/// How two texts overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overlap {
    /// Of the prediction's units, the share found in the reference.
    pub precision: f64,
    /// Of the reference's units, the share found in the prediction.
    pub recall: f64,
    /// Their harmonic mean.
    pub f1: f64,
}

/// The three usual scores.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rouge {
    /// Overlap of words.
    pub rouge_1: Overlap,
    /// Overlap of pairs of neighbouring words.
    pub rouge_2: Overlap,
    /// Longest common subsequence of words.
    pub rouge_l: Overlap,
}

/// Longest text compared, in words: the table of ROUGE-L grows with the product of both lengths.
const MOST_WORDS: usize = 20_000;

/// Compares a prediction with its reference.
pub fn rouge(reference: &str, prediction: &str) -> Rouge {
    let (reference, prediction) = (tokens(reference), tokens(prediction));
    Rouge {
        rouge_1: ngrams(&reference, &prediction, 1),
        rouge_2: ngrams(&reference, &prediction, 2),
        rouge_l: overlap(common_subsequence(&reference, &prediction), reference.len(), prediction.len()),
    }
}

/// Lower-cased runs of ASCII letters and digits, those longer than three stemmed.
fn tokens(text: &str) -> Vec<String> {
    let text = text.to_lowercase();
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit()))
        .filter(|word| !word.is_empty())
        .take(MOST_WORDS)
        .map(|word| if word.len() > 3 { stem(word) } else { word.to_owned() })
        .filter(|word| !word.is_empty())
        .collect()
}

fn overlap(common: usize, reference: usize, prediction: usize) -> Overlap {
    if common == 0 {
        return Overlap::default();
    }
    let (precision, recall) = (common as f64 / prediction as f64, common as f64 / reference as f64);
    Overlap { precision, recall, f1: 2.0 * precision * recall / (precision + recall) }
}

fn ngrams(reference: &[String], prediction: &[String], n: usize) -> Overlap {
    let mut left: HashMap<&[String], usize> = HashMap::new();
    for gram in reference.windows(n) {
        *left.entry(gram).or_default() += 1;
    }
    let mut common = 0;
    for gram in prediction.windows(n) {
        if let Some(count) = left.get_mut(gram).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    overlap(common, reference.windows(n).len(), prediction.windows(n).len())
}

/// Length of the longest common subsequence, by one row of the table at a time.
fn common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { above.max(row[j]) };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computed_by_hand() {
        // Common words the, cat, sat: 3 of 3 predicted and of 6 referred to. Pairs: the cat, cat sat.
        let scores = rouge("The cat sat on the mat.", "the cat sat");
        assert_eq!(scores.rouge_l, Overlap { precision: 1.0, recall: 0.5, f1: 2.0 / 3.0 });
        assert_eq!(scores.rouge_1, scores.rouge_l);
        assert_eq!((scores.rouge_2.precision, scores.rouge_2.recall), (1.0, 0.4));
        // Order matters to L alone.
        let swapped = rouge("a b", "b a");
        assert_eq!((swapped.rouge_1.f1, swapped.rouge_l.f1, swapped.rouge_2.f1), (1.0, 0.5, 0.0));
        assert_eq!(rouge("", "x"), Rouge::default());
        assert_eq!(rouge("x", ""), Rouge::default());
        assert_eq!(rouge("painting houses", "painted house").rouge_1.f1, 1.0);
    }
}
