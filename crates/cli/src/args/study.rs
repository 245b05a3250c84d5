//! Arguments of `lopper study`.

use std::path::PathBuf;

use clap::Args;

/// `lopper study`
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// Study file in TOML [default: the study of the pocket model]; with --preset, models to study, or study files
    /// whose keys go before the preset's
    #[arg(value_name = "STUDY.toml|MODEL")]
    pub studies: Vec<String>,

    /// Begin from a preset: `quick` (minutes on a small model), `paper` (the grid of arXiv 2602.01997), or
    /// `classification`. Depths follow the model's layers; without MODEL, the preset's own models are studied
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,

    /// Write the records and the report to DIR; a study that is already there is continued. Of several studies, each
    /// has a directory in DIR
    #[arg(short, long, value_name = "DIR", default_value = "lopper-study")]
    pub out: PathBuf,

    /// Read the data sets of benchmarks from DIR, instead of the study file's `rows.data_root` [env: LOPPER_DATA_ROOT]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,

    /// Run the programs that the model writes, in a sandbox (`rows.allow_code_execution = true` in the study file does
    /// the same)
    #[arg(long)]
    pub allow_code_execution: bool,

    /// Answer one question, such as "gsm8k>=0.9" or "generative>=0.95", and stop: how many layers may go while a task,
    /// or every task of a group, keeps so much of its score (`budget.goal` in the study file does the same)
    #[arg(long, value_name = "TASK>=KEEP")]
    pub budget: Option<String>,

    /// Say what the study would compute, and stop: its cells and which of them are finished, the time they will take,
    /// from about a minute of measuring, and what they need in memory and on disk
    #[arg(long, conflicts_with = "print_recipe")]
    pub plan: bool,

    /// Print the study file with every key and its value, and stop; with --preset and no MODEL, as for a model of 32
    /// layers
    #[arg(long)]
    pub print_recipe: bool,

    /// Print the whole record as one JSON document instead of the table, or the plan with every cell; of
    /// several studies, a list of them
    #[arg(long)]
    pub json: bool,
}
