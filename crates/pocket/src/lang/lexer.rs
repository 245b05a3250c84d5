//! Source text to tokens, with Python's indentation, line joining in brackets, and the errors of CPython's tokenizer.
//! As in CPython, these take precedence over errors of the parser, so the whole text is read first.

use super::Outcome;

/// The longest source that is read, in bytes.
const MAX_SOURCE: usize = 1 << 14;
/// The most tokens; bounds the depth of the tree too.
const MAX_TOKENS: usize = 4000;
/// CPython's own limits.
const MAX_INDENTS: usize = 99;
const MAX_BRACKETS: usize = 199;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    Name(String),
    Int(i64),
    Str,
    /// A number that is not supported: a float, complex, not decimal, or beyond 64 bits.
    UnsupportedNumber,
    Op(&'static str),
    Newline,
    Indent,
    Dedent,
    End,
}

#[derive(Debug)]
pub(super) struct Tokens {
    /// Tokens with their lines; the last one is [`Token::End`].
    pub tokens: Vec<(Token, usize)>,
    /// The line of the innermost bracket that is never closed.
    pub unclosed: Option<usize>,
}

/// Longest first.
const OPERATORS: [&str; 47] = [
    "**=", "//=", ">>=", "<<=", "...", "**", "//", ">>", "<<", "<=", ">=", "==", "!=", "->", "+=", "-=", "*=", "/=",
    "%=", "&=", "|=", "^=", "@=", ":=", "+", "-", "*", "/", "%", "@", "&", "|", "^", "~", "<", "=", ">", "(", ")", "[",
    "]", "{", "}", ",", ":", ".", ";",
];

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    tokens: Vec<(Token, usize)>,
    indents: Vec<usize>,
    /// Expected closing bracket and the line of the opening one.
    brackets: Vec<(char, usize)>,
}

