//! The probes of a diagnosis: arithmetic, brackets, open prompts and held-out text; and the default items of each.
//!
//! For the pocket model and its cuts the default items are those of its own tasks, from a split that it was not trained
//! on; it knows nothing else. For any other model they are generated items, and texts written for this purpose
//! (`open_prompts.txt`, `held_out.txt`), so that no training data from before 2026 has them.

use std::sync::Arc;

use lopper_infer::{ReasoningReader, Request, StopStrings, TextModel};
use lopper_measure::{Execution, perplexity, run_requests};
use lopper_model::chat::{Conversation, Message};
use lopper_pocket::tokenizer::{ASSISTANT, vocabulary_size};
use lopper_pocket::{Prompt, Split};
use lopper_record::study::{Arithmetic, Brackets, Degeneration, Mean, Reasoning};
use lopper_record::{LayerSet, LayerSlot, Progress, Result, ensure, key_hash};
use lopper_tasks::{GenerationPolicy, Replies, Requests, Response, reasoning_request, stop_strings};
use serde_json::json;

use crate::arithmetic::{self, ArithmeticItem, ArithmeticProbe, DigitLogprobs};
use crate::brackets::{self, BracketProbe};
use crate::degeneration::{DegenerationTally, text_metrics};
use crate::reasoning::{MeasuredThought, ReasoningTally};

const OPEN_PROMPTS: &str = include_str!("open_prompts.txt");
/// English text that was written for this program in 2026.
pub const HELD_OUT: &str = include_str!("held_out.txt");
/// Operations and digits of the default arithmetic items, as in the paper.
const OPERATIONS: usize = 2;
const DIGITS: u32 = 1;

/// Probes tokenized for one model; the same for every cut of it, healed or not.
pub(crate) struct ProbeSet {
    pub arithmetic: Option<ArithmeticProbe>,
    pub brackets: Option<BracketProbe>,
    pub prompts: OpenPrompts,
    pub held_out: Vec<Vec<u32>>,
}

/// Requests for responses to open prompts.
#[derive(Default)]
pub(crate) struct OpenPrompts {
    requests: Vec<Request>,
    stop: Option<Arc<StopStrings>>,
    policy: GenerationPolicy,
    reader: Option<ReasoningReader>,
}

/// What the probes show of one candidate; absent where there is no such probe.
#[derive(Debug, Clone, Default)]
pub(crate) struct ProbeResults {
    pub digits: Option<(Vec<DigitLogprobs>, Arithmetic)>,
    pub brackets: Option<Brackets>,
    pub degeneration: Option<Degeneration>,
    pub reasoning: Option<Reasoning>,
    /// Of the held-out text; absent, too, where it is too large for a number.
    pub perplexity: Option<Mean>,
}

impl ProbeSet {
    /// Runs the probes on every candidate, a set of layers to run; the results of each, in order.
    pub fn run(
        &self,
        text: &TextModel,
        candidates: &[LayerSet<LayerSlot>],
        progress: &dyn Progress,
    ) -> Result<Vec<ProbeResults>> {
        let mut requests = Requests::new(&self.prompts.policy);
        requests.choices = self.arithmetic.iter().flat_map(ArithmeticProbe::requests).collect();
        requests.generations = self.bracket_requests().iter().chain(&self.prompts.requests).cloned().collect();
        requests.sequences.clone_from(&self.held_out);
        let (replies, _) = run_requests(&text.engine, &requests, candidates, &Execution::default(), progress)?;
        replies.iter().map(|replies| self.results(text, replies)).collect()
    }

    fn bracket_requests(&self) -> &[Request] {
        self.brackets.as_ref().map_or(&[], BracketProbe::requests)
    }

    fn results(&self, text: &TextModel, replies: &Replies) -> Result<ProbeResults> {
        let digits = match &self.arithmetic {
            None => None,
            Some(probe) => {
                let digits = probe.digit_logprobs(&replies.choices)?;
                let figures = probe.summarize(&digits, None);
                Some((digits, figures))
            }
        };
        let (completions, responses) = replies.generations.split_at(self.bracket_requests().len());
        let brackets = self.brackets.as_ref().map(|probe| probe.summarize(text, completions)).transpose()?;
        let (mut tally, mut thoughts) = (DegenerationTally::default(), ReasoningTally::default());
        for (request, generation) in self.prompts.requests.iter().zip(responses) {
            let Some(reader) = &self.prompts.reader else { continue };
            let response = Response::read(reader, &request.prompt, generation, self.prompts.stop.as_ref())?;
            tally.add(&text_metrics(&response.text), &generation.into());
            thoughts.add(MeasuredThought::of_response(&response).as_ref());
        }
        let degeneration = (!responses.is_empty()).then(|| tally.finish());
        let finite = |value: &f32| value.is_finite();
        ensure!(replies.sequences.iter().flatten().flatten().all(finite), "a log-probability is not finite");
        let (reasoning, perplexity) = (thoughts.finish(), perplexity(&replies.sequences));
        Ok(ProbeResults { digits, brackets, degeneration, reasoning, perplexity })
    }
}

