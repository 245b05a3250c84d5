//! `lopper heal --export`: the training as a recipe for another program.

use std::path::Path;

use lopper_heal::examples::ExampleReport;
use lopper_heal::{Evaluation, Export, ExportFormat, ExportedModel, HealRecipe, TrainingSet};
use lopper_infer::ChatTokenizer;
use lopper_model::checkpoint::Dtype;
use lopper_prune::writer::{put_in_place, temporary_directory, weight_files};
use lopper_prune::{ModelId, WriteOptions};
use lopper_record::{Context as _, Fault, LayerPosition, LayerSet, Result, write_atomic};
use serde::Serialize;

use super::RECORD;
use crate::args::HealArgs;
use crate::command_line::quote;
use crate::context::Context;
use crate::open_model::OpenModel;
use crate::table;

/// The directory of the cut, in the recipe's.
const CUT: &str = "model";

/// What was exported, as [`RECORD`] holds it.
#[derive(Serialize)]
struct Record<'a> {
    format: u32,
    lopper_version: &'static str,
    /// The program that it is for.
    export: &'static str,
    /// The model that was given.
    source: ModelId,
    /// The layers that are trained, in the original numbering.
    kept: LayerSet,
    data: &'a [String],
    examples: &'a ExampleReport,
    recipe: &'a HealRecipe,
}

/// A training that another program is to do.
pub struct Exported {
    pub format: ExportFormat,
    pub kept: LayerSet<LayerPosition>,
    pub recipe: HealRecipe,
    pub evaluation: Evaluation,
    pub set: TrainingSet,
    pub report: ExampleReport,
}

/// Refuses what is known to be impossible before the examples are read.
pub fn check(
    opened: &OpenModel,
    args: &HealArgs,
    (format, lop): (ExportFormat, bool),
    kept: &LayerSet<LayerPosition>,
    recipe: &HealRecipe,
) -> Result<()> {
    if lop {
        return Err(Fault::new("layers that are removed during the training cannot be exported")
            .expected("`lopper heal --drop LAYERS --export PROGRAM`")
            .got("`lopper lop --export`")
            .hint("choose the layers first")
            .into());
    }
    if args.drop.len() > 1 {
        return Err(Fault::new("other programs train one cut at a time")
            .expected("--drop once")
            .got(format!("--drop {} times", args.drop.len()))
            .hint("export each cut to a directory of its own")
            .into());
    }
    if opened.is_pocket() && args.drop.is_empty() {
        return Err(Fault::new("other programs cannot read the embedded model")
            .expected("a model directory, an id of the hub, or a cut with --drop")
            .got("`pocket` with all its layers")
            .hint("a cut of it is written by the recipe's first command")
            .into());
    }
    format.check(recipe, &opened.config().keep(kept), &recipe.layers.of(kept))
}

impl Exported {
    /// Writes the recipe to the output.
    pub fn write(&self, context: &Context, opened: &OpenModel, args: &HealArgs, text: &ChatTokenizer) -> Result<()> {
        let Self { format, kept, recipe, evaluation, set, report } = self;
        let model = self.model(opened, args, text)?;
        let drop = args.drop.first().map_or_else(String::new, |drop| format!(" --drop {}", quote(drop)));
        let export = Export {
            format: *format,
            model: &model,
            recipe,
            trained: recipe.layers.of(kept),
            evaluation: *evaluation,
            train: &set.train,
            held_out: &set.held_out,
            evaluate: format!("lopper eval {}{drop}", quote(&source(opened)?)),
        };
        let parent = match args.out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        let temporary = temporary_directory(parent)?;
        export.write(temporary.path())?;
        let record = Record {
            format: 1,
            lopper_version: env!("CARGO_PKG_VERSION"),
            export: format.name(),
            source: ModelId {
                id: opened.name.clone(),
                hash: opened.checkpoint.hash().to_owned(),
                num_hidden_layers: opened.config().num_hidden_layers,
            },
            kept: opened.numbering()?.originals(kept)?,
            data: &args.data,
            examples: report,
            recipe,
        };
        let json = serde_json::to_string_pretty(&record)? + "\n";
        write_atomic(&temporary.path().join(RECORD), json.as_bytes())?;
        put_in_place(temporary, &args.out, args.force)?;
        context.printer.note(&format!(
            "a recipe for {}: {} examples, {} steps; {} says what to run",
            format.name(),
            table::count(set.train.len() as u64),
            recipe.steps(set.train.len()),
            args.out.join("README.md").display()
        ));
        context.printer.result(&args.out.display().to_string())
    }

    /// The model as the other program finds it.
    fn model(&self, opened: &OpenModel, args: &HealArgs, text: &ChatTokenizer) -> Result<ExportedModel> {
        let checkpoint = &opened.checkpoint;
        let id = text.special.eos.first().copied().unwrap_or(0);
        let token = text.tokenizer.id_to_token(id).unwrap_or_default();
        let all = LayerSet::all(opened.config().num_hidden_layers);
        let here = source(opened)?;
        let (path, revision, made_by) = match (args.drop.first(), &opened.snapshot) {
            (Some(drop), _) => {
                let command = format!("lopper prune {} --drop {} -o {CUT}", quote(&here), quote(drop));
                (CUT.to_owned(), None, Some(command))
            }
            // torchtune reads directories only.
            (None, Some(snapshot)) if self.format != ExportFormat::Torchtune => {
                (snapshot.id.clone(), Some(snapshot.commit.clone()), None)
            }
            _ => {
                let directory = checkpoint.directory().map(Path::canonicalize).transpose()?;
                (directory.map_or(here, |directory| directory.display().to_string()), None, None)
            }
        };
        let files = match &made_by {
            Some(_) => weight_files(checkpoint, &self.kept, WriteOptions::default().max_shard_bytes)?,
            None => own_files(checkpoint.directory())?,
        };
        Ok(ExportedModel {
            path,
            revision,
            made_by,
            config: if self.kept == all { opened.config().clone() } else { opened.config().keep(&self.kept) },
            is_half: checkpoint.dtype() != Dtype::F32,
            files,
            padding: (token, id),
        })
    }
}

/// What the model is called from any directory.
fn source(opened: &OpenModel) -> Result<String> {
    Ok(match (opened.checkpoint.directory(), &opened.snapshot) {
        (Some(directory), None) => directory.canonicalize()?.display().to_string(),
        _ => opened.name.clone(),
    })
}

/// The files of the weights in a model's directory.
fn own_files(directory: Option<&Path>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in directory.map(std::fs::read_dir).transpose()?.into_iter().flatten() {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}
