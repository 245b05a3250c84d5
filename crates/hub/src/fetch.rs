//! A model's snapshot: found in the cache, or downloaded into it.

use std::fs;
use std::path::{Path, PathBuf};

use lopper_record::{Fault, Progress, Result, Step};

use crate::cache::Cache;
use crate::client::{Client, Failure};
use crate::faults::FailedRequest;
use crate::id::{HubId, is_commit};
use crate::listing::{self, Listing};
use crate::model_files::{self, CONFIG, MAX_SIDE_FILE_BYTES, PICKLES, WEIGHTS, WEIGHTS_INDEX, Weights, is_side_file};
use crate::settings::Settings;
use crate::transfer::{FileProgress, Planned, Transfer, count};

/// Disk space to leave for what other programs write meanwhile.
const SPARE_BYTES: u64 = 64 << 20;

/// A model of the hub on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `organisation/name`.
    pub id: String,
    /// The commit of its files.
    pub commit: String,
    /// The directory of its files: a model directory like any other.
    pub directory: PathBuf,
}

impl Snapshot {
    /// `organisation/name@COMMIT`: identifies exactly these files, and can be given as MODEL.
    pub fn name(&self) -> String {
        format!("{}@{}", self.id, self.commit)
    }
}

/// The snapshot of `model`; files that the cache lacks are downloaded.
///
/// A full commit that is in the cache is used without any request; for a branch or a tag the hub is asked for its
/// commit. If the hub cannot be reached, the cached commit of the branch is used, with a warning. `accept` is called
/// with the snapshot's directory once everything but the weights is there, so that the weights of a model that cannot
/// be read are not downloaded.
///
/// # Errors
/// A [`Fault`] for a model that does not exist, is private, gated or not in safetensors, and where neither hub nor
/// cache has it; what `accept` returns; [`Interrupted`](lopper_record::Interrupted), after which the next call resumes
/// the download.
pub fn fetch(
    model: &HubId,
    settings: &Settings,
    accept: &dyn Fn(&Path) -> Result<()>,
    progress: &dyn Progress,
) -> Result<Snapshot> {
    let cache = Cache::new(&settings.cache, model);
    let snapshot =
        |commit: &str| Snapshot { id: model.id.clone(), commit: commit.to_owned(), directory: cache.snapshot(commit) };
    let cached = || cached_model(model, &cache);
    if settings.offline {
        return Ok(snapshot(&cached()?));
    }
    let revision = model.wanted_revision();
    if is_commit(revision) && missing_file(model, &cache.snapshot(revision)).is_ok_and(|file| file.is_none())
        // Programs that download weights alone leave out the tokenizer.
        && has_tokenizer(&cache.snapshot(revision))
    {
        return Ok(snapshot(revision));
    }
    let client = Client::new(settings)?;
    let listing = match resolve(&client, model, cached, progress)? {
        Resolved::Hub(listing) => listing,
        Resolved::Cache(commit) => return Ok(snapshot(&commit)),
    };
    let transfer = Transfer { client: &client, cache: &cache, repository: model, listing: &listing, progress };
    download_model(&transfer, accept)?;
    if revision != listing.commit {
        cache.set_reference(revision, &listing.commit)?;
    }
    Ok(snapshot(&listing.commit))
}

/// The state of a repository at its revision.
pub(crate) enum Resolved {
    /// As the hub lists it.
    Hub(Listing),
    /// The commit in the cache, because the hub does not respond.
    Cache(String),
}

/// Requests the listing of `repository`. If the hub does not respond, the commit that `cached` finds is used, with a
/// warning.
pub(crate) fn resolve(
    client: &Client,
    repository: &HubId,
    cached: impl FnOnce() -> Result<String>,
    progress: &dyn Progress,
) -> Result<Resolved> {
    let failure = match client.json(&client.address(&repository.listing()), progress).and_then(listing::read) {
        Ok(listing) => return Ok(Resolved::Hub(listing)),
        Err(failure) => failure,
    };
    // Whoever lost access should learn of it, so the cache replaces only a hub that does not work.
    let out_of_reach = match &failure {
        Failure::Unreachable { .. } => true,
        Failure::Status(status) => status.is_transient() || status.code == 429,
        Failure::Malformed(_) | Failure::Stopped(_) => false,
    };
    let error = FailedRequest { client, repository, file: None }.explain(failure);
    match if out_of_reach { cached().ok() } else { None } {
        Some(commit) => {
            let (id, revision) = (&repository.id, repository.wanted_revision());
            progress.warn(&format!("{error:#}\nusing the cached state of {id}@{revision}, commit {commit}"));
            Ok(Resolved::Cache(commit))
        }
        None => Err(error),
    }
}

