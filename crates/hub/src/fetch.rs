//! A model's snapshot in the cache: found there, or brought there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use lopper_record::Fault;

use crate::cache::Cache;
use crate::choose::{self, CONFIG, MAX_SIDE_FILE_BYTES, WEIGHTS, WEIGHTS_INDEX, Weights, is_side_file};
use crate::client::{Client, Failure};
use crate::faults::Asked;
use crate::id::{HubId, is_commit};
use crate::listing;
use crate::settings::Settings;
use crate::transfer::{Planned, Transfer};
use crate::watch::Watch;

/// Room left for what else is written meanwhile.
const SPARE_BYTES: u64 = 64 << 20;

/// A model of the hub on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `organisation/name`.
    pub id: String,
    /// The commit that its files are of.
    pub commit: String,
    /// Where they lie: a model directory like any other.
    pub directory: PathBuf,
}

impl Snapshot {
    /// `organisation/name@COMMIT`: names exactly these files, and can be given as MODEL.
    pub fn name(&self) -> String {
        format!("{}@{}", self.id, self.commit)
    }
}

/// The snapshot of `model`, fetched as far as it is not in the cache.
///
/// A full commit that is in the cache is taken without asking anybody; for a branch or a tag the hub
/// is asked for its commit. If it cannot be reached, what the cache knows of the branch is taken,
/// with a warning. `accept` is asked about the snapshot's directory once everything but the weights
/// is there: a model that cannot be read anyway need not be fetched.
pub fn fetch(
    model: &HubId,
    settings: &Settings,
    accept: &dyn Fn(&Path) -> Result<()>,
    watch: &dyn Watch,
) -> Result<Snapshot> {
    let cache = Cache::new(&settings.cache, model);
    let snapshot =
        |commit: &str| Snapshot { id: model.id.clone(), commit: commit.to_owned(), directory: cache.snapshot(commit) };
    if settings.offline {
        return Ok(snapshot(&cached(model, &cache)?));
    }
    let revision = model.wanted();
    if is_commit(revision) && lacks(model, &cache.snapshot(revision)).is_ok_and(|lack| lack.is_none())
        // A tokenizer is what other programs leave out when they fetch weights alone.
        && has_tokenizer(&cache.snapshot(revision))
    {
        return Ok(snapshot(revision));
    }
    let client = Client::new(settings)?;
    let listing = match client.json(&client.address(&model.listing()), watch).and_then(listing::read) {
        Ok(listing) => listing,
        Err(failure) => {
            let fallback = if stands_in(&failure) { cached(model, &cache).ok() } else { None };
            let error = Asked { client: &client, repository: model, file: None }.explain(failure);
            let Some(commit) = fallback else { return Err(error) };
            watch.warn(&format!("{error:#}\nusing the cached state of {}@{revision}, commit {commit}", model.id));
            return Ok(snapshot(&commit));
        }
    };
    let transfer = Transfer { client: &client, cache: &cache, repository: model, listing: &listing, watch };
    bring(&transfer, accept)?;
    if revision != listing.commit {
        cache.remember(revision, &listing.commit)?;
    }
    Ok(snapshot(&listing.commit))
}

/// Whether the cache may stand in for an answer that failed like this.
pub(crate) fn stands_in(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } => true,
        Failure::Status(status) => status.passes() || status.code == 429,
        Failure::Nonsense(_) | Failure::Stopped(_) => false,
    }
}

/// Fetches what the snapshot lacks: everything else first, weights last, so that a snapshot that
/// has its weights has everything.
fn bring(transfer: &Transfer<'_>, accept: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let Transfer { cache, repository: model, listing, .. } = transfer;
    let weights = choose::weights(model, listing.files.keys().map(String::as_str))?;
    let snapshot = cache.snapshot(&listing.commit);
    cache.prepare()?;
    let mut names: Vec<&str> = listing.files.keys().map(String::as_str).filter(|name| is_side_file(name)).collect();
    if weights == Weights::Shards {
        names.push(WEIGHTS_INDEX);
    }
    bring_files(transfer, &names, Some(MAX_SIDE_FILE_BYTES))?;
    accept(&snapshot)?;
    match weights {
        Weights::One => bring_files(transfer, &[WEIGHTS], None),
        Weights::Shards => {
            let shards = choose::shards(&snapshot.join(WEIGHTS_INDEX))?;
            if let Some(shard) = shards.iter().find(|shard| !listing.files.contains_key(*shard)) {
                return Err(Fault::new(format!("a shard of {} is missing", model.id))
                    .file(snapshot.join(WEIGHTS_INDEX))
                    .expected(format!("the {} files that it names", shards.len()))
                    .got(format!("a repository without {shard}"))
                    .hint("the repository is damaged; another revision may not be")
                    .into());
            }
            bring_files(transfer, &shards.iter().map(String::as_str).collect::<Vec<_>>(), None)
        }
    }
}

