//! The generated tasks: one file and one line of [`tasks`] each.

use std::collections::HashSet;

use crate::draw::Draw;
use crate::example::{Example, Group, Item, Split};

mod arith;
mod brackets;
mod code;
mod kind;
mod sentiment;
mod summary;
mod topic;
mod trend;
mod word;

pub(crate) use arith::{derivation, fact, line};

/// A generated task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskInfo {
    /// The name, as users write it.
    pub name: &'static str,
    /// Its group.
    pub group: Group,
    /// One line for listings.
    pub description: &'static str,
    /// Longest response in tokens, enough for every reference answer and its end token; 0 for classification.
    pub max_new_tokens: usize,
    /// Stop strings, in addition to the end token.
    pub stop: &'static [&'static str],
    /// Whether prompts are user messages rather than raw text.
    pub chat: bool,
}

impl TaskInfo {
    const fn classification(name: &'static str, description: &'static str) -> Self {
        Self { name, group: Group::Classification, description, max_new_tokens: 0, stop: &[], chat: false }
    }

    const fn generative(name: &'static str, description: &'static str, max_new_tokens: usize, chat: bool) -> Self {
        // Raw text has one item on each line.
        let stop: &[&str] = if chat { &[] } else { &["\n"] };
        Self { name, group: Group::Generative, description, max_new_tokens, stop, chat }
    }
}

const TASKS: [TaskInfo; 9] = [
    TaskInfo::generative("pocket_word", "word problems in two to four steps, in the form of GSM8K", 64, true),
    TaskInfo::generative("pocket_arith", "arithmetic probe: three single digits, three few-shot examples", 6, false),
    TaskInfo::generative("pocket_code", "small Python functions, executed", 96, true),
    TaskInfo::generative("pocket_brackets", "closing two to eight open brackets", 12, false),
    TaskInfo::generative("pocket_summary", "one sentence that says who did what and where", 24, true),
    TaskInfo::classification("pocket_kind", "world facts: what kind of thing something is"),
    TaskInfo::classification("pocket_sentiment", "whether a review is good or bad"),
    TaskInfo::classification("pocket_topic", "what a short text is about"),
    TaskInfo::classification("pocket_trend", "whether a series of prices rises, falls or stays"),
];

/// All tasks, generative ones first.
pub fn tasks() -> &'static [TaskInfo] {
    &TASKS
}

/// The task of this name.
pub fn task(name: &str) -> Option<&'static TaskInfo> {
    TASKS.iter().find(|t| t.name == name)
}

fn draw_item(task: &str, draw: &mut Draw) -> Item {
    match task {
        "pocket_word" => word::item(draw),
        "pocket_arith" => arith::item(draw),
        "pocket_code" => code::item(draw),
        "pocket_brackets" => brackets::item(draw),
        "pocket_summary" => summary::item(draw),
        "pocket_kind" => kind::item(draw),
        "pocket_sentiment" => sentiment::item(draw),
        "pocket_topic" => topic::item(draw),
        "pocket_trend" => trend::item(draw),
        other => unreachable!("no generator for {other}"),
    }
}

/// One item of the training split, for the training stream.
pub(crate) fn train_item(task: &'static TaskInfo, draw: &mut Draw) -> Item {
    loop {
        let item = draw_item(task.name, draw);
        if Split::of(task.name, &item.key) == Split::Train {
            return item;
        }
    }
}

/// The items of a task's split in the order of `seed`.
///
/// `Train` is endless and may repeat an item. `Select` and `Report` yield each item once, and end after 50 000 draws in
/// a row without a new one. An unknown task has no items.
pub fn examples(task: &str, split: Split, seed: u64) -> impl Iterator<Item = Example> + use<> {
    Examples { task: self::task(task), split, seed, index: 0, seen: HashSet::new() }
}

struct Examples {
    task: Option<&'static TaskInfo>,
    split: Split,
    seed: u64,
    index: u64,
    seen: HashSet<String>,
}

impl Iterator for Examples {
    type Item = Example;

    fn next(&mut self) -> Option<Example> {
        let task = self.task?;
        for _ in 0..50_000 {
            let mut draw = Draw::new(task.name, self.seed, self.index);
            self.index += 1;
            let item = draw_item(task.name, &mut draw);
            if Split::of(task.name, &item.key) != self.split {
                continue;
            }
            let example = item.into_example(task.name);
            if self.split == Split::Train || self.seen.insert(example.id.clone()) {
                return Some(example);
            }
        }
        None
    }
}

/// Puts the right choice among `n - 1` wrong ones, in random order.
pub(crate) fn choices(draw: &mut Draw, right: &str, wrong: &[&str], n: usize) -> (Vec<String>, usize) {
    let mut texts: Vec<&str> = draw.distinct(wrong, n - 1).into_iter().copied().collect();
    let label = draw.below(texts.len() + 1);
    texts.insert(label, right);
    (texts.into_iter().map(|t| format!(" {t}")).collect(), label)
}
