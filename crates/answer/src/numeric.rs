//! Values of formulas in floating point, each with a bound on its error.
//!
//! Values are complex. Every operation adds its own rounding to the errors of its operands, to first order and with a
//! safety factor, so that two values count as equal when they are within their errors and as different when they are
//! not. A value whose error has grown too large decides nothing.

use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive, Zero};

use crate::form::{Expr, Function};
use crate::token::Rational;

/// Rounding of one operation, with a safety factor.
const EPSILON: f64 = 4.0 * f64::EPSILON;
/// Largest magnitude that is computed with.
const HUGE: f64 = 1e150;
/// Largest exponent that is multiplied out.
const MAX_POWER: f64 = 512.0;

/// A complex value and a bound on the distance from the true one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Value {
    re: f64,
    im: f64,
    error: f64,
}

/// Whether two values are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Agreement {
    Same,
    Different,
    /// The errors are too large to say.
    Unknown,
}

impl Value {
    fn real(re: f64, error: f64) -> Self {
        Self { re, im: 0.0, error }
    }

    fn size(self) -> f64 {
        self.re.hypot(self.im)
    }

    /// The value, if it is finite and small enough for the bounds to hold.
    fn checked(self) -> Option<Self> {
        (self.size() < HUGE && self.error < HUGE).then_some(self)
    }

    /// The real part, where the imaginary one is zero within the error.
    pub fn as_real(self) -> Option<f64> {
        (self.im.abs() <= self.error).then_some(self.re)
    }

    fn plus(self, other: Self) -> Self {
        let (re, im) = (self.re + other.re, self.im + other.im);
        let error = self.error + other.error;
        // A sum of exact values with few digits is exact.
        let exact = error == 0.0 && re - self.re == other.re && re - other.re == self.re && im == 0.0;
        let rounding = if exact { 0.0 } else { EPSILON * (self.size() + other.size()) };
        Self { re, im, error: error + rounding }
    }

    fn negated(self) -> Self {
        Self { re: -self.re, im: -self.im, error: self.error }
    }

    fn times(self, other: Self) -> Self {
        let re = self.re * other.re - self.im * other.im;
        let im = self.re * other.im + self.im * other.re;
        let (a, b) = (self.size(), other.size());
        let whole = |x: f64| x.fract() == 0.0 && x.abs() < 1e6;
        let exact = whole(self.re) && whole(self.im) && whole(other.re) && whole(other.im);
        let rounding = if exact { 0.0 } else { EPSILON * a * b };
        Self { re, im, error: a * other.error + b * self.error + self.error * other.error + rounding }
    }

    fn over(self, other: Self) -> Option<Self> {
        let size = other.size();
        let certain = size - other.error;
        if certain <= size / 2.0 || size == 0.0 {
            return None;
        }
        let square = size * size;
        let re = (self.re * other.re + self.im * other.im) / square;
        let im = (self.im * other.re - self.re * other.im) / square;
        let quotient = self.size() / size;
        Some(Self { re, im, error: (self.error + quotient * other.error) / certain + 2.0 * EPSILON * quotient })
    }

    /// The natural logarithm, on the principal branch.
    fn ln(self) -> Option<Self> {
        let size = self.size();
        if size <= 2.0 * self.error || size == 0.0 {
            return None;
        }
        // On the cut, rounding must not choose the side.
        let im = if self.im.abs() <= self.error { 0.0 } else { self.im };
        let (re, im) = (size.ln(), im.atan2(self.re));
        Some(Self { re, im, error: 2.0 * self.error / size + EPSILON * (1.0 + re.abs()) })
    }

    fn exp(self) -> Self {
        let size = self.re.exp();
        let error = size * (self.error.exp_m1() + EPSILON * (1.0 + self.size()));
        Self { re: size * self.im.cos(), im: size * self.im.sin(), error }
    }

