//! What comes from the hub: MODEL arguments that name a model of it and what they mean, rows of data sets
//! that no data root holds, and a bar while something is fetched.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use lopper_hub::{DataSet, HubId, Settings, Snapshot, Watch};
use lopper_model::families;
use lopper_model::hf::{self, CONFIG};
use lopper_record::Fault;
use lopper_tasks::{RowFetcher, SplitFiles};

use crate::env::Env;
use crate::interrupt;
use crate::printer::Printer;
use crate::progress::Progress;

/// The model of the hub that `argument` names; `None` where it is `local` or does not look like one.
/// A revision for anything else is a fault.
pub fn named(env: &Env, argument: &str, local: bool) -> Result<Option<HubId>> {
    let model = if local { None } else { HubId::parse(argument)? };
    match (model, &env.revision) {
        (Some(model), Some(revision)) => Ok(Some(model.at(revision)?)),
        (Some(model), None) => Ok(Some(model)),
        (None, None) => Ok(None),
        (None, Some(revision)) => Err(Fault::new("only models of the hub have revisions")
            .expected("MODEL as `organisation/name`")
            .got(format!("`{argument}`{}", if local { ", which is on this machine" } else { "" }))
            .hint(format!("leave `--revision {revision}` out"))
            .into()),
    }
}

/// Fetches the model into the cache, as far as it is not there.
pub fn fetch(env: &Env, model: &HubId) -> Result<Snapshot> {
    lopper_hub::fetch(model, &settings(env.offline)?, &accept, &Fetching::new(env.printer, &env.interrupted))
}

fn settings(offline: bool) -> Result<Settings> {
    let mut settings = Settings::from_env()?;
    settings.offline |= offline;
    Ok(settings)
}

/// Faults if the model in `directory` is of a kind that cannot be read: before its weights are
/// fetched.
fn accept(directory: &Path) -> Result<()> {
    let path = directory.join(CONFIG);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    families::parse_config(&hf::parse_object(&bytes, &path)?, &path).map(|_| ())
}

/// Rows of data sets, fetched when they are asked for. Of each data set the hub is asked once what it holds, so that
/// all tasks see the same commit.
pub struct Rows {
    printer: Printer,
    interrupted: Arc<AtomicBool>,
    offline: bool,
    opened: Mutex<BTreeMap<String, Arc<DataSet>>>,
}

impl Rows {
    pub fn new(env: &Env) -> Self {
        Self {
            printer: env.printer,
            interrupted: env.interrupted.clone(),
            offline: env.offline,
            opened: Mutex::default(),
        }
    }

    fn open(&self, id: &str, settings: &Settings, watch: &Fetching<'_>) -> Result<Arc<DataSet>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = opened.get(id) {
            return Ok(set.clone());
        }
        let set = Arc::new(DataSet::open(id, settings, watch)?);
        opened.insert(id.to_owned(), set.clone());
        Ok(set)
    }
}

impl RowFetcher for Rows {
    fn fetch(&self, data_set: &str, config: &str, splits: &[String]) -> Result<(String, SplitFiles)> {
        let watch = Fetching::new(self.printer, &self.interrupted);
        let set = self.open(data_set, &settings(self.offline)?, &watch)?;
        let found = set.split(config, splits, &watch)?;
        Ok((found.split, SplitFiles::fetched(found.files, set.commit())))
    }
}

/// Shows a download.
struct Fetching<'a> {
    printer: Printer,
    interrupted: &'a AtomicBool,
    state: RefCell<State>,
}

impl<'a> Fetching<'a> {
    fn new(printer: Printer, interrupted: &'a AtomicBool) -> Self {
        Self { printer, interrupted, state: RefCell::default() }
    }
}

#[derive(Default)]
struct State {
    bar: Option<Progress>,
    files: usize,
    file: String,
    bytes: u64,
    percent: u64,
    /// Whether the file has begun and nothing is known of it yet.
    begins: bool,
}

impl Watch for Fetching<'_> {
    fn check(&self) -> Result<()> {
        interrupt::check(self.interrupted)
    }

    fn begin(&self, files: usize, bytes: u64) {
        let bar = Progress::of_bytes(self.printer, "fetching", bytes);
        *self.state.borrow_mut() = State { bar: Some(bar), files, ..State::default() };
    }

    fn file(&self, name: &str, number: usize, bytes: u64) {
        let mut state = self.state.borrow_mut();
        state.file = format!("{name} ({number} of {}", state.files);
        (state.bytes, state.percent, state.begins) = (bytes, 0, true);
        if let Some(bar) = &state.bar {
            bar.message(&format!("{})", state.file));
        }
    }

    fn at(&self, of_file: u64, of_all: u64) {
        let mut state = self.state.borrow_mut();
        let percent = (100.0 * of_file as f64 / state.bytes.max(1) as f64) as u64;
        let changed = percent != state.percent;
        state.percent = percent;
        let begins = std::mem::take(&mut state.begins);
        if let Some(bar) = &state.bar {
            if changed {
                bar.message(&format!("{}, {percent} %)", state.file));
            }
            // The first place is where an earlier download ended.
            if begins {
                bar.begin_at(of_all);
            } else {
                bar.set_bytes(of_all);
            }
        }
    }

    fn end(&self) {
        self.state.borrow_mut().bar = None;
    }

    fn warn(&self, text: &str) {
        self.printer.warn(text);
    }
}
