//! What models think before their responses, apart from the responses: how much, whether it ends, and whether it has
//! degenerated.

use lopper_model::chat::{Reasoned, ReasoningMarkers};
use lopper_record::study::Reasoning;
use lopper_tasks::{ItemResult, Response, UNFINISHED_THOUGHT};
use serde_json::{Map, Value};

use crate::degeneration::{DegenerationTally, ResponseMetadata, TextMetrics, text_metrics};

/// A thought with its figures.
pub(crate) struct MeasuredThought {
    metrics: TextMetrics,
    tokens: Option<usize>,
    finished: bool,
    cut: bool,
}

impl MeasuredThought {
    /// The thought before a response.
    pub fn of_response(response: &Response) -> Option<Self> {
        let thought = response.thought.as_ref()?;
        Some(Self {
            metrics: text_metrics(&thought.text),
            tokens: thought.tokens,
            finished: thought.finished,
            cut: thought.cut,
        })
    }

    /// The thought before an item's response.
    pub fn of_item(item: &ItemResult) -> Option<Self> {
        Some(Self {
            metrics: text_metrics(item.reasoning.as_deref()?),
            tokens: item.reasoning_tokens,
            finished: item.outcome.as_deref() != Some(UNFINISHED_THOUGHT),
            cut: item.reasoning_cut,
        })
    }

    /// A thought whose tokens are not known.
    pub fn of_text(text: &str, finished: bool) -> Self {
        Self { metrics: text_metrics(text), tokens: None, finished, cut: false }
    }
}

/// Averages thoughts as they come.
#[derive(Debug, Clone, Default)]
pub(crate) struct ReasoningTally {
    counts: Reasoning,
    thoughts: DegenerationTally,
}

impl ReasoningTally {
    /// Adds a response with the thought before it, if there is one.
    pub fn add(&mut self, thought: Option<&MeasuredThought>) {
        self.counts.responses += 1;
        let Some(thought) = thought else { return };
        self.counts.unfinished += usize::from(!thought.finished);
        self.counts.cut += usize::from(thought.cut);
        self.thoughts.add(&thought.metrics, &ResponseMetadata { tokens: thought.tokens, ..Default::default() });
    }

    /// The figures so far; none without any thought.
    pub fn finish(&self) -> Option<Reasoning> {
        let text = self.thoughts.finish();
        (text.responses > 0).then(|| Reasoning { text, ..self.counts.clone() })
    }
}

/// A response of a file, taken apart: the thought and whether it ended, if there is one, and what follows.
pub(crate) struct GivenResponse {
    /// The thought, and whether it ended.
    pub thought: Option<(String, bool)>,
    /// What follows it.
    pub answer: String,
}

impl GivenResponse {
    /// Takes `text` apart, whose `reasoning` may be given by itself; a response without text is then an unfinished
    /// thought. Between `markers`, or else between the known ones that the text has. A prompt that began the thought
    /// counts only where the response was `cut_off`, since programs that leave thoughts out leave the end marker out
    /// too.
    pub fn read(
        reasoning: Option<&str>,
        text: &str,
        prompt: Option<&str>,
        cut_off: bool,
        markers: Option<&ReasoningMarkers>,
    ) -> Self {
        if let Some(reasoning) = reasoning {
            let thought = Some((reasoning.to_owned(), !text.trim().is_empty()));
            return Self { thought, answer: text.to_owned() };
        }
        let markers = markers.cloned().unwrap_or_else(|| ReasoningMarkers::in_text(text));
        let opened = cut_off && prompt.is_some_and(|prompt| markers.opened_by(prompt));
        let Reasoned { reasoning, answer, finished } = markers.split(text, opened);
        Self { thought: reasoning.map(|text| (text.to_owned(), finished)), answer: answer.to_owned() }
    }
}

/// The thought that an object has apart from its text, as vLLM and Lopper write it.
pub(crate) fn given_reasoning(fields: &Map<String, Value>) -> Option<&str> {
    ["reasoning", "reasoning_content"].iter().find_map(|name| fields.get(*name)?.as_str())
}

/// Whether a finish reason, of any program, says that a response was cut off.
pub(crate) fn is_cut_off(finish: Option<&str>) -> bool {
    matches!(finish, Some("length" | "context_full" | "loop" | "max_tokens"))
}
