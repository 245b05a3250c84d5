//! Self-generated responses (arXiv 2602.01997): the uncut model answers prompts, and the pruned one is finetuned on the
//! answers, so that it recovers its own behaviour and learns nothing new.
//!
//! Each answer depends only on its prompt, the seed and the prompt's index, not on the other prompts.

use crate::examples::{Example, ExampleFilter, ExampleLimits, ExampleText, Examples, RecordedTokens, Renderer};
use lopper_infer::{
    ChatTokenizer, Finish, GenerateOptions, Generation, ReasonedResponse, ReasoningReader, Request, Sampling,
    StopCheck, StopStrings, TextModel,
};
use lopper_model::chat::{Conversation, LeftOut, Message, ReasoningMarkers, SystemRole};
use lopper_record::study::{AnswerCounts, CheckedAnswers};
use lopper_record::{Fault, LayerSet, LayerSlot, Progress, Result, key_hash};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;

/// The key of a message that holds its reasoning, as transformers' templates and vLLM call it.
pub(crate) const REASONING: &str = "reasoning_content";

/// A prompt of the uncut model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SgrPrompt {
    /// A conversation that ends with a user message.
    Chat(Conversation),
    /// A text to continue up to a stop string or an end token.
    Plain {
        /// The text.
        prompt: String,
        /// Stop strings.
        stop: Vec<String>,
    },
}

/// How responses are generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SgrOptions {
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Longest response, in tokens.
    pub max_new_tokens: usize,
    /// Seed of all responses.
    pub seed: u64,
    /// Responses to each prompt.
    #[serde(skip_serializing_if = "is_one")]
    pub samples: usize,
    /// System prompt of conversations without one.
    pub system: Option<String>,
    /// Keep responses that were cut off (they are not trained on).
    pub keep_unfinished: bool,
    /// Between which texts the model reasons, where not between those of its own tokenizer or template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_markers: Option<ReasoningMarkers>,
    /// Most tokens of reasoning, after which its end marker is put; none: no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_thinking_tokens: Option<usize>,
}

impl Default for SgrOptions {
    /// The paper's: temperature 0.9, top-p 0.95, "You are a helpful assistant."
    fn default() -> Self {
        Self {
            sampling: Sampling::Sample { temperature: 0.9, top_k: None, top_p: Some(0.95) },
            max_new_tokens: 1024,
            seed: 0,
            samples: 1,
            system: Some("You are a helpful assistant.".to_owned()),
            keep_unfinished: false,
            reasoning_markers: None,
            max_thinking_tokens: None,
        }
    }
}

impl SgrOptions {
    /// The same without a system prompt, where the chat template of `text` renders none.
    pub fn with_rendered_system(self, text: &ChatTokenizer) -> Self {
        let renders = text.chat.as_ref().is_none_or(|chat| chat.system_role() == SystemRole::Rendered);
        Self { system: self.system.filter(|_| renders), ..self }
    }
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

/// A prompt with the model's own response: one line of `sgr.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SgrRow {
    /// Prompt and response.
    #[serde(flatten)]
    pub text: ExampleText,
    /// Why the response ended.
    pub finish: Finish,
    /// The seed of this response's sampling.
    #[serde(default)]
    pub seed: u64,
    /// The number of the response among several to its prompt, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<usize>,
    /// The task that the prompt is of, if it is of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Whether the response is right by this task's grader, if it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<bool>,
    /// Tokens of the response.
    #[serde(default)]
    pub tokens: usize,
    /// The tokens themselves, of prompt and response.
    #[serde(flatten)]
    pub recorded: Option<RecordedTokens>,
}

impl SgrRow {
    /// The response, without what was thought before it.
    pub fn answer(&self) -> String {
        self.text.last_exchange().1.into_owned()
    }

    /// Whether the model reasoned before it answered.
    fn has_reasoning(&self) -> bool {
        match &self.text {
            ExampleText::Chat(Conversation { messages, .. }) => {
                messages.last().is_some_and(|message| message.other.contains_key(REASONING))
            }
            ExampleText::Plain { .. } => false,
        }
    }
}

/// Responses, and how many were excluded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelfGenerated {
    /// The responses, in the prompts' order.
    pub rows: Vec<SgrRow>,
    /// How many there are, and how many were excluded for which reason.
    pub counts: AnswerCounts,
    /// Those that were graded by the task that their prompt is of.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checked: Vec<CheckedAnswers>,
}

/// Prompts as the model reads them.
pub struct PreparedPrompts<'a> {
    text: &'a ChatTokenizer,
    reader: ReasoningReader,
    prompts: Vec<SgrPrompt>,
    samples: usize,
    /// As many requests for each prompt as it has responses, one after the other.
    pub requests: Vec<Request>,
}

