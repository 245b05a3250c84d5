//! Texts rendered as the model sees them.
//!
//! An answer follows the prompt that the template makes of the turns before it, with its generation prompt. Where the
//! template renders prompt and answer as the prompt plus something, that something is learned, as TRL does. Where it
//! rewrites the prompt once an answer follows (Mistral moves the system prompt, R1's distillates take the reasoning
//! out) or its reasoning twice, the answer's text is appended to the prompt as it was asked, with what the template
//! puts around an answer.
//!
//! Some templates render earlier turns differently once others follow (Qwen3 removes the thinking of all but the last).
//! Such a conversation becomes one document per answer.

use super::{ExampleText, RecordedTokens};
use crate::trainer::Document;
use lopper_infer::{ChatTokenizer, Finish};
use lopper_model::chat::{ChatTemplate, Conversation, LeftOut, Message, ReasoningMarkers};
use lopper_model::tokenizer::Tokenizer;
use lopper_record::{Error, Fault, Result};
use std::sync::OnceLock;

/// An answer that no template holds.
const PROBE: &str = "Xq7answer";

/// Turns texts into training documents by a model's tokenizer and chat template.
pub struct Renderer<'a> {
    tokenizer: &'a Tokenizer,
    chat: Option<&'a ChatTemplate>,
    eos: &'a [u32],
    markers: ReasoningMarkers,
    around: OnceLock<Around>,
    longest_token: OnceLock<usize>,
}

/// How much of a text a tokenizer may drop before it makes tokens of it (white space, accents): a factor on the bytes
/// of the longest token. Texts that do not fit even so are not tokenised.
const DROPPED: usize = 4;

/// What a template puts around an answer: after the generation prompt, and at the end of the turn.
#[derive(Default)]
struct Around {
    before: String,
    after: String,
}

/// Documents of a text, and whether all its answers end as the model ends them; or why it has none.
type Rendered = Result<(Vec<Document>, bool), String>;

impl<'a> Renderer<'a> {
    /// A renderer for a model whose answers end with one of the tokens `eos`.
    pub fn new(tokenizer: &'a Tokenizer, chat: Option<&'a ChatTemplate>, eos: &'a [u32]) -> Self {
        let is_token = |token: &str| tokenizer.token_to_id(token).is_some();
        let markers = ReasoningMarkers::find(is_token, chat.map(ChatTemplate::source));
        Self { tokenizer, chat, eos, markers, around: OnceLock::new(), longest_token: OnceLock::new() }
    }

    /// The renderer of `text`.
    pub fn of(text: &'a ChatTokenizer) -> Self {
        Self::new(&text.tokenizer, text.chat.as_deref(), &text.special.eos)
    }

    /// Whether `text` is certainly longer than `max_length` tokens. Tokenising takes about a hundred times the text's
    /// memory: a line of 45 MB took 5.1 GB, and takes 0.2 GB where it is left alone.
    pub(super) fn is_longer(&self, text: &ExampleText, max_length: usize) -> bool {
        let bytes = match text {
            ExampleText::Chat(chat) => chat.messages.iter().map(|message| message.text().len()).sum(),
            ExampleText::Plain { prompt, response } => prompt.len() + response.len(),
        };
        let longest_token = *self.longest_token.get_or_init(|| self.tokenizer.longest_token());
        bytes / DROPPED / longest_token > max_length
    }

    pub(super) fn count_left_out(&self, text: &ExampleText, counts: &mut LeftOut) {
        if let (Some(chat), ExampleText::Chat(conversation)) = (self.chat, text) {
            chat.count_left_out(conversation, counts);
        }
    }

    pub(super) fn remarks(&self, counts: &LeftOut) -> Vec<String> {
        self.chat.map(|chat| chat.remarks(counts)).unwrap_or_default()
    }

    /// Whether `tokens` are `text` in this model's tokens: the last prompt and the response can be read in them.
    pub(super) fn agrees(&self, text: &ExampleText, tokens: &RecordedTokens) -> bool {
        let (prompt, response) = text.last_exchange();
        let RecordedTokens { prompt_token_ids, response_token_ids } = tokens;
        let all = [&prompt_token_ids[..], response_token_ids].concat();
        let decode = |ids: &[u32]| self.tokenizer.decode(ids, true);
        if prompt_token_ids.is_empty() || response_token_ids.is_empty() || !self.tokenizer.has_embeddings(&all) {
            return false;
        }
        let (Ok(before), Ok(all)) = (decode(prompt_token_ids), decode(&all)) else { return false };
        let prompt = prompt.trim();
        // The end of the prompt may be held back until what follows it is known.
        let asked = before.rfind(prompt).or_else(|| all.rfind(prompt));
        asked.is_some_and(|at| all[at + prompt.len()..].contains(response.trim()))
    }

    /// The document of recorded tokens.
    pub(super) fn as_generated(&self, tokens: &RecordedTokens, finish: Option<Finish>) -> (Vec<Document>, bool) {
        let start = tokens.prompt_token_ids.len();
        let all = [&tokens.prompt_token_ids[..], &tokens.response_token_ids].concat();
        let ended = all.last().is_some_and(|last| self.eos.contains(last)) || finish == Some(Finish::StopString);
        (vec![Span { end: all.len(), tokens: all, start, ended }.document()], ended)
    }

