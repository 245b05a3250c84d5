//! The weights of a pruned model: one `model.safetensors`, or shards with an index, filled piece
//! by piece.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use lopper_model::Checkpoint;
use lopper_model::checkpoint::{SafetensorsWriter, TensorInfo};
use lopper_model::hf::{WEIGHTS, WEIGHTS_INDEX};
use serde_json::json;

/// One tensor to copy.
#[derive(Debug, Clone)]
pub(super) struct Copy {
    pub source: String,
    pub target: String,
    pub bytes: u64,
}

/// Copies the tensors into `directory`; returns the hash of each as it was read.
pub(super) fn write(
    checkpoint: &Checkpoint,
    copies: &[Copy],
    directory: &Path,
    max_shard_bytes: u64,
    advance: &dyn Fn(usize),
) -> Result<Vec<blake3::Hash>> {
    let shards = split(copies, max_shard_bytes);
    let mut hashes = Vec::with_capacity(copies.len());
    let mut weight_map = BTreeMap::new();
    // transformers asks for this entry.
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    for (index, shard) in shards.iter().enumerate() {
        let file = match shards.len() {
            1 => WEIGHTS.to_owned(),
            n => format!("model-{:05}-of-{n:05}.safetensors", index + 1),
        };
        let mut infos = Vec::with_capacity(shard.len());
        for copy in *shard {
            let view = checkpoint.tensor(&copy.source)?;
            infos.push(TensorInfo { name: copy.target.clone(), dtype: view.dtype, shape: view.shape.to_vec() });
            weight_map.insert(copy.target.as_str(), file.clone());
        }
        let mut writer = SafetensorsWriter::create(&directory.join(&file), &infos, &metadata)?;
        for copy in *shard {
            let mut hasher = checkpoint.tensor(&copy.source)?.hasher();
            checkpoint.read_chunks(&copy.source, &mut |piece| {
                writer.write(piece)?;
                hasher.update(piece);
                advance(piece.len());
                Ok(())
            })?;
            hashes.push(hasher.finalize());
        }
        writer.finish()?;
    }
    if shards.len() > 1 {
        let total: u64 = copies.iter().map(|copy| copy.bytes).sum();
        let index = json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        let text = serde_json::to_string_pretty(&index)? + "\n";
        super::files::write(&directory.join(WEIGHTS_INDEX), text.as_bytes())?;
    }
    Ok(hashes)
}

/// Consecutive tensors, as many in each shard as fit.
fn split(copies: &[Copy], max_shard_bytes: u64) -> Vec<&[Copy]> {
    let mut shards = Vec::new();
    let (mut start, mut bytes) = (0, 0u64);
    for (index, copy) in copies.iter().enumerate() {
        if index > start && bytes.saturating_add(copy.bytes) > max_shard_bytes {
            shards.push(&copies[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes = bytes.saturating_add(copy.bytes);
    }
    shards.push(&copies[start..]);
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_hold_what_fits_and_lose_nothing() {
        let copy = |bytes| Copy { source: String::new(), target: String::new(), bytes };
        let sizes = |max| {
            let copies: Vec<_> = [3, 4, 9, 1, 1, 2].map(copy).to_vec();
            let shards = split(&copies, max);
            shards.iter().map(|shard| shard.iter().map(|copy| copy.bytes).collect()).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(sizes(100), [[3, 4, 9, 1, 1, 2]]);
        assert_eq!(sizes(7), [vec![3, 4], vec![9], vec![1, 1, 2]]);
        assert_eq!(sizes(0).len(), 6);
    }
}
