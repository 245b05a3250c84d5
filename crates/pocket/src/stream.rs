//! The endless stream of training documents.
//!
//! A document is a function of seed and index alone, so training can resume at any of them. Each is drawn from the
//! training split of one task. Conversations hold one item. Raw text holds several items on consecutive lines, or one
//! item in the form of the evaluation; several, because an answer of one token in a text of thirty would hardly be
//! learned.
//!
//! For the same reason answers have more weight in the loss than prompts, and short answers more per token than long
//! ones: an answer of n tokens, its terminator included, has the weight `3 / sqrt(n)` per token.

use crate::draw::Draw;
use crate::example::Prompt;
use crate::tasks::{TaskInfo, derivation, fact, line, task, train_item};
use crate::tokenizer::{ASSISTANT, BOS, END, USER, encode};

/// Longest document in tokens.
pub const MAX_TOKENS: usize = 160;
const ANSWER_WEIGHT: f32 = 3.0;
const PROMPT_WEIGHT: f32 = 0.1;
/// Arithmetic questions differ only in their digits.
const ARITH_PROMPT_WEIGHT: f32 = 0.05;

/// Fractions of the tasks in the stream, by tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture(
    /// Task name and fraction; fractions need not add up to 1.
    pub Vec<(String, f64)>,
);

/// A task's default fraction of the tokens, and the mean length of its documents, which converts fractions of tokens to
/// fractions of documents (a test checks the lengths).
const DEFAULTS: [(&str, f64, f64); 9] = [
    ("pocket_word", 0.30, 76.0),
    ("pocket_arith", 0.25, 105.0),
    ("pocket_code", 0.12, 69.5),
    ("pocket_brackets", 0.08, 58.5),
    ("pocket_summary", 0.07, 35.5),
    ("pocket_kind", 0.05, 47.0),
    ("pocket_sentiment", 0.04, 51.0),
    ("pocket_topic", 0.04, 52.5),
    ("pocket_trend", 0.05, 64.0),
];

impl Default for Mixture {
    fn default() -> Self {
        Self(DEFAULTS.iter().map(|(name, fraction, _)| ((*name).to_owned(), *fraction)).collect())
    }
}

/// One training document.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainDoc {
    /// Token ids, including beginning-of-text and end token.
    pub tokens: Vec<u32>,
    /// `weights[i]` is the loss weight of predicting `tokens[i]`.
    pub weights: Vec<f32>,
    /// Its task.
    pub task: &'static str,
}

impl TrainDoc {
    fn new(task: &'static str) -> Self {
        Self { tokens: vec![BOS], weights: vec![0.0], task }
    }

    fn push(&mut self, tokens: impl IntoIterator<Item = u32>, weight: f32) {
        self.tokens.extend(tokens);
        self.weights.resize(self.tokens.len(), weight);
    }

    /// An answer and the token that ends it.
    fn answer(&mut self, text: &str, terminator: u32) {
        let mut tokens = encode(text);
        tokens.push(terminator);
        let weight = ANSWER_WEIGHT / (tokens.len() as f32).sqrt();
        self.push(tokens, weight);
    }
}

/// The stream; as an iterator it is endless.
#[derive(Debug, Clone)]
pub struct Stream {
    seed: u64,
    index: u64,
    tasks: Vec<&'static TaskInfo>,
    weights: Vec<f64>,
}

impl Stream {
    /// The stream of this seed from document `index` on. Unknown tasks and fractions that are not positive are ignored;
    /// without any other, the default mixture is used.
    pub fn at(seed: u64, index: u64, mixture: &Mixture) -> Self {
        let (mut tasks, mut weights) = (Vec::new(), Vec::new());
        for (name, fraction) in &mixture.0 {
            let length = DEFAULTS.iter().find(|d| d.0 == name).map_or(1.0, |d| d.2);
            if let (Some(task), true) = (task(name), *fraction > 0.0 && fraction.is_finite()) {
                tasks.push(task);
                weights.push(fraction / length);
            }
        }
        if tasks.is_empty() {
            return Self::at(seed, index, &Mixture::default());
        }
        Self { seed, index, tasks, weights }
    }

    /// The index of the document that comes next.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The document of any index.
    pub fn document(&self, index: u64) -> TrainDoc {
        let mut draw = Draw::new("stream", self.seed, index);
        let task = self.tasks[draw.weighted(&self.weights)];
        match task.name {
            "pocket_arith" => arithmetic(task.name, &mut draw),
            _ if task.chat => conversation(task, &mut draw),
            _ => lines(task, &mut draw),
        }
    }
}

impl Iterator for Stream {
    type Item = TrainDoc;

    fn next(&mut self) -> Option<TrainDoc> {
        let document = self.document(self.index);
        self.index += 1;
        Some(document)
    }
}

/// One item, as rendered by the chat template.
fn conversation(task: &'static TaskInfo, draw: &mut Draw) -> TrainDoc {
    let item = train_item(task, draw);
    let mut document = TrainDoc::new(task.name);
    document.push([USER], PROMPT_WEIGHT);
    document.push(encode(item.prompt.text()), PROMPT_WEIGHT);
    document.push([END, ASSISTANT], PROMPT_WEIGHT);
    document.answer(&item.answer, END);
    document
}

/// One to five items of raw text, one per line.
fn lines(task: &'static TaskInfo, draw: &mut Draw) -> TrainDoc {
    let n = if draw.chance(30) { 1 } else { draw.int(2, 5) as usize };
    let items = (0..n).map(|_| train_item(task, draw)).filter_map(|item| match item.prompt {
        Prompt::Plain(text) => Some((text, item.answer)),
        Prompt::Chat(_) => None,
    });
    question_lines(task.name, items.collect(), PROMPT_WEIGHT)
}

/// Arithmetic: half of the documents are questions of the probe's form, half easier ones.
fn arithmetic(task: &'static str, draw: &mut Draw) -> TrainDoc {
    let items = if draw.chance(50) {
        let n = draw.int(4, 7);
        (0..n).map(|_| line(draw)).collect()
    } else if draw.chance(70) {
        let n = draw.int(5, 8);
        (0..n).map(|_| fact(draw)).collect()
    } else {
        (0..2).flat_map(|_| derivation(draw)).collect()
    };
    question_lines(task, items, ARITH_PROMPT_WEIGHT)
}

/// As many of the lines as fit, with the end token after the last one.
fn question_lines(task: &'static str, items: Vec<(String, String)>, prompt_weight: f32) -> TrainDoc {
    let newline = encode("\n")[0];
    let mut document = TrainDoc::new(task);
    for (prompt, answer) in items {
        let prompt = encode(&prompt);
        if document.tokens.len() > 1 {
            if document.tokens.len() + prompt.len() + encode(&answer).len() + 1 > MAX_TOKENS {
                break;
            }
            if let Some(last) = document.tokens.last_mut() {
                *last = newline;
            }
        }
        document.push(prompt, prompt_weight);
        document.answer(&answer, END);
    }
    document
}
