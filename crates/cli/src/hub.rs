//! Downloads from the hub: models given as MODEL, rows of data sets that are not in the data root, and their progress.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use lopper_hub::{DataSet, HubId, Settings, Snapshot};
use lopper_model::families;
use lopper_model::hf::{self, CONFIG};
use lopper_record::{Context as _, Fault, Progress, Result};
use lopper_tasks::{RowFetcher, SplitFiles};

use crate::context::Context;
use crate::printer::Printer;
use crate::progress::TerminalProgress;

/// The model of the hub that `argument` names; `None` where it is `local` or does not look like one.
/// A revision for anything else is a fault.
pub fn named(context: &Context, argument: &str, local: bool) -> Result<Option<HubId>> {
    let model = if local { None } else { HubId::parse(argument)? };
    match (model, &context.revision) {
        (Some(model), Some(revision)) => Ok(Some(model.at(revision)?)),
        (Some(model), None) => Ok(Some(model)),
        (None, None) => Ok(None),
        (None, Some(revision)) => Err(Fault::new("only models of the hub have revisions")
            .expected("MODEL as `organisation/name`")
            .got(format!("`{argument}`{}", if local { ", a model on this machine" } else { "" }))
            .hint(format!("leave `--revision {revision}` out"))
            .into()),
    }
}

/// Downloads the model into the cache unless it is there.
pub fn fetch(context: &Context, model: &HubId) -> Result<Snapshot> {
    lopper_hub::fetch(model, &settings(context.offline)?, &accept, &context.progress)
}

fn settings(offline: bool) -> Result<Settings> {
    let mut settings = Settings::from_env()?;
    settings.offline |= offline;
    Ok(settings)
}

/// Checks that the model in `directory` is of a family that Lopper reads, before its weights are downloaded.
fn accept(directory: &Path) -> Result<()> {
    let path = directory.join(CONFIG);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    families::parse_config(&hf::parse_object(&bytes, &path)?, &path).map(|_| ())
}

/// Rows of data sets, downloaded when they are needed. The listing of each data set is requested once, so that all
/// tasks use the same commit.
pub struct Rows {
    printer: Printer,
    interrupted: Arc<AtomicBool>,
    offline: bool,
    opened: Mutex<BTreeMap<String, Arc<DataSet>>>,
}

impl Rows {
    pub fn new(context: &Context) -> Self {
        Self {
            printer: context.printer.clone(),
            interrupted: context.interrupted.clone(),
            offline: context.offline,
            opened: Mutex::default(),
        }
    }

    fn open(&self, id: &str, settings: &Settings, progress: &dyn Progress) -> Result<Arc<DataSet>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = opened.get(id) {
            return Ok(set.clone());
        }
        let set = Arc::new(DataSet::open(id, settings, progress)?);
        opened.insert(id.to_owned(), set.clone());
        Ok(set)
    }
}

impl RowFetcher for Rows {
    fn fetch(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, SplitFiles)> {
        let progress = TerminalProgress::new(self.printer.clone(), self.interrupted.clone());
        let set = self.open(data_set, &settings(self.offline)?, &progress)?;
        let found = set.split(config, splits, &progress)?;
        Ok((found.split, SplitFiles::fetched(found.files, set.commit())))
    }
}
