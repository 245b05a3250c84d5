//! `lopper study`: the main job. Runs the stages, writes the report, prints the table.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use lopper_infer::TextModel;
use lopper_model::checkpoint::torch_name;
use lopper_record::study::{ModelCard, STUDY_FILE};
use lopper_record::{Error, Fault, Result, StudyRecord, changed_keys, ensure_writable};
use lopper_study::{
    GENERAL_INSTRUCTIONS, Heal, HealingPrompt, Preset, Recipe, RecipeSource, Strategies, StudyInputs, StudyModel,
    TASKS, summary,
};
use lopper_tasks::DataRoot;

use super::benchmark;
use crate::args::{BenchmarkArgs, RowArgs, RunArgs, StudyArgs};
use crate::context::Context;
use crate::open_model::{OpenModel, POCKET};
use crate::prompts;
use crate::table;

mod plan;

/// Width of the table where the terminal does not tell its own.
const WIDTH: usize = 100;

pub fn run(context: &Context, args: &StudyArgs) -> Result<()> {
    let studies = studies(args)?;
    if args.print_recipe {
        for (at, study) in studies.iter().enumerate() {
            let recipe = recipe_to_print(context, args, study)?;
            let head = if studies.len() > 1 { format!("# {}\n", recipe.model) } else { String::new() };
            let gap = if at > 0 { "\n" } else { "" };
            context.printer.result(&format!("{gap}{head}{}", recipe.to_toml()?.trim_end()))?;
        }
        return Ok(());
    }
    for study in &studies {
        check_directory(&study.out)?;
    }
    if args.plan {
        return plan::run(context, args, &studies);
    }
    let mut records = Vec::new();
    for study in &studies {
        if studies.len() > 1 {
            context.printer.note(&format!("{}:", study.out.display()));
        }
        records.push(run_one(context, args, study)?);
    }
    match records.as_slice() {
        _ if !args.json => Ok(()),
        [record] => context.printer.json(record),
        records => context.printer.json(&records),
    }
}

/// A study to run: what it is, and where it goes.
struct Study {
    source: RecipeSource,
    out: PathBuf,
}

impl Study {
    fn file(&self) -> Option<&Path> {
        self.source.file.as_deref()
    }
}

/// The studies that the arguments name.
fn studies(args: &StudyArgs) -> Result<Vec<Study>> {
    let Some(preset) = &args.preset else {
        if args.studies.len() > 1 {
            return Err(Fault::new("a study has one study file")
                .expected("at most one")
                .got(args.studies.join(" "))
                .hint("several models are studied with --preset")
                .into());
        }
        let source = RecipeSource { file: args.studies.first().map(PathBuf::from), ..RecipeSource::default() };
        return Ok(vec![Study { source, out: args.out.clone() }]);
    };
    let own = Preset::named(preset)?;
    let mut names = args.studies.clone();
    // What is printed for no model needs none.
    if names.is_empty() && !args.print_recipe {
        names.extend(own.models.iter().map(|model| (*model).to_owned()));
    }
    let source = |name: &String| {
        let (file, model) = match Path::new(name).extension().is_some_and(|ending| ending == "toml") {
            true => (Some(PathBuf::from(name)), None),
            false => (None, Some(name.clone())),
        };
        RecipeSource { file, model, preset: Some(preset.clone()) }
    };
    let studies = match names.as_slice() {
        [] => vec![Study {
            source: RecipeSource { preset: args.preset.clone(), ..RecipeSource::default() },
            out: args.out.clone(),
        }],
        [name] => vec![Study { source: source(name), out: args.out.clone() }],
        names => names.iter().map(|name| Study { source: source(name), out: args.out.join(stem(name)) }).collect(),
    };
    for (at, study) in studies.iter().enumerate() {
        if studies[..at].iter().any(|other| other.out == study.out) {
            return Err(Fault::new("two studies would have one directory")
                .expected("models or files of different names")
                .got(study.out.display().to_string())
                .hint("study them one by one, each with its own --out")
                .into());
        }
    }
    Ok(studies)
}

/// The name of a study's directory among several: the last part of its model's or file's name.
fn stem(name: &str) -> String {
    let path = Path::new(name.trim_end_matches(['/', '\\']));
    let last =
        if path.extension().is_some_and(|ending| ending == "toml") { path.file_stem() } else { path.file_name() };
    last.map_or_else(|| "study".to_owned(), |last| last.to_string_lossy().into_owned())
}

