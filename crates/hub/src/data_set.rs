//! Rows of data sets: the Parquet files of a split, found in the cache or brought there.
//!
//! The hub converts data sets of every form to Parquet and keeps the result on a branch of its own,
//! `refs/convert/parquet`, as `CONFIGURATION/SPLIT/0000.parquet`, `0001.parquet` and so on; of a very large split only the
//! beginning, as `CONFIGURATION/partial-SPLIT/…` (dataset-viewer, `parquet_utils.py`). Only what is asked for is fetched.
//!
//! Not covered: data sets without such a branch (those whose viewer is switched off), splits of more than 10 000 files.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use lopper_record::Fault;

use crate::cache::Cache;
use crate::choose::is_plain;
use crate::client::Client;
use crate::faults::Asked;
use crate::fetch::{bring_files, stands_in};
use crate::id::{HubId, PARQUET_REVISION};
use crate::listing::{self, Listing};
use crate::settings::Settings;
use crate::transfer::Transfer;
use crate::tree;
use crate::watch::Watch;

/// What the directory of a split's beginning is called. Names of splits have no hyphen.
const PARTIAL: &str = "partial-";
/// Most names that a message lists.
const SHOWN: usize = 8;

/// A data set of the hub at one commit of its Parquet files.
pub struct DataSet {
    repository: HubId,
    cache: Cache,
    commit: String,
    /// What the commit holds; none where the cache does not tell.
    listing: Option<Listing>,
    /// None where only the cache may be used.
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
    /// Asks the hub once what the data set `id` (`organisation/name`) holds. If it cannot be reached, what the cache
    /// knows is taken, with a warning.
    ///
    /// # Errors
    /// A [`Fault`] for what is no id, for a data set that is not there, private or gated, or has no Parquet files, and
    /// where neither the hub nor the cache can be asked.
    pub fn open(id: &str, settings: &Settings, watch: &dyn Watch) -> Result<Self> {
        let repository = HubId::data_set(id)?;
        if settings.offline {
            return Self::cached(repository, settings);
        }
        let client = Client::new(settings)?;
        match client.json(&client.address(&repository.listing()), watch).and_then(listing::read) {
            Ok(listing) => {
                let cache = Cache::new(&settings.cache, &repository);
                let commit = listing.commit.clone();
                Ok(Self { repository, cache, commit, listing: Some(listing), client: Some(client) })
            }
            Err(failure) => {
                let may_stand_in = stands_in(&failure);
                let error = Asked { client: &client, repository: &repository, file: None }.explain(failure);
                match Self::cached(repository, settings) {
                    Ok(set) if may_stand_in => {
                        watch.warn(&format!("{error:#}\nusing the cached rows of {id}, commit {}", set.commit));
                        Ok(set)
                    }
                    _ => Err(error),
                }
            }
        }
    }

    /// The data set as far as the cache has it.
    fn cached(repository: HubId, settings: &Settings) -> Result<Self> {
        let cache = Cache::new(&settings.cache, &repository);
        let commit = cache.commit_of(repository.wanted()).filter(|commit| cache.snapshot(commit).is_dir());
        let Some(commit) = commit else {
            let there = cache.directory().join("snapshots").is_dir();
            return Err(Fault::new(format!(
                "the rows of {} are not in the cache, and only the cache may be used",
                repository.id
            ))
            .file(cache.directory())
            .expected(format!("the revision {PARQUET_REVISION} in the cache"))
            .got(if there { "other revisions" } else { "nothing of this data set" })
            .hint("run it once without --offline (and HF_HUB_OFFLINE)")
            .into());
        };
        let listing = tree::read(&cache, &commit);
        Ok(Self { repository, cache, commit, listing, client: None })
    }

