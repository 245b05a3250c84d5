//! Reverse order: the last n layers go, whatever the model (the baseline of Shortened LLaMA; arXiv 2411.15558 finds it
//! strong). Variants keep the very last layer or two, which do more than their neighbours in most models.

use lopper_record::{Fault, Result};

use super::{By, Criterion, Request, Selection};

pub(super) const ALL: Criterion = Criterion::new("reverse", "the last layers", By::Place(|request| choose(request, 0)));
pub(super) const KEEP_LAST_1: Criterion =
    Criterion::new("reverse-keep-1", "the layers before the last one", By::Place(|request| choose(request, 1)));
pub(super) const KEEP_LAST_2: Criterion =
    Criterion::new("reverse-keep-2", "the layers before the last two", By::Place(|request| choose(request, 2)));

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