/// The recipe with every key: for the model it names, which is opened unless it is the pocket model's study, or a
/// preset for no model in particular.
fn recipe_to_print(context: &Context, args: &StudyArgs, study: &Study) -> Result<Recipe> {
    let recipe = with_goal(study.source.read(None)?, args);
    let of_no_model = args.preset.is_some() && args.studies.is_empty();
    if of_no_model || recipe.model == POCKET && recipe.preset.is_none() {
        return Ok(recipe);
    }
    let opened = OpenModel::open(context, &recipe.model)?;
    Ok(with_goal(study.source.read(Some(&card(&opened)?))?, args))
}

/// The recipe with the goal of `--budget`.
fn with_goal(mut recipe: Recipe, args: &StudyArgs) -> Recipe {
    recipe.budget.goal = args.budget.clone().or(recipe.budget.goal);
    recipe
}

/// A study with all that it needs.
struct OpenStudy {
    recipe: Recipe,
    model: StudyModel,
    inputs: StudyInputs,
}

impl OpenStudy {
    fn open(context: &Context, args: &StudyArgs, study: &Study) -> Result<Self> {
        let recipe = with_goal(study.source.read(None)?, args);
        recipe.check()?;
        let opened = OpenModel::open(context, &recipe.model)?;
        let card = card(&opened)?;
        // How a model is healed follows its size, and the depths of a preset its layers.
        let recipe = with_goal(study.source.read(Some(&card))?, args);
        let numbering = opened.numbering()?;
        let fits = recipe.check_model(&numbering).and_then(|()| Strategies::resolve(&recipe, &card.hash, &numbering));
        fits.map_err(|error| in_file(error, study.file()))?;
        let inputs = inputs(context, args, &recipe)?;
        let text = TextModel::new(opened.engine(context, &RunArgs::default())?, &opened.checkpoint)?;
        opened.warn_of_generation_settings(context)?;
        Ok(Self { recipe, model: StudyModel { card, text, numbering }, inputs })
    }
}

/// Runs a study, writes its report and prints its table.
fn run_one(context: &Context, args: &StudyArgs, study: &Study) -> Result<StudyRecord> {
    let OpenStudy { recipe, model, inputs } = OpenStudy::open(context, args, study)?;
    note_changes(context, &study.out, &recipe)?;
    let command = command(args, study);
    let result = lopper_study::run(&model, &recipe, &inputs, &study.out, &command, &context.progress);
    if result.as_ref().is_err_and(Error::is_interrupted) {
        context.printer.note(&format!("finished cells are kept; `{command}` goes on from there"));
        if study.out.join(STUDY_FILE).exists() {
            context.printer.note(&format!("`lopper report {}` shows what is there", study.out.display()));
        }
    }
    let record = result?;
    for warning in &record.warnings {
        context.printer.warn(warning);
    }
    let report = lopper_report::write(&record, &study.out)?;
    if args.json {
        return Ok(record);
    }
    let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    context.printer.result(lopper_report::terminal_table(&record, WIDTH, colour).trim_end())?;
    context.printer.result(below_the_table(&record).trim_end())?;
    context.printer.note(&format!("\nreport: {}", report.display()));
    Ok(record)
}

/// Names what differs from the recipe of the study that is in the directory.
fn note_changes(context: &Context, out: &Path, recipe: &Recipe) -> Result<()> {
    let path = out.join(STUDY_FILE);
    // A record that cannot be read is written anew at the end.
    let Some(before) = path.is_file().then(|| StudyRecord::read(out).ok()).flatten() else { return Ok(()) };
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
fn command(args: &StudyArgs, study: &Study) -> String {
    let mut command = "lopper study".to_owned();
    if let Some(preset) = &args.preset {
        command += &format!(" --preset {preset}");
    }
    if let Some(path) = study.file() {
        command += &format!(" {}", path.display());
    }
    if let Some(model) = &study.source.model {
        command += &format!(" {model}");
    }
    command += &format!(" --out {}", study.out.display());
    if let Some(goal) = &args.budget {
        command += &format!(" --budget \"{goal}\"");
    }
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

/// Names the study file in a fault that shows only once the model is known, unless it is another file's.
fn in_file(error: Error, file: Option<&Path>) -> Error {
    match (error.into_fault(), file) {
        (Ok(fault), Some(file)) if fault.file.is_none() => fault.file(file).into(),
        (Ok(fault), _) => fault.into(),
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
