//! `lopper report`: the report of a study, or the comparison of several, from their records alone.

use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result, StudyRecord, ensure_new_file, write_atomic};
use lopper_report::{Compared, FILES, compare, write};

use crate::args::ReportArgs;
use crate::context::Context;

/// The page of a comparison, in the current directory.
const COMPARISON: &str = "compare.html";

pub fn run(context: &Context, args: &ReportArgs) -> Result<()> {
    match args.dirs.as_slice() {
        [dir] => one(context, args, dir),
        dirs => several(context, args, dirs),
    }
}

fn one(context: &Context, args: &ReportArgs, dir: &Path) -> Result<()> {
    if let Some(out) = &args.out {
        return Err(Fault::new("--out names the page of a comparison, and one study was given")
            .got(out.display().to_string())
            .expected("two or more directories of studies")
            .hint(format!("`lopper report {}` writes the report into that directory", dir.display()))
            .into());
    }
    let page = write(&StudyRecord::read(dir)?, dir)?;
    context.printer.note(&format!("figures and data: {}", dir.join(FILES).display()));
    context.printer.result(&page.display().to_string())
}

fn several(context: &Context, args: &ReportArgs, dirs: &[PathBuf]) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| COMPARISON.into());
    ensure_new_file(&out, args.force)?;
    let read = |dir: &PathBuf| -> Result<Compared> {
        Ok(Compared { name: dir.display().to_string(), record: StudyRecord::read(dir)? })
    };
    let studies = dirs.iter().map(read).collect::<Result<Vec<_>>>()?;
    write_atomic(&out, compare(&studies)?.as_bytes())?;
    context.printer.result(&out.display().to_string())
}
