//! The endless stream of training documents.
//!
//! A document is a function of (seed, index) alone, so training resumes anywhere at once. Each is
//! drawn from the training split of one task. Conversations hold one item; raw text holds several
//! items on consecutive lines, or one item exactly as it is asked in an evaluation: an answer of
//! one token in a text of thirty would otherwise hardly be learned.
//!
//! For the same reason answers weigh more in the loss than questions, and short answers more per
//! token than long ones: an answer of n tokens, its terminator included, has the weight
//! `3 / sqrt(n)` per token.

use crate::draw::Draw;
use crate::example::Prompt;
use crate::tasks::{TaskInfo, derivation, fact, line, task, train_item};
use crate::tokenizer::{ASSISTANT, BOS, END, USER, encode};

/// No document is longer, in tokens.
pub const MAX_TOKENS: usize = 160;
const ANSWER_WEIGHT: f32 = 3.0;
const PROMPT_WEIGHT: f32 = 0.1;
/// The arithmetic questions are the same but for their digits.
const ARITH_PROMPT_WEIGHT: f32 = 0.05;

/// Shares of the tasks in the stream, counted in tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Mixture(
    /// Task name and share; shares need not add up to 1.
    pub Vec<(String, f64)>,
);

/// A task's usual share of the tokens and the mean length of its documents, by which a share of
/// tokens becomes a share of documents (a test keeps the lengths true).
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
        Self(DEFAULTS.iter().map(|(name, share, _)| ((*name).to_owned(), *share)).collect())
    }
}

/// One training document.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainDoc {
    /// Token ids, beginning of text and end token included.
    pub tokens: Vec<u32>,
    /// `weights[i]` is the loss weight of predicting `tokens[i]` from what is before it.
    pub weights: Vec<f32>,
    /// The task it belongs to.
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

/// The stream; as an iterator it goes on without end from where it stands.
#[derive(Debug, Clone)]
pub struct Stream {
    seed: u64,
    index: u64,
    tasks: Vec<&'static TaskInfo>,
    weights: Vec<f64>,
}

impl Stream {
    /// The stream of this seed from document `index` on. Unknown tasks and shares that are not
    /// positive are left out; where nothing is left the usual mixture is taken.
    pub fn at(seed: u64, index: u64, mixture: &Mixture) -> Self {
        let (mut tasks, mut weights) = (Vec::new(), Vec::new());
        for (name, share) in &mixture.0 {
            let length = DEFAULTS.iter().find(|d| d.0 == name).map_or(1.0, |d| d.2);
            if let (Some(task), true) = (task(name), *share > 0.0 && share.is_finite()) {
                tasks.push(task);
                weights.push(share / length);
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

/// One item as the chat template renders it.
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

/// As many of the lines as fit, the last one ended by the end token.
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
