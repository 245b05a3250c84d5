//! From an item's texts to the engine's requests, and from what the engine returns back to text.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use lopper_infer::{Finish, LoglikRequest, Request, Sampling, StopStrings, TextModel};
use lopper_model::chat::Message;
use lopper_pocket::{Example, Prompt, TaskInfo};
use lopper_record::key_hash;
use serde_json::json;

/// Something an item asks of the model.
pub(crate) enum Ask {
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

/// What came back for an [`Ask`] of the same kind.
pub(crate) enum Reply {
    /// One log-likelihood for each continuation.
    Loglikelihood(Vec<f64>),
    /// The text without what ended it.
    Generated {
        /// Decoded, cut before the stop string.
        text: String,
        /// Why it ended.
        finish: Finish,
    },
}

/// Asks for the log-likelihood of each of `choices` after `context`.
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

/// Asks for a response to the item's prompt.
///
/// The task's length is in the pocket tokenizer's words. Another tokenizer may need more tokens, so
/// the reference answer and its end token always fit.
pub(crate) fn generation(text: &TextModel, item: &Example, info: &TaskInfo) -> Result<Ask> {
    let prompt = match &item.prompt {
        Prompt::Chat(message) => text.conversation(&[Message::user(message.as_str())], true)?,
        Prompt::Plain(prompt) => text.plain(prompt)?,
    };
    let reference = text.tokenizer.encode(&item.answer, false)?.len() + 1;
    Ok(Ask::Generate { prompt, max_new_tokens: info.max_new_tokens.max(reference) })
}

/// The stop strings of a task, if it has any.
pub(crate) fn stop_strings(text: &TextModel, stops: &[impl AsRef<str>]) -> Option<Arc<StopStrings>> {
    if stops.is_empty() {
        return None;
    }
    let tokenizer = text.tokenizer.clone();
    // Ids come from the model, whose vocabulary the tokenizer may not fill; such a token is no text.
    let decode = move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
    Some(Arc::new(StopStrings::new(Arc::new(decode), stops.iter().map(|stop| stop.as_ref().to_owned()))))
}

/// Whose response a generation is; its draws depend on nothing else.
#[derive(Clone, Copy)]
pub(crate) struct Draw<'a> {
    pub task: &'a str,
    pub item: &'a str,
    /// The number of the response, where an item gets several.
    pub repeat: usize,
    pub sampling: Sampling,
    pub seed: u64,
}

/// The engine's request for a generation. Its seed depends on the item, not on what runs beside it.
pub(crate) fn engine_request(
    text: &TextModel,
    ask: (&[u32], usize),
    draw: Draw<'_>,
    stop: Option<&Arc<StopStrings>>,
) -> Result<Request> {
    let mut key = json!({"seed": draw.seed, "task": draw.task, "item": draw.item});
    if draw.repeat > 0 {
        key["repeat"] = draw.repeat.into();
    }
    let hash = key_hash(&key)?;
    let seed = hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).context("a hash is hexadecimal")?;
    Ok(Request {
        prompt: ask.0.to_vec(),
        max_new_tokens: ask.1,
        sampling: draw.sampling,
        seed,
        stop_tokens: text.special.eos.clone(),
        stop: stop.map(|stop| stop.clone() as _),
    })
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
