//! Splits the text of an answer into tokens.
//!
//! One pass, in time linear in the length: commands that are only typesetting are dropped, prose is told from formulas,
//! numbers are read ([`crate::number`]). LaTeX and plain notation are read alike, since models mix them: `\frac{1}{2}`,
//! `1/2`, `sqrt(2)`, `√2`, `x² ≤ 4`.

use crate::token::{self, Kind, SET_CLOSE, SET_OPEN, Token};
use crate::{MAX_BYTES, number, unit};

/// Deepest `\text` inside `\text`.
const MAX_TEXT_DEPTH: usize = 4;

/// Commands that change only the appearance of what follows.
const INVISIBLE: &str = "left right mleft mright big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr \
    displaystyle textstyle scriptstyle limits nolimits quad qquad boxed fbox rm bf it mathstrut strut thinspace \
    negthinspace hline cdotp ensuremath";

/// Commands whose argument is prose or a symbol in another shape.
const SHAPES: &str = "text textbf textit textrm textnormal textsf texttt mbox hbox mathrm mathbf mathit mathsf mathtt \
    mathcal boldsymbol bm operatorname emph underline";

/// The tokens of `text`.
///
/// # Errors
/// The reason, when it is too long or holds characters or commands that are not read.
pub(crate) fn lex(text: &str) -> Result<Vec<Token>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("longer than {MAX_BYTES} bytes"));
    }
    let mut lexer = Lexer { text, at: 0, spaced: false, brackets: 0, depth: 0, out: Vec::new() };
    lexer.run()?;
    let mut tokens = lexer.out;
    // A full stop or comma after the answer belongs to the sentence around it.
    while tokens.last().is_some_and(|last| matches!(last.kind, Kind::Symbol('.' | ',' | ';'))) {
        tokens.pop();
    }
    Ok(tokens)
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    spaced: bool,
    /// Open visible brackets, within which a comma separates entries rather than thousands.
    brackets: usize,
    depth: usize,
    out: Vec<Token>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn push(&mut self, kind: Kind) {
        self.out.push(Token { kind, spaced: self.spaced });
        self.spaced = false;
    }

    fn symbol(&mut self, c: char) {
        match c {
            '(' | '[' | SET_OPEN | '⟨' => self.brackets += 1,
            ')' | ']' | SET_CLOSE | '⟩' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        self.push(Kind::Symbol(c));
    }

    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest().chars().next() {
            let mark = self.rest();
            if let Some((time, end)) = clock_time(self.text, self.at) {
                self.at = end;
                self.push(Kind::Text(time));
                continue;
            }
            if let Some(written) = number::read(self.text, self.at, self.brackets == 0)? {
                self.at = written.end;
                self.push(Kind::Number { value: written.value, places: written.places });
                continue;
            }
            self.at += c.len_utf8();
            match c {
                _ if c.is_whitespace() => self.spaced = true,
                '\\' => self.command()?,
                '~' => self.spaced = true,
                '$' | '£' | '€' | '¥' | '₹' | '"' => {}
                '*' if mark.starts_with("**") => {
                    self.at += 1;
                    self.symbol('^');
                }
                '<' | '>' | '!' | '=' | '+' => self.operator(c),
                '-' | '/' | '^' | '_' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '*' | ',' | ';' | ':' | '&' | '%'
                | '\'' | '.' => self.symbol(c),
                _ if c.is_alphabetic() && token::spelt(c).is_none() => self.word(mark),
                _ => self.other(c)?,
            }
        }
        Ok(())
    }

    /// Operators that may be written with two characters.
    fn operator(&mut self, c: char) {
        let pair = [("<=", "le"), (">=", "ge"), ("!=", "ne"), ("=>", "implies"), ("+-", "pm"), ("==", "=")];
        let mark = &self.text[self.at - 1..];
        match pair.iter().find(|(written, _)| mark.starts_with(written)) {
            Some((_, "=")) => {
                self.at += 1;
                self.symbol('=');
            }
            Some((_, name)) if *name != "pm" || mark[2..].starts_with(|next: char| next.is_ascii_digit()) => {
                self.at += 1;
                self.push(Kind::Command(name));
            }
            _ => self.symbol(c),
        }
    }

    fn other(&mut self, c: char) -> Result<(), String> {
        if let Some(digit) = token::superscript(c) {
            self.symbol('^');
            self.push(Kind::Number { value: num_bigint::BigInt::from(digit).into(), places: None });
        } else if let Some(kind) = token::spelt(c) {
            match kind {
                Kind::Symbol(symbol) => self.symbol(symbol),
                kind => self.push(kind),
            }
        } else if c == '\u{200b}' || c == '\u{2061}' || c == '\u{2062}' {
            // Invisible characters that some renderers put between factors.
        } else {
            return Err(format!("the character {c:?} is not read"));
        }
        Ok(())
    }

    /// A run of letters: a name, prose, or a product of variables.
    fn word(&mut self, mark: &'a str) {
        let end = mark.find(|c: char| !c.is_alphabetic() || token::spelt(c).is_some()).unwrap_or(mark.len());
        let word = &mark[..end];
        let start = self.at - word.chars().next().map_or(0, char::len_utf8);
        let lower = word.to_lowercase();
        self.at = start + end;
        let after_value = self.out.last().is_some_and(|last| match last.kind {
            Kind::Number { .. } => true,
            Kind::Symbol(c) => matches!(c, ')' | '}'),
            _ => false,
        });
        let letters = word.chars().count();
        match lower.as_str() {
            "and" | "or" => self.push(Kind::Separator { and: lower == "and" }),
            "percent" | "percentage" | "pct" => self.symbol('%'),
            _ if token::bare(word).is_some() => {
                if let Some(name) = token::bare(word) {
                    self.push(Kind::Command(name));
                }
            }
            _ if (letters >= 2 && after_value && unit::is_known(&lower))
                || (letters >= 4 && (self.spaced || self.out.is_empty() || !after_value)) =>
            {
                self.push(Kind::Text(lower));
            }
            _ => {
                for c in word.chars() {
                    self.push(Kind::Letter(c));
                }
            }
        }
    }

    /// What follows a backslash.
    fn command(&mut self) -> Result<(), String> {
        let rest = self.rest();
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        if letters == 0 {
            let Some(c) = rest.chars().next() else { return Ok(()) };
            self.at += c.len_utf8();
            match c {
                ',' | ';' | ':' | ' ' | '>' => self.spaced = true,
                '!' | '$' | '(' | ')' | '[' | ']' | '#' => {}
                '\\' => self.break_or_command(),
                '{' => self.symbol(SET_OPEN),
                '}' => self.symbol(SET_CLOSE),
                '%' | '&' => self.symbol(c),
                '|' => self.symbol('|'),
                _ if c.is_whitespace() => self.spaced = true,
                _ => return Err(format!("the command \\{c} is not read")),
            }
            return Ok(());
        }
        let name = &rest[..letters];
        self.at += letters;
        match name {
            "left" | "right" if self.rest().starts_with('.') => self.at += 1,
            "hspace" | "vspace" | "phantom" | "color" | "textcolor" => {
                self.argument();
            }
            "begin" | "end" => self.environment(name)?,
            "lbrace" => self.symbol(SET_OPEN),
            "rbrace" => self.symbol(SET_CLOSE),
            "lbrack" => self.symbol('['),
            "rbrack" => self.symbol(']'),
            "langle" => self.symbol('⟨'),
            "rangle" => self.symbol('⟩'),
            "lfloor" => self.symbol('⌊'),
            "rfloor" => self.symbol('⌋'),
            "lceil" => self.symbol('⌈'),
            "rceil" => self.symbol('⌉'),
            "lvert" | "rvert" | "vert" | "mid" | "Vert" | "lVert" | "rVert" => self.symbol('|'),
            "cdot" | "times" | "ast" => self.symbol('*'),
            "div" => self.symbol('/'),
            "colon" => self.symbol(':'),
            "lt" => self.symbol('<'),
            "gt" => self.symbol('>'),
            "ldots" | "dots" | "cdots" => return Err("an ellipsis is not read".to_owned()),
            "textdollar" | "pounds" => {}
            "percent" => self.symbol('%'),
            _ if token::is_listed(INVISIBLE, name) => {}
            _ if token::is_listed(SHAPES, name) => self.shape(name)?,
            _ => match token::command(name) {
                Some(known) => self.push(Kind::Command(known)),
                None => return Err(format!("the command \\{name} is not read")),
            },
        }
        Ok(())
    }

    /// `\\` before a letter is often a doubled backslash, as in `\\frac`; otherwise it ends a row of a matrix.
    fn break_or_command(&mut self) {
        let letters = self.rest().find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(self.rest().len());
        let name = &self.rest()[..letters];
        let doubled =
            token::command(name).is_some() || token::is_listed(SHAPES, name) || token::is_listed(INVISIBLE, name);
        let in_matrix = self.out.iter().any(|token| matches!(token.kind, Kind::Begin { .. }));
        if doubled && !in_matrix {
            self.at -= 1;
        } else {
            self.push(Kind::Row);
        }
    }

    /// Reads the content of the braces that follow; none without braces.
    fn argument(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let inner = rest.trim_start().strip_prefix('{')?;
        let start = self.at + rest.len() - rest.trim_start().len() + 1;
        let mut depth = 1usize;
        let mut escaped = false;
        for (i, c) in inner.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = start + i + 1;
                return Some(&inner[..i]);
            }
        }
        None
    }

    fn environment(&mut self, which: &str) -> Result<(), String> {
        let name = self.argument().unwrap_or_default().trim().trim_end_matches('*');
        match (which, name) {
            ("begin", "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "smallmatrix") => {
                self.brackets += 1;
                self.push(Kind::Begin { determinant: false });
            }
            ("begin", "vmatrix") => {
                self.brackets += 1;
                self.push(Kind::Begin { determinant: true });
            }
            ("begin", "array") => {
                self.brackets += 1;
                self.argument();
                self.push(Kind::Begin { determinant: false });
            }
            ("end", "matrix" | "pmatrix" | "bmatrix" | "Bmatrix" | "smallmatrix" | "vmatrix" | "array") => {
                self.brackets = self.brackets.saturating_sub(1);
                self.push(Kind::End);
            }
            _ => return Err("an environment other than a matrix is not read".to_owned()),
        }
        Ok(())
    }

    /// `\text{…}` and similar commands: prose, a unit, or a formula in another shape.
    fn shape(&mut self, name: &str) -> Result<(), String> {
        let Some(content) = self.argument() else {
            // `\mathrm x`: the shape of one letter.
            return Ok(());
        };
        let trimmed = content.trim();
        let word = trimmed.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_lowercase();
        if trimmed.is_empty() {
            self.spaced = true;
        } else if word == "and" || word == "or" {
            self.push(Kind::Separator { and: word == "and" });
        } else if matches!(word.as_str(), "percent" | "percentage" | "pct") {
            self.symbol('%');
        } else if let Some(known) = token::bare(trimmed) {
            self.push(Kind::Command(known));
        } else if is_prose(trimmed)
            && !trimmed.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '$' | '\\'))
            || (name.starts_with("text") || name == "mbox") && is_letter(trimmed)
        {
            let words: Vec<&str> = content.split_whitespace().collect();
            self.push(Kind::Text(words.join(" ").replace('$', "").to_lowercase()));
        } else if self.depth < MAX_TEXT_DEPTH {
            let spaced = self.spaced || content.starts_with(char::is_whitespace);
            let out = std::mem::take(&mut self.out);
            let (text, brackets, depth) = (content, self.brackets, self.depth + 1);
            let mut inner = Lexer { text, at: 0, spaced, brackets, depth, out };
            inner.run()?;
            self.out = inner.out;
            self.spaced = content.ends_with(char::is_whitespace);
        } else {
            return Err("text is nested too deep".to_owned());
        }
        Ok(())
    }
}

