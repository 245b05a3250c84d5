//! A checkpoint: a Hugging Face model directory opened for reading, or a model compiled into the
//! program.
//!
//! Weights stay in the dtype in which they are stored and are memory-mapped, so opening costs
//! nothing and pages arrive as they are used. Opening checks everything that can be checked
//! without reading the weights: headers against file lengths, the index against the shards, the
//! configuration against names, shapes and dtypes. What comes from files is not trusted.
//!
//! Tensors under other names than transformers' are known by those (`checkpoint/dress.rs`); weights in F64 and in 8-bit
//! floats are converted, and then in memory (`checkpoint/convert.rs`). [`Checkpoint::remarks`] says so.
//!
//! Not covered: pickled weights (refused), GGUF, other quantised checkpoints, the hub.

mod convert;
mod dress;
mod finite;
mod header;
mod shards;
mod source;
mod stream;
mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};

use lopper_record::{Context, Fault, Result};
use rayon::prelude::*;
use serde_json::{Map, Value};

use crate::config::Config;
use crate::dtype;
use crate::families;
use crate::hf::{self, CONFIG, WEIGHTS_INDEX};
use crate::tensors::EMBEDDING;

use source::{Bytes, Source};

pub use crate::dtype::{Dtype, encode, is_weight_dtype, round_to, torch_name};
pub use source::EmbeddedFiles;
pub(crate) use stream::write_tensors;
pub use stream::{Array, SafetensorsWriter, TensorInfo, save_safetensors};

/// The name and [`TensorView::hash`] of every tensor of the safetensors file `path`, read piece by
/// piece in the order of the file; `advance` is told the bytes read.
pub fn tensor_hashes(path: &Path, advance: &dyn Fn(usize)) -> Result<Vec<(String, blake3::Hash)>> {
    let file = path.file_name().and_then(|name| name.to_str()).context("a weights file has a name")?;
    let bytes = Source::Directory(path.parent().unwrap_or(Path::new(".")).to_path_buf()).open(file)?;
    let mut entries = header::read(&bytes, path)?;
    entries.sort_by_key(|entry| (entry.range.start, entry.range.end));
    let hash = |entry: header::Entry| {
        let view = TensorView { dtype: entry.dtype, shape: &entry.shape, data: &[] };
        let mut hasher = view.hasher();
        source::read_range(path, &entry.range, &mut |piece| {
            hasher.update(piece);
            advance(piece.len());
            Ok(())
        })?;
        Ok((entry.name, hasher.finalize()))
    };
    entries.into_iter().map(hash).collect()
}

/// Faults unless `bytes` are one whole safetensors file; `path` names it.
pub fn check_safetensors(bytes: &[u8], path: &Path) -> Result<()> {
    header::read(bytes, path).map(drop)
}

/// Where a tensor lies: which weights file, which bytes of it.
struct Located {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
    /// Where it is not used as it is stored; `dtype` is then what it is converted to.
    conversion: Option<Box<convert::Conversion>>,
}

impl Located {
    /// Bytes of its elements, converted where they are.
    fn byte_len(&self) -> usize {
        match &self.conversion {
            None => self.range.len(),
            // The header's check has multiplied these before.
            Some(_) => self.shape.iter().product::<usize>() * (self.dtype.bitsize() / 8),
        }
    }
}

/// A tensor as it is stored: little-endian, row-major, without a copy.
#[derive(Debug, Clone, Copy)]
pub struct TensorView<'a> {
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: &'a [usize],
    /// Its bytes, which need not be aligned.
    pub data: &'a [u8],
}

/// An opened checkpoint. Cheap to open, safe to share between threads.
pub struct Checkpoint {
    source: Source,
    config: Config,
    config_bytes: Cow<'static, [u8]>,
    config_json: Map<String, Value>,
    files: Vec<String>,
    weights: Vec<Bytes>,
    tensors: BTreeMap<String, Located>,
    remarks: Vec<String>,
    hash: OnceLock<String>,
    /// What is known of tensors that have been read already.
    scans: Mutex<BTreeMap<String, finite::Scan>>,
}

