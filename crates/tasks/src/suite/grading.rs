//! From replies to outcomes.

use std::collections::BTreeMap;
use std::sync::Arc;

use lopper_infer::{LoglikRequest, ReasoningReader, StopStrings, TextModel};
use lopper_record::{Fault, Result, Score, ensure};
use lopper_stats as stats;
use rayon::prelude::*;

use super::{Items, Prepared, Slot, Suite, generated, refusals};
use crate::outcome::{ItemResult, TaskOutcome, Timing};
use crate::registry::TaskEntry;
use crate::requests::{Replies, Requests, Response};

/// Responses that were generated elsewhere, by task and row.
pub type GivenResponses = BTreeMap<(String, usize), Vec<GivenResponse>>;

/// A response that was generated elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenResponse {
    /// The response, with or without what was thought before it.
    pub text: String,
    /// What was thought, where it is given apart; a response without text is then an unfinished thought.
    pub reasoning: Option<String>,
    /// Whether it was cut off, if known.
    pub unfinished: Option<bool>,
}

/// A candidate's replies, and how its responses are read.
pub(super) struct ItemReplies<'a> {
    pub replies: &'a Replies,
    requests: &'a Requests,
    stop: Option<&'a Arc<StopStrings>>,
    reader: ReasoningReader,
}

impl ItemReplies<'_> {
    /// The response of generation `at`.
    pub fn response(&self, at: usize) -> Result<Response> {
        let prompt = &self.requests.generations[at].prompt;
        Response::read(&self.reader, prompt, &self.replies.generations[at], self.stop)
    }
}

impl Suite {
    /// Grades one candidate's replies to [`Suite::requests`]; an outcome for each task, in order. `text` must have the
    /// tokenizer that the suite was prepared with.
    ///
    /// # Errors
    /// A [`Fault`] where the model's output is not finite.
    pub fn grade(&self, text: &TextModel, replies: &Replies) -> Result<Vec<TaskOutcome>> {
        let Requests { choices, generations, .. } = &self.requests;
        ensure!(
            replies.choices.len() == choices.len() && replies.generations.len() == generations.len(),
            "the engine left requests unanswered"
        );
        if replies.choices.iter().flatten().any(|choice| !choice.sum.is_finite()) {
            return Err(Fault::new("a log-likelihood is not finite")
                .expected("finite weights")
                .got("infinity or not-a-number in a forward pass")
                .hint("the checkpoint is damaged, or its training diverged")
                .into());
        }
        let outcome = |task: &Prepared| {
            let timings = task.slots.iter().map(|slots| self.timing(slots, replies)).collect();
            let (requests, stop, reader) = (&self.requests, task.stop.as_ref(), task.reader(text));
            let replies = ItemReplies { replies, requests, stop, reader };
            Ok(TaskOutcome { timings, ..self.outcome(task, task.grade(&replies)?) })
        };
        self.tasks.iter().map(outcome).collect()
    }

    /// Grades responses that were generated elsewhere instead of the engine's. `text` must have the tokenizer that the
    /// suite was prepared with.
    ///
    /// # Errors
    /// A [`Fault`] for a task that is not answered by text, and for an item without a response.
    pub fn grade_given(&self, text: &TextModel, given: &GivenResponses) -> Result<Vec<TaskOutcome>> {
        let outcome = |task: &Prepared| match &task.items {
            Items::Rows(rows) if rows.spec.choices.is_none() => {
                let reader = task.reader(text);
                let opened = |slots: &Vec<Slot>| match slots.first() {
                    Some(Slot::Generation(at)) => reader.opened_by(&self.requests.generations[*at].prompt),
                    _ => false,
                };
                let opened: Vec<bool> = task.slots.iter().map(opened).collect();
                let responses = rows.given(given, &opened, &reader, task.stop.as_ref())?;
                Ok(self.outcome(task, rows.grade_responses(&responses)?))
            }
            _ => Err(refusals::not_from_a_file(task.name())),
        };
        self.tasks.iter().map(outcome).collect()
    }

    fn outcome(&self, prepared: &Prepared, items: Vec<ItemResult>) -> TaskOutcome {
        let TaskEntry { name, group, version, metric, chance, .. } = prepared.entry.clone();
        let rows = match &prepared.items {
            Items::Generated(..) => None,
            Items::Rows(rows) => Some(rows),
        };
        TaskOutcome {
            task: name,
            group,
            version,
            policy: prepared.policy.clone(),
            n: items.len(),
            metrics: scores(&items, self.selection.seed),
            primary: metric,
            items,
            chance,
            families: rows.map(|rows| rows.spec.families()).unwrap_or_default(),
            source: rows.map(|rows| rows.source.clone()),
            bad_rows: rows.map(|rows| rows.bad.clone()).unwrap_or_default(),
            truncated: rows.map(|rows| rows.truncated.clone()).unwrap_or_default(),
            timings: vec![],
        }
    }

    fn timing(&self, slots: &[Slot], replies: &Replies) -> Timing {
        let mut timing = Timing::default();
        for slot in slots {
            match *slot {
                Slot::Loglikelihood(at) => {
                    let LoglikRequest { context, continuations } = &self.requests.choices[at];
                    let tokens = context.len() + continuations.iter().map(Vec::len).sum::<usize>();
                    timing.read_tokens += tokens;
                    timing.seconds += tokens as f64 * replies.pace.choices;
                }
                Slot::Generation(at) => {
                    let (read, made) =
                        (self.requests.generations[at].prompt.len(), replies.generations[at].tokens.len());
                    timing.read_tokens += read;
                    timing.new_tokens += made;
                    timing.seconds += (read + made) as f64 * replies.pace.generations;
                }
            }
        }
        timing
    }
}

impl Prepared {
    /// How its responses are taken apart.
    fn reader(&self, text: &TextModel) -> ReasoningReader {
        ReasoningReader::new(text, self.policy.reasoning_markers.as_ref())
    }

    fn grade(&self, replies: &ItemReplies<'_>) -> Result<Vec<ItemResult>> {
        match &self.items {
            // Generated programs are run here, which takes long enough to share out.
            Items::Generated(task, items) => (items.par_iter().enumerate())
                .map(|(at, item)| generated::grade(self, task, item, at, replies))
                .collect(),
            Items::Rows(rows) => rows.grade(&self.slots, replies),
        }
    }
}

/// The scores of the metrics that any item has.
fn scores(items: &[ItemResult], seed: u64) -> BTreeMap<String, Score> {
    let mut values: BTreeMap<&str, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for item in items {
        for (name, value) in &item.metrics {
            let (values, weights) = values.entry(name).or_default();
            values.push(*value);
            weights.push(item.weights.get(name).copied().unwrap_or(1.0));
        }
    }
    let score = |values: &[f64], weights: &[f64]| match weights.iter().all(|weight| *weight == 1.0) {
        true => stats::score(values, seed),
        false => stats::weighted_score(values, weights),
    };
    values.into_iter().map(|(name, (values, weights))| (name.to_owned(), score(&values, &weights))).collect()
}
