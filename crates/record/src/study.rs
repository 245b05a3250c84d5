//! The record of a whole study: `study.json` in its directory, written from the cells and all that
//! the report reads.
//!
//! Every field has a default and an unknown field is ignored, so that the record of an interrupted
//! study, or one of another version, still gives a report. Parts that were not reached are empty.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Context, Fault, Result, finite, write_atomic};

mod budget;
mod diagnosis;
mod healing;
mod measured;
mod search;
mod speed;

pub use budget::{BudgetDepth, BudgetLine, ItemsNeeded, Scope, Verdict};
pub use diagnosis::{
    Arithmetic, Brackets, Cause, Degeneration, Diagnosis, GapAlarm, Ledger, LedgerEntry, Mean, Programs, Reasoning,
    SentinelReading, StoppedBranch,
};
pub use healing::{AnswerCounts, CheckedAnswers, FEW_STEPS, HealInfo, HealingRole};
pub use measured::{AblatedLayer, Answer, GroupResult, Point, Sample, TaskResult};
pub use search::{ObjectiveTasks, SearchRecord, SearchedCut};
pub use speed::{Speed, SpeedAtBatch};

/// Version of this layout; a change that older readers would misread raises it.
pub const SCHEMA: u32 = 1;
/// Name of the record in a study directory.
pub const STUDY_FILE: &str = "study.json";
/// The group of tasks scored by log-likelihood.
pub const CLASSIFICATION: &str = "classification";
/// The group of tasks scored on generated text.
pub const GENERATIVE: &str = "generative";

/// Everything a report says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StudyRecord {
    /// [`SCHEMA`] when it was written.
    pub schema: u32,
    /// Version of Lopper.
    pub lopper_version: String,
    /// Whether every stage finished.
    pub complete: bool,
    /// The command that repeats the study.
    pub command: String,
    /// The model that was studied.
    pub model: ModelCard,
    /// The resolved study file.
    pub recipe: Value,
    /// How answers were produced: length, stops, sampling, few-shot examples, template variables.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub policy: Value,
    /// Every seed with its use.
    pub seeds: Vec<Seed>,
    /// How items were split, in sentences.
    pub splits: Vec<String>,
    /// The tasks, in the order to show them.
    pub tasks: Vec<TaskMeta>,
    /// The uncut model.
    pub base: Option<Point>,
    /// The strategy that the headline and the main chart are about.
    pub main_strategy: String,
    /// The tasks that layers and strategies were chosen by; none where all were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objective: Option<ObjectiveTasks>,
    /// Layer scores of each criterion.
    pub criteria: Vec<Criterion>,
    /// What searches found.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub searches: Vec<SearchRecord>,
    /// The uncut model on the items that single-layer removals are measured on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ablation_base: Option<Diagnosis>,
    /// Every single-layer removal, by layer.
    pub ablation: Vec<AblatedLayer>,
    /// Every cut that was measured, before and after healing.
    pub points: Vec<Point>,
    /// The same prompt answered by the uncut, the cut and the healed model.
    pub samples: Vec<Sample>,
    /// Items that a cut lost or gained, a few for each cause.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ledger: Vec<LedgerEntry>,
    /// Strategies that the sentinels ended early.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stopped: Vec<StoppedBranch>,
    /// The depth budget.
    pub budget: Vec<BudgetLine>,
    /// Cuts to which a smaller one is to be preferred, since it keeps as much and answers as fast; a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub better_buys: Vec<String>,
    /// Where the time went.
    pub timings: Vec<Timing>,
    /// What the reader should know before trusting a number.
    pub warnings: Vec<String>,
}

