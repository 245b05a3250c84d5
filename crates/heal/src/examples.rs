//! From texts to training documents: tokens with loss weights.
//!
//! Responses that a model generated come with their tokens ([`RecordedTokens`]), and exactly these are learned: the
//! loss is on the generated tokens, with the end token where one was generated. Texts without tokens are rendered by
//! the chat template (`render`): every answer after the prompt as the model would see it, with the loss on the answers
//! only.
//!
//! Not covered: weights per turn, packing of several examples into one.

mod file;
mod filter;
mod hold_out;
pub mod layouts;
mod mix;
mod render;

pub use file::{RowSource, read_examples};
pub use filter::{DataFilters, Duplicates, EvaluatedTexts, ExampleFilter, OverlapCheck, has_loop};
pub use hold_out::{HoldOut, TrainingSet};
pub use render::Renderer;

use crate::trainer::Document;
use lopper_infer::Finish;
use lopper_model::chat::{Conversation, LeftOut};
use lopper_record::Result;
use lopper_record::study::AnswerCounts;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One text to train on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExampleText {
    /// A conversation, with the loss on its assistant turns.
    Chat(Conversation),
    /// A plain text and its continuation, with the loss on the continuation; for base models.
    Plain {
        /// The text.
        prompt: String,
        /// The continuation.
        response: String,
    },
}

impl ExampleText {
    /// What the prompt ends with, and the response to it.
    pub(crate) fn last_exchange(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        match self {
            Self::Chat(Conversation { messages, .. }) => {
                let (response, prompt) = match messages.as_slice() {
                    [prompt @ .., response] => (response.text(), prompt.last().map(|message| message.text())),
                    [] => Default::default(),
                };
                (prompt.unwrap_or_default(), response)
            }
            Self::Plain { prompt, response } => (prompt.into(), response.into()),
        }
    }
}

/// The tokens of a generated response, as the model saw and drew them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedTokens {
    /// Tokens of the prompt.
    pub prompt_token_ids: Vec<u32>,
    /// Generated tokens, with the end token where one ended the response.
    pub response_token_ids: Vec<u32>,
}

/// A text to train on, with what is known of how it was generated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The text.
    pub text: ExampleText,
    /// Its tokens, if they were recorded.
    pub tokens: Option<RecordedTokens>,
    /// Why its last response ended, if known: one that was cut off is excluded, and a plain one that ended at a stop
    /// string gets no end token.
    pub finish: Option<Finish>,
}

/// What a text may be, to be learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExampleLimits {
    /// Most tokens of an example.
    pub max_length: usize,
    /// Whether generated answers that were cut off at their length limit count, as far as they go. Learning from tokens
    /// they teach nothing of how answers end; a teacher's distributions are right wherever a text stops.
    pub cut_off: bool,
}

impl ExampleLimits {
    /// Finished answers of up to `max_length` tokens in all.
    pub fn finished(max_length: usize) -> Self {
        Self { max_length, cut_off: false }
    }
}

/// Documents to train on, and how many texts were excluded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    /// The documents.
    pub documents: Vec<Document>,
    /// The number of the text of each document: a conversation may become several.
    texts: Vec<usize>,
    /// Numbers of used and excluded texts.
    pub report: ExampleReport,
    left_out: LeftOut,
}

/// How many texts were used, and why others were excluded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExampleReport {
    /// Texts seen.
    pub rows: usize,
    /// Texts that gave documents.
    pub used: usize,
    /// Excluded: longer than the limit.
    pub too_long: usize,
    /// Excluded: the answer was cut off at its length limit when it was generated.
    pub cut_off: usize,
    /// Used as far as they go: cut off at the length limit when they were generated.
    #[serde(skip_serializing_if = "is_zero")]
    pub used_cut_off: usize,
    /// Excluded: the answer was cut off where it filled the context.
    pub context_full: usize,
    /// Excluded: the answer repeats itself, or was stopped because it did.
    pub repetitive: usize,
    /// Excluded: the answers have fewer tokens than they should.
    #[serde(skip_serializing_if = "is_zero")]
    pub short_answer: usize,
    /// Excluded: the answers have more tokens than they should.
    #[serde(skip_serializing_if = "is_zero")]
    pub long_answer: usize,
    /// Excluded: an item that is evaluated is in it.
    #[serde(skip_serializing_if = "is_zero")]
    pub overlap: usize,
    /// Of these, how many are with the items of each task or file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub overlap_with: BTreeMap<String, usize>,
    /// Excluded: the same as an example before it.
    #[serde(skip_serializing_if = "is_zero")]
    pub duplicate: usize,
    /// Excluded: nearly the same as an example before it.
    #[serde(skip_serializing_if = "is_zero")]
    pub near_duplicate: usize,
    /// Used, though an example with another prompt has the same answer.
    #[serde(skip_serializing_if = "is_zero")]
    pub same_answer: usize,
    /// How many used examples have the commonest answer, and its tokens; only of answers that say more than a choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commonest_answer: Option<(usize, usize)>,
    /// Excluded: not usable; `complaints` describes the first ones.
    pub unusable: usize,
    /// Excluded: usable, but too many for the proportions of the files.
    #[serde(skip_serializing_if = "is_zero")]
    pub not_drawn: usize,
    /// Used with the tokens that were recorded when they were generated.
    pub as_generated: usize,
    /// Used, but rendered again: the recorded tokens are not this text in this model's tokens.
    pub tokens_differ: usize,
    /// Used, but the template put no end token after an answer, so ending is not learned.
    pub without_end: usize,
    /// What was wrong with the first few, with the number of the row (or line), from 1.
    pub complaints: Vec<(usize, String)>,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Most complaints that are kept.