/// Downloads what the snapshot lacks: weights last, so that a snapshot that has its weights is complete.
fn download_model(transfer: &Transfer<'_>, accept: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
    let Transfer { cache, repository: model, listing, .. } = transfer;
    let weights = model_files::weights(model, listing.files.keys().map(String::as_str))?;
    let snapshot = cache.snapshot(&listing.commit);
    cache.prepare()?;
    let mut names: Vec<&str> = listing.files.keys().map(String::as_str).filter(|name| is_side_file(name)).collect();
    if weights == Weights::Shards {
        names.push(WEIGHTS_INDEX);
    }
    download_files(transfer, &names, Some(MAX_SIDE_FILE_BYTES))?;
    accept(&snapshot)?;
    match weights {
        Weights::One => download_files(transfer, &[WEIGHTS], None),
        Weights::Shards => {
            let shards = model_files::shards(&snapshot.join(WEIGHTS_INDEX))?;
            if let Some(shard) = shards.iter().find(|shard| !listing.files.contains_key(*shard)) {
                return Err(Fault::new(format!("a shard of {} is missing", model.id))
                    .file(snapshot.join(WEIGHTS_INDEX))
                    .expected(format!("the {} files that it names", shards.len()))
                    .got(format!("a repository without {shard}"))
                    .hint("the repository is damaged; try another revision")
                    .into());
            }
            download_files(transfer, &shards.iter().map(String::as_str).collect::<Vec<_>>(), None)
        }
    }
}

/// Downloads those of the files `names` that the snapshot lacks; a file of more than `most` bytes is a fault.
pub(crate) fn download_files(transfer: &Transfer<'_>, names: &[&str], most: Option<u64>) -> Result<()> {
    let snapshot = transfer.cache.snapshot(&transfer.listing.commit);
    let mut files: Vec<Planned> = Vec::new();
    for name in names.iter().filter(|name| !snapshot.join(name).is_file()) {
        let file = transfer.plan(name)?;
        if let Some(most) = most.filter(|most| file.size > *most) {
            return Err(Fault::new(format!("{name} of {} is too large", transfer.repository.id))
                .expected(format!("at most {most} bytes"))
                .got(format!("{} bytes", file.size))
                .hint("a file of this name is never that large; the repository may be damaged")
                .into());
        }
        files.push(file);
    }
    if files.is_empty() {
        return Ok(());
    }
    // Bytes of each file that an earlier download left.
    let found: Vec<u64> = files.iter().map(|file| transfer.found(file)).collect();
    let (total, mut present) = (sum(files.iter().map(|file| file.size)), sum(found.iter().copied()));
    if present < total {
        transfer.cache.check_space((total - present).saturating_add(SPARE_BYTES))?;
    }
    let step = transfer.progress.step(Step::new("downloading", Step::BYTES, count(total)).found(count(present)));
    for (index, (file, found)) in files.iter().zip(found).enumerate() {
        transfer.progress.check()?;
        let others = present - found;
        let label = format!("{} ({} of {}", file.path, index + 1, files.len());
        transfer.fetch(file, &FileProgress::new(&*step, label, file.size, others))?;
        present = others.saturating_add(file.size);
        step.set(count(present));
    }
    Ok(())
}

fn sum(bytes: impl Iterator<Item = u64>) -> u64 {
    bytes.fold(0, u64::saturating_add)
}

/// The commit of `model` that the cache has in full.
fn cached_model(model: &HubId, cache: &Cache) -> Result<String> {
    let commit = cache.cached_commit(model)?;
    match missing_file(model, &cache.snapshot(&commit))? {
        None => Ok(commit),
        Some(file) => Err(cache.incomplete(model, &commit, &file).into()),
    }
}

/// The first file that a snapshot lacks to be a model.
fn missing_file(model: &HubId, snapshot: &Path) -> Result<Option<String>> {
    let has = |name: &str| snapshot.join(name).is_file();
    if !has(CONFIG) {
        return Ok(Some(CONFIG.to_owned()));
    }
    if has(WEIGHTS) {
        return Ok(None);
    }
    if has(WEIGHTS_INDEX) {
        let shards = model_files::shards(&snapshot.join(WEIGHTS_INDEX))?;
        return Ok(shards.into_iter().find(|shard| !has(shard)));
    }
    // A snapshot with pickles alone is not an unfinished download.
    let names: Vec<String> = fs::read_dir(snapshot)
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    if names.iter().any(|name| PICKLES.iter().chain(&[".gguf"]).any(|ending| name.ends_with(ending))) {
        model_files::weights(model, names.iter().map(String::as_str))?;
    }
    Ok(Some(WEIGHTS.to_owned()))
}

fn has_tokenizer(snapshot: &Path) -> bool {
    ["tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"].iter().any(|name| snapshot.join(name).is_file())
}
