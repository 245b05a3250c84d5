//! Which usable examples are left out all the same: of the wrong length, repetitive, the same as others, or evaluated.
//!
//! An example counts for the first of these that holds. One filter serves all files of a training, so that duplicates
//! are found across them.

mod duplicates;
mod overlap;
mod repetition;
mod words;

pub use overlap::{EvaluatedTexts, OverlapCheck};
pub use repetition::has_loop;

use std::collections::HashMap;

use lopper_infer::LoopStop;
use lopper_model::chat::{Conversation, Message};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ExampleReport, ExampleText};
use crate::self_generated::REASONING;
use crate::trainer::Document;
use duplicates::{Exact, Near};

/// Which duplicates are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Duplicates {
    /// Those of which the same tokens are learned.
    #[default]
    Exact,
    /// And those that are nearly the same, with the same numbers.
    Near,
    /// None.
    Keep,
}

/// What is left out of usable examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataFilters {
    /// Duplicates.
    pub duplicates: Duplicates,
    /// Whether answers that repeat themselves are left out ([`LoopStop`]).
    pub repetitive: bool,
    /// Fewest tokens of an example's answers, end tokens included; 0 for no limit.
    pub min_answer_tokens: usize,
    /// Most tokens of an example's answers; 0 for no limit.
    pub max_answer_tokens: usize,
    /// What counts as overlap with evaluated items, where some are known.
    pub overlap: OverlapCheck,
}

impl Default for DataFilters {
    /// Exact duplicates, repetitive answers, and what overlaps with evaluated items.
    fn default() -> Self {
        Self {
            duplicates: Duplicates::default(),
            repetitive: true,
            min_answer_tokens: 0,
            max_answer_tokens: 0,
            overlap: OverlapCheck::default(),
        }
    }
}

impl DataFilters {
    /// Nothing is left out.
    pub fn none() -> Self {
        Self { duplicates: Duplicates::Keep, repetitive: false, overlap: OverlapCheck::None, ..Self::default() }
    }
}

/// Decides about examples, one after the other.
pub struct ExampleFilter<'a> {
    settings: DataFilters,
    evaluated: Option<&'a EvaluatedTexts>,
    exact: Exact,
    near: Near,
    answers: HashMap<[u8; 32], SameAnswer>,
}

/// An answer, and the prompts that it is to.
struct SameAnswer {
    prompt: [u8; 32],
    /// How many examples with other prompts have it as well.
    others: usize,
    tokens: usize,
}

impl<'a> ExampleFilter<'a> {
    /// A filter that has seen nothing yet.
    pub fn new(settings: &DataFilters, evaluated: Option<&'a EvaluatedTexts>) -> Self {
        let (exact, near) = (Exact::default(), Near::default());
        Self { settings: settings.clone(), evaluated, exact, near, answers: HashMap::new() }
    }

    /// A filter that leaves nothing out.
    pub fn none() -> Self {
        Self::new(&DataFilters::none(), None)
    }

    /// Whether an example stays; otherwise `report` counts why not.
    pub(super) fn keeps(&mut self, text: &ExampleText, documents: &[Document], report: &mut ExampleReport) -> bool {
        let Some(count) = self.count(text, documents, report) else {
            self.note_answer(documents, report);
            return true;
        };
        *count += 1;
        false
    }

