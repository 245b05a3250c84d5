//! The normal form of a formula: a quotient of two polynomials.
//!
//! Two formulas are equal where both are defined if the numerator of the difference of their normal forms has no terms.
//! What is not a polynomial (a function, a variable exponent, a nested root) becomes an atom, named by the normal form
//! of its argument.

use num_bigint::BigInt;
use num_traits::{One, Signed, ToPrimitive, Zero};

use crate::form::{Expr, Function};
use crate::polynomial::{Atom, Atoms, Budget, MAX_BITS, Polynomial, Trouble, bits};
use crate::token::Rational;

/// Largest index of a root that is reduced.
const MAX_INDEX: u32 = 12;
/// Largest factor that is searched in radicands; a rest below its square is prime.
const MAX_FACTOR: u32 = 2000;
/// Largest argument of a factorial that is multiplied out.
const MAX_FACTORIAL: u32 = 170;

/// A quotient of polynomials: numerator and denominator.
#[derive(Debug, Clone)]
pub(crate) struct Quotient {
    pub above: Polynomial,
    pub below: Polynomial,
}

/// The atoms and the budget that all formulas of one comparison use.
#[derive(Debug)]
pub(crate) struct Normalizer {
    pub atoms: Atoms,
    pub budget: Budget,
}

impl Normalizer {
    pub fn new(work: u64) -> Self {
        Self { atoms: Atoms::default(), budget: Budget::new(work) }
    }

    fn whole(&self, above: Polynomial) -> Quotient {
        Quotient { above, below: Polynomial::constant(Rational::one()) }
    }

    fn number(&self, value: Rational) -> Quotient {
        self.whole(Polynomial::constant(value))
    }

    fn atom(&mut self, name: String, kind: Atom) -> Quotient {
        let atom = self.atoms.intern(name, kind);
        self.whole(Polynomial::atom(atom))
    }

    /// The normal form.
    ///
    /// # Errors
    /// [`Trouble`], when there is none.
    pub fn normal(&mut self, expr: &Expr) -> Result<Quotient, Trouble> {
        self.budget.spend(1)?;
        match expr {
            Expr::Number(value) => {
                if bits(value) > MAX_BITS {
                    return Err(Trouble::TooLarge);
                }
                Ok(self.number(value.clone()))
            }
            Expr::Variable(name) => Ok(self.atom(format!("v:{name}"), Atom::Variable)),
            Expr::Pi => Ok(self.atom("pi".to_owned(), Atom::Pi)),
            Expr::E => Ok(self.atom("e".to_owned(), Atom::E)),
            Expr::I => Ok(self.atom("i".to_owned(), Atom::I)),
            Expr::Infinity => Err(Trouble::Undefined),
            Expr::Degrees(inner) => {
                let angle = self.normal(inner)?;
                let pi = self.normal(&Expr::Pi)?;
                let turned = self.times(&angle, &pi)?;
                self.divide(&turned, &self.number(BigInt::from(180).into()))
            }
            Expr::Negative(inner) => {
                let inner = self.normal(inner)?;
                Ok(Quotient { above: inner.above.negated(), below: inner.below })
            }
            Expr::Sum(items) => {
                let mut sum = self.number(Rational::zero());
                for item in items {
                    let item = self.normal(item)?;
                    sum = self.plus(sum, &item)?;
                }
                Ok(sum)
            }
            Expr::Product(items) => {
                let mut product = self.number(Rational::one());
                for item in items {
                    let item = self.normal(item)?;
                    product = self.times(&product, &item)?;
                }
                Ok(product)
            }
            Expr::Quotient(a, b) => {
                let (a, b) = (self.normal(a)?, self.normal(b)?);
                self.divide(&a, &b)
            }
            Expr::Power(base, exponent) => self.power(base, exponent),
            Expr::Root(radicand, index) => {
                let exponent = self.normal(&Expr::integer(1).over((**index).clone()))?;
                let radicand = self.normal(radicand)?;
                self.raise(&radicand, &exponent, true)
            }
            Expr::Call(function, argument) => {
                let argument = self.normal(argument)?;
                self.call(*function, &argument)
            }
        }
    }

    /// The numerator of the difference of two formulas.
    ///
    /// # Errors
    /// [`Trouble`], when one of them has no normal form.
    pub fn difference(&mut self, a: &Expr, b: &Expr) -> Result<Polynomial, Trouble> {
        let (a, b) = (self.normal(a)?, self.normal(b)?);
        let left = a.above.times(&b.below, &self.atoms, &mut self.budget)?;
        let right = b.above.times(&a.below, &self.atoms, &mut self.budget)?;
        left.plus(&right.negated(), &mut self.budget)
    }

