//! Which layers of a cut are trained.

use lopper_record::{LayerPosition, LayerSet};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// Which layers of a cut are trained. In files and on the command line `all`, `from-cut` or `last:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrainedLayers {
    /// All of them.
    #[default]
    All,
    /// Those from the first removed layer on, with the one before it, whose output they read. What comes before them is
    /// the same as in the uncut model.
    FromCut,
    /// The last N (Lu et al., arXiv 2411.15558, train the last three and the head); all, where there are no more.
    Last(usize),
}

impl TrainedLayers {
    /// The trained layers of the cut that keeps `kept`, by their position in the cut: at least one, unless N is 0.
    pub fn of(self, kept: &LayerSet<LayerPosition>) -> LayerSet<LayerPosition> {
        let count = kept.len();
        let first = match self {
            Self::All => 0,
            Self::FromCut => {
                let before = kept.indices().enumerate().take_while(|(i, layer)| i == layer).count();
                before.saturating_sub(1)
            }
            Self::Last(n) => count.saturating_sub(n),
        };
        (first..count).collect()
    }

    /// Whether these are all layers.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// In words, for reports.
    pub(crate) fn summary(self) -> String {
        match self {
            Self::All => "all layers".to_owned(),
            Self::FromCut => "the layers from the cut on".to_owned(),
            Self::Last(1) => "the last layer".to_owned(),
            Self::Last(n) => format!("the last {n} layers"),
        }
    }
}

impl Display for TrainedLayers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::FromCut => f.write_str("from-cut"),
            Self::Last(n) => write!(f, "last:{n}"),
        }
    }
}

impl FromStr for TrainedLayers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let last = || text.strip_prefix("last:")?.parse().ok().filter(|n| *n > 0);
        match text {
            "all" => Ok(Self::All),
            "from-cut" => Ok(Self::FromCut),
            _ => last().map(Self::Last).ok_or_else(|| "expected all, from-cut, or last:N such as last:3".to_owned()),
        }
    }
}

impl Serialize for TrainedLayers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TrainedLayers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_chosen_by_their_position_in_the_cut() {
        let of = |layers: TrainedLayers, kept: &[usize]| {
            layers.of(&kept.iter().copied().collect()).indices().collect::<Vec<_>>()
        };
        assert_eq!(of(TrainedLayers::All, &[0, 1, 4]), [0, 1, 2]);
        assert_eq!(of(TrainedLayers::FromCut, &[0, 1, 4, 6]), [1, 2, 3]);
        assert_eq!(of(TrainedLayers::FromCut, &[1, 2]), [0, 1]);
        assert_eq!(of(TrainedLayers::FromCut, &[0, 1, 2]), [2], "the last ones were removed");
        assert_eq!(of(TrainedLayers::Last(2), &[0, 1, 4, 6]), [2, 3]);
        assert_eq!(of(TrainedLayers::Last(9), &[0, 1, 4]), [0, 1, 2]);
    }

    #[test]
    fn files_hold_words() {
        for layers in [TrainedLayers::All, TrainedLayers::FromCut, TrainedLayers::Last(3)] {
            let json = serde_json::to_string(&layers).unwrap();
            assert_eq!(serde_json::from_str::<TrainedLayers>(&json).unwrap(), layers);
        }
        for wrong in ["last", "last:0", "last:x", "first:3", ""] {
            assert!(wrong.parse::<TrainedLayers>().is_err(), "{wrong}");
        }
    }
}
