//! Training prompts: what criteria are calibrated on and cuts are healed by. None of them is an item that layers are
//! chosen by or scores are reported on.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use lopper_heal::{EvaluatedTexts, ExampleText, OverlapCheck};
use lopper_infer::TextModel;
use lopper_model::chat::{Conversation, Message};
use lopper_pocket::{Example, Prompt, Split, examples, task};
use lopper_record::{Fault, Result};
use lopper_tasks::{
    AnswerCheck, CodeRunner, GenerationPolicy, Resources, TrainingExample, question_id, training_examples,
};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::eval_split::EvalSplit;
use crate::healing_data::HealingPrompt;
use crate::tasks::StudyTasks;

/// A prompt with its reference answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingPrompt {
    pub prompt: PromptText,
    /// Its part in calibration text; empty where there is none.
    pub answer: String,
    /// What a control of healing learns; empty where there is none.
    pub reference: String,
    /// Grades answers, where the prompt is a task's.
    pub check: Option<AnswerCheck>,
}

/// The text of a prompt: for the chat template, or plain.
#[derive(Debug, Clone, PartialEq)]
pub enum PromptText {
    Chat(Conversation),
    Plain { prompt: String, delimiter: String, stop: Vec<String> },
}

/// The training prompts of a study.
#[derive(Default)]
pub struct TrainingPrompts {
    sources: Vec<Source>,
    /// Tasks without any, with the reason.
    pub without: Vec<(String, String)>,
    /// The items that layers are chosen by or scores are reported on.
    pub evaluated: EvaluatedTexts,
    /// Prompts of `heal.data` that were left out because such an item is in them, by its task.
    pub overlap: BTreeMap<String, usize>,
    /// Runs the programs of answers to benchmarks.
    pub code: Option<Arc<CodeRunner>>,
}

enum Source {
    /// A generated task's training split, which never ends.
    Generated(String),
    /// Prompts that end.
    Listed(Vec<TrainingPrompt>),
    /// Those of `heal.data`, in its order.
    Given(Vec<TrainingPrompt>),
}

impl TrainingPrompts {
    /// The training splits of `tasks`, without any item of `splits`; `prompts` instead of them, where they are given,
    /// without those in which is an item by `overlap`.
    ///
    /// # Errors
    /// A [`Fault`] for given prompts of which none is left, or which hold an item where `overlap` looks for none.
    pub fn gather(
        text: &TextModel,
        tasks: &StudyTasks,
        (policy, resources): (&GenerationPolicy, &Resources),
        (prompts, overlap): (Option<&[HealingPrompt]>, OverlapCheck),
        splits: &[&EvalSplit],
    ) -> Result<Self> {
        let items: HashSet<&str> = splits.iter().flat_map(|split| split.item_ids().into_values().flatten()).collect();
        let mut training = Self { code: resources.code.clone(), ..Self::default() };
        for (task, texts) in splits.iter().flat_map(|split| split.suite.evaluated_texts()) {
            training.evaluated.add(task, texts);
        }
        if let Some(prompts) = prompts {
            if overlap == OverlapCheck::None {
                refuse_items(prompts, splits)?;
            }
            let chat = text.chat.is_some();
            let mut listed = Vec::with_capacity(prompts.len());
            for prompt in prompts {
                let conversation = ExampleText::Chat(prompt.conversation.clone());
                match training.evaluated.find_in(&conversation, overlap) {
                    Some(task) => *training.overlap.entry(task.to_owned()).or_default() += 1,
                    None => listed.push(given(prompt, chat)),
                }
            }
            if listed.is_empty() && !prompts.is_empty() {
                return Err(only_items(&training.overlap).into());
            }
            training.sources.push(Source::Given(listed));
            return Ok(training);
        }
        for entry in tasks.entries.iter().filter(|entry| entry.rows.is_none()) {
            training.sources.push(Source::Generated(entry.name.clone()));
        }
        for reference in &tasks.references {
            if tasks.entries.iter().any(|entry| entry.name == *reference && entry.rows.is_none()) {
                continue;
            }
            // Other tasks may have enough to learn from.
            let mut found = match training_examples(reference, policy, resources).map_err(|error| error.into_fault()) {
                Ok(found) => found,
                Err(Ok(fault)) => {
                    training.without.push((reference.clone(), fault.message));
                    continue;
                }
                Err(Err(error)) => return Err(error),
            };
            found.retain(|example| !items.contains(example.id.as_str()));
            match found.is_empty() {
                true => training.without.push((reference.clone(), "it has no training split".to_owned())),
                false => training.sources.push(Source::Listed(found.iter().map(|l| of_row(l, text)).collect())),
            }
        }
        Ok(training)
    }