impl StudyRecord {
    /// Reads `DIR/study.json`.
    ///
    /// # Errors
    /// A [`Fault`] when it is missing, malformed or of a newer layout.
    pub fn read(directory: &Path) -> Result<Self> {
        let path = directory.join(STUDY_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                return Err(Fault::new("there is no study to report on")
                    .file(&path)
                    .got(error.to_string())
                    .hint("give the directory that `lopper study --out` wrote")
                    .into());
            }
        };
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| {
            Fault::new("the study's record cannot be read")
                .file(&path)
                .got(error.to_string())
                .hint("run the study again; its finished cells are kept")
        })?;
        if record.schema > SCHEMA {
            return Err(Fault::new("the study's record was written by a newer version")
                .file(&path)
                .expected(format!("layout {SCHEMA} or older"))
                .got(format!("layout {} from lopper {}", record.schema, record.lopper_version))
                .hint("update lopper")
                .into());
        }
        Ok(record)
    }

    /// Writes `DIR/study.json` whole or not at all.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).context("the study's record cannot be written as JSON")?;
        write_atomic(&directory.join(STUDY_FILE), &bytes)
    }

    /// The first answer of each group of tasks about the main strategy, as cut and healed: that of the worst task.
    /// Records of before have one answer for each group.
    pub fn headlines(&self) -> Vec<&BudgetLine> {
        let of_main: Vec<&BudgetLine> = self.budget.iter().filter(|line| line.strategy == self.main_strategy).collect();
        let first: Vec<&BudgetLine> = of_main.iter().copied().filter(|line| line.headline).collect();
        if first.is_empty() { of_main } else { first }
    }

    /// The sentence of a budget.
    pub fn statement(&self, line: &BudgetLine) -> String {
        match line.statement.as_str() {
            "" => line.sentence(Some(self.model.num_layers).filter(|layers| *layers > 0)),
            statement => statement.to_owned(),
        }
    }

    /// The groups of the tasks, in their order.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for task in &self.tasks {
            if !groups.contains(&task.group.as_str()) {
                groups.push(&task.group);
            }
        }
        groups
    }

    /// The strategies of the points, the main one first, the others in their order.
    pub fn strategies(&self) -> Vec<&str> {
        let mut strategies: Vec<&str> = Vec::new();
        if self.points.iter().any(|point| point.strategy == self.main_strategy) {
            strategies.push(&self.main_strategy);
        }
        for point in &self.points {
            if !strategies.contains(&point.strategy.as_str()) {
                strategies.push(&point.strategy);
            }
        }
        strategies
    }
}

/// What was studied.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// As the user named it.
    pub name: String,
    /// Hash over weights and configuration.
    pub hash: String,
    /// Architecture, such as `llama`.
    pub family: String,
    /// Decoder layers.
    pub num_layers: usize,
    /// Parameters in all.
    pub parameters: u64,
    /// Parameters of each layer.
    pub parameters_per_layer: Vec<u64>,
    /// Width of the hidden state.
    pub hidden_size: usize,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Type of the stored weights, such as `bf16`.
    pub dtype: String,
}

/// A seed with its use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// What it seeds.
    pub name: String,
    /// The seed.
    pub value: u64,
}

/// A task as far as a reader of scores needs to know it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TaskMeta {
    /// Unique name.
    pub name: String,
    /// [`CLASSIFICATION`], [`GENERATIVE`] or a finer group.
    pub group: String,
    /// One sentence: what is asked and how it is scored.
    pub description: String,
    /// The score that is shown, such as `acc`.
    pub metric: String,
    /// Version of the task's definition.
    pub version: String,
    /// Items whose scores are shown.
    pub n_report: usize,
    /// Items that chose the layers.
    pub n_select: usize,
    /// The score of a guess, where that is known.
    pub chance: Option<f64>,
}

/// One criterion's view of the layers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Criterion {
    /// Name as the command line has it.
    pub name: String,
    /// Name for a reader.
    pub title: String,
    /// One value per layer; NaN where it is not defined.
    #[serde(with = "finite::list")]
    pub values: Vec<f64>,
    /// How to read it, and over what it was measured.
    pub note: String,
}

/// Wall time of a stage.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// The stage.
    pub stage: String,
    /// Its time when it was computed.
    #[serde(with = "finite")]
    pub seconds: f64,
    /// Cells it is made of.
    pub cells: usize,
    /// How many of these an earlier run had finished.
    pub cached: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Retention, Score};

    #[test]
    fn an_empty_record_is_readable_and_a_newer_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(StudyRecord::read(dir.path()).unwrap_err().fault().is_some());
        fs::write(dir.path().join(STUDY_FILE), "{\"future_field\": 1}").unwrap();
        assert_eq!(StudyRecord::read(dir.path()).unwrap(), StudyRecord::default());
        fs::write(dir.path().join(STUDY_FILE), "{\"schema\": 99}").unwrap();
        assert!(StudyRecord::read(dir.path()).unwrap_err().to_string().contains("newer"));
        fs::write(dir.path().join(STUDY_FILE), "{\"sch").unwrap();
        assert!(StudyRecord::read(dir.path()).unwrap_err().fault().is_some());
    }

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = StudyRecord { schema: SCHEMA, main_strategy: "bi".into(), ..Default::default() };
        let retention = Some(Retention::uncut(5));
        record.points.push(Point {
            strategy: "reverse".into(),
            removed: 2,
            dropped: [3, 4].into(),
            healed: Some(HealInfo { method: "lora".into(), ..Default::default() }),
            groups: vec![GroupResult {
                group: GENERATIVE.into(),
                score: Score { value: 0.5, stderr: 0.1, ci95: [0.3, 0.7], n: 5 },
                retention,
                corrected: retention,
            }],
            ..Default::default()
        });
        record.points.push(Point { strategy: "bi".into(), ..Default::default() });
        record.write(dir.path()).unwrap();
        let back = StudyRecord::read(dir.path()).unwrap();
        assert_eq!(back, record);
        assert_eq!(back.strategies(), ["bi", "reverse"]);
    }
}
