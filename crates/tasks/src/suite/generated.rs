//! Tasks whose items are generated: the pocket model's.

use lopper_infer::{ReasoningReader, TextModel};
use lopper_pocket::Example;
use lopper_record::{Fault, Result, ensure};
use rayon::prelude::*;

use super::{GenerationPolicy, ItemReplies, ItemSelection, Items, Prepared, Requests, Slot, stop_strings};
use crate::outcome::{ItemResult, UNFINISHED_THOUGHT};
use crate::registry::{PocketTask, Task};
use crate::requests::{ItemRequest, Reply, RequestMaker, Response};

/// Generates the items of a task and adds their requests.
pub(super) fn prepare(
    text: &TextModel,
    task: PocketTask,
    selection: &ItemSelection,
    policy: &GenerationPolicy,
    requests: &mut Requests,
) -> Result<Prepared> {
    let ItemSelection { split, limit, seed, .. } = *selection;
    let info = task.info;
    let items: Vec<Example> = lopper_pocket::examples(info.name, split, seed).take(limit).collect();
    if items.is_empty() {
        return Err(Fault::new(format!("no item of {} is taken", info.name))
            .expected("at least one item")
            .got(format!("a limit of {limit}"))
            .hint("raise the limit")
            .into());
    }
    let stop = stop_strings(text, info.stop, policy);
    // Tokenising is most of the work: the arithmetic probe alone takes twelve texts for each item.
    let made: Vec<Vec<ItemRequest>> =
        items.par_iter().map(|item| task.family.requests(text, item, info)).collect::<Result<_>>()?;
    let reader = ReasoningReader::new(text, policy.reasoning_markers.as_ref());
    let maker = RequestMaker { text, policy, task: info.name, stop: stop.as_ref(), reader: &reader };
    let mut slot = |item: &Example, request| {
        Ok(match request {
            ItemRequest::Loglikelihood(request) => requests.add_choice(request),
            ItemRequest::Generate { prompt, max_new_tokens } => {
                let length = policy.max_new_tokens.unwrap_or(max_new_tokens);
                policy.check_room(info.name, length)?;
                requests.add_generation(maker.response(&item.id, 0, &prompt, length)?)
            }
        })
    };
    let slots = (items.iter().zip(made))
        .map(|(item, made)| made.into_iter().map(|request| slot(item, request)).collect())
        .collect::<Result<_>>()?;
    let length = Some(info.max_new_tokens).filter(|own| *own > 0).map(|own| policy.max_new_tokens.unwrap_or(own));
    let policy = policy.applied_to_fixed_prompts(length);
    let (entry, items) = (Task::Pocket(task).entry(), Items::Generated(task, items));
    Ok(Prepared { entry, items, slots, stop, selection: *selection, policy })
}

/// Grades the item at `doc_id`.
pub(super) fn grade(
    prepared: &Prepared,
    task: &PocketTask,
    item: &Example,
    doc_id: usize,
    replies: &ItemReplies<'_>,
) -> Result<ItemResult> {
    let reply = |slot: &Slot| {
        Ok(match *slot {
            Slot::Loglikelihood(at) => {
                Reply::Loglikelihood(replies.replies.choices[at].iter().map(|choice| choice.sum).collect())
            }
            Slot::Generation(at) => Reply::Generated(replies.response(at)?),
        })
    };
    let replies = prepared.slots[doc_id].iter().map(reply).collect::<Result<Vec<_>>>()?;
    let (values, result) = task.family.grade(item, &replies)?;
    let names = task.family.metrics();
    ensure!(values.len() == names.len(), "{} has a value for each of its metrics", task.info.name);
    let response = replies.iter().find_map(|reply| match reply {
        Reply::Generated(response) => Some(response),
        Reply::Loglikelihood(_) => None,
    });
    let thought = response.and_then(|response| response.thought.as_ref());
    let unfinished = response.is_some_and(Response::is_unfinished_thought);
    let (extracted, outcome) = match unfinished {
        true => (None, Some(UNFINISHED_THOUGHT.to_owned())),
        false => (result.extracted.clone(), result.outcome.clone()),
    };
    Ok(ItemResult {
        reasoning: thought.map(|thought| thought.text.clone()),
        reasoning_tokens: thought.and_then(|thought| thought.tokens),
        reasoning_cut: thought.is_some_and(|thought| thought.cut),
        extracted,
        outcome,
        doc_id,
        id: item.id.clone(),
        score: values[0],
        metrics: names.iter().map(|name| (*name).to_owned()).zip(values).collect(),
        prompt: item.prompt.text().to_owned(),
        ..result
    })
}