impl<'a> PreparedPrompts<'a> {
    /// Renders every prompt, before any model is needed.
    ///
    /// # Errors
    /// A [`Fault`] for conversations where the model has no chat template or its template refuses
    /// them, and for a prompt without a token.
    pub fn new(text: &'a ChatTokenizer, prompts: &[SgrPrompt], options: &SgrOptions) -> Result<Self> {
        ReasoningReader::check_room(options.max_thinking_tokens, options.max_new_tokens, "an answer")?;
        let reader = ReasoningReader::new(text, options.reasoning_markers.as_ref());
        let mut stops = Stops { text, made: HashMap::new() };
        let samples = options.samples.max(1);
        let mut prepared = Self { text, reader, prompts: vec![], samples, requests: vec![] };
        for (index, prompt) in prompts.iter().enumerate() {
            let prompt = match prompt.clone() {
                SgrPrompt::Chat(conversation) => SgrPrompt::Chat(conversation.with_system(options.system.as_deref())),
                plain => plain,
            };
            let (tokens, stop) = match &prompt {
                SgrPrompt::Chat(conversation) => (text.rendered(conversation, true)?, None),
                SgrPrompt::Plain { prompt, stop } => (text.plain(prompt)?, stops.check(stop)),
            };
            if tokens.is_empty() {
                return Err(Fault::new(format!("prompt {} renders to no tokens", index + 1)).into());
            }
            let budget = |budget| prepared.reader.budget(budget, prepared.reader.opened_by(&tokens));
            let thinking = options.max_thinking_tokens.map(budget).transpose()?;
            for sample in 0..samples {
                prepared.requests.push(Request {
                    thinking: thinking.clone(),
                    prompt: tokens.clone(),
                    max_new_tokens: options.max_new_tokens,
                    sampling: options.sampling,
                    seed: sample_seed(options.seed, index, sample)?,
                    stop_tokens: text.special.eos.clone(),
                    stop: stop.clone(),
                });
            }
            prepared.prompts.push(prompt);
        }
        Ok(prepared)
    }

    /// What became of the conversations that their authors may not expect, a sentence each.
    pub fn remarks(&self) -> Vec<String> {
        let Some(chat) = &self.text.chat else { return vec![] };
        let mut counts = LeftOut::default();
        for prompt in &self.prompts {
            if let SgrPrompt::Chat(conversation) = prompt {
                chat.count_left_out(conversation, &mut counts);
            }
        }
        chat.remarks(&counts)
    }

    /// The row of the response `answer` to the request of number `index` (from 0).
    ///
    /// # Errors
    /// If its tokens cannot be decoded.
    pub fn row(&self, index: usize, answer: Generation) -> Result<SgrRow> {
        let (request, finish) = (&self.requests[index], answer.finish);
        let text = match self.prompts[index / self.samples].clone() {
            SgrPrompt::Chat(mut conversation) => {
                // The tokens have all of it, so what is trained on does not depend on this.
                let ReasonedResponse { thought, answer } =
                    self.reader.read(&answer, self.reader.opened_by(&request.prompt))?;
                let mut message = Message::assistant(answer);
                if let Some(thought) = thought {
                    message.other.insert(REASONING.to_owned(), thought.text.into());
                }
                conversation.messages.push(message);
                ExampleText::Chat(conversation)
            }
            SgrPrompt::Plain { prompt, stop } => {
                let mut response = continuation(self.text, &request.prompt, &answer.tokens)?;
                if finish == Finish::StopString {
                    response.truncate(end_of_stop(&response, &stop));
                }
                ExampleText::Plain { prompt, response }
            }
        };
        let (tokens, prompt_token_ids) = (answer.tokens.len(), request.prompt.clone());
        let response_token_ids = answer.tokens.into_iter().chain(answer.stop_token).collect();
        let recorded = Some(RecordedTokens { prompt_token_ids, response_token_ids });
        let (seed, sample) = (request.seed, (self.samples > 1).then_some(index % self.samples));
        Ok(SgrRow { text, finish, seed, sample, task: None, verified: None, tokens, recorded })
    }
}

/// Generates a response to every prompt with the layers `kept` (for healing: all of them).
///
/// # Errors
/// A [`Fault`] for conversations where the model has no chat template, and for a prompt that does not fit the context;
/// [`Interrupted`](lopper_record::Interrupted).
pub fn generate_responses(
    text: &TextModel,
    kept: &LayerSet<LayerSlot>,
    prompts: &[SgrPrompt],
    options: &SgrOptions,
    progress: &dyn Progress,
) -> Result<SelfGenerated> {
    let prepared = PreparedPrompts::new(text, prompts, options)?;
    let answers = text.engine.generate(kept, &prepared.requests, &GenerateOptions::default(), progress)?;
    let mut result = SelfGenerated::default();
    for (index, answer) in answers.into_iter().enumerate() {
        let row = prepared.row(index, answer)?;
        let (_, response) = row.text.last_exchange();
        let (nothing, thought) = (response.trim().is_empty(), row.has_reasoning());
        let counts = &mut result.counts;
        counts.answers += 1;
        let excluded = match row.finish {
            _ if nothing && !thought => Some(&mut counts.empty),
            _ if options.keep_unfinished => None,
            Finish::Length => Some(&mut counts.cut_off),
            Finish::ContextFull => Some(&mut counts.context_full),
            Finish::Loop => Some(&mut counts.repetitive),
            Finish::Stop | Finish::StopString if nothing => Some(&mut counts.no_answer),
            Finish::Stop | Finish::StopString => None,
        };
        match excluded {
            Some(count) => *count += 1,
            None => {
                counts.used += 1;
                result.rows.push(row);
            }
        }
    }
    Ok(result)
}

