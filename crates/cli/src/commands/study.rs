//! `lopper study`: the main job. Runs the stages, writes the report, prints the table.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use lopper_infer::TextModel;
use lopper_model::checkpoint::torch_name;
use lopper_record::study::{ModelCard, STUDY_FILE};
use lopper_record::{Error, Fault, Result, StudyRecord, changed_keys, ensure_writable};
use lopper_study::{GENERAL_INSTRUCTIONS, Heal, HealingPrompt, Recipe, StudyInputs, StudyModel, TASKS, summary};
use lopper_tasks::DataRoot;

use super::benchmark;
use crate::args::{BenchmarkArgs, RowArgs, RunArgs, StudyArgs};
use crate::context::Context;
use crate::open_model::{OpenModel, POCKET};
use crate::prompts;
use crate::table;

/// Width of the table where the terminal does not tell its own.
const WIDTH: usize = 100;

pub fn run(context: &Context, args: &StudyArgs) -> Result<()> {
    let mut recipe = match &args.study {
        Some(path) => Recipe::read(path)?,
        None => Recipe::default(),
    };
    let known = recipe.model == POCKET;
    if args.print_recipe && known {
        return context.printer.result(recipe.to_toml()?.trim_end());
    }
    check_directory(&args.out)?;
    let opened = OpenModel::open(context, &recipe.model)?;
    let card = card(&opened)?;
    if let Some(path) = args.study.as_deref().filter(|_| !known) {
        // How a model is healed follows its size.
        recipe = Recipe::read_for(path, Some(card.parameters as usize))?;
    }
    if args.print_recipe {
        return context.printer.result(recipe.to_toml()?.trim_end());
    }
    let numbering = opened.numbering()?;
    recipe.check_model(&numbering).map_err(|error| in_file(error, args.study.as_deref()))?;
    let inputs = inputs(context, args, &recipe)?;
    let text = TextModel::new(opened.engine(context, &RunArgs::default())?, &opened.checkpoint)?;
    opened.warn_of_generation_settings(context)?;
    note_changes(context, args, &recipe)?;
    let (model, command) = (StudyModel { card, text, numbering }, command(args));
    let result = lopper_study::run(&model, &recipe, &inputs, &args.out, &command, &context.progress);
    if result.as_ref().is_err_and(Error::is_interrupted) {
        context.printer.note(&format!("finished cells are kept; `{command}` goes on from there"));
        if args.out.join(STUDY_FILE).exists() {
            context.printer.note(&format!("`lopper report {}` shows what is there", args.out.display()));
        }
    }
    let record = result?;
    for warning in &record.warnings {
        context.printer.warn(warning);
    }
    let report = lopper_report::write(&record, &args.out)?;
    if args.json {
        return context.printer.json(&record);
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    context.printer.result(lopper_report::terminal_table(&record, WIDTH, colour).trim_end())?;
    context.printer.result(below_the_table(&record).trim_end())?;
    context.printer.note(&format!("\nreport: {}", report.display()));
    Ok(())
}

/// Names what differs from the recipe of the study that is in the directory.
fn note_changes(context: &Context, args: &StudyArgs, recipe: &Recipe) -> Result<()> {
    let path = args.out.join(STUDY_FILE);
    // A record that cannot be read is written anew at the end.
    let Some(before) = path.is_file().then(|| StudyRecord::read(&args.out).ok()).flatten() else { return Ok(()) };
    let changes = changed_keys(&before.recipe, &serde_json::to_value(recipe)?);
    if before.recipe.is_object() && !changes.is_empty() {
        context.printer.note(&format!(
            "another recipe than that of {}: {changes}; finished cells that this does not change are kept",
            path.display()
        ));
    }
    Ok(())
}

/// The command that goes on with this study.
fn command(args: &StudyArgs) -> String {
    let mut command = "lopper study".to_owned();
    if let Some(path) = &args.study {
        command += &format!(" {}", path.display());
    }
    command += &format!(" --out {}", args.out.display());
    if let Some(root) = &args.data_root {
        command += &format!(" --data-root {}", root.display());
    }
    if args.allow_code_execution {
        command += " --allow-code-execution";
    }
    command
}

/// What tasks read and run, and the prompts of `heal.data`.
fn inputs(context: &Context, args: &StudyArgs, recipe: &Recipe) -> Result<StudyInputs> {
    let in_file = Some(&recipe.rows.data_root).filter(|root| !root.is_empty()).map(PathBuf::from);
    let benchmark = BenchmarkArgs {
        data_root: args.data_root.clone().or(in_file),
        allow_code_execution: recipe.rows.allow_code_execution || args.allow_code_execution,
        ..BenchmarkArgs::default()
    };
    let resources = benchmark::resources(context, &benchmark)?;
    let prompts = match recipe.heal.data == TASKS {
        true => None,
        false => Some(healing_prompts(context, &resources.data_root, recipe)?),
    };
    Ok(StudyInputs { resources, prompts })
}

/// The prompts of `heal.data`, and the answers that are with them.
fn healing_prompts(context: &Context, root: &DataRoot, recipe: &Recipe) -> Result<Vec<HealingPrompt>> {
    let Heal { data, split, config, column, answer_column, prompts, .. } = &recipe.heal;
    let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
    let rows = RowArgs { split: named(split), config: named(config), column: named(column) };
    let (answers, limit) = (named(answer_column), Some((*prompts).max(recipe.items.calibration)));
    let read = prompts::read_with_answers(context, root, data, (&rows, answers.as_deref()), limit, recipe.seed);
    read.map_err(|error| match error.into_fault() {
        Ok(fault) => data_fault(fault, data).into(),
        Err(error) => error,
    })
}

/// A fault of reading `heal.data` in the words of the study file.
fn data_fault(fault: Fault, data: &str) -> Fault {
    let keys = [("--split", "`heal.split`"), ("--config", "`heal.config`"), ("--column", "`heal.column`")];
    let in_keys = |text: String| keys.iter().fold(text, |text, (flag, key)| text.replace(flag, key));
    let mut hints: Vec<String> = fault.hint.into_iter().map(in_keys).collect();
    if data == GENERAL_INSTRUCTIONS {
        hints.push(format!(
            "a model is healed on {data} unless the study file says otherwise: `heal.data` names a file or another data \
             set, or \"{TASKS}\" for the tasks' own training splits; `heal.depths = []` leaves healing out"
        ));
    }
    Fault { message: in_keys(fault.message), hint: Some(hints.join("; ")).filter(|hint| !hint.is_empty()), ..fault }
}

/// What the table does not show: how healing went, speed next to quality, and where a smaller cut is the better buy.
fn below_the_table(record: &StudyRecord) -> String {
    let mut parts = vec![summary::healing_lines(record).join("\n")];
    let rows = summary::speed_rows(record, table::bytes);
    if !rows.is_empty() {
        let table = table::render(summary::SPEED_HEADER, &rows);
        parts.push(table + &summary::speed_note(record).map(|note| format!("\n{note}")).unwrap_or_default());
    }
    parts.push(record.better_buys.join("\n"));
    parts.retain(|part| !part.is_empty());
    parts.iter().map(|part| format!("\n{part}\n")).collect()
}

/// Names the study file in a fault that shows only once the model is known.
fn in_file(error: Error, file: Option<&Path>) -> Error {
    match (error.into_fault(), file) {
        (Ok(fault), Some(file)) => fault.file(file).into(),
        (Ok(fault), None) => fault.into(),
        (Err(error), _) => error,
    }
}

/// Refuses a directory with something else in it: a study would scatter its files there.
fn check_directory(out: &Path) -> Result<()> {
    ensure_writable(out)?;
    let Ok(mut entries) = std::fs::read_dir(out) else { return Ok(()) };
    if !out.join("cells").is_dir() && entries.next().is_some() {
        return Err(Fault::new("the output directory holds something that is not a study")
            .file(out)
            .expected("a new or empty directory, or one that `lopper study` wrote")
            .hint("choose another directory with --out")
            .into());
    }
    Ok(())
}

/// What is known of a model before anything is measured.
pub fn card(opened: &OpenModel) -> Result<ModelCard> {
    let config = opened.config();
    let per_layer = config.parameters_per_layer() as u64;
    let layers = config.num_hidden_layers;
    Ok(ModelCard {
        name: opened.name.clone(),
        hash: opened.checkpoint.hash().to_owned(),
        family: config.model_type.clone(),
        num_layers: layers,
        parameters: config.parameters_outside_layers() as u64 + per_layer * layers as u64,
        parameters_per_layer: vec![per_layer; layers],
        hidden_size: config.hidden_size,
        vocab_size: config.vocab_size,
        dtype: torch_name(opened.checkpoint.dtype())?.to_owned(),
    })
}
