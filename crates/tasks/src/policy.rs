//! What decides a score besides the model: which items a task takes ([`ItemSelection`]) and how answers to them are
//! produced ([`GenerationPolicy`]). Both are recorded with every result and are part of its identity. What changes no
//! result is kept apart: [`Resources`] here, batches and drafts in `lopper-measure`.

use std::collections::BTreeMap;
use std::sync::Arc;

use lopper_infer::{LoopStop, ReasoningReader, Sampling};
use lopper_model::chat::ReasoningMarkers;
use lopper_pocket::Split;
use lopper_record::{Fault, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::benchmark::code::CodeRunner;
use crate::benchmark::spec::Spec;
use lopper_rows::DataRoot;

/// Which items each task takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemSelection {
    /// The split of generated items, and of rows where [`RowChoice::Divided`] says so. Generated items of `Train` never
    /// end, so it needs a limit.
    pub split: Split,
    /// Which rows of a benchmark.
    pub rows: RowChoice,
    /// Most generated items of each task: the first of its order.
    pub limit: usize,
    /// Most rows of each benchmark; none: all.
    pub row_limit: Option<usize>,
    /// Seed of the order of generated items, and of bootstrap intervals.
    pub seed: u64,
}

impl ItemSelection {
    /// The first `limit` items of `split`; of benchmarks the rows that belong to it.
    pub fn new(split: Split, limit: usize, seed: u64) -> Self {
        Self { split, rows: RowChoice::Divided, limit, row_limit: Some(limit), seed }
    }
}

/// Which rows of a benchmark are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowChoice {
    /// Those of [`ItemSelection::split`]: layers are chosen on some rows, and scores reported on others.
    #[default]
    Divided,
    /// All of them.
    All,
}

/// How answers are produced. One type with one default for every command and every study.
///
/// Tasks with generated items have fixed prompts: of the prompt settings only `template_variables` applies to them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GenerationPolicy {
    /// Most tokens of a response; the task's own number where none is given.
    pub max_new_tokens: Option<usize>,
    /// Strings that end a response, in addition to the task's own.
    pub stop: Vec<String>,
    /// When a response that repeats itself is stopped; none: never.
    pub loop_stop: Option<LoopStop>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Seed of sampled tokens. What is drawn for an item depends on it and on the item only.
    pub sampling_seed: u64,
    /// Responses to each item, each with a seed of its own. Greedy responses are one response.
    pub responses: usize,
    /// Few-shot examples before each item; the task's own number where none is given.
    pub shots: Option<usize>,
    /// Apply the chat template also where the task's prompt is plain text.
    pub chat_template: bool,
    /// In conversations, few-shot examples are turns of their own rather than one message.
    pub multiturn: bool,
    /// Precedes every conversation or plain prompt.
    pub system: Option<String>,
    /// Variables for the chat template, such as `enable_thinking`.
    pub template_variables: BTreeMap<String, Value>,
    /// Between which texts the model reasons, where not between those of its own tokenizer or template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_markers: Option<ReasoningMarkers>,
    /// Most tokens of thought before an answer, among [`GenerationPolicy::max_new_tokens`]: the end marker is put after
    /// them. None: no limit of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_thinking_tokens: Option<usize>,
    /// Questions that do not fit into the model's context by themselves lose their beginning, as in
    /// lm-evaluation-harness, instead of being left out as bad rows.
    pub truncate_questions: bool,
}

impl Default for GenerationPolicy {
    fn default() -> Self {
        Self {
            max_new_tokens: None,
            stop: vec![],
            loop_stop: Some(LoopStop::default()),
            sampling: Sampling::Greedy,
            sampling_seed: 0,
            responses: 1,
            shots: None,
            chat_template: false,
            multiturn: true,
            system: None,
            template_variables: BTreeMap::new(),
            reasoning_markers: None,
            max_thinking_tokens: None,
            truncate_questions: false,
        }
    }
}

impl GenerationPolicy {
    /// Refuses settings that mean nothing.
    ///
    /// # Errors
    /// A [`Fault`] for a length of 0, no response, an empty stop string or marker, a thinking budget that leaves no
    /// room for the answer, or sampling out of range.
    pub fn check(&self) -> Result<()> {
        let empty = |markers: &ReasoningMarkers| markers.open.trim().is_empty() || markers.close.trim().is_empty();
        if self.reasoning_markers.as_ref().is_some_and(empty) {
            return Err(Fault::new("a marker of reasoning is empty")
                .expected("the two texts that begin and end a thought")
                .hint("<think> and </think> for most models; without --reasoning-markers, the model's own")
                .into());
        }
        if let Some(length) = self.max_new_tokens {
            self.check_room("a response", length)?;
        }
        let wrong = [
            (self.max_new_tokens == Some(0), "the length of a response is 0", "at least one new token"),
            (self.responses == 0, "there is no response to an item", "at least one response"),
            (self.stop.iter().any(String::is_empty), "a stop string is empty", "text that ends a response"),
        ];
        if let Some((_, message, expected)) = wrong.into_iter().find(|(wrong, ..)| *wrong) {
            return Err(Fault::new(message).expected(expected).into());
        }
        self.sampling.check()
    }

    /// Refuses a thinking budget that leaves no room for an answer in the `length` tokens of `what`.
    pub(crate) fn check_room(&self, what: &str, length: usize) -> Result<()> {
        ReasoningReader::check_room(self.max_thinking_tokens.filter(|_| length > 0), length, what)
    }

    /// The same for responses of `length` tokens, without a thinking budget that these cannot reach.
    pub fn with_room(&self, length: usize) -> Self {
        Self { max_thinking_tokens: self.max_thinking_tokens.filter(|budget| *budget < length), ..self.clone() }
    }

