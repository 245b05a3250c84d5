//! Arguments of `lopper heal` that leave examples out.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use lopper_heal::{DataFilters, Duplicates, OverlapCheck};

use super::GENERATED_ITEMS;

/// Which usable examples are left out.
#[derive(Debug, Args)]
#[command(next_help_heading = "Examples to leave out")]
pub struct FilterArgs {
    /// Leave out examples that are the same as one before: with the same tokens, or nearly the same words and the same
    /// numbers
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = DeduplicateArg::Exact)]
    pub deduplicate: DeduplicateArg,

    /// Learn repetitive answers, too: those with the same tokens at least four times in a row, 48 or more together
    #[arg(long)]
    pub keep_repetitive: bool,

    /// Leave out examples with fewer than N tokens of answers, end tokens included
    #[arg(long, value_name = "N")]
    pub min_answer_tokens: Option<NonZeroUsize>,

    /// Leave out examples with more than N tokens of answers
    #[arg(long, value_name = "N")]
    pub max_answer_tokens: Option<NonZeroUsize>,

    #[arg(long, value_name = "TASK|FILE", value_delimiter = ',', help = format!(
        "Leave out examples in which an evaluated item is: of these tasks, groups or task files (of generated tasks the \
         first {GENERATED_ITEMS} of each split that `lopper eval` takes), or of files of rows"
    ))]
    pub decontaminate: Vec<String>,

    /// What counts as overlap with an evaluated item
    #[arg(long, value_enum, default_value_t = OverlapArg::Ngram, requires = "decontaminate")]
    pub overlap: OverlapArg,
}

impl FilterArgs {
    /// The same as settings.
    pub fn settings(&self) -> DataFilters {
        let number = |given: Option<NonZeroUsize>| given.map_or(0, NonZeroUsize::get);
        DataFilters {
            duplicates: match self.deduplicate {
                DeduplicateArg::Exact => Duplicates::Exact,
                DeduplicateArg::Near => Duplicates::Near,
                DeduplicateArg::None => Duplicates::Keep,
            },
            repetitive: !self.keep_repetitive,
            min_answer_tokens: number(self.min_answer_tokens),
            max_answer_tokens: number(self.max_answer_tokens),
            overlap: match (self.decontaminate.is_empty(), self.overlap) {
                (true, _) => OverlapCheck::None,
                (_, OverlapArg::Ngram) => OverlapCheck::Ngram,
                (_, OverlapArg::Exact) => OverlapCheck::Exact,
            },
        }
    }
}

/// Which duplicates are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeduplicateArg {
    /// Those of which the same tokens are learned
    Exact,
    /// Also those with four fifths of their sequences of five words in common, and the same numbers
    Near,
    /// None
    None,
}

/// What counts as overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverlapArg {
    /// The item itself, or 13 of its words in a row
    Ngram,
    /// The item itself, as a whole message or line
    Exact,
}
