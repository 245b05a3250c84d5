//! The forms of an answer.

use crate::token::Rational;

/// A formula whose value is one number, for given values of its variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expr {
    Number(Rational),
    /// A variable; subscripts and primes are part of its name.
    Variable(String),
    Pi,
    /// Euler's number.
    E,
    /// The imaginary unit.
    I,
    Infinity,
    /// An angle in degrees inside a formula.
    Degrees(Box<Expr>),
    Negative(Box<Expr>),
    Sum(Vec<Expr>),
    Product(Vec<Expr>),
    Quotient(Box<Expr>, Box<Expr>),
    Power(Box<Expr>, Box<Expr>),
    /// Radicand and index.
    Root(Box<Expr>, Box<Expr>),
    Call(Function, Box<Expr>),
}

/// A function of one argument. The parser writes those that are quotients of others (tangent, secant, …) as quotients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Function {
    Sin,
    Cos,
    Arcsin,
    Arccos,
    Arctan,
    Ln,
    Log10,
    Abs,
    Floor,
    Ceil,
    Factorial,
}

/// A formula with its percent sign, unit or base.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scalar {
    pub expr: Expr,
    /// Places after the decimal point, if it is a single decimal.
    pub places: Option<u32>,
    /// Whether a percent sign follows; `expr` is the number before it.
    pub percent: bool,
    /// The unit after it.
    pub unit: Option<String>,
    /// The base written as a subscript; `expr` is then the digits, read as decimal.
    pub base: Option<u32>,
    /// The formula without its last letter, where that may be a unit (`5 m`).
    pub without_letter: Option<Expr>,
}

/// A relation between two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    NotEqual,
}

impl Relation {
    /// The relation with its sides exchanged.
    pub fn flipped(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
            Self::NotEqual => Self::NotEqual,
        }
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Form {
    Scalar(Scalar),
    /// Answers separated by commas, `and` or `or`; whether any separator was `and`.
    List {
        items: Vec<Form>,
        and: bool,
    },
    /// `\{…\}`.
    Set(Vec<Form>),
    /// Entries in brackets: a point, or an interval if there are two.
    Tuple {
        items: Vec<Form>,
        open: bool,
        close: bool,
    },
    /// `\mathbb{R}`.
    Reals,
    /// `∪` between sets.
    Union(Vec<Form>),
    /// `∖` between two sets.
    Difference(Box<Form>, Box<Form>),
    /// Rows of equal length.
    Matrix(Vec<Vec<Expr>>),
    /// Sides with `=` between them.
    Equation(Vec<Form>),
    /// Sides with relations between them, one fewer.
    Inequality {
        sides: Vec<Expr>,
        relations: Vec<Relation>,
    },
    /// `a:b:…`.
    Ratio(Vec<Expr>),
    /// Prose, in lower case.
    Text(String),
}

impl Expr {
    pub fn integer(value: i64) -> Self {
        Self::Number(Rational::from_integer(value.into()))
    }

    pub fn call(function: Function, argument: Self) -> Self {
        Self::Call(function, Box::new(argument))
    }

    pub fn over(self, denominator: Self) -> Self {
        Self::Quotient(Box::new(self), Box::new(denominator))
    }

    pub fn to(self, exponent: Self) -> Self {
        Self::Power(Box::new(self), Box::new(exponent))
    }

    /// Calls `visit` for this formula and all in it.
    pub fn walk(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        match self {
            Self::Number(_) | Self::Variable(_) | Self::Pi | Self::E | Self::I | Self::Infinity => {}
            Self::Degrees(a) | Self::Negative(a) | Self::Call(_, a) => a.walk(visit),
            Self::Sum(items) | Self::Product(items) => items.iter().for_each(|item| item.walk(visit)),
            Self::Quotient(a, b) | Self::Power(a, b) | Self::Root(a, b) => {
                a.walk(visit);
                b.walk(visit);
            }
        }
    }

    /// The names of its variables, sorted, each once.
    pub fn variables(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.walk(&mut |expr| {
            if let Self::Variable(name) = expr {
                names.push(name.clone());
            }
        });
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether it is a variable, or a product of variables as in `f(x)` or `AB`.
    pub fn is_symbol(&self) -> bool {
        match self {
            Self::Variable(_) | Self::E | Self::I => true,
            Self::Product(items) => items.iter().all(Self::is_symbol),
            _ => false,
        }
    }

    /// The sign, if it is infinite.
    pub fn infinity(&self) -> Option<bool> {
        match self {
            Self::Infinity => Some(true),
            Self::Negative(inner) => inner.infinity().map(|sign| !sign),
            _ => None,
        }
    }
}

impl Scalar {
    /// A formula alone.
    pub fn plain(expr: Expr) -> Self {
        Self { expr, places: None, percent: false, unit: None, base: None, without_letter: None }
    }
}

impl Form {
    /// The formula, if no percent sign or base changes its value.
    pub fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Scalar(scalar) if !scalar.percent && scalar.base.is_none() => Some(&scalar.expr),
            _ => None,
        }
    }
}