    /// The value, if the formula is a rational number.
    pub fn rational(&mut self, expr: &Expr) -> Option<Rational> {
        let normal = self.normal(expr).ok()?;
        constant(&normal)
    }

    fn plus(&mut self, a: Quotient, b: &Quotient) -> Result<Quotient, Trouble> {
        let budget = &mut self.budget;
        if a.below == b.below {
            return Ok(Quotient { above: a.above.plus(&b.above, budget)?, below: a.below });
        }
        let left = a.above.times(&b.below, &self.atoms, budget)?;
        let right = b.above.times(&a.below, &self.atoms, budget)?;
        let below = a.below.times(&b.below, &self.atoms, budget)?;
        Ok(Quotient { above: left.plus(&right, budget)?, below })
    }

    fn times(&mut self, a: &Quotient, b: &Quotient) -> Result<Quotient, Trouble> {
        let above = a.above.times(&b.above, &self.atoms, &mut self.budget)?;
        let below = a.below.times(&b.below, &self.atoms, &mut self.budget)?;
        Ok(self.reduced(above, below))
    }

    fn divide(&mut self, a: &Quotient, b: &Quotient) -> Result<Quotient, Trouble> {
        if b.above.is_zero() {
            return Err(Trouble::Undefined);
        }
        self.times(a, &Quotient { above: b.below.clone(), below: b.above.clone() })
    }

    /// Moves a numeric denominator into the numerator, so that sums of fractions stay small.
    fn reduced(&self, above: Polynomial, below: Polynomial) -> Quotient {
        match below.as_constant() {
            Some(value) if !value.is_zero() => {
                let scaled = above.scaled(&value.recip());
                self.whole(scaled)
            }
            _ => Quotient { above, below },
        }
    }

    fn power(&mut self, base: &Expr, exponent: &Expr) -> Result<Quotient, Trouble> {
        let (base, exponent) = (self.normal(base)?, self.normal(exponent)?);
        self.raise(&base, &exponent, false)
    }

    /// A power; `real` asks for the real root of a negative number where there is one.
    fn raise(&mut self, base: &Quotient, exponent: &Quotient, real: bool) -> Result<Quotient, Trouble> {
        let Some(power) = constant(exponent) else { return Ok(self.opaque_power(base, exponent)) };
        if power.is_integer() {
            let Some(power) = power.to_integer().to_i32() else {
                return Ok(self.opaque_power(base, exponent));
            };
            return self.integer_power(base, power);
        }
        let index = power.denom().to_u32().filter(|index| *index <= MAX_INDEX);
        let times = power.numer().to_i32();
        let (Some(value), Some(index), Some(times)) = (constant(base), index, times) else {
            return Ok(self.opaque_power(base, exponent));
        };
        let negative = value.is_negative();
        // The root of −1: real where the index is odd, i where it is two.
        let sign = match (negative, index) {
            (false, _) => None,
            (true, 2) => Some(self.normal(&Expr::I)?),
            (true, index) if index % 2 == 1 && (real || times.abs() == 1) => Some(self.number(-Rational::one())),
            _ => return Ok(self.opaque_power(base, exponent)),
        };
        let root = self.root(&value.abs(), index)?;
        let signed = match sign {
            Some(sign) => self.times(&root, &sign)?,
            None => root,
        };
        self.integer_power(&signed, times)
    }

    fn integer_power(&mut self, base: &Quotient, power: i32) -> Result<Quotient, Trouble> {
        let (above, below) = if power < 0 { (&base.below, &base.above) } else { (&base.above, &base.below) };
        if below.is_zero() {
            return Err(Trouble::Undefined);
        }
        let exponent = power.unsigned_abs();
        // A result that would be too large is refused before it is computed.
        for part in [above, below] {
            let largest = part.terms().map(|(_, value)| bits(value)).max().unwrap_or(0);
            let unit = part.as_constant().is_some_and(|value| value.abs().is_one());
            if !unit && largest.saturating_sub(1) * u64::from(exponent) > MAX_BITS {
                return Err(Trouble::TooLarge);
            }
        }
        let above = above.power(exponent, &self.atoms, &mut self.budget)?;
        let below = below.power(exponent, &self.atoms, &mut self.budget)?;
        Ok(self.reduced(above, below))
    }

