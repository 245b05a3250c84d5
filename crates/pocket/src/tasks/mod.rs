//! The tasks: one file each, one row here each.

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

/// What there is to know about a task without drawing an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskInfo {
    /// The name, as users write it.
    pub name: &'static str,
    /// The group it counts towards.
    pub group: Group,
    /// One line for listings.
    pub description: &'static str,
    /// Enough for every reference answer and its end token; 0 for classification.
    pub max_new_tokens: usize,
    /// Strings that end a response besides the end token.
    pub stop: &'static [&'static str],
    /// Whether the prompt is a user's message rather than raw text.
    pub chat: bool,
}

const TASKS: [TaskInfo; 9] = [
    TaskInfo {
        name: "pocket_word",
        group: Group::Generative,
        description: "word problems in two to four steps, in GSM8K's form",
        max_new_tokens: 64,
        stop: &[],
        chat: true,
    },
    TaskInfo {
        name: "pocket_arith",
        group: Group::Generative,
        description: "arithmetic probe: three single digits after three worked examples",
        max_new_tokens: 6,
        stop: &["\n"],
        chat: false,
    },
    TaskInfo {
        name: "pocket_code",
        group: Group::Generative,
        description: "small Python functions, executed",
        max_new_tokens: 96,
        stop: &[],
        chat: true,
    },
    TaskInfo {
        name: "pocket_brackets",
        group: Group::Generative,
        description: "closing two to eight open brackets",
        max_new_tokens: 12,
        stop: &["\n"],
        chat: false,
    },
    TaskInfo {
        name: "pocket_summary",
        group: Group::Generative,
        description: "one sentence that says who did what and where",
        max_new_tokens: 24,
        stop: &[],
        chat: true,
    },
    TaskInfo {
        name: "pocket_kind",
        group: Group::Classification,
        description: "world facts: what kind of thing something is",
        max_new_tokens: 0,
        stop: &[],
        chat: false,
    },
    TaskInfo {
        name: "pocket_sentiment",
        group: Group::Classification,
        description: "whether a review is good or bad",
        max_new_tokens: 0,
        stop: &[],
        chat: false,
    },
    TaskInfo {
        name: "pocket_topic",
        group: Group::Classification,
        description: "what a short text is about",
        max_new_tokens: 0,
        stop: &[],
        chat: false,
    },
    TaskInfo {
        name: "pocket_trend",
        group: Group::Classification,
        description: "which way a series of numbers goes",
        max_new_tokens: 0,
        stop: &[],
        chat: false,
    },
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
/// `Train` never ends and may repeat an item. `Select` and `Report` give each item once, and end
/// when no new one has come up in 50 000 draws in a row. An unknown task gives nothing.
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
