//! From texts to training documents: tokens with loss weights.
//!
//! The loss is on answers only: the weight is 1 on the tokens of assistant turns up to and including the end token, and
//! 0 elsewhere. Where an answer begins and ends is found by rendering the conversation without it and with it, which
//! works for any chat template: the answer is what the second rendering adds, which is also what the model generates. A
//! template whose second rendering does not begin with the first is refused.
//!
//! Some templates render earlier turns differently once others follow (Qwen3 removes the thinking of all but the last).
//! Such a conversation becomes one example per answer, each rendered as when the model generates it.
//!
//! Not covered: tool calls, weights per turn, packing of several examples into one.

mod file;

pub use file::read_examples;

use crate::trainer::Document;
use lopper_infer::{Finish, TextModel};
use lopper_model::chat::{ChatTemplate, Message};
use lopper_model::tokenizer::Tokenizer;
use lopper_record::{Error, Fault, Result};
use serde::{Deserialize, Serialize};

/// One text to train on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExampleText {
    /// A conversation, with the loss on its assistant turns.
    Chat {
        /// The turns, in order.
        messages: Vec<Message>,
    },
    /// A plain text and its continuation, with the loss on the continuation; for base models.
    Plain {
        /// The text.
        prompt: String,
        /// The continuation.
        response: String,
    },
}

/// Turns texts into training documents by a model's tokenizer and chat template.
#[derive(Clone, Copy)]
pub struct Renderer<'a> {
    /// The model's tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// The chat template, if there is one.
    pub chat: Option<&'a ChatTemplate>,
    /// Tokens that end an answer.
    pub eos: &'a [u32],
}

/// Why a text gave no document.
enum Refusal {
    /// This text cannot be used.
    Text(String),
    /// No text can be used with this model.
    Model(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Model(error)
    }
}

/// Documents to train on, and how many texts were excluded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Examples {
    /// The documents.
    pub documents: Vec<Document>,
    /// Numbers of used and excluded texts.
    pub report: ExampleReport,
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
    /// Excluded: the answer was cut off when it was generated.
    pub unfinished: usize,
    /// Excluded: not usable; `complaints` describes the first ones.
    pub unusable: usize,
    /// Used, but the template put no end token after an answer, so ending is not learned.
    pub without_end: usize,
    /// What was wrong with the first few, with the number of the line (or text, from 1).
    pub complaints: Vec<(usize, String)>,
}

/// Most complaints that are kept.
const COMPLAINTS: usize = 10;

