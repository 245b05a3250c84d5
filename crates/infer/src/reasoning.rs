//! Reasoning within generated tokens: where a thought ends and the answer begins ([`ReasoningReader`]), stop strings
//! that do not end a thought ([`AnswerStop`]), and a limit on how long a model thinks ([`ThinkingBudget`]).
//!
//! A budget is budget forcing as in s1 (Muennighoff et al., arXiv 2501.19393), which Qwen3's documentation calls the
//! thinking budget: after so many tokens of thought the end marker is put, as if the model had written it, and
//! generation goes on with the answer. Not covered: making a model think longer.

use crate::generate::Generation;
use crate::stop::{StopCheck, StopStrings};
use crate::text::ChatTokenizer;

use lopper_model::chat::{Reasoned, ReasoningMarkers};
use lopper_record::{Fault, Result};
use std::fmt;
use std::sync::Arc;

/// Tokens at the end of a prompt in which an opening marker is looked for, and at the beginning of a response.
const EDGE: usize = 32;

/// What a model thought before its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thought {
    /// The text between the markers, without white space around it.
    pub text: String,
    /// Its tokens, without the markers; none where only the text is known.
    pub tokens: Option<usize>,
    /// Whether the end marker follows.
    pub finished: bool,
    /// Whether a [`ThinkingBudget`] put the end marker.
    pub cut: bool,
}

/// A response, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasonedResponse {
    /// What the model thought; none where nothing is marked as thought.
    pub thought: Option<Thought>,
    /// What follows the thought; the whole text where there is none.
    pub answer: String,
}

/// Tells the thoughts of one model from its answers.
#[derive(Clone)]
pub struct ReasoningReader {
    text: ChatTokenizer,
    markers: ReasoningMarkers,
    /// The markers that are tokens of their own.
    ids: [Option<u32>; 2],
}

impl fmt::Debug for ReasoningReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReasoningReader").field("markers", &self.markers).finish_non_exhaustive()
    }
}

impl ReasoningReader {
    /// A reader of responses in the tokens of `text`, with its own markers where none are given.
    pub fn new(text: &ChatTokenizer, markers: Option<&ReasoningMarkers>) -> Self {
        let markers = markers.cloned().unwrap_or_else(|| text.reasoning_markers());
        let ids = [&markers.open, &markers.close].map(|marker| text.tokenizer.token_to_id(marker));
        Self { text: text.clone(), markers, ids }
    }

    /// The markers.
    pub fn markers(&self) -> &ReasoningMarkers {
        &self.markers
    }

    /// Whether a prompt ends inside a thought, so that the response begins there.
    pub fn opened_by(&self, prompt: &[u32]) -> bool {
        let tail = &prompt[prompt.len().saturating_sub(EDGE)..];
        self.text.tokenizer.decode(tail, false).is_ok_and(|tail| self.markers.opened_by(&tail))
    }

