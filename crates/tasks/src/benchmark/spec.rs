//! The form of a task's file.
//!
//! A task is data: where its rows come from, how a prompt is made of one (Jinja), and what is
//! compared. The meaning of every key is in `docs/reference/task-file.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lopper_pocket::Group;
use lopper_record::Fault;
use serde::Deserialize;

use lopper_answer::extract::{ChoiceFilter, ExactMatchSettings};
use lopper_rows::{DataRoot, SplitFiles};

/// A task's file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The name, as users write it.
    pub name: String,
    /// Raised when results stop being comparable.
    pub version: u32,
    /// The group it counts towards.
    pub group: Group,
    /// What it measures, in a line.
    pub description: String,
    /// What guessing scores.
    pub chance: Option<f64>,
    /// The task of lm-evaluation-harness that it follows.
    pub follows: Option<String>,
    /// Other names that stand for this task and others.
    #[serde(default)]
    pub tags: Vec<String>,
    pub rows: RowsSpec,
    #[serde(default)]
    pub shots: ShotsSpec,
    pub prompt: PromptSpec,
    /// Of multiple choice.
    pub choices: Option<ChoicesSpec>,
    /// Of generated answers.
    pub generate: Option<GenerateSpec>,
    /// How generated answers are judged.
    pub answer: Option<AnswerSpec>,
    /// Tasks that differ in their configuration only, by the name of their category: the file then
    /// stands for `NAME_MEMBER` of each.
    #[serde(default)]
    pub members: BTreeMap<String, Vec<String>>,
    /// The file itself, for messages; none for those that come with Lopper.
    #[serde(skip)]
    pub path: Option<PathBuf>,
    /// The file's text.
    #[serde(skip)]
    pub source: String,
    /// The member that this is, and its category.
    #[serde(skip)]
    pub member: Option<(String, String)>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowsSpec {
    /// `organisation/name` of the hub, and of the data root; not needed where `files` has the splits.
    pub data_set: Option<String>,
    #[serde(default = "default_config")]
    pub config: String,
    /// Splits whose rows are its items: the first that is there.
    pub splits: Vec<String>,
    /// Files instead of a data set's, by split; relative to the task's file.
    #[serde(default)]
    pub files: BTreeMap<String, PathBuf>,
    /// Columns that each row must have.
    pub columns: BTreeMap<String, ColumnType>,
    /// Columns that make two rows the same question.
    pub identity: Vec<String>,
    /// An expression that tells which rows belong to the task, few-shot examples among them; none: all.
    pub only: Option<String>,
    /// Choices that are put into an order of each row's own.
    pub shuffle: Option<ShuffleSpec>,
}

/// Choices in an order that is drawn for each row. Rows then have two more columns: `choices`, and `right`, the index
/// of the right one (of equal ones the first).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShuffleSpec {
    /// A template for each choice.
    pub choices: Vec<String>,
    /// Which of them is right.
    pub right: usize,
    /// The seed of Python's generator, which shuffles the choices of one row after the other.
    #[serde(default)]
    pub seed: u32,
}

impl RowsSpec {
    /// The data set and its configuration, or the files.
    pub fn summary(&self) -> String {
        match &self.data_set {
            Some(data_set) => format!("{data_set}/{}", self.config),
            None => self.files.values().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", "),
        }
    }
}

