//! What broke in a model: the figures of `lopper-diagnose` as records hold them, each defined in
//! `docs/reference/diagnostics.md`.
//!
//! What could not be measured is absent, never zero.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::LayerSet;

/// A mean over `n` values with its 95 % interval: Wilson's for a proportion, else ± 1.96 standard errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean.
    pub value: f64,
    /// The interval; absent where there are too few values for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci95: Option<[f64; 2]>,
    /// Number of values.
    pub n: usize,
}

/// Everything that was found out about one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diagnosis {
    /// Whether its text has degenerated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degeneration: Option<Degeneration>,
    /// What it thinks before it responds; absent where it marks nothing as thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Reasoning>,
    /// The arithmetic probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<Arithmetic>,
    /// The bracket probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brackets: Option<Brackets>,
    /// How the programs that it wrote ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<Programs>,
    /// The same by task, where several tasks run programs.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub programs_by_task: BTreeMap<String, Programs>,
    /// What it gets wrong that the uncut model got right, and the other way round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
    /// Perplexity on held-out text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity: Option<f64>,
    /// Its 95 % interval, from the texts, not their tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_ci95: Option<[f64; 2]>,
}

impl Diagnosis {
    /// How the programs of a task ended where tasks are told apart; how all did for none.
    pub fn programs_of(&self, task: Option<&str>) -> Option<Programs> {
        match task {
            None => self.programs,
            Some(task) => self.programs_by_task.get(task).copied(),
        }
    }
}

/// How a model's responses read, whatever they say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Degeneration {
    /// Where the responses come from, where it is not the tasks.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Responses that were looked at.
    pub responses: usize,
    /// Of these, the ones without a word.
    pub empty: usize,
    /// 100 · (1 − unique bigrams / bigrams), mean over the responses that have any.
    pub rep_2: Option<Mean>,
    /// The same of trigrams.
    pub rep_3: Option<Mean>,
    /// The same of 4-grams.
    pub rep_4: Option<Mean>,
    /// Self-BLEU-4 within a response, mean over the responses of two and more sentences.
    pub self_bleu_4: Option<Mean>,
    /// Length in words and punctuation marks.
    pub words: Option<Mean>,
    /// Length in the model's tokens, where these are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Mean>,
    /// Responses that fall into a loop.
    pub loops: usize,
    /// How often each reason ended a response, where reasons are known.
    pub finish: BTreeMap<String, usize>,
    /// Mean over the responses of the mean log-probability of their tokens under the model that
    /// wrote them, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_logprob: Option<Mean>,
    /// exp(−mean log-probability over all tokens of all responses), under the model that wrote them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_perplexity: Option<f64>,
    /// Its 95 % interval, from the responses, not their tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_perplexity_ci95: Option<[f64; 2]>,
}

/// What a model thinks before its responses.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reasoning {
    /// Responses that were looked at.
    pub responses: usize,
    /// Thoughts that never ended, so that no answer follows.
    pub unfinished: usize,
    /// Thoughts that the thinking budget ended.
    pub cut: usize,
    /// The thoughts as text; its `responses` are their number, its `tokens` their length.
    pub text: Degeneration,
}

/// The arithmetic probe at the place of the answer's first digit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arithmetic {
    /// What was asked.
    pub source: String,
    /// How the tokenizer writes numbers, which decides what is compared.
    pub numbers: String,
    /// Whether the arg-max over the ten digits is the right one.
    pub accuracy: Option<Mean>,
    /// Natural log-probability of the right digit.
    pub logprob: Option<Mean>,
    /// The same minus the uncut model's on the same items; absent for that model itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logprob_change: Option<Mean>,
    /// Accuracy of always naming the digit that most answers begin with.
    pub constant: f64,
}

/// The bracket probe: close what is open.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Brackets {
    /// Where the items come from, where it is not a task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Whether the completion closes everything and nothing more.
    pub balanced: Option<Mean>,
    /// The same by the number of brackets that are open.
    pub by_depth: BTreeMap<usize, Mean>,
    /// The same by the kind of brackets.
    pub by_kind: BTreeMap<String, Mean>,
    /// How completions ended: `balanced`, `left_open`, `superfluous`, `wrong_kind`, `other_text`.
    pub ends: BTreeMap<String, usize>,
}

