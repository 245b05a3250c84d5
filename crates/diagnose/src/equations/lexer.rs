//! Splits text into the tokens of equations: numbers, operators, brackets, equals signs, words (which may be units),
//! and marks at which an equation ends.

use num_bigint::BigInt;

use super::BigRational;

/// Longest annotation, in bytes.
const MAX_ANNOTATION: usize = 400;
/// Most digits of a number that is read.
const MAX_DIGITS: usize = 24;
/// Most LaTeX commands of one kind that are replaced; each is a pass over the text.
const MAX_COMMANDS: usize = 500;
/// Words that are not units: a computation ends at them.
const NOT_UNITS: [&str; 24] = [
    "a", "and", "or", "so", "then", "is", "are", "was", "were", "be", "if", "because", "since", "which", "that",
    "than", "there", "to", "from", "we", "he", "she", "they", "gives",
];

/// Words that continue a unit of several words.
const UNIT_CONTINUATIONS: [&str; 8] = ["of", "per", "in", "a", "an", "the", "for", "that"];

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub kind: TokenKind,
    /// Byte range in the text.
    pub start: usize,
    pub end: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum TokenKind {
    Number {
        value: BigRational,
        /// Digits after the point.
        decimals: u32,
        percent: bool,
    },
    /// One of `+ - * /`.
    Operator(char),
    Open,
    Close,
    Equals,
    /// A word that may be a unit.
    Word,
    /// "of" after a number: a multiplication, where the number is a fraction.
    Of,
    /// Makes an expression next to it unreadable: a letter for an unknown, a power.
    Unknown,
    /// The end of a sentence, line or list item.
    Stop,
}

/// Replaces LaTeX commands of arithmetic by plain signs; other commands and braces stay.
pub(super) fn without_latex(text: &str) -> String {
    let mut text = text.replace("\\times", "*").replace("\\cdot", "*").replace("\\div", "/");
    for (command, sign) in [("\\$", "$"), ("\\%", "%"), ("\\(", " "), ("\\)", " "), ("\\[", "\n"), ("\\]", "\n")] {
        text = text.replace(command, sign);
    }
    for command in ["\\frac", "\\dfrac", "\\tfrac"] {
        for _ in 0..MAX_COMMANDS {
            let Some(at) = text.find(&format!("{command}{{")) else { break };
            let Some((numerator, denominator, end)) = fraction(&text[at + command.len()..]) else { break };
            let spelt = format!("(({numerator})/({denominator}))");
            text.replace_range(at..at + command.len() + end, &spelt);
        }
    }
    for _ in 0..MAX_COMMANDS {
        let Some(at) = text.find("\\text{") else { break };
        let Some(close) = text[at..].find('}') else { break };
        let inner = text[at + 6..at + close].to_owned();
        text.replace_range(at..=at + close, &format!(" {inner} "));
    }
    text
}

/// The two arguments of a fraction that hold no braces, and the length of all.
fn fraction(text: &str) -> Option<(&str, &str, usize)> {
    let (numerator, rest) = text.strip_prefix('{')?.split_once('}')?;
    let (denominator, _) = rest.strip_prefix('{')?.split_once('}')?;
    let simple = |part: &str| !part.contains(['{', '\\']);
    let end = numerator.len() + denominator.len() + 4;
    (simple(numerator) && simple(denominator)).then_some((numerator, denominator, end))
}

/// The text without its annotations `<<…>>`, and the content of each with its place in the remaining text.
pub(super) fn without_annotations(text: &str) -> (String, Vec<(usize, &str)>) {
    let (mut visible, mut annotations) = (String::with_capacity(text.len()), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        visible.push_str(before);
        // The search for its end is bounded, so that a text full of `<<` takes no longer.
        let near = &after[..after.floor_char_boundary(MAX_ANNOTATION)];
        match near.split_once(">>").filter(|(inner, _)| !inner.contains('\n')) {
            Some((inner, _)) => {
                annotations.push((visible.len(), inner));
                rest = &after[inner.len() + 2..];
            }
            None => rest = after,
        }
    }
    visible.push_str(rest);
    (visible, annotations)
}

