//! The header of one safetensors file, checked against the file's length.
//!
//! The format is eight bytes of header length (little-endian), a JSON header, then the tensors
//! without gaps (github.com/huggingface/safetensors). The `safetensors` crate does the parsing
//! and checks that offsets neither overlap nor leave holes and agree with shape and dtype. This
//! module checks what it leaves open (0.8 adds offsets near 2^64 without a check, and takes the
//! last of two tensors of the same name, which the format forbids), and turns what is found into
//! faults with the numbers a user needs.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use lopper_record::{Fault, Result};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

const LENGTH_BYTES: usize = 8;
/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// One tensor of a file: what it is, and which bytes of the file it occupies.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

/// The tensors of a safetensors file in the order in which they are stored.
pub(super) fn read(bytes: &[u8], path: &Path) -> Result<Vec<Entry>> {
    let header_length = check_length(bytes, path)?;
    let start = LENGTH_BYTES + header_length;
    let header = &bytes[LENGTH_BYTES..start];
    let Ok(metadata) = serde_json::from_slice::<Metadata>(header) else {
        return Err(match SafeTensors::read_metadata(bytes) {
            Err(error) => describe(error, path),
            Ok(_) => damaged(path, "an unreadable header"),
        }
        .into());
    };
    check_names(header, path)?;
    let expected = start.saturating_add(metadata.data_len());
    if bytes.len() < expected {
        return Err(truncated(path, &format!("{expected} bytes"), bytes.len()).into());
    }
    if bytes.len() > expected {
        return Err(Fault::new("the weights file is longer than its header says")
            .file(path)
            .expected(format!("{expected} bytes"))
            .got(format!("{} bytes", bytes.len()))
            .hint("the file is damaged; fetch or write it again")
            .into());
    }
    let mut entries = Vec::new();
    for name in metadata.offset_keys() {
        let Some(info) = metadata.info(&name) else { continue };
        let (from, to) = info.data_offsets;
        entries.push(Entry { dtype: info.dtype, shape: info.shape.clone(), range: start + from..start + to, name });
    }
    Ok(entries)
}

fn check_length(bytes: &[u8], path: &Path) -> Result<usize> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
        return Err(truncated(path, "at least 8 bytes", bytes.len()).into());
    };
    let length = u64::from_le_bytes(*length);
    // A pickle or a Git LFS pointer renamed to .safetensors reads as an absurd length.
    if length > MAX_HEADER_BYTES {
        let fault = Fault::new("not a safetensors file")
            .file(path)
            .expected("a header length below 100 MB in the first eight bytes")
            .got(format!("{length}"));
        return Err(if bytes.starts_with(b"version https://git-lfs") {
            fault.hint("this is a Git LFS pointer, not the weights: run `git lfs pull`").into()
        } else {
            fault.hint("the file is damaged, or of another format").into()
        });
    }
    let available = (bytes.len() - LENGTH_BYTES) as u64;
    if length <= available {
        return Ok(length as usize);
    }
    let expected = format!("at least {} bytes", length + LENGTH_BYTES as u64);
    Err(truncated(path, &expected, bytes.len()).into())
}

fn truncated(path: &Path, expected: &str, got: usize) -> Fault {
    Fault::new("the weights file is cut short")
        .file(path)
        .expected(expected)
        .got(format!("{got} bytes"))
        .hint("the download or copy did not finish; fetch the file again")
}

/// Faults if two tensors of the header have the same name.
fn check_names(header: &[u8], path: &Path) -> Result<()> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
            let mut names = HashSet::new();
            while let Some((name, _)) = map.next_entry::<String, IgnoredAny>()? {
                if let Some(twice) = names.replace(name) {
                    return Err(A::Error::custom(format!("two tensors named `{twice}`")));
                }
            }
            Ok(())
        }
    }
    let checked = serde_json::Deserializer::from_slice(header).deserialize_map(Names);
    Ok(checked.map_err(|error| damaged(path, &error.to_string()))?)
}

fn describe(error: SafeTensorError, path: &Path) -> Fault {
    match error {
        SafeTensorError::InvalidOffset(name) => {
            damaged(path, &format!("overlapping or scattered offsets at tensor `{name}`"))
        }
        SafeTensorError::TensorInvalidInfo => damaged(path, "a tensor whose offsets contradict its shape and dtype"),
        SafeTensorError::ValidationOverflow => damaged(path, "a tensor larger than memory"),
        other => damaged(path, &other.to_string()),
    }
}

fn damaged(path: &Path, got: &str) -> Fault {
    Fault::new("the header of the weights file is not valid")
        .file(path)
        .expected("a safetensors header: names, dtypes, shapes, and offsets without gaps")
        .got(got)
        .hint("the file is damaged; fetch or write it again")
}