fn default_config() -> String {
    "default".to_owned()
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Text,
    Integer,
    /// A list of texts.
    Texts,
    /// Texts with labels: `{"text": […], "label": […]}`.
    LabelledTexts,
    /// Anything, and may be missing.
    Any,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShotsSpec {
    /// Splits that few-shot examples come from: the first that is there. None: those of the items.
    pub splits: Vec<String>,
    /// How many, unless the policy says otherwise.
    pub number: usize,
    pub choose: Choose,
    /// Draw one more and leave the item itself out, as lm-evaluation-harness does where both splits are
    /// the same (or neither is named).
    pub without_item: bool,
}

/// Which rows become few-shot examples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choose {
    /// Drawn anew for each item, by Python's generator with seed 1234.
    #[default]
    Sample,
    /// The first ones.
    First,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptSpec {
    /// What comes first of all.
    #[serde(default)]
    pub description: String,
    /// The question; not where choices are contexts.
    #[serde(default)]
    pub question: String,
    /// The answer as a few-shot example shows it; with `choices`, the right one unless given.
    pub answer: Option<String>,
    /// Between question and answer.
    #[serde(default = "space")]
    pub delimiter: String,
    /// After a few-shot example.
    #[serde(default = "blank_line")]
    pub between: String,
    /// Always ask in the model's chat template.
    #[serde(default)]
    pub conversation: bool,
    /// Variables for the chat template; those of the run come before them.
    #[serde(default)]
    pub variables: BTreeMap<String, serde_json::Value>,
}

fn space() -> String {
    " ".to_owned()
}

fn blank_line() -> String {
    "\n\n".to_owned()
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChoicesSpec {
    /// An expression that gives the list.
    pub list: String,
    /// A template for each, which is then `choice`.
    pub each: Option<String>,
    /// An expression that gives the index of the right one.
    pub label: String,
    /// Whether choices are alternative contexts of one answer (partial evaluation, as WinoGrande's)
    /// rather than alternative answers.
    #[serde(default)]
    pub contexts: bool,
    /// Whether choices differ in length, so that `acc_norm` says something.
    #[serde(default = "yes")]
    pub norm: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    pub max_new_tokens: usize,
    #[serde(default)]
    pub until: Vec<String>,
    /// Most tokens of thought, where the policy has no number.
    pub max_thinking_tokens: Option<usize>,
    /// Between which texts a model reasons, where the policy does not say.
    pub reasoning_markers: Option<[String; 2]>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerSpec {
    pub check: Check,
    /// The reference.
    pub target: String,
    /// Of `text`: how the answer is read, the first for `exact_match`.
    #[serde(default)]
    pub readings: Vec<Reading>,
    /// Of `text`: what is ignored.
    #[serde(default)]
    pub ignore: ExactMatchSettings,
    /// Of `program` and `value`: the program; `response` is what was generated, `block` its block
    /// of Python, or else all of it, and, with `entry`, `sanitized` the code that defines the names.
    pub program: Option<String>,
    /// Of `program` and `value`: a text whose names are what the tests call; the response is then
    /// read as EvalPlus reads it.
    pub entry: Option<String>,
    /// Of `program`: the tests.
    pub tests: Option<String>,
    /// Of `value`: the expression whose value is the answer.
    pub value: Option<String>,
    /// Of `instructions`: where a row has them.
    pub instructions: Option<InstructionsSpec>,
    /// Packages of Python that the tests import.
    #[serde(default)]
    pub needs: Vec<String>,
}

/// Columns that say what a response has to follow.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionsSpec {
    /// The column with the instructions' names.
    pub names: String,
    /// The column with an object of arguments for each.
    pub arguments: String,
}

/// How a generated answer is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Equal texts, after filters.
    Text,
    /// Equal mathematics.
    Math,
    /// Equal texts once LaTeX is normalised, as lm-evaluation-harness's AIME tasks compare them.
    Normalized,
    /// A program that passes its tests.
    Program,
    /// A program whose value is equal mathematics.
    Value,
    /// ROUGE.
    Rouge,
    /// Instructions that a program can check, as IFEval has them.
    Instructions,
}

/// One way of reading an answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The metric that it gives.
    pub metric: String,
    /// What lm-evaluation-harness calls the filter.
    pub filter: Option<String>,
    pub pattern: String,
    #[serde(default)]
    pub group_select: isize,
    /// An expression that gives the choices, whose texts (and then letters after a colon) are looked for where the
    /// pattern finds nothing.
    pub choices: Option<String>,
    /// With `choices`: what is ignored where their texts are looked for.
    #[serde(default)]
    pub ignore: ExactMatchSettings,
}

/// IFEval's metrics: whether all instructions of a prompt are followed, and the share of all prompts' instructions.
pub(crate) const INSTRUCTION_METRICS: [&str; 4] =
    ["prompt_level_strict_acc", "inst_level_strict_acc", "prompt_level_loose_acc", "inst_level_loose_acc"];

/// Largest file of a task.
const MOST_BYTES: usize = 1 << 20;

