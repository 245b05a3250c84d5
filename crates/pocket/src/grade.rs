//! Grades generated responses.

use crate::example::{Check, Example, Prompt};
use crate::lang::{Limits, Outcome, passes};

/// The grade of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The answer is right.
    Right,
    /// The answer is wrong, or there is none.
    Wrong,
    /// The code failed, in this way.
    Failed(Outcome),
    /// Not graded here: choices by log-likelihood and summaries by ROUGE are graded by the crate `tasks`.
    NotJudged,
}

impl Example {
    /// Grades a response, given without its end token.
    pub fn judge(&self, response: &str) -> Verdict {
        let right = match &self.check {
            Check::Number(n) => self.number(response) == Some(*n),
            Check::Brackets { prefix } => balanced(&format!("{prefix}{response}")),
            Check::Code { function, cases } => {
                return match passes(response, function, cases, Limits::default()) {
                    Ok(()) => Verdict::Right,
                    Err(outcome) => Verdict::Failed(outcome),
                };
            }
            Check::Choice { .. } | Check::Summary { .. } => return Verdict::NotJudged,
        };
        if right { Verdict::Right } else { Verdict::Wrong }
    }

    /// The number that a response gives as its answer: after the last `####` in a conversation, else at the beginning.
    pub fn number(&self, response: &str) -> Option<i64> {
        match self.prompt {
            Prompt::Chat(_) => leading_number(response.rsplit_once("####")?.1),
            Prompt::Plain(_) => leading_number(response),
        }
    }
}

/// The integer at the beginning of a text, without thousands separators. A minus sign may be the typographic one.
pub fn leading_number(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (sign, digits) = text.strip_prefix(['-', '−']).map_or(("", text), |rest| ("-", rest));
    let end = digits.find(|c: char| !c.is_ascii_digit() && c != ',').unwrap_or(digits.len());
    let digits = digits[..end].replace(',', "");
    format!("{sign}{digits}").parse().ok()
}

/// Whether a text consists of balanced brackets and white space.
pub fn balanced(text: &str) -> bool {
    let mut stack = Vec::new();
    for c in text.chars() {
        match c {
            '(' => stack.push(')'),
            '[' => stack.push(']'),
            '{' => stack.push('}'),
            ')' | ']' | '}' if stack.pop() == Some(c) => {}
            c if c.is_whitespace() => {}
            _ => return false,
        }
    }
    stack.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Split, examples, tasks};

    #[test]
    fn reference_answers_are_right_and_corrupted_ones_are_not() {
        for task in tasks() {
            for example in examples(task.name, Split::Report, 7).take(300) {
                let verdict = example.judge(&example.answer);
                if matches!(example.check, Check::Choice { .. } | Check::Summary { .. }) {
                    assert_eq!(verdict, Verdict::NotJudged);
                    continue;
                }
                assert_eq!(verdict, Verdict::Right, "{example:?}");
                let (corrupted, empty) = (format!("{}1)", example.answer), "");
                assert_ne!(example.judge(&corrupted), Verdict::Right, "{example:?}");
                assert_ne!(example.judge(empty), Verdict::Right, "{example:?}");
            }
        }
    }

    #[test]
    fn numbers_and_brackets_are_read_strictly() {
        assert_eq!(leading_number(" -1,204 coins"), Some(-1204));
        assert_eq!(leading_number(" −1,204 coins"), Some(-1204));
        assert_eq!(leading_number(" - 4"), None);
        assert_eq!(leading_number("99999999999999999999"), None);
        assert!(balanced("( [ ] { } )") && balanced(""));
        assert!(!balanced("( ]") && !balanced("( ) )") && !balanced("( x )") && !balanced("("));
    }
}
