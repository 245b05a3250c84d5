//! The study file: what is measured, cut, healed and decided. Every key has a default, which is
//! the pocket study; a key that is not known is refused.

use std::collections::BTreeMap;

use lopper_diagnose::sentinel::GAP_THRESHOLD;
use lopper_heal::{DataFilters, HealRecipe, Method};
use lopper_infer::Sampling;
use lopper_model::chat::ReasoningMarkers;
use lopper_pocket::Split;
use lopper_record::{Context, Fault, Result};
use lopper_tasks::{GenerationPolicy, ItemSelection, TaskSettings, expand};
use serde::{Deserialize, Serialize};

use crate::cuts::Cuts;
use crate::goal::Goal;
use crate::heal_seeds::HealSeeds;
use crate::tasks::{Member, StudyTasks};

/// The model that comes with Lopper.
pub(crate) const POCKET: &str = "pocket";
/// `heal.data` for the tasks' own training splits.
pub const TASKS: &str = "tasks";

/// A resolved study file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// MODEL: a directory, an id of the hub, or `pocket`.
    pub model: String,
    /// The preset whose values stand in for what the file leaves out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Seeds items, random cuts, self-generation, healing and intervals.
    pub seed: u64,
    /// How many items are measured.
    pub items: Items,
    /// Which tasks, by group.
    pub tasks: Tasks,
    /// Benchmarks (tasks over rows of data sets), and prompts.
    pub rows: Rows,
    /// Variables for the chat template, such as `enable_thinking`, wherever a prompt is rendered.
    pub template: BTreeMap<String, serde_json::Value>,
    /// How reasoning is separated from answers, and how long it may be.
    pub reasoning: Reasoning,
    /// How tokens of answers are chosen.
    pub sampling: AnswerSampling,
    /// Which cuts.
    pub cuts: Cuts,
    /// How cuts are healed.
    pub heal: Heal,
    /// What warns, and what ends a strategy early.
    pub sentinels: Sentinels,
    /// Whether speed is measured.
    pub speed: SpeedSettings,
    /// How the depth budget is decided.
    pub budget: Budget,
}

/// Numbers of items. Selection, healing and reporting draw from splits that cannot overlap.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Items {
    /// Items per task whose scores are reported; of a pooled task, over all its members.
    pub report: usize,
    /// Items per task that the layer map, searches and the choice of the main strategy are measured on.
    pub select: usize,
    /// Documents of calibration text for the layer criteria.
    pub calibration: usize,
}

/// Tasks of both groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tasks {
    /// Scored by log-likelihood.
    pub classification: Vec<String>,
    /// Scored on generated text.
    pub generative: Vec<String>,
}

/// Benchmarks (tasks over rows of data sets), and prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rows {
    /// The directory that holds them; empty for the one that the environment names.
    pub data_root: String,
    /// Few-shot examples before each item.
    pub shots: Shots,
    /// Apply the chat template also where a task's prompt is plain text.
    pub chat: bool,
    /// Most tokens of a response; 0 for each task's own number.
    pub max_new_tokens: usize,
    /// Run the programs that the model writes, apart from the machine as far as it allows.
    pub allow_code_execution: bool,
}

/// Reasoning before answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reasoning {
    /// The two texts between which the model reasons; empty for those that its tokenizer or template knows.
    pub markers: Vec<String>,
    /// Most tokens of reasoning before an answer of a task; without the key, no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_thinking_tokens: Option<usize>,
}

impl Reasoning {
    /// The markers, where they are given.
    pub fn markers(&self) -> Option<ReasoningMarkers> {
        match self.markers.as_slice() {
            [open, close] => Some(ReasoningMarkers::new(open, close)),
            _ => None,
        }
    }
}

