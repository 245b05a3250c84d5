//! Relative magnitude: how much a layer adds to the residual stream relative to its norm, ‖h_out − h_in‖ / ‖h_out‖,
//! averaged over all tokens (Samragh et al., arXiv 2309.14174). The layers that add least go.

use anyhow::{Context, Result};

use super::{Criterion, Request, Selection, smallest};

pub(super) const CRITERION: Criterion = Criterion {
    name: "relative-magnitude",
    description: "smallest relative magnitude of what the layer adds, mean over tokens",
    needs_scores: true,
    needs_seed: false,
    choose,
};

fn choose(request: &Request<'_>) -> Result<Selection> {
    let scores = &request.scores.context("relative magnitude was not measured")?.relative_magnitude;
    Ok(smallest(scores.clone(), request))
}