    /// The root of a non-negative number: (p/q)^(1/k) is (p·q^(k−1))^(1/k) / q; of each prime factor whole powers leave
    /// the root, and an atom remains for the rest.
    fn root(&mut self, value: &Rational, index: u32) -> Result<Quotient, Trouble> {
        if value.is_zero() {
            return Ok(self.number(Rational::zero()));
        }
        if bits(value) * u64::from(index) > MAX_BITS {
            return Err(Trouble::TooLarge);
        }
        let radicand = value.numer() * value.denom().pow(index - 1);
        self.budget.spend(u64::from(MAX_FACTOR) / 8 + radicand.bits())?;
        let mut root = self.number(Rational::new(BigInt::one(), value.denom().clone()));
        for (factor, count, prime) in factors(radicand, index) {
            let whole: Rational = factor.pow(count / index).into();
            root = Quotient { above: root.above.scaled(&whole), below: root.below };
            let rest = count % index;
            if rest > 0 {
                let common = num_integer::gcd(rest, index);
                let (rest, index) = (rest / common, index / common);
                let kind = Atom::Root { radicand: factor.clone(), index, prime };
                let atom = self.atom(format!("root:{index}:{factor}"), kind);
                let power = atom.above.power(rest, &self.atoms, &mut self.budget)?;
                root = Quotient { above: root.above.times(&power, &self.atoms, &mut self.budget)?, below: root.below };
            }
        }
        Ok(root)
    }

    fn opaque_power(&mut self, base: &Quotient, exponent: &Quotient) -> Quotient {
        let name = format!("power:{}:{}", name(base), name(exponent));
        self.atom(name, Atom::Opaque)
    }

    fn call(&mut self, function: Function, argument: &Quotient) -> Result<Quotient, Trouble> {
        if let Some(value) = constant(argument) {
            let exact = match function {
                Function::Abs => Some(value.abs()),
                Function::Floor => Some(value.floor()),
                Function::Ceil => Some(value.ceil()),
                Function::Factorial => factorial(&value)?,
                Function::Sin | Function::Arcsin | Function::Arctan if value.is_zero() => Some(Rational::zero()),
                Function::Cos if value.is_zero() => Some(Rational::one()),
                Function::Ln if value.is_one() => Some(Rational::zero()),
                _ => None,
            };
            if let Some(exact) = exact {
                return Ok(self.number(exact));
            }
        }
        Ok(self.atom(format!("{function:?}:{}", name(argument)), Atom::Opaque))
    }
}

/// The value of a quotient without atoms.
fn constant(quotient: &Quotient) -> Option<Rational> {
    let (above, below) = (quotient.above.as_constant()?, quotient.below.as_constant()?);
    (!below.is_zero()).then(|| above / below)
}

/// A name that equal quotients mostly have in common: numerator and denominator are divided by the leading coefficient
/// of the denominator.
fn name(quotient: &Quotient) -> String {
    match quotient.below.leading() {
        Some((_, leading)) => {
            let factor = leading.recip();
            format!("({})/({})", quotient.above.scaled(&factor).name(), quotient.below.scaled(&factor).name())
        }
        None => "undefined".to_owned(),
    }
}

fn factorial(value: &Rational) -> Result<Option<Rational>, Trouble> {
    if !value.is_integer() || value.is_negative() {
        return Err(Trouble::Undefined);
    }
    match value.to_integer().to_u32() {
        Some(n) if n <= MAX_FACTORIAL => Ok(Some((1..=n).map(BigInt::from).product::<BigInt>().into())),
        _ => Ok(None),
    }
}

/// Factors with their multiplicity, and whether each is certainly prime.
fn factors(mut value: BigInt, index: u32) -> Vec<(BigInt, u32, bool)> {
    let mut found = Vec::new();
    let mut candidate = 2u32;
    while candidate <= MAX_FACTOR && value > BigInt::one() {
        let divisor = BigInt::from(candidate);
        let mut count = 0;
        while (&value % &divisor).is_zero() {
            value /= &divisor;
            count += 1;
        }
        if count > 0 {
            found.push((divisor, count, true));
        }
        candidate += if candidate == 2 { 1 } else { 2 };
    }
    if value > BigInt::one() {
        let prime = value < BigInt::from(u64::from(MAX_FACTOR) * u64::from(MAX_FACTOR));
        // A large perfect power is recognized as well: √(10007²) is rational.
        let root = value.nth_root(index);
        if root.pow(index) == value { found.push((root, index, false)) } else { found.push((value, 1, prime)) }
    }
    found
}