    fn power(self, exponent: Self) -> Option<Self> {
        if exponent.im == 0.0 && exponent.error == 0.0 && exponent.re.fract() == 0.0 && exponent.re.abs() <= MAX_POWER {
            let mut result = Self::real(1.0, 0.0);
            let (mut base, mut left) = (self, exponent.re.abs() as u32);
            while left > 0 {
                if left & 1 == 1 {
                    result = result.times(base).checked()?;
                }
                left >>= 1;
                if left > 0 {
                    base = base.times(base).checked()?;
                }
            }
            return if exponent.re < 0.0 { Self::real(1.0, 0.0).over(result) } else { Some(result) };
        }
        if self.size() == 0.0 && self.error == 0.0 {
            return (exponent.re > 0.0).then(|| Self::real(0.0, 0.0));
        }
        exponent.times(self.ln()?).checked().map(Self::exp)
    }

    /// The principal root, or the real one of a negative number where the index is odd.
    fn root(self, index: Self) -> Option<Self> {
        let odd = index.im == 0.0 && index.error == 0.0 && index.re % 2.0 == 1.0;
        let reciprocal = Self::real(1.0, 0.0).over(index)?;
        if self.size() == 0.0 && self.error == 0.0 {
            return (index.re > 0.0).then_some(self);
        }
        if odd && self.re < 0.0 && self.as_real().is_some() {
            return self.negated().power(reciprocal).map(Self::negated);
        }
        self.power(reciprocal)
    }

    fn call(self, function: Function) -> Option<Self> {
        // Functions of a real value change by at most their slope times the error.
        let smooth =
            |value: f64, slope: f64| Some(Self::real(value, slope * self.error + EPSILON * (1.0 + value.abs())));
        match function {
            Function::Sin | Function::Cos => {
                let (sin, cos) = self.re.sin_cos();
                let (sinh, cosh) = (self.im.sinh(), self.im.cosh());
                let (re, im) =
                    if function == Function::Sin { (sin * cosh, cos * sinh) } else { (cos * cosh, -sin * sinh) };
                let error = 2.0 * cosh * (self.error + EPSILON * (1.0 + self.re.abs()));
                Some(Self { re, im, error })
            }
            Function::Ln => self.ln(),
            Function::Log10 => self.ln()?.over(Self::real(std::f64::consts::LN_10, EPSILON)),
            Function::Abs => Some(Self::real(self.size(), self.error + EPSILON * self.size())),
            Function::Arctan => smooth(self.as_real()?.atan(), 1.0),
            Function::Arcsin | Function::Arccos => {
                let x = self.as_real()?;
                if x.abs() > 1.0 + self.error {
                    return None;
                }
                let x = x.clamp(-1.0, 1.0);
                // Near ±1 the error grows as its square root.
                let room = (1.0 - x * x).max(self.error + f64::EPSILON).sqrt();
                smooth(if function == Function::Arcsin { x.asin() } else { x.acos() }, 2.0 / room)
            }
            Function::Floor | Function::Ceil => {
                let x = self.as_real()?;
                let value = if function == Function::Floor { x.floor() } else { x.ceil() };
                let certain = self.error == 0.0 || (x - x.round()).abs() > 2.0 * self.error;
                certain.then(|| Self::real(value, 0.0))
            }
            Function::Factorial => {
                let x = self.as_real()?;
                if self.error > 0.0 || x.fract() != 0.0 || !(0.0..=90.0).contains(&x) {
                    return None;
                }
                let value = (1..=x as u32).map(f64::from).product::<f64>();
                Some(Self::real(value, if x <= 18.0 { 0.0 } else { x * EPSILON * value }))
            }
        }
    }

    /// Compares two values.
    pub fn agreement(self, other: Self) -> Agreement {
        /// Values whose relative error is larger than this are not called equal.
        const COARSE: f64 = 1e-9;
        let error = self.error + other.error;
        let distance = (self.re - other.re).hypot(self.im - other.im);
        if distance > 4.0 * error {
            Agreement::Different
        } else if error <= COARSE * self.size().max(other.size()).max(1e-3) {
            Agreement::Same
        } else {
            Agreement::Unknown
        }
    }
}

