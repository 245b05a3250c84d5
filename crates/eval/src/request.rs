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
    let mut tokens = text.plain(kept)?;
    if tokens.is_empty() {
        // An empty context is the beginning of a text.
        tokens.extend(text.special.bos.or_else(|| text.special.eos.first().copied()));
    }
    let mut continuations = Vec::with_capacity(choices.len());
    for choice in choices {
        let whole = text.plain(&format!("{kept}{gap}{choice}"))?;
        match whole.get(tokens.len()..) {
            Some(rest) if !rest.is_empty() => continuations.push(rest.to_vec()),
            _ => bail!("the tokenizer makes no token of {choice:?} after its context"),
        }
    }
    Ok(LoglikRequest { context: tokens, continuations })
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
pub(crate) fn stop_strings(text: &TextModel, info: &TaskInfo) -> Option<Arc<StopStrings>> {
    if info.stop.is_empty() {
        return None;
    }
    let tokenizer = text.tokenizer.clone();
    // Ids come from the model, whose vocabulary the tokenizer may not fill; such a token is no text.
    let decode = move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
    Some(Arc::new(StopStrings::new(Arc::new(decode), info.stop.iter().map(|s| (*s).to_owned()))))
}

/// The engine's request for a generation. Its seed depends on the item, not on what runs beside it.
pub(crate) fn engine_request(
    text: &TextModel,
    ask: (&[u32], usize),
    item: &Example,
    stop: Option<&Arc<StopStrings>>,
    sampling: Sampling,
    sampling_seed: u64,
) -> Result<Request> {
    let hash = key_hash(&json!({"seed": sampling_seed, "task": item.task, "item": item.id}))?;
    let seed = hash.get(..16).and_then(|head| u64::from_str_radix(head, 16).ok()).context("a hash is hexadecimal")?;
    Ok(Request {
        prompt: ask.0.to_vec(),
        max_new_tokens: ask.1,
        sampling,
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
