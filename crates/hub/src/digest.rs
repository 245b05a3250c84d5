//! The hashes of file contents on the hub: SHA-256 for large files, git's blob hash for others.

use std::fmt::Write;

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// The expected hash of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Digest {
    /// SHA-256 of the bytes, for files in large-file storage (LFS).
    Sha256(String),
    /// SHA-1 of `blob LENGTH\0` and the bytes: git's blob hash.
    Git(String),
}

impl Digest {
    /// `text` as a SHA-256, if it is one.
    pub fn sha256(text: &str) -> Option<Self> {
        is_hex(text, 64).then(|| Self::Sha256(text.to_owned()))
    }

    /// `text` as a git hash, if it is one.
    pub fn git(text: &str) -> Option<Self> {
        is_hex(text, 40).then(|| Self::Git(text.to_owned()))
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Computes a [`Digest`] of bytes that arrive in pieces.
pub(crate) enum Hasher {
    None,
    Sha256(Sha256),
    Git(Sha1),
}

impl Hasher {
    /// A hasher of the kind of `expected`, for a file of `bytes`.
    pub fn new(expected: Option<&Digest>, bytes: u64) -> Self {
        match expected {
            None => Self::None,
            Some(Digest::Sha256(_)) => Self::Sha256(Sha256::new()),
            Some(Digest::Git(_)) => {
                let mut hasher = Sha1::new();
                hasher.update(format!("blob {bytes}\0"));
                Self::Git(hasher)
            }
        }
    }

    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha256(hasher) => hasher.update(piece),
            Self::Git(hasher) => hasher.update(piece),
        }
    }

    /// The digest of all pieces; `None` if no hash was expected.
    pub fn finish(self) -> Option<Digest> {
        match self {
            Self::None => None,
            Self::Sha256(hasher) => Some(Digest::Sha256(hex(&hasher.finalize()))),
            Self::Git(hasher) => Some(Digest::Git(hex(&hasher.finalize()))),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(expected: &Digest, pieces: &[&[u8]]) -> Digest {
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut hasher = Hasher::new(Some(expected), bytes);
        pieces.iter().for_each(|piece| hasher.update(piece));
        hasher.finish().unwrap()
    }

    /// `printf 'hello\n' | git hash-object --stdin`, and `… | sha256sum`.
    #[test]
    fn known_values() {
        let git = Digest::git("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert_eq!(digest(&git, &[b"hel", b"lo\n"]), git);
        let sha = Digest::sha256("5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03").unwrap();
        assert_eq!(digest(&sha, &[b"hello", b"\n"]), sha);
        assert_ne!(digest(&sha, &[b"hello"]), sha);
    }

    #[test]
    fn other_texts_are_not_digests() {
        assert_eq!(Digest::git("CE013625030ba8dba906f756967f9e9ca394464a"), None);
        assert_eq!(Digest::sha256("ce01"), None);
        assert!(Hasher::new(None, 3).finish().is_none());
    }
}
