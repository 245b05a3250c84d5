//! Block Influence (ShortGPT, arXiv 2403.03853): 1 − cos(hidden state into a layer, hidden state out
//! of it), averaged over all tokens. The layers with the smallest influence go.

use anyhow::{Context, Result};

use super::{Criterion, Request, Selection, smallest};

pub(super) const CRITERION: Criterion = Criterion {
    name: "bi",
    description: "smallest block influence: 1 - cos(hidden state in, hidden state out), mean over tokens",
    needs_scores: true,
    needs_seed: false,
    choose,
};

fn choose(request: &Request<'_>) -> Result<Selection> {
    let scores = &request.scores.context("block influence was not measured")?.block_influence;
    Ok(smallest(scores.clone(), request))
}
