//! Loops: a response that says the same words over and over, the repeated unit and where it begins.
//!
//! A loop is a stretch in which every word equals the word one period earlier, over at least three
//! periods and 16 words (64 where the unit has no letter or digit: rules and table borders are no
//! loops). The longest such stretch is reported, with its shortest period. A loop that the model leaves
//! again counts as well; sampling often ends one by chance.
//!
//! Not covered: loops with variation (counting up), periods above 256 words.

use super::grams::Grams;
use super::tokens::Tokens;
use serde::{Deserialize, Serialize};

/// Longest period that is looked for, in words.
const MOST_PERIOD: usize = 256;
/// Fewest words of a loop.
const FEWEST_WORDS: usize = 16;
/// The same where the unit is of marks only.
const FEWEST_MARKS: usize = 64;
/// Repeated 4-grams that a loop has at least: of its 13 and more at most a third of its words is new.
const FEWEST_REPEATED: usize = 8;

/// A loop within a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Loop {
    /// The words that are repeated, as they stand where the loop begins.
    pub unit: String,
    /// Words before the loop.
    pub begins_at_word: usize,
    /// Characters before the loop.
    pub begins_at_char: usize,
    /// How often the unit comes, the first time included; an unfinished last one is not counted.
    pub times: usize,
}

/// The longest loop of a response.
pub fn find_loop(text: &str, tokens: &Tokens, grams: &Grams) -> Option<Loop> {
    if grams.repeated(4) < FEWEST_REPEATED {
        return None;
    }
    let ids = &tokens.ids;
    let mut best: Option<(usize, usize, usize)> = None;
    for period in 1..=MOST_PERIOD.min(ids.len() / 3) {
        let mut run = 0;
        for at in period..=ids.len() {
            if at < ids.len() && ids[at] == ids[at - period] {
                run += 1;
                continue;
            }
            let length = run + period;
            let enough = run > 0 && length >= FEWEST_WORDS && length >= 3 * period;
            if enough && best.is_none_or(|(_, _, longest)| length > longest) {
                let start = at - length;
                if length >= FEWEST_MARKS || says_something(text, tokens, start, period) {
                    best = Some((start, period, length));
                }
            }
            run = 0;
        }
    }
    let (start, period, length) = best?;
    let from = tokens.spans[start].start;
    Some(Loop {
        unit: text[from..tokens.spans[start + period - 1].end].to_owned(),
        begins_at_word: start,
        begins_at_char: text[..from].chars().count(),
        times: length / period,
    })
}

fn says_something(text: &str, tokens: &Tokens, start: usize, period: usize) -> bool {
    tokens.spans[start..start + period].iter().any(|span| text[span.clone()].contains(char::is_alphanumeric))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::tokens;

    fn found(text: &str) -> Option<Loop> {
        let tokens = tokens(text);
        find_loop(text, &tokens, &Grams::new(&tokens))
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
