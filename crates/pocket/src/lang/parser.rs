//! Tokens to the syntax tree, by recursive descent with bounded depth.
//!
//! Unsupported Python is recognised by its first word or sign, as distinct from syntax errors; what follows is not
//! read.

use super::Outcome;
use super::ast::{Expr, Function, Op, Program, Stmt};
use super::lexer::{Token, Tokens, lex};

mod expression;

/// Nesting of expressions and blocks. Each level is several calls deep.
const MAX_NESTING: usize = 60;

const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal",
    "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];
/// Keywords that begin an unsupported statement.
const UNSUPPORTED_STATEMENTS: [&str; 13] = [
    "import", "from", "class", "try", "with", "raise", "assert", "del", "global", "nonlocal", "async", "yield", "await",
];

enum Failure {
    Syntax(String),
    Unsupported(String),
}

type Parsed<T> = Result<T, Failure>;

/// The tree of a source text, or the outcome it ends with.
pub(super) fn parse(source: &str) -> Result<Program, Outcome> {
    let Tokens { tokens, unclosed } = lex(source)?;
    let mut parser = Parser { tokens, at: 0, nesting: 0, in_function: false, loops: 0, functions: Vec::new() };
    match parser.program() {
        Ok(body) => Ok(Program { functions: parser.functions, body }),
        Err(failure) => {
            let (token, line) = &parser.tokens[parser.at];
            Err(match (failure, unclosed) {
                // CPython blames the bracket if the error lies in a later line or at the end.
                (Failure::Syntax(_), Some(open)) if *line > open || *token == Token::End => {
                    Outcome::BracketOrLiteral(format!("a bracket was never closed (line {open})"))
                }
                (Failure::Unsupported(_), Some(open)) => {
                    Outcome::BracketOrLiteral(format!("a bracket was never closed (line {open})"))
                }
                (Failure::Syntax(message), _) => Outcome::OtherSyntax(format!("{message} (line {line})")),
                (Failure::Unsupported(what), None) => Outcome::Other(format!("{what} is not supported (line {line})")),
            })
        }
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    at: usize,
    nesting: usize,
    in_function: bool,
    loops: usize,
    functions: Vec<Function>,
}

fn syntax<T>(message: &str) -> Parsed<T> {
    Err(Failure::Syntax(message.to_owned()))
}

fn unsupported<T>(what: &str) -> Parsed<T> {
    Err(Failure::Unsupported(what.to_owned()))
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn advance(&mut self) {
        // The end token stays.
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    fn is_op(&self, op: &str) -> bool {
        matches!(self.peek(), Token::Op(o) if *o == op)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Token::Name(w) if w == word)
    }

    fn accept_op(&mut self, op: &str) -> bool {
        let found = self.is_op(op);
        if found {
            self.advance();
        }
        found
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.advance();
        }
        found
    }

    fn expect_op(&mut self, op: &str) -> Parsed<()> {
        if self.accept_op(op) { Ok(()) } else { syntax(&format!("expected '{op}'")) }
    }

    fn identifier(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Name(word) if !KEYWORDS.contains(&word.as_str()) => {
                let word = word.clone();
                self.advance();
                Ok(word)
            }
            _ => syntax("expected a name"),
        }
    }

    /// Runs a rule one level deeper.
    fn nested<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.nesting >= MAX_NESTING {
            return unsupported("nesting this deep");
        }
        self.nesting += 1;
        let result = rule(self);
        self.nesting -= 1;
        result
    }

    fn program(&mut self) -> Parsed<Vec<Stmt>> {
        let mut body = Vec::new();
        while *self.peek() != Token::End {
            self.statement(&mut body)?;
        }
        Ok(body)
    }

    fn block(&mut self) -> Parsed<Vec<Stmt>> {
        self.expect_op(":")?;
        let mut body = Vec::new();
        if *self.peek() != Token::Newline {
            self.simple_statements(&mut body)?;
            return Ok(body);
        }
        self.advance();
        if *self.peek() != Token::Indent {
            return syntax("expected an indented block");
        }
        self.advance();
        self.nested(|p| {
            while !matches!(p.peek(), Token::Dedent | Token::End) {
                p.statement(&mut body)?;
            }
            Ok(())
        })?;
        if *self.peek() == Token::Dedent {
            self.advance();
        }
        Ok(body)
    }

    fn statement(&mut self, body: &mut Vec<Stmt>) -> Parsed<()> {
        let Token::Name(word) = self.peek() else { return self.simple_statements(body) };
        let statement = match word.as_str() {
            "def" => self.function()?,
            "if" => self.branches()?,
            "while" => {
                self.advance();
                let condition = self.expression()?;
                Stmt::While(condition, self.loop_body()?)
            }
            "for" => {
                self.advance();
                let target = self.identifier()?;
                if self.is_op(",") {
                    return unsupported("a tuple");
                }
                if !self.accept_word("in") {
                    return syntax("expected 'in'");
                }
                let iterable = self.expression()?;
                Stmt::For(target, iterable, self.loop_body()?)
            }
            _ => return self.simple_statements(body),
        };
        body.push(statement);
        Ok(())
    }

    fn loop_body(&mut self) -> Parsed<Vec<Stmt>> {
        self.loops += 1;
        let body = self.block();
        self.loops -= 1;
        if self.is_word("else") {
            return unsupported("a loop's else");
        }
        body
    }

    fn function(&mut self) -> Parsed<Stmt> {
        self.advance();
        let name = self.identifier()?;
        self.expect_op("(")?;
        let mut parameters: Vec<String> = Vec::new();
        while !self.accept_op(")") {
            if self.is_op("*") || self.is_op("**") || self.is_op("/") {
                return unsupported("a special parameter");
            }
            let parameter = self.identifier()?;
            if parameters.contains(&parameter) {
                return syntax("duplicate parameter");
            }
            parameters.push(parameter);
            if self.is_op("=") || self.is_op(":") {
                self.advance();
                self.expression()?;
                return unsupported("a default or annotation");
            }
            if !self.is_op(")") {
                self.expect_op(",")?;
            }
        }
        if self.is_op("->") {
            return unsupported("an annotation");
        }
        if self.in_function {
            return unsupported("a function within a function");
        }
        let loops = std::mem::take(&mut self.loops);
        self.in_function = true;
        let body = self.block();
        self.in_function = false;
        self.loops = loops;
        let body = body?;
        let mut locals = parameters.clone();
        bound_names(&body, &mut locals);
        self.functions.push(Function { name, parameters, body, locals });
        Ok(Stmt::Def(self.functions.len() - 1))
    }

    fn branches(&mut self) -> Parsed<Stmt> {
        let mut branches = Vec::new();
        let mut otherwise = Vec::new();
        self.advance();
        loop {
            let condition = self.expression()?;
            branches.push((condition, self.block()?));
            if self.accept_word("elif") {
                continue;
            }
            if self.accept_word("else") {
                otherwise = self.block()?;
            }
            return Ok(Stmt::If(branches, otherwise));
        }
    }

    fn simple_statements(&mut self, body: &mut Vec<Stmt>) -> Parsed<()> {
        loop {
            body.push(self.simple_statement()?);
            let more = self.accept_op(";");
            if *self.peek() == Token::Newline {
                self.advance();
                return Ok(());
            }
            if !more {
                return syntax("invalid syntax");
            }
        }
    }

    fn simple_statement(&mut self) -> Parsed<Stmt> {
        if let Token::Name(word) = self.peek() {
            let word = word.clone();
            match word.as_str() {
                "pass" => {
                    self.advance();
                    return Ok(Stmt::Pass);
                }
                "break" | "continue" => {
                    if self.loops == 0 {
                        return syntax(&format!("'{word}' outside loop"));
                    }
                    self.advance();
                    return Ok(if word == "break" { Stmt::Break } else { Stmt::Continue });
                }
                "return" => {
                    if !self.in_function {
                        return syntax("'return' outside function");
                    }
                    self.advance();
                    let empty = *self.peek() == Token::Newline || self.is_op(";");
                    return Ok(Stmt::Return(if empty { None } else { Some(self.value()?) }));
                }
                word if UNSUPPORTED_STATEMENTS.contains(&word) => return unsupported(&format!("'{word}'")),
                _ => {}
            }
        }
        let start = self.at;
        let target = self.value()?;
        let augmented = match self.peek() {
            Token::Op("=") => None,
            Token::Op("+=") => Some(Op::Add),
            Token::Op("-=") => Some(Op::Sub),
            Token::Op("*=") => Some(Op::Mul),
            Token::Op("//=") => Some(Op::FloorDiv),
            Token::Op("%=") => Some(Op::Mod),
            Token::Op("**=") => Some(Op::Pow),
            Token::Op("/=" | "@=" | "&=" | "|=" | "^=" | ">>=" | "<<=") => return unsupported("this operator"),
            Token::Op(":") if matches!(target, Expr::Name(_)) => {
                self.advance();
                self.expression()?;
                return unsupported("an annotation");
            }
            _ => return Ok(Stmt::Expr(target)),
        };
        // A name in parentheses is a target too; any other expression is not.
        let Expr::Name(name) = target else {
            self.at = start;
            return syntax("cannot assign to expression");
        };
        self.advance();
        let value = self.value()?;
        if self.is_op("=") {
            return match (augmented, value) {
                (None, Expr::Name(_)) => unsupported("a chained assignment"),
                _ => syntax("cannot assign to expression"),
            };
        }
        Ok(match augmented {
            None => Stmt::Assign(name, value),
            Some(op) => Stmt::AugAssign(name, op, value),
        })
    }
}

fn bound_names(body: &[Stmt], names: &mut Vec<String>) {
    for statement in body {
        if let Stmt::Assign(name, _) | Stmt::AugAssign(name, _, _) | Stmt::For(name, _, _) = statement
            && !names.contains(name)
        {
            names.push(name.clone());
        }
        match statement {
            Stmt::For(_, _, inner) | Stmt::While(_, inner) => bound_names(inner, names),
            Stmt::If(branches, otherwise) => {
                for (_, inner) in branches {
                    bound_names(inner, names);
                }
                bound_names(otherwise, names);
            }
            _ => {}
        }
    }
}
