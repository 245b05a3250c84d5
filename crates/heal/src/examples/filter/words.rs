//! Texts as words that compare whatever their case, punctuation and line breaks, in any script.
//!
//! - **Words** are runs of letters, digits and `_` in lower case, as in GPT-3's filter: punctuation marks separate them
//!   and are no words, apostrophes are dropped (`don't` is `dont`), and a point or comma between two digits belongs to
//!   the number. In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan)
//!   every character is a word.
//! - **Symbols** are operators and brackets: what tells `3 + 4` from `3 - 4`. Long texts are compared by their words
//!   alone, short ones with their symbols.

use std::hash::{DefaultHasher, Hash, Hasher};

/// The words of a text as hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Words {
    /// Words alone.
    pub words: Vec<u64>,
    /// Words and symbols, in their order.
    pub with_symbols: Vec<u64>,
    /// The numbers among them, as one hash.
    pub numbers: u64,
}

impl Words {
    /// The words of `text`.
    pub fn of(text: &str) -> Self {
        let (mut found, mut numbers) = (Self::default(), DefaultHasher::new());
        let mut word = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            let is_number = word.ends_with(|last: char| last.is_numeric());
            if is_spaceless(c) {
                found.finish(&mut word, &mut numbers);
                word.push(c);
                found.finish(&mut word, &mut numbers);
            } else if c.is_alphanumeric() || c == '_' {
                word.extend(c.to_lowercase());
            } else if matches!(c, '.' | ',') && is_number && chars.peek().is_some_and(|next| next.is_numeric()) {
                word.push(c);
            } else if !is_silent(c) {
                found.finish(&mut word, &mut numbers);
                if let Some(symbol) = symbol(c) {
                    found.with_symbols.push(hash(&symbol));
                }
            }
        }
        found.finish(&mut word, &mut numbers);
        found.numbers = numbers.finish();
        found
    }

    fn finish(&mut self, word: &mut String, numbers: &mut DefaultHasher) {
        if word.is_empty() {
            return;
        }
        if word.contains(char::is_numeric) {
            word.hash(numbers);
        }
        let hashed = hash(word);
        self.words.push(hashed);
        self.with_symbols.push(hashed);
        word.clear();
    }
}

/// The hash of anything; the same in every run.
pub fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Characters of scripts without spaces between words.
fn is_spaceless(c: char) -> bool {
    let blocks = [
        '\u{0e00}'..='\u{0fff}',   // Thai, Lao, Tibetan
        '\u{1000}'..='\u{109f}',   // Burmese
        '\u{1780}'..='\u{17ff}',   // Khmer
        '\u{3040}'..='\u{30ff}',   // kana
        '\u{31f0}'..='\u{31ff}',   // more kana
        '\u{3400}'..='\u{4dbf}',   // Han
        '\u{4e00}'..='\u{9fff}',   // Han
        '\u{f900}'..='\u{faff}',   // Han
        '\u{20000}'..='\u{3ffff}', // Han
    ];
    c.is_alphabetic() && blocks.iter().any(|block| block.contains(&c))
}

/// Characters that do not end a word: apostrophes, accents and vowel signs of their own, soft hyphens and joiners.
fn is_silent(c: char) -> bool {
    let blocks = ['\u{0300}'..='\u{036f}', '\u{0591}'..='\u{05c7}', '\u{0610}'..='\u{065f}', '\u{0900}'..='\u{10ff}'];
    matches!(c, '\'' | '’' | '\u{ad}' | '\u{200b}'..='\u{200d}') || blocks.iter().any(|block| block.contains(&c))
}

/// What an operator or a bracket counts as; none of any other character.
fn symbol(c: char) -> Option<char> {
    match c {
        '−' | '–' => Some('-'),
        '+' | '-' | '*' | '/' | '=' | '<' | '>' | '^' | '%' | '|' | '&' | '~' | '$' | '@' | '\\' => Some(c),
        '(' | ')' | '[' | ']' | '{' | '}' => Some(c),
        '¬' | '±' | '×' | '÷' | '\u{2190}'..='\u{22ff}' | '€' | '£' => Some(c),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_line_breaks_do_not_matter() {
        let words = Words::of("It's “fine”, isn't it?\nYes: 1,204.5!");
        assert_eq!(words, Words::of("its FINE isnt it — yes 1,204.5"));
        assert_eq!(words.words.len(), 6);
        assert_eq!(Words::of(" ... \n"), Words { numbers: Words::of("").numbers, ..Words::default() });
        assert_ne!(Words::of("pi is 3.14").words, Words::of("pi is 314").words);
    }

    #[test]
    fn operators_tell_short_texts_apart_and_are_no_words() {
        let (plus, minus) = (Words::of("3 + 4"), Words::of("3 - 4"));
        assert_eq!((plus.words.len(), plus.with_symbols.len()), (2, 3));
        assert!(plus.words == minus.words && plus.with_symbols != minus.with_symbols);
        assert_eq!(minus, Words::of("3 − 4"), "the typographic minus sign");
        assert_ne!(Words::of("(a+b)*c").with_symbols, Words::of("a+(b*c)").with_symbols);
        assert_eq!(Words::of("def f(x_1):").words.len(), 3);
    }

    #[test]
    fn scripts_without_spaces_have_a_word_for_each_character() {
        assert_eq!(Words::of("法国的首都是哪里？").words.len(), 8);
        assert_eq!(Words::of("東京はどこ？ GPT-3").words.len(), 7);
        assert_eq!(Words::of("भारत की राजधानी").words.len(), 3, "Hindi has spaces");
        assert_eq!(Words::of("столица Франции").words.len(), 2);
    }

    #[test]
    fn numbers_have_a_hash_of_their_own() {
        assert_eq!(Words::of("5 apples and 7 pears").numbers, Words::of("5 < 7").numbers);
        assert_ne!(Words::of("5 apples and 7 pears").numbers, Words::of("7 > 5").numbers);
        assert_ne!(Words::of("5 apples").numbers, Words::of("6 apples").numbers);
        assert_eq!(Words::of("no number").numbers, Words::of("none").numbers);
    }
}