/// Numbers of few-shot examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a number, \"own\", or a table of numbers by task, such as { gsm8k = 8 }")]
pub enum Shots {
    /// So many for each task.
    Number(usize),
    /// What each task's file says.
    Own(OwnShots),
    /// So many for the tasks and groups that are named, and what their files say for the others.
    Each(BTreeMap<String, usize>),
}

/// The word for each task's own number of few-shot examples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OwnShots {
    /// `"own"`
    Own,
}

impl Shots {
    /// The number for all tasks, where there is one.
    pub fn number(&self) -> Option<usize> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Own(_) | Self::Each(_) => None,
        }
    }

    /// The number that a task is given by its name, or else by a word that names it and others.
    pub(crate) fn of(&self, task: &Member) -> Option<usize> {
        let Self::Each(numbers) = self else { return None };
        let by_name = numbers.get(&task.entry.name);
        by_name.or_else(|| numbers.iter().find(|(word, _)| task.is_named(word)).map(|(_, number)| number)).copied()
    }
}

/// How tokens of answers are chosen: greedily, or drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnswerSampling {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f64,
    /// Draw from the so many most probable tokens; 0 for all.
    pub top_k: usize,
    /// Draw from the most probable tokens whose probabilities sum to this.
    pub top_p: f64,
    /// Answers to each item; its score is their mean.
    pub samples: usize,
    /// Seeds the draws; without it, the study's seed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

impl Default for AnswerSampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, samples: 1, seed: None }
    }
}

impl AnswerSampling {
    /// The same for the engine.
    pub fn sampling(&self) -> Sampling {
        if self.temperature == 0.0 {
            return Sampling::Greedy;
        }
        let (top_k, top_p) = (Some(self.top_k).filter(|k| *k > 0), Some(self.top_p).filter(|p| *p != 1.0));
        Sampling::Sample { temperature: self.temperature, top_k, top_p }
    }
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            data_root: String::new(),
            shots: Shots::Own(OwnShots::Own),
            chat: false,
            max_new_tokens: 0,
            allow_code_execution: false,
        }
    }
}

/// Healing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heal {
    /// Depths to heal; empty for none.
    pub depths: Vec<usize>,
    /// Where prompts come from: `tasks` for the tasks' training splits, a file of rows, or a data set of the hub.
    pub data: String,
    /// Split of a data set; empty for `train`.
    pub split: String,
    /// Configuration of a data set; empty for its only one.
    pub config: String,
    /// Column of the prompts; empty for those that are known by their names.
    pub column: String,
    /// Column of the reference answers; empty for those that are known by their names.
    pub answer_column: String,
    /// Prompts the uncut model answers, over all tasks together.
    pub prompts: usize,
    /// Longest answer, in tokens; 0 for the longest that a task allows, or 1024 with prompts from a file.
    pub max_new_tokens: usize,
    /// Sampling temperature of the answers.
    pub temperature: f64,
    /// Nucleus of the answers.
    pub top_p: f64,
    /// Answers to each prompt, each drawn with its own seed.
    pub samples: usize,
    /// Which of them are learned, as far as tasks can grade them.
    pub keep: KeepAnswers,
    /// What is left out of the answers.
    pub filters: DataFilters,
    /// Seeds of the finetuning, of which the first is what the budget is about.
    pub seeds: HealSeeds,
    /// Heal every depth also on the data's reference answers.
    pub control: bool,
    /// The finetuning recipe.
    pub recipe: HealRecipe,
}

/// Which answers are learned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepAnswers {
    /// All of them.
    #[default]
    All,
    /// None that the grader of its prompt's task finds wrong.
    Verified,
}

impl KeepAnswers {
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// The cheap bundle that is read of every cut before it is measured in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sentinels {
    /// Whether a strategy that is not the main one ends at the depth where nothing is left.
    pub stop: bool,
    /// By how much classification's retention may exceed generation's before the alarm is raised.
    pub gap: f64,
}

/// Speed next to quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpeedSettings {
    /// Measure how fast the uncut model and the cuts of the main strategy read and generate.
    pub measure: bool,
}

