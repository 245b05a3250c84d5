//! `lopper study --plan`: what a study would compute, and what that takes.

use lopper_record::Result;
use lopper_study::plan::{PlannedStage, StudyPlan};
use serde::Serialize;

use super::{OpenStudy, Study};
use crate::args::StudyArgs;
use crate::context::Context;
use crate::{machine, table};

/// A study's plan with what this machine has free.
#[derive(Serialize)]
struct Planned {
    out: String,
    #[serde(flatten)]
    plan: StudyPlan,
    /// Bytes of memory that programs can take, where the system says.
    memory_available: Option<u64>,
    /// Bytes free on the disk of the study.
    disk_available: Option<u64>,
}

/// Plans studies one by one.
pub fn run(context: &Context, args: &StudyArgs, studies: &[Study]) -> Result<()> {
    let mut all = Vec::new();
    for study in studies {
        let OpenStudy { recipe, model, inputs } = OpenStudy::open(context, args, study)?;
        let plan = lopper_study::plan(&model, &recipe, &inputs, &study.out, &context.progress)?;
        let out = study.out.display().to_string();
        let (memory_available, disk_available) = (machine::memory_available(), machine::disk_available(&study.out));
        let planned = Planned { out, plan, memory_available, disk_available };
        if !args.json {
            let head = if studies.len() > 1 { format!("{}:\n", planned.out) } else { String::new() };
            context.printer.result(&format!("{head}{}", text(&planned)))?;
        }
        all.push(planned);
    }
    match all.as_slice() {
        _ if !args.json => Ok(()),
        [planned] => context.printer.json(planned),
        all => context.printer.json(&all),
    }
}

/// The plan as a table and sentences.
fn text(planned: &Planned) -> String {
    let Planned { plan, .. } = planned;
    let row = |stage: &PlannedStage| {
        let (cells, finished) = (stage.cells.len(), stage.finished());
        let left = if finished == cells { "–".to_owned() } else { duration(stage.seconds()) };
        [stage.name.clone(), cells.to_string(), finished.to_string(), left]
    };
    let mut rows: Vec<_> = plan.stages.iter().map(row).collect();
    let (cells, finished) = plan
        .stages
        .iter()
        .fold((0, 0), |(cells, finished), stage| (cells + stage.cells.len(), finished + stage.finished()));
    rows.push(["all".to_owned(), cells.to_string(), finished.to_string(), duration(plan.seconds)]);
    let mut lines = vec![table::render(["stage", "cells", "finished", "time left"], &rows), String::new()];
    lines.push(format!(
        "times are from {} of measuring on {} with {} threads; answers of cut models may be longer or shorter",
        duration(plan.measuring),
        plan.processor,
        plan.threads
    ));
    if plan.at_most {
        lines.push(
            "which layers go is not known before they are scored; strategies that agree on a cut will share its cell"
                .to_owned(),
        );
    }
    let needs = plan.memory.iter().map(|need| format!("{} for {}", table::bytes(need.total), need.command));
    lines.push(format!(
        "memory: about {}{}",
        needs.collect::<Vec<_>>().join(", "),
        available(planned.memory_available)
    ));
    lines.push(format!("disk: about {}{}", table::bytes(plan.disk_bytes), available(planned.disk_available)));
    let need = plan.memory.iter().map(|need| need.total).max().unwrap_or(0);
    if planned.memory_available.is_some_and(|free| need > free) {
        lines.push(
            "this machine has less memory than that: weights are read again and again from their file".to_owned(),
        );
    }
    if planned.disk_available.is_some_and(|free| plan.disk_bytes > free) {
        lines.push("the disk has less space than that".to_owned());
    }
    lines.join("\n")
}

fn available(bytes: Option<u64>) -> String {
    bytes.map_or_else(String::new, |bytes| format!(" ({} are free)", table::bytes(bytes)))
}

/// A time to wait, no more exact than an estimate is.
fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 if seconds < 1.0 => "< 1 s".to_owned(),
        0..2 => format!("{seconds:.0} s"),
        2..120 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lopper_study::plan::PlannedCell;

    #[test]
    fn a_plan_is_a_table_with_what_it_takes() {
        let cell = |finished, seconds| PlannedCell { what: String::new(), finished, seconds };
        let stage = |name: &str, cells| PlannedStage { name: name.to_owned(), cells };
        let stages = vec![
            stage("uncut model", vec![cell(true, 0.0), cell(true, 0.0)]),
            stage("cuts", vec![cell(true, 0.0), cell(false, 400.0)]),
        ];
        let plan =
            StudyPlan { stages, seconds: 400.0, measuring: 58.2, threads: 2, disk_bytes: 2000, ..Default::default() };
        let plan = StudyPlan { processor: "a processor".into(), at_most: true, ..plan };
        let planned = Planned { out: "out".into(), plan, memory_available: None, disk_available: Some(1000) };
        let text = text(&planned);
        assert!(text.contains("uncut model      2         2          –"), "{text}");
        assert!(text.contains("all              4         3      7 min"), "{text}");
        assert!(text.contains("58 s of measuring on a processor with 2 threads") && text.contains("share its cell"));
        assert!(text.ends_with("disk: about 2.00 kB (1.00 kB are free)\nthe disk has less space than that"), "{text}");
    }

    #[test]
    fn times_are_no_more_exact_than_estimates() {
        assert_eq!(
            [0.2, 59.0, 89.0, 100.0, 7000.0, 7300.0].map(duration),
            ["< 1 s", "59 s", "89 s", "2 min", "117 min", "2 h 02 min"]
        );
    }
}
