//! Checks the equations of a worked solution: every equation that states a computation and its result is computed
//! again, and the first false one is where the chain of thought went wrong.
//!
//! Read are `48 / 2 = 24`, `$5 x 3 boxes = $15`, `20% of 50 = 10`, `3(4 + 1) = 15`, `\frac{3}{4} \times 8 = 6`, chains
//! `2 + 3 = 5 * 2 = 10` (each equals sign by itself), and GSM8K's annotations `<<48/2=24>>` (Cobbe et al., arXiv
//! 2110.14168), which are checked as equations of their own. Units after numbers are skipped.
//!
//! The checker prefers a miss to a false alarm: an equation that cannot be read completely is not checked. That leaves
//! out equations with unknowns, powers, roots, mixed numbers (`2 1/2`), and everything written in words. A result may
//! be rounded or truncated to the decimals it is written with. `design/diagnostics.md` has precision and recall on 200
//! solutions of GSM8K, right and corrupted.
//!
//! Not covered: whether a step is the right one to take, and whether its numbers are those of the question.

mod expression;
mod lexer;

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{Signed, ToPrimitive};
use serde::{Deserialize, Serialize};

use expression::{Parsed, parse_prefix, parse_suffix};
use lexer::{Token, TokenKind, lex};

/// Exact arithmetic, so that no rounding error here counts as the model's mistake.
type BigRational = Ratio<BigInt>;

/// Longest text that is checked, in bytes; the rest is ignored.
const MAX_BYTES: usize = 256 << 10;

/// An equation of a text, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedEquation {
    /// The equation as it is written, LaTeX commands replaced by plain signs.
    pub equation: String,
    /// Whether it is true.
    pub holds: bool,
    /// The value of its left side.
    pub value: String,
}

/// Checks all equations of a text that can be read, in order.
pub fn check_all(text: &str) -> Vec<CheckedEquation> {
    let text = lexer::without_latex(&text[..text.floor_char_boundary(MAX_BYTES)]);
    let (visible, annotations) = lexer::without_annotations(&text);
    let mut found: Vec<(usize, CheckedEquation)> = equations(&visible);
    for (at, inner) in annotations {
        // The annotation directly follows the equals sign of the equation that it repeats.
        found.extend(equations(inner).into_iter().map(|(_, equation)| (at, equation)));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, equation)| equation).collect()
}

/// The first false equation of a text.
pub fn first_false(text: &str) -> Option<CheckedEquation> {
    check_all(text).into_iter().find(|equation| !equation.holds)
}

/// The checked equations of a text, each with the place of its equals sign in bytes.
fn equations(text: &str) -> Vec<(usize, CheckedEquation)> {
    let tokens = lex(text);
    let signs = tokens.iter().enumerate().filter(|(_, token)| token.kind == TokenKind::Equals);
    signs.filter_map(|(at, sign)| Some((sign.start, check(text, &tokens, at)?))).collect()
}

/// Checks the equation around the equals sign at `at`, if it can be read.
fn check(text: &str, tokens: &[Token], at: usize) -> Option<CheckedEquation> {
    let left = parse_suffix(&tokens[..at])?;
    let right = parse_prefix(&tokens[at + 1..])?;
    if left.operators == 0 {
        return None;
    }
    // `2 + 3 = 5 * 2 = 10`: people go on computing after a result; then only the result counts.
    let continues = matches!(tokens.get(at + 1 + right.tokens).map(|token| &token.kind), Some(TokenKind::Equals));
    if continues && right.operators > 0 && left.value(true) == right.first_value() {
        let equation = text[left.start..right.first_end].trim().to_owned();
        return Some(CheckedEquation { equation, holds: true, value: format_value(&left.value(true)?) });
    }
    // `25%` is a quarter next to fractions, and 25 where the left side is in per cent.
    let equal = [(true, true), (false, false), (true, false)]
        .into_iter()
        .any(|(a, b)| left.value(a).zip(right.value(b)).is_some_and(|(left, given)| same(&left, &given, &right)));
    let value = left.value(true)?;
    right.value(true)?;
    let equation = text[left.start..right.end].trim().to_owned();
    Some(CheckedEquation { equation, holds: equal, value: format_value(&value) })
}

/// Whether the given result equals the computed one, to the precision it is written with.
fn same(computed: &BigRational, given: &BigRational, right: &Parsed) -> bool {
    if computed == given {
        return true;
    }
    let Some(decimals) = right.single_decimals else { return false };
    let unit = BigRational::new(1.into(), BigInt::from(10).pow(decimals));
    let (error, half) = ((computed - given).abs(), &unit / BigInt::from(2));
    // What can be written exactly with these decimals has to be. Otherwise it may be rounded or truncated, and a whole
    // number of things may be rounded up.
    let fits = (computed / &unit).is_integer();
    !fits && error < unit && (decimals == 0 || error <= half || given.abs() < computed.abs())
}

/// A number for a reader: exact if it has few decimals.
fn format_value(value: &BigRational) -> String {
    if value.is_integer() {
        return value.to_integer().to_string();
    }
    let exact = (1..=6_u32).find(|n| (value * BigInt::from(10).pow(*n)).is_integer());
    let number = value.numer().to_f64().zip(value.denom().to_f64()).map(|(a, b)| a / b);
    match (exact, number) {
        (Some(decimals), Some(number)) => format!("{number:.*}", decimals as usize),
        (None, Some(number)) => format!("{number:.4}…"),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests;
