//! The text over which layer criteria are measured: training-split items with their reference
//! answers, in the form of the model's prompts. It goes through the model's own tokenizer and
//! chat template, so that it is text to any model.

use lopper_infer::TextModel;
use lopper_model::chat::Message;
use lopper_prune::Calibration;
use lopper_record::{Fault, Result};

use crate::training::{PromptText, TrainingPrompt, TrainingPrompts};

/// Seed of the documents; self-generation draws with the recipe's.
pub const SEED: u64 = 0x5c0e;

/// `count` documents, the tasks in turn.
///
/// # Errors
/// A [`Fault`] where no task has anything to learn from.
pub fn documents(text: &TextModel, training: &TrainingPrompts, count: usize) -> Result<Calibration> {
    let mut documents = Vec::new();
    for TrainingPrompt { prompt, answer, .. } in training.for_calibration(count, SEED) {
        let document = match &prompt {
            PromptText::Chat(conversation) => {
                let mut conversation = conversation.clone();
                conversation.messages.extend((!answer.is_empty()).then(|| Message::assistant(answer.clone())));
                text.rendered(&conversation, answer.is_empty())?
            }
            PromptText::Plain { prompt, delimiter, .. } => text.plain(&format!("{prompt}{delimiter}{answer}"))?,
        };
        if !document.is_empty() {
            documents.push(document);
        }
    }
    if documents.is_empty() {
        return Err(nothing_to_learn_from().into());
    }
    // A criterion reads no more than the model can.
    let limit = text.engine.model().config.max_position_embeddings;
    documents.iter_mut().for_each(|document| document.truncate(limit));
    Calibration::new(documents)
}

/// The fault of tasks without a training split.
pub fn nothing_to_learn_from() -> Fault {
    Fault::new("the study's tasks have no training split, so there is nothing to calibrate layers on or to heal by")
        .expected("a task with a training split, or prompts of your own")
        .got("neither")
        .hint("name a file of prompts with `heal.data`: JSON lines with `prompt`, `messages` or `instruction`")
}
