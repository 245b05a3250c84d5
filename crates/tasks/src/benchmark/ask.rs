//! From an item's prompts to tokens, and what happens where they are too many.
//!
//! Tokens follow lm-evaluation-harness's `hf` backend: special tokens are added unless the text already
//! begins with the first of them; white space at the end of a context belongs to what follows; context and
//! continuation are tokenised together; what is too long loses its beginning. One thing differs: a
//! question that does not fit even without worked examples is a bad row rather than half a question,
//! unless asked otherwise.

use anyhow::Result;
use lopper_infer::{LoglikRequest, TextModel};

use super::BenchOptions;
use super::items::{Item, Prompt};
use super::prompt::{messages, plain};
use crate::request;

/// An item in tokens.
pub(crate) struct Asked {
    /// The whole prompt as text; of several, each.
    pub prompts: Vec<String>,
    /// For choices: requests whose continuations, one after another, are the choices.
    pub choices: Vec<LoglikRequest>,
    /// For generation: the prompt.
    pub prompt: Vec<u32>,
    /// Whether worked examples (or, if asked for, the question) lost their beginning.
    pub truncated: bool,
}

/// How items of one task are asked.
pub(crate) struct Asker<'a> {
    pub text: &'a TextModel,
    pub conversation: bool,
    pub options: &'a BenchOptions,
    /// Most tokens of a response; 0 for choices.
    pub max_new_tokens: usize,
}

impl Asker<'_> {
    /// The item's requests; the inner error says why it cannot be asked.
    pub fn ask(&self, item: &Item) -> Result<Result<Asked, String>> {
        let prompts = item.prompts.iter().map(|prompt| self.rendered(prompt, true)).collect::<Result<Vec<_>>>()?;
        let mut asked = Asked { prompts, choices: vec![], prompt: vec![], truncated: false };
        let result = match item.choices.is_empty() {
            true => self.generation(item, &mut asked)?,
            false => self.choices(item, &mut asked)?,
        };
        Ok(result.map(|()| asked))
    }

    fn rendered(&self, prompt: &Prompt, with_shots: bool) -> Result<String> {
        let turns = prompt.turns(with_shots);
        match (&self.text.chat, self.conversation) {
            (Some(chat), true) => chat.render(&messages(&turns, self.options.multiturn), true),
            _ => Ok(plain(&turns)),
        }
    }

    fn limit(&self) -> usize {
        self.text.engine.model().config.max_position_embeddings
    }

    fn choices(&self, item: &Item, asked: &mut Asked) -> Result<Result<(), String>> {
        let limit = self.limit();
        for (at, context) in asked.prompts.iter().enumerate() {
            let request = match request::continuations(self.text, context, &item.answers) {
                Ok(request) => request,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
            // The last token is predicted and never read.
            if request.context.len() + longest <= limit + 1 {
                asked.choices.push(request);
                continue;
            }
            let own = request::encode(self.text, &self.rendered(&item.prompts[at], false)?)?.len();
            if longest > limit || (own + longest > limit + 1 && !self.options.truncate_questions) {
                let length = own + longest;
                return Ok(Err(format!("its prompt of {length} tokens does not fit into the context of {limit}")));
            }
            asked.truncated = true;
            // Choices of different lengths leave different room, so they share no context any more.
            for continuation in request.continuations {
                let kept = request.context.len().min(limit + 1 - continuation.len());
                let context = request.context[request.context.len() - kept..].to_vec();
                if context.is_empty() {
                    return Ok(Err(format!("a choice fills the context of {limit} tokens")));
                }
                asked.choices.push(LoglikRequest { context, continuations: vec![continuation] });
            }
        }
        Ok(Ok(()))
    }

    fn generation(&self, item: &Item, asked: &mut Asked) -> Result<Result<(), String>> {
        let limit = self.limit();
        let mut tokens = request::encode(self.text, &asked.prompts[0])?;
        if tokens.is_empty() {
            return Ok(Err("the tokenizer makes no token of its prompt".to_owned()));
        }
        if tokens.len() + self.max_new_tokens > limit {
            let own = request::encode(self.text, &self.rendered(&item.prompts[0], false)?)?.len();
            if own >= limit && !self.options.truncate_questions {
                return Ok(Err(format!("its prompt of {own} tokens does not fit into the context of {limit}")));
            }
            // A question that fits stays whole, even where it leaves less room for the response.
            let whole = if self.options.truncate_questions { 1 } else { own };
            let room = limit.saturating_sub(self.max_new_tokens).max(whole).min(limit.saturating_sub(1)).max(1);
            if tokens.len() > room {
                asked.truncated = true;
                tokens.drain(..tokens.len() - room);
            }
        }
        asked.prompt = tokens;
        Ok(Ok(()))
    }
}
