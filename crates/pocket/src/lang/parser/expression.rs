//! The rules of expressions, loosest binding first, named as in Python's grammar.

use super::super::ast::{Cmp, Expr, Op};
use super::super::lexer::Token;
use super::{KEYWORDS, Parsed, Parser, syntax, unsupported};

impl Parser {
    /// An expression where Python would also take several with commas between.
    pub(super) fn value(&mut self) -> Parsed<Expr> {
        let value = self.expression()?;
        if self.is_op(",") { unsupported("a tuple") } else { Ok(value) }
    }

    pub(super) fn expression(&mut self) -> Parsed<Expr> {
        self.nested(|p| {
            if p.is_word("lambda") {
                return unsupported("'lambda'");
            }
            let value = p.disjunction()?;
            if !p.accept_word("if") {
                return Ok(value);
            }
            let condition = p.disjunction()?;
            if !p.accept_word("else") {
                return syntax("expected 'else' after 'if' expression");
            }
            let otherwise = p.expression()?;
            Ok(Expr::Conditional(Box::new(condition), Box::new(value), Box::new(otherwise)))
        })
    }

    fn disjunction(&mut self) -> Parsed<Expr> {
        let mut left = self.conjunction()?;
        while self.accept_word("or") {
            left = Expr::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Parsed<Expr> {
        let mut left = self.inversion()?;
        while self.accept_word("and") {
            left = Expr::And(Box::new(left), Box::new(self.inversion()?));
        }
        Ok(left)
    }

    fn inversion(&mut self) -> Parsed<Expr> {
        if self.accept_word("not") {
            return self.nested(|p| Ok(Expr::Not(Box::new(p.inversion()?))));
        }
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let cmp = match self.peek() {
                Token::Op("<") => Cmp::Lt,
                Token::Op("<=") => Cmp::Le,
                Token::Op(">") => Cmp::Gt,
                Token::Op(">=") => Cmp::Ge,
                Token::Op("==") => Cmp::Eq,
                Token::Op("!=") => Cmp::Ne,
                Token::Op("&" | "|" | "^" | ">>" | "<<") => return unsupported("this operator"),
                Token::Name(word) if matches!(word.as_str(), "in" | "is" | "not") => {
                    return unsupported(&format!("'{word}'"));
                }
                _ => break,
            };
            self.advance();
            rest.push((cmp, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Parsed<Expr> {
        let mut left = self.term()?;
        loop {
            let op = match self.peek() {
                Token::Op("+") => Op::Add,
                Token::Op("-") => Op::Sub,
                _ => return Ok(left),
            };
            self.advance();
            left = Expr::Binary(op, Box::new(left), Box::new(self.term()?));
        }
    }

    fn term(&mut self) -> Parsed<Expr> {
        let mut left = self.factor()?;
        loop {
            let op = match self.peek() {
                Token::Op("*") => Op::Mul,
                Token::Op("//") => Op::FloorDiv,
                Token::Op("%") => Op::Mod,
                Token::Op("/" | "@") => return unsupported("this operator"),
                _ => return Ok(left),
            };
            self.advance();
            left = Expr::Binary(op, Box::new(left), Box::new(self.factor()?));
        }
    }

    fn factor(&mut self) -> Parsed<Expr> {
        if self.accept_op("-") {
            return self.nested(|p| Ok(Expr::Negate(Box::new(p.factor()?))));
        }
        if self.accept_op("+") {
            return self.nested(|p| Ok(Expr::Plus(Box::new(p.factor()?))));
        }
        if self.is_op("~") {
            return unsupported("this operator");
        }
        let base = self.primary()?;
        if self.accept_op("**") {
            let exponent = self.nested(Self::factor)?;
            return Ok(Expr::Binary(Op::Pow, Box::new(base), Box::new(exponent)));
        }
        Ok(base)
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let mut value = self.atom()?;
        loop {
            if self.is_op(".") || self.is_op("[") {
                return unsupported("an attribute or index");
            }
            if !self.accept_op("(") {
                return Ok(value);
            }
            let mut args = Vec::new();
            while !self.accept_op(")") {
                if self.is_op("*") || self.is_op("**") {
                    return unsupported("an unpacked argument");
                }
                args.push(self.expression()?);
                if self.is_op("=") || self.is_op(":=") || self.is_word("for") {
                    return unsupported("a named argument or comprehension");
                }
                if !self.is_op(")") {
                    self.expect_op(",")?;
                }
            }
            value = Expr::Call(Box::new(value), args);
        }
    }

    fn atom(&mut self) -> Parsed<Expr> {
        let expr = match self.peek() {
            Token::Int(value) => Expr::Int(*value),
            Token::Str => Expr::Str,
            Token::UnsupportedNumber => return unsupported("this number"),
            Token::Op("[" | "{") => return unsupported("a collection"),
            Token::Op("...") => return unsupported("an ellipsis"),
            Token::Op("(") => {
                self.advance();
                if self.is_op(")") {
                    return unsupported("a tuple");
                }
                let value = self.expression()?;
                if self.is_op(",") || self.is_op(":=") || self.is_word("for") {
                    return unsupported("a tuple or comprehension");
                }
                self.expect_op(")")?;
                return Ok(value);
            }
            Token::Name(word) => match word.as_str() {
                "True" => Expr::Bool(true),
                "False" => Expr::Bool(false),
                "None" => Expr::None,
                "await" | "yield" | "lambda" => return unsupported("this keyword"),
                word if KEYWORDS.contains(&word) => return syntax("invalid syntax"),
                word => Expr::Name(word.to_owned()),
            },
            _ => return syntax("invalid syntax"),
        };
        self.advance();
        // Literals side by side are one in Python.
        while matches!(expr, Expr::Str) && *self.peek() == Token::Str {
            self.advance();
        }
        Ok(expr)
    }
}
