//! Parses the tokens of an answer.
//!
//! Recursive descent in two layers: [`form`](self::form) finds lists, sets, intervals, matrices and relations,
//! [`expression`](self::expression) reads formulas. Depth is bounded, so that no text exhausts the stack, and brackets
//! are paired once, so that the time is bounded by length times depth.

mod atom;
mod expression;
mod form;
mod scalar;

use crate::form::Form;
use crate::token::{Kind, SET_CLOSE, SET_OPEN, Token};

/// Deepest nesting of brackets, exponents and signs.
const MAX_DEPTH: usize = 40;

/// The answer that `tokens` form.
///
/// # Errors
/// The reason why they cannot be parsed.
pub(crate) fn parse(tokens: &[Token]) -> Result<Form, String> {
    let partner = pair(tokens)?;
    let mut parser = Parser { tokens, partner, at: 0, end: tokens.len(), depth: 0, upper: true, bars: 0, plain: false };
    parser.list(0, tokens.len())
}

struct Parser<'a> {
    tokens: &'a [Token],
    /// For each opening bracket the index of its closing one.
    partner: Vec<usize>,
    at: usize,
    /// The end of the current formula, exclusive.
    end: usize,
    depth: usize,
    /// Whether `±` is read as plus.
    upper: bool,
    /// Number of open bars of absolute values.
    bars: usize,
    /// Whether a degree sign is a unit rather than a factor of π/180.
    plain: bool,
}

/// For each opening bracket the index of its closing one. `(` may close with `]`, as in intervals.
fn pair(tokens: &[Token]) -> Result<Vec<usize>, String> {
    let mut partner = vec![usize::MAX; tokens.len()];
    let mut open: Vec<(usize, u8)> = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let (kind, opens) = match token.kind {
            Kind::Symbol('(' | '[') => (0, true),
            Kind::Symbol(')' | ']') => (0, false),
            Kind::Symbol('{') => (1, true),
            Kind::Symbol('}') => (1, false),
            Kind::Symbol(SET_OPEN) => (2, true),
            Kind::Symbol(SET_CLOSE) => (2, false),
            Kind::Symbol('⟨') => (3, true),
            Kind::Symbol('⟩') => (3, false),
            Kind::Symbol('⌊') => (4, true),
            Kind::Symbol('⌋') => (4, false),
            Kind::Symbol('⌈') => (5, true),
            Kind::Symbol('⌉') => (5, false),
            Kind::Begin { .. } => (6, true),
            Kind::End => (6, false),
            _ => continue,
        };
        if opens {
            open.push((i, kind));
        } else {
            match open.pop() {
                Some((start, opened)) if opened == kind => partner[start] = i,
                _ => return Err("brackets do not pair".to_owned()),
            }
        }
    }
    if open.is_empty() { Ok(partner) } else { Err("a bracket is not closed".to_owned()) }
}

impl Parser<'_> {
    fn kind(&self, at: usize) -> Option<&Kind> {
        self.tokens.get(at).map(|token| &token.kind)
    }

    /// The next token of the current formula.
    fn peek(&self) -> Option<&Kind> {
        if self.at < self.end { self.kind(self.at) } else { None }
    }

    fn is_symbol(&self, c: char) -> bool {
        self.peek() == Some(&Kind::Symbol(c))
    }

    fn is_command(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Kind::Command(known)) if *known == name)
    }

    fn eat(&mut self, c: char) -> bool {
        let found = self.is_symbol(c);
        self.at += usize::from(found);
        found
    }

    /// Runs `read` one level deeper.
    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        if self.depth == MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    /// The tokens of `from..to` outside all brackets for which `wanted` holds, by index.
    fn top_level(&self, from: usize, to: usize, wanted: impl Fn(&Kind) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        let mut at = from;
        while at < to {
            if wanted(&self.tokens[at].kind) {
                found.push(at);
            }
            // The content of a bracket is skipped; its end is within `from..to` since brackets pair.
            at = if self.partner[at] == usize::MAX { at + 1 } else { self.partner[at] + 1 };
        }
        found
    }
    /// The ranges of `from..to` between `separators`, empty ones included.
    fn between(from: usize, to: usize, separators: &[usize]) -> impl Iterator<Item = (usize, usize)> {
        let starts = std::iter::once(from).chain(separators.iter().map(|at| at + 1));
        starts.zip(separators.iter().copied().chain([to]))
    }
}
