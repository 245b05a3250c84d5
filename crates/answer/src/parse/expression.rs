//! Sums, products, quotients, powers and function calls.
//!
//! Factors without a sign between them bind tighter than a slash, as in math-verify: `1/2x` is 1/(2x). There is no
//! agreed rule; for a task's score, agreement with the usual checker matters more.

use super::Parser;
use crate::form::{Expr, Function};
use crate::token::{Kind, is_function};
use num_traits::Signed;

/// Most factorial signs, degree signs and powers after one factor.
const MAX_POSTFIX: usize = 6;

impl Parser<'_> {
    pub(super) fn sum(&mut self) -> Result<Expr, String> {
        let mut terms = Vec::new();
        loop {
            let negative = match self.sign() {
                Some(negative) => negative,
                None if terms.is_empty() => false,
                None => break,
            };
            let term = self.term()?;
            terms.push(if negative { Expr::Negative(Box::new(term)) } else { term });
        }
        Ok(if terms.len() == 1 { terms.remove(0) } else { Expr::Sum(terms) })
    }

    /// A sign, if there is one: whether it is minus.
    fn sign(&mut self) -> Option<bool> {
        let negative = match self.peek()? {
            Kind::Symbol('+') => false,
            Kind::Symbol('-') => true,
            Kind::Command("pm") => !self.upper,
            Kind::Command("mp") => self.upper,
            _ => return None,
        };
        self.at += 1;
        Some(negative)
    }

    fn term(&mut self) -> Result<Expr, String> {
        let mut above = vec![self.signed_product()?];
        let mut below = Vec::new();
        loop {
            if self.eat('*') {
                above.push(self.signed_product()?);
            } else if self.eat('/') {
                below.push(self.signed_product()?);
            } else {
                break;
            }
        }
        let product = |mut items: Vec<Expr>| if items.len() == 1 { items.remove(0) } else { Expr::Product(items) };
        Ok(if below.is_empty() { product(above) } else { product(above).over(product(below)) })
    }

    fn signed_product(&mut self) -> Result<Expr, String> {
        match self.sign() {
            Some(negative) => {
                let inner = self.deeper(Self::signed_product)?;
                Ok(if negative { Expr::Negative(Box::new(inner)) } else { inner })
            }
            None => self.product(),
        }
    }

    fn product(&mut self) -> Result<Expr, String> {
        let first = match self.mixed()? {
            Some(mixed) => mixed,
            None => self.factor()?,
        };
        let mut factors = vec![first];
        while self.starts_factor() {
            let number = |kind: Option<&Kind>| matches!(kind, Some(Kind::Number { .. }));
            if number(self.peek()) && number(self.kind(self.at - 1)) {
                return Err("two numbers side by side".to_owned());
            }
            factors.push(self.factor()?);
        }
        Ok(if factors.len() == 1 { factors.remove(0) } else { Expr::Product(factors) })
    }

    /// `1\frac{1}{2}` and `1 1/2`, a sum without its sign.
    fn mixed(&mut self) -> Result<Option<Expr>, String> {
        let whole = |kind: Option<&Kind>| match kind {
            Some(Kind::Number { value, places: None }) if value.is_integer() => Some(value.clone()),
            _ => None,
        };
        let Some(integer) = whole(self.peek()) else { return Ok(None) };
        let (start, at) = (self.at, self.at + 1);
        if at >= self.end {
            return Ok(None);
        }
        let fraction = match self.kind(at) {
            Some(Kind::Command("frac")) => {
                self.at = at;
                Some(self.factor()?)
            }
            Some(Kind::Number { .. })
                if self.tokens[at].spaced && self.kind(at + 1) == Some(&Kind::Symbol('/')) && at + 2 < self.end =>
            {
                self.at = at + 3;
                match (whole(self.kind(at)), whole(self.kind(at + 2))) {
                    (Some(a), Some(b)) => Some(Expr::Number(a).over(Expr::Number(b))),
                    _ => None,
                }
            }
            _ => return Ok(None),
        };
        if let Some(fraction) = fraction
            && let Expr::Quotient(a, b) = &fraction
            && let (Expr::Number(a), Expr::Number(b)) = (&**a, &**b)
            && a.is_integer()
            && b.is_integer()
            && !a.is_negative()
            && a < b
        {
            return Ok(Some(Expr::Sum(vec![Expr::Number(integer), fraction])));
        }
        self.at = start;
        Ok(None)
    }

    /// Whether the next token begins a factor, which multiplies the one before it.
    fn starts_factor(&self) -> bool {
        match self.peek() {
            Some(Kind::Number { .. } | Kind::Letter(_)) => true,
            Some(Kind::Symbol('|')) => self.bars == 0,
            Some(Kind::Symbol(c)) => matches!(c, '(' | '[' | '{' | '⌊' | '⌈'),
            Some(Kind::Command(name)) => {
                !matches!(*name, "pm" | "mp" | "circ" | "prime" | "choose" | "setminus" | "cup" | "emptyset" | "mathbb")
            }
            _ => false,
        }
    }

    /// An atom with its powers and signs.
    pub(super) fn factor(&mut self) -> Result<Expr, String> {
        let mut base = self.deeper(Self::atom)?;
        for _ in 0..MAX_POSTFIX {
            if self.eat('!') {
                base = Expr::call(Function::Factorial, base);
            } else if self.is_command("circ") {
                self.at += 1;
                base = self.degrees(base);
            } else if self.eat('\'') || self.is_command("prime") {
                self.at += usize::from(self.is_command("prime"));
                base = prime(base)?;
            } else if self.is_symbol('%') {
                self.at += 1;
                base = base.over(Expr::integer(100));
            } else if self.eat('^') {
                if self.eat_exponent("circ") {
                    base = self.degrees(base);
                } else if self.eat_exponent("prime") {
                    base = prime(base)?;
                } else {
                    base = base.to(self.deeper(Self::exponent)?);
                }
            } else if self.is_symbol('_') {
                return Err("an index where none is read".to_owned());
            } else {
                return Ok(base);
            }
        }
        Err("too many signs after one factor".to_owned())
    }

    /// Reads the command `name`, or the same in braces, after `^`: `^\circ`, `^{\circ}`. Whether it is there.
    fn eat_exponent(&mut self, name: &'static str) -> bool {
        let command = Some(&Kind::Command(name));
        if self.peek() == command {
            self.at += 1;
            return true;
        }
        let braced = self.is_symbol('{')
            && self.kind(self.at + 1) == command
            && self.kind(self.at + 2) == Some(&Kind::Symbol('}'));
        self.at += if braced { 3 } else { 0 };
        braced
    }

    /// An angle in degrees. Celsius and Fahrenheit are units, too.
    fn degrees(&mut self, base: Expr) -> Expr {
        if matches!(self.peek(), Some(Kind::Letter('C' | 'F'))) {
            self.at += 1;
        }
        if self.plain { base } else { Expr::Degrees(Box::new(base)) }
    }

    /// The exponent after `^`: a group, or a single factor without powers of its own.
    fn exponent(&mut self) -> Result<Expr, String> {
        if self.eat('-') {
            return Ok(Expr::Negative(Box::new(self.deeper(Self::exponent)?)));
        }
        self.eat('+');
        let base = self.atom()?;
        // `2^3^4` without braces is read from the right, as usual for powers.
        if self.eat('^') { Ok(base.to(self.deeper(Self::exponent)?)) } else { Ok(base) }
    }

    /// A call of the function `name`, whose token has been read.
    pub(super) fn call(&mut self, name: &str) -> Result<Expr, String> {
        let mut power = None;
        let mut base = None;
        for _ in 0..2 {
            if power.is_none() && self.eat('^') {
                power = Some(self.deeper(Self::exponent)?);
            } else if base.is_none() && name == "log" && self.eat('_') {
                base = Some(self.deeper(Self::atom)?);
            }
        }
        let argument = self.deeper(Self::function_argument)?;
        // `sin^{-1}` is the inverse function, not the reciprocal.
        let inverse = power == Some(Expr::Negative(Box::new(Expr::integer(1))));
        if inverse {
            return match name {
                "sin" => Ok(Expr::call(Function::Arcsin, argument)),
                "cos" => Ok(Expr::call(Function::Arccos, argument)),
                "tan" => Ok(Expr::call(Function::Arctan, argument)),
                _ => Err(format!("the inverse of {name} is not read")),
            };
        }
        let value = apply(name, base, argument)?;
        Ok(match power {
            Some(power) => value.to(power),
            None => value,
        })
    }

    /// A bracket, or the factors up to the next sign, function or bracket.
    fn function_argument(&mut self) -> Result<Expr, String> {
        if matches!(self.peek(), Some(Kind::Symbol('(' | '[' | '{'))) {
            return self.atom();
        }
        let negative = self.eat('-');
        let mut factors = Vec::new();
        while self.starts_factor() {
            let stops = match self.peek() {
                Some(Kind::Symbol('(' | '[' | '{')) => true,
                Some(Kind::Command(name)) => is_function(name),
                _ => false,
            };
            if stops && !factors.is_empty() {
                break;
            }
            factors.push(self.factor()?);
        }
        let argument = match factors.len() {
            0 => return Err("a function without its argument".to_owned()),
            1 => factors.remove(0),
            _ => Expr::Product(factors),
        };
        Ok(if negative { Expr::Negative(Box::new(argument)) } else { argument })
    }
}

