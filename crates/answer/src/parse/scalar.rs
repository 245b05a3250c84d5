//! A formula together with its percent sign, unit or base, and with plus-minus signs.

use super::Parser;
use crate::form::{Expr, Form, Scalar};
use crate::token::{Kind, Token};
use crate::unit;
use num_traits::ToPrimitive;

impl Parser<'_> {
    /// A scalar, or two where it has a `±`.
    pub(super) fn scalar(&mut self, from: usize, to: usize) -> Result<Form, String> {
        let signs = |token: &Token| matches!(token.kind, Kind::Command("pm" | "mp"));
        if !self.tokens[from..to].iter().any(signs) {
            return Ok(Form::Scalar(self.one(from, to)?));
        }
        self.upper = true;
        let upper = self.one(from, to)?;
        self.upper = false;
        let lower = self.one(from, to);
        self.upper = true;
        Ok(Form::List { items: vec![Form::Scalar(upper), Form::Scalar(lower?)], and: true })
    }

    fn one(&mut self, from: usize, mut to: usize) -> Result<Scalar, String> {
        let unit = self.unit(from, to)?.map(|(at, unit)| {
            to = at;
            unit
        });
        let percent = to > from + 1 && self.kind(to - 1) == Some(&Kind::Symbol('%'));
        if percent {
            to -= 1;
        }
        if let Some((digits, base)) = self.based(from, to) {
            return Ok(Scalar { base: Some(base), ..Scalar::plain(digits) });
        }
        let mut without_letter = None;
        if let [.., Token { kind: Kind::Number { .. }, .. }, Token { kind: Kind::Letter(c), spaced: true }] =
            &self.tokens[from..to]
            && unit::is_letter(*c)
        {
            without_letter = Some(self.formula(from, to - 1)?);
        }
        let degrees = self.tokens[from..to].iter().any(|token| token.kind == Kind::Command("circ"));
        let expr = self.formula(from, to)?;
        let expr = match unit.as_deref().and_then(unit::power_of_ten) {
            Some(power) => Expr::Product(vec![expr, Expr::integer(10).to(Expr::integer(power.into()))]),
            None => expr,
        };
        let places = match &self.tokens[from..to] {
            [Token { kind: Kind::Number { places, .. }, .. }]
            | [Token { kind: Kind::Symbol('-' | '+'), .. }, Token { kind: Kind::Number { places, .. }, .. }] => *places,
            _ => None,
        };
        let mut calls = false;
        expr.walk(&mut |inner| calls |= matches!(inner, Expr::Call(..)));
        if unit.as_deref().is_some_and(unit::is_condition) {
            return Err("a condition after a formula".to_owned());
        }
        // A word after a number is its unit; after a variable it may be a condition.
        if unit.as_ref().is_some_and(|unit| !unit::is_known(unit)) && !expr.variables().is_empty() {
            return Err("prose after a formula".to_owned());
        }
        let unit = if degrees && !calls { Some(unit::DEGREE.to_owned()) } else { unit };
        Ok(Scalar { expr, places, percent, unit, base: None, without_letter })
    }

    /// A formula that fills `from..to`.
    pub(super) fn formula(&mut self, from: usize, to: usize) -> Result<Expr, String> {
        if from >= to {
            return Err("something is missing".to_owned());
        }
        let functions = ["sin", "cos", "tan", "cot", "sec", "csc"];
        let angle = |token: &Token| matches!(token.kind, Kind::Command(name) if functions.contains(&name));
        // The degrees of an angle that a function takes are a factor; others are a unit.
        let plain = !self.tokens[from..to].iter().any(angle);
        let outer = (self.at, self.end, self.bars, self.plain);
        (self.at, self.end, self.bars, self.plain) = (from, to, 0, plain);
        let result = self.deeper(Parser::sum);
        let rest = self.at;
        (self.at, self.end, self.bars, self.plain) = outer;
        let expr = result?;
        if rest == to { Ok(expr) } else { Err("a formula goes on where it should end".to_owned()) }
    }

    /// The unit at the end, and where it begins.
    fn unit(&self, from: usize, to: usize) -> Result<Option<(usize, String)>, String> {
        let texts = self.top_level(from, to, |kind| matches!(kind, Kind::Text(_)));
        let Some(start) = texts.first().copied() else { return Ok(None) };
        if start == from {
            return Err("prose before a formula".to_owned());
        }
        let mut unit = String::new();
        for token in &self.tokens[start..to] {
            match &token.kind {
                Kind::Text(text) => {
                    if !unit.is_empty() && !unit.ends_with('/') {
                        unit.push(' ');
                    }
                    unit.push_str(text);
                }
                Kind::Number { value, .. } if unit.ends_with('^') => unit.push_str(&value.to_string()),
                Kind::Symbol(c @ ('^' | '/')) => unit.push(*c),
                Kind::Symbol('{' | '}' | '.') => {}
                Kind::Letter(c) if unit.ends_with('/') => unit.push(*c),
                _ => return Err("prose inside a formula".to_owned()),
            }
        }
        Ok(Some((start, unit)))
    }

    /// `1011_2`, `52_{8}`: digits and base.
    fn based(&self, from: usize, to: usize) -> Option<(Expr, u32)> {
        let kinds: Vec<&Kind> = self.tokens[from..to].iter().take(6).map(|token| &token.kind).collect();
        let (digits, base) = match kinds[..] {
            [digits, Kind::Symbol('_'), base]
            | [digits, Kind::Symbol('_'), Kind::Symbol('{'), base, Kind::Symbol('}')] => (digits, base),
            _ => return None,
        };
        match (digits, base) {
            (Kind::Number { value, places: None }, Kind::Number { value: base, places: None }) => {
                let base = base.is_integer().then(|| base.to_integer().to_u32()).flatten()?;
                (2..=36).contains(&base).then(|| (Expr::Number(value.clone()), base))
            }
            _ => None,
        }
    }
}
