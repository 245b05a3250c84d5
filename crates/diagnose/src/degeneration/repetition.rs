//! Rep-n (Welleck et al., arXiv 1908.04319), the fraction of a response's n-grams that repeat an earlier one, and
//! Self-BLEU-4 within a response (Zhu et al., arXiv 1802.01886, applied to the sentences of one response), how similar
//! its sentences are:
//!
//! - Rep-n = 100 · (1 − unique n-grams / n-grams) over the lower-cased words of the whole response;
//! - Self-BLEU-4 = mean over the sentences of BLEU-4 of each against all the others as references, weights ¼, smoothing
//!   method 1 (Chen and Cherry 2014: a precision of 0 becomes 0.1 / n-grams), brevity penalty by the reference nearest
//!   in length.
//!
//! BLEU is NLTK 3.10's `sentence_bleu(…, smoothing_function=SmoothingFunction().method1)` in every detail (no common
//! word: 0; an order longer than the sentence: 0.1 / 1). Agreement to 1e-9 is tested on
//! `fixtures/diagnostics/texts.json`. NLTK takes time quadratic in the sentences; here it is linear: the two largest
//! counts of each n-gram over the sentences give the largest over all *other* sentences.

use super::ngrams::NGrams;
use super::words::Words;

/// The numerator that smoothing method 1 puts in place of 0.
const EPSILON: f64 = 0.1;

/// Rep-n in per cent; none of a response shorter than n words.
pub fn rep_n(grams: &NGrams, n: usize) -> Option<f64> {
    let total = grams.ids(n).len();
    (total > 0).then(|| 100.0 * (1.0 - grams.distinct(n) as f64 / total as f64))
}

/// Self-BLEU-4 of a response, from 0 to 1; none with fewer than two sentences.
pub fn self_bleu_4(words: &Words, grams: &NGrams) -> Option<f64> {
    let sentences = &words.sentences;
    if sentences.len() < 2 {
        return None;
    }
    // The clipped counts of each sentence for n = 1..=4.
    let mut common = vec![[0_u32; 4]; sentences.len()];
    for n in 1..=4 {
        clip(words, grams, n, &mut common);
    }
    let mut lengths: Vec<usize> = sentences.iter().map(|s| s.len()).collect();
    lengths.sort_unstable();
    let total: f64 = sentences
        .iter()
        .zip(&common)
        .map(|(sentence, common)| bleu(sentence.len(), common, nearest_other(&lengths, sentence.len())))
        .sum();
    Some(total / sentences.len() as f64)
}

/// The two largest counts of an n-gram over the sentences, and which sentence has the largest.
#[derive(Clone, Copy, Default)]
struct Top {
    most: u32,
    sentence: u32,
    second: u32,
}

/// Adds up, for each sentence, its n-grams that occur in another sentence, each at most as often as in any one of them.
fn clip(words: &Words, grams: &NGrams, n: usize, common: &mut [[u32; 4]]) {
    let ids = grams.ids(n);
    let mut top = vec![Top::default(); grams.distinct(n)];
    // The n-grams of every sentence with their counts, sentence by sentence.
    let mut counted: Vec<(u32, u32)> = Vec::with_capacity(ids.len());
    let mut ends = Vec::with_capacity(words.sentences.len());
    let mut count = vec![0_u32; grams.distinct(n)];
    for (index, sentence) in words.sentences.iter().enumerate() {
        // A sentence of fewer than n words has none, and may lie behind the start of the last n-gram.
        let within = ids.get(sentence.start..(sentence.end + 1).saturating_sub(n)).unwrap_or_default();
        for &gram in within {
            count[gram as usize] += 1;
        }
        for &gram in within {
            let times = std::mem::take(&mut count[gram as usize]);
            if times == 0 {
                continue;
            }
            counted.push((gram, times));
            let top = &mut top[gram as usize];
            if times > top.most {
                *top = Top { most: times, sentence: index as u32, second: top.most };
            } else {
                top.second = top.second.max(times);
            }
        }
        ends.push(counted.len());
    }
    let mut begin = 0;
    for (index, end) in ends.into_iter().enumerate() {
        common[index][n - 1] = counted[begin..end]
            .iter()
            .map(|&(gram, times)| {
                let top = top[gram as usize];
                times.min(if top.sentence == index as u32 { top.second } else { top.most })
            })
            .sum();
        begin = end;
    }
}

/// BLEU-4 of a sentence of `length` words from its clipped counts.
fn bleu(length: usize, common: &[u32; 4], reference: usize) -> f64 {
    if common[0] == 0 {
        return 0.0;
    }
    let logs: f64 = common
        .iter()
        .enumerate()
        .map(|(at, &common)| {
            let grams = length.saturating_sub(at).max(1) as f64;
            let precision = if common == 0 { EPSILON / grams } else { f64::from(common) / grams };
            0.25 * precision.ln()
        })
        .sum();
    let brevity = if length > reference { 1.0 } else { (1.0 - reference as f64 / length as f64).exp() };
    brevity * logs.exp()
}

/// The length nearest to `own` among all but one of that length; of two equally near the shorter.
fn nearest_other(sorted: &[usize], own: usize) -> usize {
    let at = sorted.partition_point(|length| *length < own);
    let after = sorted.get(at + 1).copied();
    let before = at.checked_sub(1).map(|at| sorted[at]);
    match (before, after) {
        (Some(before), Some(after)) => {
            if after - own < own - before {
                after
            } else {
                before
            }
        }
        (before, after) => before.or(after).unwrap_or(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text_metrics;

    fn measure(text: &str) -> ([Option<f64>; 3], Option<f64>) {
        let metrics = text_metrics(text);
        ([metrics.rep_2, metrics.rep_3, metrics.rep_4], metrics.self_bleu_4)
    }

    #[test]
    fn computed_by_hand() {
        // a b a b a: bigrams ab ba ab ba, two of four unique; trigrams aba bab aba; 4-grams abab baba.
        let ([two, three, four], bleu) = measure("a b a b a");
        assert_eq!((two, four, bleu), (Some(50.0), Some(0.0), None));
        assert!((three.unwrap() - 100.0 / 3.0).abs() < 1e-12);
        // Two equal sentences of five words: every precision is 1.
        assert!((measure("One two three four. One two three four.").1.unwrap() - 1.0).abs() < 1e-12);
        // Nothing in common.
        assert_eq!(measure("one\ntwo").1, Some(0.0));
        assert_eq!(measure("").0, [None; 3]);
    }

    #[test]
    fn the_nearest_length_leaves_the_sentence_itself_out() {
        assert_eq!(nearest_other(&[3, 5, 8], 5), 3);
        assert_eq!(nearest_other(&[3, 5, 6], 5), 6);
        assert_eq!(nearest_other(&[3, 5, 7], 5), 3);
        assert_eq!(nearest_other(&[5, 5, 6], 5), 5);
        assert_eq!(nearest_other(&[2, 9], 9), 2);
    }
}