fn prime(base: Expr) -> Result<Expr, String> {
    match base {
        Expr::Variable(name) => Ok(Expr::Variable(name + "'")),
        _ => Err("a prime that belongs to no name".to_owned()),
    }
}

/// The value of the function `name` at `x`; `base` is the base of a logarithm, where one is written.
fn apply(name: &str, base: Option<Expr>, x: Expr) -> Result<Expr, String> {
    let sin = |x: Expr| Expr::call(Function::Sin, x);
    let cos = |x: Expr| Expr::call(Function::Cos, x);
    let ln = |x: Expr| Expr::call(Function::Ln, x);
    let exp = |x: Expr, sign: i64| Expr::E.to(Expr::Product(vec![Expr::integer(sign), x]));
    let half = |a: Expr, b: Expr| Expr::Sum(vec![a, b]).over(Expr::integer(2));
    let minus = |x: Expr| Expr::Negative(Box::new(x));
    Ok(match name {
        "sin" => sin(x),
        "cos" => cos(x),
        "tan" => sin(x.clone()).over(cos(x)),
        "cot" => cos(x.clone()).over(sin(x)),
        "sec" => Expr::integer(1).over(cos(x)),
        "csc" => Expr::integer(1).over(sin(x)),
        "arcsin" => Expr::call(Function::Arcsin, x),
        "arccos" => Expr::call(Function::Arccos, x),
        "arctan" => Expr::call(Function::Arctan, x),
        "sinh" => half(exp(x.clone(), 1), minus(exp(x, -1))),
        "cosh" => half(exp(x.clone(), 1), exp(x, -1)),
        "tanh" => Expr::Sum(vec![exp(x.clone(), 1), minus(exp(x.clone(), -1))])
            .over(Expr::Sum(vec![exp(x.clone(), 1), exp(x, -1)])),
        "exp" => Expr::E.to(x),
        "ln" => ln(x),
        "log" => match base {
            Some(base) => ln(x).over(ln(base)),
            None => Expr::call(Function::Log10, x),
        },
        _ => return Err(format!("the function {name} is not read")),
    })
}
