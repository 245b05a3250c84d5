//! Tasks whose items are rows of a data set.

use std::sync::Arc;

use anyhow::{Context, Result};
use lopper_infer::{Finish, Loglik, Sampling, StopStrings, TextModel};
use lopper_record::{Fault, key_hash};
use lopper_sandbox::Outcome;
use rayon::prelude::*;
use serde_json::json;

use super::{EvalOptions, GivenResponses, Replies, Requests, Slot, scores};
use crate::benchmark::ask::{Asked, Asker};
use crate::benchmark::code::CodeRunner;
use crate::benchmark::grade::{self, Graded, Judge, Response};
use crate::benchmark::items::{BadRow, Item, items};
use crate::benchmark::spec::Spec;
use crate::benchmark::{BenchOptions, RowChoice};
use crate::outcome::{ItemResult, RowSource, TaskOutcome};
use crate::request::{Draw, engine_request, stop_strings};

/// Such a task with its items in tokens.
#[derive(Clone)]
pub(super) struct RowTask {
    pub(super) spec: Arc<Spec>,
    stop: Option<Arc<StopStrings>>,
    pub(super) items: Vec<(Item, AskedItem)>,
    pub(super) shots: usize,
    source: RowSource,
    bad: Vec<BadRow>,
    truncated: Vec<usize>,
    code: Option<Arc<CodeRunner>>,
}

/// What became of an item's asks.
#[derive(Clone)]
pub(super) struct AskedItem {
    pub prompts: Vec<String>,
    pub slots: Vec<Slot>,
}

impl RowTask {
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The hash of what is asked and compared with.
    pub fn identity(&self, requests: &Requests) -> Result<String> {
        let items: Vec<serde_json::Value> = self
            .items
            .iter()
            .map(|(item, asked)| {
                let tokens: Vec<serde_json::Value> = asked
                    .slots
                    .iter()
                    .map(|slot| match *slot {
                        Slot::Loglikelihood(at) => {
                            json!([requests.choices[at].context, requests.choices[at].continuations])
                        }
                        Slot::Generation(at) => {
                            json!([requests.generations[at].prompt, requests.generations[at].max_new_tokens])
                        }
                    })
                    .collect();
                json!([item.row, item.doc, item.target, item.choices, item.label, tokens])
            })
            .collect();
        key_hash(&json!({ "file": self.spec.source, "member": self.spec.member, "items": items }))
    }

    pub fn prepare(
        text: &TextModel,
        spec: Arc<Spec>,
        options: &EvalOptions,
        bench: &BenchOptions,
        requests: &mut Requests,
    ) -> Result<Self> {
        let made = items(&spec, bench, options.split, bench.row_limit.unwrap_or(options.limit))?;
        let own = spec.generate.as_ref().map_or(0, |generate| generate.max_new_tokens);
        let max_new_tokens = if own == 0 { 0 } else { bench.max_new_tokens.unwrap_or(own) };
        let conversation = bench.chat || spec.prompt.conversation;
        let asker = Asker { text, conversation, options: bench, max_new_tokens };
        let stops = spec.generate.as_ref().map(|generate| generate.until.as_slice()).unwrap_or_default();
        let stop = stop_strings(text, stops);
        // Tokenising is worth sharing out.
        let asked: Vec<Result<Asked, String>> =
            made.items.par_iter().map(|item| asker.ask(item)).collect::<Result<_>>()?;

        // Greedy responses to one prompt are one response.
        let repeats = if options.sampling == Sampling::Greedy { 1 } else { bench.repeats.max(1) };
        let (mut kept, mut bad, mut truncated) = (Vec::new(), made.bad, Vec::new());
        for (item, asked) in made.items.into_iter().zip(asked) {
            let asked = match asked {
                Ok(asked) => asked,
                Err(reason) => {
                    bad.push(BadRow { row: item.row, file: made.files.file(item.row).to_path_buf(), reason });
                    continue;
                }
            };
            if asked.truncated {
                truncated.push(item.row);
            }
            let mut slots = Vec::new();
            for request in asked.choices {
                requests.choices.push(request);
                slots.push(Slot::Loglikelihood(requests.choices.len() - 1));
            }
            for repeat in 0..if item.choices.is_empty() { repeats } else { 0 } {
                let draw = Draw {
                    task: &spec.name,
                    item: &item.id,
                    repeat,
                    sampling: options.sampling,
                    seed: options.sampling_seed,
                };
                let request = engine_request(text, (&asked.prompt, max_new_tokens), draw, stop.as_ref())?;
                requests.generations.push(request);
                slots.push(Slot::Generation(requests.generations.len() - 1));
            }
            kept.push((item, AskedItem { prompts: asked.prompts, slots }));
        }
        bad.sort_by_key(|row| row.row);
        if kept.is_empty() {
            return Err(nothing_to_ask(&spec, made.files.file(0), &bad, options, bench));
        }
        Ok(Self {
            stop,
            items: kept,
            shots: made.shots,
            source: RowSource { file: made.files.file(0).to_path_buf(), split: made.split, revision: made.revision },
            bad,
            truncated,
            code: if spec.runs_code() { bench.code.clone() } else { None },
            spec,
        })
    }

