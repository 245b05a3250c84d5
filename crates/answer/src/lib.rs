//! Answers of mathematics: finding them in a response, and telling whether they are right.
//!
//! - [`extract`]: what a response gives as its answer (`\boxed{…}`, `#### 42`, "the final answer is …",
//!   a block of code), and lm-evaluation-harness's answer filters;
//! - [`equivalent`]: whether it equals the reference, however both are written.
//!
//! Equivalence is decided by parsing both sides (text → words → form), then comparing forms: numbers
//! exactly, formulas by a normal form and at seeded points, sets without order, intervals with
//! their ends. It follows math-verify where a convention has to be chosen, and is stricter where
//! math-verify calls different things equal; `design/answers.md` lists both. Texts are untrusted: length,
//! depth, exponents and the work of a comparison are bounded, so any output of a model is safe.
//!
//! Not covered: solving (`x^2 = 4` is not `x = \pm 2`), congruences, determinants, integrals, sums,
//! piecewise functions, number words (`five`).

mod compare;
pub mod extract;
mod form;
mod lex;
mod normal;
mod number;
mod numeric;
mod parse;
mod polynomial;
mod region;
mod scalar;
mod token;
mod unit;
mod words;

/// Longest answer that is read, in bytes.
pub const MAX_BYTES: usize = 2048;

/// Whether an answer equals the reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// They say the same.
    Equal,
    /// They do not.
    Different,
    /// One of them could not be read, or the two could not be compared; scored as wrong, but worth
    /// showing apart.
    Unparsed {
        /// Which of them, and why.
        reason: String,
    },
}

impl Verdict {
    /// Whether the answer is right.
    pub fn is_equal(&self) -> bool {
        *self == Self::Equal
    }
}

/// Whether `answer` says the same as `reference`. Both are answers alone, in LaTeX or plain notation,
/// with or without dollar signs; see [`extract`] for taking one out of a response. The verdict does
/// not depend on which is which.
///
/// ```
/// use lopper_answer::{Verdict, equivalent};
/// assert_eq!(equivalent(r"1\frac{1}{2}", "1.50"), Verdict::Equal);
/// assert_eq!(equivalent(r"x \in (2, 5]", r"2 < x \le 5"), Verdict::Equal);
/// assert_eq!(equivalent("2x", "x^2"), Verdict::Different);
/// ```
pub fn equivalent(answer: &str, reference: &str) -> Verdict {
    let unparsed = |reason: String| Verdict::Unparsed { reason };
    let (left, right) = match (lex::lex(answer), lex::lex(reference)) {
        (Ok(left), Ok(right)) => (left, right),
        // What is not read may still be the same text.
        _ if is_same_text(answer, reference) => return Verdict::Equal,
        (Err(reason), _) => return unparsed(format!("the answer: {reason}")),
        (_, Err(reason)) => return unparsed(format!("the reference: {reason}")),
    };
    if left.is_empty() || right.is_empty() {
        let which = if left.is_empty() { "answer" } else { "reference" };
        return unparsed(format!("the {which}: there is nothing to read"));
    }
    let same_words = left.len() == right.len() && left.iter().zip(&right).all(|(a, b)| a.kind == b.kind);
    if same_words || words::same(&left, &right) {
        return Verdict::Equal;
    }
    let (left, right) = match (parse::parse(&left), parse::parse(&right)) {
        (Ok(left), Ok(right)) => (left, right),
        (Err(reason), _) => return unparsed(format!("the answer: {reason}")),
        (_, Err(reason)) => return unparsed(format!("the reference: {reason}")),
    };
    match compare::same(&left, &right) {
        Ok(true) => Verdict::Equal,
        Ok(false) => Verdict::Different,
        Err(reason) => unparsed(reason),
    }
}

/// Whether two texts within bounds differ in white space at most, and say anything.
fn is_same_text(a: &str, b: &str) -> bool {
    let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let short = a.len() <= MAX_BYTES && b.len() <= MAX_BYTES;
    short && !visible(a).is_empty() && visible(a) == visible(b)
}
