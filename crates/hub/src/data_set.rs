//! Rows of data sets: the Parquet files of a split, found in the cache or downloaded into it.
//!
//! The hub converts data sets of every format to Parquet and keeps the result on a separate branch,
//! `refs/convert/parquet`, as `CONFIGURATION/SPLIT/0000.parquet`, `0001.parquet` and so on; of a very large split only
//! the beginning, as `CONFIGURATION/partial-SPLIT/…` (dataset-viewer, `parquet_utils.py`). Only the requested splits
//! are downloaded.
//!
//! Not covered: data sets without such a branch (those with a disabled viewer), splits of more than 10 000 files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use lopper_record::{Fault, Progress, Result};

use crate::cache::Cache;
use crate::client::Client;
use crate::fetch::{Resolved, download_files, resolve};
use crate::id::{HubId, PARQUET_REVISION};
use crate::listing::Listing;
use crate::model_files::is_plain;
use crate::settings::Settings;
use crate::transfer::Transfer;
use crate::tree;

/// Prefix of the directory of a split that is converted only in part. Names of splits have no hyphen.
const PARTIAL: &str = "partial-";
/// The configuration of a data set that names none.
const DEFAULT: &str = "default";
/// The most names that a message lists.
const SHOWN: usize = 8;

/// A data set of the hub at one commit of its Parquet files.
pub struct DataSet {
    repository: HubId,
    cache: Cache,
    commit: String,
    /// The commit's files; none if the cache has no listing.
    listing: Option<Listing>,
    /// None if only the cache may be used.
    client: Option<Client>,
}

/// A split on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitFiles {
    /// Its name.
    pub split: String,
    /// Its pieces, in order.
    pub files: Vec<PathBuf>,
}

impl DataSet {
    /// Requests the listing of the data set `id` (`organisation/name`), once. If the hub cannot be reached, the cached
    /// state is used, with a warning.
    ///
    /// # Errors
    /// A [`Fault`] for text that is not an id, for a data set that does not exist, is private, gated or without Parquet
    /// files, and where neither the hub nor the cache has it.
    pub fn open(id: &str, settings: &Settings, progress: &dyn Progress) -> Result<Self> {
        let repository = HubId::data_set(id)?;
        if settings.offline {
            return Self::cached(repository, settings);
        }
        let client = Client::new(settings)?;
        let cache = Cache::new(&settings.cache, &repository);
        match resolve(&client, &repository, || cache.cached_commit(&repository), progress)? {
            Resolved::Hub(listing) => {
                let commit = listing.commit.clone();
                Ok(Self { repository, cache, commit, listing: Some(listing), client: Some(client) })
            }
            Resolved::Cache(_) => Self::cached(repository, settings),
        }
    }

    /// The data set in the cache.
    fn cached(repository: HubId, settings: &Settings) -> Result<Self> {
        let cache = Cache::new(&settings.cache, &repository);
        let commit = cache.cached_commit(&repository)?;
        let listing = tree::read(&cache, &commit);
        Ok(Self { repository, cache, commit, listing, client: None })
    }

    /// The commit of its files.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The files of the first of `splits` that the configuration has, downloaded if they are not in the cache. The
    /// configuration `default` is the only one, where there is one only.
    ///
    /// # Errors
    /// A [`Fault`] if there is no such split, or if the cache lacks a part of it and only the cache may be used.
    pub fn split(&self, configuration: &str, splits: &[String], progress: &dyn Progress) -> Result<SplitFiles> {
        if let Some(name) = splits.iter().map(String::as_str).chain([configuration]).find(|name| !is_plain(name)) {
            return Err(Fault::new("the name of a configuration or split is not valid")
                .expected("names such as `main` and `test`")
                .got(format!("`{}`", shown(name)))
                .hint("the task's file names them in `[rows]`")
                .into());
        }
        let configuration = self.meant(configuration);
        for split in splits {
            for prefix in ["", PARTIAL] {
                let names = self.pieces(&format!("{configuration}/{prefix}{split}"))?;
                if names.is_empty() {
                    continue;
                }
                let id = &self.repository.id;
                if prefix == PARTIAL {
                    progress
                        .warn(&format!("the hub has only the beginning of the split {split} of {id} as Parquet files"));
                }
                if self.listing.is_none() {
                    progress.warn(&format!(
                        "the cache has no listing of {id}; its files of {configuration}/{split} are assumed to be all"
                    ));
                }
                self.download(&names, progress)?;
                let snapshot = self.cache.snapshot(&self.commit);
                let files = names.iter().map(|name| snapshot.join(name)).collect();
                return Ok(SplitFiles { split: split.clone(), files });
            }
        }
        Err(self.no_split(configuration, splits).into())
    }

    /// The configuration that `name` stands for: where none is called [`DEFAULT`], and there is only one, that one.
    fn meant<'a>(&'a self, name: &'a str) -> &'a str {
        let files = self.listing.iter().flat_map(|listing| listing.files.keys());
        let all: BTreeSet<&str> = files.filter_map(|name| Some(name.split_once('/')?.0)).collect();
        match all.first() {
            Some(only) if name == DEFAULT && all.len() == 1 => only,
            _ => name,
        }
    }

