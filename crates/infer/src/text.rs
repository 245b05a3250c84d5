//! An engine, which knows token ids only, with the tokenizer, chat template and special tokens of the same checkpoint.

use crate::engine::Engine;
use lopper_model::chat::{ChatTemplate, Message};
use lopper_model::generation::SpecialIds;
use lopper_model::tokenizer::Tokenizer;
use lopper_model::{Checkpoint, Model};
use lopper_record::Result;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An engine with its tokenizer and chat template. Cloning shares everything.
#[derive(Clone)]
pub struct TextModel {
    /// Runs the model.
    pub engine: Engine,
    /// Turns text into tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Renders conversations; none where the checkpoint has no chat template.
    pub chat: Option<Arc<ChatTemplate>>,
    /// Tokens that begin and end texts.
    pub special: SpecialIds,
}

impl TextModel {
    /// Joins `engine` with the tokenizer, template and special tokens of `checkpoint`.
    pub fn new(engine: Engine, checkpoint: &Checkpoint) -> Result<Self> {
        let tokenizer = Arc::new(Tokenizer::from_checkpoint(checkpoint)?);
        let special = SpecialIds::from_checkpoint(checkpoint, Some(&tokenizer))?;
        let chat = ChatTemplate::from_checkpoint(checkpoint)?.map(Arc::new);
        Ok(Self { engine, tokenizer, chat, special })
    }

    /// Another model (a healed one, say) with the same tokenizer and chat template.
    pub fn with_model(&self, model: Model) -> Self {
        Self { engine: self.engine.with_model(model), ..self.clone() }
    }

    /// The same model whose chat template is rendered with these variables, such as `enable_thinking`.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) for variables without a chat template, and for names that the renderer itself
    /// sets.
    pub fn with_template_variables(&self, variables: &BTreeMap<String, serde_json::Value>) -> Result<Self> {
        if variables.is_empty() {
            return Ok(self.clone());
        }
        let chat = self.chat.as_ref().ok_or_else(|| {
            ChatTemplate::missing()
                .got(format!("`{}`", variables.keys().cloned().collect::<Vec<_>>().join("`, `")))
                .hint("leave --template-var out")
        })?;
        Ok(Self { chat: Some(Arc::new(chat.with_variables(variables)?)), ..self.clone() })
    }

    /// Tokens of a conversation as the chat template renders it; with the generation prompt at its end, the model's
    /// answer comes next.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the model has no chat template.
    pub fn conversation(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        let chat = self.chat.as_ref().ok_or_else(ChatTemplate::missing)?;
        // The template writes its own special tokens; adding them again would double the first.
        self.tokenizer.encode(&chat.render(messages, add_generation_prompt)?, false)
    }

    /// Tokens of plain text, with the special tokens that the tokenizer adds.
    pub fn plain(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, true)
    }

    /// Text of generated tokens, without special tokens.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true)
    }
}
