//! The smallest parts of a formula: numbers, names, brackets, fractions, roots.

use num_traits::Zero;

use super::Parser;
use crate::form::{Expr, Function};
use crate::token::{self, Kind};

/// Largest lower index of a binomial coefficient whose upper index has a variable.
const MAX_CHOOSE: u32 = 12;
/// Largest upper index of a binomial coefficient of numbers.
const MAX_UPPER: u32 = 1000;

impl Parser<'_> {
    pub(super) fn atom(&mut self) -> Result<Expr, String> {
        let Some(kind) = self.peek().cloned() else { return Err("something is missing".to_owned()) };
        let start = self.at;
        self.at += 1;
        match kind {
            Kind::Number { value, .. } => Ok(Expr::Number(value)),
            Kind::Letter(c) => self.variable(c.to_string()),
            Kind::Symbol('|') => self.absolute(),
            Kind::Symbol('(' | '[' | '{') => self.group(start),
            Kind::Symbol('⌊') => Ok(Expr::call(Function::Floor, self.group(start)?)),
            Kind::Symbol('⌈') => Ok(Expr::call(Function::Ceil, self.group(start)?)),
            Kind::Command(name) => self.command(name),
            _ => Err("a formula breaks off".to_owned()),
        }
    }

    fn command(&mut self, name: &'static str) -> Result<Expr, String> {
        match name {
            "pi" => Ok(Expr::Pi),
            "infty" => Ok(Expr::Infinity),
            "frac" => self.fraction(),
            "sqrt" => self.root(),
            "binom" => {
                let above = self.deeper(Self::atom)?;
                let below = self.deeper(Self::atom)?;
                choose(above, below)
            }
            "angle" | "triangle" => self.deeper(Self::atom),
            "overline" | "vec" => {
                let shape = if name == "vec" { "vec " } else { "overline " };
                let content = self.name_of_argument()?;
                self.variable(format!("{shape}{content}"))
            }
            _ if token::is_function(name) => self.call(name),
            _ if token::is_name(name) => self.variable(name.to_owned()),
            _ => Err(format!("\\{name} where a formula should be")),
        }
    }

    /// The bracket that opens at `start`.
    fn group(&mut self, start: usize) -> Result<Expr, String> {
        let close = self.partner[start];
        if close >= self.end {
            return Err("a bracket is not closed".to_owned());
        }
        let (end, bars) = (self.end, self.bars);
        (self.end, self.bars) = (close, 0);
        let result = self.deeper(Parser::sum_or_choose);
        let rest = self.at;
        (self.end, self.bars) = (end, bars);
        let expr = result?;
        if rest != close {
            return Err("a formula goes on where it should end".to_owned());
        }
        self.at = close + 1;
        Ok(expr)
    }

    fn sum_or_choose(&mut self) -> Result<Expr, String> {
        let above = self.sum()?;
        if !self.is_command("choose") {
            return Ok(above);
        }
        self.at += 1;
        let below = self.sum()?;
        choose(above, below)
    }

    fn absolute(&mut self) -> Result<Expr, String> {
        self.bars += 1;
        let inner = self.deeper(Parser::sum);
        self.bars -= 1;
        let inner = inner?;
        if self.eat('|') { Ok(Expr::call(Function::Abs, inner)) } else { Err("a bar is not closed".to_owned()) }
    }

    /// The numerator and denominator after `\frac`; the numerator of `\frac12` has one digit.
    fn fraction(&mut self) -> Result<Expr, String> {
        if let Some(Kind::Number { value, places }) = self.peek().cloned() {
            let digits = value.to_string();
            if places.is_none() && value.is_integer() && digits.len() > 1 {
                self.at += 1;
                let (above, below) = digits.split_at(1);
                let number = |digits: &str| digits.parse::<num_bigint::BigInt>().map(|n| Expr::Number(n.into()));
                return match (number(above), number(below)) {
                    (Ok(above), Ok(below)) => Ok(above.over(below)),
                    _ => Err("a fraction is not read".to_owned()),
                };
            }
        }
        let above = self.deeper(Self::atom)?;
        let below = self.deeper(Self::atom)?;
        Ok(above.over(below))
    }

    /// `\sqrt[index]{radicand}`.
    fn root(&mut self) -> Result<Expr, String> {
        let mut index = Expr::integer(2);
        if self.is_symbol('[') {
            let start = self.at;
            self.at += 1;
            index = self.group(start)?;
        }
        let radicand = self.deeper(Self::atom)?;
        Ok(Expr::Root(Box::new(radicand), Box::new(index)))
    }

    /// A variable with its index, or the constant that a letter stands for.
    fn variable(&mut self, mut name: String) -> Result<Expr, String> {
        if self.eat('_') {
            name.push('_');
            name.push_str(&self.name_of_argument()?);
            return Ok(Expr::Variable(name));
        }
        Ok(match name.as_str() {
            "e" => Expr::E,
            "i" => Expr::I,
            _ => Expr::Variable(name),
        })
    }

    /// The tokens of an argument as part of a name.
    fn name_of_argument(&mut self) -> Result<String, String> {
        let start = self.at;
        if self.at >= self.end {
            return Err("a name is missing".to_owned());
        }
        let braced = self.is_symbol('{');
        let (from, to) = if braced { (start + 1, self.partner[start]) } else { (start, start + 1) };
        let mut name = String::new();
        for token in &self.tokens[from..to] {
            match &token.kind {
                Kind::Number { value, .. } => name.push_str(&value.to_string()),
                Kind::Letter(c) => name.push(*c),
                Kind::Text(text) => name.push_str(text),
                Kind::Command(command) => name.push_str(command),
                Kind::Symbol(c @ ('+' | '-' | '\'' | '*')) => name.push(*c),
                _ => return Err("a name with more than letters and digits".to_owned()),
            }
        }
        self.at = if braced { to + 1 } else { to };
        Ok(name)
    }
}

/// A binomial coefficient by its definition: k factors over k!.
fn choose(above: Expr, below: Expr) -> Result<Expr, String> {
    if let (Expr::Number(n), Expr::Number(k)) = (&above, &below)
        && n.is_integer()
        && k.is_integer()
        && *n >= Zero::zero()
        && *k >= Zero::zero()
    {
        let most = num_bigint::BigInt::from(MAX_UPPER);
        if n.to_integer() > most {
            return Err("a binomial coefficient is too large".to_owned());
        }
        let value = num_integer::binomial(n.to_integer(), k.to_integer().min(most));
        return Ok(Expr::Number(value.into()));
    }
    let Expr::Number(k) = &below else { return Err("a binomial coefficient of variables is not read".to_owned()) };
    let Some(k) = (0..=MAX_CHOOSE).find(|small| *k == num_bigint::BigInt::from(*small).into()) else {
        return Err("a binomial coefficient is too large".to_owned());
    };
    let factors = (0..k)
        .map(|i| Expr::Sum(vec![above.clone(), Expr::integer(-i64::from(i))]))
        .chain([Expr::integer(1)])
        .collect();
    Ok(Expr::Product(factors).over(Expr::call(Function::Factorial, below)))
}
