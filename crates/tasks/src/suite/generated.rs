//! Tasks whose items are generated: the pocket model's.

use std::sync::Arc;

use anyhow::{Result, ensure};
use lopper_infer::{StopStrings, TextModel};
use lopper_pocket::{Example, Group};
use lopper_record::Fault;
use rayon::prelude::*;

use super::{EvalOptions, Replies, Requests, Slot, scores};
use crate::outcome::{ItemResult, TaskOutcome};
use crate::registry::PocketTask;
use crate::request::{Ask, Draw, Reply, engine_request, stop_strings};

/// Such a task with its items in tokens.
#[derive(Clone)]
pub(super) struct GeneratedTask {
    task: PocketTask,
    stop: Option<Arc<StopStrings>>,
    pub(super) items: Vec<(Example, Vec<Slot>)>,
}

impl GeneratedTask {
    pub fn name(&self) -> &'static str {
        self.task.info.name
    }

    pub fn group(&self) -> Group {
        self.task.info.group
    }

    pub fn prepare(text: &TextModel, task: PocketTask, options: &EvalOptions, requests: &mut Requests) -> Result<Self> {
        let EvalOptions { split, limit, seed, sampling, sampling_seed } = *options;
        let stop = stop_strings(text, task.info.stop);
        let drawn: Vec<Example> = lopper_pocket::examples(task.info.name, split, seed).take(limit).collect();
        // Tokenising is most of the work: the arithmetic probe alone takes twelve texts for each item.
        let asked: Vec<Vec<Ask>> =
            drawn.par_iter().map(|item| task.family.asks(text, item, task.info)).collect::<Result<_>>()?;
        let mut items = Vec::with_capacity(drawn.len());
        for (item, asks) in drawn.into_iter().zip(asked) {
            let mut slots = Vec::with_capacity(asks.len());
            for ask in asks {
                slots.push(match ask {
                    Ask::Loglikelihood(request) => {
                        requests.choices.push(request);
                        Slot::Loglikelihood(requests.choices.len() - 1)
                    }
                    Ask::Generate { prompt, max_new_tokens } => {
                        let draw = Draw { task: item.task, item: &item.id, repeat: 0, sampling, seed: sampling_seed };
                        let request = engine_request(text, (&prompt, max_new_tokens), draw, stop.as_ref())?;
                        requests.generations.push(request);
                        Slot::Generation(requests.generations.len() - 1)
                    }
                });
            }
            items.push((item, slots));
        }
        if items.is_empty() {
            return Err(Fault::new(format!("there are no items of {} to ask", task.info.name))
                .expected("at least one item")
                .got(format!("a limit of {limit}"))
                .hint("raise the limit")
                .into());
        }
        Ok(Self { task, stop, items })
    }

    pub fn outcome(&self, text: &TextModel, replies: &Replies<'_>, seed: u64) -> Result<TaskOutcome> {
        // Generated programs are run here, which takes long enough to share out.
        let items: Vec<ItemResult> =
            (0..self.items.len()).into_par_iter().map(|at| self.grade(text, replies, at)).collect::<Result<_>>()?;
        Ok(TaskOutcome {
            task: self.name().to_owned(),
            group: self.task.info.group,
            version: self.task.version,
            shots: 0,
            n: items.len(),
            metrics: scores(&items, seed),
            primary: self.task.family.metrics()[0].to_owned(),
            items,
            chance: self.task.chance,
            families: vec![],
            source: None,
            bad_rows: vec![],
            truncated: vec![],
            timings: vec![],
        })
    }

    fn reply(&self, text: &TextModel, replies: &Replies<'_>, slot: Slot) -> Result<Reply> {
        Ok(match slot {
            Slot::Loglikelihood(at) => {
                Reply::Loglikelihood(replies.choices[at].iter().map(|choice| choice.sum).collect())
            }
            Slot::Generation(at) => {
                let generation = &replies.generations[at];
                let mut response = text.decode(&generation.tokens)?;
                if let Some(end) = self.stop.as_ref().and_then(|stop| stop.find(&response)) {
                    response.truncate(end);
                }
                Reply::Generated { text: response, finish: generation.finish }
            }
        })
    }

    fn grade(&self, text: &TextModel, replies: &Replies<'_>, doc_id: usize) -> Result<ItemResult> {
        let (item, slots) = &self.items[doc_id];
        let replies = slots.iter().map(|slot| self.reply(text, replies, *slot)).collect::<Result<Vec<_>>>()?;
        let grade = self.task.family.grade(item, &replies)?;
        let names = self.task.family.metrics();
        ensure!(grade.values.len() == names.len(), "{} has a value for each of its metrics", self.name());
        Ok(ItemResult {
            doc_id,
            id: item.id.clone(),
            score: grade.values[0],
            metrics: names.iter().map(|name| (*name).to_owned()).zip(grade.values).collect(),
            prompt: item.prompt.text().to_owned(),
            choices: grade.choices,
            response: grade.response,
            extracted: grade.extracted,
            target: grade.target,
            logprobs: grade.logprobs,
            outcome: grade.outcome,
            finish: grade.finish,
            greedy: None,
            samples: vec![],
        })
    }
}
