//! The results of an evaluation: scores by task, and every item behind them.

use std::collections::BTreeMap;

use lopper_infer::Finish;
use lopper_pocket::{Group, Split};
use lopper_record::Score;
use serde::{Deserialize, Serialize};

use crate::benchmark::items::{BadRow, split_of};
use crate::policy::GenerationPolicy;

/// The outcome of an item whose thought never ended, so that there is no answer to judge.
pub const UNFINISHED_THOUGHT: &str = "unfinished_thought";

/// The result of one item.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ItemResult {
    /// Its index among the task's items, from 0; of a benchmark its row number.
    pub doc_id: usize,
    /// Identity of its content.
    pub id: String,
    /// Value of the task's primary metric: 1 or 0, or the F1 of ROUGE-L.
    pub score: f64,
    /// Values of all metrics, the primary one among them.
    pub metrics: BTreeMap<String, f64>,
    /// What it counts in metrics where items do not all count the same; in the others, 1.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<String, f64>,
    /// The prompt as text; of generated items before the chat template.
    pub prompt: String,
    /// The choices, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<String>>,
    /// What the model thought before its response, without markers; none where it marked nothing as thought.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Tokens of the thought, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<usize>,
    /// Whether the thinking budget ended the thought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reasoning_cut: bool,
    /// The generated text after the thought and without what ended it; none where nothing is generated.
    pub response: Option<String>,
    /// What was read from the response, or the choice of the highest log-likelihood.
    pub extracted: Option<String>,
    /// The reference.
    pub target: String,
    /// Natural log-likelihood of each choice; in the arithmetic probe, of each of the ten digits
    /// at the position of the answer's first digit.
    pub logprobs: Option<Vec<f64>>,
    /// The outcome in a word: how a program ended (`passed`, `assertion`,
    /// `bracket_or_literal`, …), or `right`, `wrong`, `no_answer` of a number; [`UNFINISHED_THOUGHT`] of any response
    /// that is none, because the thought before it never ended.
    pub outcome: Option<String>,
    /// Why the generation ended.
    pub finish: Option<Finish>,
    /// Whether each choice's tokens were the most probable ones; of tasks over rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub greedy: Option<Vec<bool>>,
    /// Every response, where several were drawn; the fields above are those of the first, `score` and
    /// `metrics` count all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub samples: Vec<SampleResult>,
}

/// One of several responses to an item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleResult {
    /// Value of the task's primary metric.
    pub score: f64,
    /// What the model thought before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Tokens of the thought, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<usize>,
    /// Whether the thinking budget ended the thought.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reasoning_cut: bool,
    /// The generated text after the thought.
    pub response: String,
    /// What was read from it.
    pub extracted: Option<String>,
    /// The outcome in a word.
    pub outcome: Option<String>,
    /// Why the generation ended.
    pub finish: Finish,
}

/// How much was thought before the responses to a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ThoughtCounts {
    /// Responses.
    pub responses: usize,
    /// Of these, the ones with a thought before them.
    pub thoughts: usize,
    /// Thoughts that never ended.
    pub unfinished: usize,
    /// Thoughts that the thinking budget ended.
    pub cut: usize,
    /// Mean tokens of thought over the responses; none where those of a thought are not known.
    pub mean_tokens: Option<f64>,
}

/// The tokens and the time of an item.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Tokens read: context and choices, or the prompt.
    pub read_tokens: usize,
    /// Tokens generated.
    pub new_tokens: usize,
    /// Its share of the time of the engine's call. Items and candidates go through in batches, so the time of a call is
    /// divided by the tokens of all of them.
    pub seconds: f64,
}

/// A model's result on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskOutcome {
    /// The task's name.
    pub task: String,
    /// The group it counts towards.
    pub group: Group,
    /// Version of its definition.
    pub version: u32,
    /// How its answers were produced: the part of the policy that applies to it, with its number of few-shot examples
    /// and its length of a response.
    pub policy: GenerationPolicy,
    /// Number of items.
    pub n: usize,
    /// Every metric with its interval.
    pub metrics: BTreeMap<String, Score>,
    /// The metric that the task is compared by.
    pub primary: String,
    /// Every item, in order.
    pub items: Vec<ItemResult>,
    /// The score of guessing; none where a guess has no meaningful rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Names that it is scored under together with others (`mmlu`, `mmlu_stem`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<String>,
    /// Where its rows came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RowSource>,
    /// Rows that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad_rows: Vec<BadRow>,
    /// Rows whose prompt lost its beginning, by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<usize>,
    /// Tokens and time of each item, in their order. Not recorded, since times differ from run to run.
    #[serde(skip)]
    pub timings: Vec<Timing>,
}

/// Where a task's rows came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSource {
    /// The file, or the first of several.
    pub file: std::path::PathBuf,
    /// The split that it is.
    pub split: String,
    /// The commit of the data set, on the branch of its Parquet files, where the hub gave them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