impl Checkpoint {
    /// Opens the model directory `dir` and checks it; reads no weights.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::from_source(Source::directory(dir)?)
    }

    /// Opens a model that is compiled into the program: its files by name.
    pub fn from_bytes(files: EmbeddedFiles) -> Result<Self> {
        Self::from_source(Source::Embedded(files))
    }

    fn from_source(source: Source) -> Result<Self> {
        let config_path = source.path_of(CONFIG);
        let Some(config_bytes) = source.read(CONFIG)? else {
            return Err(Fault::new("the model has no configuration")
                .file(source.path())
                .expected(format!("{CONFIG} beside the weights"))
                .got(format!("no {CONFIG}"))
                .hint("a model is a Hugging Face directory; is this the right one?")
                .into());
        };
        let config_json = hf::parse_object(&config_bytes, &config_path)?;
        let config = families::parse_config(&config_json, &config_path)?;
        let Weights { files, bytes, tensors } = open_weights(&source)?;
        let (mut tensors, mut remarks) = dress::undress(tensors, &source)?;
        remarks.extend(convert::prepare(&mut tensors, &config_json, &source)?);
        validate::weights_match_config(&config, &tensors, &source.path())?;
        let (hash, scans) = Default::default();
        Ok(Self { source, config, config_bytes, config_json, files, weights: bytes, tensors, remarks, hash, scans })
    }

    /// The configuration, lowered to what the decoder needs.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// `config.json` as parsed, keys in their order.
    pub fn config_json(&self) -> &Map<String, Value> {
        &self.config_json
    }

    /// What users may not expect of how the weights are read, a sentence each: other names, conversions.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Whether some weights are converted when they are read, so that `config.json` may say other dtypes.
    pub fn is_converted(&self) -> bool {
        self.tensors.values().any(|located| located.conversion.is_some())
    }

    /// The model directory; `None` for an embedded model.
    pub fn directory(&self) -> Option<&Path> {
        match &self.source {
            Source::Directory(dir) => Some(dir),
            Source::Embedded(_) => None,
        }
    }

    /// The path that names `file` of this model in messages.
    pub fn path_of(&self, file: &str) -> PathBuf {
        self.source.path_of(file)
    }

    /// The names of all tensors, sorted, among them those the decoder has no use for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The tensor `name` as it is stored.
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let located = self.located(name)?;
        Ok(self.view(located))
    }

    /// Name, dtype and shape of the tensor `name`; reads nothing.
    pub fn tensor_info(&self, name: &str) -> Result<TensorInfo> {
        let located = self.located(name)?;
        Ok(TensorInfo { name: name.to_owned(), dtype: located.dtype, shape: located.shape.clone() })
    }

    fn view<'a>(&'a self, located: &'a Located) -> TensorView<'a> {
        // Opening checked every range against the length of its file.
        let stored = &self.weights[located.file][located.range.clone()];
        let data = located.conversion.as_ref().map_or(stored, |conversion| conversion.bytes(stored, &self.weights));
        TensorView { dtype: located.dtype, shape: &located.shape, data }
    }

    /// Tells the system that the bytes `range` of the tensor `name` are not needed for now, so that
    /// they stop counting as the program's memory. They can be read again.
    pub(crate) fn release(&self, name: &str, range: Range<usize>) {
        // What was converted stays in memory.
        if let Some(located) = self.tensors.get(name).filter(|located| located.conversion.is_none()) {
            let start = located.range.start + range.start;
            self.weights[located.file].release(start..start + range.len());
        }
    }

    /// The values of the tensor `name` as f32.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        self.tensor(name)?.to_f32().with_context(|| format!("tensor `{name}`"))
    }

    /// Refuses a head that the configuration ties to the embedding and that is another tensor: programs
    /// differ in which of the two they take.
    pub fn check_tied_head(&self) -> Result<()> {
        validate::tied_head_is_the_embedding(self)
    }

    /// The dtype in which the embedding is stored, which is that of nearly all checkpoints'
    /// other weights as well.
    pub fn dtype(&self) -> Dtype {
        self.tensors.get(EMBEDDING).map_or(Dtype::F32, |located| located.dtype)
    }

    /// Bytes of all tensors together.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.values().map(|located| located.byte_len() as u64).sum()
    }

    /// The contents of a side file such as `tokenizer.json`; `None` if it is not there.
    pub fn file(&self, name: &str) -> Result<Option<Cow<'static, [u8]>>> {
        self.source.read(name)
    }

    /// The JSON object in a side file; `None` if it is not there.
    pub fn json_file(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        match self.file(name)? {
            Some(bytes) => Ok(Some(hf::parse_object(&bytes, &self.path_of(name))?)),
            None => Ok(None),
        }
    }

    /// The names of the files that are neither weights nor `config.json`, sorted.
    pub fn side_files(&self) -> Result<Vec<String>> {
        const WEIGHTS: [&str; 10] =
            [".safetensors", ".bin", ".pt", ".pth", ".pkl", ".gguf", ".h5", ".msgpack", ".onnx", ".index.json"];
        let mut names = self.source.list()?;
        names.retain(|name| {
            name != CONFIG
                && name != WEIGHTS_INDEX
                && !name.starts_with('.')
                && !WEIGHTS.iter().any(|ending| name.ends_with(ending))
        });
        Ok(names)
    }

    /// The names of all tensors in the order in which they are stored: file by file, by offset.
    /// Reading in this order is reading the disk in its order.
    pub fn stored_order(&self) -> Vec<&str> {
        let mut tensors: Vec<_> = self.tensors.iter().collect();
        tensors.sort_by_key(|(_, located)| (located.file, located.range.start, located.range.end));
        tensors.into_iter().map(|(name, _)| name.as_str()).collect()
    }

    /// Hands the bytes of the tensor `name` to `take` piece by piece.
    ///
    /// Reads the file instead of touching the memory map: mapped pages count as the program's
    /// memory, so hashing or copying a large model through the map would look like loading it.
    pub fn read_chunks(&self, name: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let located = self.located(name)?;
        if let Some(conversion) = &located.conversion {
            let stored = &self.weights[located.file][located.range.clone()];
            return match conversion.known() {
                Some(bytes) => take(bytes),
                None => take(&conversion.convert(stored, &self.weights)),
            };
        }
        match &self.source {
            Source::Embedded(_) => take(self.view(located).data),
            Source::Directory(dir) => {
                let path = dir.join(&self.files[located.file]);
                source::read_range(&path, &located.range, take).with_context(|| format!("reading {}", path.display()))
            }
        }
    }

    /// What identifies the model in records: blake3 over `config.json` and over every tensor's
    /// name, dtype, shape and bytes, in the order of names. Sharding, the order in the files and
    /// the directory's name do not change it. Computed at the first call, which reads all weights.
    pub fn hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let tensors: Vec<_> = self.tensors.iter().collect();
            let hashes: Vec<_> = tensors
                .par_iter()
                // A file that cannot be opened a second time can still be read through its map.
                .map(|(name, located)| self.tensor_hash(name).unwrap_or_else(|_| self.view(located).hash()))
                .collect();
            let mut hasher = blake3::Hasher::new();
            hasher.update(b"lopper model 1");
            hasher.update(blake3::hash(&self.config_bytes).as_bytes());
            for ((name, _), hash) in tensors.iter().zip(hashes) {
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name.as_bytes());
                hasher.update(hash.as_bytes());
            }
            hasher.finalize().to_hex().to_string()
        })
    }

    /// [`TensorView::hash`] of the tensor `name`, read piece by piece unless it has been read before.
    pub fn tensor_hash(&self, name: &str) -> Result<blake3::Hash> {
        if let Some(scan) = self.known_scans().get(name) {
            return Ok(scan.hash);
        }
        self.read_hashed(name, &mut |_| Ok(()))
    }

    /// As [`Checkpoint::read_chunks`], hashing the tensor on the way. Its hash is kept, so that
    /// [`Checkpoint::hash`] need not read it again.
    pub fn read_hashed(&self, name: &str, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<blake3::Hash> {
        let located = self.located(name)?;
        let mut hasher = TensorView { dtype: located.dtype, shape: &located.shape, data: &[] }.hasher();
        let mut search = finite::Search::new(located.dtype);
        self.read_chunks(name, &mut |piece| {
            hasher.update(piece);
            search.update(piece);
            take(piece)
        })?;
        let hash = hasher.finalize();
        self.known_scans().insert(name.to_owned(), finite::Scan { hash, not_finite: search.found() });
        Ok(hash)
    }

    fn known_scans(&self) -> MutexGuard<'_, BTreeMap<String, finite::Scan>> {
        self.scans.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn located(&self, name: &str) -> Result<&Located> {
        let missing = || Fault::new(format!("the weights lack the tensor `{name}`")).file(self.source.path());
        Ok(self.tensors.get(name).ok_or_else(missing)?)
    }
}

