//! Angular distance across a block of n layers (Gromov et al., arXiv 2403.17887):
//! d(l, n) = arccos(cos(h_l, h_{l+n})) / π, where h_l is the input of layer l. The contiguous block with
//! the smallest distance is removed; of equal ones the later.
//!
//! The distance is taken at the last token of each sequence, as there, or averaged over tokens.

use anyhow::{Context, Result};

use super::{BlockScores, Criterion, Request, Selection};

pub(super) const LAST_TOKEN: Criterion = Criterion {
    name: "angular",
    description: "the contiguous block with the smallest angular distance, at the last token of each sequence",
    needs_scores: true,
    needs_seed: false,
    choose: |request| choose(request, &request.scores.context("angular distance was not measured")?.angular),
};

pub(super) const MEAN_TOKEN: Criterion = Criterion {
    name: "angular-mean",
    description: "the contiguous block with the smallest angular distance, mean over tokens",
    needs_scores: true,
    needs_seed: false,
    choose: |request| choose(request, &request.scores.context("angular distance was not measured")?.angular_mean),
};

fn choose(request: &Request<'_>, blocks: &BlockScores) -> Result<Selection> {
    let distances = blocks.of_size(request.remove).context("no block of this size")?;
    let first = distances
        .iter()
        .enumerate()
        .min_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)))
        .map(|(first, _)| first)
        .context("no block of this size")?;
    Ok(Selection { dropped: (first..first + request.remove).collect(), scores: Some(distances.to_vec()) })
}
