//! Arguments of `lopper study`.

use std::path::PathBuf;

use clap::Args;

/// `lopper study`
#[derive(Debug, Args)]
pub struct StudyArgs {
    /// The study file [default: the pocket study]
    pub study: Option<PathBuf>,

    /// Where the records and the report go; a study that is there already is continued
    #[arg(short, long, value_name = "DIR", default_value = "lopper-study")]
    pub out: PathBuf,

    /// Directory that holds the rows of benchmarks, in place of the study file's [env: LOPPER_DATA_ROOT]
    #[arg(long, value_name = "DIR")]
    pub data_root: Option<PathBuf>,

    /// Run the programs that the model writes, as `rows.allow_code_execution = true` in the study file
    #[arg(long)]
    pub allow_code_execution: bool,

    /// Print the resolved study file, every key with its value, and stop
    #[arg(long)]
    pub print_recipe: bool,

    /// Print the whole record as JSON instead of the table
    #[arg(long)]
    pub json: bool,
}
