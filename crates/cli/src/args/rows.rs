//! Arguments that say which rows of a data set are read, and which of their columns.

use clap::Args;

/// Which rows, and which columns of them.
#[derive(Debug, Default, Args)]
pub struct RowArgs {
    /// Read this split of a data set of the hub [default: train]
    #[arg(long, value_name = "SPLIT")]
    pub split: Option<String>,

    /// Read this configuration of a data set of the hub [default: its only one]
    #[arg(long, value_name = "NAME")]
    pub config: Option<String>,

    /// Read prompts from this column: texts, messages, or whole conversations [default: known by their names]
    #[arg(long, value_name = "NAME")]
    pub column: Option<String>,
}

impl RowArgs {
    /// The arguments that choose rows of a data set, and whether they were given.
    pub fn of_data_sets(&self) -> [(&'static str, bool); 2] {
        [("--split", self.split.is_some()), ("--config", self.config.is_some())]
    }

    /// All of them, and whether they were given.
    pub fn all(&self) -> [(&'static str, bool); 3] {
        let [split, config] = self.of_data_sets();
        [split, config, ("--column", self.column.is_some())]
    }
}
