//! Tasks whose items are rows of a data set.

use std::ops::Range;
use std::sync::Arc;

use lopper_infer::{Finish, Loglik, ReasonedResponse, ReasoningReader, StopStrings, TextModel, Thought};
use lopper_record::{Context, Error, Fault, Result, key_hash};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{GivenResponse, GivenResponses, ItemReplies, Items, Prepared, Slot};
use crate::benchmark::code::CodeRunner;
use crate::benchmark::grade::{self, Graded, Judge, ProgramRun};
use crate::benchmark::items::{BadRow, Item, items};
use crate::benchmark::prompt_tokens::{PromptBuilder, PromptTokens};
use crate::benchmark::sanitize::{Unsanitized, sanitized};
use crate::benchmark::spec::Spec;
use crate::outcome::{ItemResult, RowSource};
use crate::policy::{GenerationPolicy, ItemSelection, Resources, RowChoice};
use crate::registry::Task;
use crate::requests::{Replies, RequestMaker, Requests, Response, before_stop, stop_strings};

/// The rows of a task, and what it needs to grade them.
pub(super) struct Rows {
    pub spec: Arc<Spec>,
    pub items: Vec<PreparedRow>,
    pub source: RowSource,
    pub bad: Vec<BadRow>,
    pub truncated: Vec<usize>,
    code: Option<Arc<CodeRunner>>,
}

/// A row with its prompts as text: one, or one for each choice.
#[derive(Clone)]
pub(super) struct PreparedRow {
    pub item: Item,
    pub prompts: Vec<String>,
}

impl PreparedRow {
    /// The texts that a row may be recognised by.
    pub fn identifying_texts<'a>(&'a self, spec: &'a Spec) -> impl Iterator<Item = &'a str> {
        self.item.identifying_texts(spec)
    }
}

/// Reads the rows of a task and adds their requests.
pub(super) fn prepare(
    text: &TextModel,
    spec: &Arc<Spec>,
    selection: &ItemSelection,
    policy: &GenerationPolicy,
    resources: &Resources,
    requests: &mut Requests,
) -> Result<Prepared> {
    let policy = &policy.with_settings_of(spec);
    let made = items(spec, selection, policy, resources)?;
    let length = spec.generate.as_ref().map(|generate| policy.max_new_tokens.unwrap_or(generate.max_new_tokens));
    let stop = spec.generate.as_ref().and_then(|generate| stop_strings(text, &generate.until, policy));
    policy.check_room(&spec.name, length.unwrap_or(0))?;
    let conversation = policy.chat_template || spec.prompt.conversation;
    let text = &match text.with_template_variables(&policy.template_variables) {
        Ok(text) => text,
        Err(error) => {
            let hint = format!("leave it out of `prompt.variables` of {}", spec.name);
            return Err(error.into_fault()?.hint(hint).into());
        }
    };
    let builder = PromptBuilder { text, conversation, policy, max_new_tokens: length.unwrap_or(0) };
    // Tokenising is worth sharing out.
    let tokens: Vec<Result<PromptTokens, String>> =
        made.items.par_iter().map(|item| builder.tokens(item)).collect::<Result<_>>()?;

    let reader = ReasoningReader::new(text, policy.reasoning_markers.as_ref());
    let maker = RequestMaker { text, policy, task: &spec.name, stop: stop.as_ref(), reader: &reader };
    let (mut kept, mut all_slots, mut bad, mut truncated) = (Vec::new(), Vec::new(), made.bad, Vec::new());
    for (item, tokens) in made.items.into_iter().zip(tokens) {
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(reason) => {
                bad.push(BadRow { row: item.row, file: made.files.file(item.row).to_path_buf(), reason });
                continue;
            }
        };
        if tokens.truncated {
            truncated.push(item.row);
        }
        let mut slots: Vec<Slot> = tokens.choices.into_iter().map(|request| requests.add_choice(request)).collect();
        for repeat in 0..if item.choices.is_empty() { policy.repeats() } else { 0 } {
            let request = maker.response(&item.id, repeat, &tokens.prompt, length.unwrap_or(0))?;
            slots.push(requests.add_generation(request));
        }
        all_slots.push(slots);
        kept.push(PreparedRow { item, prompts: tokens.prompts });
    }
    bad.sort_by_key(|row| row.row);
    let file = made.files.file(0).to_path_buf();
    if kept.is_empty() {
        return Err(no_item(spec, &file, &bad, selection));
    }
    let rows = Rows {
        spec: spec.clone(),
        items: kept,
        source: RowSource { file, split: made.split, revision: made.revision },
        bad,
        truncated,
        code: if spec.runs_code() { resources.code.clone() } else { None },
    };
    let policy = policy.applied(made.shots, length);
    let entry = Task::Benchmark(spec.clone()).entry();
    Ok(Prepared { entry, items: Items::Rows(rows), slots: all_slots, stop, selection: *selection, policy })
}

