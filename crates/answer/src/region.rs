//! Sets of real numbers as unions of intervals.
//!
//! `(2,5]`, `2 < x \le 5` and `x \in (2,5]` are one set; so are `\mathbb{R}\setminus\{1\}`,
//! `x \ne 1` and `(-\infty,1)\cup(1,\infty)`.

use crate::form::{Expr, Form, Relation};
use crate::numeric::evaluate;
use crate::scalar::Scalars;

/// An end of an interval.
#[derive(Debug, Clone)]
struct End {
    /// The formula; none where the interval is unbounded.
    expr: Option<Expr>,
    /// Its value; infinite where there is no formula.
    value: f64,
    closed: bool,
}

/// An interval; a point if its ends are one.
#[derive(Debug, Clone)]
struct Piece {
    low: End,
    high: End,
}

/// Disjoint intervals in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct Region(Vec<Piece>);

impl End {
    fn infinite(positive: bool) -> Self {
        Self { expr: None, value: if positive { f64::INFINITY } else { f64::NEG_INFINITY }, closed: false }
    }

    fn new(expr: &Expr, closed: bool) -> Option<Self> {
        if let Some(positive) = expr.infinity() {
            return Some(Self::infinite(positive));
        }
        if !expr.variables().is_empty() {
            return None;
        }
        let value = evaluate(expr, &|_| 0.0)?.as_real()?;
        Some(Self { expr: Some(expr.clone()), value, closed })
    }

    fn same_place(&self, other: &Self, scalars: &mut Scalars) -> Result<bool, String> {
        match (&self.expr, &other.expr) {
            (None, None) => Ok(self.value == other.value),
            (Some(a), Some(b)) => scalars.same(a, b),
            _ => Ok(false),
        }
    }
}

impl Region {
    fn line() -> Self {
        Self(vec![Piece { low: End::infinite(false), high: End::infinite(true) }])
    }

    /// The set that a form means; none if it is not a set of reals or its ends cannot be ordered.
    ///
    /// # Errors
    /// The reason why two ends could not be compared.
    pub fn of(form: &Form, scalars: &mut Scalars) -> Result<Option<Self>, String> {
        match form {
            Form::Reals => Ok(Some(Self::line())),
            Form::Tuple { items, open, close } => {
                let [a, b] = &items[..] else { return Ok(None) };
                let (Some(a), Some(b)) = (a.expr(), b.expr()) else { return Ok(None) };
                let (Some(low), Some(high)) = (End::new(a, !open), End::new(b, !close)) else { return Ok(None) };
                Ok((low.value < high.value).then(|| Self(vec![Piece { low, high }])))
            }
            Form::Set(items) => {
                let mut pieces = Vec::new();
                for item in items {
                    let Some(end) = item.expr().and_then(|expr| End::new(expr, true)) else { return Ok(None) };
                    if end.expr.is_none() {
                        return Ok(None);
                    }
                    pieces.push(Piece { low: end.clone(), high: end });
                }
                Self::joined(pieces, scalars).map(Some)
            }
            Form::Union(parts) => Self::union(parts, scalars),
            Form::List { items, and: false } if items.iter().all(|item| matches!(item, Form::Inequality { .. })) => {
                Self::union(items, scalars)
            }
            Form::Difference(from, what) => {
                let Form::Set(points) = &**what else { return Ok(None) };
                let Some(mut region) = Self::of(from, scalars)? else { return Ok(None) };
                for point in points {
                    let Some(end) = point.expr().and_then(|expr| End::new(expr, false)) else { return Ok(None) };
                    region = region.without(&end, scalars)?;
                }
                Ok(Some(region))
            }
            Form::Inequality { sides, relations } => Self::inequality(sides, relations, scalars),
            _ => Ok(None),
        }
    }

    fn union(parts: &[Form], scalars: &mut Scalars) -> Result<Option<Self>, String> {
        let mut pieces = Vec::new();
        for part in parts {
            match Self::of(part, scalars)? {
                Some(region) => pieces.extend(region.0),
                None => return Ok(None),
            }
        }
        Self::joined(pieces, scalars).map(Some)
    }

