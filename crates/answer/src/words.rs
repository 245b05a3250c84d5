//! Answers in words: `\text{east}`, `East`, `(B)`.

use crate::token::{Kind, Token};

/// The letters and digits of an answer that consists of words and letters only, in lower case, and whether any of it is
/// prose rather than letters that may be variables.
fn text_of(tokens: &[Token]) -> Option<(String, bool)> {
    let mut all = String::new();
    let mut prose = false;
    for token in tokens {
        match &token.kind {
            Kind::Text(text) => {
                prose = true;
                all.push_str(&letters(text));
            }
            Kind::Letter(c) => all.extend(c.to_lowercase()),
            Kind::Symbol('(' | ')' | '.' | '\'') => {}
            _ => return None,
        }
    }
    (!all.is_empty()).then_some((all, prose))
}

/// Only the letters and digits.
pub(crate) fn letters(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).collect()
}

/// Whether two answers are the same words. Two products of variables are not words: `ab` is not `AB`.
pub(crate) fn same(a: &[Token], b: &[Token]) -> bool {
    match (text_of(a), text_of(b)) {
        (Some((a, prose)), Some((b, other))) => a == b && (prose || other),
        _ => false,
    }
}