impl Spec {
    /// Reads a file's text; `path` names it in faults.
    pub fn parse(source: &str, path: Option<&Path>) -> Result<Vec<Self>, Fault> {
        let at = |fault: Fault| match path {
            Some(path) => fault.file(path),
            None => fault,
        };
        if source.len() > MOST_BYTES {
            return Err(at(Fault::new("the task's file is too large")
                .expected(format!("at most {MOST_BYTES} bytes"))
                .got(source.len().to_string())));
        }
        let mut spec: Self = toml::from_str(source).map_err(|error| {
            at(Fault::new("the task's file cannot be read").got(error.to_string().trim_end().to_owned()).hint(
                "`lopper tasks show arc_easy` prints one to begin with; docs/reference/task-file.md has every key",
            ))
        })?;
        spec.path = path.map(Path::to_path_buf);
        spec.source = source.to_owned();
        spec.check().and_then(|()| super::syntax::check(&spec)).map_err(at)?;
        Ok(spec.spelt_out())
    }

    fn check(&self) -> Result<(), Fault> {
        let fault = |message: &str, got: String| {
            Err(Fault::new(format!("task `{}`: {message}", self.name)).got(got).hint("docs/reference/task-file.md"))
        };
        let word = |name: &str| {
            !name.is_empty() && name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        };
        if !word(&self.name) {
            return fault("a name has letters, digits, `_`, `-` and `.`", format!("{:?}", self.name));
        }
        if self.version == 0 {
            return fault("versions begin with 1", "0".into());
        }
        if self.chance.is_some_and(|chance| !(0.0..1.0).contains(&chance)) {
            return fault("`chance` is a share", format!("{:?}", self.chance));
        }
        if self.rows.splits.is_empty() || self.rows.identity.is_empty() {
            return fault("`rows.splits` and `rows.identity` name at least one each", "none".into());
        }
        let shots = Some(&self.shots.splits).filter(|splits| self.shots.number > 0 && !splits.is_empty());
        let in_files = |splits: &[String]| splits.iter().any(|split| self.rows.files.contains_key(split));
        let missing = [&self.rows.splits].into_iter().chain(shots).find(|splits| !in_files(splits));
        if let (None, Some(splits)) = (&self.rows.data_set, missing) {
            let wanted = format!("neither `rows.data_set` nor a file of `{}`", splits.join("` or `"));
            return fault("rows come from `rows.data_set`, or from `rows.files`, by split", wanted);
        }
        if let Some(shuffle) = &self.rows.shuffle {
            if shuffle.choices.len() < 2 || shuffle.right >= shuffle.choices.len() {
                let got = format!("{} choices, of which number {} is right", shuffle.choices.len(), shuffle.right);
                return fault("`rows.shuffle` has two choices or more, and `right` is one of them, from 0", got);
            }
            if let Some(column) = ["choices", "right"].iter().find(|name| self.rows.columns.contains_key(**name)) {
                return fault("`rows.shuffle` makes the columns `choices` and `right`", format!("a column `{column}`"));
            }
        }
        if let Some(column) = self.rows.identity.iter().find(|name| !self.rows.columns.contains_key(*name)) {
            return fault("`rows.identity` names columns of `rows.columns`", column.clone());
        }
        match (&self.choices, &self.generate, &self.answer) {
            (Some(choices), None, None) => {
                if choices.contexts && self.prompt.answer.is_none() {
                    return fault("choices that are contexts need `prompt.answer`, which follows each", "none".into());
                }
                if !choices.contexts && self.prompt.question.is_empty() {
                    return fault("`prompt.question` is what is asked", "none".into());
                }
            }
            (None, Some(generate), Some(answer)) => {
                if self.prompt.question.is_empty() || generate.max_new_tokens == 0 {
                    return fault("a question and at least one new token are needed", "neither or one".into());
                }
                self.check_answer(answer)?;
            }
            _ => {
                return fault("a task has `[choices]`, or `[generate]` and `[answer]`", "another combination".into());
            }
        }
        Ok(())
    }

