//! Polynomials with rational coefficients over atoms.
//!
//! An atom is what arithmetic does not decompose: a variable, π, e, i, a root of a prime, a function of something.
//! Multiplying reduces i² to −1 and a power of a root to its radicand, so that a polynomial in variables, π, i and
//! square roots is zero exactly when no term is left: products of square roots of different primes are linearly
//! independent over the rationals.
//!
//! Every operation spends from a [`Budget`], so that the time and memory of a comparison are bounded for any text.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use num_bigint::BigInt;
use num_rational::Ratio;
use num_traits::{One, Zero};

use crate::token::Rational;

/// Largest number of bits of a numerator or denominator.
pub(crate) const MAX_BITS: u64 = 4096;
/// Most terms of a polynomial.
const MAX_TERMS: usize = 1000;
/// Largest exponent of an atom.
const MAX_EXPONENT: u32 = 400;

/// Why a formula has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is too large to expand.
    TooLarge,
    /// It has no value: a division by zero, an infinity inside a formula.
    Undefined,
}

/// Work that may still be done, roughly in products of machine words.
#[derive(Debug)]
pub(crate) struct Budget(u64);

impl Budget {
    pub fn new(work: u64) -> Self {
        Self(work)
    }

    pub fn spend(&mut self, work: u64) -> Result<(), Trouble> {
        self.0 = self.0.checked_sub(work).ok_or(Trouble::TooLarge)?;
        Ok(())
    }
}

/// What an atom is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Atom {
    Variable,
    Pi,
    E,
    /// The imaginary unit.
    I,
    /// The root of a number that has no smaller factors, or of one that was not factored.
    Root {
        radicand: BigInt,
        index: u32,
        prime: bool,
    },
    /// Anything else, identified by its name only.
    Opaque,
}

/// The atoms of a comparison: their kinds by number.
#[derive(Debug, Default)]
pub(crate) struct Atoms {
    kinds: Vec<Atom>,
    names: std::collections::HashMap<String, u32>,
}

impl Atoms {
    /// The number of the atom called `name`.
    pub fn intern(&mut self, name: String, kind: Atom) -> u32 {
        let next = self.kinds.len() as u32;
        *self.names.entry(name).or_insert_with(|| {
            self.kinds.push(kind);
            next
        })
    }

    pub fn kind(&self, atom: u32) -> &Atom {
        &self.kinds[atom as usize]
    }
}

/// Atoms with their exponents, ascending, none zero.
pub(crate) type Monomial = Vec<(u32, u32)>;

/// Terms with their coefficients, none zero.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Polynomial {
    terms: BTreeMap<Monomial, Rational>,
}

/// Bits of the larger of numerator and denominator.
pub(crate) fn bits(value: &Rational) -> u64 {
    value.numer().bits().max(value.denom().bits())
}

fn words(value: &Rational) -> u64 {
    1 + bits(value) / 64
}

impl Polynomial {
    pub fn constant(value: Rational) -> Self {
        let mut terms = BTreeMap::new();
        if !value.is_zero() {
            terms.insert(Vec::new(), value);
        }
        Self { terms }
    }

    pub fn atom(atom: u32) -> Self {
        Self { terms: BTreeMap::from([(vec![(atom, 1)], Rational::one())]) }
    }

