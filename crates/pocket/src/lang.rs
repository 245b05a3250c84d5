//! An interpreter for a strict subset of Python, in this process.
//!
//! It executes the code that the pocket model writes, without a Python on the user's machine. Programs have no input,
//! no output and no imports; [`Limits`] bound their run time.
//!
//! Covered, with the semantics of CPython 3.11 (fixture `fixtures/pocket_code`): functions at the top level, assignment
//! and augmented assignment, `if`/`elif`/`else`, `while`, `for` over `range`, `break`, `continue`, `pass`, `return`;
//! integers, `True`, `False`, `None`; `+ - * // % **`, comparisons (also chained), `and`, `or`, `not`, conditional
//! expressions; calls of the program's functions and of `min`, `max`, `abs`.
//!
//! Not covered: other values (floats, strings, lists), attributes, nested functions, imports, exceptions, annotations.
//! Programs that use them end as [`Outcome::Other`]. Integers have 64 bits; an overflow, which CPython does not have,
//! ends a program in the same way.

mod ast;
mod interpreter;
mod lexer;
mod parser;

/// Limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Statements and expressions evaluated, over all calls.
    pub steps: u64,
    /// Nested calls.
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
    /// It returned another value than expected.
    Assertion(String),
    /// Syntax error: a bracket or a literal that is not closed, or a wrong closing bracket.
    BracketOrLiteral(String),
    /// Any other syntax error.
    OtherSyntax(String),
    /// A name without a value, which includes the function itself.
    NameNotDefined(String),
    /// Too many steps or nested calls.
    Timeout(String),
    /// Anything else: a wrong type, division by zero, unsupported Python.
    Other(String),
}

impl Outcome {
    /// The name of the class in records.
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

    /// The message.
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

/// Runs a source text, then calls one of its functions.
///
/// # Errors
/// How it failed; [`Outcome::Assertion`] for a result that is neither an integer nor a Boolean.
pub fn run(source: &str, function: &str, args: &[i64], limits: Limits) -> Result<i64, Outcome> {
    let program = parser::parse(source)?;
    interpreter::call(&program, function, args, limits)
}

/// Checks that a function returns the expected result for every list of arguments.
///
/// # Errors
/// The first failure.
pub fn passes(source: &str, function: &str, cases: &[(Vec<i64>, i64)], limits: Limits) -> Result<(), Outcome> {
    let program = parser::parse(source)?;
    for (args, expected) in cases {
        let got = interpreter::call(&program, function, args, limits)?;
        if got != *expected {
            return Err(Outcome::Assertion(format!("{function}{args:?} returned {got}, expected {expected}")));
        }
    }
    Ok(())
}