    fn check_answer(&self, answer: &AnswerSpec) -> Result<(), Fault> {
        let fault = |message: &str| {
            Err(Fault::new(format!("task `{}`: {message}", self.name)).hint("docs/reference/task-file.md"))
        };
        match answer.check {
            Check::Text => {
                if answer.readings.is_empty() {
                    return fault("a check of `text` needs `answer.readings`");
                }
                for reading in &answer.readings {
                    ChoiceFilter::new(&reading.pattern, reading.group_select, reading.ignore.clone())?;
                    if reading.choices.is_none() && reading.ignore != ExactMatchSettings::default() {
                        return fault("`ignore` of a reading belongs to its `choices`");
                    }
                    if reading.ignore.ignore_numbers {
                        return fault("`ignore` of a reading has no `ignore_numbers`");
                    }
                }
                lopper_answer::extract::ExactMatch::new(answer.ignore.clone())?;
            }
            Check::Program if answer.program.is_none() || answer.tests.is_none() => {
                return fault("a check of `program` needs `answer.program` and `answer.tests`");
            }
            Check::Instructions => {
                let columns = answer.instructions.as_ref().map(|columns| [&columns.names, &columns.arguments]);
                if columns.is_none_or(|columns| columns.iter().any(|name| !self.rows.columns.contains_key(*name))) {
                    return fault("a check of `instructions` needs `answer.instructions`, columns of `rows.columns`");
                }
            }
            Check::Value if answer.program.is_none() || answer.value.is_none() => {
                return fault("a check of `value` needs `answer.program` and `answer.value`");
            }
            Check::Program | Check::Value => {}
            _ if answer.entry.is_some() => {
                return fault("`answer.entry` is for checks of `program` and `value`");
            }
            _ => {}
        }
        Ok(())
    }

    /// One for each member, or this one.
    fn spelt_out(self) -> Vec<Self> {
        if self.members.is_empty() {
            return vec![self];
        }
        let mut all = Vec::new();
        for (category, members) in &self.members {
            for member in members {
                let mut one = self.clone();
                one.name = format!("{}_{member}", self.name);
                one.follows = self.follows.as_ref().map(|name| format!("{name}_{member}"));
                // Members are configurations of the data set, or rows of one.
                if self.rows.only.is_none() {
                    one.rows.config = member.clone();
                }
                one.tags.push(self.name.clone());
                if !category.is_empty() {
                    one.tags.push(format!("{}_{category}", self.name));
                }
                one.member = Some((member.clone(), category.clone()));
                one.members.clear();
                all.push(one);
            }
        }
        all
    }

    /// Names that it is scored under together with others: the task it is a member of, and its category there.
    pub fn families(&self) -> Vec<String> {
        let Some((_, category)) = &self.member else { return vec![] };
        let family = self.tags.iter().filter(|tag| self.name.starts_with(tag.as_str()));
        let category = self.tags.iter().filter(|tag| !category.is_empty() && tag.ends_with(&format!("_{category}")));
        family.chain(category).cloned().collect()
    }

    /// Whether answers are programs.
    pub fn runs_code(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| matches!(answer.check, Check::Program | Check::Value))
    }

    /// The metrics' names, the primary one first.
    pub fn metrics(&self) -> Vec<String> {
        let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
        match (&self.choices, &self.answer) {
            (Some(choices), _) if choices.norm => names(&["acc", "acc_norm"]),
            (Some(_), _) => names(&["acc"]),
            (_, Some(answer)) => match answer.check {
                Check::Text => answer.readings.iter().map(|reading| reading.metric.clone()).collect(),
                Check::Math => names(&["exact_match", "flexible_match"]),
                Check::Program => names(&["pass@1"]),
                Check::Value | Check::Normalized => names(&["exact_match"]),
                Check::Rouge => names(&["rouge_l", "rouge_1", "rouge_2"]),
                Check::Instructions => names(&INSTRUCTION_METRICS),
            },
            (None, None) => vec![],
        }
    }

    /// The files of the first of `splits` that is there, and the split's name.
    pub fn files(&self, root: &DataRoot, splits: &[String]) -> lopper_record::Result<(String, SplitFiles)> {
        for split in splits {
            if let Some(file) = self.rows.files.get(split) {
                let directory = self.path.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
                return Ok((split.clone(), SplitFiles::local(vec![directory.join(file)])));
            }
        }
        let data_set = self.rows.data_set.as_deref().ok_or_else(|| {
            Fault::new(format!("task `{}` has no rows of the split `{}`", self.name, splits.join("` or `")))
                .expected("`rows.data_set`, or a file of that split in `rows.files`")
                .got("neither")
        })?;
        root.find(data_set, &self.rows.config, splits)
    }
}