    /// The documents of a text.
    ///
    /// # Errors
    /// A [`Fault`] for a conversation, where the model has no chat template.
    pub(super) fn rendered(&self, text: &ExampleText, finish: Option<Finish>) -> Result<Rendered> {
        match text {
            ExampleText::Chat(conversation) => {
                let chat = self.chat.ok_or_else(|| {
                    ChatTemplate::missing().hint("base models have none; rows with `prompt` and `response` need none")
                })?;
                Ok(self.conversation(chat, conversation))
            }
            ExampleText::Plain { prompt, response } => Ok(self.continuation(prompt, response, finish)),
        }
    }

    fn conversation(&self, chat: &ChatTemplate, conversation: &Conversation) -> Rendered {
        let (mut answers, mut unusable) = (Vec::<Span>::new(), None);
        for (index, message) in conversation.messages.iter().enumerate().filter(|(_, m)| m.role == "assistant") {
            match self.answer(chat, conversation, index, message) {
                Ok(answer) => answers.push(answer),
                Err(what) => unusable = Some(what),
            }
        }
        let Some(last) = answers.last() else {
            return Err(unusable.unwrap_or_else(|| "no assistant message, so nothing to train on".to_owned()));
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

    /// The answer `message` of number `index` after the prompt of the turns before it.
    fn answer(
        &self,
        chat: &ChatTemplate,
        conversation: &Conversation,
        index: usize,
        message: &Message,
    ) -> Result<Span, String> {
        if index == 0 {
            return Err("an assistant message before any other".to_owned());
        }
        let text = message.text();
        if text.trim().is_empty() && message.other.values().all(serde_json::Value::is_null) {
            return Err("an empty answer".to_owned());
        }
        // A template may refuse some conversations, such as two user messages in a row.
        let render =
            |count, prompt| chat.render_conversation(&conversation.first(count), prompt).map_err(|e| one_line(&e));
        let before = render(index, true)?;
        let rendered = render(index + 1, false);
        let closings = |text: &str| text.matches(&self.markers.close).count();
        if let Ok(after) = &rendered
            && let Some(answer) = after.strip_prefix(&before)
            // Reasoning whose beginning the prompt holds would be rendered as an answer, after an empty thought.
            && (closings(&text) == 0 || closings(answer) <= closings(&text))
        {
            let Around { before: prefix, after: suffix } = self.around(chat);
            if text.trim().is_empty() && answer.trim() == format!("{prefix}{suffix}").trim() {
                return Err("an answer that the chat template renders to nothing".to_owned());
            }
            return self.span(&before, after, false);
        }
        let around = self.around(chat);
        if text.trim().is_empty() {
            return Err("the chat template renders the prompt of an answer without text differently".to_owned());
        }
        // An answer that brings its reasoning along needs no empty thought before it.
        let brings_its_own = closings(&text) > 0 && closings(&around.before) > 0;
        let prefix = if brings_its_own { "" } else { around.before.as_str() };
        self.span(&before, &format!("{before}{prefix}{text}{}", around.after), false)
    }

    /// What the template puts around an answer, read off a conversation of one exchange.
    fn around(&self, chat: &ChatTemplate) -> &Around {
        self.around.get_or_init(|| {
            let exchange = [Message::user("hi"), Message::assistant(PROBE)];
            let (Ok(prompt), Ok(whole)) = (chat.render(&exchange[..1], true), chat.render(&exchange, false)) else {
                return Around::default();
            };
            let Some(at) = whole.rfind(PROBE) else { return Around::default() };
            let before = whole[..at].strip_prefix(&prompt).unwrap_or_default().to_owned();
            Around { before, after: whole[at + PROBE.len()..].to_owned() }
        })
    }

    fn continuation(&self, prompt: &str, response: &str, finish: Option<Finish>) -> Rendered {
        if response.is_empty() {
            return Err("an empty response".to_owned());
        }
        let mut answer = self.span(prompt, &format!("{prompt}{response}"), true)?;
        // A response that ended at a stop string was not ended by the model.
        if !answer.ended && finish != Some(Finish::StopString) {
            answer.tokens.extend(self.eos.first());
            answer.end = answer.tokens.len();
            answer.ended = !self.eos.is_empty();
        }
        if answer.start == 0 {
            return Err("an empty prompt, with a tokenizer that adds no beginning-of-text token".to_owned());
        }
        let ended = answer.ended || finish == Some(Finish::StopString);
        Ok((vec![answer.document()], ended))
    }

    /// The span of the tokens that `after` adds to `before`, with which it begins.
    fn span(&self, before: &str, after: &str, add_special: bool) -> Result<Span, String> {
        let encode = |text: &str, add| self.tokenizer.encode(text, add).map_err(|error| error.to_string());
        let prompt = encode(before, add_special)?;
        let mut tokens = encode(after, add_special)?;
        let mut start = prompt.iter().zip(&tokens).take_while(|(a, b)| a == b).count();
        // The last token of the prompt may merge with the beginning of the answer, and is then part of the loss. If
        // more differs, the model is asked with the prompt's own tokens, and the answer's follow them.
        if start + 1 < prompt.len() {
            start = prompt.len();
            tokens = [prompt, encode(&after[before.len()..], false)?].concat();
        }
        // Nothing is generated after an end token, so a template's line break there is not part of the answer.
        let end = tokens[start..].iter().position(|token| self.eos.contains(token)).map(|at| start + at + 1);
        let ended = end.is_some();
        let end = end.unwrap_or(tokens.len());
        if start == end {
            return Err("an answer that the chat template renders to nothing".to_owned());
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

fn one_line(error: &Error) -> String {
    match error.fault() {
        Some(Fault { message, got: Some(got), .. }) => format!("{message}: {got}"),
        _ => error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
