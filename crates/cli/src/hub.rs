//! MODEL arguments that name a model of the hub: what they mean, and a bar while it is fetched.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, Result};
use lopper_hub::{HubId, Settings, Snapshot, Watch};
use lopper_model::families;
use lopper_model::hf::{self, CONFIG};
use lopper_record::Fault;

use crate::env::Env;
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
    let mut settings = Settings::from_env()?;
    settings.offline |= env.offline;
    lopper_hub::fetch(model, &settings, &accept, &Fetching { env, state: RefCell::default() })
}

/// Faults if the model in `directory` is of a kind that cannot be read: before its weights are
/// fetched.
fn accept(directory: &Path) -> Result<()> {
    let path = directory.join(CONFIG);
    let bytes = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    families::parse_config(&hf::parse_object(&bytes, &path)?, &path).map(|_| ())
}

/// Shows a download.
struct Fetching<'a> {
    env: &'a Env,
    state: RefCell<State>,
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
        self.env.check_interrupt()
    }

    fn begin(&self, files: usize, bytes: u64) {
        let bar = Progress::of_bytes(self.env.printer, "fetching", bytes);
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
        self.env.printer.warn(text);
    }
}