    /// Prompts, the tasks in turn; those of rows in an order drawn with `seed`. Never ends where a task's items are
    /// generated.
    pub fn prompts(&self, seed: u64) -> impl Iterator<Item = TrainingPrompt> + '_ {
        self.among(usize::MAX, seed)
    }

    /// `count` prompts for calibration text. Of given prompts these are the first, so that it does not change with how
    /// many are healed by.
    pub fn for_calibration(&self, count: usize, seed: u64) -> impl Iterator<Item = TrainingPrompt> + '_ {
        self.among(count, seed).take(count)
    }

    /// Prompts, of given ones from among the first `given`.
    fn among(&self, given: usize, seed: u64) -> impl Iterator<Item = TrainingPrompt> + '_ {
        let mut streams: Vec<Box<dyn Iterator<Item = TrainingPrompt> + '_>> = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            streams.push(match source {
                Source::Generated(name) => Box::new(examples(name, Split::Train, seed).map(of_example)),
                Source::Listed(prompts) | Source::Given(prompts) => {
                    let most = if matches!(source, Source::Given(_)) { given } else { usize::MAX };
                    let mut order: Vec<&TrainingPrompt> = prompts.iter().take(most).collect();
                    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (at as u64).rotate_right(16)));
                    Box::new(order.into_iter().cloned())
                }
            });
        }
        let mut turn = 0;
        std::iter::from_fn(move || {
            while !streams.is_empty() {
                let at = turn % streams.len();
                if let Some(prompt) = streams[at].next() {
                    turn = at + 1;
                    return Some(prompt);
                }
                drop(streams.remove(at));
                turn = at;
            }
            None
        })
    }
}

fn of_example(example: Example) -> TrainingPrompt {
    let stop = task(example.task).map_or(&[][..], |info| info.stop);
    // A choice is a word on a line, so a line's end stops it as it does the others.
    let stop = if stop.is_empty() { &["\n"] } else { stop };
    let prompt = match example.prompt.clone() {
        Prompt::Chat(text) => PromptText::Chat(vec![Message::user(text)].into()),
        Prompt::Plain(prompt) => PromptText::Plain {
            prompt,
            delimiter: String::new(),
            stop: stop.iter().map(|text| (*text).to_owned()).collect(),
        },
    };
    let answer = example.answer.clone();
    TrainingPrompt { prompt, reference: answer.clone(), answer, check: Some(AnswerCheck::of_example(example)) }
}

/// A row in conversation wherever the model has a chat template, as the paper heals.
fn of_row(example: &TrainingExample, text: &TextModel) -> TrainingPrompt {
    let prompt = match text.chat.is_some() {
        true => PromptText::Chat(Conversation {
            chat_template_kwargs: example.template_variables.clone(),
            ..vec![Message::user(example.question.trim())].into()
        }),
        false => PromptText::Plain {
            prompt: example.question.clone(),
            delimiter: example.delimiter.clone(),
            stop: example.until.clone(),
        },
    };
    let answer = example.answer.trim().to_owned();
    TrainingPrompt { prompt, reference: answer.clone(), answer, check: Some(example.check.clone()) }
}

fn given(given: &HealingPrompt, chat: bool) -> TrainingPrompt {
    let prompt = match chat {
        true => PromptText::Chat(given.conversation.clone()),
        false => {
            let text: Vec<_> = given.conversation.messages.iter().map(Message::text).collect();
            PromptText::Plain { prompt: text.join("\n\n"), delimiter: "\n".to_owned(), stop: vec!["\n\n".to_owned()] }
        }
    };
    // Long answers would make the criteria several times as slow.
    TrainingPrompt { prompt, answer: String::new(), reference: given.answer.clone().unwrap_or_default(), check: None }
}

fn refuse_items(prompts: &[HealingPrompt], splits: &[&EvalSplit]) -> Result<()> {
    let messages = prompts.iter().flat_map(|prompt| &prompt.conversation.messages);
    let used: HashSet<String> = messages.map(|message| question_id([&*message.text()])).collect();
    let shared: Vec<String> = splits
        .iter()
        .flat_map(|split| split.items_among(&used))
        .map(|(task, count, all)| format!("{count} of {all} items of {task}"))
        .collect();
    if shared.is_empty() {
        return Ok(());
    }
    Err(Fault::new("prompts to heal by are items that layers are chosen by or scores are reported on")
        .expected("no item among the prompts of `heal.data`")
        .got(shared.join(", "))
        .hint("`heal.filters.overlap = \"ngram\"`, the default, leaves them out")
        .into())
}

fn only_items(overlap: &BTreeMap<String, usize>) -> Fault {
    let found: Vec<String> = overlap.iter().map(|(task, count)| format!("{count} with items of {task}")).collect();
    Fault::new("every prompt to heal by holds an item that layers are chosen by or scores are reported on")
        .expected("other prompts in `heal.data`")
        .got(found.join(", "))
        .hint("name other data: what a model is scored on is not what it should learn")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(count: usize) -> TrainingPrompts {
        let prompt = |at: usize| TrainingPrompt {
            prompt: PromptText::Chat(vec![Message::user(at.to_string())].into()),
            answer: String::new(),
            reference: String::new(),
            check: None,
        };
        let sources = vec![Source::Given((0..count).map(prompt).collect())];
        TrainingPrompts { sources, ..TrainingPrompts::default() }
    }

    #[test]
    fn calibration_text_does_not_change_with_how_many_prompts_are_healed_by() {
        let of = |count: usize| given(count).for_calibration(5, 1).collect::<Vec<_>>();
        assert_eq!(of(5).len(), 5);
        assert_eq!(of(5), of(20));
        // Healing takes them from all.
        assert_ne!(given(5).prompts(1).collect::<Vec<_>>(), given(20).prompts(1).take(5).collect::<Vec<_>>());
    }
}
