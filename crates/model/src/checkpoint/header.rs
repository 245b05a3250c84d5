//! The header of one safetensors file, checked against the file's length.
//!
//! The format is eight bytes of header length (little-endian), a JSON header, then the tensors
//! without gaps (github.com/huggingface/safetensors). The `safetensors` crate does the parsing
//! and checks that offsets neither overlap nor leave holes and agree with shape and dtype; this
//! module turns what it finds into faults with the numbers a user needs.

use std::ops::Range;
use std::path::Path;

use anyhow::Result;
use lopper_record::Fault;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, Metadata, SafeTensorError};

const LENGTH_BYTES: usize = 8;

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
    let (_, metadata) =
        SafeTensors::read_metadata(bytes).map_err(|error| describe(error, bytes, header_length, path))?;
    let start = LENGTH_BYTES + header_length;
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
    let available = (bytes.len() - LENGTH_BYTES) as u64;
    if length <= available {
        return Ok(length as usize);
    }
    // A pickle or a Git LFS pointer renamed to .safetensors reads as an absurd length.
    if length > 100_000_000 {
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

fn describe(error: SafeTensorError, bytes: &[u8], header_length: usize, path: &Path) -> Fault {
    match error {
        SafeTensorError::MetadataIncompleteBuffer => {
            let start = LENGTH_BYTES + header_length;
            let header = bytes.get(LENGTH_BYTES..start).unwrap_or_default();
            let Ok(metadata) = serde_json::from_slice::<Metadata>(header) else {
                return damaged(path, "an unreadable header");
            };
            let expected = start.saturating_add(metadata.data_len());
            if bytes.len() < expected {
                return truncated(path, &format!("{expected} bytes"), bytes.len());
            }
            Fault::new("the weights file is longer than its header says")
                .file(path)
                .expected(format!("{expected} bytes"))
                .got(format!("{} bytes", bytes.len()))
        }
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
