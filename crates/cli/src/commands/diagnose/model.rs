//! A model: uncut, cut, healed, and without each layer in turn.

use std::path::Path;

use lopper_diagnose::arithmetic::{self, ArithmeticItem};
use lopper_diagnose::{DiagnosticOptions, ModelDiagnosis, ledger, probe_set};
use lopper_infer::{Sampling, TextModel};
use lopper_record::study::{AblatedLayer, Diagnosis, LedgerEntry, Point, StudyRecord};
use lopper_record::{Fault, LayerSet, Result, ensure_new_file};
use lopper_tasks::{DataRoot, GenerationPolicy};
use serde::Serialize;

use super::sweep;
use super::table::side_by_side;
use crate::args::{DiagnoseArgs, ITEMS};
use crate::command_line;
use crate::commands::{benchmark, study};
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::prompts;

/// The JSON document.
#[derive(Serialize)]
struct Document<'a> {
    model: ModelId<'a>,
    uncut: Option<&'a Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'a Point>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healed: Option<&'a Point>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    sweep: &'a [AblatedLayer],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ledger: &'a [LedgerEntry],
    seeds: &'a [lopper_record::study::Seed],
}

#[derive(Serialize)]
struct ModelId<'a> {
    name: &'a str,
    hash: &'a str,
    num_layers: usize,
}

pub fn run(context: &Context, args: &DiagnoseArgs) -> Result<()> {
    let file_only = [("--figures-out", args.figures_out.is_some()), ("--base", args.base.is_some())];
    super::refuse(&file_only, &args.subject, "a file of responses")?;
    if let Some(path) = &args.ledger_out {
        ensure_new_file(path, args.force)?;
    }
    let tasks = match args.tasks.is_empty() {
        true => None,
        false => Some(lopper_tasks::expand(&args.tasks)?),
    };
    let limit = args.limit.map_or(ITEMS, std::num::NonZero::get);
    let mut measured = DiagnosticOptions::new(vec![], limit, args.seed);
    measured.policy = GenerationPolicy { sampling_seed: args.seed, ..benchmark::policy(&args.benchmark) };
    measured.resources = benchmark::resources(context, &args.benchmark)?;
    if let Some(temperature) = args.temperature.filter(|t| *t != 0.0) {
        // As the paper samples.
        measured.policy.sampling = Sampling::Sample { temperature, top_k: Some(50), top_p: None };
        measured.policy.sampling.check()?;
    }
    measured.arithmetic = arithmetic_items(args, &measured.resources.data_root, limit)?;
    measured.prompts = args
        .prompts
        .as_ref()
        .map(|source| prompts::read(context, &measured.resources.data_root, source, &args.rows, Some(limit), args.seed))
        .transpose()?;
    if let Some(out) = args.out.as_ref().filter(|_| !args.force) {
        check_directory(out)?;
    }

    let opened = OpenModel::open(context, &args.subject)?;
    let numbering = opened.numbering()?;
    let dropped = args.drop.as_ref().map(|drop| LayerSet::parse(drop, numbering.original_layers())).transpose()?;
    let kept = dropped.as_ref().map(|dropped| numbering.kept(dropped)).transpose()?;
    let text = TextModel::new(opened.engine(context, &args.run)?, &opened.checkpoint)?;
    opened.warn_of_generation_settings(context)?;
    let healed = match &args.adapter {
        Some(directory) => {
            let mut model = text.engine.model().clone();
            let all = LayerSet::all(model.num_layers());
            opened.add_adapter(context, directory, &mut model, kept.as_ref().unwrap_or(&all))?;
            Some((model, format!("adapter {}", directory.display())))
        }
        None => None,
    };
    measured.tasks = match tasks {
        Some(tasks) => tasks,
        None if probe_set::is_pocket_model(&text) => lopper_tasks::expand(&["pocket"])?,
        None => vec![],
    };
    let diagnosis = ModelDiagnosis {
        measured,
        dropped,
        healed,
        sweep: args.sweep,
        numbering,
        gap_threshold: args.gap,
        command: command_line::command_line(),
    };
    let card = study::card(&opened)?;
    let (record, entries) = diagnosis.run(&text, &card, &context.progress)?;
    record.warnings.iter().for_each(|warning| context.printer.warn(warning));
    for point in &record.points {
        if let Some(gap) = &point.gap {
            context.printer.warn(&format!("gap alarm: {}", gap.sentence()));
        }
    }
    if let Some(out) = &args.out {
        write(out, &record, &entries)?;
        context.printer.note(&format!("report: {}", out.join(lopper_report::PAGE).display()));
    }
    if let Some(path) = &args.ledger_out {
        ledger::write(path, &entries)?;
    }
    if args.json {
        return context.printer.json(&document(&record));
    }
    context.printer.result(&human(&record))
}

