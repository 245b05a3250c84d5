//! Where a model's reasoning ends and its answer begins.

use serde::{Deserialize, Serialize};

/// Marker pairs of published reasoning models: Qwen3, DeepSeek-R1, SmolLM3 and most others; Magistral; Kimi; Seed-OSS;
/// Granite and prompted models.
const KNOWN: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<thinking>", "</thinking>"),
    ("<reasoning>", "</reasoning>"),
];

/// The texts between which a model reasons before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasoningMarkers {
    /// Begins the reasoning; often the prompt already holds it.
    pub open: String,
    /// Ends the reasoning.
    pub close: String,
}

impl Default for ReasoningMarkers {
    fn default() -> Self {
        Self::new(KNOWN[0].0, KNOWN[0].1)
    }
}

/// A response, taken apart.
///
/// ```
/// use lopper_model::chat::ReasoningMarkers;
///
/// let parts = ReasoningMarkers::default().split("<think>2 and 2</think>4", false);
/// assert_eq!((parts.reasoning, parts.answer, parts.finished), (Some("2 and 2"), "4", true));
/// // The prompt opened the reasoning, and the response never closes it.
/// let parts = ReasoningMarkers::default().split("2 and 2 is", true);
/// assert_eq!((parts.reasoning, parts.answer, parts.finished), (Some("2 and 2 is"), "", false));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reasoned<'a> {
    /// What was thought, without its markers and the white space around it; none where nothing was.
    pub reasoning: Option<&'a str>,
    /// What follows it, without white space before it.
    pub answer: &'a str,
    /// Whether the reasoning was closed, if it was opened.
    pub finished: bool,
}

impl ReasoningMarkers {
    /// A pair of markers.
    pub fn new(open: impl Into<String>, close: impl Into<String>) -> Self {
        Self { open: open.into(), close: close.into() }
    }

    /// The first known pair whose closing marker is a token of the vocabulary (`is_token`) or stands in `template`;
    /// `<think>` and `</think>` where none does.
    pub fn find(is_token: impl Fn(&str) -> bool, template: Option<&str>) -> Self {
        let uses = |close: &str| is_token(close) || template.is_some_and(|source| source.contains(close));
        let (open, close) = KNOWN.into_iter().find(|(_, close)| uses(close)).unwrap_or(KNOWN[0]);
        Self::new(open, close)
    }

    /// The first known pair whose closing marker stands in `text`, or whose opening marker `text` begins with;
    /// `<think>` and `</think>` where none does.
    pub fn in_text(text: &str) -> Self {
        let uses = |(open, close): &(&str, &str)| text.contains(close) || text.trim_start().starts_with(open);
        let (open, close) = KNOWN.into_iter().find(uses).unwrap_or(KNOWN[0]);
        Self::new(open, close)
    }

    /// Whether `prompt` ends inside reasoning, so that a response begins there.
    pub fn opened_by(&self, prompt: &str) -> bool {
        let opened = prompt.rfind(&self.open);
        opened.is_some_and(|at| !prompt[at..].contains(&self.close) && prompt[at + self.open.len()..].trim().is_empty())
    }

    /// Takes `response` apart; `opened`: the prompt ends inside the reasoning.
    pub fn split<'a>(&self, response: &'a str, opened: bool) -> Reasoned<'a> {
        let begun = response.trim_start().strip_prefix(self.open.as_str());
        match response.split_once(self.close.as_str()) {
            // Without an opening marker, everything before the closing one was thought: the prompt held the other.
            Some((before, after)) => {
                let thought = before.trim_start().strip_prefix(self.open.as_str()).unwrap_or(before);
                Reasoned { reasoning: Some(thought.trim()), answer: after.trim_start(), finished: true }
            }
            None if opened || begun.is_some() => {
                Reasoned { reasoning: Some(begun.unwrap_or(response).trim()), answer: "", finished: false }
            }
            None => Reasoned { reasoning: None, answer: response, finished: true },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_come_from_the_vocabulary_or_the_template() {
        assert_eq!(ReasoningMarkers::find(|token| token == "[/THINK]", None).open, "[THINK]");
        assert_eq!(ReasoningMarkers::find(|_| false, Some("… </thinking> …")).open, "<thinking>");
        assert_eq!(ReasoningMarkers::find(|_| false, None), ReasoningMarkers::default());
        assert_eq!(ReasoningMarkers::in_text("a [/THINK] 4").open, "[THINK]");
        assert_eq!(ReasoningMarkers::in_text(" <thinking>a").close, "</thinking>");
        assert_eq!(ReasoningMarkers::in_text("4"), ReasoningMarkers::default());
    }

    #[test]
    fn a_prompt_opens_reasoning_only_at_its_end() {
        let markers = ReasoningMarkers::default();
        assert!(markers.opened_by("<|assistant|><think>\n"));
        assert!(!markers.opened_by("<|assistant|><think>\n\n</think>\n\n"));
        assert!(!markers.opened_by("answer within <think> and </think>; <think> first<|assistant|>"));
        assert!(!markers.opened_by("<|assistant|>"));
    }

    #[test]
    fn a_response_is_taken_apart_wherever_its_reasoning_began() {
        let markers = ReasoningMarkers::default();
        for (response, opened, reasoning, answer, finished) in [
            ("4", false, None, "4", true),
            ("<think>a</think>\n\n4", false, Some("a"), "4", true),
            ("a\n</think>\n\n4 </think>", true, Some("a"), "4 </think>", true),
            ("a</think>4", false, Some("a"), "4", true),
            ("<think>a", false, Some("a"), "", false),
            ("a", true, Some("a"), "", false),
            ("4 <think>", false, None, "4 <think>", true),
        ] {
            assert_eq!(markers.split(response, opened), Reasoned { reasoning, answer, finished }, "{response:?}");
        }
    }
}
