//! Arguments of `lopper budget`.

use std::path::PathBuf;

use clap::Args;

/// `lopper budget`
#[derive(Debug, Args)]
#[command(
    after_help = "SAMPLES is a file that `lopper eval --samples-out` wrote, a file `samples_TASK_DATE.jsonl` of \
    lm-evaluation-harness (`lm_eval --log_samples`), or a directory of these, of which the newest of each task counts. \
    Repeat --base, or --cut with the same K, for tasks in several files.\n\
    Example: lopper budget --base results/full --cut 2=results/cut2 --cut 4=results/cut4 --keep 0.9"
)]
pub struct BudgetArgs {
    /// Samples of the uncut model
    #[arg(long, value_name = "SAMPLES", required = true)]
    pub base: Vec<PathBuf>,

    /// Samples of the model with K layers removed, on the same items; repeat for every cut
    #[arg(long, value_name = "K=SAMPLES", required = true, value_parser = cut)]
    pub cut: Vec<(usize, PathBuf)>,

    /// Retention to keep, above chance where a task has choices: a number above 0 and at most 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, value_parser = keep)]
    pub keep: f64,

    /// Number of layers of the uncut model, for the sentence
    #[arg(long, value_name = "N")]
    pub layers: Option<usize>,

    /// Score to read, such as `acc_norm` [default: the one that `lopper eval` compares the task by]
    #[arg(long, value_name = "NAME")]
    pub metric: Option<String>,

    /// Filter of lm-evaluation-harness to read the score of, such as `flexible-extract`
    #[arg(long, value_name = "NAME")]
    pub filter: Option<String>,

    /// Print the budget as one JSON document
    #[arg(long)]
    pub json: bool,
}

fn cut(text: &str) -> Result<(usize, PathBuf), String> {
    let (removed, path) = text.split_once('=').ok_or("expected K=SAMPLES, such as 4=samples.jsonl")?;
    match removed.trim().parse() {
        Ok(removed) if removed > 0 && !path.is_empty() => Ok((removed, path.into())),
        _ => Err("expected K=SAMPLES with the number of removed layers K, at least 1".to_owned()),
    }
}

fn keep(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(keep) if keep > 0.0 && keep <= 1.0 => Ok(keep),
        _ => Err("expected a number above 0 and at most 1; 0.9 keeps 90 % of the uncut model's score".to_owned()),
    }
}