const COMPLAINTS: usize = 10;

impl ExampleReport {
    /// The texts as records count them.
    pub fn counts(&self) -> AnswerCounts {
        AnswerCounts {
            answers: self.rows,
            used: self.used,
            cut_off: self.cut_off,
            context_full: self.context_full,
            repetitive: self.repetitive,
            short_answer: self.short_answer,
            long_answer: self.long_answer,
            overlap: self.overlap,
            duplicate: self.duplicate,
            near_duplicate: self.near_duplicate,
            too_long: self.too_long,
            unusable: self.unusable,
            ..AnswerCounts::default()
        }
    }
}

impl Examples {
    /// Adds the text of number `row` (from 1), if it can be used and `filter` keeps it.
    ///
    /// # Errors
    /// If no text can be used: a [`Fault`](lopper_record::Fault) for a model without a chat template.
    pub fn add(
        &mut self,
        renderer: &Renderer<'_>,
        row: usize,
        example: &Example,
        limits: ExampleLimits,
        filter: &mut ExampleFilter<'_>,
    ) -> Result<()> {
        self.report.rows += 1;
        let (report, max_length) = (&mut self.report, limits.max_length);
        let recorded = || example.tokens.as_ref().filter(|tokens| renderer.agrees(&example.text, tokens));
        let is_cut_off = example.finish == Some(Finish::Length);
        let unfinished = match example.finish {
            // Without the tokens, a template would end the answer.
            Some(Finish::Length) if limits.cut_off && recorded().is_some() => None,
            Some(Finish::Length) => Some(&mut report.cut_off),
            Some(Finish::ContextFull) => Some(&mut report.context_full),
            Some(Finish::Loop) => Some(&mut report.repetitive),
            Some(Finish::Stop | Finish::StopString) | None => None,
        };
        if let Some(count) = unfinished {
            *count += 1;
            return Ok(());
        }
        if renderer.is_longer(&example.text, max_length) {
            self.report.too_long += 1;
            return Ok(());
        }
        let recorded = recorded();
        let rendered = match recorded {
            Some(tokens) => Ok(renderer.as_generated(tokens, example.finish)),
            None => {
                renderer.count_left_out(&example.text, &mut self.left_out);
                renderer.rendered(&example.text, example.finish)?
            }
        };
        match rendered {
            Ok((documents, _)) if documents.iter().any(|d| d.tokens.len() > max_length) => self.report.too_long += 1,
            Ok((documents, _)) if !filter.keeps(&example.text, &documents, &mut self.report) => {}
            Ok((documents, ended)) => {
                self.texts.extend(documents.iter().map(|_| row));
                self.documents.extend(documents);
                self.report.used += 1;
                self.report.used_cut_off += usize::from(is_cut_off);
                self.report.without_end += usize::from(!ended && !is_cut_off);
                self.report.as_generated += usize::from(recorded.is_some());
                self.report.tokens_differ += usize::from(example.tokens.is_some() && recorded.is_none());
            }
            Err(what) => self.complain(row, what),
        }
        Ok(())
    }

    /// What became of the rendered texts that their authors may not expect, a sentence each.
    pub fn remarks(&self, renderer: &Renderer<'_>) -> Vec<String> {
        renderer.remarks(&self.left_out)
    }

    fn complain(&mut self, row: usize, what: String) {
        self.report.unusable += 1;
        if self.report.complaints.len() < COMPLAINTS {
            self.report.complaints.push((row, what));
        }
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(|d| d.tokens.len()).sum()
    }
}
