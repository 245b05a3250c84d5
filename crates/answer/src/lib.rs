//! Answers to mathematical questions: extracts them from a response and decides whether they are right.
//!
//! - [`extract`]: the answer of a response (`\boxed{…}`, "the final answer is …", a block of code), and
//!   lm-evaluation-harness's answer filters;
//! - [`normalized`]: the answers of lm-evaluation-harness's AIME tasks, compared as text;
//! - [`equivalent`]: whether an answer equals the reference, in whatever notation the two are written.
//!
//! ```
//! use lopper_answer::{Verdict, equivalent, extract};
//!
//! let response = r"Half of the clips were sold, so the answer is $\boxed{\frac12}$.";
//! let answer = extract::chat_answer(response).unwrap();
//! assert_eq!(answer, r"\frac12");
//! assert_eq!(equivalent(answer, "0.5"), Verdict::Equal);
//! assert_eq!(equivalent(r"x \in (2, 5]", r"2 < x \le 5"), Verdict::Equal);
//! assert_eq!(equivalent("2x", "x^2"), Verdict::Different);
//! ```
//!
//! [`equivalent`] parses both sides (text → tokens → form) and compares the forms: numbers exactly, formulas by a
//! normal form and at seeded points, sets without order, intervals with their ends. It follows math-verify where a
//! convention has to be chosen, and is stricter where math-verify calls different things equal; `design/answers.md`
//! lists both. Texts are untrusted: length, depth, exponents and the work of a comparison are bounded, so that any
//! output of a model is safe.
//!
//! Not here: which filter and which comparison a task uses (`lopper_tasks`). Not covered: solving (`x^2 = 4` is not
//! `x = \pm 2`), congruences, determinants, integrals, sums, piecewise functions, number words (`five`).

mod compare;
pub mod extract;
mod form;
mod lex;
mod normal;
pub mod normalized;
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
    /// They are equivalent.
    Equal,
    /// They are not.
    Different,
    /// One of them could not be parsed, or the two could not be compared. Scored as wrong, but reported separately.
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

/// Whether `answer` is equivalent to `reference`. Both are answers alone, in LaTeX or plain notation, with or without
/// dollar signs; see [`extract`] for taking one from a response. The order of the two does not matter.
pub fn equivalent(answer: &str, reference: &str) -> Verdict {
    let unparsed = |reason: String| Verdict::Unparsed { reason };
    let (left, right) = match (lex::lex(answer), lex::lex(reference)) {
        (Ok(left), Ok(right)) => (left, right),
        // Texts that cannot be read may still be the same.
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

/// Whether two texts within bounds, not both empty, differ at most in white space.
fn is_same_text(a: &str, b: &str) -> bool {
    let visible = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let short = a.len() <= MAX_BYTES && b.len() <= MAX_BYTES;
    short && !visible(a).is_empty() && visible(a) == visible(b)
}
