//! Tasks over rows of data sets: what a TOML file says a task is, and everything that turns it and
//! rows into requests, and replies into grades.
//!
//! - [`spec`]: the file's form; [`syntax`]: templates that cannot be compiled; [`builtin`]: the files that come with
//!   Lopper, and reading a user's;
//! - [`template`]: Jinja over a row; [`prompt`]: the turns of a prompt, few-shot examples among them;
//! - [`items`]: from rows to items, bad rows named; [`prompt_tokens`]: from items to tokens;
//! - [`training`]: rows to learn from;
//! - [`grade`]: from replies to grades; [`code`]: running what a model wrote; [`sanitize`]: the program in a response.
//!
//! Prompts, few-shot examples and comparisons follow lm-evaluation-harness 0.4.13 where it has the task.

pub(crate) mod builtin;
pub(crate) mod code;
pub(crate) mod grade;
pub(crate) mod items;
pub(crate) mod prompt;
pub(crate) mod prompt_tokens;
pub(crate) mod sanitize;
pub(crate) mod spec;
pub(crate) mod syntax;
pub(crate) mod template;
pub(crate) mod training;
