//! What was measured of each model: the uncut one, each cut and each healed one.

use serde::{Deserialize, Serialize};

use super::diagnosis::{Diagnosis, GapAlarm};
use super::healing::{HealInfo, HealingRole};
use super::speed::Speed;
use crate::{LayerSet, Retention, Score};

/// The model without one layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AblatedLayer {
    /// The layer that was removed.
    pub layer: usize,
    /// The objective that layers are ranked by: the mean over groups of the mean over each group's tasks of the score
    /// divided by the uncut model's. Tasks on which the uncut model scores 0 are left out; none where that is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_mean_retention: Option<f64>,
    /// Scores by task.
    pub tasks: Vec<TaskResult>,
    /// What broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
}

/// A model's score on a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskResult {
    /// Name of the task.
    pub task: String,
    /// The score.
    pub score: Score,
    /// The mean score of guessing on its items; absent where a guess scores nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// Cut ÷ uncut score; absent for the uncut model itself and where it scored nothing.
    pub retention: Option<Retention>,
    /// Retention above chance, (cut − chance) ÷ (uncut − chance): what is judged. The same as `retention` where a guess
    /// scores nothing; absent where the uncut model is not shown to do better than guessing.
    pub corrected: Option<Retention>,
}

impl TaskResult {
    /// Whether the score may be that of guessing: its 95 % interval includes it, or ends below.
    pub fn is_at_chance(&self) -> bool {
        self.chance.is_some_and(|chance| self.score.ci95[0] <= chance)
    }
}

/// A model's score on a group of tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupResult {
    /// Name of the group.
    pub group: String,
    /// Mean over the group's tasks.
    pub score: Score,
    /// Mean of the tasks' retentions, cut ÷ uncut score.
    pub retention: Option<Retention>,
    /// Mean of the tasks' retentions above chance, which is what is judged; over the tasks that have one.
    pub corrected: Option<Retention>,
}

/// One model that was measured: a cut, healed or not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Point {
    /// How the layers were chosen.
    pub strategy: String,
    /// How many layers were removed.
    pub removed: usize,
    /// Which, in the original numbering.
    pub dropped: LayerSet,
    /// How it was healed, if it was.
    pub healed: Option<HealInfo>,
    /// Scores by task.
    pub tasks: Vec<TaskResult>,
    /// Scores by group.
    pub groups: Vec<GroupResult>,
    /// Perplexity on held-out text.
    pub perplexity: Option<f64>,
    /// Its 95 % interval, from the texts, not their tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perplexity_ci95: Option<[f64; 2]>,
    /// Parameters left.
    pub parameters: Option<u64>,
    /// What broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<Diagnosis>,
    /// Raised where classification hides what generation has lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapAlarm>,
    /// How large and how fast it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
}

impl Point {
    /// The result on a task.
    pub fn task(&self, name: &str) -> Option<&TaskResult> {
        self.tasks.iter().find(|result| result.task == name)
    }

    /// The result on a group.
    pub fn group(&self, name: &str) -> Option<&GroupResult> {
        self.groups.iter().find(|result| result.group == name)
    }

    /// Whether it counts for the depth budget as far as healing goes: it is not healed, or it is neither a healing with
    /// another seed nor a control.
    pub fn is_main_healing(&self) -> bool {
        self.healed.as_ref().is_none_or(|healed| healed.role == HealingRole::Main)
    }
}

/// One prompt and three models' answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// Name of the task.
    pub task: String,
    /// The prompt.
    pub prompt: String,
    /// The right answer.
    pub target: String,
    /// The uncut model's answer.
    pub base: Option<Answer>,
    /// The cut model's answer.
    pub cut: Option<Answer>,
    /// The healed model's answer.
    pub healed: Option<Answer>,
}

/// What a model wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// Layers removed from the model.
    pub removed: usize,
    /// What the model thought before it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// The text as generated, after the thought.
    pub text: String,
    /// Whether it was scored as right.
    pub correct: bool,
}
