//! Checking a worked solution step by step: every equation of a response that states a computation and
//! its result is computed again, and the first that is false is where the chain slipped.
//!
//! What is read: `48 / 2 = 24`, `$5 x 3 boxes = $15`, `20% of 50 = 10`, `3(4 + 1) = 15`, `\frac{3}{4} \times 8 = 6`,
//! chains `2 + 3 = 5 * 2 = 10` (each sign by itself), and GSM8K's annotations `<<48/2=24>>` (Cobbe et al., arXiv
//! 2110.14168), which are checked as equations of their own. Units beside numbers are passed over.
//!
//! The checker prefers silence to a false alarm: an equation that cannot be read whole is not checked. That
//! leaves out equations with letters for unknowns, powers, roots, mixed numbers (`2 1/2`), and everything said
//! in words. A result may be rounded or cut to the decimals it is written with. `design/diagnostics.md` has
//! precision and recall on 200 solutions of GSM8K, right and corrupted.
//!
//! Not covered: whether a step is the right one to take, and whether its numbers are those of the question.

mod expression;
mod lexer;

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{Signed, ToPrimitive, Zero};
use serde::{Deserialize, Serialize};

use expression::{Parsed, parse_prefix, parse_suffix};
use lexer::{Token, TokenKind, lex};

/// Exact arithmetic: a rounding error of ours would be a slip of the model's.
type BigRational = Ratio<BigInt>;

/// Longest text that is looked through, in bytes.
const MOST_BYTES: usize = 256 << 10;

/// An equation and whether it is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The equation as it is written (LaTeX commands spelt out).
    pub equation: String,
    /// Whether it holds.
    pub holds: bool,
    /// What its left side comes to.
    pub value: String,
}

/// All equations of a text that can be checked, in order.
pub fn steps(text: &str) -> Vec<Step> {
    let text = lexer::plain(&text[..text.floor_char_boundary(MOST_BYTES)]);
    let (visible, annotations) = lexer::without_annotations(&text);
    let mut found: Vec<(usize, Step)> = equations(&visible);
    for (at, inner) in annotations {
        // The annotation stands right behind the sign of the equation that it repeats.
        found.extend(equations(inner).into_iter().map(|(_, step)| (at, step)));
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, step)| step).collect()
}

/// The first equation that is false.
pub fn first_slip(text: &str) -> Option<Step> {
    steps(text).into_iter().find(|step| !step.holds)
}

fn equations(text: &str) -> Vec<(usize, Step)> {
    let tokens = lex(text);
    let signs = tokens.iter().enumerate().filter(|(_, token)| token.kind == TokenKind::Equals);
    signs.filter_map(|(at, sign)| Some((sign.start, check(text, &tokens, at)?))).collect()
}

/// Checks the equation around the sign at `at`, if it can be read.
fn check(text: &str, tokens: &[Token], at: usize) -> Option<Step> {
    let left = parse_suffix(&tokens[..at])?;
    let right = parse_prefix(&tokens[at + 1..])?;
    if left.operators == 0 {
        return None;
    }
    // `2 + 3 = 5 * 2 = 10`: people go on computing behind a result; then only the result counts.
    let goes_on = matches!(tokens.get(at + 1 + right.tokens).map(|token| &token.kind), Some(TokenKind::Equals));
    if goes_on && right.operators > 0 && left.value(true) == right.first_value() {
        let equation = text[left.start..right.first_end].trim().to_owned();
        return Some(Step { equation, holds: true, value: written(&left.value(true)?) });
    }
    // `25%` is a quarter beside shares, and 25 where the left side has counted in per cent.
    let equal = [(true, true), (false, false), (true, false)]
        .into_iter()
        .any(|(a, b)| left.value(a).zip(right.value(b)).is_some_and(|(left, given)| same(&left, &given, &right)));
    let value = left.value(true)?;
    right.value(true)?;
    Some(Step { equation: text[left.start..right.end].trim().to_owned(), holds: equal, value: written(&value) })
}

/// Whether the given result is the computed one, as exactly as it is written.
fn same(computed: &BigRational, given: &BigRational, right: &Parsed) -> bool {
    if computed == given {
        return true;
    }
    let Some(decimals) = right.single_decimals else { return false };
    let unit = BigRational::new(1.into(), BigInt::from(10).pow(decimals));
    let (error, half) = ((computed - given).abs(), &unit / BigInt::from(2));
    // What can be written exactly with these decimals has to be. Otherwise it may be rounded or cut off, and a
    // whole number of things may be rounded up.
    let fits = (computed / &unit).is_integer();
    !fits && error < unit && (decimals == 0 || error <= half || given.abs() < computed.abs())
}

/// A number for a reader: exact if it has few decimals.
fn written(value: &BigRational) -> String {
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

/// Whether a divisor is nothing; kept here so that the parts need not name the trait.
fn is_nothing(value: &BigRational) -> bool {
    value.is_zero()
}

#[cfg(test)]
mod tests;
