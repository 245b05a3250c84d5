//! How long the learning rate warms up.
//!
//! The paper warms up over 50 steps of thousands. A run of a few dozen would then end inside its warm-up and learn
//! next to nothing, so unless a number is given the warm-up is at most a tenth of the steps.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt::{self, Display, Formatter};

/// Most steps of warm-up where none are given: the paper's.
const MOST: usize = 50;
/// One step of warm-up, at most, in so many steps, where none are given.
const STEPS_PER_STEP: usize = 10;
/// The word for [`Warmup::Auto`] in study files.
const AUTO: &str = "auto";

/// Steps of linear warm-up. In files, a number or `"auto"`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Warmup {
    /// 50, but never more than a tenth of the steps.
    #[default]
    Auto,
    /// So many, whatever the number of steps.
    Steps(usize),
}

impl Warmup {
    /// The number of a run of `steps` steps.
    pub fn of(self, steps: usize) -> usize {
        match self {
            Self::Auto => MOST.min(steps / STEPS_PER_STEP),
            Self::Steps(given) => given,
        }
    }
}

impl From<usize> for Warmup {
    fn from(steps: usize) -> Self {
        Self::Steps(steps)
    }
}

impl Display for Warmup {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => write!(f, "{MOST}, but never more than a tenth of the steps"),
            Self::Steps(steps) => steps.fmt(f),
        }
    }
}

impl Serialize for Warmup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str(AUTO),
            Self::Steps(steps) => steps.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Warmup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrWord)
    }
}

struct NumberOrWord;

impl Visitor<'_> for NumberOrWord {
    type Value = Warmup;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "a number of steps, or \"{AUTO}\"")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Warmup, E> {
        let steps = usize::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))?;
        Ok(Warmup::Steps(steps))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Warmup, E> {
        let steps = usize::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))?;
        Ok(Warmup::Steps(steps))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Warmup, E> {
        if value == AUTO { Ok(Warmup::Auto) } else { Err(E::invalid_value(Unexpected::Str(value), &self)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warm_up_is_a_tenth_of_a_short_run_unless_it_is_given() {
        assert_eq!([9, 12, 109, 499, 5000].map(|steps| Warmup::Auto.of(steps)), [0, 1, 10, 49, 50]);
        assert_eq!(Warmup::from(50).of(12), 50);
    }

    #[test]
    fn files_hold_a_number_or_the_word() {
        for warmup in [Warmup::Auto, Warmup::Steps(7)] {
            let json = serde_json::to_string(&warmup).unwrap();
            assert_eq!(serde_json::from_str::<Warmup>(&json).unwrap(), warmup);
        }
        for wrong in ["-1", "\"ten\"", "1.5", "true"] {
            let error = serde_json::from_str::<Warmup>(wrong).unwrap_err().to_string();
            assert!(error.contains("a number of steps, or \"auto\""), "{error}");
        }
    }
}