pub(super) fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { text, at: 0, tokens: Vec::new() };
    while lexer.at < text.len() {
        lexer.step();
    }
    lexer.tokens
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    tokens: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: TokenKind, length: usize) {
        self.tokens.push(Token { kind, start: self.at, end: self.at + length });
        self.at += length;
    }

    fn step(&mut self) {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else { return };
        let digit_after = |skip: usize| rest[skip..].starts_with(|c: char| c.is_ascii_digit());
        match c {
            '\n' => self.push(TokenKind::Stop, 1),
            c if c.is_whitespace() => self.at += c.len_utf8(),
            '-' | '*' | '+' | '•' if self.begins_line() && rest[c.len_utf8()..].starts_with(' ') => {
                self.push(TokenKind::Stop, c.len_utf8());
            }
            '*' if rest.starts_with("**") => {
                // Emphasis around a result, or a power between two operands.
                let operand_follows = rest[2..].trim_start().starts_with(char::is_alphanumeric);
                match self.after_operand() && operand_follows {
                    true => self.push(TokenKind::Unknown, 2),
                    false => self.at += 2,
                }
            }
            '0'..='9' => self.number(),
            '.' if digit_after(1) && !self.after_operand() => self.number(),
            '$' | '€' | '£' | '¥' | '`' | '_' => self.at += c.len_utf8(),
            // `$20/hour`.
            '/' if self.after_operand() && rest[1..].starts_with(char::is_alphabetic) => {
                let length = 1 + rest[1..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - 1);
                self.push(TokenKind::Word, length);
            }
            '+' | '/' => self.push(TokenKind::Operator(c), 1),
            '-' | '\u{2212}' | '–' => self.push(TokenKind::Operator('-'), c.len_utf8()),
            '*' | '×' | '·' | '∙' | '⋅' => self.push(TokenKind::Operator('*'), c.len_utf8()),
            '÷' => self.push(TokenKind::Operator('/'), c.len_utf8()),
            '(' | '[' => self.push(TokenKind::Open, 1),
            ')' | ']' => self.push(TokenKind::Close, 1),
            '=' if rest.starts_with("==") || rest.starts_with("=>") => self.push(TokenKind::Stop, 2),
            '=' => self.push(TokenKind::Equals, 1),
            '.' | ',' | ';' | ':' | '!' | '?' | '"' | '≈' | '→' | '#' => self.push(TokenKind::Stop, c.len_utf8()),
            c if c.is_alphabetic() => self.word(),
            c => self.push(TokenKind::Unknown, c.len_utf8()),
        }
    }

    fn begins_line(&self) -> bool {
        self.text[..self.at].trim_end_matches([' ', '\t']).chars().next_back().is_none_or(|c| c == '\n')
    }

    fn after_operand(&self) -> bool {
        self.tokens.last().is_some_and(|token| matches!(token.kind, TokenKind::Number { .. } | TokenKind::Close))
    }

    fn number(&mut self) {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| bytes[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = digits(0);
        // Groups of three digits after a comma.
        while bytes.get(end) == Some(&b',') && digits(end + 1) == 3 && end > 0 {
            end += 4;
        }
        let mut decimals = 0;
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            decimals = digits(end + 1);
            end += 1 + decimals;
        }
        let written: String = self.rest()[..end].chars().filter(char::is_ascii_digit).collect();
        let item = decimals == 0 && self.begins_line() && matches!(bytes.get(end), Some(b'.' | b')'));
        // `0900` is a time of day, not a number.
        let padded = written.len() > 1 && written.starts_with('0') && bytes.get(1) != Some(&b'.');
        if item || padded || written.len() > MAX_DIGITS {
            // A list item's number, or a number that is not computed with.
            let kind = if item { TokenKind::Stop } else { TokenKind::Unknown };
            self.push(kind, end + usize::from(item));
            return;
        }
        let percent = bytes.get(end) == Some(&b'%');
        let whole: BigInt = written.parse().unwrap_or_default();
        let value = BigRational::new(whole, BigInt::from(10).pow(decimals as u32));
        let kind = TokenKind::Number { value, decimals: decimals as u32, percent };
        self.push(kind, end + usize::from(percent));
    }

    fn word(&mut self) {
        let rest = self.rest();
        let glued = self.tokens.last().is_some_and(|token| token.end == self.at);
        let inner = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '_');
        let end = rest.find(|c| !inner(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        let unit_before = self.tokens.last().is_some_and(|token| token.kind == TokenKind::Word);
        // Operators in words, where an operand follows: "10 plus 9 equals 19".
        let spoken = match word.to_lowercase().as_str() {
            "plus" => Some(TokenKind::Operator('+')),
            "minus" => Some(TokenKind::Operator('-')),
            "times" => Some(TokenKind::Operator('*')),
            "equals" => Some(TokenKind::Equals),
            _ => None,
        };
        let operand_follows =
            rest[end..].trim_start_matches([' ', '$', '.']).starts_with(|c: char| c.is_ascii_digit() || c == '(');
        if let Some(kind) = spoken.filter(|_| operand_follows && (self.after_operand() || unit_before)) {
            self.push(kind, end);
            return;
        }
        // `5 x 3`, `5x3`, `5 boxes x 3`: a multiplication sign between two operands.
        let times = self.after_operand() || unit_before && !glued && word.len() == 1;
        if times && (word.starts_with('x') || word.starts_with('X')) {
            let after = rest[1..].trim_start_matches([' ', '$']);
            if after.starts_with(|c: char| c.is_ascii_digit() || c == '(')
                && (word.len() == 1 || word[1..].bytes().all(|b| b.is_ascii_digit()))
            {
                self.push(TokenKind::Operator('*'), 1);
                return;
            }
        }
        // "miles/hour" is one unit.
        let mut length = end;
        while let Some(more) = rest[length..].strip_prefix('/').filter(|more| more.starts_with(char::is_alphabetic)) {
            length += 1 + more.find(|c| !inner(c)).unwrap_or(more.len());
        }
        let lower = word.to_lowercase();
        let kind = match lower.as_str() {
            "of" if self.after_operand() => TokenKind::Of,
            // Within a unit: "pieces of straw per cage".
            word if unit_before && UNIT_CONTINUATIONS.contains(&word) => TokenKind::Word,
            "of" => TokenKind::Stop,
            word if NOT_UNITS.contains(&word) && !(glued && word == "a") => TokenKind::Stop,
            // A letter for an unknown, `x2`, words run together with a number.
            word if word.chars().count() == 1 || word.ends_with(|c: char| c.is_ascii_digit()) => TokenKind::Unknown,
            _ => TokenKind::Word,
        };
        self.push(kind, length);
    }
}