/// The classes that the paper (arXiv 2602.01997) sorts executed programs into, and how many fell
/// into each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Programs {
    /// Ran to the end and did what the tests ask.
    pub passed: usize,
    /// Ran and gave something else.
    pub assertion_error: usize,
    /// A bracket or a literal that is not closed, or closed wrongly.
    pub bracket_syntax: usize,
    /// Any other syntax error.
    pub other_syntax: usize,
    /// A name without a value.
    pub name_not_defined: usize,
    /// Too slow, or recursion too deep.
    pub timeout_or_recursion: usize,
    /// Anything else.
    pub other: usize,
}

impl Programs {
    /// The classes in their order, as a reader sees them.
    pub const NAMES: [&str; 7] = [
        "passed",
        "assertion error",
        "bracket or literal",
        "other syntax",
        "name not defined",
        "timeout or recursion",
        "other",
    ];

    /// The counts, in the order of [`Programs::NAMES`].
    pub fn counts(&self) -> [usize; 7] {
        [
            self.passed,
            self.assertion_error,
            self.bracket_syntax,
            self.other_syntax,
            self.name_not_defined,
            self.timeout_or_recursion,
            self.other,
        ]
    }

    /// Programs in all.
    pub fn total(&self) -> usize {
        self.counts().iter().sum()
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            assertion_error: self.assertion_error + other.assertion_error,
            bracket_syntax: self.bracket_syntax + other.bracket_syntax,
            other_syntax: self.other_syntax + other.other_syntax,
            name_not_defined: self.name_not_defined + other.name_not_defined,
            timeout_or_recursion: self.timeout_or_recursion + other.timeout_or_recursion,
            other: self.other + other.other,
        }
    }

    /// Counts one more program of a class: the names of `lopper-sandbox` and those of the pocket
    /// model's language. False, and nothing counted, for a name that is none.
    pub fn count(&mut self, class: &str) -> bool {
        let place = match class {
            "passed" => &mut self.passed,
            "assertion" | "assertion_error" => &mut self.assertion_error,
            "bracket_or_literal" | "bracket_syntax" => &mut self.bracket_syntax,
            "other_syntax" => &mut self.other_syntax,
            "name_not_defined" => &mut self.name_not_defined,
            "timeout" | "timeout_or_recursion" => &mut self.timeout_or_recursion,
            "other" => &mut self.other,
            _ => return false,
        };
        *place += 1;
        true
    }
}

/// Why an item that the uncut model got right went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The thought before the answer never ended.
    UnfinishedThought,
    /// A bracket or literal that does not close, or any other error of syntax.
    BracketOrSyntax,
    /// The response repeats itself without end.
    Loop,
    /// A step's equation is false.
    ArithmeticSlip,
    /// It was cut off at the limit of its length.
    LengthLimit,
    /// No answer is to be found in it.
    NoAnswer,
    /// It has fewer steps than the uncut model's, all of them right.
    DroppedStep,
    /// None of these.
    #[default]
    Other,
}

impl Cause {
    /// All, in the order in which they are tried.
    pub const ALL: [Self; 8] = [
        Self::UnfinishedThought,
        Self::BracketOrSyntax,
        Self::Loop,
        Self::ArithmeticSlip,
        Self::LengthLimit,
        Self::NoAnswer,
        Self::DroppedStep,
        Self::Other,
    ];

    /// For a reader.
    pub fn title(self) -> &'static str {
        match self {
            Self::UnfinishedThought => "unfinished thought",
            Self::BracketOrSyntax => "bracket or syntax error",
            Self::Loop => "loop",
            Self::ArithmeticSlip => "arithmetic slip",
            Self::LengthLimit => "length limit",
            Self::NoAnswer => "no answer found",
            Self::DroppedStep => "dropped step",
            Self::Other => "other",
        }
    }
}