    /// The count of what leaves an example out.
    fn count<'r>(
        &mut self,
        text: &ExampleText,
        documents: &[Document],
        report: &'r mut ExampleReport,
    ) -> Option<&'r mut usize> {
        let DataFilters { duplicates, repetitive, min_answer_tokens: least, max_answer_tokens: most, overlap } =
            self.settings;
        let learned: usize = documents.iter().flat_map(answers).map(<[u32]>::len).sum();
        if learned < least {
            return Some(&mut report.short_answer);
        }
        if most > 0 && learned > most {
            return Some(&mut report.long_answer);
        }
        let loops = |answer: &[u32]| has_loop(answer, LoopStop::default());
        if repetitive && documents.iter().flat_map(answers).any(loops) {
            return Some(&mut report.repetitive);
        }
        if let Some(evaluated) = self.evaluated
            && let Some(name) = evaluated.find_in(text, overlap)
        {
            *report.overlap_with.entry(name.to_owned()).or_default() += 1;
            return Some(&mut report.overlap);
        }
        if duplicates != Duplicates::Keep && !self.exact.insert(identity(documents)) {
            return Some(&mut report.duplicate);
        }
        if duplicates == Duplicates::Near && !self.near.insert(&said(text).join("\n")) {
            return Some(&mut report.near_duplicate);
        }
        None
    }

    /// Counts the answers that were there before, to other prompts.
    fn note_answer(&mut self, documents: &[Document], report: &mut ExampleReport) {
        let Some(document) = documents.last() else { return };
        let Some(answer) = answers(document).last() else { return };
        let start = document.weights.iter().rposition(|weight| *weight == 0.0).map_or(0, |at| at + 1);
        let prompt = hash(&document.tokens[..start.min(document.tokens.len())]);
        let tokens = answer.len();
        let known = self.answers.entry(hash(answer)).or_insert(SameAnswer { prompt, others: 0, tokens });
        if known.prompt == prompt {
            return;
        }
        known.others += 1;
        report.same_answer += 1;
        let (times, length) = (known.others + 1, known.tokens);
        if length >= LONG_ANSWER && report.commonest_answer.is_none_or(|(before, _)| times > before) {
            report.commonest_answer = Some((times, length));
        }
    }
}

/// Tokens from which on an answer says more than a choice does, so that its being common is worth a word.
const LONG_ANSWER: usize = 16;

/// The stretches of a document that are in the loss.
fn answers(document: &Document) -> impl Iterator<Item = &[u32]> {
    let mut at = 0;
    document.weights.chunk_by(|a, b| (*a == 0.0) == (*b == 0.0)).filter_map(move |run| {
        let tokens = &document.tokens[at..at + run.len()];
        at += run.len();
        (run.first() != Some(&0.0)).then_some(tokens)
    })
}

impl EvaluatedTexts {
    /// The task or file of an item that is in a prompt or answer of `text`.
    pub fn find_in(&self, text: &ExampleText, check: OverlapCheck) -> Option<&str> {
        said(text).iter().find_map(|said| self.find(said, check))
    }
}

/// What is said in an example: its turns without the system's, and the thoughts before them.
fn said(text: &ExampleText) -> Vec<String> {
    match text {
        ExampleText::Chat(Conversation { messages, .. }) => {
            let turns = messages.iter().filter(|message| message.role != "system");
            turns.flat_map(|turn| thought(turn).into_iter().chain([turn.text().into_owned()])).collect()
        }
        ExampleText::Plain { prompt, response } => vec![prompt.clone(), response.clone()],
    }
}

fn thought(message: &Message) -> Option<String> {
    message.other.get(REASONING).and_then(Value::as_str).map(str::to_owned)
}

fn identity(documents: &[Document]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for Document { tokens, weights } in documents {
        hasher.update(&hash(tokens));
        for weight in weights {
            hasher.update(&[u8::from(*weight != 0.0)]);
        }
    }
    hasher.finalize().into()
}