    /// The names of the pieces in `directory` of the repository, in order.
    fn pieces(&self, directory: &str) -> Result<Vec<String>> {
        let mut pieces: Vec<(usize, String)> = match &self.listing {
            Some(listing) => {
                listing.files.keys().filter_map(|name| Some((number(name, directory)?, name.clone()))).collect()
            }
            None => {
                let entries = fs::read_dir(self.cache.snapshot(&self.commit).join(directory));
                let names =
                    entries.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
                let names = names.map(|name| format!("{directory}/{name}"));
                names.filter_map(|name| Some((number(&name, directory)?, name))).collect()
            }
        };
        pieces.sort();
        match pieces.iter().enumerate().find(|(at, (number, _))| at != number) {
            None => Ok(pieces.into_iter().map(|(_, name)| name).collect()),
            Some((at, _)) => Err(self.missing(&format!("{directory}/{at:04}.parquet")).into()),
        }
    }

    fn download(&self, names: &[String], progress: &dyn Progress) -> Result<()> {
        let snapshot = self.cache.snapshot(&self.commit);
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !snapshot.join(name).is_file()).collect();
        let (Some(client), Some(listing)) = (&self.client, &self.listing) else {
            return match missing.first() {
                Some(name) => Err(self.missing(name).into()),
                None => Ok(()),
            };
        };
        if !missing.is_empty() {
            self.cache.prepare()?;
            let transfer = Transfer { client, cache: &self.cache, repository: &self.repository, listing, progress };
            download_files(&transfer, &missing, None)?;
        }
        tree::write(&self.cache, listing)?;
        self.cache.set_reference(self.repository.wanted_revision(), &self.commit)
    }

    fn missing(&self, name: &str) -> Fault {
        match self.client {
            Some(_) => Fault::new(format!("a piece of {} is missing on the hub", self.repository.id))
                .expected(name)
                .got("no such file")
                .hint("its conversion to Parquet is damaged or unfinished; try again later"),
            None => self.cache.incomplete(&self.repository, &self.commit, name),
        }
    }

    fn no_split(&self, configuration: &str, splits: &[String]) -> Fault {
        let id = &self.repository.id;
        let Some(listing) = &self.listing else {
            return self.missing(&format!("{configuration}/{}", splits.join(" or ")));
        };
        let mut there: BTreeSet<(&str, &str)> = BTreeSet::new();
        for name in listing.files.keys() {
            let mut parts = name.splitn(3, '/');
            if let (Some(configuration), Some(split), Some(_)) = (parts.next(), parts.next(), parts.next()) {
                there.insert((configuration, split));
            }
        }
        let own: Vec<&str> = there.iter().filter(|(name, _)| *name == configuration).map(|(_, split)| *split).collect();
        let got = if own.is_empty() {
            let names: BTreeSet<&str> = there.iter().map(|(name, _)| *name).collect();
            format!("the configurations {}", list(names.into_iter()))
        } else {
            format!("the splits {}", list(own.into_iter()))
        };
        Fault::new(format!("{id} has no split `{}` in a configuration `{configuration}`", splits.join("` or `")))
            .expected(format!("{configuration}/{}/0000.parquet on its branch {PARQUET_REVISION}", splits.join(" or ")))
            .got(got)
            .hint("a task's file names configuration and splits in `[rows]`; rows of prompts have --config and --split")
    }
}

/// The number of the piece `name` of `directory`: `DIRECTORY/0012.parquet` is 12.
fn number(name: &str, directory: &str) -> Option<usize> {
    let digits = name.strip_prefix(directory)?.strip_prefix('/')?.strip_suffix(".parquet")?;
    (digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The first few of the hub's names, for a message.
fn list<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let (count, mut names) = (names.len(), names);
    let mut text: Vec<String> = names.by_ref().take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
    if text.is_empty() {
        return "(none)".to_owned();
    }
    if count > SHOWN {
        text.push(format!("{} more", count - SHOWN));
    }
    text.join(", ")
}

/// The beginning of a name without control characters.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_four_digits_and_stay_in_their_directory() {
        assert_eq!(number("main/test/0012.parquet", "main/test"), Some(12));
        let others = "main/test2/0000.parquet main/partial-test/0000.parquet main/test/../0000.parquet main/test/00.parquet \
            main/test/+001.parquet main/test/0000.parquet.py main/test/x/0000.parquet other/test/0000.parquet";
        others.split(' ').for_each(|name| assert_eq!(number(name, "main/test"), None, "{name}"));
    }

    #[test]
    fn lists_are_short_and_harmless() {
        assert_eq!(list(["a", "b\u{1b}[2J"].into_iter()), "`a`, `b[2J`");
        assert_eq!(list([].into_iter()), "(none)");
        let many = vec!["x"; 11];
        assert!(list(many.into_iter()).ends_with("`x`, 3 more"));
    }
}
