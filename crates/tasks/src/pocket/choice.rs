//! Multiple choice: the choice of the highest log-likelihood after the prompt is the answer.

use lopper_infer::TextModel;
use lopper_pocket::{Check, Example, TaskInfo};
use lopper_record::{Result, bail, ensure};

use super::{Family, Grade, binary, log_likelihoods};
use crate::metrics::choice::{best, best_per_length};
use crate::outcome::ItemResult;
use crate::requests::{ItemRequest, Reply, continuations};

pub(crate) struct Choice;

impl Family for Choice {
    fn metrics(&self) -> &'static [&'static str] {
        &["acc", "acc_norm"]
    }

    fn requests(&self, text: &TextModel, item: &Example, _: &TaskInfo) -> Result<Vec<ItemRequest>> {
        let (choices, _) = choices(item)?;
        Ok(vec![ItemRequest::Loglikelihood(continuations(text, item.prompt.text(), choices)?)])
    }

    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade> {
        let (choices, label) = choices(item)?;
        let sums = log_likelihoods(replies)?;
        ensure!(sums.len() == choices.len(), "each choice has one log-likelihood");
        // The space before a choice delimits it and is no part of it.
        let texts: Vec<String> = choices.iter().map(|choice| choice.trim_start().to_owned()).collect();
        let picked = best(sums);
        let picked_per_length = best_per_length(sums, texts.iter().map(|text| text.chars().count()));
        let values = vec![binary(picked == Some(label)), binary(picked_per_length == Some(label))];
        let result = ItemResult {
            extracted: picked.map(|at| texts[at].clone()),
            target: texts.get(label).cloned().unwrap_or_default(),
            choices: Some(texts),
            logprobs: Some(sums.to_vec()),
            ..ItemResult::default()
        };
        Ok((values, result))
    }
}

fn choices(item: &Example) -> Result<(&[String], usize)> {
    match &item.check {
        Check::Choice { choices, label } => Ok((choices, *label)),
        _ => bail!("{} is not multiple choice", item.task),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_pocket::Prompt;

    #[test]
    fn the_longer_choice_can_win_per_length_only() {
        let item = Example {
            task: "t",
            id: String::new(),
            prompt: Prompt::Plain("It is".into()),
            answer: " elephants".into(),
            check: Check::Choice { choices: vec![" ant".into(), " elephants".into()], label: 1 },
        };
        // Per character: -3/3 = -1 and -4.5/9 = -0.5.
        let (values, grade) = Choice.grade(&item, &[Reply::Loglikelihood(vec![-3.0, -4.5])]).unwrap();
        assert_eq!(values, [0.0, 1.0]);
        assert_eq!((grade.extracted.as_deref(), grade.target.as_str()), (Some("ant"), "elephants"));
        assert!(Choice.grade(&item, &[Reply::Loglikelihood(vec![-3.0])]).is_err());
        assert!(Choice.grade(&item, &[]).is_err());
    }
}