/// A time of day at `start` that is written as no ratio is, and its end: an hour, a colon, and minutes that begin
/// with a zero (`12:00`, `9:05`); the hour without its leading zero. Other times (`9:30`) look like ratios, and are
/// read as such unless words tell (`9:30 a.m.`).
fn clock_time(text: &str, start: usize) -> Option<(String, usize)> {
    let digits = |from: usize| text.as_bytes()[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_inner = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b':');
    if text.as_bytes()[..start].last().is_some_and(is_inner) {
        return None;
    }
    let colon = start + digits(start);
    let minutes = text.get(colon..)?.strip_prefix(":0").filter(|_| (1..=2).contains(&(colon - start)))?;
    let end = colon + 3;
    let is_whole = minutes.starts_with(|c: char| c.is_ascii_digit()) && digits(colon + 1) == 2;
    let hour: u32 = text[start..colon].parse().ok().filter(|hour| *hour <= 24)?;
    is_whole.then(|| (format!("{hour}{}", &text[colon..end]), end))
}

/// Whether the text has two adjacent letters outside commands, or is an abbreviation (`a.m.`).
fn is_prose(text: &str) -> bool {
    if text.contains('.') && text.chars().all(|c| c == '.' || c.is_alphabetic()) {
        return true;
    }
    let mut run = 0;
    let mut command = false;
    for c in text.chars() {
        if c == '\\' {
            command = true;
            run = 0;
        } else if c.is_alphabetic() {
            run += usize::from(!command);
            if run == 2 {
                return true;
            }
        } else {
            command = false;
            run = 0;
        }
    }
    false
}

fn is_letter(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(char::is_alphabetic) && chars.next().is_none()
}
