//! The text over which layer criteria are measured: training-split items with their reference
//! answers, in the form in which the model is asked. It goes through the model's own tokenizer and
//! chat template, so that it is text to any model.

use anyhow::Result;
use lopper_infer::TextModel;
use lopper_model::chat::Message;
use lopper_pocket::{Example, Prompt, Split, examples};
use lopper_prune::Calibration;

/// Seed of the documents; self-generation draws with the recipe's.
pub const SEED: u64 = 0x5c0e;

/// `count` documents, the tasks in turn.
pub fn documents(text: &TextModel, tasks: &[String], count: usize) -> Result<Calibration> {
    let mut streams: Vec<_> = tasks.iter().map(|task| examples(task, Split::Train, SEED)).collect();
    let mut documents = Vec::new();
    'all: loop {
        let before = documents.len();
        for stream in &mut streams {
            if documents.len() == count {
                break 'all;
            }
            if let Some(example) = stream.next() {
                documents.push(document(text, &example)?);
            }
        }
        if documents.len() == before {
            break;
        }
    }
    Calibration::new(documents)
}

fn document(text: &TextModel, example: &Example) -> Result<Vec<u32>> {
    match &example.prompt {
        Prompt::Chat(prompt) => {
            text.conversation(&[Message::user(prompt.clone()), Message::assistant(example.answer.clone())], false)
        }
        Prompt::Plain(prompt) => text.plain(&format!("{prompt}{}", example.answer)),
    }
}
