//! Words and sentences of a response, as Rep-n, Self-BLEU and the search for loops see them.
//!
//! The paper (arXiv 2602.01997) says "lower-cased word tokens" and no more; the usual tokenisers of
//! NLTK need downloaded models and differ between versions. So the rules are ours, small enough to
//! state in full (`fixtures/diagnostics/make.py` has them in Python):
//!
//! - **words**: runs of letters, digits and `_`, or one other visible character, each in lower case:
//!   the regular expression `\w+|[^\w\s]`;
//! - **sentences**: end at a line break; after `.`, `!`, `?`, `…` (several together, and closing
//!   quotes or brackets after them) before white space or the end; after `。`, `！`, `？` wherever
//!   they stand. Pieces without a letter or digit are no sentences.
//!
//! Not covered: abbreviations (`Dr. Lee` is two sentences), languages that put no spaces between
//! words (a run of Chinese characters is one word).

use std::collections::HashMap;
use std::ops::Range;

/// A response in words, each numbered by what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// The number of each word; equal words have equal numbers, below [`Tokens::kinds`].
    pub ids: Vec<u32>,
    /// Where each word stands in the text, in bytes.
    pub spans: Vec<Range<usize>>,
    /// How many different words there are.
    pub kinds: usize,
    /// The words of each sentence.
    pub sentences: Vec<Range<usize>>,
}

/// Longest response that is read, in bytes; what follows is left out. The longest context of a model
/// is some hundred thousand tokens.
const MOST_BYTES: usize = 8 << 20;

/// Divides a response into words and sentences.
pub fn tokens(text: &str) -> Tokens {
    let text = &text[..text.floor_char_boundary(MOST_BYTES)];
    let mut result = Tokens::default();
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
            let lower =
                if word.bytes().all(|b| b.is_ascii()) { word.to_ascii_lowercase() } else { word.to_lowercase() };
            result.ids.push(*numbers.entry(lower).or_insert(next));
            result.spans.push(begin + span.start..begin + span.end);
        }
        if visible {
            result.sentences.push(first..result.ids.len());
        }
        begin = end;
    }
    result.kinds = numbers.len();
    result
}

/// The words of a text, in lower case.
pub fn lower_words(text: &str) -> Vec<String> {
    words(text).map(|span| text[span].to_lowercase()).collect()
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

    fn sentences(text: &str) -> Vec<String> {
        let tokens = tokens(text);
        tokens.sentences.iter().map(|s| text[tokens.spans[s.start].start..tokens.spans[s.end - 1].end].into()).collect()
    }

    #[test]
    fn words_are_runs_or_single_marks_in_lower_case() {
        assert_eq!(lower_words("It's 3.50 — Größe_1!"), ["it", "'", "s", "3", ".", "50", "—", "größe_1", "!"]);
        let numbered = tokens("The the THE a");
        assert_eq!((numbered.ids, numbered.kinds), (vec![0, 0, 0, 1], 2));
        assert_eq!(tokens(" \n "), Tokens::default());
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