    pub fn outcome(&self, text: &TextModel, replies: &Replies<'_>, seed: u64) -> Result<TaskOutcome> {
        let items = match self.spec.choices.is_some() {
            true => self.items.iter().map(|(item, asked)| self.choice(item, asked, replies)).collect(),
            false => self.generated(text, replies)?,
        };
        let families = match &self.spec.member {
            Some((_, category)) => {
                let family = self.spec.tags.iter().filter(|tag| self.spec.name.starts_with(tag.as_str()));
                let category = self.spec.tags.iter().filter(|tag| tag.ends_with(&format!("_{category}")));
                family.chain(category).cloned().collect()
            }
            None => vec![],
        };
        Ok(TaskOutcome {
            task: self.spec.name.clone(),
            group: self.spec.group,
            version: self.spec.version,
            shots: self.shots,
            n: items.len(),
            metrics: scores(&items, seed),
            primary: self.spec.metrics().swap_remove(0),
            items,
            chance: self.spec.chance,
            families,
            source: Some(self.source.clone()),
            bad_rows: self.bad.clone(),
            truncated: self.truncated.clone(),
            timings: vec![],
        })
    }

    fn choice(&self, item: &Item, asked: &AskedItem, replies: &Replies<'_>) -> ItemResult {
        let logliks: Vec<Loglik> = asked
            .slots
            .iter()
            .flat_map(|slot| match slot {
                Slot::Loglikelihood(at) => replies.choices[*at].as_slice(),
                Slot::Generation(_) => &[],
            })
            .copied()
            .collect();
        let graded = grade::choices(&self.spec, item, &logliks);
        let choices = item.choices.iter().map(|choice| choice.trim_start().to_owned()).collect();
        ItemResult {
            choices: Some(choices),
            logprobs: Some(logliks.iter().map(|loglik| loglik.sum).collect()),
            greedy: Some(logliks.iter().map(|loglik| loglik.greedy).collect()),
            ..self.result(item, asked, graded)
        }
    }

    fn generated(&self, text: &TextModel, replies: &Replies<'_>) -> Result<Vec<ItemResult>> {
        let judge = Judge::new(&self.spec)?;
        let responses: Vec<Vec<Response>> = match replies.given {
            Some(given) => self.items.iter().map(|(item, _)| self.given(item, given)).collect::<Result<_>>()?,
            None => self.items.iter().map(|(_, asked)| self.responses(text, asked, replies)).collect::<Result<_>>()?,
        };
        let ran = self.ran(&judge, &responses)?;
        let mut results = Vec::with_capacity(self.items.len());
        let mut at = 0;
        for ((item, asked), responses) in self.items.iter().zip(&responses) {
            let own = ran.get(at..at + responses.len()).unwrap_or_default();
            at += responses.len();
            let graded = judge.grade(item, responses, own)?;
            let first = responses.first().context("an item has at least one response")?;
            results.push(ItemResult {
                response: Some(first.text.clone()),
                finish: Some(first.finish),
                ..self.result(item, asked, graded)
            });
        }
        Ok(results)
    }

