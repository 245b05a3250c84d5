//! Rows of a Parquet file, by the `parquet` crate's reader of records (without the Arrow arrays, which
//! nothing here needs). Snappy, zstd, gzip and LZ4 pages are read.
//!
//! Not covered: encrypted files, Brotli. Dates, times and decimals are read as their text.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::Result;
use lopper_record::Fault;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row as Record};
use serde_json::{Map, Number, Value};

use super::{Budget, MOST_BYTES, MOST_ROWS, Row, weight};

/// Deepest nesting of columns; benchmarks have two levels.
const DEEPEST: usize = 16;

pub(super) fn read(path: &Path) -> Result<Vec<Row>> {
    let fault = |got: String| {
        Fault::new("the rows cannot be read").file(path).expected("a Parquet file").got(got).into()
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
