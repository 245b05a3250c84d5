//! Block Influence (ShortGPT, arXiv 2403.03853): 1 − cos(hidden state into a layer, hidden state out
//! of it), averaged over all tokens. The layers with the smallest influence go.

use super::{By, Criterion};

pub(super) const CRITERION: Criterion = Criterion::new(
    "bi",
    "the layers with the smallest block influence: 1 − cos(in, out) of hidden states, mean over tokens",
    By::Layer(|scores| Some(scores.block_influence.clone())),
);
