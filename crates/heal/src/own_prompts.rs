//! Prompts that the uncut model writes itself: its chat template up to where a user's message begins, continued by
//! sampling until the message ends (Xu et al., "Magpie", arXiv 2406.08464). So a model can be healed without any data.

use lopper_infer::{ChatTokenizer, Engine, Finish, GenerateOptions, Request, Sampling};
use lopper_model::chat::{ChatTemplate, Conversation, Message};
use lopper_record::{Fault, LayerSet, LayerSlot, Progress, Result};
use std::collections::HashSet;

use crate::self_generated::response_seed;

/// A message that no template holds.
const PROBE: &str = "Xq7prompt";
/// Most tokens of a prompt; longer ones are left out.
const LONGEST: usize = 256;
/// Most messages written for each prompt that is wanted: a model may write the same ones again and again.
const TRIES: usize = 4;

/// `number` different prompts, or fewer where the model repeats itself, in an order that `seed` determines; each is a
/// conversation of one user message, after the system prompt `system`. Messages that have not ended after 256 tokens
/// are left out.
///
/// # Errors
/// A [`Fault`] for a model without a chat template, for a template that does not show where a user's message is, and
/// for a model that writes no message; [`Interrupted`](lopper_record::Interrupted).
pub fn write_prompts(
    engine: &Engine,
    text: &ChatTokenizer,
    kept: &LayerSet<LayerSlot>,
    (number, seed): (usize, u64),
    system: Option<&str>,
    progress: &dyn Progress,
) -> Result<Vec<Conversation>> {
    let Opening { tokens, end } = Opening::of(text, system)?;
    let stop_tokens: Vec<u32> = text.special.eos.iter().copied().chain(end).collect();
    let (mut prompts, mut seen, mut written) = (Vec::new(), HashSet::new(), 0);
    while prompts.len() < number && written < TRIES * number {
        let requests = (written..written + number - prompts.len())
            .map(|index| {
                Ok(Request {
                    sampling: Sampling::Sample { temperature: 1.0, top_k: None, top_p: None },
                    // Not the seeds of the answers.
                    seed: response_seed(!seed, index)?,
                    stop_tokens: stop_tokens.clone(),
                    ..Request::greedy(tokens.as_slice(), LONGEST)
                })
            })
            .collect::<Result<Vec<_>>>()?;
        written += requests.len();
        for message in engine.generate(kept, &requests, &GenerateOptions::default(), progress)? {
            let content = text.decode(&message.tokens)?.trim().to_owned();
            if message.finish == Finish::Stop && !content.is_empty() && seen.insert(content.clone()) {
                prompts.push(Conversation::from(vec![Message::user(content)]).with_system(system));
            }
        }
    }
    if prompts.is_empty() {
        return Err(Fault::new("the model writes no prompts of its own")
            .expected("user messages that end, written by a model that was trained on conversations")
            .got(format!("none of {written}"))
            .hint("give prompts with --prompts FILE")
            .into());
    }
    Ok(prompts)
}

/// The tokens before a user's message, and the one after it.
struct Opening {
    tokens: Vec<u32>,
    end: Option<u32>,
}

impl Opening {
    fn of(text: &ChatTokenizer, system: Option<&str>) -> Result<Self> {
        let chat = text.chat.as_ref().ok_or_else(ChatTemplate::missing)?;
        let probe = Conversation::from(vec![Message::user(PROBE)]).with_system(system);
        let rendered = chat.render_conversation(&probe, false)?;
        let Some((before, after)) = rendered.split_once(PROBE) else {
            return Err(Fault::new("the chat template does not show where a user's message is")
                .expected("the text of the message as it is")
                .got("a rendered conversation without it")
                .hint("give prompts with --prompts FILE")
                .into());
        };
        let tokens = text.tokenizer.encode(before, false)?;
        if tokens.is_empty() {
            return Err(Fault::new("the chat template puts nothing before a user's message")
                .expected("a token that a message can follow")
                .got("a message at the beginning of the text")
                .hint("give prompts with --prompts FILE")
                .into());
        }
        // Where the turn ends with a token of its own, that ends the message.
        let end = text.tokenizer.encode(after.trim_start(), false)?.first().copied();
        Ok(Self { tokens, end: end.filter(|end| text.decode(&[*end]).is_ok_and(|text| text.is_empty())) })
    }
}