    /// What became of each response's program, in the order of items and responses; nothing where answers
    /// are no programs. Responses to an item that are alike are run once.
    fn ran(&self, judge: &Judge<'_>, responses: &[Vec<Response>]) -> Result<Vec<Outcome>> {
        let Some(runner) = &self.code else { return Ok(vec![]) };
        let (mut programs, mut places) = (Vec::new(), Vec::new());
        for ((item, _), responses) in self.items.iter().zip(responses) {
            let begin = programs.len();
            for response in responses {
                let program = judge.program(item, &response.text)?;
                // Other items have other tests.
                let same = programs[begin..].iter().position(|other| *other == program).map(|at| begin + at);
                places.push(same.unwrap_or(programs.len()));
                if same.is_none() {
                    programs.push(program);
                }
            }
        }
        let outcomes = runner.run(programs)?;
        Ok(places.into_iter().map(|place| outcomes[place].clone()).collect())
    }

    /// An item's responses from elsewhere, cut as the engine's are.
    fn given(&self, item: &Item, given: &GivenResponses) -> Result<Vec<Response>> {
        let found = given.get(&(self.spec.name.clone(), item.row)).filter(|responses| !responses.is_empty());
        let Some(responses) = found else {
            return Err(Fault::new(format!("there is no response to row {} of {}", item.row, self.spec.name))
                .expected("a response to every row that is asked")
                .hint("--limit N asks the first N rows only")
                .into());
        };
        let cut = |response: &String| {
            let mut text = response.clone();
            if let Some(end) = self.stop.as_ref().and_then(|stop| stop.find(&text)) {
                text.truncate(end);
            }
            Response { text, finish: Finish::Stop }
        };
        Ok(responses.iter().map(cut).collect())
    }

    pub fn is_generated(&self) -> bool {
        self.spec.choices.is_none()
    }

    fn responses(&self, text: &TextModel, asked: &AskedItem, replies: &Replies<'_>) -> Result<Vec<Response>> {
        let generation = |slot: &Slot| match slot {
            Slot::Generation(at) => Some(&replies.generations[*at]),
            Slot::Loglikelihood(_) => None,
        };
        let decoded = asked.slots.iter().filter_map(generation).map(|generation| {
            let mut response = text.decode(&generation.tokens)?;
            if let Some(end) = self.stop.as_ref().and_then(|stop| stop.find(&response)) {
                response.truncate(end);
            }
            Ok(Response { text: response, finish: generation.finish })
        });
        decoded.collect()
    }

    fn result(&self, item: &Item, asked: &AskedItem, graded: Graded) -> ItemResult {
        let primary = self.spec.metrics().swap_remove(0);
        ItemResult {
            doc_id: item.row,
            id: item.id.clone(),
            score: graded.values.get(&primary).copied().unwrap_or_default(),
            metrics: graded.values,
            prompt: asked.prompts.first().cloned().unwrap_or_default(),
            choices: None,
            response: None,
            extracted: graded.extracted,
            target: item.target.clone(),
            logprobs: None,
            outcome: graded.outcome,
            finish: None,
            greedy: None,
            samples: graded.samples,
        }
    }
}

fn nothing_to_ask(
    spec: &Spec,
    file: &std::path::Path,
    bad: &[BadRow],
    options: &EvalOptions,
    bench: &BenchOptions,
) -> anyhow::Error {
    let fault = Fault::new(format!("no row of {} can be asked", spec.name)).file(file);
    match bad.first() {
        Some(first) => fault.expected("at least one good row").got(format!(
            "{} bad rows; row {}: {}",
            bad.len(),
            first.row,
            first.reason
        )),
        None if bench.rows == RowChoice::Divided => {
            fault.got(format!("no row in the division `{}`", options.split.name()))
        }
        None => fault.got("no row"),
    }
    .hint("docs/reference/task-file.md says what a row must hold")
    .into()
}
