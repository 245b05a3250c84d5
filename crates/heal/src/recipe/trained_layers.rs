//! Which layers of a cut are trained.

use lopper_record::{Fault, LayerPosition, LayerSet, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

/// Which layers of a cut are trained. In files and on the command line `all`, `from-cut` or `last:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrainedLayers {
    /// All of them.
    #[default]
    All,
    /// Those behind the first layer that was removed. What comes before them is the same as in the uncut model.
    FromCut,
    /// The last N (Lu et al., arXiv 2411.15558, train the last three and the head).
    Last(usize),
}

impl TrainedLayers {
    /// The trained layers of the cut that keeps `kept`, by their position in the cut.
    ///
    /// # Errors
    /// A [`Fault`] where there are none, or fewer than N.
    pub fn of(self, kept: &LayerSet<LayerPosition>) -> Result<LayerSet<LayerPosition>> {
        let count = kept.len();
        let first = match self {
            Self::All => 0,
            Self::FromCut => kept.indices().enumerate().take_while(|(i, layer)| i == layer).count(),
            Self::Last(n) if (1..=count).contains(&n) => count - n,
            Self::Last(n) => {
                return Err(Fault::new("there are not so many layers to train")
                    .expected(format!("from 1 to {count}"))
                    .got(n.to_string())
                    .hint("train fewer of the last layers, or `all`")
                    .into());
            }
        };
        if first == count {
            return Err(Fault::new("there are no layers to train behind the first removed one")
                .expected("a cut with layers behind it")
                .got(format!("the layers {kept}"))
                .hint("train all layers, or the last ones: `last:3`")
                .into());
        }
        Ok((first..count).collect())
    }

    /// Whether these are all layers.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }

    /// In words, for reports.
    pub(crate) fn summary(self) -> String {
        match self {
            Self::All => "all layers".to_owned(),
            Self::FromCut => "the layers behind the first removed one".to_owned(),
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
            layers.of(&kept.iter().copied().collect()).map(|layers| layers.indices().collect::<Vec<_>>())
        };
        assert_eq!(of(TrainedLayers::All, &[0, 1, 4]).unwrap(), [0, 1, 2]);
        assert_eq!(of(TrainedLayers::FromCut, &[0, 1, 4, 6]).unwrap(), [2, 3]);
        assert_eq!(of(TrainedLayers::FromCut, &[1, 2]).unwrap(), [0, 1]);
        assert_eq!(of(TrainedLayers::Last(2), &[0, 1, 4, 6]).unwrap(), [2, 3]);
        for (layers, kept) in [(TrainedLayers::FromCut, [0, 1, 2]), (TrainedLayers::Last(4), [0, 1, 4])] {
            assert!(of(layers, &kept).unwrap_err().into_fault().is_ok(), "{layers}");
        }
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
