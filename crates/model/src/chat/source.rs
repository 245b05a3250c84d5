//! Template sources as jinja2 reads them, where the template engine reads otherwise.

/// `source` with the line breaks and string escapes of jinja2, and with `{% generation %}` … `{% endgeneration %}`,
/// which transformers adds to mark answers, as blocks that only print their body.
pub(super) fn normalised(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { rest: &source, output: String::with_capacity(source.len()) };
    while let Some(open) = reader.rest.find('{') {
        reader.copy(open);
        match reader.rest.as_bytes().get(1) {
            Some(b'#') => reader.copy_through("#}"),
            Some(b'{') => {
                reader.copy(2);
                reader.code("}}");
            }
            Some(b'%') => reader.statement(),
            _ => reader.copy(1),
        }
    }
    reader.copy(reader.rest.len());
    reader.output
}

struct Reader<'a> {
    rest: &'a str,
    output: String,
}

impl Reader<'_> {
    fn copy(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.output.push_str(taken);
        self.rest = rest;
    }

    fn copy_through(&mut self, end: &str) {
        self.copy(self.rest.find(end).map_or(self.rest.len(), |at| at + end.len()));
    }

    /// A `{% … %}`, which begins here; with what follows it where that is no code.
    fn statement(&mut self) {
        self.copy(2);
        let begins =
            self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_whitespace() || "-+".contains(c)).len();
        self.copy(begins);
        let word = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        // A scope of its own, as in jinja2.
        let (name, rest) = self.rest.split_at(word);
        self.output.push_str(match name {
            "generation" => "with",
            "endgeneration" => "endwith",
            other => other,
        });
        self.rest = rest;
        self.code("%}");
        if name == "raw" {
            let ends = self.rest.match_indices("{%").find(|(at, _)| {
                let tag = self.rest[at + 2..].trim_start_matches(|c: char| c.is_whitespace() || "-+".contains(c));
                tag.starts_with("endraw")
            });
            self.copy(ends.map_or(self.rest.len(), |(at, _)| at));
            self.copy_through("%}");
        }
    }

    /// Code through its `end`, which counts outside of brackets and quotes only.
    fn code(&mut self, end: &str) {
        let mut depth = 0usize;
        while let Some(c) = self.rest.chars().next() {
            if depth == 0 && self.rest.starts_with(end) {
                return self.copy(end.len());
            }
            match c {
                '\'' | '"' => {
                    self.literal(c);
                    continue;
                }
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.copy(c.len_utf8());
        }
    }

    /// A text between `quote`s, with the escapes of Python that the engine does not know replaced.
    fn literal(&mut self, quote: char) {
        self.copy(1);
        while let Some(at) = self.rest.find(['\\', quote]) {
            self.copy(at);
            if self.rest.starts_with(quote) {
                return self.copy(1);
            }
            let escaped = self.rest[1..].chars().next();
            let replaced = match escaped {
                Some('/') => Some(("\\\\/".to_owned(), 2)),
                Some('a') => Some(("\\x07".to_owned(), 2)),
                Some('v') => Some(("\\x0b".to_owned(), 2)),
                Some('\n') => Some((String::new(), 2)),
                Some('U') => {
                    let code = self.rest.get(2..10).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    code.and_then(char::from_u32).map(|c| (c.to_string(), 10))
                }
                _ => None,
            };
            match replaced {
                Some((text, bytes)) => {
                    self.output.push_str(&text);
                    self.rest = &self.rest[bytes..];
                }
                None => self.copy(1 + escaped.map_or(0, char::len_utf8)),
            }
        }
        self.copy(self.rest.len());
    }
}
