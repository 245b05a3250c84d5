//! The tokenizer, chat template and special tokens of a checkpoint ([`ChatTokenizer`]), and with an engine, which knows
//! token ids only, a model that reads and writes text ([`TextModel`]).

use crate::engine::Engine;
use lopper_model::chat::{ChatTemplate, Conversation, Message, ReasoningMarkers};
use lopper_model::generation::SpecialIds;
use lopper_model::tokenizer::Tokenizer;
use lopper_model::{Checkpoint, Model};
use lopper_record::Result;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

/// Turns text and conversations into tokens and back, as one checkpoint does. Cloning shares everything.
#[derive(Clone)]
pub struct ChatTokenizer {
    /// Turns text into tokens and back.
    pub tokenizer: Arc<Tokenizer>,
    /// Renders conversations; none where the checkpoint has no chat template.
    pub chat: Option<Arc<ChatTemplate>>,
    /// Tokens that begin and end texts.
    pub special: SpecialIds,
}

/// An engine with its tokenizer and chat template. Cloning shares everything. Fields and methods of [`ChatTokenizer`]
/// are its own.
#[derive(Clone)]
pub struct TextModel {
    /// Runs the model.
    pub engine: Engine,
    /// Its tokenizer and chat template.
    pub text: ChatTokenizer,
}

impl Deref for TextModel {
    type Target = ChatTokenizer;

    fn deref(&self) -> &ChatTokenizer {
        &self.text
    }
}

impl TextModel {
    /// Joins `engine` with the tokenizer, template and special tokens of `checkpoint`.
    pub fn new(engine: Engine, checkpoint: &Checkpoint) -> Result<Self> {
        Ok(Self { engine, text: ChatTokenizer::from_checkpoint(checkpoint)? })
    }

    /// Another model (a healed one, say) with the same tokenizer and chat template.
    pub fn with_model(&self, model: Model) -> Self {
        Self { engine: self.engine.with_model(model), ..self.clone() }
    }

    /// The same model whose chat template is rendered with these variables; see
    /// [`ChatTokenizer::with_template_variables`].
    pub fn with_template_variables(&self, variables: &BTreeMap<String, serde_json::Value>) -> Result<Self> {
        Ok(Self { engine: self.engine.clone(), text: self.text.with_template_variables(variables)? })
    }
}

impl ChatTokenizer {
    /// The tokenizer, chat template and special tokens of `checkpoint`.
    pub fn from_checkpoint(checkpoint: &Checkpoint) -> Result<Self> {
        let tokenizer = Arc::new(Tokenizer::from_checkpoint(checkpoint)?);
        let special = SpecialIds::from_checkpoint(checkpoint, Some(&tokenizer))?;
        let chat = ChatTemplate::from_checkpoint(checkpoint)?.map(Arc::new);
        Ok(Self { tokenizer, chat, special })
    }

    /// The same, whose chat template is rendered with these variables, such as `enable_thinking`.
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

    /// The chat template.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the model has none.
    pub fn template(&self) -> Result<&ChatTemplate> {
        self.chat.as_deref().ok_or_else(|| ChatTemplate::missing().into())
    }

    /// Tokens of a conversation as the chat template renders it; with the generation prompt at its end, the model's
    /// answer comes next.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the model has no chat template.
    pub fn conversation(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<u32>> {
        // The template writes its own special tokens; adding them again would double the first.
        self.tokenizer.encode(&self.template()?.render(messages, add_generation_prompt)?, false)
    }

    /// As [`ChatTokenizer::conversation`], with the conversation's own tools and variables.
    ///
    /// # Errors
    /// A [`Fault`](lopper_record::Fault) where the model has no chat template.
    pub fn rendered(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<Vec<u32>> {
        self.tokenizer.encode(&self.template()?.render_conversation(conversation, add_generation_prompt)?, false)
    }

    /// Tokens of plain text, with the special tokens that the tokenizer adds.
    pub fn plain(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.encode(text, true)
    }

    /// Text of generated tokens, without special tokens.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer.decode(tokens, true)
    }

    /// Between which texts the model reasons: those that its vocabulary or its chat template knows.
    pub fn reasoning_markers(&self) -> ReasoningMarkers {
        let is_token = |token: &str| self.tokenizer.token_to_id(token).is_some();
        ReasoningMarkers::find(is_token, self.chat.as_deref().map(ChatTemplate::source))
    }
}
