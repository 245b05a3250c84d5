//! Whether text has degenerated: repetition, likeness of its sentences, length, loops, how it ended, and
//! how probable its own author found it. One response at a time, so that files of any size pass through.

use std::collections::BTreeMap;

use lopper_infer::{Finish, Generation};
use lopper_record::study::{Degeneration, Moments};
use serde::{Deserialize, Serialize};

use super::grams::Grams;
use super::loops::{Loop, find_loop};
use super::repetition::{rep_n, self_bleu_4};
use super::tokens::tokens;

/// What one response's text tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TextFigures {
    /// Words and marks.
    pub words: usize,
    /// Sentences.
    pub sentences: usize,
    /// Rep-2, in per cent; none of a text of fewer than two words.
    pub rep_2: Option<f64>,
    /// Rep-3.
    pub rep_3: Option<f64>,
    /// Rep-4.
    pub rep_4: Option<f64>,
    /// Self-BLEU-4; none of fewer than two sentences.
    pub self_bleu_4: Option<f64>,
    /// The longest loop.
    #[serde(rename = "loop")]
    pub looped: Option<Loop>,
}

/// Measures one response.
pub fn text_figures(text: &str) -> TextFigures {
    let tokens = tokens(text);
    let grams = Grams::new(&tokens);
    TextFigures {
        words: tokens.ids.len(),
        sentences: tokens.sentences.len(),
        rep_2: rep_n(&grams, 2),
        rep_3: rep_n(&grams, 3),
        rep_4: rep_n(&grams, 4),
        self_bleu_4: self_bleu_4(&tokens, &grams),
        looped: find_loop(text, &tokens, &grams),
    }
}

/// What is known of a response besides its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Circumstances {
    /// Why it ended.
    pub finish: Option<String>,
    /// Number of tokens.
    pub tokens: Option<usize>,
    /// Sum of its tokens' natural log-probabilities, under the model that wrote it.
    pub logprob: Option<f64>,
}

impl Circumstances {
    /// Those of a generation of the engine.
    pub fn of(generation: &Generation) -> Self {
        Self {
            finish: Some(finish_name(generation.finish).to_owned()),
            tokens: Some(generation.tokens.len()),
            logprob: Some(generation.logprobs.iter().map(|value| f64::from(*value)).sum()),
        }
    }
}

/// A reason's name, as records have it.
pub fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::StopString => "stop_string",
        Finish::Length => "length",
        Finish::ContextFull => "context_full",
        Finish::Loop => "loop",
    }
}

/// Sums responses up as they come.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    responses: usize,
    empty: usize,
    loops: usize,
    rep: [Moments; 3],
    self_bleu_4: Moments,
    words: Moments,
    tokens: Moments,
    mean_logprob: Moments,
    logprob: f64,
    scored: usize,
    finish: BTreeMap<String, usize>,
}

/// Different reasons of ending that are counted apart; a file may call them anything.
const MOST_REASONS: usize = 16;

impl Tally {
    /// Takes a response.
    pub fn add(&mut self, figures: &TextFigures, around: &Circumstances) {
        self.responses += 1;
        self.empty += usize::from(figures.words == 0);
        self.loops += usize::from(figures.looped.is_some());
        for (moments, value) in self.rep.iter_mut().zip([figures.rep_2, figures.rep_3, figures.rep_4]) {
            moments.add_some(value);
        }
        self.self_bleu_4.add_some(figures.self_bleu_4);
        self.words.add(figures.words as f64);
        self.tokens.add_some(around.tokens.map(|n| n as f64));
        if let (Some(sum), Some(tokens)) = (around.logprob, around.tokens.filter(|n| *n > 0))
            && sum.is_finite()
        {
            self.mean_logprob.add(sum / tokens as f64);
            self.logprob += sum;
            self.scored += tokens;
        }
        if let Some(finish) = &around.finish {
            let name = match self.finish.len() < MOST_REASONS || self.finish.contains_key(finish) {
                true => finish.as_str(),
                false => "others",
            };
            *self.finish.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// What they come to.
    pub fn finish(&self) -> Degeneration {
        let [rep_2, rep_3, rep_4] = self.rep.map(|moments| moments.mean());
        Degeneration {
            responses: self.responses,
            empty: self.empty,
            rep_2,
            rep_3,
            rep_4,
            self_bleu_4: self.self_bleu_4.mean(),
            words: self.words.mean(),
            tokens: self.tokens.mean(),
            loops: self.loops,
            finish: self.finish.clone(),
            mean_logprob: self.mean_logprob.mean(),
            own_perplexity: (self.scored > 0).then(|| (-self.logprob / self.scored as f64).exp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_is_over_tokens_and_the_mean_over_responses() {
        let mut tally = Tally::default();
        let around = |tokens, logprob| Circumstances { finish: Some("stop".into()), tokens, logprob };
        tally.add(&text_figures("a b"), &around(Some(1), Some(-1.0)));
        tally.add(&text_figures("a b c d"), &around(Some(3), Some(-9.0)));
        tally.add(&text_figures(""), &around(Some(0), Some(0.0)));
        let sum = tally.finish();
        assert_eq!((sum.responses, sum.empty, sum.loops), (3, 1, 0));
        assert_eq!(sum.mean_logprob.unwrap().value, -2.0);
        assert!((sum.own_perplexity.unwrap() - 2.5_f64.exp()).abs() < 1e-12);
        assert_eq!(sum.finish["stop"], 3);
        // The empty response has no bigram; two have.
        assert_eq!(sum.rep_2.unwrap().n, 2);
        assert_eq!(sum.self_bleu_4, None);
    }
}