    /// The commit that its files are of.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The files of the first of `splits` that the configuration has, fetched as far as they are not in the cache.
    ///
    /// # Errors
    /// A [`Fault`] where there is no such split, or the cache lacks a part of it and nobody may be asked.
    pub fn split(&self, configuration: &str, splits: &[String], watch: &dyn Watch) -> Result<SplitFiles> {
        if let Some(name) = splits.iter().map(String::as_str).chain([configuration]).find(|name| !is_plain(name)) {
            return Err(Fault::new("a configuration or split has a name that is no name")
                .expected("names such as `main` and `test`")
                .got(format!("`{}`", shown(name)))
                .hint("the task's file names them in `[rows]`")
                .into());
        }
        for split in splits {
            for prefix in ["", PARTIAL] {
                let names = self.pieces(&format!("{configuration}/{prefix}{split}"))?;
                if names.is_empty() {
                    continue;
                }
                let id = &self.repository.id;
                if prefix == PARTIAL {
                    watch
                        .warn(&format!("of the split {split} of {id} the hub has only the beginning as Parquet files"));
                }
                if self.listing.is_none() {
                    watch.warn(&format!(
                        "the cache does not tell what {id} holds; what it has of {configuration}/{split} is taken for all"
                    ));
                }
                self.bring(&names, watch)?;
                let snapshot = self.cache.snapshot(&self.commit);
                let files = names.iter().map(|name| snapshot.join(name)).collect();
                return Ok(SplitFiles { split: split.clone(), files });
            }
        }
        Err(self.no_split(configuration, splits).into())
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
            Some((at, _)) => Err(self.in_part(&format!("{directory}/{at:04}.parquet")).into()),
        }
    }

    fn bring(&self, names: &[String], watch: &dyn Watch) -> Result<()> {
        let snapshot = self.cache.snapshot(&self.commit);
        let missing: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| !snapshot.join(name).is_file()).collect();
        let (Some(client), Some(listing)) = (&self.client, &self.listing) else {
            return match missing.first() {
                Some(name) => Err(self.in_part(name).into()),
                None => Ok(()),
            };
        };
        if !missing.is_empty() {
            self.cache.prepare()?;
            let transfer = Transfer { client, cache: &self.cache, repository: &self.repository, listing, watch };
            bring_files(&transfer, &missing, None)?;
        }
        tree::write(&self.cache, listing)?;
        self.cache.remember(self.repository.wanted(), &self.commit)
    }

    fn in_part(&self, name: &str) -> Fault {
        let (id, fault) = (&self.repository.id, |text: String| Fault::new(text).expected(name).got("no such file"));
        match self.client {
            Some(_) => fault(format!("a piece of {id} is missing on the hub"))
                .hint("its conversion to Parquet is damaged, or going on; try again later"),
            None => fault(format!("{id} is in the cache only in part"))
                .file(self.cache.snapshot(&self.commit))
                .hint("run it once without --offline (and HF_HUB_OFFLINE); the download goes on where it ended"),
        }
    }

    fn no_split(&self, configuration: &str, splits: &[String]) -> Fault {
        let id = &self.repository.id;
        let Some(listing) = &self.listing else {
            return self.in_part(&format!("{configuration}/{}", splits.join(" or ")));
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
            .hint("the task's file names configuration and splits in `[rows]`")
    }
}

/// Which piece of `directory` the file `name` is: `DIRECTORY/0012.parquet` is number 12.
fn number(name: &str, directory: &str) -> Option<usize> {
    let digits = name.strip_prefix(directory)?.strip_prefix('/')?.strip_suffix(".parquet")?;
    (digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Some of the names that the hub gave, in a message.
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

/// A part of a name without what could move the cursor.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_four_digits_and_stay_in_their_directory() {
        assert_eq!(number("main/test/0012.parquet", "main/test"), Some(12));
        let others = [
            "main/test2/0000.parquet",
            "main/partial-test/0000.parquet",
            "main/test/../0000.parquet",
            "main/test/00.parquet",
            "main/test/+001.parquet",
            "main/test/0000.parquet.py",
            "main/test/x/0000.parquet",
            "other/test/0000.parquet",
        ];
        others.iter().for_each(|name| assert_eq!(number(name, "main/test"), None, "{name}"));
    }

    #[test]
    fn lists_are_short_and_harmless() {
        assert_eq!(list(["a", "b\u{1b}[2J"].into_iter()), "`a`, `b[2J`");
        assert_eq!(list([].into_iter()), "(none)");
        let many = vec!["x"; 11];
        assert!(list(many.into_iter()).ends_with("`x`, 3 more"));
    }
}
