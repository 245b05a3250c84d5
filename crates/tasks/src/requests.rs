//! What a model is to compute ([`Requests`]), what it computed ([`Replies`]), and the way from an item's texts to
//! requests in tokens.

use std::sync::Arc;

use lopper_infer::{
    AnswerStop, Finish, Generation, Loglik, LoglikRequest, LoopStop, ReasonedResponse, ReasoningReader, Request,
    StopStrings, TextModel, Thought,
};
use lopper_model::chat::Message;
use lopper_pocket::{Example, Prompt, TaskInfo};
use lopper_record::{Context, Result, bail, key_hash};
use serde_json::json;

use crate::GenerationPolicy;

/// What one candidate is to compute, in tokens. Together with the model and its layers it decides every reply.
#[derive(Debug, Clone, Default)]
pub struct Requests {
    /// Log-likelihoods of continuations.
    pub choices: Vec<LoglikRequest>,
    /// Texts to generate.
    pub generations: Vec<Request>,
    /// Sequences of which the log-probability of every token is wanted.
    pub sequences: Vec<Vec<u32>>,
    /// When a generated text that repeats itself is stopped; none: never.
    pub loop_stop: Option<LoopStop>,
}

impl Requests {
    /// No request yet; what is generated will stop as `policy` says.
    pub fn new(policy: &GenerationPolicy) -> Self {
        Self { loop_stop: policy.loop_stop, ..Self::default() }
    }

    /// Number of requests of all kinds.
    pub fn len(&self) -> usize {
        self.choices.len() + self.generations.len() + self.sequences.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What one candidate computed: for each of its [`Requests`] one reply, in their order.
#[derive(Debug, Clone, Default)]
pub struct Replies {
    /// The log-likelihood of each continuation.
    pub choices: Vec<Vec<Loglik>>,
    /// The generated texts.
    pub generations: Vec<Generation>,
    /// The natural log-probability of every token but the first, which nothing predicts.
    pub sequences: Vec<Vec<Option<f32>>>,
    /// What it took.
    pub pace: Pace,
}

/// Seconds for each token that a call of the engine read or generated. Where several candidates went through together,
/// their time is divided by the tokens of all.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pace {
    /// Of log-likelihoods.
    pub choices: f64,
    /// Of generated texts, prompts among them.
    pub generations: f64,
}

/// A request that an item makes.
pub(crate) enum ItemRequest {
    /// Log-likelihoods of continuations of one context.
    Loglikelihood(LoglikRequest),
    /// Text until a stop.
    Generate {
        /// The prompt's tokens.
        prompt: Vec<u32>,
        /// Most tokens to generate.
        max_new_tokens: usize,
    },
}

/// The reply to an [`ItemRequest`] of the same kind.
pub(crate) enum Reply {
    /// One log-likelihood for each continuation.
    Loglikelihood(Vec<f64>),
    /// The text without what ended it.
    Generated(Response),
}

/// A response of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// What the model thought before it, if anything.
    pub thought: Option<Thought>,
    /// The answer, cut before the stop string; empty after a thought that never ended.
    pub text: String,
    /// Why the generation ended.
    pub finish: Finish,
}

#[cfg(test)]
impl Reply {
    pub fn generated(text: &str) -> Self {
        Self::Generated(Response { thought: None, text: text.into(), finish: Finish::Stop })
    }
}

impl Response {
    /// Reads a generation that continues `prompt`, whose answer ends before the first of `stop`.
    ///
    /// # Errors
    /// For tokens that cannot be decoded.
    pub fn read(
        reader: &ReasoningReader,
        prompt: &[u32],
        generation: &Generation,
        stop: Option<&Arc<StopStrings>>,
    ) -> Result<Self> {
        let ReasonedResponse { thought, answer } = reader.read(generation, reader.opened_by(prompt))?;
        Ok(Self { thought, text: before_stop(answer, stop), finish: generation.finish })
    }

    /// Whether it is a thought that never ended.
    pub fn is_unfinished_thought(&self) -> bool {
        self.thought.as_ref().is_some_and(|thought| !thought.finished)
    }
}

/// The request for the log-likelihood of each of `choices` after `context`.
///
/// Tokens follow lm-evaluation-harness: white space at the end of the context belongs to the
/// choices, and a choice's tokens are those of both together after those of the context alone, since
/// a tokenizer may join what meets at the border.
pub(crate) fn continuations(text: &TextModel, context: &str, choices: &[String]) -> Result<LoglikRequest> {
    let kept = context.trim_end();
    let gap = &context[kept.len()..];
    let mut tokens = encode(text, kept)?;
    // An empty context is the beginning of a text, and what follows has no special tokens of its own.
    let at = if kept.is_empty() { 0 } else { tokens.len() };
    if kept.is_empty() {
        tokens = first_token(text).into_iter().collect();
    }
    let mut continuations = Vec::with_capacity(choices.len());
    for choice in choices {
        let whole = format!("{kept}{gap}{choice}");
        let whole = if kept.is_empty() { text.tokenizer.encode(&whole, false)? } else { encode(text, &whole)? };
        match whole.get(at..) {
            Some(rest) if !rest.is_empty() => continuations.push(rest.to_vec()),
            _ => bail!("the tokenizer makes no token of {choice:?} after its context"),
        }
    }
    Ok(LoglikRequest { context: tokens, continuations })
}

/// The token that begins texts, or else the one that ends them.
fn first_token(text: &TextModel) -> Option<u32> {
    text.special.bos.or_else(|| text.special.eos.first().copied())
}

