//! Splits a response into words and sentences for Rep-n, Self-BLEU and loops.
//!
//! The paper (arXiv 2602.01997) says "lower-cased word tokens" and no more; the usual tokenisers of NLTK need
//! downloaded models and differ between versions. So the rules are Lopper's own, short enough to state in full
//! (`fixtures/diagnostics/make.py` has them in Python):
//!
//! - **words**: runs of letters, digits and `_`, or one other visible character, each in lower case: the regular
//!   expression `\w+|[^\w\s]`;
//! - **sentences**: end at a line break; after `.`, `!`, `?`, `…` (several together, and closing quotes or brackets
//!   after them) before white space or the end; after `。`, `！`, `？` wherever they occur. Pieces without a letter or
//!   digit are not sentences.
//!
//! Not covered: abbreviations (`Dr. Lee` is two sentences), languages that put no spaces between words (a run of
//! Chinese characters is one word).

use std::collections::HashMap;
use std::ops::Range;

/// The words and sentences of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// The id of each word; equal words have equal ids, below `distinct`.
    pub ids: Vec<u32>,
    /// The byte range of each word in the text.
    pub spans: Vec<Range<usize>>,
    /// Number of different words.
    pub distinct: usize,
    /// The range of words of each sentence.
    pub sentences: Vec<Range<usize>>,
}

/// Longest response that is read, in bytes; the rest is ignored. The longest context of a model is some hundred
/// thousand tokens.
const MAX_BYTES: usize = 8 << 20;

/// Splits a response into words and sentences.
pub fn split(text: &str) -> Words {
    let text = &text[..text.floor_char_boundary(MAX_BYTES)];
    let mut result = Words::default();
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let mut begin = 0;
    while begin < text.len() {
        let end = begin + sentence_length(&text[begin..]);
        let first = result.ids.len();
        let mut visible = false;
        for span in words(&text[begin..end]) {
            let word = &text[begin + span.start..begin + span.end];
            visible |= word.chars().next().is_some_and(is_word);
            let next = numbers.len() as u32;
            let lower = if word.is_ascii() { word.to_ascii_lowercase() } else { word.to_lowercase() };
            result.ids.push(*numbers.entry(lower).or_insert(next));
            result.spans.push(begin + span.start..begin + span.end);
        }
        if visible {
            result.sentences.push(first..result.ids.len());
        }
        begin = end;
    }
    result.distinct = numbers.len();
    result
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let skipped = text[at..].find(|c: char| !c.is_whitespace())?;
        let start = at + skipped;
        let rest = &text[start..];
        let first = rest.chars().next()?;
        let length = if is_word(first) { rest.find(|c| !is_word(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        at = start + length;
        Some(start..at)
    })
}

/// Bytes of the first sentence, its end included.
fn sentence_length(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\n' => return at + 1,
            '.' | '!' | '?' | '…' | '。' | '！' | '？' => {
                let wide = |c: char| matches!(c, '。' | '！' | '？');
                let mut closes = wide(c);
                let mut end = at + c.len_utf8();
                while let Some((at, c)) = chars.next_if(|(_, c)| matches!(c, '.' | '!' | '?' | '…') || wide(*c)) {
                    closes |= wide(c);
                    end = at + c.len_utf8();
                }
                while let Some((at, c)) = chars.next_if(|(_, c)| "\"')]”’»」』）".contains(*c)) {
                    end = at + c.len_utf8();
                }
                if closes || chars.peek().is_none_or(|(_, next)| next.is_whitespace()) {
                    return end;
                }
            }
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::degeneration::tests::lower_case;

    fn sentences(text: &str) -> Vec<String> {
        let words = split(text);
        words.sentences.iter().map(|s| text[words.spans[s.start].start..words.spans[s.end - 1].end].into()).collect()
    }

    #[test]
    fn words_are_runs_or_single_marks_in_lower_case() {
        assert_eq!(lower_case("It's 3.50 — Größe_1!"), ["it", "'", "s", "3", ".", "50", "—", "größe_1", "!"]);
        let numbered = split("The the THE a");
        assert_eq!((numbered.ids, numbered.distinct), (vec![0, 0, 0, 1], 2));
        assert_eq!(split(" \n "), Words::default());
    }

    #[test]
    fn sentences_end_where_the_rules_say() {
        assert_eq!(
            sentences("He paid 3.50 euros. \"Really?!\" she said... yes\n- a list\n---\n"),
            ["He paid 3.50 euros.", "\"Really?!\"", "she said...", "yes", "- a list"]
        );
        assert_eq!(sentences("好。不好！"), ["好。", "不好！"]);
        assert!(sentences("... !").is_empty());
    }
}
