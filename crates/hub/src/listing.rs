//! The files of a repository at a commit, from `api/models/ID/revision/REV?blobs=true`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::client::Failure;
use crate::digest::Digest;
use crate::id::is_commit;

/// A file of the repository.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    /// Its size in bytes, if listed.
    pub size: Option<u64>,
    /// The hash of its contents, if listed.
    pub digest: Option<Digest>,
    /// Git's hash of it (of a large file's pointer), if listed.
    pub blob_id: Option<String>,
}

/// The files of a repository at one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub commit: String,
    /// By path. The names come from the server and are not checked.
    pub files: BTreeMap<String, Listed>,
}

#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Reads the hub's answer.
pub(crate) fn read(answer: Value) -> Result<Listing, Failure> {
    let answer: Answer = serde_json::from_value(answer)
        .map_err(|error| Failure::Malformed(format!("a listing that cannot be read: {error}")))?;
    // The commit becomes the name of a directory.
    let Some(commit) = answer.sha.filter(|sha| is_commit(sha)) else {
        return Err(Failure::Malformed("a listing without a commit".to_owned()));
    };
    let file = |sibling: Sibling| {
        let Sibling { rfilename, size, blob_id, lfs } = sibling;
        let listed = match lfs {
            Some(lfs) => {
                let digest = lfs.sha256.as_deref().and_then(Digest::sha256);
                Listed { size: lfs.size.or(size), digest, blob_id }
            }
            None => Listed { size, digest: blob_id.as_deref().and_then(Digest::git), blob_id },
        };
        (rfilename, listed)
    };
    Ok(Listing { commit, files: answer.siblings.into_iter().map(file).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn large_files_have_a_sha256_and_small_ones_a_git_hash() {
        let (git, sha, commit) = ("a".repeat(40), "b".repeat(64), "c".repeat(40));
        let listing = read(json!({"sha": commit, "private": false, "siblings": [
            {"rfilename": "config.json", "size": 7, "blobId": git},
            {"rfilename": "model.safetensors", "size": 9, "blobId": git, "lfs": {"sha256": sha, "size": 9, "pointerSize": 3}},
            {"rfilename": "other"},
        ]}))
        .unwrap();
        assert_eq!(listing.files["config.json"].digest, Digest::git(&git));
        assert_eq!(listing.files["model.safetensors"].digest, Digest::sha256(&sha));
        assert_eq!((listing.files["other"].size, &listing.files["other"].digest), (None, &None));
    }

    #[test]
    fn invalid_commits_are_refused() {
        for sha in [json!("../../x"), json!(null), json!(7), json!("main"), json!("C".repeat(40))] {
            assert!(read(json!({"sha": sha, "siblings": []})).is_err(), "{sha}");
        }
        assert!(read(json!([])).is_err());
        assert!(read(json!({"sha": "c".repeat(40), "siblings": [{"rfilename": 3}]})).is_err());
    }
}