/// Fetches those of the files `names` that the snapshot lacks, none of them larger than `most`.
pub(crate) fn bring_files(transfer: &Transfer<'_>, names: &[&str], most: Option<u64>) -> Result<()> {
    let snapshot = transfer.cache.snapshot(&transfer.listing.commit);
    let mut files: Vec<Planned> = Vec::new();
    for name in names.iter().filter(|name| !snapshot.join(name).is_file()) {
        let file = transfer.plan(name)?;
        if let Some(most) = most.filter(|most| file.size > *most) {
            return Err(Fault::new(format!("{name} of {} is too large", transfer.repository.id))
                .expected(format!("at most {most} bytes"))
                .got(format!("{} bytes", file.size))
                .hint("it is not what its name says")
                .into());
        }
        files.push(file);
    }
    let missing = files.iter().map(|file| transfer.missing(file)).fold(0u64, u64::saturating_add);
    if missing > 0 {
        transfer.cache.check_space(missing.saturating_add(SPARE_BYTES))?;
    }
    if files.is_empty() {
        return Ok(());
    }
    transfer.watch.begin(files.len(), files.iter().map(|file| file.size).fold(0, u64::saturating_add));
    let mut before = 0;
    let fetched = files.iter().enumerate().try_for_each(|(index, file)| {
        transfer.watch.check()?;
        transfer.watch.file(&file.path, index + 1, file.size);
        transfer.fetch(file, before)?;
        before += file.size;
        transfer.watch.at(file.size, before);
        Ok(())
    });
    transfer.watch.end();
    fetched
}

/// The commit of `model` that the cache has whole.
fn cached(model: &HubId, cache: &Cache) -> Result<String> {
    let revision = model.wanted();
    let commit = cache.commit_of(revision).filter(|commit| cache.snapshot(commit).is_dir());
    let Some(commit) = commit else {
        let there = cache.directory().join("snapshots").is_dir();
        return Err(Fault::new(format!("{} is not in the cache, and only the cache may be used", model.id))
            .file(cache.directory())
            .expected(format!("a directory {} on this machine, or the revision `{revision}` in the cache", model.id))
            .got(if there { "other revisions" } else { "nothing of this model" })
            .hint("run it once without --offline (and HF_HUB_OFFLINE), or name a revision that is there")
            .into());
    };
    let directory = cache.snapshot(&commit);
    match lacks(model, &directory)? {
        None => Ok(commit),
        Some(file) => Err(Fault::new(format!("{} is in the cache only in part", model.id))
            .file(&directory)
            .expected(file.clone())
            .got(format!("no {file}"))
            .hint("run it once without --offline (and HF_HUB_OFFLINE); the download goes on where it ended")
            .into()),
    }
}

/// The first file that a snapshot lacks to be a model.
fn lacks(model: &HubId, snapshot: &Path) -> Result<Option<String>> {
    let has = |name: &str| snapshot.join(name).is_file();
    if !has(CONFIG) {
        return Ok(Some(CONFIG.to_owned()));
    }
    if has(WEIGHTS) {
        return Ok(None);
    }
    if has(WEIGHTS_INDEX) {
        let shards = choose::shards(&snapshot.join(WEIGHTS_INDEX))?;
        return Ok(shards.into_iter().find(|shard| !has(shard)));
    }
    // Pickles alone are not half a download.
    let names: Vec<String> = fs::read_dir(snapshot)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    if names.iter().any(|name| [".bin", ".pt", ".pth", ".gguf"].iter().any(|ending| name.ends_with(ending))) {
        choose::weights(model, names.iter().map(String::as_str))?;
    }
    Ok(Some(WEIGHTS.to_owned()))
}

fn has_tokenizer(snapshot: &Path) -> bool {
    ["tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"].iter().any(|name| snapshot.join(name).is_file())
}