/// The nearest float and a bound on its error.
pub(crate) fn float(value: &Rational) -> Option<Value> {
    let (above, below) = (value.numer(), value.denom());
    let exact = |n: &BigInt| n.abs().bits() <= 53;
    if exact(above) && exact(below) {
        let (a, b) = (above.to_f64()?, below.to_f64()?);
        let quotient = a / b;
        let whole = b.log2().fract() == 0.0;
        return Value::real(quotient, if whole { 0.0 } else { EPSILON * quotient.abs() }).checked();
    }
    // Both are scaled to 64 bits, which keeps more than a float holds.
    let shift = |n: &BigInt| n.bits().saturating_sub(64);
    let (i, j) = (shift(above), shift(below));
    let quotient = (above >> i).to_f64()? / (below >> j).to_f64()?;
    let exponent = i32::try_from(i as i64 - j as i64).ok()?;
    let scaled = quotient * 2f64.powi(exponent);
    (scaled != 0.0 || above.is_zero()).then_some(Value::real(scaled, EPSILON * scaled.abs())).and_then(Value::checked)
}

/// The value of `expr` with the variables' values of `point`; none where it has none that a float can hold.
pub(crate) fn evaluate(expr: &Expr, point: &impl Fn(&str) -> f64) -> Option<Value> {
    let value = match expr {
        Expr::Number(value) => float(value)?,
        Expr::Variable(name) => Value::real(point(name), 0.0),
        Expr::Pi => Value::real(std::f64::consts::PI, f64::EPSILON),
        Expr::E => Value::real(std::f64::consts::E, f64::EPSILON),
        Expr::I => Value { re: 0.0, im: 1.0, error: 0.0 },
        Expr::Infinity => return None,
        Expr::Degrees(inner) => {
            let radian = Value::real(std::f64::consts::PI / 180.0, EPSILON / 50.0);
            evaluate(inner, point)?.times(radian)
        }
        Expr::Negative(inner) => evaluate(inner, point)?.negated(),
        Expr::Sum(items) => {
            let mut sum = Value::real(0.0, 0.0);
            for item in items {
                sum = sum.plus(evaluate(item, point)?);
            }
            sum
        }
        Expr::Product(items) => {
            let mut product = Value::real(1.0, 0.0);
            for item in items {
                product = product.times(evaluate(item, point)?).checked()?;
            }
            product
        }
        Expr::Quotient(a, b) => evaluate(a, point)?.over(evaluate(b, point)?)?,
        Expr::Power(a, b) => evaluate(a, point)?.power(evaluate(b, point)?)?,
        Expr::Root(a, b) => evaluate(a, point)?.root(evaluate(b, point)?)?,
        Expr::Call(function, argument) => evaluate(argument, point)?.call(*function)?,
    };
    value.checked()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(expr: &Expr) -> Value {
        evaluate(expr, &|_| 0.5).unwrap()
    }

    #[test]
    fn values_lie_within_their_errors() {
        let third = Expr::integer(1).over(Expr::integer(3));
        let root = Expr::Root(Box::new(Expr::integer(2)), Box::new(Expr::integer(2)));
        let square = root.to(Expr::integer(2));
        assert_eq!(value(&square).agreement(value(&Expr::integer(2))), Agreement::Same);
        assert_eq!(value(&third).agreement(Value::real(0.333333333333, 0.0)), Agreement::Different);
        let sine = Expr::call(Function::Sin, Expr::Pi);
        assert_eq!(value(&sine).agreement(value(&Expr::integer(0))), Agreement::Same);
        // A tiny number is not zero.
        let tiny = Expr::E.to(Expr::integer(-40));
        assert_eq!(value(&tiny).agreement(value(&Expr::integer(0))), Agreement::Different);
    }

    #[test]
    fn what_has_no_value_gives_none() {
        let pole = Expr::integer(1).over(Expr::call(Function::Cos, Expr::Pi.over(Expr::integer(2))));
        let tower = Expr::integer(9).to(Expr::integer(9).to(Expr::integer(9)));
        for expr in [pole, tower, Expr::Infinity, Expr::integer(1).over(Expr::integer(0))] {
            assert!(evaluate(&expr, &|_| 0.5).is_none(), "{expr:?}");
        }
        let large = Rational::from_integer(BigInt::from(7).pow(300));
        assert!(float(&large).is_none());
        let near = Rational::new(BigInt::from(7).pow(300), BigInt::from(7).pow(299));
        assert_eq!(float(&near).unwrap().re, 7.0);
    }
}
