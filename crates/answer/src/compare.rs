//! Whether two parsed answers are equivalent.
//!
//! The rules are symmetric: it does not matter which side is the reference. Where a form is ambiguous (`(1,2)` is a
//! point and an interval, `1,2` a set and a point without its brackets), the other side decides; a written set is never
//! a point.

use num_traits::Signed;

use crate::form::{Expr, Form, Relation, Scalar};
use crate::polynomial::Trouble;
use crate::region::Region;
use crate::scalar::Scalars;
use crate::words;

/// Deepest tuple inside a tuple that is compared.
const MAX_DEPTH: usize = 20;

/// Whether two answers are equivalent.
///
/// # Errors
/// The reason why that could not be decided.
pub(crate) fn same(a: &Form, b: &Form) -> Result<bool, String> {
    Comparer { scalars: Scalars::new(), depth: 0 }.forms(a, b)
}

struct Comparer {
    scalars: Scalars,
    depth: usize,
}

impl Comparer {
    fn forms(&mut self, a: &Form, b: &Form) -> Result<bool, String> {
        if a == b {
            return Ok(true);
        }
        if self.depth == MAX_DEPTH {
            return Err("nested too deep".to_owned());
        }
        self.depth += 1;
        let result = self.unequal_forms(a, b);
        self.depth -= 1;
        result
    }

    fn unequal_forms(&mut self, a: &Form, b: &Form) -> Result<bool, String> {
        match (a, b) {
            (Form::Equation(x), Form::Equation(y)) => return self.equations(x, y),
            // `x = 5` answers what 5 answers.
            (Form::Equation(sides), other) | (other, Form::Equation(sides)) => {
                return match value_of(sides) {
                    Some(value) => self.forms(value, other),
                    None => Ok(false),
                };
            }
            (Form::Inequality { .. }, Form::Inequality { .. }) => return self.inequalities(a, b),
            (Form::Text(a), Form::Text(b)) => return Ok(words::letters(a) == words::letters(b)),
            (Form::Scalar(a), Form::Scalar(b)) => return self.scalars.answers(a, b),
            _ => {}
        }
        if is_region(a) || is_region(b) {
            if let (Form::Tuple { items: x, open: i, close: j }, Form::Tuple { items: y, open: k, close: l }) = (a, b)
                && i == k
                && j == l
                && self.in_order(x, y)?
            {
                return Ok(true);
            }
            let regions = (Region::of(a, &mut self.scalars)?, Region::of(b, &mut self.scalars)?);
            return match regions {
                (Some(a), Some(b)) => a.same(&b, &mut self.scalars),
                _ => self.parts(a, b),
            };
        }
        match (a, b) {
            (Form::List { items: x, .. } | Form::Set(x), Form::List { items: y, .. } | Form::Set(y)) => {
                self.any_order(x, y)
            }
            (Form::Set(items), other @ Form::Scalar(_)) | (other @ Form::Scalar(_), Form::Set(items)) => {
                match &items[..] {
                    [item] => self.forms(item, other),
                    _ => Ok(false),
                }
            }
            (Form::Tuple { items: x, open, close }, Form::Tuple { items: y, open: i, close: j }) => {
                // The brackets of an interval matter; those around three numbers do not.
                Ok((x.len() != 2 || (open, close) == (i, j)) && self.in_order(x, y)?)
            }
            (Form::Tuple { items: x, open: true, close: true }, Form::List { items: y, .. })
            | (Form::List { items: y, .. }, Form::Tuple { items: x, open: true, close: true }) => self.in_order(x, y),
            (Form::Matrix(x), Form::Matrix(y)) => self.matrices(x, y),
            (Form::Ratio(x), Form::Ratio(y)) => self.ratios(x, y),
            (Form::Ratio(ratio), Form::Scalar(scalar)) | (Form::Scalar(scalar), Form::Ratio(ratio)) => match &ratio[..]
            {
                [x, y] => self.scalars.answers(&Scalar::plain(x.clone().over(y.clone())), scalar),
                _ => Ok(false),
            },
            _ => Ok(false),
        }
    }