impl TensorView<'_> {
    /// The elements as f32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        dtype::decode(self.data, self.dtype)
    }

    /// blake3 over dtype, shape and bytes.
    pub fn hash(&self) -> blake3::Hash {
        self.hasher().update(self.data).finalize()
    }

    /// A hasher that has taken dtype and shape; the tensor's bytes must follow.
    pub fn hasher(&self) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("{} {:?}\n", self.dtype, self.shape).as_bytes());
        hasher
    }
}

/// The opened weight files, in one order, and where each tensor lies in them.
struct Weights {
    files: Vec<String>,
    bytes: Vec<Bytes>,
    tensors: BTreeMap<String, Located>,
}

fn open_weights(source: &Source) -> Result<Weights> {
    let shards = shards::find(source)?;
    let mut weights = Vec::with_capacity(shards.files.len());
    let mut tensors = BTreeMap::new();
    for (file, file_name) in shards.files.iter().enumerate() {
        let bytes = source.open(file_name)?;
        for entry in header::read(&bytes, &source.path_of(file_name))? {
            let header::Entry { name, dtype, shape, range } = entry;
            match tensors.entry(name) {
                MapEntry::Vacant(slot) => {
                    slot.insert(Located { file, dtype, shape, range, conversion: None });
                }
                MapEntry::Occupied(other) => {
                    let first = &shards.files[other.get().file];
                    return Err(Fault::new(format!("two shards hold `{}`", other.key()))
                        .file(source.path_of(file_name))
                        .expected("every tensor in one file only")
                        .got(format!("it is in {first} too"))
                        .into());
                }
            }
        }
        weights.push(bytes);
    }
    for (name, file_name) in &shards.index {
        let found = tensors.get(name).is_some_and(|located| shards.files[located.file] == *file_name);
        if !found {
            return Err(Fault::new("the index of the shards and a shard contradict each other")
                .file(source.path_of(file_name))
                .expected(format!("the tensor `{name}`, by {WEIGHTS_INDEX}"))
                .got("no such tensor in the file")
                .hint("the files come from different versions; fetch them again")
                .into());
        }
    }
    Ok(Weights { files: shards.files, bytes: weights, tensors })
}
