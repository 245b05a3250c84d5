//! Answers that the cut writes itself while it is trained: on-policy distillation.

use crate::recipe::OnPolicy;
use crate::self_generated::response_seed;
use crate::trainer::Document;
use lopper_infer::{Engine, GenerateOptions, Request, Sampling};
use lopper_model::Model;
use lopper_record::{Progress, Result};
use serde::{Deserialize, Serialize};

/// The cut's answers for some steps, written by the weights that it had before the first of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OwnAnswers {
    /// The first step that they are for, from 0.
    first_step: usize,
    /// How many steps they are for.
    steps: usize,
    answers: Vec<OwnAnswer>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct OwnAnswer {
    step: usize,
    /// The number of the example in the step's batch.
    position: usize,
    /// Tokens up to the answer.
    prompt: usize,
    /// Tokens of the answer, with the end token where one ended it.
    tokens: Vec<u32>,
}

/// How answers are written.
pub(super) struct Writer<'a> {
    pub settings: OnPolicy,
    pub seed: u64,
    /// Tokens that end an answer.
    pub stop_tokens: &'a [u32],
    /// Most tokens of prompt and answer.
    pub max_length: usize,
    pub threads: usize,
}

impl Writer<'_> {
    /// Answers for the batches `batches` of the steps from `first_step` on.
    ///
    /// # Errors
    /// Those of the engine; [`Interrupted`](lopper_record::Interrupted).
    pub fn write(
        &self,
        model: &Model,
        first_step: usize,
        batches: &[Vec<&Document>],
        progress: &dyn Progress,
    ) -> Result<OwnAnswers> {
        let (mut answers, mut requests) = (Vec::new(), Vec::new());
        for (step, batch) in (first_step..).zip(batches) {
            for (position, document) in batch.iter().enumerate() {
                let prompt = prompt_length(document);
                let index = 2 * (step * (1 << 20) + position);
                let draw = (response_seed(self.seed, index)? >> 11) as f64 / (1u64 << 53) as f64;
                let left = self.max_length.saturating_sub(prompt);
                if draw >= self.settings.part || left == 0 {
                    continue;
                }
                requests.push(Request {
                    sampling: match self.settings.temperature {
                        0.0 => Sampling::Greedy,
                        temperature => Sampling::Sample { temperature, top_k: None, top_p: None },
                    },
                    seed: response_seed(self.seed, index + 1)?,
                    stop_tokens: self.stop_tokens.to_vec(),
                    ..Request::greedy(&document.tokens[..prompt], self.settings.max_new_tokens.min(left))
                });
                answers.push(OwnAnswer { step, position, prompt, tokens: Vec::new() });
            }
        }
        let engine = Engine::new(model.clone(), self.threads)?;
        let written = engine.generate(&engine.all_layers(), &requests, &GenerateOptions::default(), progress)?;
        for (answer, written) in answers.iter_mut().zip(written) {
            answer.tokens = written.tokens.into_iter().chain(written.stop_token).collect();
        }
        answers.retain(|answer| !answer.tokens.is_empty());
        Ok(OwnAnswers { first_step, steps: batches.len(), answers })
    }
}

impl OwnAnswers {
    /// Whether they are for this step.
    pub fn are_for(&self, step: usize) -> bool {
        (self.first_step..self.first_step + self.steps).contains(&step)
    }

    /// Tokens of all answers.
    pub fn tokens(&self) -> u64 {
        self.answers.iter().map(|answer| answer.tokens.len() as u64).sum()
    }

    /// Puts them into the batch of `step`; the loss of such an example is on the cut's answer alone.
    pub fn put_into(&self, step: usize, batch: &mut [Document]) {
        for OwnAnswer { position, prompt, tokens, .. } in self.answers.iter().filter(|answer| answer.step == step) {
            let document = &mut batch[*position];
            document.tokens.truncate(*prompt);
            document.tokens.extend(tokens);
            document.weights = vec![0.0; *prompt];
            document.weights.resize(document.tokens.len(), 1.0);
        }
    }
}

/// Tokens before the last answer of a document.
fn prompt_length(document: &Document) -> usize {
    let in_loss = |index: &usize| document.weights[*index] != 0.0;
    let last = (1..document.weights.len()).rev().find(in_loss).unwrap_or(1);
    (1..last).rev().find(|index| !in_loss(index)).map_or(1, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_answer_is_written_anew() {
        let document =
            |weights: &[f32]| Document { tokens: (0..weights.len() as u32).collect(), weights: weights.to_vec() };
        let lengths = [&[0.0, 0.0, 1.0, 1.0][..], &[1.0, 1.0, 1.0], &[0.0, 1.0, 0.0, 0.0, 1.0, 0.0]];
        assert_eq!(lengths.map(|weights| prompt_length(&document(weights))), [2, 1, 4]);

        let answer = OwnAnswer { step: 5, position: 1, prompt: 4, tokens: vec![8, 9, 7] };
        let own = OwnAnswers { first_step: 4, steps: 2, answers: vec![answer] };
        assert_eq!([3, 4, 5, 6].map(|step| own.are_for(step)), [false, true, true, false]);
        let given = document(&[0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let mut batch = vec![given.clone(); 2];
        own.put_into(4, &mut batch);
        assert_eq!(batch, vec![given.clone(); 2]);
        own.put_into(5, &mut batch);
        let weights = vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0];
        assert_eq!(batch, [given, Document { tokens: vec![0, 1, 2, 3, 8, 9, 7], weights }]);
    }
}
