//! Summaries, compared with the reference by ROUGE.

use lopper_pocket::{Check, Example};
use lopper_record::{Result, bail};

use super::{Family, Grade, generated};
use crate::metrics::rouge::rouge;
use crate::outcome::ItemResult;
use crate::requests::Reply;

pub(crate) struct Summary;

impl Family for Summary {
    fn metrics(&self) -> &'static [&'static str] {
        &["rouge_l", "rouge_1", "rouge_2"]
    }

    fn grade(&self, item: &Example, replies: &[Reply]) -> Result<Grade> {
        let Check::Summary { reference } = &item.check else { bail!("{} has no reference summary", item.task) };
        let (response, finish) = generated(replies)?;
        let scores = rouge(reference, response);
        let values = vec![scores.rouge_l.f1, scores.rouge_1.f1, scores.rouge_2.f1];
        let result = ItemResult {
            response: Some(response.to_owned()),
            extracted: Some(response.trim().to_owned()),
            target: reference.clone(),
            finish: Some(finish),
            ..ItemResult::default()
        };
        Ok((values, result))
    }
}
