//! Perplexity: how much worse the text is predicted without the layer (Shortened LLaMA, arXiv
//! 2402.02834; SLEB, arXiv 2402.09025). The layers with the smallest rise go.

use anyhow::{Context, Result};

use super::{Criterion, Request, Selection, smallest};

pub(super) const CRITERION: Criterion = Criterion {
    name: "perplexity",
    description: "smallest rise of the mean negative log-likelihood without the layer",
    needs_scores: true,
    needs_seed: false,
    choose,
};

fn choose(request: &Request<'_>) -> Result<Selection> {
    let scores = request.scores.and_then(|scores| scores.perplexity.as_ref()).context("perplexity was not measured")?;
    Ok(smallest(scores.rises(), request))
}