impl TaskOutcome {
    /// Few-shot examples before each item, beyond what the task itself shows.
    pub fn shots(&self) -> usize {
        self.policy.shots.unwrap_or_default()
    }

    /// The items' values of the primary metric, in order: what paired comparisons work on.
    pub fn scores(&self) -> Vec<f64> {
        self.items.iter().map(|item| item.score).collect()
    }

    /// The score of guessing on each item, in order: 1 ÷ its number of choices, which may differ by item, or the
    /// task's. Empty where a guess scores nothing.
    pub fn chance_levels(&self) -> Vec<f64> {
        let Some(of_task) = self.chance else { return vec![] };
        let of_item = |item: &ItemResult| match item.choices.as_deref() {
            Some(choices) if !choices.is_empty() => 1.0 / choices.len() as f64,
            _ => of_task,
        };
        self.items.iter().map(of_item).collect()
    }

    /// The items' values of one metric, in order; none if an item lacks it.
    pub fn scores_of(&self, metric: &str) -> Option<Vec<f64>> {
        self.items.iter().map(|item| item.metrics.get(metric).copied()).collect()
    }

    /// Whether an item was answered right; none where answers are graded.
    pub fn correct(&self, item: &ItemResult) -> Option<bool> {
        let graded = crate::metrics::is_graded(&self.primary) || !item.samples.is_empty();
        (!graded).then_some(item.score == 1.0)
    }

    /// How many of its items are rows of [`Split::Select`], by which layers are chosen; none where items are generated,
    /// since their splits share nothing.
    pub fn selection_items(&self) -> Option<usize> {
        let chosen_by = |item: &&ItemResult| split_of(&item.id) == Split::Select;
        self.source.as_ref().map(|_| self.items.iter().filter(chosen_by).count())
    }

    /// Sentences about rows that were left out, the first of them with their reasons, and about truncated prompts.
    pub fn warnings(&self) -> Vec<String> {
        const LISTED: usize = 5;
        let mut warnings = Vec::new();
        if let Some(first) = self.bad_rows.first() {
            let listed = self.bad_rows.iter().take(LISTED).map(|bad| format!("row {}: {}", bad.row, bad.reason));
            let more = (self.bad_rows.len() > LISTED).then(|| "…".to_owned());
            let listed = listed.chain(more).collect::<Vec<_>>().join("; ");
            let (count, file) = (self.bad_rows.len(), first.file.display());
            warnings.push(format!("{}: {count} rows left out of {file}: {listed}", self.task));
        }
        if !self.truncated.is_empty() {
            let count = self.truncated.len();
            warnings.push(format!("{}: {count} prompts lost their beginning to fit into the context", self.task));
        }
        if let Some(thoughts) = self.thoughts().filter(|thoughts| thoughts.unfinished > 0) {
            let ThoughtCounts { responses, unfinished, .. } = thoughts;
            warnings.push(format!(
                "{}: {unfinished} of {responses} responses are thoughts that do not end, so they have no answer; raise \
                 --max-new-tokens, or limit thoughts with --max-thinking-tokens",
                self.task
            ));
        }
        warnings
    }

    /// What was thought before the responses; none where nothing is marked as thought.
    pub fn thoughts(&self) -> Option<ThoughtCounts> {
        let mut counts = ThoughtCounts::default();
        let (mut tokens, mut known) = (0, true);
        let mut add = |reasoning: &Option<String>, own: Option<usize>, cut: bool, outcome: &Option<String>| {
            counts.responses += 1;
            counts.thoughts += usize::from(reasoning.is_some());
            counts.unfinished += usize::from(outcome.as_deref() == Some(UNFINISHED_THOUGHT));
            counts.cut += usize::from(cut);
            // A response without a thought has thought for no token.
            known &= own.is_some() || reasoning.is_none();
            tokens += own.unwrap_or_default();
        };
        for item in self.items.iter().filter(|item| item.response.is_some()) {
            if item.samples.is_empty() {
                add(&item.reasoning, item.reasoning_tokens, item.reasoning_cut, &item.outcome);
            }
            for sample in &item.samples {
                add(&sample.reasoning, sample.reasoning_tokens, sample.reasoning_cut, &sample.outcome);
            }
        }
        counts.mean_tokens = (known && counts.responses > 0).then(|| tokens as f64 / counts.responses as f64);
        (counts.thoughts > 0).then_some(counts)
    }

    /// The score of the primary metric.
    pub fn primary_score(&self) -> &Score {
        // Every outcome is made with it; one read from a damaged record shows as undefined.
        const UNDEFINED: Score = Score::UNDEFINED;
        self.metrics.get(&self.primary).unwrap_or(&UNDEFINED)
    }
}
