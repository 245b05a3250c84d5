//! A small language, a strict subset of Python, executed in this process.
//!
//! The embedded model's code is really run, but no Python is needed on the user's machine and
//! nothing outside can be reached: there is no input, no output, no import. What a program may
//! use is bounded by [`Limits`].
//!
//! Covered, with CPython 3.11's meaning (fixture `fixtures/pocket_code`): functions at the top
//! level, assignment and augmented assignment, `if`/`elif`/`else`, `while`, `for` over `range`,
//! `break`, `continue`, `pass`, `return`; integers, `True`, `False`, `None`; `+ - * // % **`,
//! comparisons (also chained), `and`, `or`, `not`, conditional expressions; calls of own
//! functions and of `min`, `max`, `abs`.
//!
//! Not covered: every other value (floats, strings, lists), attributes, nested functions,
//! imports, exceptions, annotations. Python that uses them ends as [`Outcome::Other`]. Integers
//! have 64 bits and overflow ends the program the same way, where CPython would go on.

mod ast;
mod interp;
mod lexer;
mod parser;

/// What a program may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Statements and expressions evaluated, all calls together.
    pub steps: u64,
    /// Calls within calls.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 100_000, depth: 200 }
    }
}

/// Why a program did not pass: the classes of arXiv 2602.01997, each with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It ran but gave something else than was expected.
    Assertion(String),
    /// Syntax: a bracket or a literal that is not closed, or closed wrongly.
    BracketOrLiteral(String),
    /// Any other error of syntax.
    OtherSyntax(String),
    /// A name that has no value, the function itself included.
    NameNotDefined(String),
    /// Too many steps or calls within calls.
    Timeout(String),
    /// Anything else: a wrong type, division by zero, Python outside the language.
    Other(String),
}

impl Outcome {
    /// The class by itself, as it is written in records.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Assertion(_) => "assertion",
            Self::BracketOrLiteral(_) => "bracket_or_literal",
            Self::OtherSyntax(_) => "other_syntax",
            Self::NameNotDefined(_) => "name_not_defined",
            Self::Timeout(_) => "timeout",
            Self::Other(_) => "other",
        }
    }

    /// What happened.
    pub fn message(&self) -> &str {
        match self {
            Self::Assertion(m)
            | Self::BracketOrLiteral(m)
            | Self::OtherSyntax(m)
            | Self::NameNotDefined(m)
            | Self::Timeout(m)
            | Self::Other(m) => m,
        }
    }
}

/// Runs a source text and then calls one of its functions. A result that is not an integer (or a
/// truth value, which Python counts as one) is [`Outcome::Assertion`].
pub fn run(source: &str, function: &str, args: &[i64], limits: Limits) -> Result<i64, Outcome> {
    let program = parser::parse(source)?;
    interp::call(&program, function, args, limits)
}

/// Whether a function gives the expected result for every list of arguments; otherwise the first
/// outcome that is not right.
pub fn passes(source: &str, function: &str, cases: &[(Vec<i64>, i64)], limits: Limits) -> Result<(), Outcome> {
    let program = parser::parse(source)?;
    for (args, expected) in cases {
        let got = interp::call(&program, function, args, limits)?;
        if got != *expected {
            return Err(Outcome::Assertion(format!("{function}{args:?} gave {got}, expected {expected}")));
        }
    }
    Ok(())
}
