//! Bracket completion: the shown opening and the response together must be balanced.

use lopper_pocket::Example;
use lopper_pocket::grade::Verdict;
use lopper_record::Result;

use super::{Family, Grade, binary, generated};
use crate::outcome::ItemResult;
use crate::requests::Reply;

pub(crate) struct Brackets;

impl Family for Brackets {
    fn metrics(&self) -> &'static [&'static str] {
        &["balanced"]
    }

    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade> {
        let (response, finish) = generated(replies)?;
        let values = vec![binary(item.judge(response) == Verdict::Right)];
        let result = ItemResult {
            response: Some(response.to_owned()),
            extracted: Some(response.trim().to_owned()),
            target: item.answer.trim().to_owned(),
            finish: Some(finish),
            ..ItemResult::default()
        };
        Ok((values, result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_pocket::{Check, Prompt};

    #[test]
    fn only_what_closes_everything_counts() {
        let item = Example {
            task: "t",
            id: String::new(),
            prompt: Prompt::Plain("Close the brackets: ( [ Answer:".into()),
            answer: " ] )".into(),
            check: Check::Brackets { prefix: "( [".into() },
        };
        let value = |text: &str| Brackets.grade(&item, &[Reply::generated(text)]).unwrap().0;
        assert_eq!(value(" ] )"), [1.0]);
        for wrong in ["", " ) ]", " ]", " ] ) )", " ] ) ok"] {
            assert_eq!(value(wrong), [0.0], "{wrong:?}");
        }
    }
}