/// Arithmetic items that were asked for, from a file or generated.
fn arithmetic_items(
    args: &DiagnoseArgs,
    root: &DataRoot,
    limit: usize,
) -> Result<Option<(Vec<ArithmeticItem>, String)>> {
    if let Some(path) = &args.arithmetic {
        let rows = arithmetic::read_rows(path, root)?;
        let count = rows.len();
        let items = arithmetic::from_rows(rows, limit);
        if items.is_empty() {
            return Err(Fault::new("the file holds too few arithmetic items")
                .file(path)
                .expected("at least four rows, the first three being worked examples")
                .got(format!("{count} rows"))
                .hint("a completion is a number")
                .into());
        }
        return Ok(Some((items, path.display().to_string())));
    }
    if args.operations.is_none() && args.digits.is_none() {
        return Ok(None);
    }
    let (operations, digits) = (args.operations.unwrap_or(2), args.digits.unwrap_or(1));
    let source = format!("generated, {operations} operations on {digits}-digit numbers, seed {}", args.seed);
    Ok(Some((arithmetic::generated(operations, digits, limit, args.seed)?, source)))
}

fn check_directory(out: &Path) -> Result<()> {
    let taken = match std::fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(_) => out.exists(),
    };
    if !taken {
        return Ok(());
    }
    Err(Fault::new("the output directory is not empty")
        .file(out)
        .expected("a new or empty directory")
        .hint("choose another with --out, or replace its files with --force")
        .into())
}

fn write(out: &Path, record: &StudyRecord, entries: &[LedgerEntry]) -> Result<()> {
    std::fs::create_dir_all(out)?;
    record.write(out)?;
    lopper_report::write(record, out)?;
    ledger::write(&out.join("ledger.jsonl"), entries)
}

fn document(record: &StudyRecord) -> Document<'_> {
    let of = |healed: bool| record.points.iter().find(|point| point.healed.is_some() == healed);
    let card = &record.model;
    Document {
        model: ModelId { name: &card.name, hash: &card.hash, num_layers: card.num_layers },
        uncut: record.base.as_ref(),
        cut: of(false),
        healed: of(true),
        sweep: &record.ablation,
        ledger: &record.ledger,
        seeds: &record.seeds,
    }
}

fn human(record: &StudyRecord) -> String {
    let (mut names, mut models): (Vec<String>, Vec<&Diagnosis>) = (vec![], vec![]);
    for point in record.base.iter().chain(&record.points) {
        let name = match (&point.healed, point.removed) {
            (Some(_), _) => "healed".to_owned(),
            (None, 0) => "uncut".to_owned(),
            _ => format!("without {}", point.dropped),
        };
        if let Some(diagnosis) = &point.diagnosis {
            names.push(name);
            models.push(diagnosis);
        }
    }
    let mut out = side_by_side(&names, &models);
    if let Some(arithmetic) = models.first().and_then(|model| model.arithmetic.as_ref()) {
        let share = arithmetic.constant * 100.0;
        out += &format!("\n\narithmetic: {}; a constant answer is right in {share:.0} %", arithmetic.source);
        if !arithmetic.numbers.is_empty() {
            out += &format!("; the tokenizer writes {}", arithmetic.numbers);
        }
    }
    if !record.ablation.is_empty() {
        out.push_str("\n\n");
        out.push_str(&sweep::tables(record));
    }
    out
}