    /// The same with a task's own markers, thinking budget and template variables where the policy has none.
    pub(crate) fn with_settings_of(&self, task: &Spec) -> Self {
        let mut policy = self.clone();
        if self.chat_template || task.prompt.conversation {
            policy.template_variables = task.prompt.variables.clone();
            policy.template_variables.extend(self.template_variables.clone());
        }
        if let Some(generate) = &task.generate {
            let markers =
                || generate.reasoning_markers.as_ref().map(|[open, close]| ReasoningMarkers::new(open, close));
            policy.reasoning_markers = policy.reasoning_markers.or_else(markers);
            policy.max_thinking_tokens = policy.max_thinking_tokens.or(generate.max_thinking_tokens);
        }
        policy
    }

    /// The part that applies to a task: with its number of few-shot examples, and with its length of a response, or
    /// without anything about responses where it scores choices (`length` is none).
    pub(crate) fn applied(&self, shots: usize, length: Option<usize>) -> Self {
        let own = Self { shots: Some(shots), max_new_tokens: length, ..self.clone() };
        match length {
            Some(_) => own,
            None => {
                let Self { stop, loop_stop, sampling, sampling_seed, responses, .. } = Self::default();
                let (reasoning_markers, max_thinking_tokens) = (None, None);
                let own = Self { reasoning_markers, max_thinking_tokens, ..own };
                Self { stop, loop_stop, sampling, sampling_seed, responses, ..own }
            }
        }
    }

    /// The part that applies to a task whose prompts are fixed.
    pub(crate) fn applied_to_fixed_prompts(&self, length: Option<usize>) -> Self {
        let Self { chat_template, multiturn, system, truncate_questions, .. } = Self::default();
        Self { chat_template, multiturn, system, truncate_questions, ..self.applied(0, length) }
    }

    /// Responses that are generated for each item.
    pub(crate) fn repeats(&self) -> usize {
        if self.sampling == Sampling::Greedy { 1 } else { self.responses.max(1) }
    }
}

/// What one task of a suite has in place of the suite's own settings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskSettings {
    /// Few-shot examples, in place of [`GenerationPolicy::shots`].
    pub shots: Option<usize>,
    /// Most items, in place of [`ItemSelection::limit`] and [`ItemSelection::row_limit`].
    pub limit: Option<usize>,
}

impl TaskSettings {
    /// The selection and the policy with these settings.
    pub(crate) fn applied(
        self,
        selection: &ItemSelection,
        policy: &GenerationPolicy,
    ) -> (ItemSelection, GenerationPolicy) {
        let mut own = (*selection, policy.clone());
        if let Some(limit) = self.limit {
            (own.0.limit, own.0.row_limit) = (limit, Some(limit));
        }
        own.1.shots = self.shots.or(policy.shots);
        own
    }
}

/// What tasks need and no result depends on.
#[derive(Clone)]
pub struct Resources {
    /// Where rows are read from.
    pub data_root: DataRoot,
    /// Runs programs that the model writes; tasks that need it are refused without.
    pub code: Option<Arc<CodeRunner>>,
}

impl Default for Resources {
    /// The data root that the environment names; no program is run.
    fn default() -> Self {
        Self { data_root: DataRoot::from_env(), code: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_stops_loops_and_survives_json() {
        let policy = GenerationPolicy::default();
        assert!(policy.loop_stop.is_some());
        assert_eq!(serde_json::from_str::<GenerationPolicy>("{}").unwrap(), policy);
        let other = GenerationPolicy { loop_stop: None, stop: vec!["Q:".into()], shots: Some(3), ..policy };
        let json = serde_json::to_value(&other).unwrap();
        assert_eq!(serde_json::from_value::<GenerationPolicy>(json).unwrap(), other);
        assert!(serde_json::from_str::<GenerationPolicy>(r#"{"loops": 1}"#).is_err());
    }

    #[test]
    fn a_tasks_variables_are_recorded_where_the_run_sets_none() {
        let source = lopper_testkit::tasks::COLOURS.replace("[choices]", "variables = { a = 1, b = 2 }\n\n[choices]");
        let spec = Spec::parse(&source, None).unwrap().remove(0);
        let set =
            |names: &[(&str, i32)]| names.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let run = GenerationPolicy {
            template_variables: set(&[("b", 3), ("c", 4)]),
            chat_template: true,
            ..Default::default()
        };
        let recorded = run.with_settings_of(&spec).applied(0, None).template_variables;
        assert_eq!(recorded, set(&[("a", 1), ("b", 3), ("c", 4)]));
        // A prompt in plain text has no variables of the task.
        let plain = GenerationPolicy { chat_template: false, ..run.clone() };
        assert_eq!(plain.with_settings_of(&spec).template_variables, run.template_variables);
    }

    #[test]
    fn what_applies_to_choices_has_no_lengths_and_stops() {
        let sampling = Sampling::Sample { temperature: 1.0, top_k: None, top_p: None };
        let policy = GenerationPolicy {
            stop: vec!["Q:".into()],
            loop_stop: None,
            sampling,
            chat_template: true,
            ..Default::default()
        };
        assert_eq!(
            policy.applied(5, None),
            GenerationPolicy { shots: Some(5), chat_template: true, ..Default::default() }
        );
        let own = policy.applied_to_fixed_prompts(Some(9));
        assert_eq!((own.shots, own.max_new_tokens, own.chat_template, own.stop.len()), (Some(0), Some(9), false, 1));
        for wrong in [
            GenerationPolicy { max_new_tokens: Some(0), ..Default::default() },
            GenerationPolicy { responses: 0, ..Default::default() },
            GenerationPolicy { stop: vec![String::new()], ..Default::default() },
        ] {
            assert!(wrong.check().is_err());
        }
    }
}