impl Rows {
    /// Some of the rows.
    pub fn part(&self, range: Range<usize>) -> Self {
        Self {
            spec: self.spec.clone(),
            items: self.items[range].to_vec(),
            source: self.source.clone(),
            bad: self.bad.clone(),
            truncated: self.truncated.clone(),
            code: self.code.clone(),
        }
    }

    /// The hash of the task's file, its rows, and their prompts in `tokens`.
    pub fn identity(&self, tokens: Vec<Vec<Value>>) -> Result<String> {
        let rows = self.items.iter().zip(tokens);
        let items: Vec<Value> = rows
            .map(|(PreparedRow { item, .. }, tokens)| {
                json!([item.row, item.doc, item.target, item.choices, item.label, tokens])
            })
            .collect();
        key_hash(&json!({ "file": self.spec.source, "member": self.spec.member, "items": items }))
    }

    /// Grades the engine's replies.
    pub fn grade(&self, slots: &[Vec<Slot>], replies: &ItemReplies<'_>) -> Result<Vec<ItemResult>> {
        if self.spec.choices.is_some() {
            let choice = |(row, slots): (&PreparedRow, &Vec<Slot>)| self.choice(row, slots, replies.replies);
            return Ok(self.items.iter().zip(slots).map(choice).collect());
        }
        let response = |slot: &Slot| match *slot {
            Slot::Loglikelihood(_) => None,
            Slot::Generation(at) => Some(replies.response(at)),
        };
        let responses = slots.iter().map(|slots| slots.iter().filter_map(response).collect());
        self.grade_responses(&responses.collect::<Result<Vec<_>>>()?)
    }

    fn choice(&self, row: &PreparedRow, slots: &[Slot], replies: &Replies) -> ItemResult {
        let logliks: Vec<Loglik> = slots
            .iter()
            .flat_map(|slot| match *slot {
                Slot::Loglikelihood(at) => replies.choices[at].as_slice(),
                Slot::Generation(_) => &[],
            })
            .copied()
            .collect();
        let graded = grade::choices(&self.spec, &row.item, &logliks);
        let choices = row.item.choices.iter().map(|choice| choice.trim_start().to_owned()).collect();
        ItemResult {
            choices: Some(choices),
            logprobs: Some(logliks.iter().map(|loglik| loglik.sum).collect()),
            greedy: Some(logliks.iter().map(|loglik| loglik.greedy).collect()),
            ..self.result(row, graded)
        }
    }

    /// Grades the responses to every item.
    pub fn grade_responses(&self, responses: &[Vec<Response>]) -> Result<Vec<ItemResult>> {
        let judge = Judge::new(&self.spec)?;
        let outcomes = self.program_outcomes(&judge, responses)?;
        let mut results = Vec::with_capacity(self.items.len());
        let mut at = 0;
        for (row, responses) in self.items.iter().zip(responses) {
            let own = outcomes.get(at..at + responses.len()).unwrap_or_default();
            at += responses.len();
            let graded = judge.grade(&row.item, responses, own)?;
            let first = responses.first().context("an item has at least one response")?;
            let thought = first.thought.as_ref();
            results.push(ItemResult {
                reasoning: thought.map(|thought| thought.text.clone()),
                reasoning_tokens: thought.and_then(|thought| thought.tokens),
                reasoning_cut: thought.is_some_and(|thought| thought.cut),
                response: Some(first.text.clone()),
                finish: Some(first.finish),
                ..self.result(row, graded)
            });
        }
        Ok(results)
    }

    /// How each response's program ended, in the order of items and responses; nothing where answers are no programs.
    /// Identical responses to an item are run once, and unfinished thoughts not at all.
    fn program_outcomes(&self, judge: &Judge<'_>, responses: &[Vec<Response>]) -> Result<Vec<Option<ProgramRun>>> {
        let Some(runner) = &self.code else { return Ok(vec![]) };
        let (mut distinct, mut places): (Vec<(&Item, &str)>, _) = (Vec::new(), Vec::new());
        for (row, responses) in self.items.iter().zip(responses) {
            let begin = distinct.len();
            for response in responses {
                if response.is_unfinished_thought() {
                    places.push(None);
                    continue;
                }
                // Other items have other tests.
                let same = distinct[begin..].iter().position(|(_, text)| *text == response.text).map(|at| begin + at);
                places.push(Some(same.unwrap_or(distinct.len())));
                if same.is_none() {
                    distinct.push((&row.item, &response.text));
                }
            }
        }
        let sanitized = sanitized_responses(runner, judge, &distinct)?;
        let program = |(at, (item, response)): (usize, &(&Item, &str))| {
            judge.program(item, response, sanitized.as_ref().map(|codes| codes[at].as_str()))
        };
        let (programs, codes): (Vec<_>, Vec<_>) =
            distinct.iter().enumerate().map(program).collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let outcomes = runner.run(programs)?;
        let ran = |at: usize| ProgramRun { code: codes[at].clone(), outcome: outcomes[at].clone() };
        Ok(places.into_iter().map(|place| place.map(ran)).collect())
    }

