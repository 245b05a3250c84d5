//! Whether text has degenerated: repetition, similarity of its sentences, length, loops, why it ended, and its
//! log-probability under the model that wrote it. One response at a time, so that files of any size can be measured.

mod loops;
mod ngrams;
mod repetition;
mod words;

use std::collections::BTreeMap;

use lopper_infer::{Finish, Generation};
use lopper_record::study::Degeneration;
use lopper_stats::{Moments, TokenMean};
use serde::{Deserialize, Serialize};

pub use loops::Loop;

use ngrams::NGrams;

/// Repetition and length of one response.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TextMetrics {
    /// Words and punctuation marks.
    pub words: usize,
    /// Sentences.
    pub sentences: usize,
    /// Rep-2 in per cent: 100 · (1 − unique bigrams / bigrams); none of a text of fewer than two words.
    pub rep_2: Option<f64>,
    /// Rep-3.
    pub rep_3: Option<f64>,
    /// Rep-4.
    pub rep_4: Option<f64>,
    /// Self-BLEU-4 within the response, 0 to 1; none of fewer than two sentences.
    pub self_bleu_4: Option<f64>,
    /// The longest loop.
    #[serde(rename = "loop")]
    pub looped: Option<Loop>,
}

/// Measures one response.
pub fn text_metrics(text: &str) -> TextMetrics {
    let words = words::split(text);
    let grams = NGrams::new(&words);
    TextMetrics {
        words: words.ids.len(),
        sentences: words.sentences.len(),
        rep_2: repetition::rep_n(&grams, 2),
        rep_3: repetition::rep_n(&grams, 3),
        rep_4: repetition::rep_n(&grams, 4),
        self_bleu_4: repetition::self_bleu_4(&words, &grams),
        looped: loops::find_loop(text, &words, &grams),
    }
}

/// What is known of a response besides its text; each absent where the source does not say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResponseMetadata {
    /// Why generation ended, such as `stop` or `length`.
    pub finish: Option<String>,
    /// Number of tokens.
    pub tokens: Option<usize>,
    /// Sum of the tokens' natural log-probabilities under the model that wrote them.
    pub logprob: Option<f64>,
}

impl From<&Generation> for ResponseMetadata {
    fn from(generation: &Generation) -> Self {
        Self {
            finish: Some(finish_name(generation.finish).to_owned()),
            tokens: Some(generation.tokens.len()),
            logprob: Some(generation.logprobs.iter().map(|value| f64::from(*value)).sum()),
        }
    }
}

/// A finish reason as records spell it.
pub(crate) fn finish_name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::StopString => "stop_string",
        Finish::Length => "length",
        Finish::ContextFull => "context_full",
        Finish::Loop => "loop",
    }
}

/// Averages responses as they come.
#[derive(Debug, Clone, Default)]
pub struct DegenerationTally {
    responses: usize,
    empty: usize,
    loops: usize,
    rep: [Moments; 3],
    self_bleu_4: Moments,
    words: Moments,
    tokens: Moments,
    mean_logprob: Moments,
    nll: TokenMean,
    finish: BTreeMap<String, usize>,
}

/// Finish reasons that are counted separately; a file may name any number.
const MAX_FINISH_REASONS: usize = 16;

impl DegenerationTally {
    /// Adds a response.
    pub fn add(&mut self, metrics: &TextMetrics, metadata: &ResponseMetadata) {
        self.responses += 1;
        self.empty += usize::from(metrics.words == 0);
        // An answer that decoding stopped for looping is a loop even where too little of it is in the text.
        let stopped = metadata.finish.as_deref() == Some(finish_name(Finish::Loop));
        self.loops += usize::from(stopped || metrics.looped.is_some());
        self.rep[0].extend(metrics.rep_2);
        self.rep[1].extend(metrics.rep_3);
        self.rep[2].extend(metrics.rep_4);
        self.self_bleu_4.extend(metrics.self_bleu_4);
        self.words.add(metrics.words as f64);
        self.tokens.extend(metadata.tokens.map(|n| n as f64));
        if let (Some(sum), Some(tokens)) = (metadata.logprob, metadata.tokens.filter(|n| *n > 0))
            && sum.is_finite()
        {
            self.mean_logprob.add(sum / tokens as f64);
            self.nll.add(-sum, tokens);
        }
        if let Some(finish) = &metadata.finish {
            let name = match self.finish.len() < MAX_FINISH_REASONS || self.finish.contains_key(finish) {
                true => finish.as_str(),
                false => "others",
            };
            *self.finish.entry(name.to_owned()).or_default() += 1;
        }
    }

    /// The figures of all responses so far.
    pub fn finish(&self) -> Degeneration {
        let [rep_2, rep_3, rep_4] = self.rep.map(|moments| moments.mean());
        let own_perplexity = self.nll.exp();
        Degeneration {
            source: String::new(),
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
            own_perplexity: own_perplexity.map(|mean| mean.value),
            own_perplexity_ci95: own_perplexity.and_then(|mean| mean.ci95),
        }
    }
}

#[cfg(test)]
mod tests;
