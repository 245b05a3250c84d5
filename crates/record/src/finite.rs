//! JSON has no NaN and no infinity: `serde_json` writes them as `null` and then refuses to read
//! them back. These helpers read `null` as NaN, so that a record holding an undefined number (a
//! standard error from one item, say) survives the way through a file.
//!
//! Use with `#[serde(with = "lopper_record::finite")]`, `finite::pair` or `finite::list`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

fn defined(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Writes a number, or `null` when it is not finite.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    defined(*value).serialize(serializer)
}

/// Reads a number, or NaN for `null`.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// The same for an interval.
pub mod pair {
    use super::{Deserialize, Deserializer, Serialize, Serializer, defined};

    /// Writes an interval with `null` for an undefined end.
    pub fn serialize<S: Serializer>(value: &[f64; 2], serializer: S) -> Result<S::Ok, S::Error> {
        value.map(defined).serialize(serializer)
    }

    /// Reads an interval with NaN for `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[f64; 2], D::Error> {
        Ok(<[Option<f64>; 2]>::deserialize(deserializer)?.map(|end| end.unwrap_or(f64::NAN)))
    }
}

/// The same for a list.
pub mod list {
    use super::{Deserialize, Deserializer, Serializer, defined};

    /// Writes a list with `null` for undefined entries.
    pub fn serialize<S: Serializer>(values: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|value| defined(*value)))
    }

    /// Reads a list with NaN for `null`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let values = Vec::<Option<f64>>::deserialize(deserializer)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(f64::NAN)).collect())
    }
}