/// Tokens of a text with the tokenizer's special tokens, unless it already begins with the first of
/// them, as what a chat template gives often does.
pub(crate) fn encode(text: &TextModel, plain: &str) -> Result<Vec<u32>> {
    let begins = match first_token(text) {
        Some(token) => {
            let first = text.tokenizer.decode(&[token], false)?;
            !first.is_empty() && plain.starts_with(&first)
        }
        None => false,
    };
    text.tokenizer.encode(plain, !begins)
}

/// Moves the tokens that all continuations begin with into the context, so that what is left differs
/// from the first token on. Each keeps at least one token.
pub(crate) fn share_prefix(mut request: LoglikRequest) -> LoglikRequest {
    let Some((first, others)) = request.continuations.split_first() else { return request };
    let longest = request.continuations.iter().map(Vec::len).min().unwrap_or(0).saturating_sub(1);
    let common = (0..longest).take_while(|&at| others.iter().all(|other| other[at] == first[at])).count();
    request.context.extend_from_slice(&first[..common]);
    for continuation in &mut request.continuations {
        continuation.drain(..common);
    }
    request
}

/// The request for a response to the item's prompt.
///
/// The task's own length is in the pocket tokenizer's words. Another tokenizer may need more tokens, so
/// the reference answer and its end token always fit.
pub(crate) fn generation(text: &TextModel, item: &Example, info: &TaskInfo) -> Result<ItemRequest> {
    let prompt = match &item.prompt {
        Prompt::Chat(message) => text.conversation(&[Message::user(message.as_str())], true)?,
        Prompt::Plain(prompt) => text.plain(prompt)?,
    };
    let reference = text.tokenizer.encode(&item.answer, false)?.len() + 1;
    Ok(ItemRequest::Generate { prompt, max_new_tokens: info.max_new_tokens.max(reference) })
}

/// The stop strings of a task or probe and of a policy, if there are any.
pub fn stop_strings(
    text: &TextModel,
    of_task: &[impl AsRef<str>],
    policy: &GenerationPolicy,
) -> Option<Arc<StopStrings>> {
    let of_task = of_task.iter().map(AsRef::as_ref);
    let stops: Vec<String> = of_task.chain(policy.stop.iter().map(String::as_str)).map(str::to_owned).collect();
    if stops.is_empty() {
        return None;
    }
    let tokenizer = text.tokenizer.clone();
    // Ids come from the model, whose vocabulary the tokenizer may not fill; such a token is no text.
    let decode = move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
    Some(Arc::new(StopStrings::new(Arc::new(decode), stops)))
}

/// A text cut before the first of `stop`.
pub(crate) fn before_stop(mut text: String, stop: Option<&Arc<StopStrings>>) -> String {
    if let Some(end) = stop.and_then(|stop| stop.find(&text)) {
        text.truncate(end);
    }
    text
}

/// A request whose stop strings end the answer and not a thought, and whose thought has the policy's limit.
///
/// # Errors
/// A [`Fault`](lopper_record::Fault) where the tokenizer cannot write the end of a thought.
pub fn reasoning_request(
    reader: &ReasoningReader,
    prompt: Vec<u32>,
    stop: Option<&Arc<StopStrings>>,
    policy: &GenerationPolicy,
) -> Result<Request> {
    let opened = reader.opened_by(&prompt);
    let stop = stop.map(|stop| Arc::new(AnswerStop::new(stop.clone(), reader.clone(), opened)) as _);
    let thinking = policy.max_thinking_tokens.map(|tokens| reader.budget(tokens, opened)).transpose()?;
    Ok(Request { stop, thinking, ..Request::greedy(prompt, 0) })
}

/// Makes the engine's requests of one task.
#[derive(Clone, Copy)]
pub(crate) struct RequestMaker<'a> {
    pub text: &'a TextModel,
    pub policy: &'a GenerationPolicy,
    pub task: &'a str,
    pub stop: Option<&'a Arc<StopStrings>>,
    pub reader: &'a ReasoningReader,
}

impl RequestMaker<'_> {
    /// Response number `repeat` to an item. What is sampled depends on the policy's seed, the task, the item and this
    /// number, and on nothing that runs in the same batch.
    pub fn response(&self, item: &str, repeat: usize, prompt: &[u32], max_new_tokens: usize) -> Result<Request> {
        let mut key = json!({"seed": self.policy.sampling_seed, "task": self.task, "item": item});
        if repeat > 0 {
            key["repeat"] = repeat.into();
        }
        let hash = key_hash(&key)?;
        let seed =
            hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).context("a hash is hexadecimal")?;
        Ok(Request {
            max_new_tokens,
            sampling: self.policy.sampling,
            seed,
            stop_tokens: self.text.special.eos.clone(),
            ..reasoning_request(self.reader, prompt.to_vec(), self.stop, self.policy)?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_prefix_moves_into_the_context() {
        let request = |continuations: &[&[u32]]| LoglikRequest {
            context: vec![1],
            continuations: continuations.iter().map(|c| c.to_vec()).collect(),
        };
        let moved = share_prefix(request(&[&[9, 8, 3], &[9, 8, 4, 5]]));
        assert_eq!(moved, LoglikRequest { context: vec![1, 9, 8], continuations: vec![vec![3], vec![4, 5]] });
        // Nothing may become empty, and different beginnings stay.
        assert_eq!(share_prefix(request(&[&[9], &[9, 8]])).continuations, [vec![9], vec![9, 8]]);
        assert_eq!(share_prefix(request(&[&[1, 2], &[3, 2]])).context, [1]);
        assert_eq!(share_prefix(request(&[])).context, [1]);
    }
}
