//! Rows of a Parquet file, by the `parquet` crate's reader of records (without the Arrow arrays, which
//! nothing here needs). Snappy, zstd, gzip and LZ4 pages are read.
//!
//! Not covered: encrypted files, Brotli. Dates, times and decimals are read as their text.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use lopper_record::{Fault, Result};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Number, Value};

use super::{Budget, MOST_BYTES, MOST_ROWS, Row, weight};

/// Deepest nesting of columns; benchmarks have two levels.
const DEEPEST: usize = 16;

pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let fault = |got: String| {
        Fault::new("the rows cannot be read")
            .file(path)
            .expected("a Parquet file")
            .got(got)
            .hint("download it again, or give the rows as .jsonl")
            .into()
    };
    // The crate returns errors for damaged files, but its decoders also index and allocate by what
    // the file says; a panic there is the file's fault and not ours.
    match catch_unwind(AssertUnwindSafe(|| records(path))) {
        Ok(Ok(rows)) => Ok(rows),
        Ok(Err(got)) => Err(fault(got)),
        Err(_) => Err(fault("a damaged file".to_owned())),
    }
}

fn records(path: &Path) -> Result<Vec<Row>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let reader = SerializedFileReader::new(file).map_err(|error| error.to_string())?;
    let metadata = reader.metadata();
    let size: i64 = metadata.row_groups().iter().map(|group| group.total_byte_size().max(0)).sum();
    let count = metadata.file_metadata().num_rows();
    if size as u64 > MOST_BYTES || usize::try_from(count).is_err() || count as usize > MOST_ROWS {
        return Err(format!("{count} rows in {size} bytes"));
    }
    if depth(metadata.file_metadata().schema()) > DEEPEST {
        return Err(format!("columns nested more than {DEEPEST} deep"));
    }
    let (mut rows, mut budget) = (Vec::new(), Budget::default());
    for record in reader.get_row_iter(None).map_err(|error| error.to_string())? {
        let row = object(record.map_err(|error| format!("row {}: {error}", rows.len()))?);
        budget.take(row.values().map(weight).sum())?;
        rows.push(Ok(row));
    }
    // A file that ends early gives fewer rows and no error.
    match rows.len() as i64 == count {
        true => Ok(rows),
        false => Err(format!("{} of {count} rows", rows.len())),
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
    use std::path::PathBuf;

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
