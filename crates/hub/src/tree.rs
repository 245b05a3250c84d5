//! The listing of a commit, kept in the cache: it shows without a network whether a cached split is complete.
//!
//! Format and location are huggingface_hub's (its `_tree_cache.py`, version 2.4), so that each program knows what the
//! other downloaded. A listing that is damaged, or of another version, is ignored.

use std::collections::BTreeMap;

use lopper_record::{Result, write_atomic};
use serde::{Deserialize, Serialize};

use crate::cache::{Cache, read_up_to};
use crate::digest::Digest;
use crate::listing::{Listed, Listing};

const VERSION: u32 = 1;
/// As for the listing itself.
const MAX_BYTES: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    size: u64,
    blob_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

/// The cached listing of `commit`.
pub(crate) fn read(cache: &Cache, commit: &str) -> Option<Listing> {
    let tree: Tree = serde_json::from_slice(&read_up_to(&cache.tree(commit), MAX_BYTES).ok()?).ok()?;
    let listed = |entry: Entry| Listed {
        size: Some(entry.lfs_size.unwrap_or(entry.size)),
        digest: match &entry.lfs_sha256 {
            Some(sha256) => Digest::sha256(sha256),
            None => Digest::git(&entry.blob_id),
        },
        blob_id: Some(entry.blob_id),
    };
    let files = tree.files.into_iter().map(|(path, entry)| (path, listed(entry))).collect();
    (tree.format_version == VERSION).then(|| Listing { commit: commit.to_owned(), files })
}

/// Writes `listing` to the cache, unless it is there or lacks sizes or hashes.
pub(crate) fn write(cache: &Cache, listing: &Listing) -> Result<()> {
    if read(cache, &listing.commit).is_some() {
        return Ok(());
    }
    let entry = |listed: &Listed| {
        let lfs_sha256 = match &listed.digest {
            Some(Digest::Sha256(text)) => Some(text.clone()),
            _ => None,
        };
        let lfs_size = lfs_sha256.as_ref().and(listed.size);
        Some(Entry { size: listed.size?, blob_id: listed.blob_id.clone()?, lfs_sha256, lfs_size })
    };
    let files = listing.files.iter().map(|(path, listed)| Some((path.clone(), entry(listed)?)));
    let Some(files) = files.collect::<Option<_>>() else { return Ok(()) };
    write_atomic(&cache.tree(&listing.commit), &serde_json::to_vec_pretty(&Tree { format_version: VERSION, files })?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::HubId;
    use serde_json::{Value, json};

    const COMMIT: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn a_listing_is_read_back_and_a_damaged_one_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path(), &HubId::data_set("org/rows").unwrap());
        let (git, sha) = ("a".repeat(40), "b".repeat(64));
        let listing = |size: Value| {
            crate::listing::read(json!({"sha": COMMIT, "siblings": [
                {"rfilename": "README.md", "size": size, "blobId": git},
                {"rfilename": "main/test/0000.parquet", "size": 9, "blobId": git, "lfs": {"sha256": sha, "size": 9}},
            ]}))
            .unwrap()
        };
        write(&cache, &listing(Value::Null)).unwrap();
        assert!(read(&cache, COMMIT).is_none(), "a listing without sizes is not written");
        write(&cache, &listing(7.into())).unwrap();
        // huggingface_hub 2.4's `TreeCacheEntry.to_json`.
        let text: Value = serde_json::from_slice(&std::fs::read(cache.tree(COMMIT)).unwrap()).unwrap();
        assert_eq!(
            text,
            json!({"format_version": 1, "files": {
                "README.md": {"size": 7, "blob_id": git},
                "main/test/0000.parquet": {"size": 9, "blob_id": git, "lfs_sha256": sha, "lfs_size": 9},
            }})
        );
        let back = read(&cache, COMMIT).unwrap();
        assert_eq!(back.files["README.md"].digest, Digest::git(&git));
        assert_eq!(back.files["main/test/0000.parquet"].digest, Digest::sha256(&sha));
        for damaged in ["", "{}", "[]", r#"{"format_version": 2, "files": {}}"#, r#"{"format_version": 1, "files": 3}"#]
        {
            std::fs::write(cache.tree(COMMIT), damaged).unwrap();
            assert!(read(&cache, COMMIT).is_none(), "{damaged}");
        }
    }
}