impl OpenPrompts {
    /// Requests for the next turn of conversations, of at most `default_length` tokens where the policy has no length:
    /// through the chat template where the model has one, otherwise as plain text to continue. A response depends on
    /// the policy and its own prompt only.
    pub fn prepare(
        text: &TextModel,
        conversations: &[Conversation],
        policy: &GenerationPolicy,
        default_length: usize,
    ) -> Result<Self> {
        let stop = stop_strings(text, &[] as &[&str], policy);
        let reader = ReasoningReader::new(text, policy.reasoning_markers.as_ref());
        let length = policy.max_new_tokens.unwrap_or(default_length);
        let policy = &policy.with_room(length);
        let request = |conversation: &Conversation| {
            let conversation = conversation.clone().with_system(policy.system.as_deref());
            let prompt = conversation.messages.last().map(Message::text).unwrap_or_default();
            let tokens = match &text.chat {
                Some(_) => text.rendered(&conversation, true)?,
                None => text.plain(&format!("{}{prompt}\n", policy.system.as_deref().unwrap_or_default()))?,
            };
            let hash = key_hash(&json!({"seed": policy.sampling_seed, "prompt": prompt}))?;
            Ok(Request {
                max_new_tokens: length,
                sampling: policy.sampling,
                seed: u64::from_str_radix(&hash[..16], 16)?,
                stop_tokens: text.special.eos.clone(),
                ..reasoning_request(&reader, tokens, stop.as_ref(), policy)?
            })
        };
        let requests = conversations.iter().map(request).collect::<Result<_>>()?;
        Ok(Self { requests, stop, policy: policy.clone(), reader: Some(reader) })
    }
}

/// Whether a model is the pocket model or made from it, by its tokenizer.
pub fn is_pocket_model(text: &TextModel) -> bool {
    text.tokenizer.vocab_size() == vocabulary_size() && text.tokenizer.token_to_id("<|assistant|>") == Some(ASSISTANT)
}

/// The default arithmetic probe of at most `n` items.
pub(crate) fn arithmetic(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<ArithmeticProbe> {
    let (items, source): (Vec<ArithmeticItem>, String) = if is_pocket_model(text) {
        (arithmetic::pocket_items(split, n, seed), format!("pocket_arith, {} items", split.name()))
    } else {
        let source = format!("generated, {OPERATIONS} operations on {DIGITS}-digit numbers, seed {seed}");
        (arithmetic::generated(OPERATIONS, DIGITS, n, seed)?, source)
    };
    ArithmeticProbe::prepare(text, &items, source)
}

/// The default bracket probe of at most `n` items.
pub(crate) fn brackets(text: &TextModel, split: Split, n: usize, seed: u64) -> Result<BracketProbe> {
    let items = match is_pocket_model(text) {
        true => brackets::pocket_items(split, n, seed),
        false => brackets::generated(n, seed),
    };
    BracketProbe::prepare(text, items)
}

/// At most `n` open prompts, whose answers are text, as conversations.
pub(crate) fn open_prompts(text: &TextModel, split: Split, n: usize, seed: u64) -> Vec<Conversation> {
    let conversation = |prompt: String| Conversation::from(vec![Message::user(prompt)]);
    if !is_pocket_model(text) {
        return OPEN_PROMPTS.lines().take(n).map(|prompt| conversation(prompt.to_owned())).collect();
    }
    let of = |task: &'static str| lopper_pocket::examples(task, split, seed);
    let (words, summaries) = (of("pocket_word"), of("pocket_summary"));
    let both = words.zip(summaries).flat_map(|(word, summary)| [word, summary]);
    both.take(n)
        .map(|item| match item.prompt {
            Prompt::Chat(prompt) | Prompt::Plain(prompt) => conversation(prompt),
        })
        .collect()
}

/// Held-out text of at most `tokens` tokens, in sequences.
pub(crate) fn held_out(text: &TextModel, split: Split, tokens: usize, seed: u64) -> Result<Vec<Vec<u32>>> {
    let mut sequences = Vec::new();
    let mut left = tokens;
    let mut add = |mut sequence: Vec<u32>| {
        sequence.truncate(left);
        left -= sequence.len();
        // A single token is never predicted.
        if sequence.len() > 1 {
            sequences.push(sequence);
        }
        left > 0
    };
    if is_pocket_model(text) {
        let tasks = ["pocket_summary", "pocket_topic", "pocket_word", "pocket_code"];
        let mut streams: Vec<_> = tasks.iter().map(|task| lopper_pocket::examples(task, split, seed)).collect();
        'filling: loop {
            for stream in &mut streams {
                let Some(item) = stream.next() else { break 'filling };
                let sequence = match &item.prompt {
                    Prompt::Chat(prompt) => {
                        let turns = [Message::user(prompt.as_str()), Message::assistant(item.answer.as_str())];
                        text.conversation(&turns, false)?
                    }
                    Prompt::Plain(prompt) => text.plain(&format!("{prompt}{}", item.answer))?,
                };
                if !add(sequence) {
                    break 'filling;
                }
            }
        }
    } else {
        for paragraph in HELD_OUT.split("\n\n") {
            if !add(text.plain(paragraph.trim())?) {
                break;
            }
        }
    }
    Ok(sequences)
}
