//! Perplexity: how much worse the text is predicted without the layer (Shortened LLaMA, arXiv
//! 2402.02834; SLEB, arXiv 2402.09025). The layers with the smallest rise go.

use super::{By, Criterion};

pub(super) const CRITERION: Criterion = Criterion::new(
    "perplexity",
    "the layers without which the mean negative log-likelihood rises least",
    By::Layer(|scores| Some(scores.perplexity.as_ref()?.rises())),
);