    /// The text of generated tokens without special tokens, but with the markers, also where these are special tokens.
    ///
    /// # Errors
    /// For tokens that cannot be decoded.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let marker = |token: &u32| self.ids.iter().position(|id| *id == Some(*token));
        let is_special = |at: usize| {
            let id: Vec<u32> = self.ids[at].into_iter().collect();
            self.text.decode(&id).is_ok_and(|text| text.is_empty())
        };
        let (mut text, mut rest) = (String::new(), tokens);
        while let Some((at, which)) = rest.iter().enumerate().find_map(|(at, token)| Some((at, marker(token)?)))
            && is_special(which)
        {
            text.push_str(&self.text.decode(&rest[..at])?);
            text.push_str(if which == 0 { &self.markers.open } else { &self.markers.close });
            rest = &rest[at + 1..];
        }
        // Whole texts are decoded as one, since a token's text may depend on its neighbours.
        text.push_str(&self.text.decode(rest)?);
        Ok(text)
    }

    /// Takes a generation apart whose prompt was `opened` or not.
    ///
    /// # Errors
    /// For tokens that cannot be decoded.
    pub fn read(&self, generation: &Generation, opened: bool) -> Result<ReasonedResponse> {
        let text = self.decode(&generation.tokens)?;
        let mut response = self.read_text(&text, opened);
        if let Some(thought) = &mut response.thought {
            thought.tokens = Some(self.thinking_tokens(&generation.tokens, opened, thought.finished)?);
            thought.cut = generation.thought_cut;
        }
        Ok(response)
    }

    /// Takes a text apart; the number of tokens stays unknown.
    pub fn read_text(&self, text: &str, opened: bool) -> ReasonedResponse {
        let Reasoned { reasoning, answer, finished } = self.markers.split(text, opened);
        let thought = |text: &str| Thought { text: text.to_owned(), tokens: None, finished, cut: false };
        ReasonedResponse { thought: reasoning.map(thought), answer: answer.to_owned() }
    }

    fn thinking_tokens(&self, tokens: &[u32], opened: bool, finished: bool) -> Result<usize> {
        let begin = if opened || !self.begins(tokens) { 0 } else { self.length_of(0)? };
        let end = match (finished, self.ids[1]) {
            (false, _) => tokens.len(),
            (true, Some(id)) => tokens.iter().position(|token| *token == id).unwrap_or(tokens.len()),
            (true, None) => {
                // The shortest beginning that holds the whole marker.
                let (mut low, mut high) = (0, tokens.len());
                while low < high {
                    let middle = low.midpoint(high);
                    match self.decode(&tokens[..middle])?.contains(&self.markers.close) {
                        true => high = middle,
                        false => low = middle + 1,
                    }
                }
                low.saturating_sub(self.length_of(1)?)
            }
        };
        Ok(end.saturating_sub(begin))
    }

    /// Tokens of the opening (0) or the closing (1) marker.
    fn length_of(&self, which: usize) -> Result<usize> {
        Ok(self.tokens_of(which)?.len())
    }

    fn tokens_of(&self, which: usize) -> Result<Vec<u32>> {
        let marker = if which == 0 { &self.markers.open } else { &self.markers.close };
        match self.ids[which] {
            Some(id) => Ok(vec![id]),
            None => self.text.tokenizer.encode(marker, false),
        }
    }

    /// Whether a response begins with the opening marker.
    fn begins(&self, tokens: &[u32]) -> bool {
        let head = self.decode(&tokens[..tokens.len().min(EDGE)]);
        head.is_ok_and(|head| head.trim_start().starts_with(&self.markers.open))
    }

    /// Whether generated tokens end within a thought.
    fn is_thinking(&self, tokens: &[u32], opened: bool) -> bool {
        if !opened && !self.begins(tokens) {
            return false;
        }
        match self.ids[1] {
            Some(id) => !tokens.contains(&id),
            None => self.decode(tokens).is_ok_and(|text| !text.contains(&self.markers.close)),
        }
    }

    /// Refuses a thinking budget that leaves no room for an answer in the `length` tokens of `what`.
    ///
    /// # Errors
    /// That [`Fault`].
    pub fn check_room(budget: Option<usize>, length: usize, what: &str) -> Result<()> {
        match budget.filter(|budget| *budget >= length) {
            None => Ok(()),
            Some(budget) => Err(Fault::new("the thinking budget leaves no room for an answer")
                .expected(format!("fewer tokens of reasoning than the {length} of {what}"))
                .got(budget.to_string())
                .hint("raise --max-new-tokens, which counts reasoning and answer together")
                .into()),
        }
    }

    /// The budget of `tokens` for the thought of a response whose prompt was `opened` or not.
    ///
    /// # Errors
    /// A [`Fault`] where the tokenizer cannot write the end marker.
    pub fn budget(&self, tokens: usize, opened: bool) -> Result<ThinkingBudget> {
        let end = self.tokens_of(1)?;
        if end.is_empty() || !self.decode(&end)?.contains(&self.markers.close) {
            return Err(Fault::new("the tokenizer cannot write the end of a thought")
                .expected(format!("tokens whose text is {:?}", self.markers.close))
                .got(format!("{:?}", self.decode(&end)?))
                .hint("set the model's own markers with --reasoning-markers")
                .into());
        }
        let after = if opened { tokens } else { tokens.saturating_add(self.length_of(0)?) };
        let thought = Arc::new(OpenThought { reader: self.clone(), opened });
        Ok(ThinkingBudget { after, end, thought })
    }
}

/// Decides whether generated tokens end within a thought.
pub trait ThoughtCheck: Send + Sync + fmt::Debug {
    /// Whether the thought that `generated` begins with, or that the prompt began, has not ended. Called where a budget
    /// is used up or the text repeats itself, not at every token.
    fn is_thinking(&self, generated: &[u32]) -> bool;
}

#[derive(Debug)]
struct OpenThought {
    reader: ReasoningReader,
    opened: bool,
}

impl ThoughtCheck for OpenThought {
    fn is_thinking(&self, generated: &[u32]) -> bool {
        self.reader.is_thinking(generated, self.opened)
    }
}

/// A limit on the thought of one response: where the model still thinks after so many tokens, or repeats itself while
/// it thinks ([`LoopStop`](crate::LoopStop)), tokens that end the thought are put, and generation goes on.
#[derive(Debug, Clone)]
pub struct ThinkingBudget {
    /// Generated tokens after which a thought is ended, with those of an opening marker that the model writes itself.
    pub after: usize,
    /// Tokens that end a thought; at least one.
    pub end: Vec<u32>,
    /// Whether the model still thinks.
    pub thought: Arc<dyn ThoughtCheck>,
}

/// Stop strings that end an answer and not the thought before it.
#[derive(Debug)]
pub struct AnswerStop {
    stop: Arc<StopStrings>,
    reader: ReasoningReader,
    opened: bool,
}

impl AnswerStop {
    /// Stops at `stop` in the answer to a prompt that was `opened` or not.
    pub fn new(stop: Arc<StopStrings>, reader: ReasoningReader, opened: bool) -> Self {
        Self { stop, reader, opened }
    }
}

impl StopCheck for AnswerStop {
    fn stopped(&self, generated: &[u32]) -> bool {
        if !self.stop.stopped(generated) {
            return false;
        }
        if self.reader.is_thinking(generated, self.opened) {
            return false;
        }
        let Ok(text) = self.reader.decode(generated) else { return true };
        let response = self.reader.read_text(&text, self.opened);
        // The newest tokens may still hold a string of the thought.
        response.thought.is_none() || self.stop.find(&response.answer).is_some()
    }
}
