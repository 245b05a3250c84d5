//! Reverse order: the last n layers go, whatever the model (the baseline of Shortened LLaMA; arXiv 2411.15558 finds it
//! strong). Variants keep the very last layer or two, which do more than their neighbours in most models.

use anyhow::Result;
use lopper_record::Fault;

use super::{Criterion, Request, Selection};

const fn variant(
    name: &'static str,
    description: &'static str,
    choose: fn(&Request<'_>) -> Result<Selection>,
) -> Criterion {
    Criterion { name, description, needs_scores: false, needs_seed: false, choose }
}

pub(super) const ALL: Criterion = variant("reverse", "the last layers", |request| choose(request, 0));
pub(super) const KEEP_LAST_1: Criterion =
    variant("reverse-keep-1", "the layers before the last one", |request| choose(request, 1));
pub(super) const KEEP_LAST_2: Criterion =
    variant("reverse-keep-2", "the layers before the last two", |request| choose(request, 2));

fn choose(request: &Request<'_>, keep: usize) -> Result<Selection> {
    let Some(first) = request.num_layers.checked_sub(request.remove + keep) else {
        return Err(Fault::new(format!("{} layers cannot be removed before the last {keep}", request.remove))
            .expected(format!(
                "at most {} of the model's {}",
                request.num_layers.saturating_sub(keep),
                request.num_layers
            ))
            .got(request.remove.to_string())
            .hint("remove fewer layers, or use `reverse`, which may remove the last ones too")
            .into());
    };
    Ok(Selection { dropped: (first..first + request.remove).collect(), scores: None })
}
