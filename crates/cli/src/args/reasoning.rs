//! How reasoning is separated from answers, and how long it may be.

use clap::Args;
use lopper_model::chat::ReasoningMarkers;

/// Reasoning before answers.
#[derive(Debug, Clone, Default, Args)]
pub struct ReasoningArgs {
    /// Treat the text between OPEN and CLOSE as reasoning, not as the answer [default: the markers that the
    /// tokenizer or the chat template knows, such as `<think>` and `</think>`]
    #[arg(long, num_args = 2, value_names = ["OPEN", "CLOSE"], allow_hyphen_values = true)]
    pub reasoning_markers: Option<Vec<String>>,

    /// End the reasoning of a response after N tokens and let the model answer; reasoning and answer together have at
    /// most the tokens of --max-new-tokens
    #[arg(long, value_name = "N")]
    pub max_thinking_tokens: Option<usize>,
}

impl ReasoningArgs {
    /// The markers, if they are given.
    pub fn markers(&self) -> Option<ReasoningMarkers> {
        match self.reasoning_markers.as_deref() {
            Some([open, close]) => Some(ReasoningMarkers::new(open, close)),
            _ => None,
        }
    }
}
