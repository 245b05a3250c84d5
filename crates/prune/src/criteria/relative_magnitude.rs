//! Relative magnitude: how much a layer adds to the residual stream relative to its norm, ‖h_out − h_in‖ / ‖h_out‖,
//! averaged over all tokens (Samragh et al., arXiv 2309.14174). The layers that add least go.

use super::{By, Criterion};

pub(super) const CRITERION: Criterion = Criterion::new(
    "relative-magnitude",
    "the layers that add least: ‖out − in‖ / ‖out‖ of the hidden states, mean over tokens",
    By::Layer(|scores| Some(scores.relative_magnitude.clone())),
);
