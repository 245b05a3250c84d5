//! The ten digits where an answer's first one stands, whatever the tokenizer makes of numbers.
//!
//! One token a digit (Qwen, Gemma, Llama 2): the ten tokens are compared. Several digits a token (Llama 3: three
//! at a time; GPT-2: any number, the leading space included): the answer `12` begins with the token `12`, not `1`,
//! so the probability of a first digit is the sum over all tokens that begin with it; its logarithm takes the place
//! of the digit's own. Where a digit is several tokens (bytes, or a space that some digits lack a joined token for),
//! their log-probabilities are added.
//!
//! What the ten have in common before the digit (a space as a token by itself, a minus sign) belongs to the
//! context.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use lopper_infer::{Loglik, LoglikRequest, TextModel};

/// How numbers are written in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberStyle {
    /// Most digits in one token, 1 to this.
    pub longest: usize,
    /// Whether the space before a number is part of its first token.
    pub joined_space: bool,
}

impl NumberStyle {
    /// For a reader.
    pub fn describe(&self) -> String {
        let digits = match self.longest {
            1 => "one digit a token".to_owned(),
            n => format!("up to {n} digits a token, summed over those that begin with the digit"),
        };
        let space = if self.joined_space { ", the leading space in the same token" } else { "" };
        format!("{digits}{space}")
    }
}

/// A request for the ten digits after a context, and which continuations belong to each.
#[derive(Debug, Clone)]
pub struct DigitRequest {
    /// The first ten continuations are the digits by themselves.
    pub request: LoglikRequest,
    /// For each further continuation the digit it begins with.
    further: Arc<[u8]>,
}

impl DigitRequest {
    /// Log-probability of each digit from what the engine returned.
    pub fn logprobs(&self, replies: &[Loglik]) -> Result<[f64; 10]> {
        ensure!(replies.len() == 10 + self.further.len(), "the engine left digits unanswered");
        let mut parts: [Vec<f64>; 10] = std::array::from_fn(|digit| vec![replies[digit].sum]);
        for (reply, digit) in replies[10..].iter().zip(self.further.iter()) {
            parts[usize::from(*digit)].push(reply.sum);
        }
        Ok(parts.map(|parts| log_sum(&parts)))
    }
}

fn log_sum(values: &[f64]) -> f64 {
    match values {
        [one] => *one,
        many => {
            let peak = many.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            peak + many.iter().map(|value| (value - peak).exp()).sum::<f64>().ln()
        }
    }
}

/// Makes requests for one tokenizer.
pub struct Digits<'a> {
    text: &'a TextModel,
    /// For each beginning of a digit's token, as the vocabulary writes it: the tokens of two and more digits, and
    /// the digit each begins with.
    groups: Vec<(String, Vec<u32>, Arc<[u8]>)>,
    style: NumberStyle,
}

impl<'a> Digits<'a> {
    /// Finds out how the tokenizer writes numbers.
    pub fn new(text: &'a TextModel) -> Self {
        Self { text, groups: Vec::new(), style: NumberStyle { longest: 1, joined_space: false } }
    }

    /// What was found out so far.
    pub fn style(&self) -> NumberStyle {
        self.style.clone()
    }

    /// Asks for the digits after `context`, which ends where the digit begins.
    pub fn request(&mut self, context: &str) -> Result<DigitRequest> {
        let mut texts = (0..10).map(|digit| self.text.plain(&format!("{context}{digit}")));
        let texts: Vec<Vec<u32>> = texts.by_ref().collect::<Result<_>>()?;
        let shortest = texts.iter().map(Vec::len).min().unwrap_or(0);
        // Special tokens that the tokenizer puts behind a text would hide that it goes on; digits differ before.
        let common = (0..shortest).take_while(|&at| texts.iter().all(|text| text[at] == texts[0][at])).count();
        ensure!(common < shortest, "the tokenizer writes two digits alike after {context:?}");
        let tail = (0..shortest - common)
            .take_while(|&back| {
                texts.iter().all(|text| text[text.len() - 1 - back] == texts[0][texts[0].len() - 1 - back])
            })
            .count();
        let mut context_tokens = texts[0][..common].to_vec();
        let mut continuations: Vec<Vec<u32>> =
            texts.iter().map(|text| text[common..text.len() - tail].to_vec()).collect();
        if context_tokens.is_empty() {
            let bos = self.text.special.bos.or_else(|| self.text.special.eos.first().copied());
            context_tokens.push(bos.context("the tokenizer has no token that begins a text")?);
        }
        let mut further = Vec::new();
        for digit in 0..10_u8 {
            // Of a digit that takes several tokens (a space by itself for want of a joined one) the last counts.
            let Some((last, before)) = continuations[usize::from(digit)].split_last() else { continue };
            let Some(begin) = self.beginning(digit, *last) else { continue };
            let before = before.to_vec();
            // A space as byte-level and SentencePiece vocabularies write it; a minus sign is none.
            self.style.joined_space |= begin.starts_with(['Ġ', '▁', ' ']);
            let (tokens, digits) = self.group(context, &begin)?;
            for token in tokens.iter().zip(digits.iter()).filter(|(_, first)| **first == digit).map(|(token, _)| *token)
            {
                continuations.push([before.as_slice(), &[token]].concat());
                further.push(digit);
            }
        }
        let request = LoglikRequest { context: context_tokens, continuations };
        Ok(DigitRequest { request, further: further.into() })
    }

    /// What stands before the digit in its token; none where the token is not written that way.
    fn beginning(&self, digit: u8, token: u32) -> Option<String> {
        Some(self.text.tokenizer.id_to_token(token)?.strip_suffix(char::from(b'0' + digit))?.to_owned())
    }

    /// The tokens of several digits after `begin`, if the tokenizer uses such in this place.
    fn group(&mut self, context: &str, begin: &str) -> Result<(Vec<u32>, Arc<[u8]>)> {
        if let Some((_, tokens, digits)) = self.groups.iter().find(|(known, ..)| known == begin) {
            return Ok((tokens.clone(), digits.clone()));
        }
        let several = |token: u32| -> Option<(usize, u8)> {
            let written = self.text.tokenizer.id_to_token(token)?;
            let digits = written.strip_prefix(begin)?;
            (digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()))
                .then(|| (digits.len(), digits.as_bytes()[0] - b'0'))
        };
        let (mut tokens, mut digits) = (Vec::new(), Vec::new());
        // Having such tokens is not using them: an answer of six digits shows.
        let used = self.text.plain(&format!("{context}123456"))?.into_iter().any(|token| several(token).is_some());
        if used {
            let ids = 0..u32::try_from(self.text.engine.model().config.vocab_size).unwrap_or(u32::MAX);
            let mut longest = 1;
            for id in ids {
                if let Some((length, first)) = several(id) {
                    longest = longest.max(length);
                    tokens.push(id);
                    digits.push(first);
                }
            }
            self.style.longest = self.style.longest.max(longest);
        }
        let digits: Arc<[u8]> = digits.into();
        self.groups.push((begin.to_owned(), tokens.clone(), digits.clone()));
        Ok((tokens, digits))
    }
}
