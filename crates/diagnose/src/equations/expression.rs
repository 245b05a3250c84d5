//! The expressions on both sides of an equals sign, by recursive descent: the longest that ends at the sign and the
//! longest that begins after it, unless what is next to them would belong to them.

use num_bigint::BigInt;
use num_traits::Zero;

use super::BigRational;
use super::lexer::{Token, TokenKind};

/// Most tokens of one side; a longer side is not read.
const MAX_TOKENS: usize = 64;
/// Deepest nesting of brackets.
const MAX_NESTING: usize = 16;
/// Most words that are skipped between a number and the operator after it.
const UNIT_WORDS: usize = 8;
/// Most words that are skipped between an operator and the number after it.
const LEADING_WORDS: usize = 2;
/// Bits of the largest value that is computed with.
const MAX_BITS: u64 = 512;

#[derive(Debug, Clone)]
enum Expr {
    Number { value: BigRational, percent: bool },
    Negative(Box<Expr>),
    Binary(char, Box<Expr>, Box<Expr>),
}

/// An expression and its byte range in the text.
pub(super) struct Parsed {
    root: Expr,
    /// Number of operators between two operands.
    pub operators: usize,
    /// Decimals, where it is a single number.
    pub single_decimals: Option<u32>,
    pub start: usize,
    pub end: usize,
    /// Tokens up to its end, leading units included.
    pub tokens: usize,
    first: Option<BigRational>,
    /// Byte at which its first number ends.
    pub first_end: usize,
}

impl Parsed {
    /// The value of its first number.
    pub fn first_value(&self) -> Option<BigRational> {
        self.first.clone()
    }

    /// Its value; none of a division by zero. `percent_as_fraction`: `25%` is a quarter, otherwise 25.
    pub fn value(&self, percent_as_fraction: bool) -> Option<BigRational> {
        value(&self.root, percent_as_fraction)
    }
}

fn value(expr: &Expr, percent_as_fraction: bool) -> Option<BigRational> {
    let result = match expr {
        Expr::Number { value, percent: true } if percent_as_fraction => value / BigRational::from(BigInt::from(100)),
        Expr::Number { value, .. } => value.clone(),
        Expr::Negative(inner) => -value(inner, percent_as_fraction)?,
        Expr::Binary(operator, left, right) => {
            let (left, right) = (value(left, percent_as_fraction)?, value(right, percent_as_fraction)?);
            match operator {
                '+' => left + right,
                '-' => left - right,
                '*' => left * right,
                _ if right.is_zero() => return None,
                _ => left / right,
            }
        }
    };
    (result.numer().bits() < MAX_BITS && result.denom().bits() < MAX_BITS).then_some(result)
}

/// Whether no expression continues across a token.
fn is_barrier(token: &Token) -> bool {
    matches!(token.kind, TokenKind::Stop | TokenKind::Equals | TokenKind::Unknown)
}

/// The longest expression at the end of `tokens`.
pub(super) fn parse_suffix(tokens: &[Token]) -> Option<Parsed> {
    let earliest = tokens.iter().rposition(is_barrier).map_or(0, |at| at + 1);
    if tokens.len() - earliest > MAX_TOKENS {
        return None;
    }
    for start in earliest..tokens.len() {
        let mut parser = Parser { tokens, at: start, nesting: 0, operators: 0 };
        let Some(root) = parser.sum() else { continue };
        if parser.at != tokens.len() {
            continue;
        }
        // An operand or operator before it belongs to it and could not be read.
        let before = start.checked_sub(1).map(|at| &tokens[at].kind);
        let alone =
            matches!(before, None | Some(TokenKind::Stop | TokenKind::Equals | TokenKind::Word | TokenKind::Open));
        return alone.then(|| finish(tokens, start, parser.at, root, parser.operators)).flatten();
    }
    None
}

/// The longest expression at the beginning of `tokens`.
pub(super) fn parse_prefix(tokens: &[Token]) -> Option<Parsed> {
    let limit = tokens.iter().position(is_barrier).unwrap_or(tokens.len());
    let part = &tokens[..limit.min(MAX_TOKENS)];
    // A unit may precede the number, as in `= EUR 5`.
    let first = part.iter().take(1).take_while(|token| token.kind == TokenKind::Word).count();
    for end in (first + 1..=part.len()).rev() {
        let mut parser = Parser { tokens: &part[..end], at: first, nesting: 0, operators: 0 };
        let Some(root) = parser.sum() else { continue };
        if parser.at != end {
            continue;
        }
        let after = tokens.get(end).map(|token| &token.kind);
        let alone = matches!(
            after,
            None | Some(TokenKind::Stop | TokenKind::Equals | TokenKind::Word | TokenKind::Close | TokenKind::Of)
        ) || (matches!(after, Some(TokenKind::Number { .. })) && part[end - 1].kind == TokenKind::Word);
        return alone.then(|| finish(tokens, first, parser.at, root, parser.operators)).flatten();
    }
    None
}

