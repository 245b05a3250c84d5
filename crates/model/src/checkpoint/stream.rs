//! Writing a safetensors file without holding its tensors: the header first, from names, dtypes
//! and shapes alone, then each tensor's bytes in that order and in pieces of any size.
//!
//! The `safetensors` crate sorts tensors and wants each whole; a pruned checkpoint is instead
//! copied in its source's order, at the disk's speed and in flat memory. The file is written
//! under a temporary name in its directory, and only [`SafetensorsWriter::finish`] renames it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use lopper_record::{Context, Result, bail, ensure};
use serde_json::{Map, json};
use tempfile::{Builder, NamedTempFile};

use crate::dtype::{Dtype, encode};

/// Values converted and written at a time, so that no second copy of a tensor is held.
const CHUNK: usize = 1 << 18;

/// What the header says of one tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name.
    pub name: String,
    /// How its elements are stored.
    pub dtype: Dtype,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
}

impl TensorInfo {
    /// Bytes the tensor occupies.
    pub fn byte_len(&self) -> Result<usize> {
        let elements = self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let bits = elements.and_then(|n| n.checked_mul(self.dtype.bitsize()));
        let bits = bits.with_context(|| format!("size of `{}`", self.name))?;
        ensure!(bits.is_multiple_of(8), "`{}` does not fill whole bytes", self.name);
        Ok(bits / 8)
    }
}

/// A safetensors file in the making.
pub struct SafetensorsWriter {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    tensors: Vec<(String, usize)>,
    current: usize,
    left: usize,
}

impl SafetensorsWriter {
    /// Begins the file `path` and writes its header; the tensors must follow in this order.
    pub fn create(path: &Path, tensors: &[TensorInfo], metadata: &BTreeMap<String, String>) -> Result<Self> {
        let mut header = Map::new();
        if !metadata.is_empty() {
            header.insert("__metadata__".to_owned(), json!(metadata));
        }
        let mut sizes = Vec::with_capacity(tensors.len());
        let mut offset = 0usize;
        for tensor in tensors {
            let size = tensor.byte_len()?;
            let end = offset.checked_add(size).context("size of the file")?;
            let entry = json!({
                "dtype": tensor.dtype.to_string(),
                "shape": tensor.shape,
                "data_offsets": [offset, end],
            });
            let twice = header.insert(tensor.name.clone(), entry).is_some();
            ensure!(!twice, "`{}` twice in one file", tensor.name);
            sizes.push((tensor.name.clone(), size));
            offset = end;
        }
        let mut header = serde_json::to_vec(&header)?;
        // Padding with spaces aligns the data, so that mapped tensors can be used in place.
        header.resize(header.len().next_multiple_of(8), b' ');

        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let temporary = ordinary_file()
            .tempfile_in(directory)
            .with_context(|| format!("creating a file in {}", directory.display()))?;
        let mut file = BufWriter::with_capacity(1 << 20, temporary);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        let mut writer = Self { file, path: path.to_path_buf(), tensors: sizes, current: 0, left: 0 };
        writer.left = writer.tensors.first().map_or(0, |(_, size)| *size);
        writer.skip_empty();
        Ok(writer)
    }

    /// Appends bytes of the tensor whose turn it is. A piece may not cross into the next tensor.
    pub fn write(&mut self, piece: &[u8]) -> Result<()> {
        if piece.len() > self.left {
            let name = self.tensors.get(self.current).map_or("the end", |(name, _)| name);
            bail!("{} bytes too many for {name} in {}", piece.len() - self.left, self.path.display());
        }
        self.file.write_all(piece).with_context(|| format!("writing {}", self.path.display()))?;
        self.left -= piece.len();
        if !piece.is_empty() {
            self.skip_empty();
        }
        Ok(())
    }

    fn skip_empty(&mut self) {
        while self.left == 0 && self.current < self.tensors.len() {
            self.current += 1;
            self.left = self.tensors.get(self.current).map_or(0, |(_, size)| *size);
        }
    }

    /// Flushes the file to the disk and gives it its name. Fails if a tensor is not whole.
    pub fn finish(self) -> Result<()> {
        if let Some((name, _)) = self.tensors.get(self.current) {
            bail!("`{name}` lacks {} bytes in {}", self.left, self.path.display());
        }
        let context = || format!("writing {}", self.path.display());
        let temporary = self.file.into_inner().map_err(|error| error.into_error());
        let temporary = temporary.with_context(context)?;
        temporary.as_file().sync_all().with_context(context)?;
        temporary.persist(&self.path).map_err(|error| error.error).with_context(context)?;
        Ok(())
    }
}

/// A tensor to write.
#[derive(Debug, Clone)]
pub struct Array<'a> {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: &'a [f32],
}

/// Writes `arrays` in their order as the safetensors file `path`, stored as `dtype` (F32, F16 or
/// BF16). The file appears whole or not at all.
pub fn save_safetensors(
    path: &Path,
    arrays: &[Array<'_>],
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
) -> Result<()> {
    let tensors: Vec<_> = arrays.iter().map(|array| (array.name.clone(), array.shape.clone())).collect();
    write_tensors(path, &tensors, dtype, metadata, |at| Ok(Cow::Borrowed(arrays[at].values)))
}

/// Writes tensors of these names and shapes, asking for the values of each when it comes to it.
pub(crate) fn write_tensors<'a>(
    path: &Path,
    tensors: &[(String, Vec<usize>)],
    dtype: Dtype,
    metadata: &BTreeMap<String, String>,
    values: impl Fn(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    let info = |(name, shape): &(String, Vec<usize>)| TensorInfo { name: name.clone(), dtype, shape: shape.clone() };
    let infos: Vec<TensorInfo> = tensors.iter().map(info).collect();
    let mut writer = SafetensorsWriter::create(path, &infos, metadata)?;
    let mut bytes = Vec::new();
    for (at, (name, shape)) in tensors.iter().enumerate() {
        let values = values(at)?;
        ensure!(values.len() == shape.iter().product::<usize>(), "`{name}`: {} values for {shape:?}", values.len());
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            encode(chunk, dtype, &mut bytes)?;
            writer.write(&bytes)?;
        }
    }
    writer.finish()
}

/// Temporary files are private to their user; a model is an ordinary file.
fn ordinary_file() -> Builder<'static, 'static> {
    let mut builder = Builder::new();
    builder.prefix(".").suffix(".partial");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // The process's umask still applies.
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
}
