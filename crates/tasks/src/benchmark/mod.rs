//! Tasks over rows of data sets: what a TOML file says a task is, and everything that turns it and
//! rows into requests, and replies into grades.
//!
//! - [`spec`]: the file's form; [`builtin`]: the files that come with Lopper, and reading a user's;
//! - [`template`]: Jinja over a row; [`prompt`]: the turns of a prompt, worked examples among them;
//! - [`items`]: from rows to items, bad rows named; [`ask`]: from items to tokens;
//! - [`lessons`]: rows to learn from;
//! - [`grade`]: from replies to grades; [`code`]: running what a model wrote.
//!
//! Prompts, worked examples and comparisons follow lm-evaluation-harness 0.4.13 where it has the task.

pub(crate) mod ask;
pub(crate) mod builtin;
pub(crate) mod code;
pub(crate) mod grade;
pub(crate) mod items;
pub(crate) mod lessons;
pub(crate) mod prompt;
pub(crate) mod spec;
pub(crate) mod template;

use std::sync::Arc;

use crate::rows::DataRoot;
use code::CodeRunner;

/// How tasks over rows are asked, beyond what their files say. The default is what the files say, with
/// the data root that the environment names.
#[derive(Clone)]
pub struct BenchOptions {
    /// Where rows lie.
    pub data_root: DataRoot,
    /// Which rows are asked.
    pub rows: RowChoice,
    /// Most rows, where it is another number than that of generated items ([`crate::EvalOptions`]).
    pub row_limit: Option<usize>,
    /// Worked examples before each item; the task's own number where none is given.
    pub shots: Option<usize>,
    /// Ask in the model's chat template also where the task would ask in plain text.
    pub chat: bool,
    /// In conversation, worked examples are turns of their own rather than one message.
    pub multiturn: bool,
    /// What precedes a conversation, or a plain prompt.
    pub system: Option<String>,
    /// Responses to each generated item, each with its own seed.
    pub repeats: usize,
    /// Most tokens of a response; the task's own number where none is given.
    pub max_new_tokens: Option<usize>,
    /// Questions that do not fit into the model's context by themselves lose their beginning, as in
    /// lm-evaluation-harness, instead of being left out as bad rows.
    pub truncate_questions: bool,
    /// Runs programs that the model writes; tasks that need it are refused without.
    pub code: Option<Arc<CodeRunner>>,
}

/// Which rows of a benchmark are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowChoice {
    /// Those of the division in [`crate::EvalOptions`]: layers are chosen on some rows, and scores
    /// reported on others.
    #[default]
    Divided,
    /// All of them.
    All,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self {
            data_root: DataRoot::from_env(),
            rows: RowChoice::default(),
            row_limit: None,
            shots: None,
            chat: false,
            multiturn: true,
            system: None,
            repeats: 1,
            max_new_tokens: None,
            truncate_questions: false,
            code: None,
        }
    }
}