fn finish(tokens: &[Token], start: usize, end: usize, root: Expr, operators: usize) -> Option<Parsed> {
    let mut numbers = tokens[start..end].iter().filter_map(|token| match token.kind {
        TokenKind::Number { decimals, .. } => Some(decimals),
        _ => None,
    });
    let single_decimals = if operators == 0 { numbers.next_back() } else { None };
    let first = tokens[start..end].iter().find_map(|token| match &token.kind {
        TokenKind::Number { value, percent: false, .. } => Some((value.clone(), token.end)),
        _ => None,
    });
    let first_end = first.as_ref().map_or(0, |(_, end)| *end);
    let (from, to) = (tokens.get(start)?.start, tokens.get(end - 1)?.end);
    let first = first.map(|(value, _)| value);
    Some(Parsed { root, operators, single_decimals, start: from, end: to, tokens: end, first, first_end })
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    nesting: usize,
    operators: usize,
}

impl Parser<'_> {
    fn kind(&self, at: usize) -> Option<&TokenKind> {
        self.tokens.get(at).map(|token| &token.kind)
    }

    fn operator(&self) -> Option<char> {
        match self.kind(self.at) {
            Some(TokenKind::Operator(operator)) => Some(*operator),
            _ => None,
        }
    }

    fn binary(&mut self, operator: char, left: Expr, right: Expr) -> Expr {
        self.operators += 1;
        Expr::Binary(operator, Box::new(left), Box::new(right))
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut left = self.product()?;
        while let Some(operator @ ('+' | '-')) = self.operator() {
            self.at += 1;
            self.skip_words(LEADING_WORDS);
            let right = self.product()?;
            left = self.binary(operator, left, right);
        }
        Some(left)
    }

    fn product(&mut self) -> Option<Expr> {
        let mut left = self.signed()?;
        loop {
            match self.kind(self.at) {
                Some(TokenKind::Operator(operator @ ('*' | '/'))) => {
                    let operator = *operator;
                    self.at += 1;
                    self.skip_words(LEADING_WORDS);
                    let right = self.signed()?;
                    left = self.binary(operator, left, right);
                }
                // `20% of 50`, `3/4 of 20`; a plain number of something is not a product.
                Some(TokenKind::Of) if is_fraction(&left) => {
                    self.at += 1;
                    self.skip_words(LEADING_WORDS);
                    let right = self.signed()?;
                    left = self.binary('*', left, right);
                }
                // `3(4 + 1)`.
                Some(TokenKind::Open) if self.touches() => {
                    let right = self.signed()?;
                    left = self.binary('*', left, right);
                }
                _ => return Some(left),
            }
        }
    }

    /// Whether nothing separates the next token from the one before it.
    fn touches(&self) -> bool {
        self.at > 0 && self.tokens[self.at - 1].end == self.tokens[self.at].start
    }

    fn signed(&mut self) -> Option<Expr> {
        if self.operator() == Some('-') {
            self.at += 1;
            return Some(Expr::Negative(Box::new(self.primary()?)));
        }
        self.primary()
    }

    fn primary(&mut self) -> Option<Expr> {
        match self.kind(self.at)? {
            TokenKind::Number { value, percent, .. } => {
                let number = Expr::Number { value: value.clone(), percent: *percent };
                self.at += 1;
                self.skip_words(UNIT_WORDS);
                Some(number)
            }
            TokenKind::Open if self.nesting < MAX_NESTING => {
                self.at += 1;
                self.nesting += 1;
                let inner = self.sum()?;
                self.nesting -= 1;
                if self.kind(self.at) != Some(&TokenKind::Close) {
                    return None;
                }
                self.at += 1;
                self.skip_words(UNIT_WORDS);
                Some(inner)
            }
            _ => None,
        }
    }

    fn skip_words(&mut self, most: usize) {
        for _ in 0..most {
            if self.kind(self.at) != Some(&TokenKind::Word) {
                return;
            }
            self.at += 1;
        }
    }
}

/// Whether it is a percentage or a fraction, which "of" multiplies.
fn is_fraction(expr: &Expr) -> bool {
    match expr {
        Expr::Number { percent, .. } => *percent,
        Expr::Binary(operator, ..) => *operator == '/',
        Expr::Negative(_) => false,
    }
}
