//! The logs of `lopper heal`: JSON Lines and TensorBoard.

use std::path::{Path, absolute};

use lopper_heal::{JsonLog, TensorBoardLog, TrainingLog};
use lopper_record::{Context as _, Fault, Result, ensure_new_file, ensure_writable};

use super::cuts::CutOutput;
use crate::args::HealArgs;

/// The requested logs of a cut, checked and not yet written to. Those of several cuts are files of their own. Where an
/// unfinished run is continued, its logs are there.
pub fn open(args: &HealArgs, cut: &CutOutput) -> Result<Vec<Box<dyn TrainingLog>>> {
    let continued = cut.is_continued(args);
    let mut logs: Vec<Box<dyn TrainingLog>> = Vec::new();
    if let Some(path) = &args.log {
        outside(path, "--log", args)?;
        let path = &cut.log(path);
        ensure_new_file(path, args.force || continued)?;
        logs.push(Box::new(JsonLog::new(path)));
    }
    if let Some(directory) = &args.tensorboard {
        outside(directory, "--tensorboard", args)?;
        let directory = &cut.log_directory(directory);
        if directory.exists() && !directory.is_dir() {
            return Err(Fault::new("--tensorboard is not a directory")
                .file(directory)
                .expected("a directory, or a path that does not exist yet")
                .hint("choose another path")
                .into());
        }
        ensure_writable(directory)?;
        if !continued {
            check_events(directory, args.force)?;
        }
        logs.push(Box::new(TensorBoardLog::new(directory)));
    }
    Ok(logs)
}

/// Removes the event files of a run that starts over; run after every check.
pub fn start_over(args: &HealArgs, cut: &CutOutput) -> Result<()> {
    for directory in args.tensorboard.iter().filter(|_| args.force) {
        for file in TensorBoardLog::files(&cut.log_directory(directory), true)? {
            std::fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        }
    }
    Ok(())
}

/// Refuses a directory with the events of another run, which TensorBoard would show as one with these.
fn check_events(directory: &Path, force: bool) -> Result<()> {
    let (all, own) = (TensorBoardLog::files(directory, false)?, TensorBoardLog::files(directory, true)?);
    let removable = if force { own.len() } else { 0 };
    if all.len() == removable {
        return Ok(());
    }
    Err(Fault::new("the directory has the event files of another run")
        .file(directory)
        .expected("a directory for each run")
        .got(format!("{} event files", all.len()))
        .hint(match own.len() == all.len() {
            true => "choose another directory, or add --force to start over",
            false => "choose another directory; --force replaces only event files of `lopper heal`",
        })
        .into())
}

/// The output is renamed into place when it is complete, so nothing can be in it before.
fn outside(path: &Path, option: &str, args: &HealArgs) -> Result<()> {
    let whole = |path: &Path| absolute(path).with_context(|| path.display().to_string());
    if whole(path)?.starts_with(whole(&args.out)?) {
        return Err(Fault::new(format!("{option} would be inside the output, which appears when it is complete"))
            .file(path)
            .expected("a path outside OUT")
            .got(format!("a path in {}", args.out.display()))
            .hint("choose a path next to it")
            .into());
    }
    Ok(())
}
