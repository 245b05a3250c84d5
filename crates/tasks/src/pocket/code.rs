//! Functions that are executed: pass@1 of one response for each item.
//!
//! Programs run in `lopper_pocket::lang`, which reaches nothing outside itself. It knows a subset of
//! Python, so another model's solution that uses more of the language counts as `other`.

use lopper_pocket::Example;
use lopper_pocket::grade::Verdict;
use lopper_record::Result;

use super::{Family, Grade, binary, generated};
use crate::outcome::ItemResult;
use crate::requests::Reply;

pub(crate) struct Code;

impl Family for Code {
    fn metrics(&self) -> &'static [&'static str] {
        &["pass@1"]
    }

    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade> {
        let (response, finish) = generated(replies)?;
        let source = fenced(response);
        let outcome = match item.judge(source) {
            Verdict::Right => "passed",
            Verdict::Failed(outcome) => outcome.class(),
            Verdict::Wrong | Verdict::NotJudged => "other",
        };
        let values = vec![binary(outcome == "passed")];
        let result = ItemResult {
            response: Some(response.to_owned()),
            extracted: Some(source.to_owned()),
            target: item.answer.clone(),
            outcome: Some(outcome.to_owned()),
            finish: Some(finish),
            ..ItemResult::default()
        };
        Ok((values, result))
    }
}

/// The first block of code between fences, as chat models write it; the whole text where there is no
/// fence. A block that is not closed goes to the end.
fn fenced(text: &str) -> &str {
    let Some((_, block)) = text.split_once("```") else { return text };
    // The rest of the opening line names the language.
    let body = block.split_once('\n').map_or("", |(_, body)| body);
    body.split_once("```").map_or(body, |(body, _)| body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_pocket::{Check, Prompt};

    #[test]
    fn responses_are_run_and_classified() {
        let item = Example {
            task: "t",
            id: String::new(),
            prompt: Prompt::Chat("…".into()),
            answer: "def f(a):\n    return a + 1".into(),
            check: Check::Code { function: "f".into(), cases: vec![(vec![1], 2), (vec![-1], 0)] },
        };
        let outcome = |text: &str| {
            let reply = Reply::generated(text);
            let (values, grade) = Code.grade(&item, &[reply]).unwrap();
            (values[0], grade.outcome.unwrap())
        };
        assert_eq!(outcome(&item.answer), (1.0, "passed".into()));
        assert_eq!(outcome("Sure:\n```python\ndef f(a):\n    return a + 1\n```\nDone."), (1.0, "passed".into()));
        assert_eq!(outcome("def f(a):\n    return a + 2"), (0.0, "assertion".into()));
        assert_eq!(outcome("def f(a):\n    return (a + 1"), (0.0, "bracket_or_literal".into()));
        assert_eq!(outcome("def f(a:\n    return"), (0.0, "bracket_or_literal".into()));
        assert_eq!(outcome("def g(a):\n    return a + 1"), (0.0, "name_not_defined".into()));
        assert_eq!(outcome("def f(a):\n    while True:\n        pass"), (0.0, "timeout".into()));
        assert_eq!(outcome("def def"), (0.0, "other_syntax".into()));
    }

    #[test]
    fn the_first_fenced_block_is_the_code() {
        assert_eq!(fenced("plain"), "plain");
        assert_eq!(fenced("a ```py\nx\n``` b ```\ny\n```"), "x\n");
        assert_eq!(fenced("```\nx"), "x");
        assert_eq!(fenced("```x"), "");
    }
}
