//! The weights of a pruned model: one `model.safetensors`, or shards with an index.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use lopper_model::Checkpoint;
use lopper_model::checkpoint::{SafetensorsWriter, TensorInfo, TensorView, encode, tensor_hashes};
use lopper_model::hf::{WEIGHTS, WEIGHTS_INDEX};
use lopper_model::param::Param;
use lopper_record::{Context, Result, ensure};
use serde_json::json;

use super::Copied;
use crate::calibration::groups;

/// One tensor to copy.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub source: String,
    pub target: String,
    pub bytes: u64,
    /// Other values than the source's.
    pub values: Option<Param>,
}

/// Copies the tensors into `directory`, reads them back and compares them with what was read.
///
/// One thread reads and hashes while another writes; each finished file is flushed to the disk, read back and compared
/// while the next one is being filled. `copied` counts bytes written and bytes compared.
pub(super) fn write(
    checkpoint: &Checkpoint,
    copies: &[Copy],
    directory: &Path,
    max_shard_bytes: u64,
    copied: &Copied<'_>,
) -> Result<()> {
    let shards = groups(copies, |copy| copy.bytes, max_shard_bytes);
    let mut weight_map = BTreeMap::new();
    std::thread::scope(|scope| -> Result<()> {
        let mut checks = Vec::with_capacity(shards.len());
        for (index, shard) in shards.iter().enumerate() {
            let file = file_name(index, shards.len());
            weight_map.extend(shard.iter().map(|copy| (copy.target.as_str(), file.clone())));
            let path = directory.join(file);
            let (writer, hashes) = fill(checkpoint, shard, &path, copied)?;
            checks.push(scope.spawn(move || -> Result<()> {
                writer.finish()?;
                compare(&path, shard, &hashes, copied)
            }));
        }
        for check in checks {
            check.join().map_err(|_| anyhow::anyhow!("the comparison of a weights file failed"))??;
        }
        Ok(())
    })?;
    if shards.len() > 1 {
        let total: u64 = copies.iter().map(|copy| copy.bytes).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        let text = serde_json::to_string_pretty(&index)? + "\n";
        super::files::write(&directory.join(WEIGHTS_INDEX), text.as_bytes())?;
    }
    Ok(())
}

/// The name of one of so many weights files.
pub(super) fn file_name(index: usize, count: usize) -> String {
    match count {
        1 => WEIGHTS.to_owned(),
        n => format!("model-{:05}-of-{n:05}.safetensors", index + 1),
    }
}

/// Changed values that are encoded at a time.
const CHUNK: usize = 1 << 18;
/// Pieces between the reader and the writer.
const IN_FLIGHT: usize = 8;

/// Copies one file's tensors; returns the file, not flushed yet, and the hash of each tensor as it was read.
fn fill(
    checkpoint: &Checkpoint,
    shard: &[Copy],
    path: &Path,
    copied: &Copied<'_>,
) -> Result<(SafetensorsWriter, Vec<blake3::Hash>)> {
    // transformers requires this entry.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let mut infos = Vec::with_capacity(shard.len());
    for copy in shard {
        infos.push(TensorInfo { name: copy.target.clone(), ..checkpoint.tensor_info(&copy.source)? });
    }
    let mut writer = SafetensorsWriter::create(path, &infos, &metadata)?;
    let hashes = std::thread::scope(|scope| -> Result<Vec<blake3::Hash>> {
        let (full, filled) = sync_channel::<Vec<u8>>(IN_FLIGHT);
        let (empty, emptied) = sync_channel::<Vec<u8>>(IN_FLIGHT);
        let reader = scope.spawn(move || -> Result<Vec<blake3::Hash>> {
            let read = |copy: &Copy| {
                let mut send = |piece: &[u8]| {
                    let mut buffer = emptied.try_recv().unwrap_or_default();
                    buffer.clear();
                    buffer.extend_from_slice(piece);
                    full.send(buffer).context("copying stopped")
                };
                match &copy.values {
                    None => checkpoint.read_hashed(&copy.source, &mut send),
                    Some(values) => encode_hashed(&checkpoint.tensor_info(&copy.source)?, values, &mut send),
                }
            };
            shard.iter().map(read).collect()
        });
        let mut written = Ok(());
        for piece in filled {
            written = copied.step.check().and_then(|()| writer.write(&piece));
            if written.is_err() {
                break; // and the reader stops, too
            }
            copied.add(piece.len());
            let _ = empty.try_send(piece);
        }
        let read = reader.join().map_err(|_| anyhow::anyhow!("reading the source failed"))?;
        written.and(read)
    })?;
    Ok((writer, hashes))
}

/// Hands the values, as the tensor `info` stores them, to `take` piece by piece, and hashes them on the way.
fn encode_hashed(info: &TensorInfo, values: &Param, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<blake3::Hash> {
    let shape = [values.rows, values.cols];
    let same = info.shape == shape || (values.rows == 1 && info.shape == shape[1..]);
    ensure!(same, "`{}` has the shape {:?}, not {shape:?}", info.name, info.shape);
    let mut hasher = TensorView { dtype: info.dtype, shape: &info.shape, data: &[] }.hasher();
    let mut bytes = Vec::new();
    for piece in values.values().chunks(CHUNK) {
        bytes.clear();
        encode(piece, info.dtype, &mut bytes)?;
        hasher.update(&bytes);
        take(&bytes)?;
    }
    Ok(hasher.finalize())
}

/// Compares every tensor of a finished file with the hash of its source.
fn compare(path: &Path, shard: &[Copy], hashes: &[blake3::Hash], copied: &Copied<'_>) -> Result<()> {
    let found = tensor_hashes(path, &|bytes| copied.add(bytes)).context("reading back what was written")?;
    ensure!(found.len() == shard.len(), "{} tensors were written, not {}", found.len(), shard.len());
    let found: BTreeMap<_, _> = found.into_iter().collect();
    for (copy, hash) in shard.iter().zip(hashes) {
        let same = found.get(&copy.target) == Some(hash);
        ensure!(same, "`{}` is not read back as it was written", copy.target);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_what_fits_and_lose_nothing() {
        let copy = |bytes| Copy { source: String::new(), target: String::new(), bytes, values: None };
        let sizes = |max| {
            let copies = [3, 4, 9, 1, 1, 2].map(copy);
            let shards = groups(&copies, |copy| copy.bytes, max);
            shards.iter().map(|shard| shard.iter().map(|copy| copy.bytes).collect()).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(sizes(100), [[3, 4, 9, 1, 1, 2]]);
        assert_eq!(sizes(7), [vec![3, 4], vec![9], vec![1, 1, 2]]);
        assert_eq!(sizes(0).len(), 6);
    }
}