pub(super) fn lex(source: &str) -> Result<Tokens, Outcome> {
    if source.len() > MAX_SOURCE {
        return Err(Outcome::Other("the source is too long".to_owned()));
    }
    if source.contains('\0') {
        return Err(Outcome::Other("the source has a null byte".to_owned()));
    }
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut lexer =
        Lexer { source: &source, at: 0, line: 1, tokens: Vec::new(), indents: vec![0], brackets: Vec::new() };
    lexer.run()?;
    Ok(Tokens { unclosed: lexer.brackets.last().map(|b| b.1), tokens: lexer.tokens })
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn push(&mut self, token: Token) -> Result<(), Outcome> {
        if self.tokens.len() >= MAX_TOKENS {
            return Err(Outcome::Other("the source has too many tokens".to_owned()));
        }
        self.tokens.push((token, self.line));
        Ok(())
    }

    fn syntax(&self, message: &str) -> Outcome {
        Outcome::OtherSyntax(format!("{message} (line {})", self.line))
    }

    fn bracket(&self, message: &str) -> Outcome {
        Outcome::BracketOrLiteral(format!("{message} (line {})", self.line))
    }

    fn run(&mut self) -> Result<(), Outcome> {
        let mut line_start = true;
        while let Some(c) = self.peek() {
            if line_start {
                line_start = false;
                if self.indentation()? {
                    line_start = true;
                    continue;
                }
                if self.peek().is_none() {
                    break;
                }
                continue;
            }
            match c {
                ' ' | '\t' | '\x0c' => self.at += 1,
                '#' => self.skip_comment(),
                '\n' => {
                    if self.brackets.is_empty() {
                        self.push(Token::Newline)?;
                        line_start = true;
                    }
                    self.at += 1;
                    self.line += 1;
                }
                '\\' => {
                    if !self.rest()[1..].starts_with('\n') {
                        return Err(self.syntax("unexpected character after line continuation"));
                    }
                    self.at += 2;
                    self.line += 1;
                }
                '"' | '\'' => self.string(c)?,
                '0'..='9' => self.number()?,
                c if c == '_' || c.is_alphabetic() => self.word()?,
                '.' if self.rest()[1..].starts_with(|d: char| d.is_ascii_digit()) => {
                    self.at += 1;
                    self.digits();
                    self.push(Token::UnsupportedNumber)?;
                }
                _ => self.operator()?,
            }
        }
        if self.tokens.last().is_some_and(|(t, _)| !matches!(t, Token::Newline | Token::Dedent))
            && self.brackets.is_empty()
        {
            self.push(Token::Newline)?;
        }
        // Within an open bracket there is no indentation: the end of the text is the error.
        while self.brackets.is_empty() && self.indents.pop().is_some_and(|i| i > 0) {
            self.push(Token::Dedent)?;
        }
        self.push(Token::End)
    }

    fn skip_comment(&mut self) {
        self.at += self.rest().find('\n').unwrap_or(self.rest().len());
    }

    /// Reads the indentation of a line. True if the line is empty and was skipped.
    fn indentation(&mut self) -> Result<bool, Outcome> {
        let mut width = 0;
        while let Some(c) = self.peek() {
            width = match c {
                ' ' => width + 1,
                '\t' => (width / 8 + 1) * 8,
                '\x0c' => 0,
                _ => break,
            };
            self.at += 1;
        }
        match self.peek() {
            None => return Ok(false),
            Some('#') => {
                self.skip_comment();
                if self.peek().is_some() {
                    self.at += 1;
                    self.line += 1;
                }
                return Ok(true);
            }
            Some('\n') => {
                self.at += 1;
                self.line += 1;
                return Ok(true);
            }
            Some(_) => {}
        }
        let current = self.indents.last().copied().unwrap_or(0);
        if width > current {
            if self.indents.len() > MAX_INDENTS {
                return Err(self.syntax("too many levels of indentation"));
            }
            self.indents.push(width);
            self.push(Token::Indent)?;
        }
        while self.indents.last().is_some_and(|i| *i > width) {
            self.indents.pop();
            self.push(Token::Dedent)?;
        }
        if self.indents.last() != Some(&width) {
            return Err(self.syntax("unindent does not match any outer indentation level"));
        }
        Ok(false)
    }

    /// A string literal, whose content is not needed.
    fn string(&mut self, quote: char) -> Result<(), Outcome> {
        let triple: String = [quote; 3].iter().collect();
        let long = self.rest().starts_with(&triple);
        self.at += if long { 3 } else { 1 };
        loop {
            if long && self.rest().starts_with(&triple) {
                self.at += 3;
                break;
            }
            match self.peek() {
                None => return Err(self.bracket("unterminated string literal")),
                Some('\n') if !long => return Err(self.bracket("unterminated string literal")),
                Some(c) if c == quote && !long => {
                    self.at += 1;
                    break;
                }
                Some(c) => {
                    let escaped = if c == '\\' { self.rest()[1..].chars().next() } else { None };
                    self.line += usize::from(c == '\n') + usize::from(escaped == Some('\n'));
                    self.at += c.len_utf8() + escaped.map_or(0, char::len_utf8);
                }
            }
        }
        self.push(Token::Str)
    }

    fn digits(&mut self) -> &str {
        let start = self.at;
        self.at += self.rest().find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(self.rest().len());
        &self.source[start..self.at]
    }

    fn number(&mut self) -> Result<(), Outcome> {
        let prefix = self.rest().as_bytes().get(..2).unwrap_or_default();
        if matches!(prefix, b"0x" | b"0X" | b"0b" | b"0B" | b"0o" | b"0O") {
            self.at += self.rest().find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(self.rest().len());
            return self.push(Token::UnsupportedNumber);
        }
        let digits = self.digits().to_owned();
        if digits.ends_with('_') || digits.contains("__") {
            return Err(self.syntax("invalid decimal literal"));
        }
        let mut foreign = false;
        if self.peek() == Some('.') {
            self.at += 1;
            self.digits();
            foreign = true;
        }
        let exponent = self.rest().trim_start_matches(['e', 'E']);
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        if self.rest().starts_with(['e', 'E']) && exponent.starts_with(|c: char| c.is_ascii_digit()) {
            self.at = self.source.len() - exponent.len();
            self.digits();
            foreign = true;
        }
        if self.rest().starts_with(['j', 'J']) {
            self.at += 1;
            foreign = true;
        }
        // CPython takes `1if x else 2`; any other letter after a number is an error.
        let keyword = ["and", "else", "for", "if", "in", "is", "not", "or"];
        if self.peek().is_some_and(|c| c == '_' || c.is_alphabetic())
            && !keyword.iter().any(|k| self.rest().starts_with(k))
        {
            return Err(self.syntax("invalid decimal literal"));
        }
        if foreign {
            return self.push(Token::UnsupportedNumber);
        }
        let digits = digits.replace('_', "");
        if digits.starts_with('0') && digits.bytes().any(|b| b != b'0') {
            return Err(self.syntax("leading zeros in decimal integer literals are not permitted"));
        }
        match digits.parse() {
            Ok(value) => self.push(Token::Int(value)),
            Err(_) => self.push(Token::UnsupportedNumber),
        }
    }

    fn word(&mut self) -> Result<(), Outcome> {
        let start = self.at;
        self.at += self.rest().find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(self.rest().len());
        let word = self.source[start..self.at].to_owned();
        let prefix = matches!(word.to_ascii_lowercase().as_str(), "r" | "u" | "b" | "f" | "br" | "rb" | "fr" | "rf");
        match self.peek() {
            Some(quote @ ('"' | '\'')) if prefix => self.string(quote),
            _ => self.push(Token::Name(word)),
        }
    }

    fn operator(&mut self) -> Result<(), Outcome> {
        let Some(operator) = OPERATORS.into_iter().find(|o| self.rest().starts_with(o)) else {
            return Err(self.syntax("invalid character"));
        };
        match operator {
            "(" | "[" | "{" => {
                if self.brackets.len() > MAX_BRACKETS {
                    return Err(self.syntax("too many nested parentheses"));
                }
                let close = match operator {
                    "(" => ')',
                    "[" => ']',
                    _ => '}',
                };
                self.brackets.push((close, self.line));
            }
            ")" | "]" | "}" => match self.brackets.pop() {
                Some((close, _)) if operator.starts_with(close) => {}
                Some(_) => return Err(self.bracket("a closing bracket does not match its opening one")),
                None => return Err(self.bracket("a closing bracket has no opening one")),
            },
            _ => {}
        }
        self.at += operator.len();
        self.push(Token::Op(operator))
    }
}
