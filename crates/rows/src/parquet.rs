//! Rows of a Parquet file, by the `parquet` crate's reader of records (without the Arrow arrays, which
//! nothing here needs). Snappy, zstd, gzip and LZ4 pages are read.
//!
//! Not covered: encrypted files, Brotli. Dates, times and decimals are read as their text.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use lopper_record::{Fault, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Number, Value};

use crate::source::Count;
use crate::{MOST_BYTES, MOST_ROWS, Row};

/// Deepest nesting of columns; benchmarks have two levels.
const DEEPEST: usize = 16;

/// The rows of a file.
pub(crate) struct Parquet {
    path: PathBuf,
    rows: RowIter<'static>,
    /// How many rows the file says that it has.
    all: usize,
    number: usize,
    ended: bool,
    size: u64,
    /// Bytes of the file that the rows read so far come from, about.
    count: Count,
}

fn fault(path: &Path, got: String) -> lopper_record::Error {
    Fault::new("the rows cannot be read")
        .file(path)
        .expected("a Parquet file")
        .got(got)
        .hint("download it again, or give the rows as .jsonl")
        .into()
}

/// What `read` returns. The crate returns errors for damaged files, but its decoders also index and allocate by what
/// the file says; a panic there is the file's fault and not ours.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, String>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|got| fault(path, got)),
        Err(_) => Err(fault(path, "a damaged file".to_owned())),
    }
}

impl Parquet {
    /// Opens a file, whose size is known where it is one; `count` is set to the bytes read.
    ///
    /// # Errors
    /// A [`Fault`] for what is no Parquet file, is too large or nested too deep.
    pub fn open(path: &Path, size: Option<u64>, count: Count) -> Result<Self> {
        let Some(size) = size else {
            return Err(fault(path, "a pipe, which can be read in one direction only".to_owned()));
        };
        count.set(0);
        let (rows, all) = guarded(path, || {
            let file = File::open(path).map_err(|error| error.to_string())?;
            let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
            let metadata = reader.metadata();
            let bytes: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size().max(0)).sum();
            let count = metadata.file_metadata().num_rows();
            let all = usize::try_from(count).ok().filter(|all| *all <= MOST_ROWS && bytes as u64 <= MOST_BYTES);
            let all = all.ok_or_else(|| format!("{count} rows in {bytes} bytes"))?;
            if depth(metadata.file_metadata().schema()) > DEEPEST {
                return Err(format!("columns nested more than {DEEPEST} deep"));
            }
            Ok((reader.into_iter(), all))
        })?;
        Ok(Self { path: path.to_path_buf(), rows, all, number: 0, ended: false, size, count })
    }
}

impl Iterator for Parquet {
    type Item = Result<(usize, Row)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let (number, all, rows) = (self.number + 1, self.all, &mut self.rows);
        let row = guarded(&self.path, || match rows.next() {
            // A file that ends early gives fewer rows and no error.
            None if number > all => Ok(None),
            None => Err(format!("{} of {all} rows", number - 1)),
            Some(_) if number > all => Err(format!("more than {all} rows")),
            Some(record) => Ok(Some(object(record.map_err(|error| format!("row {number}: {error}"))?))),
        });
        self.ended = !matches!(row, Ok(Some(_)));
        self.number = number;
        self.count.set((self.size as f64 * number.min(all) as f64 / all.max(1) as f64) as u64);
        row.transpose().map(|row| row.map(|row| (number, Ok(row))))
    }
}

fn depth(schema: &parquet::schema::types::Type) -> usize {
    match schema.is_group() {
        true => 1 + schema.get_fields().iter().map(|field| depth(field)).max().unwrap_or(0),
        false => 1,
    }
}

fn object(record: Record) -> Map<String, Value> {
    record.into_columns().into_iter().map(|(name, field)| (name, value(field))).collect()
}

fn value(field: Field) -> Value {
    let real = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(n) => n.into(),
        Field::Short(n) => n.into(),
        Field::Int(n) => n.into(),
        Field::Long(n) => n.into(),
        Field::UByte(n) => n.into(),
        Field::UShort(n) => n.into(),
        Field::UInt(n) => n.into(),
        Field::ULong(n) => n.into(),
        Field::Float(n) => real(n.into()),
        Field::Double(n) => real(n),
        Field::Str(text) => text.into(),
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned().into(),
        Field::Group(group) => Value::Object(object(group)),
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<Row>> {
        let size = std::fs::metadata(path).unwrap().len();
        Parquet::open(path, Some(size), Count::default())?.map(|row| Ok(row?.1)).collect()
    }

    fn fixture(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tasks").join(name)
    }

    #[test]
    fn rows_of_every_codec_are_the_same() {
        let rows = read(&fixture("rows.parquet")).unwrap();
        assert_eq!(rows, read(&fixture("rows_zstd.parquet")).unwrap());
        assert_eq!(rows.len(), 8);
        let row = rows[5].as_ref().unwrap();
        assert_eq!(row["question"], "Who has 5 stamps?");
        assert_eq!(row["choices"]["text"][1], "Ben");
        assert_eq!((row["number"].as_i64(), row["key"].as_str()), (Some(5), Some("B")));
    }

    #[test]
    fn damaged_files_are_faults_and_never_a_panic() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("rows.parquet");
        for name in ["rows.parquet", "rows_zstd.parquet"] {
            let good = std::fs::read(fixture(name)).unwrap();
            let whole = read(&fixture(name)).unwrap().len();
            let mut outcomes = [0, 0];
            for at in 0..good.len() {
                let mut bytes = good.clone();
                bytes[at] ^= 0x55;
                std::fs::write(&path, &bytes).unwrap();
                // A changed letter is a changed letter; whatever else is wrong is said.
                match read(&path) {
                    Ok(rows) => {
                        assert!(rows.len() <= whole * 2, "{name}, byte {at}: {} rows", rows.len());
                        outcomes[0] += 1;
                    }
                    Err(error) => {
                        assert!(error.fault().is_some(), "{name}, byte {at}: {error:#}");
                        outcomes[1] += 1;
                    }
                }
            }
            assert!(outcomes.iter().all(|count| *count > 100), "{outcomes:?}");
            for length in (0..good.len()).step_by(7) {
                std::fs::write(&path, &good[..length]).unwrap();
                assert!(read(&path).unwrap_err().fault().is_some());
            }
        }
    }
}
