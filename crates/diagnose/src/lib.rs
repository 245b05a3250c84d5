//! What broke, not only that something did (arXiv 2602.01997, METHOD.md section 3): text stays fluent while
//! arithmetic and bracket matching are gone, and a score alone does not say so.
//!
//! - [`text_figures`], [`Tally`]: degeneration of any text: Rep-n, Self-BLEU-4, loops, length, finish reasons;
//! - [`responses`]: the same from files of other programs, line by line; [`judged`]: samples that say whether they are
//!   right, so that two files can be compared;
//! - [`arithmetic`]: the probe at the answer's first digit;
//! - [`brackets`]: closing nested brackets;
//! - [`chain`]: which step of a worked solution is false;
//! - [`ledger`]: why items went wrong that the uncut model got right;
//! - [`sentinel`]: the cheap bundle that runs after every cut, and the gap alarm;
//! - [`of_outcomes`]: all that the responses of an evaluation tell, without asking the model again.
//!
//! Everything that asks the model takes a list of cuts (lists of kept layers), so that one call measures a whole
//! sweep. The figures themselves are plain records (`lopper_record::study`). Definitions, chosen constants and
//! limits: `docs/reference/diagnostics.md`; why they are so: `design/diagnostics.md`.
//!
//! Not covered: natural languages written without spaces; whether a step of a solution is the right one to take.

pub mod arithmetic;
pub mod brackets;
pub mod chain;
mod degeneration;
mod digits;
mod draw;
mod examine;
mod grams;
pub mod judged;
pub mod ledger;
mod loops;
mod many;
pub mod material;
mod outcomes;
mod repetition;
pub mod responses;
pub mod sentinel;
mod share;
mod tokens;

pub use degeneration::{Circumstances, Tally, TextFigures, finish_name, text_figures};
pub use examine::{Examination, ExamineOptions, Examined, answer};
pub use loops::Loop;
pub use many::{Cut, generate_each, loglikelihood_each, token_logprobs_each};
pub use outcomes::{Outcomes, of_outcomes, programs_of};
pub use tokens::lower_words;

/// The words of each sentence of a text, as Self-BLEU compares them.
pub fn sentences(text: &str) -> Vec<Vec<String>> {
    let tokens = tokens::tokens(text);
    let word = |at: usize| text[tokens.spans[at].clone()].to_lowercase();
    tokens.sentences.iter().map(|sentence| sentence.clone().map(word).collect()).collect()
}
