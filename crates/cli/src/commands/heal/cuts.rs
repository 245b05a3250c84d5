//! The cuts of a `lopper heal`: one that is written to OUT, or several of `--drop`, each in a directory of OUT.

use std::path::{Path, PathBuf};

use lopper_record::{Fault, LayerPosition, LayerSet, Result, with_ending};

use super::RECORD;
use crate::args::HealArgs;
use crate::open_model::OpenModel;

/// A cut, and where it goes.
pub struct CutOutput {
    /// The layers that are left out, as they were given.
    pub drop: Option<String>,
    /// The others.
    pub kept: LayerSet<LayerPosition>,
    /// Its output.
    pub out: PathBuf,
    /// The state of its unfinished training.
    pub state: PathBuf,
    /// What sets it apart from the other cuts, if there are any.
    name: Option<String>,
}

impl CutOutput {
    /// The cuts of a command.
    ///
    /// # Errors
    /// A fault for layers that the model does not have, for a cut that is given twice, and for several in a directory
    /// that is the output of one.
    pub fn of(opened: &OpenModel, args: &HealArgs, lop: bool) -> Result<Vec<Self>> {
        let one = |drop: Option<&String>| -> Result<Self> {
            let (out, state) = (args.out.clone(), with_ending(&args.out, ".partial"));
            let kept = opened.kept(drop.map(String::as_str))?;
            Ok(Self { drop: drop.cloned(), kept, out, state, name: None })
        };
        if args.drop.len() < 2 {
            return Ok(vec![one(args.drop.first())?]);
        }
        if lop {
            return Err(Fault::new("`lopper lop` removes layers from one model")
                .expected("--drop once, with the layers that are missing from the beginning")
                .got(format!("--drop {} times", args.drop.len()))
                .hint("`lopper heal` takes it several times")
                .into());
        }
        if args.out.join(RECORD).is_file() {
            return Err(Fault::new("the output is that of one cut, and several would be written into it")
                .file(&args.out)
                .expected("another directory")
                .hint("choose another path")
                .into());
        }
        let mut cuts: Vec<Self> = Vec::with_capacity(args.drop.len());
        for drop in &args.drop {
            let cut = one(Some(drop))?;
            if let Some(same) = cuts.iter().find(|other| other.kept == cut.kept) {
                return Err(Fault::new("a cut is given twice")
                    .expected("other layers in each --drop")
                    .got(format!("{} and {drop}", same.drop.as_deref().unwrap_or_default()))
                    .hint("leave one of them out")
                    .into());
            }
            let name = format!("drop-{}", opened.layers(drop)?);
            let out = args.out.join(&name);
            let state = with_ending(&out, ".partial");
            cuts.push(Self { out, state, name: Some(name), ..cut });
        }
        Ok(cuts)
    }

    /// Whether an unfinished training of it is continued.
    pub fn is_continued(&self, args: &HealArgs) -> bool {
        self.state.is_file() && !args.force
    }

    /// Whether an existing output is replaced. Of several cuts, some may have been written before the command was
    /// interrupted: their states are there until all are.
    pub fn replaces(&self, args: &HealArgs) -> bool {
        args.force || self.name.is_some() && self.state.is_file()
    }

    /// Its log, where `path` was given: with its name before the ending, if there are others.
    pub fn log(&self, path: &Path) -> PathBuf {
        let Some(name) = &self.name else { return path.to_owned() };
        let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        path.with_file_name(format!("{stem}.{name}{ending}"))
    }

    /// Its directory of events, where `directory` was given.
    pub fn log_directory(&self, directory: &Path) -> PathBuf {
        self.name.as_ref().map_or_else(|| directory.to_owned(), |name| directory.join(name))
    }

    /// What messages about it begin with, if there are others.
    pub fn heading(&self) -> Option<String> {
        self.name.as_ref().and(self.drop.as_ref()).map(|drop| format!("without layers {drop}"))
    }
}
