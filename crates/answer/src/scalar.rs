//! Whether two formulas are the same number for all values of their variables.
//!
//! First exactly, by normal form ([`crate::normal`]); where that does not decide, at seeded points, each value with its
//! error ([`crate::numeric`]). One point where the values differ by more than their errors proves the formulas
//! different; several where they agree, and none where they differ, make them equal. Points of several sizes, integers
//! included, distinguish formulas that agree only near zero.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::Ratio;
use num_traits::{One, Pow, Signed};

use crate::form::{Expr, Scalar};
use crate::normal::Normalizer;
use crate::numeric::{Agreement, evaluate};
use crate::polynomial::{Atom, Polynomial, Trouble};
use crate::token::Rational;
use crate::unit;

/// Work of exact arithmetic in one comparison of answers.
const WORK: u64 = 120_000;
/// Points at which formulas are compared.
const POINTS: u64 = 16;
/// Points that must have decided before formulas are called equal.
const ENOUGH: usize = 4;
/// Decimals with at least this many places may equal a number that they are the rounding of.
const ROUNDED_PLACES: u32 = 6;
/// Such decimals have at least this many significant digits.
const ROUNDED_DIGITS: usize = 4;

/// Compares the formulas of one answer.
pub(crate) struct Scalars {
    pub normalizer: Normalizer,
}

impl Scalars {
    pub fn new() -> Self {
        Self { normalizer: Normalizer::new(WORK) }
    }

    /// Whether two formulas are equal.
    ///
    /// # Errors
    /// The reason why that could not be decided.
    pub fn same(&mut self, a: &Expr, b: &Expr) -> Result<bool, String> {
        if a == b {
            return Ok(true);
        }
        match (a.infinity(), b.infinity()) {
            (Some(a), Some(b)) => return Ok(a == b),
            (Some(_), None) | (None, Some(_)) => return Ok(false),
            (None, None) => {}
        }
        let mut large = false;
        match self.normalizer.difference(a, b) {
            Ok(difference) if difference.is_zero() => return Ok(true),
            Ok(difference) if self.is_independent(&difference) => return Ok(false),
            Ok(_) => {}
            Err(Trouble::TooLarge) => large = true,
            // A formula without a value equals no other.
            Err(Trouble::Undefined) => return Ok(false),
        }
        let open = if large { "a number or formula is too large to compare" } else { "no value could be computed" };
        at_points(a, b).ok_or_else(|| open.to_owned())
    }

    /// Whether a polynomial that has terms cannot be zero.
    fn is_independent(&self, polynomial: &Polynomial) -> bool {
        let atoms = &self.normalizer.atoms;
        let mut pi = false;
        let mut e = false;
        let known = polynomial.terms().flat_map(|(monomial, _)| monomial).all(|(atom, _)| match atoms.kind(*atom) {
            Atom::Variable | Atom::I => true,
            Atom::Pi => {
                pi = true;
                true
            }
            Atom::E => {
                e = true;
                true
            }
            Atom::Root { index, prime, .. } => *index == 2 && *prime,
            Atom::Opaque => false,
        });
        // π and e are each transcendental; whether they are algebraically independent is not known.
        known && !(pi && e)
    }

    /// Whether two answers that are formulas agree, with their units, bases and percent signs.
    ///
    /// # Errors
    /// The reason why that could not be decided.
    pub fn answers(&mut self, a: &Scalar, b: &Scalar) -> Result<bool, String> {
        if let (Some(x), Some(y)) = (a.base, b.base)
            && x != y
        {
            return Ok(false);
        }
        if let (Some(x), Some(y)) = (&a.unit, &b.unit)
            && !unit::may_agree(x, y)
        {
            return Ok(false);
        }
        if a.percent != b.percent {
            let (percent, plain) = if a.percent { (a, b) } else { (b, a) };
            return self.percent(percent, plain);
        }
        if self.rounded(a, b)? || self.rounded(b, a)? {
            return Ok(true);
        }
        let result = self.same(&a.expr, &b.expr);
        if result == Ok(true) {
            return result;
        }
        for (with, other) in [(a, b), (b, a)] {
            if let Some(number) = &with.without_letter
                && other.expr.variables().is_empty()
                && self.same(number, &other.expr)?
            {
                return Ok(true);
            }
        }
        result
    }