    /// The values of a variable that an inequality allows.
    fn inequality(sides: &[Expr], relations: &[Relation], scalars: &mut Scalars) -> Result<Option<Self>, String> {
        let mut region = Self::line();
        let variable =
            |expr: &Expr| matches!(expr, Expr::Variable(_)) || expr.is_symbol() && !expr.variables().is_empty();
        let (low, high) = match (sides, relations) {
            ([x, c], [relation]) if variable(x) => bounds(*relation, c),
            ([c, x], [relation]) if variable(x) => bounds(relation.flipped(), c),
            ([a, x, b], [first, second]) if variable(x) => {
                let (one, two) = (bounds(first.flipped(), a), bounds(*second, b));
                match (one, two) {
                    ((Some(low), None), (None, Some(high))) | ((None, Some(high)), (Some(low), None)) => {
                        (Some(low), Some(high))
                    }
                    _ => return Ok(None),
                }
            }
            _ => return Ok(None),
        };
        match (low, high) {
            // `x ≠ c` is bounded on neither side.
            (None, None) => {
                let c = if variable(&sides[0]) { &sides[1] } else { &sides[0] };
                let Some(end) = End::new(c, false) else { return Ok(None) };
                region = region.without(&end, scalars)?;
            }
            (low, high) => {
                for (bound, upper) in [(low, false), (high, true)] {
                    let Some((expr, closed)) = bound else { continue };
                    let Some(end) = End::new(expr, closed) else { return Ok(None) };
                    let piece = &mut region.0[0];
                    *(if upper { &mut piece.high } else { &mut piece.low }) = end;
                }
                if region.0[0].low.value >= region.0[0].high.value {
                    return Ok(None);
                }
            }
        }
        Ok(Some(region))
    }

    /// The pieces in order, overlapping and touching ones joined.
    fn joined(mut pieces: Vec<Piece>, scalars: &mut Scalars) -> Result<Self, String> {
        pieces.sort_by(|a, b| a.low.value.total_cmp(&b.low.value).then(b.low.closed.cmp(&a.low.closed)));
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            let Some(last) = joined.last_mut() else {
                joined.push(piece);
                continue;
            };
            let touches = last.high.same_place(&piece.low, scalars)?;
            let meets = if touches { last.high.closed || piece.low.closed } else { piece.low.value < last.high.value };
            if !meets {
                joined.push(piece);
                continue;
            }
            if last.low.same_place(&piece.low, scalars)? {
                last.low.closed |= piece.low.closed;
            }
            if last.high.same_place(&piece.high, scalars)? {
                last.high.closed |= piece.high.closed;
            } else if piece.high.value > last.high.value {
                last.high = piece.high;
            }
        }
        Ok(Self(joined))
    }

    /// The set without one point.
    fn without(self, point: &End, scalars: &mut Scalars) -> Result<Self, String> {
        let mut pieces = Vec::new();
        for mut piece in self.0 {
            let (at_low, at_high) = (piece.low.same_place(point, scalars)?, piece.high.same_place(point, scalars)?);
            if at_low && at_high {
                continue;
            }
            if at_low {
                piece.low.closed = false;
            } else if at_high {
                piece.high.closed = false;
            } else if piece.low.value < point.value && point.value < piece.high.value {
                pieces.push(Piece { low: piece.low, high: point.clone() });
                piece.low = point.clone();
            }
            pieces.push(piece);
        }
        Ok(Self(pieces))
    }

    /// Whether two sets are the same.
    ///
    /// # Errors
    /// The reason why two ends could not be compared.
    pub fn same(&self, other: &Self, scalars: &mut Scalars) -> Result<bool, String> {
        if self.0.len() != other.0.len() {
            return Ok(false);
        }
        for (a, b) in self.0.iter().zip(&other.0) {
            for (a, b) in [(&a.low, &b.low), (&a.high, &b.high)] {
                if a.closed != b.closed || !a.same_place(b, scalars)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// A bound and whether it belongs to the set.
type Bound<'a> = Option<(&'a Expr, bool)>;

/// Lower and upper bound of a variable on the left of the relation.
fn bounds(relation: Relation, c: &Expr) -> (Bound<'_>, Bound<'_>) {
    match relation {
        Relation::Less => (None, Some((c, false))),
        Relation::LessEqual => (None, Some((c, true))),
        Relation::Greater => (Some((c, false)), None),
        Relation::GreaterEqual => (Some((c, true)), None),
        Relation::NotEqual => (None, None),
    }
}