/// Training documents of self-generated responses, as far as `filter` keeps them.
pub fn examples_of(
    rows: &[SgrRow],
    renderer: &Renderer<'_>,
    limits: ExampleLimits,
    filter: &mut ExampleFilter<'_>,
) -> Result<Examples> {
    let mut examples = Examples::default();
    for (index, row) in rows.iter().enumerate() {
        let example = Example { text: row.text.clone(), tokens: row.recorded.clone(), finish: Some(row.finish) };
        examples.add(renderer, index + 1, &example, limits, filter)?;
    }
    Ok(examples)
}

/// The seed of one response, which depends neither on the number of prompts nor on where an interrupted run continued.
pub fn response_seed(seed: u64, index: usize) -> Result<u64> {
    let hash = key_hash(&json!({"seed": seed, "prompt": index}))?;
    Ok(u64::from_str_radix(&hash[..16], 16)?)
}

/// The seed of response number `sample` (from 0) to a prompt; that of the first is the only one's.
pub fn sample_seed(seed: u64, index: usize, sample: usize) -> Result<u64> {
    if sample == 0 {
        return response_seed(seed, index);
    }
    let hash = key_hash(&json!({"seed": seed, "prompt": index, "sample": sample}))?;
    Ok(u64::from_str_radix(&hash[..16], 16)?)
}

/// The text that `tokens` add to the prompt's. Some tokenizers drop the first space of a text, which decoding the
/// continuation alone would lose.
fn continuation(text: &ChatTokenizer, prompt: &[u32], tokens: &[u32]) -> Result<String> {
    let before = text.decode(prompt)?;
    let whole = text.decode(&[prompt, tokens].concat())?;
    match whole.strip_prefix(&before) {
        Some(rest) => Ok(rest.to_owned()),
        None => text.decode(tokens),
    }
}

/// The end of the first stop string in `response`. The string itself is kept, because the model has to learn it.
fn end_of_stop(response: &str, stop: &[String]) -> usize {
    let found = stop.iter().filter(|s| !s.is_empty()).filter_map(|s| Some((response.find(s.as_str())?, s.len())));
    found.min().map_or(response.len(), |(at, length)| at + length)
}

/// Stop checks, one for each list of stop strings.
struct Stops<'a> {
    text: &'a ChatTokenizer,
    made: HashMap<Vec<String>, Arc<dyn StopCheck>>,
}

impl Stops<'_> {
    fn check(&mut self, strings: &[String]) -> Option<Arc<dyn StopCheck>> {
        if strings.is_empty() {
            return None;
        }
        if let Some(check) = self.made.get(strings) {
            return Some(check.clone());
        }
        let tokenizer = self.text.tokenizer.clone();
        // Tokens that cannot be decoded hold no stop string.
        let decode = move |tokens: &[u32]| tokenizer.decode(tokens, true).unwrap_or_default();
        let check: Arc<dyn StopCheck> = Arc::new(StopStrings::new(Arc::new(decode), strings.iter().cloned()));
        self.made.insert(strings.to_vec(), check.clone());
        Some(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_string_is_kept_and_nothing_after_it() {
        let stop = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let end = end_of_stop("def f():\n    return 1\n\nx", &stop(&["\n\n", "zz", ""]));
        assert_eq!(&"def f():\n    return 1\n\nx"[..end], "def f():\n    return 1\n\n");
        assert_eq!(end_of_stop("abc", &stop(&["x"])), 3);
    }

    #[test]
    fn rows_are_lines_that_can_be_read_back() {
        let row = |text, recorded| SgrRow {
            text,
            finish: Finish::Stop,
            seed: u64::MAX,
            sample: Some(2),
            task: Some("gsm8k".into()),
            verified: Some(false),
            tokens: 3,
            recorded,
        };
        let chat = ExampleText::Chat(vec![Message::user("q"), Message::assistant("a")].into());
        let tokens = RecordedTokens { prompt_token_ids: vec![1, 2], response_token_ids: vec![3] };
        let (chat, plain) =
            (row(chat, Some(tokens)), row(ExampleText::Plain { prompt: "p".into(), response: "r".into() }, None));
        for row in [chat, plain] {
            let line = serde_json::to_string(&row).unwrap();
            assert_eq!(serde_json::from_str::<SgrRow>(&line).unwrap(), row, "{line}");
        }
        assert_ne!(response_seed(0, 1).unwrap(), response_seed(1, 0).unwrap());
        assert_eq!(sample_seed(3, 5, 0).unwrap(), response_seed(3, 5).unwrap());
        assert_ne!(sample_seed(3, 5, 1).unwrap(), sample_seed(3, 5, 2).unwrap());
    }
}
