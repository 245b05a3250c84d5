//! Log-probabilities of the ten digits at the position of an answer's first one, for any tokenizer.
//!
//! One digit per token (Qwen, Gemma, Llama 2): the ten tokens are compared. Several digits per token (Llama 3: up to
//! three; GPT-2: any number, the leading space included): the answer `12` begins with the token `12`, not `1`, so the
//! probability of a first digit is the sum over all tokens that begin with it. Where a digit is several tokens (bytes,
//! or a space that has no joined token with some digits), their log-probabilities are added.
//!
//! What the ten have in common before the digit (a space as a token by itself, a minus sign) belongs to the context.

use std::sync::Arc;

use lopper_infer::{Loglik, LoglikRequest, TextModel};
use lopper_record::{Context, Result, ensure};

/// How a tokenizer splits numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberTokens {
    /// Most digits in one token.
    pub max_digits: usize,
    /// Whether the space before a number is part of its first token.
    pub joined_space: bool,
}

impl NumberTokens {
    /// A description for people, as records hold it.
    pub fn describe(&self) -> String {
        let digits = match self.max_digits {
            1 => "one digit a token".to_owned(),
            n => format!("up to {n} digits a token, summed over those that begin with the digit"),
        };
        let space = if self.joined_space { ", the leading space in the same token" } else { "" };
        format!("{digits}{space}")
    }
}

/// A log-likelihood request for the ten digits after a context.
#[derive(Debug, Clone)]
pub struct DigitRequest {
    /// The first ten continuations are the digits by themselves, the others tokens that begin with one.
    pub request: LoglikRequest,
    /// The first digit of each continuation after the tenth.
    first_digits: Arc<[u8]>,
}

impl DigitRequest {
    /// Log-probability of each digit from the results of the request's continuations.
    ///
    /// # Errors
    /// When their numbers differ.
    pub fn logprobs(&self, results: &[Loglik]) -> Result<[f64; 10]> {
        let continuations = 10 + self.first_digits.len();
        ensure!(results.len() == continuations, "{} results for {continuations} continuations", results.len());
        let mut parts: [Vec<f64>; 10] = std::array::from_fn(|digit| vec![results[digit].sum]);
        for (result, digit) in results[10..].iter().zip(self.first_digits.iter()) {
            parts[usize::from(*digit)].push(result.sum);
        }
        Ok(parts.map(|parts| log_sum_exp(&parts)))
    }
}

fn log_sum_exp(values: &[f64]) -> f64 {
    match values {
        [one] => *one,
        many => {
            let peak = many.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            peak + many.iter().map(|value| (value - peak).exp()).sum::<f64>().ln()
        }
    }
}

/// Tokens of two and more digits, and the first digit of each.
type NumberGroup = (Vec<u32>, Arc<[u8]>);

/// Makes the requests for one tokenizer.
pub struct DigitRequests<'a> {
    text: &'a TextModel,
    /// By what precedes the digits in a token, as the vocabulary writes it (nothing, or a space).
    groups: Vec<(String, NumberGroup)>,
    number_tokens: NumberTokens,
}

impl<'a> DigitRequests<'a> {
    /// Requests in the tokens of `text`.
    pub fn new(text: &'a TextModel) -> Self {
        Self { text, groups: Vec::new(), number_tokens: NumberTokens { max_digits: 1, joined_space: false } }
    }

    /// How the tokenizer splits numbers, as far as the requests made so far show.
    pub fn number_tokens(&self) -> NumberTokens {
        self.number_tokens.clone()
    }

    /// A request for the digits after `context`, which ends where the digit begins.
    ///
    /// # Errors
    /// When the tokenizer does not tell two digits apart.
    pub fn request(&mut self, context: &str) -> Result<DigitRequest> {
        let texts: Vec<Vec<u32>> =
            (0..10).map(|digit| self.text.plain(&format!("{context}{digit}"))).collect::<Result<_>>()?;
        let shortest = texts.iter().map(Vec::len).min().unwrap_or(0);
        // The digits differ somewhere; special tokens that the tokenizer appends to every text follow after that.
        let common = (0..shortest).take_while(|&at| texts.iter().all(|text| text[at] == texts[0][at])).count();
        ensure!(common < shortest, "the tokenizer does not tell two digits apart after {context:?}");
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
        let mut first_digits = Vec::new();
        for digit in 0..10_u8 {
            // Of a digit that takes several tokens (a space by itself where no joined one exists) the last counts.
            let Some((last, before)) = continuations[usize::from(digit)].split_last() else { continue };
            let Some(prefix) = self.prefix(digit, *last) else { continue };
            let before = before.to_vec();
            // A space as byte-level and SentencePiece vocabularies write it; a minus sign is none.
            self.number_tokens.joined_space |= prefix.starts_with(['Ġ', '▁', ' ']);
            let (tokens, firsts) = self.group(context, &prefix)?;
            for (token, _) in tokens.iter().zip(firsts.iter()).filter(|(_, first)| **first == digit) {
                continuations.push([before.as_slice(), &[*token]].concat());
                first_digits.push(digit);
            }
        }
        let request = LoglikRequest { context: context_tokens, continuations };
        Ok(DigitRequest { request, first_digits: first_digits.into() })
    }

    /// What precedes the digit in its token; none where the token does not end with the digit.
    fn prefix(&self, digit: u8, token: u32) -> Option<String> {
        Some(self.text.tokenizer.id_to_token(token)?.strip_suffix(char::from(b'0' + digit))?.to_owned())
    }

    /// The tokens of several digits after `prefix`, if the tokenizer uses such tokens after `context`.
    fn group(&mut self, context: &str, prefix: &str) -> Result<NumberGroup> {
        if let Some((_, group)) = self.groups.iter().find(|(known, _)| known == prefix) {
            return Ok(group.clone());
        }
        let several = |token: u32| -> Option<(usize, u8)> {
            let written = self.text.tokenizer.id_to_token(token)?;
            let digits = written.strip_prefix(prefix)?;
            (digits.len() > 1 && digits.bytes().all(|b| b.is_ascii_digit()))
                .then(|| (digits.len(), digits.as_bytes()[0] - b'0'))
        };
        let (mut tokens, mut firsts) = (Vec::new(), Vec::new());
        // A vocabulary may have such tokens without using them; an answer of six digits shows whether it does.
        let used = self.text.plain(&format!("{context}123456"))?.into_iter().any(|token| several(token).is_some());
        if used {
            let ids = 0..u32::try_from(self.text.engine.model().config.vocab_size).unwrap_or(u32::MAX);
            for (id, (length, first)) in ids.filter_map(|id| Some((id, several(id)?))) {
                self.number_tokens.max_digits = self.number_tokens.max_digits.max(length);
                tokens.push(id);
                firsts.push(first);
            }
        }
        let group = (tokens, Arc::from(firsts));
        self.groups.push((prefix.to_owned(), group.clone()));
        Ok(group)
    }
}
