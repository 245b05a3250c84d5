//! Lists, relations, sets, intervals, tuples, matrices and ratios.

use super::Parser;
use crate::form::{Expr, Form, Relation};
use crate::token::{Kind, SET_OPEN};

/// Most entries of a list, set, tuple or matrix; comparing sets takes time quadratic in it.
const MAX_ITEMS: usize = 40;

impl Parser<'_> {
    /// Answers with separators between them, or one.
    pub(super) fn list(&mut self, from: usize, to: usize) -> Result<Form, String> {
        let separators =
            self.top_level(from, to, |kind| matches!(kind, Kind::Symbol(',' | ';') | Kind::Separator { .. }));
        let and = separators.iter().any(|at| self.tokens[*at].kind == Kind::Separator { and: true });
        let mut items = self.parts(from, to, &separators)?;
        match items.len() {
            0 => Err("there is nothing to read".to_owned()),
            1 => Ok(items.remove(0)),
            _ => Ok(Form::List { items, and }),
        }
    }

    /// The answers between the separators, without empty ones (`1, 2, and 3` has an empty one).
    fn parts(&mut self, from: usize, to: usize, separators: &[usize]) -> Result<Vec<Form>, String> {
        if separators.len() >= 2 * MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} entries"));
        }
        let mut items = Vec::new();
        for (start, end) in Self::between(from, to, separators).filter(|(start, end)| end > start) {
            items.push(self.deeper(|parser| parser.relation(start, end))?);
        }
        if items.len() > MAX_ITEMS { Err(format!("more than {MAX_ITEMS} entries")) } else { Ok(items) }
    }

    /// Sides with relations between them, or one.
    fn relation(&mut self, mut from: usize, mut to: usize) -> Result<Form, String> {
        // The answer is what the steps before it imply.
        if let Some(last) = self.top_level(from, to, |kind| *kind == Kind::Command("implies")).last() {
            from = last + 1;
        }
        let relations = |kind: &Kind| match kind {
            Kind::Symbol('=' | '<' | '>') => true,
            Kind::Command(name) => matches!(*name, "le" | "ge" | "ne" | "in" | "approx"),
            _ => false,
        };
        let mut places = self.top_level(from, to, relations);
        // `1/3 ≈ 0.33`: the exact form counts, but the only value of `x ≈ 0.33` is the approximate one.
        if let Some(at) = places.iter().position(|at| self.tokens[*at].kind == Kind::Command("approx"))
            && (at > 0 || !self.is_name(from, places[0]))
        {
            to = places[at];
            places.truncate(at);
        }
        if places.is_empty() {
            return self.union(from, to);
        }
        if self.tokens[places[0]].kind == Kind::Command("in") {
            return self.deeper(|parser| parser.union(places[0] + 1, to));
        }
        let sides = Self::between(from, to, &places)
            .map(|(start, end)| self.deeper(|parser| parser.union(start, end)))
            .collect::<Result<Vec<_>, _>>()?;
        let kinds: Vec<Option<Relation>> = places.iter().map(|at| relation_of(&self.tokens[*at].kind)).collect();
        if kinds.iter().all(Option::is_none) {
            return Ok(Form::Equation(sides));
        }
        let relations = kinds.into_iter().collect::<Option<Vec<_>>>().ok_or("an equation inside an inequality")?;
        let sides = sides
            .iter()
            .map(|side| side.expr().cloned())
            .collect::<Option<Vec<_>>>()
            .ok_or("an inequality of something else than formulas")?;
        Ok(Form::Inequality { sides, relations })
    }

    /// Whether the tokens are one variable.
    fn is_name(&self, from: usize, to: usize) -> bool {
        to == from + 1 && matches!(self.kind(from), Some(Kind::Letter(_) | Kind::Text(_)))
    }

    fn union(&mut self, from: usize, to: usize) -> Result<Form, String> {
        let cups = self.top_level(from, to, |kind| *kind == Kind::Command("cup"));
        if cups.is_empty() {
            let minus = self.top_level(from, to, |kind| *kind == Kind::Command("setminus"));
            return match minus[..] {
                [] => self.single(from, to),
                [at] => Ok(Form::Difference(Box::new(self.single(from, at)?), Box::new(self.single(at + 1, to)?))),
                _ => Err("more than one set is subtracted".to_owned()),
            };
        }
        if cups.len() >= MAX_ITEMS {
            return Err(format!("more than {MAX_ITEMS} entries"));
        }
        let parts = Self::between(from, to, &cups).map(|(start, end)| self.single(start, end));
        Ok(Form::Union(parts.collect::<Result<_, _>>()?))
    }

    /// One value or set.
    fn single(&mut self, from: usize, to: usize) -> Result<Form, String> {
        if from >= to {
            return Err("something is missing".to_owned());
        }
        if let Some(name) = self.number_set(from, to) {
            return Ok(if name == 'R' { Form::Reals } else { Form::Text(format!("numbers {name}")) });
        }
        if to == from + 1 && self.tokens[from].kind == Kind::Command("emptyset") {
            return Ok(Form::Set(Vec::new()));
        }
        let text: Option<Vec<&str>> = self.tokens[from..to]
            .iter()
            .map(|token| if let Kind::Text(text) = &token.kind { Some(text.as_str()) } else { None })
            .collect();
        if let Some(text) = text {
            return Ok(Form::Text(text.join(" ")));
        }
        if let Some(matrix) = self.matrix(from, to)? {
            return Ok(matrix);
        }
        if self.partner[from] == to - 1 {
            let (from, to, kind) = (from + 1, to - 1, self.tokens[from].kind.clone());
            let commas = self.top_level(from, to, |kind| matches!(kind, Kind::Symbol(',' | ';')));
            match kind {
                Kind::Symbol(SET_OPEN) => return self.set(from, to),
                Kind::Symbol('(' | '[' | '⟨') if !commas.is_empty() => {
                    let items = self.parts(from, to, &commas)?;
                    let open = self.tokens[from - 1].kind != Kind::Symbol('[');
                    let close = self.tokens[to].kind != Kind::Symbol(']');
                    return Ok(Form::Tuple { items, open, close });
                }
                Kind::Symbol('{') if !commas.is_empty() => return self.list(from, to),
                _ => {}
            }
        }
        let colons = self.top_level(from, to, |kind| *kind == Kind::Symbol(':'));
        if !colons.is_empty() {
            if let Some(time) = self.time(from, to) {
                return Ok(Form::Text(time));
            }
            self.without_two_signs(from, to)?;
            let parts = Self::between(from, to, &colons).map(|(start, end)| self.formula(start, end));
            return Ok(Form::Ratio(parts.collect::<Result<_, _>>()?));
        }
        self.scalar(from, to)
    }

    /// `10:30 \text{ a.m.}`: numbers, colons and prose.
    fn time(&self, from: usize, to: usize) -> Option<String> {
        let mut prose = false;
        let mut time = String::new();
        for token in &self.tokens[from..to] {
            match &token.kind {
                Kind::Number { value, .. } => time.push_str(&value.to_string()),
                Kind::Text(text) => {
                    prose = true;
                    time.push_str(text);
                }
                Kind::Symbol(c @ (':' | '.')) => time.push(*c),
                Kind::Letter(c) => time.extend(c.to_lowercase()),
                _ => return None,
            }
        }
        prose.then_some(time)
    }

    /// Refuses `±` where it would mean two matrices or ratios.
    fn without_two_signs(&self, from: usize, to: usize) -> Result<(), String> {
        let signs = self.tokens[from..to].iter().any(|token| matches!(token.kind, Kind::Command("pm" | "mp")));
        if signs { Err("a plus-minus sign inside a matrix or ratio".to_owned()) } else { Ok(()) }
    }

    /// `\mathbb{R}` and similar.
    fn number_set(&self, from: usize, to: usize) -> Option<char> {
        if self.kind(from) != Some(&Kind::Command("mathbb")) {
            return None;
        }
        match self.tokens[from + 1..to].iter().map(|token| &token.kind).collect::<Vec<_>>()[..] {
            [Kind::Letter(name)] | [Kind::Symbol('{'), Kind::Letter(name), Kind::Symbol('}')] => Some(*name),
            _ => None,
        }
    }

    /// The content of set braces: entries, or a variable and its condition.
    fn set(&mut self, from: usize, to: usize) -> Result<Form, String> {
        let bars = self.top_level(from, to, |kind| matches!(kind, Kind::Symbol('|' | ':')));
        if let Some(bar) = bars.first()
            && self.is_name(from, (from + 1).min(*bar))
            && (*bar == from + 1 || self.kind(from + 1) == Some(&Kind::Command("in")))
        {
            return self.list(bar + 1, to);
        }
        let commas = self.top_level(from, to, |kind| matches!(kind, Kind::Symbol(',' | ';') | Kind::Separator { .. }));
        let mut items = Vec::new();
        for item in self.parts(from, to, &commas)? {
            match item {
                // `\{1 \pm \sqrt{2}\}` has two entries.
                Form::List { items: several, .. } => items.extend(several),
                item => items.push(item),
            }
        }
        Ok(Form::Set(items))
    }

    /// A matrix, with a factor before it if there is one; none if there is no matrix.
    fn matrix(&mut self, from: usize, to: usize) -> Result<Option<Form>, String> {
        let begin = |kind: &Kind| matches!(kind, Kind::Begin { .. });
        let enclosed = |kind: Option<&Kind>| matches!(kind, Some(Kind::Symbol('(' | '[')));
        if enclosed(self.kind(from)) && self.partner[from] == to - 1 && self.kind(from + 1).is_some_and(begin) {
            return self.matrix(from + 1, to - 1);
        }
        let Some(start) = self.top_level(from, to, begin).first().copied() else { return Ok(None) };
        if self.partner[start] != to - 1 {
            return Err("a matrix inside a formula".to_owned());
        }
        if self.tokens[start].kind == (Kind::Begin { determinant: true }) {
            return Err("a determinant is not read".to_owned());
        }
        self.without_two_signs(from, to)?;
        let factor = match start - from {
            0 => None,
            _ => Some(self.formula(from, start)?),
        };
        let mut rows = vec![Vec::new()];
        let ends = self.top_level(start + 1, to - 1, |kind| matches!(kind, Kind::Row | Kind::Symbol('&')));
        for (cell, end) in Self::between(start + 1, to - 1, &ends) {
            let row_ends = end == to - 1 || self.tokens[end].kind == Kind::Row;
            // `\\` may follow the last row.
            if !(row_ends && end == cell && rows.last().is_some_and(Vec::is_empty)) {
                let entry = self.formula(cell, end)?;
                let entry = match &factor {
                    Some(factor) => Expr::Product(vec![factor.clone(), entry]),
                    None => entry,
                };
                if let Some(row) = rows.last_mut() {
                    row.push(entry);
                }
            }
            if row_ends && end != to - 1 {
                rows.push(Vec::new());
            }
        }
        rows.retain(|row| !row.is_empty());
        let width = rows.first().map_or(0, Vec::len);
        if width == 0 || rows.iter().any(|row| row.len() != width) || width * rows.len() > MAX_ITEMS {
            return Err("a matrix without equal rows".to_owned());
        }
        Ok(Some(Form::Matrix(rows)))
    }
}

/// The relation of an inequality; none for an equals sign.
fn relation_of(kind: &Kind) -> Option<Relation> {
    match kind {
        Kind::Symbol('<') => Some(Relation::Less),
        Kind::Symbol('>') => Some(Relation::Greater),
        Kind::Command("le") => Some(Relation::LessEqual),
        Kind::Command("ge") => Some(Relation::GreaterEqual),
        Kind::Command("ne") => Some(Relation::NotEqual),
        _ => None,
    }
}
