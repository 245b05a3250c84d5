//! The record of a search: its settings, its finished rounds, and the warnings on the way.

use std::collections::BTreeMap;
use std::path::Path;

use lopper_prune::search::{Problem, State, Strategy};
use lopper_record::study::{GapAlarm, SentinelReading};
use lopper_record::{Context, Fault, LayerSet, Result, changed_keys, ensure_writable, write_atomic};
use lopper_tasks::{GenerationPolicy, ItemSelection};
use serde::{Deserialize, Serialize};

/// The record in the output directory.
const RECORD: &str = "search.json";
/// The plan that comes of it.
pub const PLAN: &str = "cut.json";

/// A search as it is recorded. Layers are positions in the model that was searched; `layers` are
/// their original numbers.
#[derive(Serialize, Deserialize)]
pub struct Record {
    /// What decides the answer.
    pub spec: Spec,
    /// Original numbers of the model's layers.
    pub layers: LayerSet,
    pub state: State,
    /// What the sentinels read of the uncut model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uncut: Option<SentinelReading>,
    /// What they read of the winner of each round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: BTreeMap<usize, SentinelReading>,
    /// The gap alarms that were raised, by round.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub gaps: BTreeMap<usize, GapAlarm>,
    /// Why the search ended before its last round, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Original numbers of the layers to remove, once the search is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<LayerSet>,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub struct Spec {
    pub model: String,
    pub hash: String,
    /// Identifies the adapter that the model had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    pub problem: Problem,
    pub strategy: Strategy,
    pub tasks: Vec<(String, u32)>,
    pub items: ItemSelection,
    pub policy: GenerationPolicy,
    pub dtype: String,
    pub version: String,
}

/// Refuses a directory that cannot be written, and one that holds other things than a search, unless `force`.
pub fn check_directory(out: &Path, force: bool) -> Result<()> {
    ensure_writable(out)?;
    let mut other = std::fs::read_dir(out).into_iter().flatten();
    if !force && !out.join(RECORD).exists() && other.next().is_some() {
        return Err(Fault::new("the output directory holds something that is not a search")
            .file(out)
            .expected("a new or empty directory, or one that `lopper search` wrote")
            .hint("choose another directory with --out, or add --force to write there all the same")
            .into());
    }
    Ok(())
}

/// The record to go on from: what is there, or a new one.
pub fn open(directory: &Path, spec: Spec, layers: &LayerSet, force: bool) -> Result<Record> {
    let path = &directory.join(RECORD);
    let new = |spec| Record {
        spec,
        layers: layers.clone(),
        state: State::default(),
        uncut: None,
        readings: BTreeMap::new(),
        gaps: BTreeMap::new(),
        stopped: None,
        removed: None,
    };
    if force {
        return Ok(new(spec));
    }
    if path.symlink_metadata().is_err() {
        return Ok(new(spec));
    }
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let fault = |got: String| {
        Fault::new("another search is recorded here")
            .file(path)
            .expected("the same model, tasks, items and strategy, or nothing")
            .got(got)
            .hint("name another directory with --out, or replace this one with --force")
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string()))?;
    if record.spec != spec {
        let changes = changed_keys(&serde_json::to_value(&record.spec)?, &serde_json::to_value(&spec)?);
        let search = format!("a search of {} for {} layers", record.spec.model, record.spec.problem.remove);
        return Err(fault(format!("{search}: {changes}")).into());
    }
    Ok(record)
}

impl Record {
    /// Writes the record into `directory`.
    pub fn write(&self, directory: &Path) -> Result<()> {
        write_atomic(&directory.join(RECORD), (serde_json::to_string_pretty(self)? + "\n").as_bytes())
    }
}
