//! `lopper report`: the report of a study, from its records alone.

use lopper_record::{Result, StudyRecord, write_atomic};

use crate::args::ReportArgs;
use crate::context::Context;

pub fn run(context: &Context, args: &ReportArgs) -> Result<()> {
    let record = StudyRecord::read(&args.dir)?;
    let path = args.dir.join("report.html");
    write_atomic(&path, lopper_report::render(&record)?.as_bytes())?;
    context.printer.result(&path.display().to_string())
}
