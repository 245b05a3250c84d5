//! Answers that are one whole number: word problems solved in steps, and the arithmetic probe of
//! arXiv 2602.01997, which also looks at the answer's first digit alone.
//!
//! Two readings of a response are scored. The strict one wants the number where the task says it
//! belongs; the flexible one takes the last number, wherever it is. A model that computes well but
//! has lost the form shows as a difference between them.

use lopper_infer::TextModel;
use lopper_pocket::{Check, Example, TaskInfo};
use lopper_record::{Context, Result, bail};

use super::{Family, Grade, binary, generated, log_likelihoods};
use crate::metrics::choice::best;
use crate::metrics::number::last_number;
use crate::outcome::ItemResult;
use crate::requests::{ItemRequest, Reply, continuations, generation, share_prefix};

pub(crate) struct Number {
    /// Whether the digits are compared at the position of the answer's first one.
    pub first_digit: bool,
}

impl Family for Number {
    fn metrics(&self) -> &'static [&'static str] {
        match self.first_digit {
            true => &["exact_match", "flexible_match", "first_digit"],
            false => &["exact_match", "flexible_match"],
        }
    }

    fn requests(&self, text: &TextModel, item: &Example, info: &TaskInfo) -> Result<Vec<ItemRequest>> {
        let mut requests = vec![generation(text, item, info)?];
        if self.first_digit {
            let (at, _) = first_digit(item)?;
            // The answer up to its first digit is given, a minus sign included.
            let context = format!("{}{}", item.prompt.text(), &item.answer[..at]);
            let digits: Vec<String> = (0..10).map(|digit| digit.to_string()).collect();
            requests.push(ItemRequest::Loglikelihood(share_prefix(continuations(text, &context, &digits)?)));
        }
        Ok(requests)
    }

    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade> {
        let Check::Number(target) = item.check else { bail!("{} does not ask for a number", item.task) };
        let (response, finish) = generated(replies)?;
        let strict = item.number(response);
        let flexible = last_number(response);
        let mut values = vec![binary(strict == Some(target)), binary(flexible == Some(target))];
        let mut logprobs = None;
        if self.first_digit {
            let digits = log_likelihoods(replies)?;
            values.push(binary(best(digits) == Some(first_digit(item)?.1)));
            logprobs = Some(digits.to_vec());
        }
        let outcome = match strict {
            Some(number) if number == target => "right",
            Some(_) => "wrong",
            None => "no_answer",
        };
        let result = ItemResult {
            response: Some(response.to_owned()),
            extracted: strict.map(|number| number.to_string()),
            target: target.to_string(),
            logprobs,
            outcome: Some(outcome.to_owned()),
            finish: Some(finish),
            ..ItemResult::default()
        };
        Ok((values, result))
    }
}

/// The byte position of the first digit in the reference answer, and that digit.
fn first_digit(item: &Example) -> Result<(usize, usize)> {
    let digit = item.answer.char_indices().find_map(|(at, c)| Some((at, c.to_digit(10)? as usize)));
    digit.with_context(|| format!("the answer {:?} has no digit", item.answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_pocket::Prompt;

    fn item(prompt: Prompt, answer: &str, value: i64) -> Example {
        Example { task: "t", id: String::new(), prompt, answer: answer.into(), check: Check::Number(value) }
    }

    fn said(text: &str) -> Reply {
        Reply::generated(text)
    }

    #[test]
    fn strict_and_flexible_readings_differ() {
        let task = Number { first_digit: false };
        let word = item(Prompt::Chat("…".into()), "2 + 2 = 4\n#### 4", 4);
        let grade = |text: &str| task.grade(&word, &[said(text)]).unwrap();
        for (text, values, outcome) in [
            ("2 + 2 = 4\n#### 4", [1.0, 1.0], "right"),
            ("2 + 2 = 4", [0.0, 1.0], "no_answer"),
            ("#### 5 and 4", [0.0, 1.0], "wrong"),
            ("#### −4", [0.0, 0.0], "wrong"),
            ("", [0.0, 0.0], "no_answer"),
        ] {
            let (got, result) = grade(text);
            assert_eq!((got.as_slice(), result.outcome.as_deref()), (values.as_slice(), Some(outcome)), "{text:?}");
        }
    }

    #[test]
    fn the_first_digit_stands_after_the_minus_sign() {
        let task = Number { first_digit: true };
        let arith = item(Prompt::Plain("Question: What is 3 - 9 - 7? Answer:".into()), " -13", -13);
        assert_eq!(first_digit(&arith).unwrap(), (2, 1));
        let mut digits = vec![-5.0; 10];
        digits[1] = -0.1;
        let (values, grade) = task.grade(&arith, &[said(" 13"), Reply::Loglikelihood(digits)]).unwrap();
        assert_eq!(values, [0.0, 0.0, 1.0]);
        assert_eq!(grade.logprobs.unwrap()[1], -0.1);
        assert!(task.grade(&arith, &[said(" -13")]).is_err());
    }
}