/// What a cut changed, item by item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// Items that both models answered in text and that are right or wrong.
    pub compared: usize,
    /// Right in the uncut model, wrong in this one.
    pub lost: usize,
    /// Wrong in the uncut model, right in this one.
    pub gained: usize,
    /// The lost ones by cause.
    pub causes: BTreeMap<Cause, usize>,
}

impl Ledger {
    /// How many were lost to `cause`, unless none was and few models can: causes of reasoning models only.
    pub fn shown(&self, cause: Cause) -> Option<usize> {
        Some(self.of(cause)).filter(|count| *count > 0 || cause != Cause::UnfinishedThought)
    }

    /// How many were lost to `cause`.
    pub fn of(&self, cause: Cause) -> usize {
        self.causes.get(&cause).copied().unwrap_or(0)
    }
}

/// One item of the ledger.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LedgerEntry {
    /// How the layers of the cut were chosen.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// Which layers are gone.
    pub dropped: LayerSet,
    /// Whether the cut is healed.
    pub healed: bool,
    /// Name of the task.
    pub task: String,
    /// The item's place among the task's items.
    pub doc_id: usize,
    /// Whether it was gained, not lost.
    pub gained: bool,
    /// Why it was lost; absent for a gained one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What exactly: the first wrong equation and its right result, the repeated words, the class of
    /// the program's end.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What was asked.
    pub prompt: String,
    /// The reference.
    pub target: String,
    /// The uncut model's response.
    pub base: String,
    /// What the uncut model thought before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub base_reasoning: String,
    /// The cut model's response.
    pub cut: String,
    /// What the cut model thought before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cut_reasoning: String,
}

/// Raised where classification hides what generation has lost.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GapAlarm {
    /// Classification's retention.
    #[serde(with = "crate::finite")]
    pub classification: f64,
    /// Generation's retention.
    #[serde(with = "crate::finite")]
    pub generative: f64,
    /// The threshold that their difference exceeds.
    #[serde(with = "crate::finite")]
    pub threshold: f64,
    /// Whether their 95 % intervals are apart as well, so that the gap is no accident of the items.
    pub certain: bool,
}

impl GapAlarm {
    /// The alarm in a sentence.
    pub fn sentence(&self) -> String {
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        let sure = if self.certain { "" } else { " (the intervals overlap: more items would tell)" };
        format!(
            "classification keeps {}, generation {}: choosing by classification would hide the loss{sure}",
            percent(self.classification),
            percent(self.generative)
        )
    }
}

/// The cheap bundle that runs after every cut, as far as it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SentinelReading {
    /// Digit accuracy of the arithmetic probe.
    pub arithmetic: Option<f64>,
    /// Share of brackets closed rightly.
    pub brackets: Option<f64>,
    /// Mean Rep-4 of short responses, in per cent.
    pub rep_4: Option<f64>,
    /// Perplexity on held-out text.
    pub perplexity: Option<f64>,
    /// Its 95 % interval, from the texts, not their tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_ci95: Option<[f64; 2]>,
}

/// A strategy that was not followed deeper.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoppedBranch {
    /// The strategy.
    pub strategy: String,
    /// The depth at which the sentinels found nothing left.
    pub removed: usize,
    /// What they read.
    pub reading: SentinelReading,
    /// Why that is hopeless, in a sentence.
    pub reason: String,
    /// The depths that were therefore not measured.
    pub skipped: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_the_seven_classes_count() {
        let mut programs = Programs::default();
        for class in ["passed", "assertion", "bracket_syntax", "other_syntax", "name_not_defined", "timeout", "other"] {
            assert!(programs.count(class));
        }
        assert!(!programs.count("right") && programs.count("timeout_or_recursion"));
        assert_eq!(programs.counts(), [1, 1, 1, 1, 1, 2, 1]);
        assert_eq!(programs.total(), 8);
    }

    #[test]
    fn causes_are_keys_of_json() {
        let ledger = Ledger { lost: 2, causes: [(Cause::ArithmeticSlip, 2)].into(), ..Ledger::default() };
        let text = serde_json::to_string(&ledger).unwrap();
        assert!(text.contains("\"arithmetic_slip\":2"), "{text}");
        assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        assert_eq!(ledger.of(Cause::Loop), 0);
    }
}