    /// The responses from elsewhere to every item, taken apart and cut as the engine's are; `opened` says of each item
    /// whether its prompt ends inside a thought.
    ///
    /// Other programs often leave thoughts out. So a response without an end marker, to a prompt that began the
    /// thought, is an unfinished thought only where its line says that it was cut off, or where others of the task
    /// have one.
    pub fn given(
        &self,
        given: &GivenResponses,
        opened: &[bool],
        reader: &ReasoningReader,
        stop: Option<&Arc<StopStrings>>,
    ) -> Result<Vec<Vec<Response>>> {
        let of_task = given.iter().filter(|((task, _), _)| *task == self.spec.name).flat_map(|(_, list)| list);
        let whole = of_task.clone().any(|response| response.text.contains(&reader.markers().close));
        let of_row = |(row, opened): (&PreparedRow, &bool)| {
            let row = row.item.row;
            let found = given.get(&(self.spec.name.clone(), row)).filter(|responses| !responses.is_empty());
            let responses = found.ok_or_else(|| {
                Fault::new(format!("there is no response to row {row} of {}", self.spec.name))
                    .expected("a response to every row that is taken")
                    .hint("--limit N takes the first N rows only")
            })?;
            let opened = |given: &GivenResponse| *opened && given.unfinished.unwrap_or(whole);
            Ok(responses.iter().map(|given| given.read(reader, opened(given), stop)).collect())
        };
        self.items.iter().zip(opened).map(of_row).collect()
    }

    fn result(&self, row: &PreparedRow, graded: Graded) -> ItemResult {
        let primary = self.spec.metrics().swap_remove(0);
        ItemResult {
            doc_id: row.item.row,
            id: row.item.id.clone(),
            score: graded.values.get(&primary).copied().unwrap_or_default(),
            metrics: graded.values,
            weights: graded.weights,
            prompt: row.prompts.first().cloned().unwrap_or_default(),
            extracted: graded.extracted,
            target: row.item.target.clone(),
            outcome: graded.outcome,
            samples: graded.samples,
            ..ItemResult::default()
        }
    }
}

/// The code of each response, where the task has its responses sanitized.
fn sanitized_responses(
    runner: &CodeRunner,
    judge: &Judge<'_>,
    responses: &[(&Item, &str)],
) -> Result<Option<Vec<String>>> {
    let read = |(item, response): &(&Item, &str)| Ok(judge.entry(item)?.map(|names| Unsanitized::new(response, names)));
    match responses.iter().map(read).collect::<Result<Option<Vec<_>>>>()? {
        Some(list) => Ok(Some(sanitized(&list, |programs| runner.run(programs))?)),
        None => Ok(None),
    }
}

impl GivenResponse {
    fn read(&self, reader: &ReasoningReader, opened: bool, stop: Option<&Arc<StopStrings>>) -> Response {
        let ReasonedResponse { thought, answer } = match &self.reasoning {
            None => reader.read_text(&self.text, opened),
            Some(reasoning) => {
                let finished = !self.text.trim().is_empty();
                let thought = Thought { text: reasoning.clone(), tokens: None, finished, cut: false };
                ReasonedResponse { thought: Some(thought), answer: self.text.clone() }
            }
        };
        // Only of thoughts does it matter here why they stopped.
        let cut_off = self.unfinished == Some(true) && thought.as_ref().is_some_and(|thought| !thought.finished);
        let finish = if cut_off { Finish::Length } else { Finish::Stop };
        Response { thought, text: before_stop(answer, stop), finish }
    }
}

fn no_item(spec: &Spec, file: &std::path::Path, bad: &[BadRow], selection: &ItemSelection) -> Error {
    let fault = Fault::new(format!("no row of {} is an item", spec.name)).file(file);
    match bad.first() {
        Some(first) => fault.expected("at least one good row").got(format!(
            "{} bad rows; row {}: {}",
            bad.len(),
            first.row,
            first.reason
        )),
        None if selection.rows == RowChoice::Divided => {
            fault.got(format!("no row in the split `{}`", selection.split.name()))
        }
        None => fault.got("no row"),
    }
    .hint("docs/reference/task-file.md says what a row must hold")
    .into()
}
