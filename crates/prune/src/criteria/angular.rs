//! Angular distance across a block of n layers (Gromov et al., arXiv 2403.17887):
//! d(l, n) = arccos(cos(h_l, h_{l+n})) / π, where h_l is the input of layer l. The contiguous block with
//! the smallest distance is removed; of equal ones the later.
//!
//! The distance is taken at the last token of each sequence, as there, or averaged over tokens.

use lopper_record::{Context, Result};

use super::{BlockScores, By, Criterion, Request, Selection};

pub(super) const LAST_TOKEN: Criterion = Criterion::new(
    "angular",
    "the contiguous block with the smallest angular distance, at the last token of each sequence",
    By::Block(|scores| &scores.angular),
);

pub(super) const MEAN_TOKEN: Criterion = Criterion::new(
    "angular-mean",
    "the contiguous block with the smallest angular distance, mean over tokens",
    By::Block(|scores| &scores.angular_mean),
);

/// Removes the block with the smallest distance; of equal ones the later.
pub(super) fn smallest(blocks: &BlockScores, request: &Request<'_>) -> Result<Selection> {
    let distances = blocks.of_size(request.remove).context("no block of this size")?;
    let order = distances.iter().enumerate().min_by(|(a, x), (b, y)| x.total_cmp(y).then(b.cmp(a)));
    let (first, _) = order.context("no block of this size")?;
    Ok(Selection { dropped: (first..first + request.remove).collect(), scores: Some(distances.to_vec()) })
}