    pub fn is_zero(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value, if it has no atoms.
    pub fn as_constant(&self) -> Option<Rational> {
        match self.terms.len() {
            0 => Some(Rational::zero()),
            1 => self.terms.get(&Vec::new()).cloned(),
            _ => None,
        }
    }

    /// The term of the largest monomial.
    pub fn leading(&self) -> Option<(&Monomial, &Rational)> {
        self.terms.iter().next_back()
    }

    pub fn terms(&self) -> impl Iterator<Item = (&Monomial, &Rational)> {
        self.terms.iter()
    }

    fn accumulate(&mut self, monomial: Monomial, value: Rational, budget: &mut Budget) -> Result<(), Trouble> {
        let width = words(&value);
        budget.spend(1 + monomial.len() as u64 + width * width)?;
        if bits(&value) > MAX_BITS {
            return Err(Trouble::TooLarge);
        }
        match self.terms.entry(monomial) {
            Entry::Vacant(entry) => {
                if !value.is_zero() {
                    entry.insert(value);
                }
            }
            Entry::Occupied(mut entry) => {
                let sum = entry.get() + value;
                if sum.is_zero() {
                    entry.remove();
                } else {
                    entry.insert(sum);
                }
            }
        }
        if self.terms.len() > MAX_TERMS { Err(Trouble::TooLarge) } else { Ok(()) }
    }

    pub fn plus(mut self, other: &Self, budget: &mut Budget) -> Result<Self, Trouble> {
        for (monomial, value) in &other.terms {
            self.accumulate(monomial.clone(), value.clone(), budget)?;
        }
        Ok(self)
    }

    pub fn negated(mut self) -> Self {
        for value in self.terms.values_mut() {
            *value = -std::mem::replace(value, Ratio::zero());
        }
        self
    }

    /// The polynomial times a number. The next operation checks the size of the result.
    pub fn scaled(&self, factor: &Rational) -> Self {
        if factor.is_zero() {
            return Self::default();
        }
        Self { terms: self.terms.iter().map(|(monomial, value)| (monomial.clone(), value * factor)).collect() }
    }

    pub fn times(&self, other: &Self, atoms: &Atoms, budget: &mut Budget) -> Result<Self, Trouble> {
        let mut product = Self::default();
        for (left, a) in &self.terms {
            for (right, b) in &other.terms {
                budget.spend(words(a) * words(b))?;
                let (monomial, factor) = multiply(left, right, atoms)?;
                let mut value = a * b;
                if let Some(factor) = factor {
                    budget.spend(words(&value) * words(&factor))?;
                    value *= factor;
                }
                product.accumulate(monomial, value, budget)?;
            }
        }
        Ok(product)
    }

    pub fn power(&self, exponent: u32, atoms: &Atoms, budget: &mut Budget) -> Result<Self, Trouble> {
        let mut result = Self::constant(Rational::one());
        let (mut base, mut left) = (self.clone(), exponent);
        while left > 0 {
            if left & 1 == 1 {
                result = result.times(&base, atoms, budget)?;
            }
            left >>= 1;
            if left > 0 {
                base = base.times(&base, atoms, budget)?;
            }
        }
        Ok(result)
    }

    /// The polynomial as text, the same for the same terms.
    pub fn name(&self) -> String {
        let mut name = String::new();
        for (monomial, value) in &self.terms {
            name.push_str(&value.to_string());
            for (atom, exponent) in monomial {
                name.push_str(&format!("*{atom}^{exponent}"));
            }
            name.push('+');
        }
        name
    }
}

/// The product of two monomials, and the numeric factor from reducing i and roots.
fn multiply(a: &Monomial, b: &Monomial, atoms: &Atoms) -> Result<(Monomial, Option<Rational>), Trouble> {
    let mut product = Vec::with_capacity(a.len() + b.len());
    let mut factor: Option<Rational> = None;
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        let (atom, mut exponent) = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) if x.0 == y.0 => {
                (i, j) = (i + 1, j + 1);
                (x.0, x.1 + y.1)
            }
            (Some(x), Some(y)) if x.0 > y.0 => {
                j += 1;
                *y
            }
            (Some(x), _) => {
                i += 1;
                *x
            }
            (None, Some(y)) => {
                j += 1;
                *y
            }
            (None, None) => break,
        };
        let reduced = match atoms.kind(atom) {
            Atom::I => Some((2, BigInt::from(-1))),
            Atom::Root { radicand, index, .. } => Some((*index, radicand.clone())),
            _ => None,
        };
        if let Some((order, value)) = reduced
            && exponent >= order
        {
            let power = exponent / order;
            if value.bits() * u64::from(power) > MAX_BITS {
                return Err(Trouble::TooLarge);
            }
            let value: Rational = value.pow(power).into();
            factor = Some(factor.map_or_else(|| value.clone(), |factor| factor * &value));
            exponent %= order;
        }
        if exponent > MAX_EXPONENT {
            return Err(Trouble::TooLarge);
        }
        if exponent > 0 {
            product.push((atom, exponent));
        }
    }
    Ok((product, factor))
}
