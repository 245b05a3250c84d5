//! What a study may learn from: calibration text of the criteria and prompts to heal by. Nothing of it is an item that
//! layers are chosen by or scores are reported on.

use std::collections::HashSet;

use anyhow::Result;
use lopper_infer::TextModel;
use lopper_model::chat::Message;
use lopper_pocket::{Example, Prompt, Split, examples, task};
use lopper_record::Fault;
use lopper_tasks::{GenerationPolicy, Resources, TrainingExample, question_id, training_examples};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::measure::Questions;
use crate::tasks::StudyTasks;

/// A question to learn from.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    pub form: Form,
    /// The reference; empty where there is none.
    pub answer: String,
}

/// How it is asked.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    Chat(Vec<Message>),
    Plain { prompt: String, delimiter: String, stop: Vec<String> },
}

/// Where a study's questions to learn from come from.
pub struct Training {
    sources: Vec<Source>,
    /// Tasks without any, with the reason.
    pub without: Vec<(String, String)>,
}

enum Source {
    /// A generated task's training split, which never ends.
    Generated(String),
    /// Questions that end.
    Listed(Vec<Question>),
}

impl Training {
    /// The training splits of `tasks`, without any item of `asked`; `prompts` instead of them, where they are given.
    ///
    /// # Errors
    /// A [`Fault`] for given prompts among which is an item of `asked`.
    pub fn gather(
        text: &TextModel,
        tasks: &StudyTasks,
        (policy, resources): (&GenerationPolicy, &Resources),
        prompts: Option<&[Vec<Message>]>,
        asked: &[&Questions],
    ) -> Result<Self> {
        let items: HashSet<&str> =
            asked.iter().flat_map(|questions| questions.item_ids().into_values().flatten()).collect();
        if let Some(prompts) = prompts {
            refuse_items(prompts, asked)?;
            let chat = text.chat.is_some();
            let questions = prompts.iter().map(|messages| given(messages, chat)).collect();
            return Ok(Self { sources: vec![Source::Listed(questions)], without: vec![] });
        }
        let mut training = Self { sources: vec![], without: vec![] };
        for entry in tasks.entries.iter().filter(|entry| entry.rows.is_none()) {
            training.sources.push(Source::Generated(entry.name.clone()));
        }
        for reference in &tasks.references {
            if tasks.entries.iter().any(|entry| entry.name == *reference && entry.rows.is_none()) {
                continue;
            }
            // Other tasks may have enough to learn from.
            let mut found =
                match training_examples(reference, policy, resources).map_err(|error| error.downcast::<Fault>()) {
                    Ok(found) => found,
                    Err(Ok(fault)) => {
                        training.without.push((reference.clone(), fault.message));
                        continue;
                    }
                    Err(Err(error)) => return Err(error),
                };
            found.retain(|lesson| !items.contains(lesson.id.as_str()));
            match found.is_empty() {
                true => training.without.push((reference.clone(), "it has no training split".to_owned())),
                false => training.sources.push(Source::Listed(found.iter().map(|l| of_row(l, text)).collect())),
            }
        }
        Ok(training)
    }

    /// Questions, the tasks in turn; those of rows in an order drawn with `seed`. Never ends where a task's items are
    /// generated.
    pub fn lessons(&self, seed: u64) -> impl Iterator<Item = Question> + '_ {
        let mut streams: Vec<Box<dyn Iterator<Item = Question> + '_>> = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            streams.push(match source {
                Source::Generated(name) => Box::new(examples(name, Split::Train, seed).map(of_example)),
                Source::Listed(questions) => {
                    let mut order: Vec<&Question> = questions.iter().collect();
                    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed ^ (at as u64).rotate_right(16)));
                    Box::new(order.into_iter().cloned())
                }
            });
        }
        let mut turn = 0;
        std::iter::from_fn(move || {
            while !streams.is_empty() {
                let at = turn % streams.len();
                if let Some(question) = streams[at].next() {
                    turn = at + 1;
                    return Some(question);
                }
                drop(streams.remove(at));
                turn = at;
            }
            None
        })
    }
}

fn of_example(example: Example) -> Question {
    let stop = task(example.task).map_or(&[][..], |info| info.stop);
    // A choice is a word on a line, so a line's end stops it as it does the others.
    let stop = if stop.is_empty() { &["\n"] } else { stop };
    let form = match example.prompt {
        Prompt::Chat(text) => Form::Chat(vec![Message::user(text)]),
        Prompt::Plain(prompt) => {
            Form::Plain { prompt, delimiter: String::new(), stop: stop.iter().map(|text| (*text).to_owned()).collect() }
        }
    };
    Question { form, answer: example.answer }
}

/// A row in conversation wherever the model has a chat template, as the paper heals (METHOD section 4).
fn of_row(lesson: &TrainingExample, text: &TextModel) -> Question {
    let form = match text.chat.is_some() {
        true => Form::Chat(vec![Message::user(lesson.question.trim())]),
        false => Form::Plain {
            prompt: lesson.question.clone(),
            delimiter: lesson.delimiter.clone(),
            stop: lesson.until.clone(),
        },
    };
    Question { form, answer: lesson.answer.trim().to_owned() }
}

fn given(messages: &[Message], chat: bool) -> Question {
    let form = match chat {
        true => Form::Chat(messages.to_vec()),
        false => {
            let text: Vec<&str> = messages.iter().map(|message| message.content.as_str()).collect();
            Form::Plain { prompt: text.join("\n\n"), delimiter: "\n".to_owned(), stop: vec!["\n\n".to_owned()] }
        }
    };
    Question { form, answer: String::new() }
}

fn refuse_items(prompts: &[Vec<Message>], asked: &[&Questions]) -> Result<()> {
    let used: HashSet<String> =
        prompts.iter().flatten().map(|message| question_id([message.content.as_str()])).collect();
    let shared: Vec<String> = asked
        .iter()
        .flat_map(|questions| questions.items_among(&used))
        .map(|(task, count, all)| format!("{count} of {all} items of {task}"))
        .collect();
    if shared.is_empty() {
        return Ok(());
    }
    Err(Fault::new("prompts to heal by are items that layers are chosen by or scores are reported on")
        .expected("no item among the prompts of `heal.data`")
        .got(shared.join(", "))
        .hint("take them out; `lopper eval --disjoint-from` finds them")
        .into())
}