impl Default for SpeedSettings {
    fn default() -> Self {
        Self { measure: true }
    }
}

/// The depth budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Retentions to keep.
    pub thresholds: Vec<f64>,
    /// One question, such as `gsm8k>=0.9`: the study ends once it is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
}

impl Budget {
    /// The goal, where there is one.
    ///
    /// # Errors
    /// A [`Fault`] for one that cannot be read.
    pub(crate) fn parsed_goal(&self) -> Result<Option<Goal>, Fault> {
        self.goal.as_deref().map(str::parse).transpose()
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: POCKET.into(),
            preset: None,
            seed: 0,
            items: Items::default(),
            tasks: Tasks::default(),
            rows: Rows::default(),
            template: BTreeMap::new(),
            reasoning: Reasoning::default(),
            sampling: AnswerSampling::default(),
            cuts: Cuts::default(),
            heal: Heal::default(),
            sentinels: Sentinels::default(),
            speed: SpeedSettings::default(),
            budget: Budget::default(),
        }
    }
}

impl Default for Sentinels {
    fn default() -> Self {
        Self { stop: true, gap: GAP_THRESHOLD }
    }
}

impl Default for Items {
    fn default() -> Self {
        Self { report: 120, select: 48, calibration: 128 }
    }
}

impl Default for Tasks {
    fn default() -> Self {
        // Both names are those of groups that are there.
        let of = |group| expand(&[group]).unwrap_or_default();
        Self { classification: of("pocket_classification"), generative: of("pocket_generative") }
    }
}

impl Default for Heal {
    fn default() -> Self {
        Self {
            depths: vec![5, 6, 7, 8, 9],
            data: TASKS.into(),
            split: String::new(),
            config: String::new(),
            column: String::new(),
            answer_column: String::new(),
            prompts: 2000,
            max_new_tokens: 0,
            temperature: 0.9,
            top_p: 0.95,
            samples: 1,
            keep: KeepAnswers::default(),
            filters: DataFilters::default(),
            seeds: HealSeeds::default(),
            control: false,
            recipe: HealRecipe::for_pocket(Method::Lora),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { thresholds: vec![0.9], goal: None }
    }
}

impl Recipe {
    /// The recipe as a study file.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("a recipe cannot be written as TOML")
    }

    /// Which items of `split` are evaluated.
    pub fn item_selection(&self, split: Split) -> ItemSelection {
        let limit = if split == Split::Select { self.items.select } else { self.items.report };
        ItemSelection::new(split, limit, self.seed)
    }

    /// What tasks have of their own among the items of `split`, by name: few-shot examples, and the members of a pooled
    /// task an even part of its items, at least one each.
    pub fn task_settings(&self, tasks: &StudyTasks, split: Split) -> BTreeMap<String, TaskSettings> {
        let limit = self.item_selection(split).limit;
        let settings = |member: &Member| {
            let members = tasks.members_of(&member.counts_as);
            let limit = (members > 1).then(|| limit.div_ceil(members));
            (member.entry.name.clone(), TaskSettings { shots: self.rows.shots.of(member), limit })
        };
        tasks.members.iter().map(settings).collect()
    }

    /// How their answers are produced; greedily unless the file says otherwise, so that a score has no sampling noise.
    pub fn generation_policy(&self) -> GenerationPolicy {
        GenerationPolicy {
            max_new_tokens: Some(self.rows.max_new_tokens).filter(|length| *length > 0),
            sampling: self.sampling.sampling(),
            sampling_seed: self.sampling.seed.unwrap_or(self.seed),
            responses: self.sampling.samples,
            shots: self.rows.shots.number(),
            chat_template: self.rows.chat,
            template_variables: self.template.clone(),
            reasoning_markers: self.reasoning.markers(),
            max_thinking_tokens: self.reasoning.max_thinking_tokens,
            ..GenerationPolicy::default()
        }
    }
}