fn hash(tokens: &[u32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An example with a token for each character, and what became of it.
    fn filter(settings: &DataFilters, texts: &[(&str, &str)]) -> (Vec<bool>, ExampleReport) {
        let mut evaluated = EvaluatedTexts::default();
        evaluated.add("capitals", ["What is the capital of France, which is in Europe?"]);
        let mut filter = ExampleFilter::new(settings, Some(&evaluated));
        let mut report = ExampleReport::default();
        let kept = texts.iter().map(|(prompt, answer)| {
            let tokens: Vec<u32> = prompt.chars().chain(answer.chars()).map(u32::from).collect();
            let start = prompt.chars().count();
            let weights = (0..tokens.len()).map(|at| if at < start { 0.0 } else { 1.0 }).collect();
            let turns = vec![Message::user(*prompt), Message::assistant(*answer)];
            filter.keeps(&ExampleText::Chat(turns.into()), &[Document { tokens, weights }], &mut report)
        });
        let kept = kept.collect();
        (kept, report)
    }

    const TEXTS: [(&str, &str); 9] = [
        ("a", "one answer"),
        ("a", "one answer"),
        ("b", "one answer"),
        ("a", "another answer"),
        ("c", "no"),
        ("d", "la la la la la la la la la la la la la la la la la la la la"),
        ("Tell me: what is the capital of France, which is in Europe?", "Paris"),
        ("e", "What is the capital of France, which is in Europe? It is Paris."),
        ("a", "One  answer!"),
    ];

    #[test]
    fn each_example_is_left_out_for_one_reason() {
        let (kept, report) = filter(&DataFilters::default(), &TEXTS);
        assert_eq!(kept, [true, false, true, true, true, false, false, false, true]);
        assert_eq!((report.duplicate, report.repetitive, report.overlap), (1, 1, 2));
        assert_eq!((report.same_answer, report.overlap_with), (1, [("capitals".to_owned(), 2)].into()));
        let settings = DataFilters { duplicates: Duplicates::Near, min_answer_tokens: 3, ..DataFilters::default() };
        let (kept, report) = filter(&settings, &TEXTS);
        assert_eq!(kept, [true, false, true, true, false, false, false, false, false]);
        assert_eq!((report.short_answer, report.near_duplicate), (1, 1));
        let settings = DataFilters { max_answer_tokens: 10, ..DataFilters::default() };
        assert_eq!(filter(&settings, &TEXTS).1.long_answer, 4);
    }

    #[test]
    fn each_filter_can_be_turned_off() {
        assert!(filter(&DataFilters::none(), &TEXTS).0.iter().all(|kept| *kept));
        let off = |change: &dyn Fn(&mut DataFilters)| {
            let mut settings = DataFilters::default();
            change(&mut settings);
            filter(&settings, &TEXTS).0.iter().filter(|kept| **kept).count()
        };
        assert_eq!(off(&|_| ()), 5);
        assert_eq!(off(&|settings| settings.duplicates = Duplicates::Keep), 6);
        assert_eq!(off(&|settings| settings.repetitive = false), 6);
        assert_eq!(off(&|settings| settings.overlap = OverlapCheck::None), 7);
    }

    #[test]
    fn a_common_answer_is_noted_where_it_is_long() {
        let refusal = "I am sorry, but I cannot help with that.";
        let prompts: Vec<String> = (0..30).map(|n| format!("prompt {n}")).collect();
        let with = |answer: &'static str| {
            let texts: Vec<_> = prompts.iter().map(|prompt| (prompt.as_str(), answer)).collect();
            filter(&DataFilters::default(), &texts)
        };
        let (kept, report) = with(refusal);
        assert!(kept.iter().all(|kept| *kept), "the same answer to other prompts is no duplicate");
        assert_eq!((report.same_answer, report.commonest_answer), (29, Some((30, refusal.len()))));
        assert_eq!(with("yes").1.commonest_answer, None);
    }

    #[test]
    fn the_answers_of_a_document_are_its_stretches_in_the_loss() {
        let document =
            |weights: &[f32]| Document { tokens: (0..weights.len() as u32).collect(), weights: weights.into() };
        let found = document(&[0.0, 1.0, 1.0, 0.0, 1.0]);
        assert_eq!(answers(&found).collect::<Vec<_>>(), [&[1, 2][..], &[4]]);
        assert_eq!(answers(&document(&[0.0])).count(), 0);
        assert_ne!(identity(&[document(&[0.0, 1.0])]), identity(&[document(&[1.0, 1.0])]));
    }
}