    /// Unions and differences whose ends cannot be ordered, part by part.
    fn parts(&mut self, a: &Form, b: &Form) -> Result<bool, String> {
        match (a, b) {
            (Form::Union(x), Form::Union(y)) => self.any_order(x, y),
            (Form::Difference(a, b), Form::Difference(x, y)) => Ok(self.forms(a, x)? && self.forms(b, y)?),
            _ => Ok(false),
        }
    }

    fn in_order(&mut self, a: &[Form], b: &[Form]) -> Result<bool, String> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (a, b) in a.iter().zip(b) {
            if !self.forms(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As sets: each entry of one side occurs on the other. An entry that certainly does not occur decides, even where
    /// other entries could not be compared.
    fn any_order(&mut self, a: &[Form], b: &[Form]) -> Result<bool, String> {
        let table: Vec<Vec<Result<bool, String>>> =
            a.iter().map(|x| b.iter().map(|y| self.forms(x, y)).collect()).collect();
        let rows = table.iter().map(|row| row.iter().collect::<Vec<_>>());
        let columns = (0..b.len()).map(|j| table.iter().map(|row| &row[j]).collect());
        let lines: Vec<Vec<&Result<bool, String>>> = rows.chain(columns).collect();
        let absent = |line: &Vec<&Result<bool, String>>| line.iter().all(|result| **result == Ok(false));
        if lines.iter().any(absent) {
            return Ok(false);
        }
        let open = lines.iter().find(|line| line.iter().all(|result| **result != Ok(true)));
        match open.and_then(|line| line.iter().find_map(|result| result.as_ref().err())) {
            Some(reason) => Err(reason.clone()),
            None => Ok(true),
        }
    }

    fn matrices(&mut self, a: &[Vec<Expr>], b: &[Vec<Expr>]) -> Result<bool, String> {
        if a.len() != b.len() || a[0].len() != b[0].len() {
            return Ok(false);
        }
        self.all_same(a.iter().flatten().zip(b.iter().flatten()))
    }

    /// Ratios are equal up to a common factor.
    fn ratios(&mut self, a: &[Expr], b: &[Expr]) -> Result<bool, String> {
        if a.len() != b.len() {
            return Ok(false);
        }
        for (x, y) in a.iter().zip(b).skip(1) {
            let quotient = |above: &Expr, below: &Expr| above.clone().over(below.clone());
            if !self.scalars.same(&quotient(x, &a[0]), &quotient(y, &b[0]))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Equations are equal if one is a multiple of the other, or if both define the same name with the same value.
    fn equations(&mut self, a: &[Form], b: &[Form]) -> Result<bool, String> {
        let named = |sides: &[Form]| sides.first().is_some_and(is_name);
        if named(a) && named(b) && a[0] == b[0] {
            return match (a.last(), b.last()) {
                (Some(a), Some(b)) => self.forms(a, b),
                _ => Ok(false),
            };
        }
        if let ([Form::Scalar(p), Form::Scalar(q)], [Form::Scalar(r), Form::Scalar(s)]) = (a, b)
            && let Some(factor) = self.factor((&p.expr, &q.expr), (&r.expr, &s.expr), false)?
        {
            return Ok(factor);
        }
        // The value of a chain of numbers is its last side.
        match (value_of(a), value_of(b)) {
            (Some(x), Some(y)) if !named(a) && !named(b) => self.forms(x, y),
            _ => Ok(false),
        }
    }

    /// Whether `a.0 − a.1` is a multiple of `b.0 − b.1`, by a positive number if `positive`; none if both are zero or
    /// it cannot be decided.
    fn factor(&mut self, a: (&Expr, &Expr), b: (&Expr, &Expr), positive: bool) -> Result<Option<bool>, String> {
        let normalizer = &mut self.scalars.normalizer;
        let difference =
            |pair: (&Expr, &Expr)| Expr::Sum(vec![pair.0.clone(), Expr::Negative(Box::new(pair.1.clone()))]);
        let (x, y) = match (normalizer.normal(&difference(a)), normalizer.normal(&difference(b))) {
            (Ok(x), Ok(y)) => (x, y),
            (Err(Trouble::Undefined), _) | (_, Err(Trouble::Undefined)) => return Ok(Some(false)),
            _ => return Ok(None),
        };
        // The sign of a denominator may change with the variables.
        if positive && (x.below.as_constant().is_none() || y.below.as_constant().is_none()) {
            return Ok(None);
        }
        let (Some((first, p)), Some((second, q))) = (x.above.leading(), y.above.leading()) else { return Ok(None) };
        if first.is_empty() && second.is_empty() {
            return Ok(None);
        }
        if first != second || positive && p.is_positive() != q.is_positive() {
            return Ok(Some(false));
        }
        let (p, q) = (p.clone(), q.clone());
        Ok(Some(x.above.scaled(&q) == y.above.scaled(&p)))
    }

    fn inequalities(&mut self, a: &Form, b: &Form) -> Result<bool, String> {
        let (Form::Inequality { sides: x, relations: r }, Form::Inequality { sides: y, relations: s }) = (a, b) else {
            return Ok(false);
        };
        let variables = |sides: &[Expr]| {
            let mut names: Vec<String> = sides.iter().flat_map(Expr::variables).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        if variables(x) != variables(y) {
            return Ok(false);
        }
        if let (Some(a), Some(b)) = (Region::of(a, &mut self.scalars)?, Region::of(b, &mut self.scalars)?) {
            return a.same(&b, &mut self.scalars);
        }
        if let ([p, q], [r], [t, u], [s]) = (&x[..], &r[..], &y[..], &s[..]) {
            // Both with the smaller side first.
            let rising = |a, b, relation: Relation| match relation {
                Relation::Greater | Relation::GreaterEqual => (b, a, relation.flipped()),
                _ => (a, b, relation),
            };
            let ((p, q, r), (t, u, s)) = (rising(p, q, *r), rising(t, u, *s));
            if r != s {
                return Ok(false);
            }
            return Ok(self.factor((p, q), (t, u), r != Relation::NotEqual)?.unwrap_or(false));
        }
        let forwards = r == s && self.all_same(x.iter().zip(y))?;
        let flipped: Vec<Relation> = s.iter().rev().map(|relation| relation.flipped()).collect();
        Ok(forwards || *r == flipped && self.all_same(x.iter().zip(y.iter().rev()))?)
    }

    fn all_same<'a>(&mut self, pairs: impl Iterator<Item = (&'a Expr, &'a Expr)>) -> Result<bool, String> {
        for (a, b) in pairs {
            if !self.scalars.same(a, b)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether a side of an equation is only a name for the other side.
fn is_name(side: &Form) -> bool {
    match side {
        Form::Scalar(scalar) => scalar.expr.is_symbol(),
        Form::Text(_) => true,
        // `(x, y) = (1, 2)`
        Form::Tuple { items, .. } => items.iter().all(is_name),
        _ => false,
    }
}

/// The value that an equation states: the last side, if the first is a name or all sides are numbers.
fn value_of(sides: &[Form]) -> Option<&Form> {
    let (first, last) = (sides.first()?, sides.last()?);
    let number = |side: &Form| matches!(side, Form::Scalar(scalar) if scalar.expr.variables().is_empty());
    if is_name(first) || sides.iter().all(number) {
        Some(last)
    } else if sides.len() == 2 && is_name(last) && number(first) {
        Some(first)
    } else {
        None
    }
}

/// Whether a form can only be a set of reals.
fn is_region(form: &Form) -> bool {
    match form {
        Form::Reals | Form::Union(_) | Form::Difference(..) | Form::Inequality { .. } => true,
        Form::List { items, and: false } => items.iter().all(is_inequality),
        Form::Tuple { items, open, close } => {
            let infinite = |item: &Form| item.expr().is_some_and(|expr| expr.infinity().is_some());
            items.len() == 2 && (!open || !close || items.iter().any(infinite))
        }
        _ => false,
    }
}

fn is_inequality(form: &Form) -> bool {
    matches!(form, Form::Inequality { .. })
}
