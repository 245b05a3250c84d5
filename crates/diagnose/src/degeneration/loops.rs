//! Loops: responses that repeat the same words over and over, the repeated unit and where it begins.
//!
//! A loop is a stretch in which every word equals the word one period earlier, over at least three periods and 16 words
//! (64 where the unit has no letter or digit: rules and table borders are not loops). The longest such stretch is
//! reported, with its shortest period. A loop that the model leaves again counts as well; sampling often ends one by
//! chance.
//!
//! Not covered: loops with variation (counting up), periods above 256 words.

use serde::{Deserialize, Serialize};

use super::ngrams::NGrams;
use super::words::Words;

/// Longest period that is found, in words.
const MAX_PERIOD: usize = 256;
/// Fewest words of a loop.
const MIN_WORDS: usize = 16;
/// Fewest words where the unit consists of punctuation marks only.
const MIN_MARKS: usize = 64;
/// Every loop has at least this many repeated 4-grams: of its 13 and more at most a third of its words is new.
const MIN_REPEATED: usize = 8;

/// A loop within a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// The words that are repeated, as they are written the first time.
    pub unit: String,
    /// Number of words before the loop.
    pub begins_at_word: usize,
    /// Number of characters before the loop.
    pub begins_at_char: usize,
    /// How many times the unit occurs, the first one included and an incomplete last one not.
    pub times: usize,
}

/// The longest loop of a response.
pub fn find_loop(text: &str, words: &Words, grams: &NGrams) -> Option<Loop> {
    if grams.repeated(4) < MIN_REPEATED {
        return None;
    }
    let ids = &words.ids;
    let mut best: Option<(usize, usize, usize)> = None;
    for period in 1..=MAX_PERIOD.min(ids.len() / 3) {
        let mut run = 0;
        for at in period..=ids.len() {
            if at < ids.len() && ids[at] == ids[at - period] {
                run += 1;
                continue;
            }
            let length = run + period;
            let enough = run > 0 && length >= MIN_WORDS && length >= 3 * period;
            if enough && best.is_none_or(|(_, _, longest)| length > longest) {
                let start = at - length;
                if length >= MIN_MARKS || has_text(text, words, start, period) {
                    best = Some((start, period, length));
                }
            }
            run = 0;
        }
    }
    let (start, period, length) = best?;
    let from = words.spans[start].start;
    Some(Loop {
        unit: text[from..words.spans[start + period - 1].end].to_owned(),
        begins_at_word: start,
        begins_at_char: text[..from].chars().count(),
        times: length / period,
    })
}

/// Whether a unit holds a letter or digit.
fn has_text(text: &str, words: &Words, start: usize, period: usize) -> bool {
    words.spans[start..start + period].iter().any(|span| text[span.clone()].contains(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::degeneration::words::split;

    fn found(text: &str) -> Option<Loop> {
        let words = split(text);
        find_loop(text, &words, &NGrams::new(&words))
    }

    #[test]
    fn the_unit_and_where_it_begins() {
        let text = format!("So é: {}", "the cat sat. ".repeat(9));
        let looped = found(&text).unwrap();
        assert_eq!((looped.unit.as_str(), looped.begins_at_word, looped.times), ("the cat sat.", 3, 9));
        assert_eq!(looped.begins_at_char, 6);
        assert_eq!(found(&"no ".repeat(20)).unwrap().unit, "no");
        // Left again, and the last unit unfinished.
        let text = format!("{} a b c and then it ends.", "a b c d ".repeat(5));
        assert_eq!(found(&text).unwrap().times, 5);
    }

    #[test]
    fn ordinary_repetition_is_no_loop() {
        assert_eq!(found("He said no, no, no. Then 2 + 2 = 4. 4 + 4 = 8. 8 + 8 = 16."), None);
        assert_eq!(found(&"| --- ".repeat(8)), None);
        assert!(found(&"| --- ".repeat(40)).is_some());
        assert_eq!(found("the cat sat. the cat sat. the cat sat."), None);
        assert_eq!(found(""), None);
    }
}
