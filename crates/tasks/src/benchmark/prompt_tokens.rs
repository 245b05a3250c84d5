//! From an item's prompts to tokens, and what happens where they are too many.
//!
//! Tokens follow lm-evaluation-harness's `hf` backend: special tokens are added unless the text already
//! begins with the first of them; white space at the end of a context belongs to what follows; context and
//! continuation are tokenised together; what is too long loses its beginning. One thing differs: a
//! question that does not fit even without few-shot examples is a bad row rather than half a question,
//! unless [`GenerationPolicy::truncate_questions`] says otherwise.

use lopper_infer::{LoglikRequest, TextModel};
use lopper_record::Result;

use super::items::{Item, Prompt};
use super::prompt::{messages, plain};
use crate::GenerationPolicy;
use crate::requests;

/// An item's prompts in tokens.
pub(crate) struct PromptTokens {
    /// The whole prompt as text; of several, each.
    pub prompts: Vec<String>,
    /// For choices: requests whose continuations, one after another, are the choices.
    pub choices: Vec<LoglikRequest>,
    /// For generation: the prompt.
    pub prompt: Vec<u32>,
    /// Whether few-shot examples (or, where the policy allows it, the question) lost their beginning.
    pub truncated: bool,
}

/// Turns the items of one task into tokens.
pub(crate) struct PromptBuilder<'a> {
    pub text: &'a TextModel,
    pub conversation: bool,
    pub policy: &'a GenerationPolicy,
    /// Most tokens of a response; 0 for choices.
    pub max_new_tokens: usize,
}

impl PromptBuilder<'_> {
    /// The item in tokens; the inner error says why its row is a bad one.
    pub fn tokens(&self, item: &Item) -> Result<Result<PromptTokens, String>> {
        let prompts = item.prompts.iter().map(|prompt| self.rendered(prompt, true)).collect::<Result<Vec<_>>>()?;
        let mut tokens = PromptTokens { prompts, choices: vec![], prompt: vec![], truncated: false };
        let result = match item.choices.is_empty() {
            true => self.generation(item, &mut tokens)?,
            false => self.choices(item, &mut tokens)?,
        };
        Ok(result.map(|()| tokens))
    }

    fn rendered(&self, prompt: &Prompt, with_shots: bool) -> Result<String> {
        let turns = prompt.turns(with_shots);
        match (&self.text.chat, self.conversation) {
            (Some(chat), true) => chat.render(&messages(&turns, self.policy.multiturn), true),
            _ => Ok(plain(&turns)),
        }
    }

    fn limit(&self) -> usize {
        self.text.engine.model().config.max_position_embeddings
    }

    fn choices(&self, item: &Item, all: &mut PromptTokens) -> Result<Result<(), String>> {
        let limit = self.limit();
        for (at, context) in all.prompts.iter().enumerate() {
            let request = match requests::continuations(self.text, context, &item.answers) {
                Ok(request) => request,
                Err(error) => return Ok(Err(error.to_string())),
            };
            let longest = request.continuations.iter().map(Vec::len).max().unwrap_or(0);
            // The last token is predicted and never read.
            if request.context.len() + longest <= limit + 1 {
                all.choices.push(request);
                continue;
            }
            let own = requests::encode(self.text, &self.rendered(&item.prompts[at], false)?)?.len();
            if longest > limit || (own + longest > limit + 1 && !self.policy.truncate_questions) {
                let length = own + longest;
                return Ok(Err(format!("its prompt of {length} tokens does not fit into the context of {limit}")));
            }
            all.truncated = true;
            // Choices of different lengths leave different room, so they share no context any more.
            for continuation in request.continuations {
                let kept = request.context.len().min(limit + 1 - continuation.len());
                let context = request.context[request.context.len() - kept..].to_vec();
                if context.is_empty() {
                    return Ok(Err(format!("a choice fills the context of {limit} tokens")));
                }
                all.choices.push(LoglikRequest { context, continuations: vec![continuation] });
            }
        }
        Ok(Ok(()))
    }

    fn generation(&self, item: &Item, all: &mut PromptTokens) -> Result<Result<(), String>> {
        let limit = self.limit();
        let mut tokens = requests::encode(self.text, &all.prompts[0])?;
        if tokens.is_empty() {
            return Ok(Err("the tokenizer makes no token of its prompt".to_owned()));
        }
        if tokens.len() + self.max_new_tokens > limit {
            let own = requests::encode(self.text, &self.rendered(&item.prompts[0], false)?)?.len();
            if own >= limit && !self.policy.truncate_questions {
                return Ok(Err(format!("its prompt of {own} tokens does not fit into the context of {limit}")));
            }
            // A question that fits stays whole, even where it leaves less room for the response.
            let whole = if self.policy.truncate_questions { 1 } else { own };
            let room = limit.saturating_sub(self.max_new_tokens).max(whole).min(limit.saturating_sub(1)).max(1);
            if tokens.len() > room {
                all.truncated = true;
                tokens.drain(..tokens.len() - room);
            }
        }
        all.prompt = tokens;
        Ok(Ok(()))
    }
}