impl Examples {
    /// Adds the text of number `row` (from 1). `finish` says how its answer ended, if known: one that was cut off is
    /// excluded, and one that ended at a stop string gets no end token.
    ///
    /// # Errors
    /// If no text can be used: a [`Fault`] for a model without a chat template, or with one whose renderings do not
    /// continue each other.
    pub fn add(
        &mut self,
        renderer: &Renderer<'_>,
        row: usize,
        text: &ExampleText,
        finish: Option<Finish>,
        max_length: usize,
    ) -> Result<()> {
        if matches!(finish, Some(Finish::Length | Finish::ContextFull | Finish::Loop)) {
            self.report.rows += 1;
            self.report.unfinished += 1;
            return Ok(());
        }
        match renderer.documents(text, finish) {
            Ok((documents, _)) if documents.iter().any(|d| d.tokens.len() > max_length) => self.report.too_long += 1,
            Ok((documents, ended)) => {
                self.documents.extend(documents);
                self.report.used += 1;
                self.report.without_end += usize::from(!ended);
            }
            Err(Refusal::Text(what)) => self.complain(row, what),
            Err(Refusal::Model(error)) => return Err(error),
        }
        self.report.rows += 1;
        Ok(())
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

impl<'a> Renderer<'a> {
    /// The renderer of `text`.
    pub fn of(text: &'a TextModel) -> Self {
        Self { tokenizer: &text.tokenizer, chat: text.chat.as_deref(), eos: &text.special.eos }
    }

    /// The documents of one text, and whether all its answers end with an end token.
    fn documents(&self, text: &ExampleText, finish: Option<Finish>) -> Result<(Vec<Document>, bool), Refusal> {
        match text {
            ExampleText::Chat { messages } => self.conversation(messages),
            ExampleText::Plain { prompt, response } => self.continuation(prompt, response, finish),
        }
    }

    fn conversation(&self, messages: &[Message]) -> Result<(Vec<Document>, bool), Refusal> {
        let chat = self.chat.ok_or_else(|| {
            Error::from(
                ChatTemplate::missing().hint("base models have none; rows with `prompt` and `response` need none"),
            )
        })?;
        let mut answers: Vec<Span> = Vec::new();
        for (index, message) in messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
            if index == 0 {
                return Err(Refusal::Text("an assistant message before any other".to_owned()));
            }
            if message.content.trim().is_empty() {
                return Err(Refusal::Text("an empty answer".to_owned()));
            }
            // A template may refuse some conversations, such as two user messages in a row.
            let render = |messages: &[Message], prompt| {
                chat.render(messages, prompt).map_err(|error| Refusal::Text(one_line(&error)))
            };
            let (before, after) = (render(&messages[..index], true)?, render(&messages[..=index], false)?);
            if !after.starts_with(&before) {
                return Err(Refusal::Model(not_continued(&before, &after).into()));
            }
            answers.push(self.span(&before, &after, false)?);
        }
        let Some(last) = answers.last() else {
            return Err(Refusal::Text("no assistant message, so nothing to train on".to_owned()));
        };
        let mut whole = Document { tokens: last.tokens[..last.end].to_vec(), weights: vec![0.0; last.end] };
        let (mut documents, mut ended) = (Vec::new(), true);
        for answer in answers {
            ended &= answer.ended;
            if whole.tokens.starts_with(&answer.tokens[..answer.end]) {
                whole.weights[answer.start..answer.end].fill(1.0);
            } else {
                documents.push(answer.document());
            }
        }
        documents.push(whole);
        Ok((documents, ended))
    }

    fn continuation(
        &self,
        prompt: &str,
        response: &str,
        finish: Option<Finish>,
    ) -> Result<(Vec<Document>, bool), Refusal> {
        if response.is_empty() {
            return Err(Refusal::Text("an empty response".to_owned()));
        }
        let mut answer = self.span(prompt, &format!("{prompt}{response}"), true)?;
        // A response that ended at a stop string was not ended by the model.
        if !answer.ended && finish != Some(Finish::StopString) {
            answer.tokens.extend(self.eos.first());
            answer.end = answer.tokens.len();
            answer.ended = !self.eos.is_empty();
        }
        if answer.start == 0 {
            return Err(Refusal::Text(
                "an empty prompt, with a tokenizer that adds no beginning-of-text token".to_owned(),
            ));
        }
        let ended = answer.ended || finish == Some(Finish::StopString);
        Ok((vec![answer.document()], ended))
    }

    /// The span of the tokens that `after` adds to `before`.
    fn span(&self, before: &str, after: &str, add_special: bool) -> Result<Span, Refusal> {
        let prompt = self.tokenizer.encode(before, add_special)?;
        let tokens = self.tokenizer.encode(after, add_special)?;
        let start = prompt.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        // The last token of the prompt may merge with the beginning of the answer, and is then part of the loss. If
        // more differs, the model sees another prompt.
        if start + 1 < prompt.len() {
            return Err(Refusal::Text("the tokens of the prompt change when the answer follows".to_owned()));
        }
        // Nothing is generated after an end token, so a template's line break there is not part of the answer.
        let end = tokens[start..].iter().position(|token| self.eos.contains(token)).map(|at| start + at + 1);
        let ended = end.is_some();
        let end = end.unwrap_or(tokens.len());
        if start == end {
            return Err(Refusal::Text("an answer that the chat template renders to nothing".to_owned()));
        }
        Ok(Span { tokens, start, end, ended })
    }
}

/// An answer within the tokens of a text.
#[derive(Debug, Clone)]
struct Span {
    tokens: Vec<u32>,
    start: usize,
    end: usize,
    ended: bool,
}

impl Span {
    fn document(mut self) -> Document {
        self.tokens.truncate(self.end);
        let weights = (0..self.end).map(|i| if i < self.start { 0.0 } else { 1.0 }).collect();
        Document { tokens: self.tokens, weights }
    }
}

fn not_continued(before: &str, after: &str) -> Fault {
    let common: usize = before.chars().zip(after.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum();
    let shorten = |text: &str| text[common..].chars().take(40).collect::<String>();
    Fault::new(
        "the chat template renders a prompt differently once the answer follows, so the answer cannot be located",
    )
    .expected(format!("after the common beginning, {:?}", shorten(before)))
    .got(format!("{:?} once the answer follows", shorten(after)))
    .hint("a template must render a conversation with its answer as the prompt plus the answer")
}

fn one_line(error: &Error) -> String {
    match error.fault() {
        Some(Fault { message, got: Some(got), .. }) => format!("{message}: {got}"),
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