    /// `50\%` against an answer without the sign: it is 1/2, and it is 50 if both are integers, since a question may
    /// ask for the percentage. math-verify does the same.
    fn percent(&mut self, percent: &Scalar, plain: &Scalar) -> Result<bool, String> {
        let hundredth = Expr::Quotient(Box::new(percent.expr.clone()), Box::new(Expr::integer(100)));
        let value = Scalar { places: percent.places.map(|places| places + 2), ..Scalar::plain(hundredth) };
        if self.rounded(&value, plain)? || self.rounded(plain, &value)? || self.same(&value.expr, &plain.expr)? {
            return Ok(true);
        }
        let whole = |scalars: &mut Self, scalar: &Scalar| {
            scalar.places.is_none() && scalars.normalizer.rational(&scalar.expr).is_some_and(|value| value.is_integer())
        };
        Ok(whole(self, percent) && whole(self, plain) && self.same(&percent.expr, &plain.expr)?)
    }

    /// Whether `decimal` has enough places and is the rounding of `exact`, which is not a decimal itself.
    fn rounded(&mut self, decimal: &Scalar, exact: &Scalar) -> Result<bool, String> {
        let Some(places) = decimal.places.filter(|places| *places >= ROUNDED_PLACES) else { return Ok(false) };
        if exact.places.is_some() || !exact.expr.variables().is_empty() {
            return Ok(false);
        }
        let Some(value) = self.normalizer.rational(&decimal.expr) else { return Ok(false) };
        let scale: BigInt = Pow::pow(&BigInt::from(10), places as usize);
        let digits = (&value * &scale).to_integer().abs();
        if digits.to_string().len() < ROUNDED_DIGITS {
            return Ok(false);
        }
        if let Some(exact) = self.normalizer.rational(&exact.expr) {
            return Ok(nearest(&(exact * &scale)) == (value * scale).to_integer());
        }
        let Some(exact) = evaluate(&exact.expr, &|_| 0.0).and_then(|value| value.as_real()) else { return Ok(false) };
        let Some(written) = evaluate(&decimal.expr, &|_| 0.0).and_then(|value| value.as_real()) else {
            return Ok(false);
        };
        // Beyond the digits of a float the last place cannot be checked.
        let half = 0.5 * 10f64.powi(-(places.min(300) as i32));
        Ok((exact - written).abs() <= half.max(8.0 * f64::EPSILON * exact.abs()))
    }
}

/// The nearest whole number, halves away from zero.
fn nearest(value: &Rational) -> BigInt {
    let half = Ratio::new(BigInt::one(), BigInt::from(2));
    let magnitude = (value.abs() + half).floor().to_integer();
    if value.is_negative() { -magnitude } else { magnitude }
}

/// Compares two formulas at points; none if too few points decide.
fn at_points(a: &Expr, b: &Expr) -> Option<bool> {
    let constant = a.variables().is_empty() && b.variables().is_empty();
    let (points, enough) = if constant { (1, 1) } else { (POINTS, ENOUGH) };
    let mut agreed = 0;
    for index in 0..points {
        let point = |name: &str| coordinate(name, index);
        let (Some(x), Some(y)) = (evaluate(a, &point), evaluate(b, &point)) else { continue };
        match x.agreement(y) {
            Agreement::Same => agreed += 1,
            Agreement::Different => return Some(false),
            Agreement::Unknown => {}
        }
    }
    (agreed >= enough).then_some(true)
}

/// The value of a variable at a point: the same for the same name, with few binary digits, so that it is exact.
fn coordinate(name: &str, index: u64) -> f64 {
    let mut state = name.bytes().fold(0x2602_0199_7000_0001 ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15), |state, c| {
        (state ^ u64::from(c)).wrapping_mul(0x0100_0000_01b3)
    });
    state ^= state >> 31;
    state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state ^= state >> 29;
    let sign = if state & 1 == 0 { 1.0 } else { -1.0 };
    let steps = state >> 8;
    match index % 4 {
        0 => sign * (13 + steps.mod_floor(&230)) as f64 / 64.0,
        1 => sign * (37 + steps.mod_floor(&500)) as f64 / 8.0,
        2 => (2 + steps.mod_floor(&15)) as f64,
        _ => sign * (1000 + steps.mod_floor(&9000)) as f64 / 4.0,
    }
}
