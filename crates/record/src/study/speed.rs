//! How large a model is and how fast it runs, so that what a cut saves is seen next to what it loses.
//!
//! Sizes are exact; rates were measured on one machine, which is named, and hold for it only.

use serde::{Deserialize, Serialize};

use crate::finite;

/// Size and speed of one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Speed {
    /// Parameters.
    pub parameters: u64,
    /// Bytes of the weights, in the type in which they are stored.
    pub weight_bytes: u64,
    /// Bytes of the keys and values of one token, in all layers, in f32 as this program keeps them.
    pub kv_bytes_per_token: u64,
    /// The processor that the rates were measured on; empty where none were.
    pub processor: String,
    /// Threads that they were measured with.
    pub threads: usize,
    /// Tokens of the prompts that they were measured with.
    pub prompt_tokens: usize,
    /// Rates by the number of sequences that run together.
    pub rates: Vec<SpeedAtBatch>,
    /// Mean tokens of an answer, reasoning included: over the items of each generative task, then over the tasks; none
    /// without such tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_answer: Option<f64>,
}

/// Tokens a second when so many sequences run together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpeedAtBatch {
    /// Sequences that run together.
    pub batch: usize,
    /// Prompt tokens read a second, over all sequences: median of the repetitions.
    #[serde(with = "finite")]
    pub prefill: f64,
    /// Tokens generated a second, over all sequences: median of the repetitions.
    #[serde(with = "finite")]
    pub decode: f64,
    /// The slowest and the fastest repetition of generating; absent where that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_range: Option<[f64; 2]>,
    /// Repetitions.
    pub repetitions: usize,
}

impl Speed {
    /// The rates when `batch` sequences run together.
    pub fn at_batch(&self, batch: usize) -> Option<&SpeedAtBatch> {
        self.rates.iter().find(|rates| rates.batch == batch)
    }

    /// Mean seconds to generate an answer, one at a time: tokens of an answer divided by the rate of generation. A cut
    /// that makes answers longer may be slower by it, although each token is faster.
    pub fn seconds_per_answer(&self) -> Option<f64> {
        let seconds = self.tokens_per_answer? / self.at_batch(1)?.decode;
        seconds.is_finite().then_some(seconds)
    }
}

impl Speed {
    /// [`Speed::seconds_per_answer`] by the fastest and by the slowest repetition: times that overlap do
    /// not differ.
    pub fn seconds_per_answer_range(&self) -> Option<[f64; 2]> {
        let (tokens, median) = (self.tokens_per_answer?, self.seconds_per_answer()?);
        let Some([slowest, fastest]) = self.at_batch(1)?.decode_range else { return Some([median; 2]) };
        Some([tokens / fastest, tokens / slowest])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longer_answers_take_longer_although_each_token_is_faster() {
        let at = |decode| vec![SpeedAtBatch { batch: 1, decode, ..SpeedAtBatch::default() }];
        let uncut = Speed { rates: at(20.0), tokens_per_answer: Some(100.0), ..Speed::default() };
        let cut = Speed { rates: at(25.0), tokens_per_answer: Some(200.0), ..Speed::default() };
        assert_eq!((uncut.seconds_per_answer(), cut.seconds_per_answer()), (Some(5.0), Some(8.0)));
        assert_eq!(uncut.seconds_per_answer_range(), Some([5.0, 5.0]), "of a record without the repetitions");
        let mut spread = uncut.clone();
        spread.rates[0].decode_range = Some([10.0, 25.0]);
        assert_eq!(spread.seconds_per_answer_range(), Some([4.0, 10.0]));
        assert_eq!(Speed { rates: vec![], ..cut.clone() }.seconds_per_answer(), None);
        assert_eq!(Speed { tokens_per_answer: None, ..cut.clone() }.seconds_per_answer(), None);
        let unknown = Speed { rates: at(f64::NAN), ..cut };
        assert_eq!(unknown.seconds_per_answer(), None);
        let json = serde_json::to_string(&unknown).unwrap();
        assert!(serde_json::from_str::<Speed>(&json).unwrap().at_batch(1).unwrap().decode.is_nan());
    }
}
