//! Instructions that a program can check ("at least 300 words", "no comma"), as IFEval has them (Zhou et al. 2023,
//! arXiv 2311.07911): 25 kinds, and whether a response follows them.
//!
//! A row names its instructions and their arguments ([`parse`]); [`judge`] says which of them a response follows,
//! strictly and loosely. Loosely, a response also follows what it follows once its first line, its last line, both, or
//! all asterisks are removed. The verdicts are those of lm-evaluation-harness 0.4.13 (`tasks/ifeval`, version 4.0 of
//! the task) with nltk 3.10 and langdetect 1.0.9:
//!
//! - [`kind`]: the kinds and their arguments; [`check`]: what each of them asks of a response;
//! - [`sentences`]: Punkt, as nltk counts sentences; [`words`]: words, and nltk's tokens;
//! - [`language`]: the language of a text, as langdetect finds it;
//! - [`python`]: what Python's texts and its reader of JSON do.
//!
//! Different on purpose: the harness draws an argument that is missing or not allowed at random; here such a row is a
//! bad one, except that any character (`#`) may take the place of a letter whose frequency is given. langdetect draws
//! n-grams at random and the harness does not seed it; here it always begins with seed 0.

mod check;
mod kind;
mod language;
mod python;
mod sentences;
mod words;

use lopper_record::Fault;

pub(crate) use kind::{Instruction, parse};

/// Which of several instructions a response follows, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Followed {
    pub strict: Vec<bool>,
    pub loose: Vec<bool>,
}

/// Judges a response. An empty one follows nothing.
///
/// # Errors
/// A [`Fault`] where an instruction's own pattern takes too many steps.
pub(crate) fn judge(instructions: &[Instruction], response: &str) -> Result<Followed, Fault> {
    let variants = variants(response);
    let mut followed = Followed { strict: vec![], loose: vec![] };
    for instruction in instructions {
        let follows =
            |text: &str| Ok::<_, Fault>(!python::strip(text).is_empty() && check::follows(instruction, text)?);
        let strict = follows(response)?;
        let mut loose = strict;
        for text in &variants {
            if loose {
                break;
            }
            loose = follows(text)?;
        }
        followed.strict.push(strict);
        followed.loose.push(loose);
    }
    Ok(followed)
}

/// A response without its first line, its last, both; and it and these without asterisks. Each comes once.
fn variants(response: &str) -> Vec<String> {
    let lines: Vec<&str> = response.split('\n').collect();
    let last = lines.len() - 1;
    let part = |lines: &[&str]| python::strip(&lines.join("\n")).to_owned();
    let parts = [part(&lines[1..]), part(&lines[..last]), part(lines.get(1..last).unwrap_or_default())];
    let mut all: Vec<String> = vec![];
    for text in std::iter::once(response.to_owned()).chain(parts) {
        for variant in [text.replace('*', ""), text] {
            if variant != response && !all.contains(&variant) {
                all.push(variant);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
